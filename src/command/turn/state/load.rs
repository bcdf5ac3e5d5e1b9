//! One load: from a snapshot, or from the beginning, over all commits to the last.

use super::{Loaded, Snapshot, Sought, read_snapshot};
use crate::{
    aggregate::Aggregate,
    command::{
        memory::{LogClock, Memory, Remembered, outcomes_of},
        turn::Desk,
    },
    event_log::{
        Epoch, LoadError, Place, StoredMessage,
        codec::{self, StoredEvent},
        exclusion::{Exclusions, OtherVersions},
    },
    recorded::decode_event,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering,
};

/// The number of times that one request of a load is made before the load is given up.
const READS: usize = 3;

/// The reason why a fold cannot go on.
pub(super) enum LoadFault {
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
    pub(super) fn is_lasting(&self) -> bool {
        let failed = |error: &LoadError| matches!(error, LoadError::Unreadable { .. });
        match self {
            Self::Foreign(_) | Self::Excluded => true,
            Self::Failed(error) => failed(error),
        }
    }

    pub(super) fn into_error(self) -> LoadError {
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

/// A fold under way.
struct Begun<A> {
    loaded: Loaded<A>,
    /// The position that the snapshot was made at; 0 without one.
    made_at: u64,
    /// The position up to which the log has been read.
    after: u64,
    /// Commands of commits after this one are remembered.
    remember_after: u64,
    /// The commit that the snapshot was made of, until it has been met, and the time when it was written.
    base: Option<(Place, i64)>,
    /// The outcomes that only the snapshot has.
    unlogged: Vec<Remembered>,
}

impl<A> Begun<A> {
    /// Makes sure that the commit that the snapshot was made of is the one that stands in the log.
    fn meet(&mut self, message: &StoredMessage) -> Result<(), LoadFault> {
        let Some((place, time)) = self.base else {
            return Ok(());
        };
        if message.position < place.position {
            return Ok(());
        }
        if Place::of(message) != place {
            return Err(LoadFault::Foreign(message.position));
        }
        // From the time of who wrote the snapshot to that of the log.
        let shift = message.time - time;
        self.loaded.memory.shift(shift);
        self.unlogged.iter_mut().for_each(|one| one.at += shift);
        self.base = None;
        Ok(())
    }
}

/// One load.
pub(super) struct Load<'a> {
    pub desk: &'a Desk,
    pub subject: &'a str,
    pub last: &'a StoredMessage,
    pub epoch: Epoch,
    pub sought: &'a mut Sought,
    /// The exclusions of the aggregate; `None` while there was no need to look them up.
    pub exclusions: Option<Exclusions>,
    /// The place that the next commit may follow on, beside the version of the state.
    pub other_versions: OtherVersions,
}

impl Load<'_> {
    /// Folds the aggregate from its snapshot, or without it where it is not of this log.
    pub(super) async fn fold<A: Aggregate>(
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
    pub(super) async fn learn_exclusions(&mut self, aggregate: &str) -> Result<bool, LoadError> {
        if self.exclusions.is_some() {
            return Ok(false);
        }
        let found = self.desk.log.exclusions(aggregate, self.desk.id.as_str());
        let found = found.await?;
        let learnt = !found.is_empty();
        self.exclusions = Some(found);
        Ok(learnt)
    }

    /// Folds the aggregate from this snapshot, or from the beginning.
    async fn from<A: Aggregate>(
        &mut self,
        snapshot: Option<Snapshot<A, Memory>>,
    ) -> Result<Loaded<A>, LoadFault> {
        let end = self.last.position;
        self.other_versions = OtherVersions::default();
        let mut begun = self.begin(snapshot);
        while begun.after < end {
            let messages = if begun.after + 1 == end {
                vec![self.last.clone()]
            } else {
                self.read(begun.after).await?
            };
            let Some(latest) = messages.last() else {
                break;
            };
            begun.after = latest.position;
            for message in &messages {
                begun.meet(message)?;
                let is_notice = self.take(&mut begun.loaded, message, begun.remember_after)?;
                if is_notice && message.position > begun.made_at {
                    self.heed(message, begun.made_at, A::NAME).await?;
                }
            }
        }
        let Begun {
            mut loaded,
            unlogged,
            base,
            ..
        } = begun;
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

    /// Takes over what a snapshot holds.
    fn begin<A: Aggregate>(&self, snapshot: Option<Snapshot<A, Memory>>) -> Begun<A> {
        let mut begun = Begun {
            loaded: Loaded::empty(self.epoch),
            made_at: 0,
            after: 0,
            remember_after: 0,
            base: None,
            unlogged: Vec::new(),
        };
        let Some(snapshot) = snapshot else {
            return begun;
        };
        let loaded = &mut begun.loaded;
        loaded.state = snapshot.state;
        loaded.version = snapshot.version;
        loaded.place = snapshot.place;
        loaded
            .saved
            .version
            .store(snapshot.version, Ordering::Release);
        loaded.tried = snapshot.version;
        begun.made_at = snapshot.place.position;
        begun.remember_after = snapshot.remember_after;
        // The commit that it was made of is read too, to see that it is there.
        begun.after = snapshot.remember_after.min(snapshot.place.position - 1);
        if let Some(after) = self.sought.after {
            begun.after = begun.after.min(after);
        }
        if snapshot.remember_after < snapshot.place.position {
            // What the snapshot remembers comes in between what is read again.
            begun.unlogged = snapshot.memory.unlogged().cloned().collect();
        } else {
            loaded.memory = snapshot.memory;
        }
        begun.base = Some((snapshot.place, snapshot.time));
        begun
    }

    /// Looks up the exclusions that a commit without events may tell of; what has been folded so far may
    /// not stand with them.
    async fn heed(
        &mut self,
        notice: &StoredMessage,
        made_at: u64,
        aggregate: &str,
    ) -> Result<(), LoadFault> {
        if self.learn_exclusions(aggregate).await? {
            return Err(LoadFault::Excluded);
        }
        // The snapshot may have been made before the exclusion.
        if self.exclusions.as_ref().is_some_and(|it| it.reach(made_at)) {
            return Err(LoadFault::Foreign(notice.position));
        }
        Ok(())
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
