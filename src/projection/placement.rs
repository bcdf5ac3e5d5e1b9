//! Which of the replicas that share a store keeps a view: its home among the live ones that have it in the
//! same version. So while two versions of a program run side by side, one of each keeps what it can fold.
//!
//! That two replicas disagree about it for a moment is harmless: the fence of each checkpoint is what
//! keeps the documents right.

use crate::{
    config::Role,
    membership::{Key, Member, Members, Membership},
    read_model::ViewDescription,
};
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// True if this replica keeps a view.
pub struct ViewPlacement {
    among: Option<Among>,
}

struct Among {
    replica: String,
    view: &'static str,
    version: u32,
    key: Key,
    now: watch::Receiver<Arc<Members>>,
    members: Mutex<watch::Receiver<Arc<Members>>>,
}

impl ViewPlacement {
    /// Always: no other replica writes the store.
    #[must_use]
    pub fn here() -> Self {
        Self { among: None }
    }

    /// On the view's home among the live replicas with the projector role that have it in this version.
    #[must_use]
    pub fn among(membership: &Membership, view: &ViewDescription) -> Self {
        Self {
            among: Some(Among {
                replica: membership.replica().to_owned(),
                view: view.name,
                version: view.version,
                key: Key::of(&["view", view.name]),
                now: membership.watch(),
                members: Mutex::new(membership.watch()),
            }),
        }
    }

    /// Returns whether it does now.
    pub(super) fn is_here(&self) -> bool {
        self.among.as_ref().is_none_or(|among| {
            let members = among.now.borrow();
            let home = members.home_among(among.key, |member| among.folds(member, among.version));
            home.is_some_and(|home| home.replica() == among.replica)
        })
    }

    /// Returns whether another live replica folds the view in this version.
    #[must_use]
    pub fn is_folded_elsewhere(&self, version: u32) -> bool {
        self.among.as_ref().is_some_and(|among| {
            let members = among.now.borrow();
            let mut others = members
                .iter()
                .filter(|member| member.replica() != among.replica);
            others.any(|member| among.folds(member, version))
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

impl Among {
    fn folds(&self, member: &Member, version: u32) -> bool {
        let folded = member.views().get(self.view);
        member.roles().contains(&Role::Projector) && folded == Some(&version)
    }
}
