//! The counts of a replay: how much of what there is in a log, and what came of it.

use super::Fault;
use crate::event_log::Extent;
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    ops::AddAssign,
};

/// The events of one type, in one of its stored versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TypeCounts {
    /// The number of events.
    pub events: u64,
    /// The number that this build decodes. Those of an aggregate after the one it breaks at are not tried.
    pub decoded: u64,
    /// The number of those that were stored in an older form.
    pub upcast: u64,
    /// The number that were folded.
    pub folded: u64,
}

impl AddAssign for TypeCounts {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.decoded += other.decoded;
        self.upcast += other.upcast;
        self.folded += other.folded;
    }
}

/// The counts of a part of a log.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(super) commits: u64,
    pub(super) excluded: u64,
    pub(super) claims: u64,
    pub(super) records: u64,
    pub(super) aggregates: u64,
    pub(super) broken: u64,
    pub(super) types: HashMap<String, TypeCounts>,
    pub(super) faults: Vec<Fault>,
}

impl Counts {
    /// Adds to the counts of a type.
    pub(super) fn add(&mut self, event_type: &str, counted: TypeCounts) {
        match self.types.get_mut(event_type) {
            Some(counts) => *counts += counted,
            None => {
                self.types.insert(event_type.to_owned(), counted);
            }
        }
    }
}

/// The result of a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// From where to where the log reached.
    pub log: Extent,
    /// The number of commits.
    pub commits: u64,
    /// The number of commits that are excluded, and were passed over.
    pub excluded: u64,
    /// The number of events.
    pub events: u64,
    /// The number of claims of unique keys.
    pub claims: u64,
    /// The number of records of the log's own.
    pub records: u64,
    /// The number of aggregates.
    pub aggregates: u64,
    /// The number of aggregates, or of other messages, that this build cannot fold, or read.
    pub broken: u64,
    /// The events by their storage names, version and all.
    pub types: BTreeMap<String, TypeCounts>,
    /// The first fault of each of what is broken, by position: as many as are told one by one.
    pub faults: Vec<Fault>,
    /// The number of times that the log was read, since all that was folded did not fit into memory at once.
    pub readings: u32,
}

impl Report {
    pub(super) fn of(log: Extent) -> Self {
        Self {
            log,
            commits: 0,
            excluded: 0,
            events: 0,
            claims: 0,
            records: 0,
            aggregates: 0,
            broken: 0,
            types: BTreeMap::new(),
            faults: Vec::new(),
            readings: 0,
        }
    }

    pub(super) fn add(&mut self, counts: Counts, faults: usize) {
        self.commits += counts.commits;
        self.excluded += counts.excluded;
        self.claims += counts.claims;
        self.records += counts.records;
        self.aggregates += counts.aggregates;
        self.broken += counts.broken;
        for (event_type, counts) in counts.types {
            self.events += counts.events;
            *self.types.entry(event_type).or_default() += counts;
        }
        self.faults.extend(counts.faults);
        self.faults.sort_by_key(|fault| fault.position);
        self.faults.truncate(faults);
    }

    /// Returns whether this build can build on all that there is.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.broken == 0
    }
}
