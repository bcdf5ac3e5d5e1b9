//! An aggregate's state: folded from its snapshot and the log, and written as a snapshot.
//!
//! A snapshot is used only where the very commit that it was made of stands in this log, and versions
//! that do not follow each other are never folded over: a log may have been cut, restored or replaced.
//! Only what an operator has excluded is passed over. Its exclusions are looked up where something cannot be
//! read, and where a commit without events says that there may be some.

mod load;

use super::Desk;
use crate::{
    aggregate::Aggregate,
    command::memory::{LogClock, Memory, Remembered},
    event_log::{
        Epoch, LoadError, Mark, Place, exclusion::OtherVersions, snapshot::SnapshotError, subject,
    },
};
use load::{Load, LoadFault};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A snapshot is written when this many events have been folded since the last: as many as a load
/// reads with one request.
const SNAPSHOT_EVERY: u64 = 256;
/// Passivation writes a snapshot when it saves a later load at least this many events.
const WORTH_A_SNAPSHOT: u64 = 20;

/// An aggregate's state as folded from the log.
pub struct Loaded<A> {
    pub(super) state: A,
    pub(super) version: u64,
    /// The last commit folded in.
    pub(super) place: Place,
    /// The time when the last commit was known to stand in the log.
    pub(super) epoch: Epoch,
    pub(super) memory: Memory,
    /// The log's time.
    pub(super) clock: LogClock,
    /// The number of outcomes that were remembered that the log does not have.
    unlogged: u64,
    saved: Arc<Saved>,
    /// The version at which a snapshot was tried last.
    tried: u64,
}

/// The contents of the latest snapshot that was surely written.
#[derive(Debug, Default)]
struct Saved {
    version: AtomicU64,
    unlogged: AtomicU64,
}

impl<A> Loaded<A> {
    /// Returns whether the aggregate would lose, or be slow to find again, what no snapshot holds.
    #[must_use]
    pub fn is_worth_a_snapshot(&self) -> bool {
        self.has_unsaved_outcomes() || self.events_since_snapshot() >= WORTH_A_SNAPSHOT
    }

    /// Returns whether neither the log nor a snapshot has something that is remembered.
    #[must_use]
    pub fn has_unsaved_outcomes(&self) -> bool {
        self.unlogged > self.saved.unlogged.load(Ordering::Acquire)
    }

    fn events_since_snapshot(&self) -> u64 {
        let saved = self.saved.version.load(Ordering::Acquire);
        self.version.saturating_sub(saved)
    }

    /// Remembers the outcome of a command that was just accepted.
    pub(super) fn remember(&mut self, remembered: Remembered) {
        self.unlogged += u64::from(remembered.events.is_empty() && remembered.hash.is_some());
        // It is of this clock, and of just now.
        let now = remembered.at;
        self.memory.add(remembered, now);
    }

    /// Remembers again what was carried over from a state that has been thrown away.
    pub(super) fn remember_again(&mut self, unlogged: Vec<Remembered>) {
        self.unlogged += unlogged.len() as u64;
        self.memory.add_unlogged(unlogged);
    }
}

impl<A: Default> Loaded<A> {
    /// The state before the first event.
    fn empty(epoch: Epoch) -> Self {
        Self {
            state: A::default(),
            version: 0,
            place: Place::default(),
            epoch,
            memory: Memory::default(),
            clock: LogClock::unknown(),
            unlogged: 0,
            saved: Arc::default(),
            tried: 0,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Snapshot<S, M> {
    state_version: u32,
    version: u64,
    /// The last commit folded in.
    place: Place,
    /// The log's time when it was written, as `memory` has it, and when that commit was stored.
    time: i64,
    state: S,
    memory: M,
    /// The commits after this one and up to `place` are read again for the commands that they
    /// remember, which were too many for the snapshot.
    remember_after: u64,
}

/// Commands whose commits may stand in the log without this state knowing it.
#[derive(Debug, Default)]
pub(super) struct Sought {
    /// They can stand only after this position; nothing is sought where there is none.
    pub after: Option<u64>,
    /// Their ids.
    pub ids: FxHashSet<Arc<str>>,
    /// Those that were found.
    pub found: FxHashMap<Arc<str>, Remembered>,
}

impl Sought {
    /// Looks through one commit.
    fn look_at(&mut self, position: u64, commands: &[Remembered]) {
        if self.after.is_none_or(|after| position <= after) {
            return;
        }
        let own = commands.iter().filter(|one| self.ids.contains(&one.key));
        let own: Vec<_> = own.map(|one| (one.key.clone(), one.clone())).collect();
        self.found.extend(own);
    }
}

/// Reads through the stream leader where the aggregate's last commit stands.
pub(super) async fn last_place(desk: &Desk, aggregate: &str) -> Result<Place, LoadError> {
    let subject = subject::events_of(aggregate, &desk.id);
    let last = desk.log.last_message(&subject).await?;
    Ok(last.as_ref().map_or(Place::default(), Place::of))
}

/// Returns whether the log still has the commit that a state in memory was folded up to.
pub(super) async fn is_of_this_log<A: Aggregate>(
    desk: &Desk,
    loaded: &mut Loaded<A>,
) -> Result<bool, LoadError> {
    let epoch = desk.log.epoch();
    if loaded.epoch == epoch {
        return Ok(true);
    }
    if loaded.place.position == 0 {
        // It costs nothing to begin again, and what is remembered may be of another log.
        return Ok(false);
    }
    let subject = subject::events_of(A::NAME, &desk.id);
    let same = desk.log.still_has(&subject, loaded.place).await?;
    loaded.epoch = epoch;
    Ok(same)
}

/// Folds the aggregate: its snapshot, then the commits after it; and looks for commands on the way.
///
/// Up to the leader's last commit when it is asked for. Otherwise up to the last one at hand, which
/// costs less and is almost always the same: where it is not, the append is refused, and whatever
/// appends nothing asks the leader.
pub(super) async fn load<A: Aggregate>(
    desk: &Desk,
    from_leader: bool,
    sought: &mut Sought,
) -> Result<Loaded<A>, LoadError> {
    let epoch = desk.log.epoch();
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
    let Some(last) = last? else {
        // What a snapshot remembers of an aggregate without a commit may be of another log.
        return Ok(Loaded::empty(epoch));
    };
    let mut load = Load {
        desk,
        subject: &subject,
        last: &last,
        epoch,
        sought,
        exclusions: None,
        other_versions: OtherVersions::default(),
    };
    let mut loaded = load.fold::<A>(snapshot.as_deref()).await;
    let again = match &loaded {
        Err(LoadFault::Excluded) => true,
        Err(fault) if fault.is_lasting() => load.learn_exclusions(A::NAME).await?,
        _ => false,
    };
    if again {
        loaded = load.fold(snapshot.as_deref()).await;
    }
    loaded.map_err(LoadFault::into_error)
}

fn read_snapshot<A: Aggregate>(body: &[u8]) -> Option<Snapshot<A, Memory>> {
    let snapshot: Snapshot<A, Memory> = serde_json::from_slice(body).ok()?;
    (snapshot.state_version == A::STATE_VERSION).then_some(snapshot)
}

impl<A: Aggregate> Loaded<A> {
    /// Notes that a commit of these bytes was stored.
    pub(super) fn stored(&mut self, position: u64, mark: Mark) {
        self.place = Place { position, mark };
    }
}

/// Writes a snapshot when it is due. Nothing waits for it: one that is lost is made up for by the log.
pub(super) fn snapshot_when_due<A: Aggregate>(desk: &Desk, loaded: &mut Loaded<A>) {
    // A snapshot costs as much as there is to remember, so a busy aggregate takes them more rarely. One
    // that was not written is tried again as much later.
    let often = SNAPSHOT_EVERY.max(loaded.memory.len() as u64);
    if loaded.events_since_snapshot() >= often && loaded.version >= loaded.tried + often {
        let writing = write_snapshot(desk, loaded);
        actix::spawn(async move {
            let _ = writing.await;
        });
    }
}

/// Takes a snapshot of the state, and writes it when awaited.
///
/// # Errors
///
/// The future returns [`SnapshotError`] unless the bucket has it; only then it counts as written.
pub fn write_snapshot<A: Aggregate>(
    desk: &Desk,
    loaded: &mut Loaded<A>,
) -> impl Future<Output = Result<(), SnapshotError>> + 'static {
    let (memory, remember_after) = loaded.memory.for_snapshot(loaded.place.position);
    let snapshot = Snapshot {
        state_version: A::STATE_VERSION,
        version: loaded.version,
        place: loaded.place,
        time: loaded.clock.last_commit(),
        state: &loaded.state,
        memory,
        remember_after,
    };
    let body = serde_json::to_vec(&snapshot);
    loaded.tried = loaded.version;
    let (version, unlogged, saved) = (loaded.version, loaded.unlogged, loaded.saved.clone());
    let (log, id) = (desk.log.clone(), desk.id.clone());
    async move {
        let body = body.map_err(|error| SnapshotError::Refused(error.to_string()))?;
        log.write_snapshot(A::NAME, id.as_str(), &body).await?;
        saved.version.fetch_max(version, Ordering::AcqRel);
        saved.unlogged.fetch_max(unlogged, Ordering::AcqRel);
        Ok(())
    }
}
