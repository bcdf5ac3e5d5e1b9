//! One thread's share of one reading of the log, bounded in memory.

use super::{CommitFolder, Known, counts::Counts};
use crate::event_log::StoredMessage;
use std::{collections::BTreeMap, sync::Arc};

/// The share that one thread folds in one reading.
pub(super) struct Pass {
    known: Arc<Known>,
    memory: usize,
    bytes: usize,
    parts: BTreeMap<u32, Part>,
    /// The parts that did not fit.
    left: u64,
}

/// The result of a share.
pub(super) struct Passed {
    pub(super) counts: Vec<Counts>,
    /// The parts that are for another reading.
    pub(super) left: u64,
}

struct Part {
    folder: CommitFolder,
    counts: Counts,
}

impl Pass {
    pub(super) fn new(known: Arc<Known>, parts: u64, memory: usize) -> Self {
        let own = (0..u64::BITS).filter(|part| parts & (1 << part) != 0);
        let part = |number| {
            let part = Part {
                folder: CommitFolder::new(known.clone()),
                counts: Counts::default(),
            };
            (number, part)
        };
        Self {
            parts: own.map(part).collect(),
            memory,
            bytes: 0,
            left: 0,
            known,
        }
    }

    pub(super) fn apply(&mut self, number: u32, message: &StoredMessage) {
        // What does not fit is read again later.
        let Some(Part { folder, counts }) = self.parts.get_mut(&number) else {
            return;
        };
        let before = folder.bytes();
        if let Some(fault) = folder.apply(message, counts) {
            counts.broken += 1;
            if counts.faults.len() < self.known.faults {
                counts.faults.push(fault);
            }
        }
        self.bytes += folder.bytes() - before;
        self.make_room();
    }

    /// Leaves parts for another reading while there is too much; one is always folded.
    fn make_room(&mut self) {
        while self.bytes > self.memory && self.parts.len() > 1 {
            let Some((number, part)) = self.parts.pop_last() else {
                return;
            };
            self.bytes -= part.folder.bytes();
            self.left |= 1 << number;
        }
    }

    pub(super) fn finish(self) -> Passed {
        let counts = self.parts.into_values().map(|part| Counts {
            aggregates: part.folder.aggregates(),
            ..part.counts
        });
        Passed {
            counts: counts.collect(),
            left: self.left,
        }
    }
}
