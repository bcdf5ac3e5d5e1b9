//! An aggregate's history as it stands in the log, each commit with what is wrong with it.

use crate::{
    event_log::{
        EventLog, LoadError, StoredMessage,
        codec::{self, StoredEvent},
        exclusion::{Exclusion, Exclusions, OtherVersions},
        subject::{self, Id},
    },
    recorded::DecodeError,
};
use serde_json::value::RawValue;
use std::collections::VecDeque;

/// Tries to read an event of an aggregate that this program has.
pub type ReadEvent = fn(&str, &RawValue) -> Result<(), DecodeError>;

/// One message of a history.
pub struct Entry {
    /// The message.
    pub message: StoredMessage,
    /// Its events; `None` when it is no commit.
    pub events: Option<Vec<StoredEvent>>,
    /// The reason why it cannot be folded, as far as that shows without folding.
    pub fault: Option<String>,
    /// Its exclusion, if it is excluded.
    pub excluded: Option<Exclusion>,
}

/// A history that is read from its beginning, a batch at a time: whether a commit follows on the one before
/// shows only there.
pub struct History {
    log: EventLog,
    subject: String,
    read_event: Option<ReadEvent>,
    exclusions: Exclusions,
    ahead: VecDeque<StoredMessage>,
    after: u64,
    /// The version that the next commit is to follow on; `None` while that is not known.
    version: Option<u64>,
    others: OtherVersions,
}

impl History {
    /// Opens it at its beginning.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn open(
        log: &EventLog,
        aggregate: &str,
        id: &Id,
        read_event: Option<ReadEvent>,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            subject: subject::events_of(aggregate, id),
            exclusions: log.exclusions(aggregate, id.as_str()).await?,
            log: log.clone(),
            read_event,
            ahead: VecDeque::new(),
            after: 0,
            version: Some(0),
            others: OtherVersions::default(),
        })
    }

    /// Opens it after a position: what the first commit follows on is not known there.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn open_after(
        log: &EventLog,
        aggregate: &str,
        id: &Id,
        read_event: Option<ReadEvent>,
        after: u64,
    ) -> Result<Self, LoadError> {
        let history = Self::open(log, aggregate, id, read_event).await?;
        Ok(Self {
            after,
            version: None,
            ..history
        })
    }

    /// Reads the next message; `None` at the end.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn next(&mut self) -> Result<Option<Entry>, LoadError> {
        if self.ahead.is_empty() {
            let reading = self.log.next_messages(&self.subject, self.after, u64::MAX);
            self.ahead.extend(reading.await?);
        }
        let Some(message) = self.ahead.pop_front() else {
            return Ok(None);
        };
        self.after = message.position;
        Ok(Some(self.judge(message)))
    }

    /// Reads up to the message at a position; `None` when it is not of this history.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn at(&mut self, position: u64) -> Result<Option<Entry>, LoadError> {
        while let Some(entry) = self.next().await? {
            if entry.message.position >= position {
                return Ok((entry.message.position == position).then_some(entry));
            }
        }
        Ok(None)
    }

    fn judge(&mut self, message: StoredMessage) -> Entry {
        let excluded = self.exclusions.of(&message).cloned();
        let decoded = codec::decode(&message.subject, message.position, &message.payload);
        let (events, mut fault) = match decoded {
            Ok(events) => (Some(events), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let recorded = || events.iter().flatten().map(|event| &event.recorded);
        if let (Some(first), Some(last)) = (recorded().next(), recorded().next_back()) {
            if excluded.is_some() {
                let before = self.version.unwrap_or(first.version.saturating_sub(1));
                self.version = Some(self.others.pass_over(before, last.version));
            } else {
                fault = fault.or_else(|| self.fault_of_versions(first.version));
                self.version = Some(last.version);
            }
            let followed = recorded().zip(recorded().skip(1));
            let mut gaps =
                followed.filter(|(one, next)| one.version.checked_add(1) != Some(next.version));
            if gaps.next().is_some() {
                fault = Some("the versions within it do not follow each other".to_owned());
            }
        }
        if let Some(read_event) = self.read_event {
            let mut read = recorded().map(|event| read_event(&event.event_type, &event.data));
            let unknown = read.find_map(Result::err);
            fault = fault.or(unknown.map(|error| error.to_string()));
        }
        Entry {
            message,
            events,
            fault,
            excluded,
        }
    }

    fn fault_of_versions(&mut self, first: u64) -> Option<String> {
        let version = self.version?;
        match self.others.follow(version, first) {
            Some(_) => None,
            None => Some(format!("its version {first} does not follow on {version}")),
        }
    }
}
