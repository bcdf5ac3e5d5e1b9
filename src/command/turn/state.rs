//! An aggregate's state: folded from its snapshot and the log, and written as a snapshot.

use super::Desk;
use crate::{
    aggregate::Aggregate,
    command::memory::{Memory, Remembered},
    event_log::{
        LoadError, StoredMessage,
        codec::{self, StoredEvent},
        subject,
    },
    recorded::decode_event,
};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A snapshot is written when this many events have been folded since the last: as many as a load
/// reads with one request.
const SNAPSHOT_EVERY: u64 = 256;
/// Passivation writes a snapshot when it saves a later load at least this many events.
const WORTH_A_SNAPSHOT: u64 = 20;

/// An aggregate's state as folded from the log.
pub struct Loaded<A> {
    pub(super) state: A,
    pub(super) version: u64,
    /// The position of the last commit folded in; 0 when there is none.
    pub(super) position: u64,
    pub(super) memory: Memory,
    /// The version that the latest snapshot holds.
    snapshot_version: u64,
    /// From here on the log is to be read for the memory; up to `position` for nothing else.
    remember_after: u64,
    /// Whether neither the log nor the latest snapshot has something that is remembered.
    unlogged: bool,
}

impl<A> Loaded<A> {
    /// Whether the aggregate would lose, or be slow to find again, what no snapshot holds.
    #[must_use]
    pub fn is_worth_a_snapshot(&self) -> bool {
        self.unlogged || self.events_since_snapshot() >= WORTH_A_SNAPSHOT
    }

    fn events_since_snapshot(&self) -> u64 {
        self.version - self.snapshot_version
    }

    /// Remembers the outcome of a command that was just accepted.
    pub(super) fn remember(&mut self, remembered: Remembered, now: Timestamp) {
        self.unlogged |= remembered.events.is_empty();
        self.memory.add(remembered, now);
    }

    /// Remembers again what was carried over from a state that has been thrown away.
    pub(super) fn remember_again(&mut self, unlogged: Vec<Remembered>) {
        self.unlogged |= !unlogged.is_empty();
        self.memory.add_unlogged(unlogged);
    }
}

impl<A: Default> Default for Loaded<A> {
    /// The state before the first event.
    fn default() -> Self {
        Self {
            state: A::default(),
            version: 0,
            position: 0,
            memory: Memory::default(),
            snapshot_version: 0,
            remember_after: 0,
            unlogged: false,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Snapshot<S, M> {
    state_version: u32,
    version: u64,
    position: u64,
    state: S,
    memory: M,
    /// The commits after this one and up to `position` are read again for the commands that they
    /// remember, which were too many for the snapshot.
    remember_after: u64,
}

pub(super) async fn last_position(desk: &Desk, aggregate: &str) -> Result<u64, LoadError> {
    let subject = subject::events_of(aggregate, &desk.id);
    let last = desk.log.last_message(&subject).await?;
    Ok(last.map_or(0, |message| message.position))
}

/// Folds the aggregate: its snapshot, then the commits after it.
///
/// Up to the leader's last commit when it is asked for. Otherwise up to the last one at hand, which
/// costs less and is almost always the same: where it is not, the append is refused, and whatever
/// appends nothing asks the leader.
pub(super) async fn load<A: Aggregate>(
    desk: &Desk,
    from_leader: bool,
) -> Result<Loaded<A>, LoadError> {
    let subject = subject::events_of(A::NAME, &desk.id);
    let last = async {
        if from_leader {
            desk.log.last_message(&subject).await
        } else {
            desk.log.last_message_at_hand(&subject).await
        }
    };
    let snapshot = desk.log.snapshot(A::NAME, desk.id.as_str());
    let (last, snapshot) = futures::future::join(last, snapshot).await;
    let last = last?;
    let end = last.as_ref().map_or(0, |last| last.position);
    let mut loaded = snapshot
        .and_then(|body| read_snapshot::<A>(&body))
        .filter(|snapshot| snapshot.position <= end)
        .unwrap_or_default();
    let Some(last) = last.filter(|_| loaded.remember_after < end) else {
        return Ok(loaded);
    };
    let events = decode_commit(&last)?;
    let follows = |first: &StoredEvent| first.recorded.version == loaded.version + 1;
    if loaded.remember_after == loaded.position && events.first().is_some_and(follows) {
        // The last commit is the only one that is missing.
        fold(&mut loaded, last.position, &events)?;
        return Ok(loaded);
    }
    // What the snapshot remembers comes before the tail, but in between what is read again for it.
    let unlogged = if loaded.remember_after < loaded.position {
        std::mem::take(&mut loaded.memory)
    } else {
        Memory::default()
    };
    let mut after = loaded.remember_after;
    while after < end {
        let messages = desk.log.next_messages(&subject, after, end).await?;
        let Some(latest) = messages.last() else {
            break;
        };
        after = latest.position;
        for message in &messages {
            let events = decode_commit(message)?;
            if message.position <= loaded.position {
                loaded.memory.add_commit(&events);
            } else {
                fold(&mut loaded, message.position, &events)?;
            }
        }
    }
    if loaded.position != end {
        return Err(LoadError::Unavailable(format!(
            "read up to {} of {end}",
            loaded.position
        )));
    }
    loaded.memory.add_unlogged(unlogged.unlogged().cloned());
    Ok(loaded)
}

fn decode_commit(message: &StoredMessage) -> Result<Vec<StoredEvent>, LoadError> {
    codec::decode(&message.subject, message.position, &message.payload)
        .map_err(|error| LoadError::Corrupt(error.to_string()))
}

/// Folds one commit in.
fn fold<A: Aggregate>(
    loaded: &mut Loaded<A>,
    position: u64,
    events: &[StoredEvent],
) -> Result<(), LoadError> {
    for stored in events {
        let event = decode_event::<A>(&stored.recorded.event_type, &stored.recorded.data)
            .map_err(|error| LoadError::Corrupt(error.to_string()))?;
        catch_unwind(AssertUnwindSafe(|| loaded.state.evolve(&event)))
            .map_err(|_| LoadError::Corrupt(format!("evolve panicked at {position}")))?;
        loaded.version = stored.recorded.version;
    }
    loaded.memory.add_commit(events);
    loaded.position = position;
    Ok(())
}

fn read_snapshot<A: Aggregate>(body: &Bytes) -> Option<Loaded<A>> {
    let snapshot: Snapshot<A, Memory> = serde_json::from_slice(body).ok()?;
    (snapshot.state_version == A::STATE_VERSION).then_some(Loaded {
        state: snapshot.state,
        version: snapshot.version,
        position: snapshot.position,
        memory: snapshot.memory,
        snapshot_version: snapshot.version,
        remember_after: snapshot.remember_after,
        unlogged: false,
    })
}

/// Writes a snapshot when it is due. Nothing waits for it: one that is lost is made up for by the log.
pub(super) fn snapshot_when_due<A: Aggregate>(desk: &Desk, loaded: &mut Loaded<A>) {
    // A snapshot costs as much as there is to remember, so a busy aggregate takes them more rarely.
    let remembered = loaded.memory.len() as u64;
    if loaded.events_since_snapshot() >= SNAPSHOT_EVERY.max(remembered) {
        actix::spawn(write_snapshot(desk, loaded));
    }
}

/// Takes a snapshot of the state, and writes it when awaited.
pub fn write_snapshot<A: Aggregate>(
    desk: &Desk,
    loaded: &mut Loaded<A>,
) -> impl Future<Output = ()> + 'static {
    let (memory, remember_after) = loaded.memory.for_snapshot(loaded.position);
    let snapshot = Snapshot {
        state_version: A::STATE_VERSION,
        version: loaded.version,
        position: loaded.position,
        state: &loaded.state,
        memory,
        remember_after,
    };
    let body = serde_json::to_vec(&snapshot);
    loaded.snapshot_version = loaded.version;
    loaded.unlogged = false;
    let (log, id) = (desk.log.clone(), desk.id.clone());
    async move {
        match body {
            Ok(body) => log.write_snapshot(A::NAME, id.as_str(), body.into()).await,
            Err(error) => {
                tracing::warn!(aggregate.name = A::NAME, %error, "state does not serialise");
            }
        }
    }
}
