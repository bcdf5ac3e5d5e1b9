//! Which of the replicas that share a store keeps a view: its home among the live ones.
//!
//! That two replicas disagree about it for a moment is harmless: the fence of each checkpoint is what
//! keeps the documents right.

use crate::{
    config::Role,
    membership::{Home, Key, Members, Membership},
};
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// Whether this replica keeps a view.
pub struct ViewPlacement {
    among: Option<Among>,
}

struct Among {
    membership: Membership,
    key: Key,
    members: Mutex<watch::Receiver<Arc<Members>>>,
}

impl ViewPlacement {
    /// Always: no other replica writes the store.
    #[must_use]
    pub fn here() -> Self {
        Self { among: None }
    }

    /// On the view's home among the live replicas with the projector role.
    #[must_use]
    pub fn among(membership: &Membership, view: &str) -> Self {
        Self {
            among: Some(Among {
                membership: membership.clone(),
                key: Key::of(&["view", view]),
                members: Mutex::new(membership.watch()),
            }),
        }
    }

    /// Whether it does now.
    pub(super) fn is_here(&self) -> bool {
        self.among.as_ref().is_none_or(|among| {
            let home = among.membership.home(Role::Projector, among.key);
            home == Home::Here
        })
    }

    /// Waits until the live replicas change.
    pub(super) async fn changed(&self) {
        if let Some(among) = &self.among
            && among.members.lock().await.changed().await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}
