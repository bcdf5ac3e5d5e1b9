//! Looking for the events of a command by its id.

use super::StoryPlace;
use crate::{
    event_log::{LoadError, StoredMessage, codec, subject},
    ops::{
        Operations,
        tail::{LOOKED_AT, WINDOW},
    },
    recorded::Recorded,
};
use serde::Serialize;
use utoipa::ToSchema;

/// The number of commits of a known aggregate that are looked through.
const OF_AGGREGATE: usize = 20_000;
/// The number of them that are read at once.
const AT_ONCE: usize = 500;

/// The stretch of the log in which a command was looked for. One whose place was known was not looked for: 0 to 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Searched {
    /// The first position; what `before` takes to go on.
    pub from: u64,
    /// The last position.
    pub to: u64,
    /// True if there is nothing more to look through.
    pub complete: bool,
}

impl Default for Searched {
    fn default() -> Self {
        Self {
            from: 0,
            to: 0,
            complete: true,
        }
    }
}

/// The events of a command, and the commit that they stand in.
#[derive(Debug, Clone)]
pub(super) struct CommandCommit {
    pub(super) message: StoredMessage,
    pub(super) events: Vec<Recorded>,
}

/// The end of a search.
pub(super) struct Found {
    pub(super) events: Option<CommandCommit>,
    pub(super) searched: Searched,
}

/// Looks for a command's id in commits, quickly where it is not there.
pub(super) struct Seeker {
    id: String,
    /// The id as it stands in a commit.
    written: String,
}

impl Seeker {
    pub(super) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            written: serde_json::to_string(id).unwrap_or_default(),
        }
    }

    /// The events of the command in a commit, if there are any.
    pub(super) fn find(&self, message: &StoredMessage) -> Option<CommandCommit> {
        let text = std::str::from_utf8(&message.payload).ok()?;
        if !text.contains(&self.written) {
            return None;
        }
        let events = codec::decode(&message.subject, message.position, &message.payload).ok()?;
        let events = events.into_iter().map(|event| event.recorded);
        let events: Vec<_> = events.filter(|event| event.command_id == self.id).collect();
        let message = message.clone();
        (!events.is_empty()).then_some(CommandCommit { message, events })
    }
}

impl Operations {
    /// Looks for a command, as far as one request may.
    pub(super) async fn search(&self, id: &str, place: &StoryPlace) -> Result<Found, LoadError> {
        let end = self.options().log.end().await?;
        let before = place.before.unwrap_or(end + 1).min(end + 1);
        let seeker = Seeker::new(id);
        match &place.aggregate {
            Some((aggregate, instance)) => {
                let subject = subject::events_of(aggregate, instance);
                self.search_aggregate(&seeker, &subject, before).await
            }
            None => self.search_log(&seeker, before).await,
        }
    }

    async fn search_log(&self, seeker: &Seeker, before: u64) -> Result<Found, LoadError> {
        let least = before.saturating_sub(LOOKED_AT).max(1);
        let mut from = before.max(1);
        while from > least {
            let begin = from.saturating_sub(WINDOW).max(least);
            let read = self.window("evt.>", begin, from).await?;
            from = begin;
            if let Some(events) = read.iter().rev().find_map(|message| seeker.find(message)) {
                return Ok(found(Some(events), from, before));
            }
        }
        Ok(found(None, from, before))
    }

    async fn search_aggregate(
        &self,
        seeker: &Seeker,
        subject: &str,
        before: u64,
    ) -> Result<Found, LoadError> {
        let (mut from, mut looked_at) = (before, 0);
        while looked_at < OF_AGGREGATE {
            let log = &self.options().log;
            let read = log.messages_before(subject, from, AT_ONCE).await?;
            let Some(first) = read.first() else {
                return Ok(found(None, 1, before));
            };
            (from, looked_at) = (first.position, looked_at + read.len());
            if let Some(events) = read.iter().rev().find_map(|message| seeker.find(message)) {
                return Ok(found(Some(events), from, before));
            }
        }
        Ok(found(None, from, before))
    }
}

fn found(events: Option<CommandCommit>, from: u64, before: u64) -> Found {
    Found {
        searched: Searched {
            from,
            to: before.saturating_sub(1),
            complete: events.is_some() || from <= 1,
        },
        events,
    }
}
