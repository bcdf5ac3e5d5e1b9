#!/bin/sh
# Makes what compose.cluster.yaml takes, in deploy/secrets: users of NATS, keys that sign tokens, passwords. What is there already is
# kept, so it can be run again; tokens are made anew (30 days). HEADWATER says which program to use.
set -eu
umask 077
cd "$(dirname "$0")"
headwater=${HEADWATER:-headwater}
command -v "$headwater" >/dev/null || { echo "headwater is not on PATH: say where it is with HEADWATER=…" >&2; exit 1; }
# The folder is closed to others. Files in it are not: each container has a user of its own, and sees those alone that it is given.
mkdir -p secrets
chmod 700 secrets

random() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
kept() { [ -s "$1" ] || printf '%s' "$2" >"$1"; }

"$headwater" nats-config --out secrets/nats >/dev/null
kept secrets/unique-keys "$(random)"
kept secrets/grafana.password "$(random)"
kept secrets/route.password "r$(random)"
kept secrets/surrealdb.password "s$(random)"
route=$(cat secrets/route.password)
surrealdb=$(cat secrets/surrealdb.password)
{
    echo "NATS_ROUTE_PASSWORD=$route"
    echo "NATS_ROUTES=[\"nats-route://route:$route@nats-1:6222\", \"nats-route://route:$route@nats-2:6222\", \"nats-route://route:$route@nats-3:6222\"]"
} >secrets/nats.env
printf 'SURREAL_USER=root\nSURREAL_PASS=%s\n' "$surrealdb" >secrets/surrealdb.env
printf 'HEADWATER_SURREAL_PASSWORD=%s\n' "$surrealdb" >secrets/replica.env

token() { "$headwater" token --signing-key secrets/issuer.pem --new-key --lifetime 720h --subject "$1" --scopes "$2" | tail -n 1; }
token prometheus ops:read >secrets/prometheus.token
token staff 'cmd:*,qry:*,ops:read,ops:write,staff' >secrets/staff.token

chmod 755 secrets/nats
for file in nats/headwater.conf nats/replica.nk nats/operator.nk unique-keys issuer.pem.jwks.json prometheus.token grafana.password; do
    chmod 644 "secrets/$file"
done
echo "deploy/secrets is ready: docker compose -f deploy/compose.cluster.yaml up"
