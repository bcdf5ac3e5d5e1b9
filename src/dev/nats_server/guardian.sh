# Starts a nats-server and ends it when standard input ends, which is when the parent has ended,
# however it ended. Arguments: seconds between SIGTERM and SIGKILL, the server, its arguments.
grace=$1
shift

# A background job gets /dev/null as its standard input, so the pipe is kept under another number.
exec 3<&0 0</dev/null
"$@" 3<&- &
server=$!

# Only the end of the server ends the guardian; the server itself was started before this line.
trap '' HUP INT TERM

(
	read -r _
	kill -TERM "$server"
	while [ "$grace" -gt 0 ] && kill -0 "$server"; do
		sleep 1
		grace=$((grace - 1))
	done
	kill -KILL "$server"
) <&3 >/dev/null 2>&1 &
watcher=$!
exec 3<&-

wait "$server"
status=$?
kill -KILL "$watcher" 2>/dev/null
exit "$status"
