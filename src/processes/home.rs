//! Which replica follows the log for a process: one of those that have the role, as for a view.

use crate::{
    config::Role,
    membership::{Home, Key, Membership},
};

/// Returns whether this replica is the one.
pub(super) fn is_here(membership: &Membership, process: &str) -> bool {
    let key = Key::of(&["process", process]);
    membership.home(Role::Process, key) == Home::Here
}

/// Waits until the live replicas change.
pub(super) async fn changed(membership: &Membership) {
    let mut members = membership.watch();
    members.mark_unchanged();
    if members.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
