//! Measures of projectors. `docs/metrics.md` is the table of it.

use metrics::{counter, histogram};

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
