//! Commits as they were decoded, shared by the readers of one process.
//!
//! Several views, and processes, of a replica follow the same aggregates, each with a consumer of its own. The
//! first reader that a commit comes to decodes it and leaves it here for the others, who take it where the
//! very message stands there: the same position, the same mark of its body, the same subject. What nobody has
//! taken when its slot is used again is forgotten, and who comes later decodes for itself. So this is never
//! more than a saving: nothing is owed to what it holds.

use super::Mark;
use crate::recorded::Recorded;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The events of a commit, shared by all who read it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Events(Arc<[Recorded]>);

impl std::ops::Deref for Events {
    type Target = [Recorded];

    fn deref(&self) -> &[Recorded] {
        &self.0
    }
}

impl FromIterator<Recorded> for Events {
    fn from_iter<I: IntoIterator<Item = Recorded>>(events: I) -> Self {
        Self(events.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = &'a Recorded;
    type IntoIter = std::slice::Iter<'a, Recorded>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl IntoIterator for Events {
    type Item = Recorded;
    type IntoIter = std::vec::IntoIter<Recorded>;

    /// Copies what it hands out, since others may hold it.
    fn into_iter(self) -> Self::IntoIter {
        Vec::from(&*self.0).into_iter()
    }
}

/// The number of commits that are held at most, each in the slot of its position. More than a view that keeps up
/// is behind another one that does.
const SLOTS: usize = 8_192;
/// The bytes of their bodies that are held at most. Decoded, a commit takes some three times its body.
const BYTES: usize = 4 << 20;

/// Decoded commits, and who is to take them.
pub(super) struct DecodedCommits {
    slots: Box<[Mutex<Option<Decoded>>]>,
    bytes: AtomicUsize,
    followers: Mutex<HashMap<(String, String), Arc<AtomicUsize>>>,
    /// The number of commits that were decoded for readers, and of those that were taken from here.
    counts: [AtomicUsize; 2],
}

struct Decoded {
    position: u64,
    mark: Mark,
    bytes: usize,
    /// The number of readers that have still to come for it.
    left: usize,
    events: Events,
}

impl Default for DecodedCommits {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Mutex::default()).collect(),
            bytes: AtomicUsize::new(0),
            followers: Mutex::default(),
            counts: Default::default(),
        }
    }
}

impl std::fmt::Debug for DecodedCommits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DecodedCommits")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl DecodedCommits {
    /// Counts a reader of these aggregates until it is dropped.
    pub(super) fn follow(self: &Arc<Self>, stream: &str, aggregates: &[String]) -> Following {
        let mut followers = self
            .followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let counts = aggregates.iter().map(|aggregate| {
            let key = (stream.to_owned(), aggregate.clone());
            let count = Arc::clone(followers.entry(key).or_default());
            count.fetch_add(1, Ordering::Relaxed);
            (aggregate.clone(), count)
        });
        Following {
            counts: counts.collect(),
            decoded: Arc::clone(self),
        }
    }

    /// Returns how many commits readers have decoded, and how many they have taken from here.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize) {
        let [decoded, taken] = &self.counts;
        (
            decoded.load(Ordering::Relaxed),
            taken.load(Ordering::Relaxed),
        )
    }

    fn slot(&self, position: u64) -> &Mutex<Option<Decoded>> {
        &self.slots[(position % SLOTS as u64) as usize]
    }

    /// Takes the events of the commit that has this position, mark and subject, if they are here.
    fn take(&self, position: u64, mark: Mark, of: (&str, &str)) -> Option<Events> {
        let mut slot = self
            .slot(position)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let found = slot.as_mut()?;
        // The mark is that of the body, which names the aggregate too; a commit is here only where it has events.
        let first = found.events.first()?;
        let same = (found.position, found.mark) == (position, mark)
            && (first.aggregate.as_str(), first.id.as_str()) == of;
        if !same {
            return None;
        }
        found.left -= 1;
        if found.left > 0 {
            return Some(found.events.clone());
        }
        let found = slot.take()?;
        self.bytes.fetch_sub(found.bytes, Ordering::Relaxed);
        Some(found.events)
    }

    /// Leaves a commit to other readers, if there is room for it.
    fn leave(&self, commit: Decoded) {
        let mut slot = self
            .slot(commit.position)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Of two readers that decode it at the same time the second has nothing to leave.
        let there =
            |other: &Decoded| (other.position, other.mark) == (commit.position, commit.mark);
        if slot.as_ref().is_some_and(there) {
            return;
        }
        if let Some(before) = slot.take() {
            self.bytes.fetch_sub(before.bytes, Ordering::Relaxed);
        }
        if self.bytes.load(Ordering::Relaxed) + commit.bytes <= BYTES {
            self.bytes.fetch_add(commit.bytes, Ordering::Relaxed);
            *slot = Some(commit);
        }
    }
}

/// A reader's part in the decoded commits.
pub(super) struct Following {
    /// The number of readers of each aggregate that this one follows.
    counts: Vec<(String, Arc<AtomicUsize>)>,
    decoded: Arc<DecodedCommits>,
}

impl Following {
    /// The events of a commit with a body of so many bytes: as another reader has decoded them, or as `decode` does.
    pub(super) fn events(
        &self,
        (position, mark): (u64, Mark),
        (aggregate, id): (&str, &str),
        bytes: usize,
        decode: impl FnOnce() -> Result<Events, String>,
    ) -> Result<Events, String> {
        let [decodings, takings] = &self.decoded.counts;
        let mut counts = self.counts.iter();
        let count = counts.find(|(followed, _)| followed == aggregate);
        let others = count.map_or(0, |(_, count)| {
            count.load(Ordering::Relaxed).saturating_sub(1)
        });
        if others > 0
            && let Some(events) = self.decoded.take(position, mark, (aggregate, id))
        {
            takings.fetch_add(1, Ordering::Relaxed);
            return Ok(events);
        }
        decodings.fetch_add(1, Ordering::Relaxed);
        let events = decode()?;
        if others > 0 && !events.is_empty() {
            self.decoded.leave(Decoded {
                position,
                mark,
                bytes,
                left: others,
                events: events.clone(),
            });
        }
        Ok(events)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        for (_, count) in &self.counts {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{aggregate::Aggregate, mart::stock::Stock, testkit::Log};
    use std::cell::Cell;

    fn event(id: &str) -> Recorded {
        use crate::mart::stock::Event;
        let received = Event::Received {
            quantity: 1,
            available: 1,
        };
        let log = Log::new().add::<Stock>(id, [received]);
        log.events()[0].clone()
    }

    struct World {
        decoded: Arc<DecodedCommits>,
        decodings: Cell<usize>,
    }

    impl World {
        fn new() -> Self {
            Self {
                decoded: Arc::default(),
                decodings: Cell::new(0),
            }
        }

        fn reader(&self) -> Following {
            self.decoded.follow("EVENTS", &[Stock::NAME.to_owned()])
        }

        /// Reads a message on the subject of this id, as a reader does.
        fn read(
            &self,
            reader: &Following,
            position: u64,
            body: &str,
            id: &str,
        ) -> Result<Events, String> {
            let mark = Mark::of(body.as_bytes());
            reader.events((position, mark), (Stock::NAME, id), body.len(), || {
                self.decodings.set(self.decodings.get() + 1);
                Ok([event(id)].into_iter().collect())
            })
        }
    }

    #[test]
    fn a_commit_is_decoded_once_for_all_who_follow_it_and_is_not_held_longer() {
        let world = World::new();
        let readers = [world.reader(), world.reader(), world.reader()];
        for reader in &readers {
            let events = world.read(reader, 7, "body", "b_1").unwrap();
            assert_eq!(events[0].id, "b_1");
        }
        assert_eq!((world.decodings.get(), world.decoded.counts()), (1, (1, 2)));
        assert_eq!(world.decoded.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_stands_there_in_another_log_is_decoded_anew() {
        let world = World::new();
        let (one, other) = (world.reader(), world.reader());
        world.read(&one, 7, "body", "b_1").unwrap();
        world.read(&other, 7, "another body", "b_1").unwrap();
        world.read(&one, 7, "another body", "b_2").unwrap();
        assert_eq!(world.decodings.get(), 3);
    }

    #[test]
    fn who_follows_alone_leaves_nothing() {
        let world = World::new();
        let alone = world.reader();
        drop(world.reader());
        world.read(&alone, 7, "body", "b_1").unwrap();
        world.read(&alone, 7, "body", "b_1").unwrap();
        assert_eq!(world.decodings.get(), 2);
        assert_eq!(world.decoded.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_nobody_comes_for_is_bounded() {
        let world = World::new();
        let (one, _other) = (world.reader(), world.reader());
        let body = "b".repeat(64 << 10);
        for position in 0..3 * SLOTS as u64 {
            world.read(&one, position, &body, "b_1").unwrap();
            assert!(world.decoded.bytes.load(Ordering::Relaxed) <= BYTES);
        }
        let held = world.decoded.slots.iter();
        let held = held.filter(|slot| slot.lock().unwrap().is_some()).count();
        assert_eq!(held, BYTES / body.len());
    }

    #[test]
    fn a_commit_that_cannot_be_read_is_not_shared() {
        let world = World::new();
        let readers = [world.reader(), world.reader()];
        for reader in &readers {
            let place = (7, Mark::of(b"body"));
            let unread = || Err("it is no commit".to_owned());
            let events = reader.events(place, (Stock::NAME, "b_1"), 4, unread);
            assert_eq!(events.unwrap_err(), "it is no commit");
        }
        assert_eq!(world.decoded.counts(), (2, 0));
    }
}
