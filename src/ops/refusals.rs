//! The latest commands that were refused, by whichever replica.

use super::{
    Operations,
    recall::{RecallAsk, RecallVerb, Recalled},
};
use crate::command::refusals::{self, Refusal};
use serde::Serialize;
use utoipa::ToSchema;

/// The role whose replicas refuse commands.
const DECIDING: &[&str] = &["command"];

/// The latest commands that were refused.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Refusals {
    /// The replica that answers.
    pub replica: String,
    /// The refusals of all replicas, the last one first, by each one's clock.
    pub items: Vec<ToldRefusal>,
    /// The replicas that should have told of theirs and did not.
    pub missing: Vec<String>,
}

/// A command that was refused, and by whom.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ToldRefusal {
    /// The replica that has refused it.
    pub replica: String,
    /// The command, and why.
    #[serde(flatten)]
    pub refusal: Refusal,
}

impl Operations {
    /// The latest commands that were refused, the last one first.
    pub async fn refusals(&self, limit: usize, authorization: Option<&str>) -> Refusals {
        let ask = RecallAsk {
            limit: Some(limit),
            ..RecallAsk::default()
        };
        let recalled = self.recall_refusals(&ask, authorization).await;
        let mut items = self.own_refusals();
        items.extend(told(recalled.items));
        items.sort_by_key(|one| std::cmp::Reverse(one.refusal.time));
        items.truncate(limit);
        Refusals {
            replica: self.options().membership.replica().to_owned(),
            items,
            missing: recalled.missing,
        }
    }

    /// A command that was refused lately, and the replicas that may know of one and have not answered.
    pub(super) async fn refusal_of(
        &self,
        command: &str,
        authorization: Option<&str>,
    ) -> (Option<ToldRefusal>, Vec<String>) {
        let mut own = self.own_refusals().into_iter();
        if let Some(own) = own.find(|one| &*one.refusal.command_id == command) {
            return (Some(own), Vec::new());
        }
        let ask = RecallAsk {
            id: Some(command.to_owned()),
            limit: Some(1),
        };
        let recalled = self.recall_refusals(&ask, authorization).await;
        let latest = told(recalled.items).max_by_key(|one| one.refusal.time);
        (latest, recalled.missing)
    }

    fn own_refusals(&self) -> Vec<ToldRefusal> {
        let replica = self.options().membership.replica();
        let all = refusals::latest().into_iter();
        all.map(|refusal| ToldRefusal {
            replica: replica.to_owned(),
            refusal,
        })
        .collect()
    }

    async fn recall_refusals(
        &self,
        ask: &RecallAsk,
        authorization: Option<&str>,
    ) -> Recalled<Refusal> {
        let others = self.others_with(DECIDING);
        self.recall((RecallVerb::Refusals, ask), others, authorization)
            .await
    }
}

fn told(items: Vec<(String, Refusal)>) -> impl Iterator<Item = ToldRefusal> {
    let items = items.into_iter();
    items.map(|(replica, refusal)| ToldRefusal { replica, refusal })
}
