//! The changes since the index was last written: asked beside it, in memory, and bounded.

use super::{
    IndexError,
    entry::{Entry, EntryChange},
    files::{Fields, Stamp},
    walk::View,
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tantivy::{DocSet, Searcher, TERMINATED, schema::IndexRecordOption};

/// The most documents that are kept beside the index, and their bytes.
pub(super) const MOST: usize = 10_000;
const MOST_BYTES: usize = 32 << 20;
/// From so many on they are written at once: a search looks at each.
const MANY: usize = 2_048;
const MANY_BYTES: usize = 4 << 20;
/// After so long some are written, and after so long any.
const SOME: usize = 256;
const SOON: Duration = Duration::from_secs(2);
const AT_LAST: Duration = Duration::from_secs(10);

/// The state of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is being made equal to what is stored, and not asked.
    Preparing,
    /// It may lack something: it is to be prepared again.
    Doubtful,
    /// With what is kept beside it, it has all documents as they are stored.
    Ready,
}

/// A document that has changed: as it is now, or that it is gone.
struct Change {
    entry: Option<Arc<Entry>>,
    number: u64,
}

/// The changes that the index does not have yet, and what it has.
pub(super) struct Recent {
    pub(super) phase: Phase,
    changes: HashMap<String, Change>,
    bytes: usize,
    /// Since when there are some.
    since: Option<Instant>,
    /// The number of changes there were.
    number: u64,
    /// The last transaction that was told.
    pub(super) stamp: Option<Stamp>,
    /// The documents that have changed since they began to be read from the store, while they are.
    pub(super) told: Option<HashSet<String>>,
    view: Option<View>,
    pub(super) stopping: bool,
}

/// Changes that are to be written.
pub(super) struct Batch {
    pub(super) changes: Vec<(String, Option<Arc<Entry>>)>,
    /// The transaction that they reach up to.
    pub(super) stamp: Option<Stamp>,
    through: u64,
}

/// The index, and the documents that have changed since.
pub(super) struct Moment {
    pub(super) view: View,
    pub(super) recent: Vec<Arc<Entry>>,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Preparing,
            changes: HashMap::new(),
            bytes: 0,
            since: None,
            number: 0,
            stamp: None,
            told: None,
            view: None,
            stopping: false,
        }
    }

    /// Takes note of what a transaction has changed. One that does not follow on the last one that was told
    /// leaves the index in doubt.
    pub(super) fn note(&mut self, from: u64, stamp: Stamp, changes: Vec<EntryChange>) {
        let follows = self.stamp.as_ref().is_none_or(|last| last.revision == from);
        self.stamp = Some(stamp);
        if !follows {
            self.doubt();
        }
        if self.phase == Phase::Doubtful {
            return;
        }
        for EntryChange { id, existed, entry } in changes {
            if let Some(told) = &mut self.told {
                told.insert(id.clone());
            }
            if existed
                && let Some(view) = &mut self.view
                && hide(view, &id).is_err()
            {
                return self.doubt();
            }
            self.put(id, entry.map(Arc::new));
        }
        if self
            .told
            .as_ref()
            .is_some_and(|told| told.len() > 50 * MOST)
        {
            self.doubt();
        }
    }

    /// The number of a generation's last transaction has moved on without a change.
    pub(super) fn turn(&mut self) {
        if let Some(stamp) = &mut self.stamp {
            stamp.revision += 1;
        }
    }

    fn put(&mut self, id: String, entry: Option<Arc<Entry>>) {
        self.number += 1;
        self.since.get_or_insert_with(Instant::now);
        self.bytes += size(entry.as_deref());
        let number = self.number;
        if let Some(before) = self.changes.insert(id, Change { entry, number }) {
            self.bytes -= size(before.entry.as_deref());
        }
    }

    /// The index may lack something.
    pub(super) fn doubt(&mut self) {
        self.phase = Phase::Doubtful;
        self.forget();
    }

    fn forget(&mut self) {
        self.changes.clear();
        self.bytes = 0;
        self.since = None;
        self.told = None;
        self.view = None;
    }

    /// Begins to make the index equal to what is stored. What is told from now on is kept.
    pub(super) fn prepare(&mut self) {
        self.forget();
        self.phase = Phase::Preparing;
        self.stamp = None;
        self.told = Some(HashSet::new());
    }

    /// Returns whether no more can be kept.
    pub(super) fn is_full(&self) -> bool {
        self.changes.len() >= MOST || self.bytes >= MOST_BYTES
    }

    /// Returns how long what is kept may still wait to be written; none while there is nothing.
    pub(super) fn due(&self) -> Option<Duration> {
        let since = self.since?.elapsed();
        let after = match self.changes.len() {
            MANY.. => return Some(Duration::ZERO),
            _ if self.bytes >= MANY_BYTES => return Some(Duration::ZERO),
            SOME.. => SOON,
            _ => AT_LAST,
        };
        Some(after.saturating_sub(since))
    }

    /// Has everything be due; whether there is something.
    #[cfg(test)]
    pub(super) fn hurry(&mut self) -> bool {
        let long_ago = Instant::now().checked_sub(AT_LAST);
        self.since = self.since.and(long_ago);
        self.since.is_some()
    }

    /// Returns what is to be written now.
    pub(super) fn batch(&self) -> Batch {
        let changes = self.changes.iter();
        let changes = changes.map(|(id, change)| (id.clone(), change.entry.clone()));
        Batch {
            changes: changes.collect(),
            stamp: self.stamp.clone().filter(|_| self.phase != Phase::Doubtful),
            through: self.number,
        }
    }

    /// From now on the index as `searcher` has it is asked, which has what was to be written.
    pub(super) fn written(
        &mut self,
        batch: &Batch,
        searcher: Searcher,
        fields: &Arc<Fields>,
    ) -> Result<(), IndexError> {
        if self.phase == Phase::Doubtful {
            return Ok(());
        }
        let through = batch.through;
        self.changes.retain(|_, change| change.number > through);
        let entries = self.changes.values();
        self.bytes = entries.map(|change| size(change.entry.as_deref())).sum();
        self.since = (!self.changes.is_empty()).then(Instant::now);
        if self.phase == Phase::Ready {
            self.show(searcher, fields)?;
        }
        Ok(())
    }

    /// The index as `searcher` has it has all that is stored, but for what is kept beside it.
    pub(super) fn ready(
        &mut self,
        searcher: Searcher,
        fields: &Arc<Fields>,
    ) -> Result<(), IndexError> {
        if self.phase == Phase::Preparing {
            self.told = None;
            self.show(searcher, fields)?;
            self.phase = Phase::Ready;
        }
        Ok(())
    }

    fn show(&mut self, searcher: Searcher, fields: &Arc<Fields>) -> Result<(), IndexError> {
        let mut view = View {
            changed: vec![Arc::default(); searcher.segment_readers().len()],
            searcher,
            fields: Arc::clone(fields),
        };
        for id in self.changes.keys() {
            hide(&mut view, id)?;
        }
        self.view = Some(view);
        Ok(())
    }

    /// Returns what is asked now; none while the index is not ready.
    pub(super) fn moment(&self) -> Option<Moment> {
        if self.phase != Phase::Ready {
            return None;
        }
        let changes = self.changes.values();
        Some(Moment {
            view: self.view.clone()?,
            recent: changes.filter_map(|change| change.entry.clone()).collect(),
        })
    }
}

fn size(entry: Option<&Entry>) -> usize {
    entry.map_or(200, Entry::size)
}

/// Leaves a document of the index out of what is found.
fn hide(view: &mut View, id: &str) -> Result<(), IndexError> {
    let term = view.fields.id_term(id);
    for (segment, changed) in view
        .searcher
        .segment_readers()
        .iter()
        .zip(&mut view.changed)
    {
        let ids = segment.inverted_index(view.fields.id)?;
        let Some(mut found) = ids.read_postings(&term, IndexRecordOption::Basic)? else {
            continue;
        };
        while found.doc() != TERMINATED {
            if !segment.is_deleted(found.doc()) {
                Arc::make_mut(changed).insert(found.doc());
            }
            found.advance();
        }
    }
    Ok(())
}
