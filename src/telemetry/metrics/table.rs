//! The table of all metrics.
//!
//! `/metrics` takes its `# HELP` lines and its buckets from here, `docs/metrics.md` its table. A
//! test holds it against the places that measure, and against the alerts and the dashboard.

use super::metric::{Metric, Unit, batches, bytes, counter, gauge, seconds, sizes};

/// All metrics: of commands, of views and their queries, of HTTP.
pub const METRICS: &[Metric] = &[
    counter(
        "headwater_commands_total",
        &["aggregate", "command", "outcome"],
        "commands answered. `outcome`: `accepted`, `unchanged` (no events), `replayed`, \
         `refused` (by a rule, or not found), `conflict` (claim, key, version), `malformed`, \
         `overloaded`, `unavailable` (`unreadable` too), `internal`",
    ),
    seconds(
        "headwater_command_seconds",
        &["aggregate", "command"],
        "from a command's arrival at the replica that decides it to its answer",
    ),
    seconds(
        "headwater_command_queue_seconds",
        &[],
        "a command's wait for its turn",
    ),
    seconds(
        "headwater_command_decide_seconds",
        &[],
        "deciding all commands of one turn",
    ),
    seconds(
        "headwater_command_append_seconds",
        &[],
        "from sending a commit to its acknowledgement",
    ),
    sizes("headwater_commit_commands", &[], "commands of one commit"),
    sizes(
        "headwater_append_group_appends",
        &[],
        "appends that went to the log together, with grouped appends",
    ),
    counter(
        "headwater_append_groups_refused_total",
        &[],
        "groups that were refused as one and appended member by member",
    ),
    seconds(
        "headwater_aggregate_load_seconds",
        &[],
        "folding an aggregate from its snapshot and the log",
    ),
    counter(
        "headwater_aggregate_reloads_total",
        &[],
        "states thrown away and folded again",
    ),
    counter(
        "headwater_lost_races_total",
        &[],
        "appends refused because another was first",
    ),
    counter(
        "headwater_appends_in_doubt_total",
        &["result"],
        "appends without an acknowledgement, by what the log told: `stored`, `lost`, `open`",
    ),
    counter(
        "headwater_snapshots_written_total",
        &["result"],
        "snapshots: `written`, or `failed` (the bucket did not take it, or it is too large)",
    ),
    bytes(
        "headwater_snapshot_bytes",
        &[],
        "the bytes of a snapshot as it is stored",
    ),
    counter(
        "headwater_command_panics_total",
        &[],
        "commands that panicked",
    ),
    counter(
        "headwater_commands_passed_on_total",
        &["result"],
        "commands passed on to their home: `answered`, `no_home` there any more, or \
         `asked_again` of another home since the first went silent",
    ),
    sizes(
        "headwater_passed_on_commands",
        &[],
        "commands of a message by which several went to the same home",
    ),
    counter(
        "headwater_process_inputs_total",
        &["process", "input"],
        "inputs that a process instance has taken, or has had before. `input`: `event`, \
         `answer`, `deadline`",
    ),
    counter(
        "headwater_process_commands_total",
        &["process", "result"],
        "commands that processes have sent: `accepted`, `refused`, or `tried_again` since \
         there was no answer",
    ),
    counter(
        "headwater_callers_refused_total",
        &[],
        "requests answered 429 since their caller had sent too many, or has too many under \
         way",
    ),
    counter(
        "headwater_tls_handshakes_failed_total",
        &[],
        "connections over HTTP that were closed since there was no TLS, or not in time",
    ),
    counter(
        "headwater_tls_renewals_total",
        &["outcome"],
        "certificates of HTTP that were `renewed`, or `refused` since the files are wrong",
    ),
    counter(
        "headwater_replies_refused_total",
        &[],
        "requests over NATS that were not carried out, as their answer would have gone \
         elsewhere than to an inbox",
    ),
    counter(
        "headwater_trace_spans_total",
        &["result"],
        "spans of traces that are exported: `exported`, `dropped` (the queue was full), \
         `refused` (by the collector, or it was away)",
    ),
    gauge(
        "headwater_commands_admitted",
        Unit::Count,
        &[],
        "commands that may be decided at once: fewer when they take longer than a second \
         on average, more when they are quick and all of it is used",
    ),
    counter(
        "headwater_actors_unsaved_total",
        &[],
        "actors let go for lack of room although what they held could not be saved: outcomes \
         without events are forgotten",
    ),
    gauge("headwater_live_actors", Unit::Count, &[], "live aggregates"),
    gauge(
        "headwater_log_available",
        Unit::Truth,
        &[],
        "1 while the log can be read and appended to, as far as this replica knows; 0 while \
         it cannot: the check `log` of `/readyz` says why",
    ),
    gauge(
        "headwater_members",
        Unit::Count,
        &[],
        "live replicas that this one knows",
    ),
    gauge(
        "headwater_view_lag_commits",
        Unit::Count,
        &["view"],
        "commits that the log is ahead of the view, as far as its projector knows; of a view that \
         nobody keeps, positions, at most",
    ),
    gauge(
        "headwater_view_lag_seconds",
        Unit::Seconds,
        &["view"],
        "how long ago the first commit was published that the view has not applied; while it \
         is stalled, for how long; 0 when it has applied all",
    ),
    gauge(
        "headwater_view_position",
        Unit::Position,
        &["view"],
        "the stream sequence of the last commit applied",
    ),
    gauge(
        "headwater_view_following",
        Unit::Truth,
        &["view"],
        "1 while this replica's projector keeps the view, 0 while it stalls or leaves it to \
         another",
    ),
    gauge(
        "headwater_view_parked_aggregates",
        Unit::Count,
        &["view"],
        "aggregates that are set aside",
    ),
    gauge(
        "headwater_view_rebuild_progress",
        Unit::Share,
        &["view"],
        "the part of the log that a generation that is being filled beside the live one has \
         applied, from 0 to 1; 1 when none is",
    ),
    gauge(
        "headwater_view_take_over_waits",
        Unit::Truth,
        &["view"],
        "1 while a filled generation does not take over because it has parked what the live \
         one has applied: an operator must decide",
    ),
    counter(
        "headwater_view_applied_total",
        &["view"],
        "commits applied; its rate is what is applied per second",
    ),
    batches(
        "headwater_view_batch_commits",
        &["view"],
        "commits of one transaction",
    ),
    counter(
        "headwater_view_verified_total",
        &["view"],
        "documents that were compared with the log unasked (`--verify-per-minute`)",
    ),
    counter(
        "headwater_view_drift_total",
        &["view"],
        "of those, how many were not what the log says; one that stays so counts each time \
         that it is found",
    ),
    counter(
        "headwater_view_repaired_total",
        &["view"],
        "of those, how many were set right (`--repair`)",
    ),
    counter(
        "headwater_view_other_log_total",
        &["view"],
        "how often the log was another one than the view was filled from, so that it is \
         filled anew",
    ),
    counter(
        "headwater_view_retries_total",
        &["view"],
        "steps that failed and were tried again",
    ),
    counter(
        "headwater_cache_hits_total",
        &["view"],
        "documents answered from memory",
    ),
    counter(
        "headwater_cache_misses_total",
        &["view"],
        "documents that had to be read from the store",
    ),
    counter(
        "headwater_lists_total",
        &["view", "by"],
        "pages of lists answered: as an `index` has them, which reads as many documents as it \
         answers; by comparing `rows` on the way, for filters that no index has together; or \
         `sorted`, all that a search has found; or by the index of `text`; or from `memory`, \
         as no document of the view has changed since, or together with an equal list that \
         was being read; or in the `order` of a sorted list beside the store, with its documents \
         from memory where they are there. All others are read from the store",
    ),
    counter(
        "headwater_list_rows_answered_total",
        &["view"],
        "documents in pages that were read as an index or a sorted list has them",
    ),
    counter(
        "headwater_list_rows_read_total",
        &["view"],
        "documents that were read for those pages, or looked at in a sorted list: at most one more for each, \
         where nothing is compared on the way. What is counted besides is not in it",
    ),
    gauge(
        "headwater_list_cache_bytes",
        Unit::Bytes,
        &[],
        "the size of the pages of lists in memory, bounded by `--list-cache-mb`",
    ),
    gauge(
        "headwater_list_index_bytes",
        Unit::Bytes,
        &[],
        "the size of the sorted lists of all views, bounded by `--list-index-mb`",
    ),
    gauge(
        "headwater_list_index_ready",
        Unit::Truth,
        &["view"],
        "1 while lists of the view are answered by the sorted lists beside its documents, 0 while those \
         are made, or have no room, and lists are read from the store",
    ),
    gauge(
        "headwater_search_index_ready",
        Unit::Truth,
        &["view"],
        "1 while searches of the view are answered by the index of texts beside its \
         documents, 0 while that is made or compared with them and searches read all that \
         match",
    ),
    gauge(
        "headwater_cache_bytes",
        Unit::Bytes,
        &[],
        "the size of the documents in memory, bounded by `--cache-mb`",
    ),
    gauge(
        "headwater_waiting_readers",
        Unit::Count,
        &[],
        "queries and followers that wait for a position now, on both surfaces",
    ),
    gauge(
        "headwater_live_clients",
        Unit::Count,
        &[],
        "clients that follow documents now, bounded by `--max-live`",
    ),
    counter(
        "headwater_live_cut_total",
        &[],
        "clients that were cut off because they did not keep up",
    ),
    gauge(
        "headwater_http_connections",
        Unit::Count,
        &[],
        "open connections, bounded by `--max-connections` and the open files that there are",
    ),
    counter(
        "headwater_http_connections_closed_total",
        &["reason"],
        "connections that the gateway ended: `idle` (one that was idle gave way to a new \
         one), `slow` (the client took nothing of its answer for 30 s)",
    ),
    counter(
        "headwater_http_connections_refused_total",
        &[],
        "connections refused before anything was read, as even those who ask how the replica \
         is were too many, or those of one address",
    ),
    counter(
        "headwater_http_requests_total",
        &["route", "method", "status"],
        "requests answered; a live stream counts when it begins",
    ),
    seconds(
        "headwater_http_request_seconds",
        &["route"],
        "from a request's head to the head of its answer",
    ),
];
