//! The state of the views in figures, told once a second. `docs/metrics.md` is the table of it.

use super::{status::ProjectorState, view_handle::ViewHandle};
use jiff::Timestamp;
use metrics::{counter, gauge};
use std::time::Duration;

/// The pause between two tellings of how far behind the views are. A view that stalls falls behind with time alone.
const INTERVAL: Duration = Duration::from_secs(1);

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
