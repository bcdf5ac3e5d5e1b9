//! An aggregate's state: folded from its snapshot and the log, and written as a snapshot.

use super::Desk;
use crate::{
    aggregate::Aggregate,
    command::memory::Memory,
    event_log::{
        LoadError, StoredMessage,
        codec::{self, StoredEvent},
        subject,
    },
    recorded::decode_event,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A snapshot is written when this many events have been folded since the last.
const SNAPSHOT_EVERY: u64 = 100;
/// Passivation writes a snapshot when it saves a later load at least this many events. An aggregate
/// with fewer has none.
pub const WORTH_A_SNAPSHOT: u64 = 20;

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
}

impl<A> Loaded<A> {
    /// How many events the latest snapshot does not hold.
    #[must_use]
    pub fn events_since_snapshot(&self) -> u64 {
        self.version - self.snapshot_version
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
    let mut loaded = Loaded {
        state: A::default(),
        version: 0,
        position: 0,
        memory: Memory::default(),
        snapshot_version: 0,
        remember_after: 0,
    };
    let last = if from_leader {
        desk.log.last_message(&subject).await?
    } else {
        desk.log.last_message_at_hand(&subject).await?
    };
    let Some(last) = last else {
        return Ok(loaded);
    };
    let events = decode_commit(&last)?;
    if events
        .first()
        .is_some_and(|first| first.recorded.version == 1)
    {
        // The last commit is the only one.
        fold(&mut loaded, last.position, &events)?;
        return Ok(loaded);
    }
    let worth = events
        .last()
        .is_some_and(|event| event.recorded.version >= WORTH_A_SNAPSHOT);
    let snapshot = if worth {
        desk.log.snapshot(A::NAME, desk.id.as_str()).await
    } else {
        None
    };
    if let Some(snapshot) = snapshot.and_then(|body| read_snapshot::<A>(&body))
        && snapshot.position <= last.position
    {
        loaded = snapshot;
    }
    let after = loaded.remember_after;
    for message in desk.log.messages(&subject, after, last.position).await? {
        let events = decode_commit(&message)?;
        if message.position <= loaded.position {
            loaded.memory.add_commit(&events);
        } else {
            fold(&mut loaded, message.position, &events)?;
        }
    }
    if loaded.position != last.position {
        return Err(LoadError::Unavailable(format!(
            "read up to {} of {}",
            loaded.position, last.position
        )));
    }
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
    })
}

pub(super) async fn snapshot_when_due<A: Aggregate>(desk: &Desk, loaded: &mut Loaded<A>) {
    // A snapshot costs as much as there is to remember, so a busy aggregate takes them more rarely.
    let remembered = loaded.memory.len() as u64;
    if loaded.events_since_snapshot() >= SNAPSHOT_EVERY.max(remembered / 2) {
        write_snapshot(desk, loaded).await;
    }
}

/// Writes a snapshot of the state.
pub async fn write_snapshot<A: Aggregate>(desk: &Desk, loaded: &mut Loaded<A>) {
    let (memory, remember_after) = loaded.memory.for_snapshot(loaded.position);
    let snapshot = Snapshot {
        state_version: A::STATE_VERSION,
        version: loaded.version,
        position: loaded.position,
        state: &loaded.state,
        memory,
        remember_after,
    };
    match serde_json::to_vec(&snapshot) {
        Ok(body) => {
            desk.log
                .write_snapshot(A::NAME, desk.id.as_str(), body.into())
                .await;
            loaded.snapshot_version = loaded.version;
        }
        Err(error) => {
            tracing::warn!(aggregate.name = A::NAME, %error, "state does not serialise");
        }
    }
}
