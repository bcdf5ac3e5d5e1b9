//! The memory of an aggregate for its latest commands, so that a retry gets the original outcome.
//!
//! Bounded: at least the last [`KEEP`] commands, and all of the last [`KEEP_FOR`] up to
//! [`KEEP_AT_MOST`]. Only commands whose clients chose a key are remembered so: no other id comes again, but
//! for copies of commands that were passed on, which may come for as long as [`LATE`].
//! It is rebuilt from the log, where every event carries its command's id, and rides along in snapshots.

use super::{
    author::Author,
    is_given_id,
    request::{Outcome, OutcomeEvent},
};
use crate::event_log::codec::{Fingerprint, StoredEvent};
use jiff::Timestamp;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

/// The number of commands that are always remembered.
pub const KEEP: usize = 256;
/// The time every command is remembered, in seconds, within [`KEEP_AT_MOST`].
pub const KEEP_FOR: i64 = 120;
/// The most commands that are ever remembered.
pub const KEEP_AT_MOST: usize = 65_536;

/// The remembered outcome of one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The command's id.
    pub key: Arc<str>,
    /// The fingerprint of its name and body; `None` when it had no key.
    pub hash: Option<Fingerprint>,
    /// The author; `None` when it had no key, or nobody known gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Author>,
    /// The aggregate's version after it.
    pub version: u64,
    /// The position of its commit.
    pub position: u64,
    /// The time when it was accepted, in seconds of the [`LogClock`].
    pub at: i64,
    /// The storage names of its events, in order.
    pub events: Box<[Name]>,
}

impl Remembered {
    /// The outcome as it is answered first.
    #[must_use]
    pub fn first_outcome(&self, aggregate: &'static str, id: Arc<str>) -> Outcome {
        Outcome {
            replayed: false,
            ..self.outcome(aggregate, id)
        }
    }

    /// The outcome as it was answered first, marked as replayed.
    #[must_use]
    pub fn outcome(&self, aggregate: &'static str, id: Arc<str>) -> Outcome {
        let first = self.version - self.events.len() as u64 + 1;
        Outcome {
            aggregate: aggregate.into(),
            id,
            version: self.version,
            position: self.position,
            events: (first..)
                .zip(&self.events)
                .map(|(version, name)| OutcomeEvent {
                    r#type: name.0.clone(),
                    version,
                })
                .collect(),
            replayed: true,
        }
    }
}

/// The time by which an aggregate forgets, in seconds: the server's time of a commit, and from there on as
/// it passes in this process. It depends on no replica's clock, and on no two clocks being alike.
#[derive(Debug, Clone, Copy)]
pub struct LogClock {
    base: i64,
    since: Instant,
    /// The time when the latest commit was stored.
    last_commit: i64,
}

impl LogClock {
    /// The clock of an aggregate whose latest commit the server stored at this time.
    #[must_use]
    pub fn at(time: i64) -> Self {
        Self {
            base: time,
            since: Instant::now(),
            last_commit: time,
        }
    }

    /// The clock of an aggregate without a commit. Its times are compared with each other alone.
    #[must_use]
    pub fn unknown() -> Self {
        Self::at(Timestamp::now().as_second())
    }

    /// The time now, or an earlier one: what passed before the load is not known.
    #[must_use]
    pub fn now(&self) -> i64 {
        let passed = self.since.elapsed().as_secs();
        self.base.saturating_add_unsigned(passed)
    }

    /// The time at which the latest commit was stored.
    #[must_use]
    pub fn last_commit(&self) -> i64 {
        self.last_commit
    }

    /// Notes that a commit was stored just now.
    pub fn committed(&mut self) {
        self.last_commit = self.now();
    }
}

/// The outcomes of the commands of one commit, which the server stored at this time.
#[must_use]
pub fn outcomes_of(events: &[StoredEvent], time: i64) -> Vec<Remembered> {
    let commands = events.chunk_by(|a, b| a.recorded.command_id == b.recorded.command_id);
    let outcome = |command: &[StoredEvent]| {
        let last = &command[command.len() - 1];
        Remembered {
            key: last.recorded.command_id.as_str().into(),
            hash: last.command_hash,
            by: last
                .command_hash
                .and(last.recorded.caller_id.as_deref())
                .map(Author::of),
            version: last.recorded.version,
            position: last.recorded.position,
            at: time,
            events: command
                .iter()
                .map(|event| Name::of(&event.recorded.event_type))
                .collect(),
        }
    };
    commands.map(outcome).collect()
}

/// The time a copy of a command that was passed on may come after another copy was carried out:
/// twice what a command is carried out after its arrival.
pub const LATE: Duration = Duration::from_secs(20);
/// The most commands without a key of which copies are known.
const LATE_AT_MOST: usize = 4_096;

/// The commands without a key that were passed on not long ago.
#[derive(Debug, Clone, Default)]
struct PassedOn {
    /// The time when each was added, oldest first.
    order: VecDeque<(i64, Arc<str>)>,
    known: HashMap<Arc<str>, Remembered>,
}

impl PassedOn {
    fn add(&mut self, remembered: Remembered, now: i64) {
        self.order.push_back((now, remembered.key.clone()));
        self.known.insert(remembered.key.clone(), remembered);
        while self.order.len() > LATE_AT_MOST
            || (self.order.front())
                .is_some_and(|(at, _)| *at < now.saturating_sub_unsigned(LATE.as_secs()))
        {
            if let Some((_, key)) = self.order.pop_front() {
                self.known.remove(&key);
            }
        }
    }
}

/// The commands that one aggregate remembers, oldest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "VecDeque<Remembered>", into = "VecDeque<Remembered>")]
pub struct Memory {
    commands: VecDeque<Remembered>,
    /// The number of commands that have been forgotten: the number of the first in `commands`.
    forgotten: u64,
    /// From the hash of a key to the number of its command. Kept once a scan would be slow.
    numbers: FxHashMap<u64, u64>,
    passed_on: PassedOn,
}

/// Up to this many commands go into a snapshot: some 100 KiB.
const SNAPSHOT: usize = 512;

/// Up to this many commands a scan is as good as an index, and an idle aggregate stays small.
const SCANNED: usize = 16;

impl Memory {
    /// The remembered outcome of the command with this id.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Remembered> {
        if is_given_id(key)
            && let Some(passed_on) = self.passed_on.known.get(key)
        {
            return Some(passed_on);
        }
        if self.commands.len() > SCANNED {
            let number = self.numbers.get(&hash_of(key))?;
            let found = self
                .commands
                .get(usize::try_from(number - self.forgotten).ok()?)?;
            if *found.key == *key {
                return Some(found);
            }
            // Two keys share a hash: only a scan can tell.
        }
        self.commands
            .iter()
            .rev()
            .find(|remembered| *remembered.key == *key)
    }

    /// Remembers a command whose client chose its key, and forgets those that need no longer be
    /// remembered.
    pub fn add(&mut self, remembered: Remembered, now: i64) {
        if remembered.hash.is_none() {
            if is_given_id(&remembered.key) && !remembered.events.is_empty() {
                self.passed_on.add(remembered, now);
            }
            return;
        }
        self.commands.push_back(remembered);
        if self.commands.len() == SCANNED + 1 {
            self.index();
        } else if self.commands.len() > SCANNED {
            let newest = &self.commands[self.commands.len() - 1];
            let number = self.forgotten + self.commands.len() as u64 - 1;
            self.numbers.insert(hash_of(&newest.key), number);
        }
        let horizon = now - KEEP_FOR;
        while self.commands.len() > KEEP
            && (self.commands.len() > KEEP_AT_MOST
                || self
                    .commands
                    .front()
                    .is_some_and(|first| first.at < horizon))
        {
            if let Some(oldest) = self.commands.pop_front() {
                let hash = hash_of(&oldest.key);
                if self.numbers.get(&hash) == Some(&self.forgotten) {
                    self.numbers.remove(&hash);
                }
                self.forgotten += 1;
            }
        }
    }

    /// Returns how many commands are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Returns whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Returns what of the memory goes into a snapshot taken at `position`, and the position after which
    /// the log has the rest.
    ///
    /// A busy aggregate remembers far more than a message holds. Most of it is in the log too, so the
    /// snapshot then says from where on to read it again, and holds only what is not.
    #[must_use]
    pub fn for_snapshot(&self, position: u64) -> (Cow<'_, Self>, u64) {
        match self.commands.front() {
            Some(oldest) if self.commands.len() > SNAPSHOT => {
                let unlogged: VecDeque<_> = self.unlogged().rev().take(SNAPSHOT).cloned().collect();
                let mut memory = Self::default();
                memory.add_unlogged(unlogged);
                (Cow::Owned(memory), oldest.position.saturating_sub(1))
            }
            _ => (Cow::Borrowed(self), position),
        }
    }

    /// Returns what the log does not have: the commands that were accepted without events.
    pub fn unlogged(&self) -> impl DoubleEndedIterator<Item = &Remembered> {
        let commands = self.commands.iter();
        commands.filter(|remembered| remembered.events.is_empty())
    }

    /// Remembers again what the log does not have, each where it belongs.
    pub fn add_unlogged(&mut self, unlogged: impl IntoIterator<Item = Remembered>) {
        let before = self.commands.len();
        for remembered in unlogged {
            if self.find(&remembered.key).is_none() {
                self.commands.push_back(remembered);
            }
        }
        if self.commands.len() > before {
            let place = |one: &Remembered| (one.position, one.events.is_empty(), one.at);
            self.commands.make_contiguous().sort_by_key(place);
            self.index();
        }
    }

    fn index(&mut self) {
        if self.commands.len() <= SCANNED {
            return;
        }
        self.numbers = (self.forgotten..)
            .zip(&self.commands)
            .map(|(number, remembered)| (hash_of(&remembered.key), number))
            .collect();
    }

    /// Moves all times: from those of another clock to those of this one.
    pub fn shift(&mut self, seconds: i64) {
        for remembered in &mut self.commands {
            remembered.at = remembered.at.saturating_add(seconds);
        }
        for (at, _) in &mut self.passed_on.order {
            *at = at.saturating_add(seconds);
        }
    }
}

fn hash_of(key: &str) -> u64 {
    // Keys are a client's choice, so their hashes must not be.
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    HASHER.hash_one(key)
}

impl From<VecDeque<Remembered>> for Memory {
    fn from(commands: VecDeque<Remembered>) -> Self {
        let (passed_on, commands) = commands
            .into_iter()
            .partition(|one: &Remembered| one.hash.is_none() && is_given_id(&one.key));
        let passed_on: VecDeque<Remembered> = passed_on;
        let mut memory = Self {
            commands,
            ..Self::default()
        };
        for one in passed_on {
            let at = one.at;
            memory.passed_on.add(one, at);
        }
        memory.index();
        memory
    }
}

impl From<Memory> for VecDeque<Remembered> {
    fn from(memory: Memory) -> Self {
        let PassedOn { order, mut known } = memory.passed_on;
        let passed_on = order.iter().filter_map(|(_, key)| known.remove(key));
        let mut all = memory.commands;
        all.extend(passed_on);
        all
    }
}

/// An event's storage name, held once in each thread however many commands are remembered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Name(Arc<str>);

thread_local! {
    static NAMES: RefCell<FxHashSet<Arc<str>>> = RefCell::default();
}
/// Far more names than a program has; past it a name is simply not shared.
const MAX_NAMES: usize = 4096;

impl Name {
    /// The shared copy of a name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        NAMES.with_borrow_mut(|names| {
            if let Some(shared) = names.get(name) {
                return Self(shared.clone());
            }
            let shared: Arc<str> = name.into();
            if names.len() < MAX_NAMES {
                names.insert(shared.clone());
            }
            Self(shared)
        })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        Self::of(&name)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(number: i64) -> Remembered {
        Remembered {
            key: format!("key-{number}").into(),
            hash: Some(Fingerprint(1)),
            by: None,
            version: 1,
            position: 1,
            at: number,
            events: Box::new([Name::of("a.happened.v1")]),
        }
    }

    fn filled(count: i64) -> Memory {
        let mut memory = Memory::default();
        for number in 0..count {
            memory.add(remembered(number), number);
        }
        memory
    }

    #[test]
    fn the_last_256_commands_are_remembered_however_old() {
        let mut memory = filled(256);
        memory.add(remembered(1_000_000), 1_000_000);
        assert!(memory.find("key-0").is_none());
        assert!(memory.find("key-1").is_some());
    }

    #[test]
    fn all_commands_of_the_last_two_minutes_are_remembered() {
        let mut memory = Memory::default();
        for number in 0..5_000 {
            let mut recent = remembered(number);
            recent.at = 900;
            memory.add(recent, 1_000);
        }
        assert!(memory.find("key-0").is_some());
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut memory = Memory::default();
        for number in 0..(KEEP_AT_MOST as i64 + 10) {
            let mut recent = remembered(number);
            recent.at = 1_000;
            memory.add(recent, 1_000);
        }
        assert_eq!(memory.commands.len(), KEEP_AT_MOST);
    }

    #[test]
    fn a_snapshot_holds_a_small_memory_and_points_at_the_log_for_a_large_one() {
        let small = filled(256);
        let (memory, after) = small.for_snapshot(9);
        assert_eq!((memory.len(), after), (256, 9));

        let mut large = Memory::default();
        for number in 0..1_000 {
            let mut recent = remembered(number);
            recent.at = 1_000;
            recent.position = 50 + number as u64 / 10;
            large.add(recent, 1_000);
        }
        let (memory, after) = large.for_snapshot(149);
        assert_eq!((memory.len(), after), (0, 49));
    }

    #[test]
    fn a_snapshot_of_a_large_memory_holds_what_the_log_does_not() {
        let mut large = Memory::default();
        for number in 0..1_000 {
            let mut recent = remembered(number);
            recent.at = 1_000;
            recent.position = 1 + number as u64;
            if number % 100 == 50 {
                recent.events = Box::new([]);
            }
            large.add(recent, 1_000);
        }
        let (memory, _) = large.for_snapshot(1_000);
        assert_eq!(memory.len(), 10);
        assert!(memory.find("key-950").is_some());
        let mut read_again = filled(600);
        read_again.add_unlogged(memory.unlogged().cloned());
        // Three of the ten are among the last 256 that were read again.
        assert_eq!(read_again.len(), 256 + 7);
        assert!(read_again.find("key-950").is_some());
        assert!(read_again.find("key-599").is_some());
    }

    #[test]
    fn a_remembered_outcome_has_the_versions_of_its_events() {
        let two = Remembered {
            version: 7,
            events: Box::new([Name::of("a.x.v1"), Name::of("a.y.v1")]),
            ..remembered(1)
        };
        let versions: Vec<u64> = two
            .outcome("a", "1".into())
            .events
            .iter()
            .map(|e| e.version)
            .collect();
        assert_eq!(versions, [6, 7]);
    }

    #[test]
    fn a_command_without_a_key_is_not_remembered() {
        let mut memory = filled(256);
        let keyless = Remembered {
            hash: None,
            ..remembered(300)
        };
        memory.add(keyless, 300);
        assert!(memory.find("key-300").is_none());
        assert!(memory.find("key-0").is_some());
    }

    /// One replica's clock is ten minutes ahead: its commits say so, and the server's time does not.
    #[test]
    fn a_clock_that_jumps_makes_nothing_forgotten() {
        let time = 1_800_000_000;
        let event = |key: String, said: i64| StoredEvent {
            command_hash: Some(Fingerprint(1)),
            claims: Vec::new(),
            recorded: crate::recorded::Recorded {
                aggregate: "a".to_owned(),
                id: "1".to_owned(),
                event_type: "a.happened.v1".to_owned(),
                version: 1,
                position: 1,
                time: Timestamp::from_second(said).unwrap(),
                correlation_id: key.clone(),
                causation_id: key.clone(),
                command_id: key,
                caller_id: None,
                data: serde_json::value::RawValue::from_string("{}".to_owned())
                    .unwrap()
                    .into(),
            },
        };
        let mut memory = Memory::default();
        for number in 0..400 {
            let said = if number == 399 { time + 600 } else { time };
            let events = [event(format!("key-{number}"), said)];
            for outcome in outcomes_of(&events, time + number / 10) {
                memory.add(outcome, time + number / 10);
            }
        }
        assert!(memory.find("key-20").is_some());
        let mut clock = LogClock::at(time + 40);
        assert!((time + 40..time + 45).contains(&clock.now()));
        clock.committed();
        assert!(clock.last_commit() >= time + 40);
    }

    #[test]
    fn a_copy_of_a_command_that_was_passed_on_is_known_for_a_while() {
        let given = |number: i64| Remembered {
            key: crate::command::given_id(),
            hash: None,
            ..remembered(number)
        };
        let mut memory = Memory::default();
        let (early, late) = (given(100), given(110));
        memory.add(early.clone(), 100);
        memory.add(late.clone(), 110);
        assert!(memory.find(&early.key).is_some());
        let stored = serde_json::to_string(&memory).unwrap();
        let mut read: Memory = serde_json::from_str(&stored).unwrap();
        assert!(read.find(&early.key).is_some() && read.is_empty());
        read.add(given(121), 121);
        assert!(read.find(&early.key).is_none());
        assert!(read.find(&late.key).is_some());
    }
}
