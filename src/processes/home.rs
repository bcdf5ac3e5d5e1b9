//! Which replica follows the log for a process: one of those that have the role, as for a view.

use super::failpoint;
use crate::{
    config::Role,
    membership::{Home, Key, Membership},
};

/// Returns which replica it is; `None` where no live one has the role.
pub fn home_of(membership: &Membership, process: &str) -> Option<String> {
    let home = membership.home_of(Role::Process, Key::of(&["process", process]));
    home.map(|home| home.to_string())
}

/// Returns whether this replica is the one.
pub(super) fn is_here(membership: &Membership, process: &str) -> bool {
    if failpoint::is_home_of_all() {
        return true;
    }
    let key = Key::of(&["process", process]);
    membership.home(Role::Process, key) == Home::Here
}

/// Waits until this replica is the one.
pub(super) async fn here(membership: &Membership, process: &str) {
    // Heard from before it is looked, so that no change is missed in between.
    let mut members = membership.watch();
    while !is_here(membership, process) {
        if members.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
