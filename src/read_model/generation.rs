//! The generations of a view: which tables it is read from, which are being filled, and which are kept.
//!
//! Pure. Every change of a view's generations is one step of [`Generations`], stored as one record
//! whose revision fences it. Readers know by the revision which of two answers is the newer.

use crate::event_log::LogName;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// One filling of a view's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation {
    /// The version of the view that folds it.
    pub version: u32,
    /// The number that tells it from others of the view; 0 is the first one that the view ever had.
    pub number: u32,
}

impl Generation {
    /// The first one of a view that has none.
    #[must_use]
    pub fn first(version: u32) -> Self {
        Self { version, number: 0 }
    }

    /// Returns what the names of its tables end with.
    pub(super) fn suffix(self) -> String {
        match self.number {
            0 => format!("v{}", self.version),
            number => format!("v{}_g{number}", self.version),
        }
    }
}

/// `v1`, or `v1.2` for one that was filled later.
impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            0 => write!(f, "v{}", self.version),
            number => write!(f, "v{}.{number}", self.version),
        }
    }
}

impl FromStr for Generation {
    type Err = GenerationError;

    fn from_str(text: &str) -> Result<Self, GenerationError> {
        let read = || {
            let text = text.strip_prefix('v')?;
            let (version, number) = text.split_once('.').unwrap_or((text, "0"));
            Some(Self {
                version: version.parse().ok()?,
                number: number.parse().ok()?,
            })
        };
        read().ok_or(GenerationError::Unknown)
    }
}

impl Serialize for Generation {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Generation {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The name of the documents that a view is served from: another one wherever what was read of the
/// view before is not what is read of it now, although the positions may be the same.
///
/// It is made of the log (its name, and the era: which of those that took each other's place under
/// that name), the generation, and how often documents of it were exchanged without the view getting on.
/// Compared as a whole; visible ASCII without quotes and spaces. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Edition(Arc<str>);

impl Edition {
    /// The edition of a generation that has this checkpoint, in this era of the view.
    pub(crate) fn of(generation: Generation, era: u32, log: LogName, exchanges: u32) -> Self {
        Self(format!("{log}.{era}-{generation}-{exchanges}").into())
    }

    /// Returns whether it is the edition of a checkpoint of this log after so many exchanges, as far as that tells.
    pub(crate) fn is_of(&self, log: LogName, exchanges: u64) -> bool {
        let ends = self.0.rsplit_once('-');
        let begins = self.0.split_once('.');
        let exchanged = ends.and_then(|(_, number)| number.parse().ok());
        let named = begins.and_then(|(name, _)| name.parse().ok());
        (named, exchanged) == (Some(log), Some(exchanges))
    }

    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part that names the log, and stays when the view is filled anew from it.
    #[must_use]
    pub fn log(&self) -> &str {
        let log = self.0.split_once('-');
        log.map_or(&self.0, |(log, _)| log)
    }
}

impl Default for Edition {
    /// The edition of nothing.
    fn default() -> Self {
        Self("".into())
    }
}

impl fmt::Display for Edition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The purpose of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GenerationState {
    /// It is what queries are answered from.
    Live,
    /// It is being filled, and takes over when it has caught up.
    Building,
    /// It was live before, and is kept up to date so that it can be again at once.
    Previous,
    /// Its tables are being removed.
    Dropping,
}

/// All generations of one view.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Generations {
    /// The number of their changes: the fence of the next one.
    pub revision: u64,
    /// The number of the next one.
    pub next: u32,
    /// The number that tells the log that they are of from those that it took the place of; 0 for the first.
    #[serde(default)]
    pub era: u32,
    /// Each one and what it is there for.
    pub all: Vec<(Generation, GenerationState)>,
    /// The one that takes over although it has parked what the live one has applied: an operator said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepts_parked: Option<Generation>,
}

impl Generations {
    /// The one in this state. Only of those being removed there may be several.
    #[must_use]
    pub fn find(&self, state: GenerationState) -> Option<Generation> {
        let mut all = self.all.iter();
        all.find(|(_, other)| *other == state)
            .map(|(generation, _)| *generation)
    }

    /// Those being removed.
    pub fn dropping(&self) -> impl Iterator<Item = Generation> {
        let dropping = self
            .all
            .iter()
            .filter(|(_, state)| *state == GenerationState::Dropping);
        dropping.map(|(generation, _)| *generation)
    }

    /// Returns what a program that has the view in this version makes of them: a first one where there is
    /// none, one to fill where all are of older versions. `None` when nothing is to be done.
    #[must_use]
    pub fn joined(&self, version: u32) -> Option<Self> {
        if self.all.is_empty() {
            return Some(self.changed(|next| {
                next.next = next.next.max(1);
                next.all
                    .push((Generation::first(version), GenerationState::Live));
            }));
        }
        let older = self.all.iter().all(|(generation, state)| {
            generation.version < version || *state == GenerationState::Dropping
        });
        older.then(|| {
            self.changed(|next| {
                next.retire(GenerationState::Building);
                next.add(version);
            })
        })
    }

    /// Begins to fill one more.
    ///
    /// # Errors
    ///
    /// Refuses while one is being filled.
    pub fn rebuild(&self, version: u32) -> Result<Self, GenerationError> {
        match self.find(GenerationState::Building) {
            Some(building) => Err(GenerationError::Building(building)),
            None => Ok(self.changed(|next| next.add(version))),
        }
    }

    /// The one that is being filled takes over whatever it has parked.
    ///
    /// # Errors
    ///
    /// Refuses when none is being filled.
    pub fn accept_parked(&self) -> Result<Self, GenerationError> {
        let building = self.find(GenerationState::Building);
        let building = building.ok_or(GenerationError::NotBuilding)?;
        Ok(self.changed(|next| next.accepts_parked = Some(building)))
    }

    /// The filled one goes live; the live one stays as the previous one, and the one before goes.
    ///
    /// # Errors
    ///
    /// Refuses when none is being filled.
    pub fn take_over(&self) -> Result<Self, GenerationError> {
        self.find(GenerationState::Building)
            .ok_or(GenerationError::NotBuilding)?;
        Ok(self.changed(|next| {
            next.retire(GenerationState::Previous);
            next.turn(GenerationState::Live, GenerationState::Previous);
            next.turn(GenerationState::Building, GenerationState::Live);
        }))
    }

    /// The live one and the previous one change places.
    ///
    /// # Errors
    ///
    /// Refuses when there is no previous one.
    pub fn rollback(&self) -> Result<Self, GenerationError> {
        let previous = self
            .find(GenerationState::Previous)
            .ok_or(GenerationError::NoPrevious)?;
        Ok(self.changed(|next| {
            next.turn(GenerationState::Live, GenerationState::Previous);
            for (generation, state) in &mut next.all {
                if *generation == previous {
                    *state = GenerationState::Live;
                }
            }
        }))
    }

    /// Removes one that is not live.
    ///
    /// # Errors
    ///
    /// Refuses the live one, one that is filled because there is no live one, and one that there is not.
    pub fn without(&self, generation: Generation) -> Result<Self, GenerationError> {
        match self.all.iter().find(|(other, _)| *other == generation) {
            Some((_, GenerationState::Live)) => Err(GenerationError::Live(generation)),
            Some((_, GenerationState::Building)) if self.find(GenerationState::Live).is_none() => {
                Err(GenerationError::Only(generation))
            }
            Some(_) => Ok(self.changed(|next| {
                for (other, state) in &mut next.all {
                    if *other == generation {
                        *state = GenerationState::Dropping;
                    }
                }
            })),
            None => Err(GenerationError::Unknown),
        }
    }

    /// These were filled from another log than there is now: they go. Where the live one is among them, one
    /// is filled anew in this version, unless one of the log that there is now is being filled already;
    /// until it takes over there is no live one. `era` tells the log from those before.
    #[must_use]
    pub fn lost(&self, lost: &[Generation], version: u32, era: u32) -> Self {
        self.changed(|next| {
            for (generation, state) in &mut next.all {
                if lost.contains(generation) {
                    *state = GenerationState::Dropping;
                }
            }
            if next.find(GenerationState::Live).is_none() {
                next.era = era;
                if next.find(GenerationState::Building).is_none() {
                    next.add(version);
                }
            }
        })
    }

    /// Forgets one whose tables are gone.
    #[must_use]
    pub fn forgotten(&self, generation: Generation) -> Self {
        self.changed(|next| next.all.retain(|(other, _)| *other != generation))
    }

    fn changed(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut next = self.clone();
        next.revision += 1;
        change(&mut next);
        next
    }

    fn add(&mut self, version: u32) {
        let number = self.next.max(1);
        self.next = number + 1;
        self.all
            .push((Generation { version, number }, GenerationState::Building));
    }

    fn turn(&mut self, from: GenerationState, to: GenerationState) {
        for (_, state) in &mut self.all {
            if *state == from {
                *state = to;
            }
        }
    }

    fn retire(&mut self, state: GenerationState) {
        self.turn(state, GenerationState::Dropping);
    }
}

/// A step that a view's generations do not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GenerationError {
    /// One is being filled already.
    #[error("{0} is being filled already; drop it first to begin again")]
    Building(Generation),
    /// None is being filled.
    #[error("no generation is being filled")]
    NotBuilding,
    /// There is none to go back to.
    #[error("there is no previous generation; another one has to be named")]
    NoPrevious,
    /// The live one cannot be removed.
    #[error("{0} is live")]
    Live(Generation),
    /// There is no live one without it.
    #[error("{0} is filled because the log is another one; there is no other")]
    Only(Generation),
    /// There is no such one.
    #[error("there is no such generation")]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;
    use GenerationState::{Building, Dropping, Live, Previous};

    fn shown(generations: &Generations) -> Vec<(String, GenerationState)> {
        let all = generations.all.iter();
        all.map(|(generation, state)| (generation.to_string(), *state))
            .collect()
    }

    fn row(name: &str, state: GenerationState) -> (String, GenerationState) {
        (name.to_owned(), state)
    }

    #[test]
    fn a_newer_version_is_filled_beside_the_live_one_and_an_older_one_is_not() {
        let first = Generations::default().joined(1).unwrap();
        assert_eq!(shown(&first), [row("v1", Live)]);
        assert_eq!(first.joined(1), None);
        let second = first.joined(2).unwrap();
        assert_eq!(shown(&second), [row("v1", Live), row("v2.1", Building)]);
        assert_eq!(second.joined(1), None);
        let third = second.joined(3).unwrap();
        assert_eq!(
            shown(&third),
            [
                row("v1", Live),
                row("v2.1", Dropping),
                row("v3.2", Building)
            ]
        );
    }

    #[test]
    fn what_was_live_before_is_kept_until_the_next_takes_over() {
        let live = Generations::default().joined(1).unwrap();
        let second = live.rebuild(1).unwrap().take_over().unwrap();
        assert_eq!(shown(&second), [row("v1", Previous), row("v1.1", Live)]);
        let back = second.rollback().unwrap();
        assert_eq!(shown(&back), [row("v1", Live), row("v1.1", Previous)]);
        let third = back.rebuild(1).unwrap().take_over().unwrap();
        assert_eq!(
            shown(&third),
            [
                row("v1", Previous),
                row("v1.1", Dropping),
                row("v1.2", Live)
            ]
        );
        let gone = third.forgotten(Generation {
            version: 1,
            number: 1,
        });
        assert_eq!(shown(&gone), [row("v1", Previous), row("v1.2", Live)]);
    }

    #[test]
    fn what_is_not_there_cannot_be_gone_back_to_and_the_live_one_not_be_dropped() {
        let live = Generations::default().joined(1).unwrap();
        assert_eq!(live.rollback(), Err(GenerationError::NoPrevious));
        assert_eq!(live.take_over(), Err(GenerationError::NotBuilding));
        let first = Generation::first(1);
        assert_eq!(live.without(first), Err(GenerationError::Live(first)));
        assert_eq!(
            live.without(Generation::first(9)),
            Err(GenerationError::Unknown)
        );
        let building = live.rebuild(1).unwrap();
        assert!(building.rebuild(1).is_err());
    }

    #[test]
    fn what_is_of_another_log_goes_and_is_neither_gone_back_to_nor_ever_had_again() {
        let first = Generations::default().joined(1).unwrap();
        let second = first.rebuild(1).unwrap().take_over().unwrap();
        let all = second.all.iter().map(|(generation, _)| *generation);
        let lost = second.lost(&Vec::from_iter(all), 1, 7);
        assert_eq!(
            shown(&lost),
            [
                row("v1", Dropping),
                row("v1.1", Dropping),
                row("v1.2", Building)
            ]
        );
        assert_eq!((lost.era, lost.revision), (7, second.revision + 1));
        assert_eq!(lost.rollback(), Err(GenerationError::NoPrevious));
        let building = lost.find(Building).unwrap();
        assert_eq!(lost.without(building), Err(GenerationError::Only(building)));
        assert!(lost.rebuild(1).is_err());
        let taken = lost.take_over().unwrap();
        assert_eq!(taken.find(Live), Some(building));
        assert_eq!(taken.find(Previous), None);
    }

    #[test]
    fn what_is_filled_from_the_log_that_there_is_goes_on() {
        let first = Generations::default().joined(1).unwrap();
        let building = first.rebuild(1).unwrap();
        let lost = building.lost(&[Generation::first(1)], 1, 7);
        assert_eq!(shown(&lost), [row("v1", Dropping), row("v1.1", Building)]);
        // One that is not read is no reason to begin anew.
        let second = building.take_over().unwrap();
        let lost = second.lost(&[Generation::first(1)], 1, 7);
        assert_eq!(shown(&lost), [row("v1", Dropping), row("v1.1", Live)]);
        assert_eq!(lost.era, 0);
    }

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for name in ["v1", "v12.3"] {
            assert_eq!(name.parse::<Generation>().unwrap().to_string(), name);
        }
        for name in ["", "1", "v", "v1.", "vx", "v1.2.3"] {
            assert!(name.parse::<Generation>().is_err(), "{name}");
        }
    }
}
