//! Metrics, in the form that Prometheus reads. `docs/metrics.md` is the table of all of them.
//!
//! There is one recorder in a process, whoever measures. Without [`install`] measuring costs next
//! to nothing and leads nowhere.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;

static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// From what one command takes in memory to what a client no longer waits for, in seconds.
const SECONDS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0,
];
/// Sizes of groups.
const SIZES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1_000.0];

/// Sizes of batches.
const BATCHES: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_000.0, 2_000.0, 4_000.0];

/// Begins to keep what is measured. Calling it again does nothing, and neither does it where the
/// program has a recorder of its own.
pub fn install() {
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Suffix("_commands".to_owned()), &SIZES)
            })
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Suffix("_appends".to_owned()), &SIZES)
            })
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Suffix("_commits".to_owned()), &BATCHES)
            });
        let installed = builder.and_then(PrometheusBuilder::install_recorder);
        match installed {
            Ok(handle) => {
                describe();
                Some(handle)
            }
            Err(error) => {
                tracing::warn!(%error, "metrics are not kept");
                None
            }
        }
    });
}

/// All that was measured, as Prometheus reads it; empty when nothing is kept.
#[must_use]
pub fn render() -> String {
    let handle = HANDLE.get().and_then(Option::as_ref);
    handle.map(PrometheusHandle::render).unwrap_or_default()
}

/// Sorts what was measured since the last time into the histograms. To be called every second or
/// so, since what is not yet sorted takes memory.
pub fn upkeep() {
    if let Some(handle) = HANDLE.get().and_then(Option::as_ref) {
        handle.run_upkeep();
    }
}

fn describe() {
    seconds(
        "headwater_command_seconds",
        "from a command's arrival at the replica that decides it to its answer",
    );
    seconds(
        "headwater_command_queue_seconds",
        "a command's wait for its turn",
    );
    seconds(
        "headwater_command_decide_seconds",
        "deciding all commands of one turn",
    );
    seconds(
        "headwater_command_append_seconds",
        "from sending a commit to its acknowledgement",
    );
    seconds(
        "headwater_aggregate_load_seconds",
        "folding an aggregate from its snapshot and the log",
    );
    describe_histogram!(
        "headwater_commit_commands",
        Unit::Count,
        "commands of one commit"
    );
    describe_histogram!(
        "headwater_passed_on_commands",
        Unit::Count,
        "commands of one message to their home"
    );
    describe_histogram!(
        "headwater_append_group_appends",
        Unit::Count,
        "appends of one atomic batch"
    );
    total("headwater_commands_total", "commands answered");
    total(
        "headwater_commands_passed_on_total",
        "commands passed on to their home",
    );
    total(
        "headwater_lost_races_total",
        "appends refused because another was first",
    );
    total(
        "headwater_aggregate_reloads_total",
        "states thrown away and folded again",
    );
    total(
        "headwater_appends_in_doubt_total",
        "appends in doubt, by what the log told",
    );
    total(
        "headwater_append_groups_refused_total",
        "groups that were retried member by member",
    );
    total(
        "headwater_replies_refused_total",
        "requests over NATS that wanted their answer elsewhere than in an inbox",
    );
    total(
        "headwater_callers_refused_total",
        "requests of callers that ask for more than one may",
    );
    total(
        "headwater_tls_handshakes_failed_total",
        "connections over HTTP without a handshake",
    );
    total(
        "headwater_tls_renewals_total",
        "certificates of HTTP that were renewed or refused",
    );
    total("headwater_command_panics_total", "commands that panicked");
    describe_queries();
    describe_gauge!("headwater_live_actors", Unit::Count, "live aggregates");
    describe_gauge!(
        "headwater_log_available",
        Unit::Count,
        "1 while the log can be read and appended to, as far as is known"
    );
    describe_gauge!(
        "headwater_members",
        Unit::Count,
        "live replicas that this one knows"
    );
}

fn describe_queries() {
    seconds(
        "headwater_http_request_seconds",
        "from a request's head to the head of its answer",
    );
    describe_histogram!(
        "headwater_view_batch_commits",
        Unit::Count,
        "commits of one transaction of a view"
    );
    total("headwater_http_requests_total", "requests answered");
    total("headwater_view_applied_total", "commits applied to a view");
    total(
        "headwater_view_retries_total",
        "steps of a view that failed and were tried again",
    );
    total(
        "headwater_cache_hits_total",
        "documents answered from memory",
    );
    total(
        "headwater_cache_misses_total",
        "documents read from the store",
    );
    total(
        "headwater_lists_total",
        "pages of lists answered, by how they were come by",
    );
    total(
        "headwater_list_rows_answered_total",
        "documents in pages that were read as an index has them",
    );
    total(
        "headwater_list_rows_read_total",
        "documents that were read for those pages",
    );
    total(
        "headwater_live_cut_total",
        "live clients that were cut off because they did not keep up",
    );
    let gauge = |name, unit, help| describe_gauge!(name, unit, help);
    let count = Unit::Count;
    gauge(
        "headwater_view_lag_commits",
        count,
        "commits that the log is ahead of the view",
    );
    gauge(
        "headwater_view_lag_seconds",
        Unit::Seconds,
        "how long ago the first commit was published that is not applied",
    );
    gauge(
        "headwater_view_position",
        count,
        "the stream sequence of the last commit applied",
    );
    gauge(
        "headwater_view_following",
        count,
        "whether this replica's projector keeps the view",
    );
    gauge(
        "headwater_view_parked_aggregates",
        count,
        "aggregates that are set aside",
    );
    gauge(
        "headwater_view_rebuild_progress",
        count,
        "how much of the log a generation that is being filled has applied",
    );
    gauge("headwater_cache_bytes", Unit::Bytes, "documents in memory");
    gauge(
        "headwater_list_cache_bytes",
        Unit::Bytes,
        "pages of lists in memory",
    );
    gauge(
        "headwater_search_index_ready",
        count,
        "whether searches of the view are answered by an index of texts",
    );
    gauge(
        "headwater_live_clients",
        count,
        "clients that follow documents",
    );
    gauge(
        "headwater_waiting_readers",
        count,
        "queries and followers that wait for a position",
    );
}

fn seconds(name: &'static str, help: &'static str) {
    describe_histogram!(name, Unit::Seconds, help);
}

fn total(name: &'static str, help: &'static str) {
    describe_counter!(name, Unit::Count, help);
}
