//! Measures of projectors. `docs/metrics.md` is the table of it.

use super::{keeper::ViewHandle, status::ProjectorState};
use jiff::Timestamp;
use metrics::{counter, gauge, histogram};
use std::time::Duration;

/// The pause between two tellings of how far behind the views are. A view that stalls falls behind with time alone.
const INTERVAL: Duration = Duration::from_secs(1);

/// A batch of commits is in the store.
pub(super) fn applied(view: &'static str, commits: usize) {
    counter!("headwater_view_applied_total", "view" => view).increment(commits as u64);
    histogram!("headwater_view_batch_commits", "view" => view).record(commits as f64);
}

/// A step failed and is tried again.
pub(super) fn retried(view: &'static str) {
    counter!("headwater_view_retries_total", "view" => view).increment(1);
}

/// Documents were compared with the log; so many of them differed, and were set right.
pub(super) fn verified(view: &'static str, checked: u64, different: u64, repaired: u64) {
    counter!("headwater_view_verified_total", "view" => view).increment(checked);
    counter!("headwater_view_drift_total", "view" => view).increment(different);
    counter!("headwater_view_repaired_total", "view" => view).increment(repaired);
}

/// Tells once a second how far the views have come, until all are stopped.
pub async fn keep(views: Vec<ViewHandle>) {
    for view in &views {
        // From the start, so that its first rise is one.
        counter!("headwater_view_other_log_total", "view" => view.view()).increment(0);
    }
    let mut interval = tokio::time::interval(INTERVAL);
    let stopped = |view: &ViewHandle| view.status().state == ProjectorState::Stopped;
    while !views.iter().all(stopped) {
        interval.tick().await;
        for view in &views {
            view.sample_rates();
            let rebuilt = view.rebuilding().unwrap_or(1.0);
            let waits = f64::from(u8::from(view.take_over_waits()));
            let (view, status) = (view.view(), view.status());
            let following = status.state == ProjectorState::Following;
            let lag = status.lag_ms(Timestamp::now()) as f64 / 1e3;
            gauge!("headwater_view_lag_commits", "view" => view).set(status.lag_commits as f64);
            gauge!("headwater_view_lag_seconds", "view" => view).set(lag);
            gauge!("headwater_view_position", "view" => view).set(status.applied as f64);
            gauge!("headwater_view_parked_aggregates", "view" => view).set(status.parked as f64);
            gauge!("headwater_view_rebuild_progress", "view" => view).set(rebuilt);
            gauge!("headwater_view_take_over_waits", "view" => view).set(waits);
            gauge!("headwater_view_following", "view" => view).set(f64::from(u8::from(following)));
        }
    }
}
