//! The homes of aggregates: the replicas that decide their commands.

use super::{Operations, unread};
use crate::{
    config::Role,
    event_log::{
        EventLog, codec,
        subject::{self, Id},
    },
    membership::Key,
    problem::Problem,
};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// The replica that decides an aggregate's commands.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AggregateHome {
    /// The aggregate's name.
    pub aggregate: String,
    /// Its id.
    pub id: String,
    /// The replica; null when no live one decides commands.
    pub home: Option<String>,
    /// True if that is the replica that answers.
    pub here: bool,
    /// The aggregate's version; 0 before its first event, and null where its last commit cannot be read.
    pub version: Option<u64>,
    /// The position of its last commit; 0 when there is none.
    pub position: u64,
    /// When that was stored.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_at: Option<Timestamp>,
}

impl AggregateHome {
    /// Reads how far an aggregate is, without its home.
    pub(super) async fn read(log: &EventLog, aggregate: &str, id: &Id) -> Result<Self, Problem> {
        let last = log.last_message(&subject::events_of(aggregate, id)).await;
        let last = last.map_err(|error| unread(&error))?;
        let version = last.as_ref().map_or(Some(0), |last| {
            let events = codec::decode(&last.subject, last.position, &last.payload).ok()?;
            events.last().map(|event| event.recorded.version)
        });
        Ok(Self {
            aggregate: aggregate.to_owned(),
            id: id.to_string(),
            home: None,
            here: false,
            version,
            position: last.as_ref().map_or(0, |last| last.position),
            last_at: last.and_then(|last| Timestamp::from_second(last.time).ok()),
        })
    }
}

impl Operations {
    /// Returns where an aggregate's commands are decided, and how far it is.
    ///
    /// # Errors
    ///
    /// Returns `unknown_aggregate`, or `unavailable` where the log cannot be read.
    pub async fn home(&self, aggregate: &str, id: &Id) -> Result<AggregateHome, Problem> {
        self.known_aggregate(aggregate)?;
        let home = self.home_of(aggregate, id);
        Ok(AggregateHome {
            here: home.as_deref() == Some(self.options().membership.replica()),
            home,
            ..AggregateHome::read(&self.options().log, aggregate, id).await?
        })
    }

    /// The replica that decides an aggregate's commands.
    pub(super) fn home_of(&self, aggregate: &str, id: &Id) -> Option<String> {
        let key = Key::of(&[aggregate, id.as_str()]);
        let home = self.options().membership.home_of(Role::Command, key);
        home.map(|home| home.to_string())
    }
}
