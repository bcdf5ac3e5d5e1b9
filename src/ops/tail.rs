//! The tail of the log, with filters: a bounded stretch of it at a time.

use super::{Operations, ToldCommit, unread};
use crate::{
    event_log::{LoadError, StoredMessage, subject::Id},
    problem::Problem,
};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// The number of positions that one request looks through at the most.
pub(super) const LOOKED_AT: u64 = 20_000;
/// The number of positions that are read at once, backwards.
pub(super) const WINDOW: u64 = 1_000;
/// A page ends after so many bytes.
const PAGE_BYTES: usize = 1 << 20;

/// Which commits.
#[derive(Debug, Clone, Default)]
pub struct TailFilter {
    /// Those of aggregates of this name.
    pub aggregate: Option<String>,
    /// Those of aggregates with this id.
    pub id: Option<Id>,
    /// Those with an event whose type begins so.
    pub event_type: Option<String>,
}

/// The place at which a page of the log begins, or ends. With neither `after` nor `since` it is the last one before its end.
#[derive(Debug, Clone, Copy, Default)]
pub struct TailPlace {
    /// It begins after this position.
    pub after: Option<u64>,
    /// It begins with what was stored at this time or after.
    pub since: Option<Timestamp>,
    /// It ends before this position; with the log unless given.
    pub before: Option<u64>,
}

/// A page of the log.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LogPage {
    /// The commits, in order.
    pub items: Vec<ToldCommit>,
    /// The position of the log's last message.
    pub last: u64,
    /// The value of `after` to go on; null at the end of the log.
    pub next: Option<u64>,
    /// The value of `before` to go back; null at the beginning of the log.
    pub previous: Option<u64>,
}

impl TailFilter {
    /// The subjects of what it lets through.
    pub(super) fn subject(&self) -> String {
        let aggregate = self.aggregate.as_deref().unwrap_or("*");
        let id = self.id.as_ref().map_or("*", Id::as_str);
        format!("evt.{aggregate}.{id}")
    }

    /// Returns whether a commit is let through. One that cannot be read is, unless a type is asked for.
    fn admits(&self, commit: &ToldCommit) -> bool {
        let Some(wanted) = &self.event_type else {
            return true;
        };
        let mut events = commit.events.iter();
        events.any(|event| event.event_type.starts_with(wanted.as_str()))
    }
}

impl Operations {
    /// Reads a page of the log.
    ///
    /// # Errors
    ///
    /// Returns `unavailable` where the log cannot be read.
    pub async fn events(
        &self,
        filter: &TailFilter,
        place: TailPlace,
        limit: usize,
    ) -> Result<LogPage, Problem> {
        let end = self.options().log.end().await;
        let end = end.map_err(|error| unread(&error))?;
        let last = match place.before {
            Some(before) => end.min(before.saturating_sub(1)),
            None => end,
        };
        let begin = self.begins_after(filter, place, last).await;
        let begin = begin.map_err(|error| unread(&error))?;
        let page = match begin {
            Some(after) => self.forwards(filter, after, (last, end), limit).await,
            None => self.backwards(filter, last + 1, end, limit).await,
        };
        page.map_err(|error| unread(&error))
    }

    /// The position after which a page begins, if it is said where.
    async fn begins_after(
        &self,
        filter: &TailFilter,
        place: TailPlace,
        last: u64,
    ) -> Result<Option<u64>, LoadError> {
        let Some(time) = place.since else {
            return Ok(place.after);
        };
        let first = self
            .options()
            .log
            .first_since(&filter.subject(), time)
            .await?;
        let since = first.map_or(last, |first| first - 1);
        Ok(place.after.max(Some(since)))
    }

    /// The commits after a position and up to another that are let through, and where to go on from.
    async fn forwards(
        &self,
        filter: &TailFilter,
        after: u64,
        (last, end): (u64, u64),
        limit: usize,
    ) -> Result<LogPage, LoadError> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        let mut at = after;
        let furthest = last.min(after.saturating_add(LOOKED_AT));
        while at < furthest && items.len() < limit && bytes < PAGE_BYTES {
            let log = &self.options().log;
            let read = log.next_messages(&filter.subject(), at, last).await?;
            if read.is_empty() {
                at = last;
            }
            for message in &read {
                if items.len() == limit || bytes >= PAGE_BYTES {
                    break;
                }
                at = message.position;
                bytes += take(filter, message, &mut items);
            }
        }
        let first = items.first().map(|first| first.position);
        let previous = first.unwrap_or(after.saturating_add(1)).min(end + 1);
        Ok(LogPage {
            last: end,
            next: (at < last).then_some(at),
            previous: (previous > 1).then_some(previous),
            items,
        })
    }

    /// The last commits before a position that are let through.
    async fn backwards(
        &self,
        filter: &TailFilter,
        before: u64,
        end: u64,
        limit: usize,
    ) -> Result<LogPage, LoadError> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        let mut begin = before;
        let least = before.saturating_sub(LOOKED_AT);
        while begin > 1 && begin > least && items.len() < limit && bytes < PAGE_BYTES {
            let window = begin.saturating_sub(WINDOW).max(1);
            let read = self.window(&filter.subject(), window, begin).await?;
            let mut found = Vec::new();
            for message in read.iter().rev() {
                if items.len() + found.len() == limit || bytes >= PAGE_BYTES {
                    break;
                }
                bytes += take(filter, message, &mut found);
            }
            found.reverse();
            items.splice(..0, found);
            begin = window;
        }
        let full = items.len() == limit || bytes >= PAGE_BYTES;
        let first = items.first().map(|first| first.position);
        let previous = first.filter(|_| full).unwrap_or(begin);
        Ok(LogPage {
            last: end,
            next: items
                .last()
                .map(|last| last.position)
                .filter(|last| *last < end),
            previous: (previous > 1).then_some(previous),
            items,
        })
    }

    /// All messages of a subject from a position on and before another.
    pub(super) async fn window(
        &self,
        subject: &str,
        from: u64,
        before: u64,
    ) -> Result<Vec<StoredMessage>, LoadError> {
        self.options()
            .log
            .messages(subject, from - 1, before - 1)
            .await
    }

    /// Reads what has come after a position, for who follows the log: what is let through of it, and how far it is.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn come(
        &self,
        filter: &TailFilter,
        after: u64,
    ) -> Result<(Vec<ToldCommit>, u64), LoadError> {
        let log = &self.options().log;
        let read = log
            .next_messages(&filter.subject(), after, u64::MAX)
            .await?;
        let mut items = Vec::new();
        for message in &read {
            take(filter, message, &mut items);
        }
        Ok((items, read.last().map_or(after, |last| last.position)))
    }

    /// Returns where the log ends now.
    ///
    /// # Errors
    ///
    /// Returns `unavailable` where the log cannot be read.
    pub async fn log_end(&self) -> Result<u64, Problem> {
        let end = self.options().log.end().await;
        end.map_err(|error| unread(&error))
    }
}

/// Takes a commit if it is let through; returns its bytes.
fn take(filter: &TailFilter, message: &StoredMessage, items: &mut Vec<ToldCommit>) -> usize {
    let commit = ToldCommit::of(message);
    if !filter.admits(&commit) {
        return 0;
    }
    items.push(commit);
    message.payload.len()
}
