//! An aggregate's state: folded from its snapshot and the log, and written as a snapshot.
//!
//! A snapshot is used only where the very commit that it was made of stands in this log, and versions
//! that do not follow each other are never folded over: a log may have been cut, restored or replaced.
//! Only what an operator has excluded is passed over. Its exclusions are looked up where something cannot be
//! read, and where a commit without events says that there may be some.

use super::Desk;
use crate::{
    aggregate::Aggregate,
    command::memory::{LogClock, Memory, Remembered, outcomes_of},
    event_log::{
        Epoch, LoadError, Mark, Place, StoredMessage,
        codec::{self, StoredEvent},
        exclusion::{Exclusions, OtherVersions},
        snapshot::SnapshotError,
        subject,
    },
    recorded::decode_event,
};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// A snapshot is written when this many events have been folded since the last: as many as a load
/// reads with one request.
const SNAPSHOT_EVERY: u64 = 256;
/// Passivation writes a snapshot when it saves a later load at least this many events.
const WORTH_A_SNAPSHOT: u64 = 20;
/// The number of times that one request of a load is made before the load is given up.
const READS: usize = 3;

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
        self.memory.add(remembered, self.clock.now());
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

/// The reason why a fold cannot go on.
enum LoadFault {
    /// The log is not the one that the snapshot is of, or has a gap before this position.
    Foreign(u64),
    /// There turn out to be exclusions, and something of them may have been folded in.
    Excluded,
    Failed(LoadError),
}

impl From<LoadError> for LoadFault {
    fn from(error: LoadError) -> Self {
        Self::Failed(error)
    }
}

impl LoadFault {
    /// Returns whether the log itself is at fault, so that the next load meets the same.
    fn is_lasting(&self) -> bool {
        let failed = |error: &LoadError| matches!(error, LoadError::Unreadable { .. });
        match self {
            Self::Foreign(_) | Self::Excluded => true,
            Self::Failed(error) => failed(error),
        }
    }

    fn into_error(self) -> LoadError {
        match self {
            Self::Foreign(position) => LoadError::Unreadable {
                position,
                reason: "its version does not follow on the one before".to_owned(),
            },
            Self::Excluded => LoadError::Unavailable("something was excluded".to_owned()),
            Self::Failed(error) => error,
        }
    }
}

/// One load.
struct Load<'a> {
    desk: &'a Desk,
    subject: &'a str,
    last: &'a StoredMessage,
    epoch: Epoch,
    sought: &'a mut Sought,
    /// The exclusions of the aggregate; `None` while there was no need to look them up.
    exclusions: Option<Exclusions>,
    /// The place that the next commit may follow on, beside the version of the state.
    other_versions: OtherVersions,
}

impl Load<'_> {
    /// Folds the aggregate from its snapshot, or without it where it is not of this log.
    async fn fold<A: Aggregate>(
        &mut self,
        snapshot: Option<&[u8]>,
    ) -> Result<Loaded<A>, LoadFault> {
        let snapshot = snapshot.and_then(read_snapshot::<A>);
        let stands = 1..=self.last.position;
        if let Some(snapshot) = snapshot.filter(|it| stands.contains(&it.place.position)) {
            match self.from(Some(snapshot)).await {
                Err(LoadFault::Foreign(_)) => {
                    tracing::info!(aggregate.name = A::NAME, aggregate.id = %self.desk.id, "snapshot of another history ignored");
                }
                loaded => return loaded,
            }
        }
        match self.from::<A>(None).await {
            // A message may have been lost with a connection; the next reading has it.
            Err(LoadFault::Foreign(_)) => self.from(None).await,
            loaded => loaded,
        }
    }

    /// Looks up what is excluded. Returns whether there is something, and it was not known before.
    async fn learn_exclusions(&mut self, aggregate: &str) -> Result<bool, LoadError> {
        if self.exclusions.is_some() {
            return Ok(false);
        }
        let found = self.desk.log.exclusions(aggregate, self.desk.id.as_str());
        let found = found.await?;
        let learnt = !found.is_empty();
        self.exclusions = Some(found);
        Ok(learnt)
    }

    async fn from<A: Aggregate>(
        &mut self,
        snapshot: Option<Snapshot<A, Memory>>,
    ) -> Result<Loaded<A>, LoadFault> {
        let end = self.last.position;
        let mut loaded = Loaded::empty(self.epoch);
        let made_at = snapshot.as_ref().map_or(0, |it| it.place.position);
        self.other_versions = OtherVersions::default();
        let mut begin = 0;
        let mut remember_after = 0;
        let mut base = None;
        let mut unlogged = Vec::new();
        if let Some(snapshot) = snapshot {
            loaded.state = snapshot.state;
            loaded.version = snapshot.version;
            loaded.place = snapshot.place;
            loaded
                .saved
                .version
                .store(snapshot.version, Ordering::Release);
            loaded.tried = snapshot.version;
            remember_after = snapshot.remember_after;
            // The commit that it was made of is read too, to see that it is there.
            begin = remember_after.min(snapshot.place.position - 1);
            if let Some(after) = self.sought.after {
                begin = begin.min(after);
            }
            if remember_after < snapshot.place.position {
                // What the snapshot remembers comes in between what is read again.
                unlogged = snapshot.memory.unlogged().cloned().collect();
            } else {
                loaded.memory = snapshot.memory;
            }
            base = Some((snapshot.place, snapshot.time));
        }
        let mut after = begin;
        while after < end {
            let messages = if after + 1 == end {
                vec![self.last.clone()]
            } else {
                self.read(after).await?
            };
            let Some(latest) = messages.last() else {
                break;
            };
            after = latest.position;
            for message in &messages {
                if let Some((place, time)) = base
                    && message.position >= place.position
                {
                    if Place::of(message) != place {
                        return Err(LoadFault::Foreign(message.position));
                    }
                    // From the time of who wrote the snapshot to that of the log.
                    let shift = message.time - time;
                    loaded.memory.shift(shift);
                    unlogged.iter_mut().for_each(|one| one.at += shift);
                    base = None;
                }
                let is_notice = self.take(&mut loaded, message, remember_after)?;
                if is_notice && message.position > made_at {
                    if self.learn_exclusions(A::NAME).await? {
                        return Err(LoadFault::Excluded);
                    }
                    // The snapshot may have been made before the exclusion.
                    if self.exclusions.as_ref().is_some_and(|it| it.reach(made_at)) {
                        return Err(LoadFault::Foreign(message.position));
                    }
                }
            }
        }
        if base.is_some() || loaded.place.position != end {
            return Err(LoadError::Unavailable(format!(
                "read up to {} of {end}",
                loaded.place.position
            ))
            .into());
        }
        loaded.memory.add_unlogged(unlogged);
        loaded.clock = LogClock::at(self.last.time);
        Ok(loaded)
    }

    /// Reads the next messages; once more where an answer does not come.
    async fn read(&self, after: u64) -> Result<Vec<StoredMessage>, LoadError> {
        let end = self.last.position;
        let mut attempt = 1;
        loop {
            match self.desk.log.next_messages(self.subject, after, end).await {
                Err(error) if error.is_retryable() && attempt < READS => attempt += 1,
                read => return read,
            }
        }
    }

    /// Takes one message in: folds it, or only remembers its commands where the snapshot has the rest.
    /// Returns whether it is a commit without events.
    fn take<A: Aggregate>(
        &mut self,
        loaded: &mut Loaded<A>,
        message: &StoredMessage,
        remember_after: u64,
    ) -> Result<bool, LoadFault> {
        let exclusions = self.exclusions.as_ref();
        if exclusions.is_some_and(|it| it.of(message).is_some()) {
            self.pass_over(loaded, message);
            return Ok(false);
        }
        let events = decode_commit(message)?;
        let commands = outcomes_of(&events, message.time);
        self.sought.look_at(message.position, &commands);
        if message.position > loaded.place.position {
            self.follow(loaded, message, &events)?;
            fold(loaded, message, &events)?;
        }
        if message.position > remember_after {
            for command in commands {
                loaded.memory.add(command, message.time);
            }
        }
        Ok(events.is_empty())
    }

    /// Passes over an excluded message: its position counts, and nothing of what it says but its version.
    fn pass_over<A: Aggregate>(&mut self, loaded: &mut Loaded<A>, message: &StoredMessage) {
        if message.position <= loaded.place.position {
            return;
        }
        loaded.place = Place::of(message);
        let events = decode_commit(message).unwrap_or_default();
        if let Some(last) = events.last() {
            let last = last.recorded.version;
            loaded.version = self.other_versions.pass_over(loaded.version, last);
        }
    }

    /// Makes sure that a commit follows on what comes before it.
    fn follow<A: Aggregate>(
        &mut self,
        loaded: &mut Loaded<A>,
        message: &StoredMessage,
        events: &[StoredEvent],
    ) -> Result<(), LoadFault> {
        if let Some(first) = events.first() {
            let first = first.recorded.version;
            let before = self.other_versions.follow(loaded.version, first);
            loaded.version = before.ok_or(LoadFault::Foreign(message.position))?;
        }
        Ok(())
    }
}

fn decode_commit(message: &StoredMessage) -> Result<Vec<StoredEvent>, LoadError> {
    codec::decode(&message.subject, message.position, &message.payload).map_err(|error| {
        LoadError::Unreadable {
            position: message.position,
            reason: error.to_string(),
        }
    })
}

/// Folds one commit in.
fn fold<A: Aggregate>(
    loaded: &mut Loaded<A>,
    message: &StoredMessage,
    events: &[StoredEvent],
) -> Result<(), LoadFault> {
    let position = message.position;
    let unreadable = |reason: String| LoadError::Unreadable { position, reason };
    for stored in events {
        if stored.recorded.version != loaded.version + 1 {
            return Err(LoadFault::Foreign(position));
        }
        let folded = catch_unwind(AssertUnwindSafe(|| {
            let event = decode_event::<A>(&stored.recorded.event_type, &stored.recorded.data);
            event.map(|event| loaded.state.evolve(&event))
        }));
        folded
            .map_err(|_| unreadable("the aggregate panicked over it".to_owned()))?
            .map_err(|error| unreadable(error.to_string()))?;
        loaded.version += 1;
    }
    loaded.place = Place::of(message);
    Ok(())
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
