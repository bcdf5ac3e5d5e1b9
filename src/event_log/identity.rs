//! Which log it is: what a remembered position is worth.
//!
//! A log can be cut, restored from a backup, or deleted and made anew, while replicas run or while they
//! are down. A position alone does not tell that. So whoever remembers one also remembers the [`Mark`] of
//! what stands there, and compares it before the position is used again. What lives in memory is compared
//! again whenever the log *may* have become another one: each such moment begins a new [`Epoch`].

use super::{EventLog, LoadError, StoredMessage, codec, subject};
use crate::stable_hash;
use async_nats::{Client, Statistics};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    num::ParseIntError,
    str::FromStr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// The mark of a position: a hash of the body of the message there.
///
/// Two commits of one aggregate never have the same body: it holds the time and the command's id.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Mark(u64);

impl Mark {
    /// The mark of a message with this body.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        Self(stable_hash::of_bytes(body))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Mark {
    type Err = ParseIntError;

    fn from_str(digits: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(digits, 16).map(Self)
    }
}

/// The name of a log: that of one that was made anew is another. A log that was cut or restored from a
/// backup keeps its name, which is why a position is remembered with its [`Mark`] as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogName(u32);

impl LogName {
    /// The name of a log that was made at this time, as its server tells it.
    fn of(created: &str) -> Self {
        // Half of the hash is plenty to tell the few logs apart that a deployment ever has.
        Self(stable_hash::of_bytes(created.as_bytes()) as u32)
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for LogName {
    type Err = ParseIntError;

    fn from_str(digits: &str) -> Result<Self, Self::Err> {
        u32::from_str_radix(digits, 16).map(Self)
    }
}

/// A stretch of time in which the log was surely the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(u64);

/// A message of the log as somebody remembers it: the last one of an aggregate, or the last one that a
/// view has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    /// Its position; 0 when there is none.
    pub position: u64,
    /// The mark of it.
    pub mark: Mark,
}

impl Place {
    /// Returns where a stored message stands.
    #[must_use]
    pub fn of(message: &StoredMessage) -> Self {
        Self {
            position: message.position,
            mark: Mark::of(&message.payload),
        }
    }
}

/// The common knowledge of the log of one process's connections.
#[derive(Debug, Default)]
pub(super) struct Known {
    epoch: AtomicU64,
    /// The highest position that was acknowledged or seen.
    position: AtomicU64,
    /// The connections by which the log is reached. A new one ends the epoch before anything comes by it,
    /// and so before anybody is told of it.
    connections: RwLock<Vec<Arc<Statistics>>>,
}

impl Known {
    /// Takes note of a connection by which the log is reached.
    pub(super) fn reached_by(&self, client: &Client) {
        let connections = self.connections.write();
        let mut connections = connections.unwrap_or_else(PoisonError::into_inner);
        connections.push(client.statistics());
    }

    /// The epoch that it is now: each part of the sum only grows.
    fn epoch(&self) -> Epoch {
        let connections = self.connections.read();
        let connections = connections.unwrap_or_else(PoisonError::into_inner);
        let connects = connections
            .iter()
            .map(|statistics| statistics.connects.load(Ordering::Acquire));
        Epoch(self.epoch.load(Ordering::Acquire) + connects.sum::<u64>())
    }

    /// Begins a new epoch.
    pub(super) fn suspect(&self, reason: &str) {
        // A shorter log may end before it. From the beginning on is right in any log.
        self.position.store(0, Ordering::Relaxed);
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        tracing::debug!(log.epoch = epoch, reason, "the log may be another one");
    }
}

impl EventLog {
    /// Returns the epoch that it is now.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.0.known.epoch()
    }

    /// Begins a new epoch: from now on the log may be another one than before. What is in memory is
    /// compared with the log before it is used again, which costs one read for each aggregate.
    pub fn suspect(&self, reason: &str) {
        self.0.known.suspect(reason);
    }

    /// Returns the highest position that this process has seen of the log in this epoch; 0 when there is
    /// none. What is given to it later cannot stand before.
    #[must_use]
    pub fn known_position(&self) -> u64 {
        self.0.known.position.load(Ordering::Relaxed)
    }

    /// Notes the position of a commit that was appended while `before` was known. It stands after that in
    /// one and the same log.
    pub(super) fn appended(&self, position: u64, before: u64) {
        if position <= before {
            self.suspect("a commit stands where another one is known to be");
        }
        self.0.known.position.fetch_max(position, Ordering::Relaxed);
    }

    /// Returns whether this is the log in which `place` was the last message of `subject`: whether
    /// that very message stands there. Asks the stream leader.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn still_has(&self, subject: &str, place: Place) -> Result<bool, LoadError> {
        if place.position == 0 {
            // An aggregate without a commit is the same in every log, up to the first one.
            return Ok(true);
        }
        let found = self.message_at(place.position).await?;
        Ok(found.is_some_and(|found| found.subject == subject && Place::of(&found) == place))
    }

    /// Returns whether this is the log in which `place` was a message: whether that very message stands
    /// there, of whichever subject. Asks the stream leader. What a log has forgotten of its beginning, as
    /// ours never does, is taken for the same.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read. A log that is away is no other log.
    pub async fn holds(&self, place: Place) -> Result<bool, LoadError> {
        if place.position == 0 {
            return Ok(true);
        }
        match self.message_at(place.position).await? {
            Some(found) => Ok(Place::of(&found) == place),
            None => Ok(self.info().await?.state.first_seq > place.position),
        }
    }

    /// Returns the log's name.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn name(&self) -> Result<LogName, LoadError> {
        Ok(LogName::of(&self.info().await?.created))
    }

    /// Returns the position of the last message of the log; 0 when there is none.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn end(&self) -> Result<u64, LoadError> {
        Ok(self.info().await?.state.last_seq)
    }

    /// Returns from where to where the log reaches.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn extent(&self) -> Result<Extent, LoadError> {
        let state = self.info().await?.state;
        Ok(Extent {
            first: state.first_seq,
            last: state.last_seq,
            messages: state.messages,
        })
    }

    /// Returns how the log is kept, and how much of it there is.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be asked.
    pub async fn state(&self) -> Result<LogState, LoadError> {
        let Info {
            created,
            state,
            config,
        } = self.info().await?;
        Ok(LogState {
            name: LogName::of(&created),
            created: created.parse().ok(),
            first: state.first_seq,
            last: state.last_seq,
            messages: state.messages,
            bytes: state.bytes,
            // Of a log without messages the server tells the year 1.
            last_at: state
                .last_ts
                .and_then(|at| at.parse().ok())
                .filter(|_| state.last_seq > 0),
            replicas: config.num_replicas.max(1),
        })
    }

    async fn info(&self) -> Result<Info, LoadError> {
        let asked = format!("STREAM.INFO.{}", subject::STREAM);
        let answer = self.api::<Answer>(&asked, &serde_json::json!({})).await?;
        match answer {
            Answer::Info(info) => Ok(info),
            Answer::Error { error } => Err(LoadError::Unavailable(error.to_string())),
        }
    }
}

/// The answer to `STREAM.INFO`, as far as it matters here.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Info(Info),
    Error { error: async_nats::jetstream::Error },
}

#[derive(Deserialize)]
struct Info {
    created: String,
    state: StreamState,
    #[serde(default)]
    config: StreamConfig,
}

#[derive(Default, Deserialize)]
struct StreamConfig {
    #[serde(default)]
    num_replicas: u8,
}

#[derive(Deserialize)]
struct StreamState {
    first_seq: u64,
    #[serde(default)]
    last_seq: u64,
    #[serde(default)]
    messages: u64,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    last_ts: Option<String>,
}

/// From where to where a log reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The position of its first message; of an empty one, where that would stand.
    pub first: u64,
    /// The position of its last message; 0 when there was none.
    pub last: u64,
    /// The number of its messages.
    pub messages: u64,
}

/// The settings of the log, and how much of it there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogState {
    /// Which log it is.
    pub name: LogName,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// The position of its first message.
    pub first: u64,
    /// The position of its last message; 0 when there is none.
    pub last: u64,
    /// The number of its messages.
    pub messages: u64,
    /// Their bytes, as they are stored.
    pub bytes: u64,
    /// When the last one was stored.
    pub last_at: Option<Timestamp>,
    /// The number of servers that keep it.
    pub replicas: u8,
}

/// The log holds what this program cannot build on.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Its commits are of the form before form 1, which was never released.
    #[error(
        "the log holds commits of a form that was never released and is not read any more (the first stands at {position}): begin anew, with `--reset` for `headwater dev`, or by deleting the stream EVENTS"
    )]
    UnreleasedForm {
        /// The position of the first of them.
        position: u64,
    },
    /// It cannot be read now.
    #[error(transparent)]
    Unreadable(#[from] LoadError),
}

impl EventLog {
    /// Makes sure that this program can read the log, by its first commit.
    ///
    /// # Errors
    ///
    /// Returns [`LogError::UnreleasedForm`] when it cannot.
    pub async fn check_form(&self) -> Result<(), LogError> {
        match self.commit_after("evt.>", 0).await? {
            Some(first) if codec::is_unreleased_form(&first.payload) => {
                Err(LogError::UnreleasedForm {
                    position: first.position,
                })
            }
            _ => Ok(()),
        }
    }
}
