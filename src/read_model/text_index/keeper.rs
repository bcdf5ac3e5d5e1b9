//! The thread that writes one index: first all that the store has and the index has not, then what changes.

use super::{
    IndexError, Shared,
    entry::Entry,
    files::{Fields, Files, Home, ID, POSITION, Stamp, remove},
    recent::Phase,
    walk::{Column, full_bytes, full_numbers},
};
use crate::read_model::{
    schema::ViewTables,
    store::{StoreError, TextRows, WeakStore},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tantivy::{
    DocId, DocSet, IndexWriter, Searcher, TERMINATED, TantivyDocument, schema::IndexRecordOption,
};
use tokio::runtime::Handle;

/// The number of documents that are read from the store at once.
const PAGE: usize = 500;
/// The pause after an index could not be written, or could not keep up.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
];
/// A keeper that has gone well for so long begins with the first pause again.
const WELL: Duration = Duration::from_secs(60);

/// Writes the index until it is dropped.
pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) home: Home,
    pub(super) store: WeakStore,
    pub(super) runtime: Handle,
    pub(super) memory: usize,
}

/// The reason why the keeper goes on with something else.
enum Interrupted {
    /// It is dropped.
    Stopping,
    /// The index may lack something.
    Doubtful,
    Failed(IndexError),
}

impl<E: Into<IndexError>> From<E> for Interrupted {
    fn from(error: E) -> Self {
        match error.into() {
            IndexError::Store(StoreError::Stopped) => Self::Stopping,
            error => Self::Failed(error),
        }
    }
}

/// An index that is written.
struct Writing {
    files: Files,
    writer: IndexWriter,
}

impl Keeper {
    pub(super) fn run(self) {
        let (mut begun, mut pauses) = (Instant::now(), PAUSES.iter());
        let mut told = false;
        loop {
            let interrupted = self.keep();
            if matches!(interrupted, Interrupted::Stopping) {
                break;
            }
            if begun.elapsed() > WELL {
                pauses = PAUSES.iter();
                told = false;
            }
            if let Interrupted::Failed(error) = interrupted {
                if !told {
                    tracing::error!(
                        %error,
                        view.name = self.shared.tables.view,
                        "the index of texts cannot be kept; searches read the store until it can be made anew"
                    );
                }
                told = true;
                self.shared.doubt();
                // What may be damaged is not gone on with. If that fails too, so does the next attempt.
                let _ = remove(&self.home);
            }
            let pause = pauses.next().copied().unwrap_or(PAUSES[PAUSES.len() - 1]);
            begun = Instant::now();
            if self.shared.rest(pause) {
                break;
            }
        }
        if self.shared.is_removed() {
            let _ = remove(&self.home);
        }
    }

    /// Opens the index, and writes it for as long as that goes well.
    fn keep(&self) -> Interrupted {
        let opened = || -> Result<Writing, Interrupted> {
            let store = self.store.upgrade()?;
            let id = self.runtime.block_on(async move { store.id() });
            let files = Files::open(&self.home, &self.shared.tables, &id)?;
            let writer = files.writer(self.memory)?;
            Ok(Writing { files, writer })
        };
        let mut writing = match opened() {
            Ok(writing) => writing,
            Err(interrupted) => return interrupted,
        };
        loop {
            match self
                .prepare(&mut writing)
                .and_then(|()| self.follow(&mut writing))
            {
                Err(Interrupted::Doubtful) => {}
                Err(interrupted) => return interrupted,
                Ok(()) => return Interrupted::Stopping,
            }
            if self.shared.rest(PAUSES[0]) {
                return Interrupted::Stopping;
            }
        }
    }

    /// Makes the index equal to what is stored.
    fn prepare(&self, writing: &mut Writing) -> Result<(), Interrupted> {
        self.shared.recent().prepare();
        let fields = Arc::new(writing.files.fields.clone());
        let stored = self.stamp()?;
        let known = writing.files.stamp.take();
        if known.is_none() || known != stored {
            let begun = Instant::now();
            let documents = self.compare(writing)?;
            tracing::debug!(
                view.name = self.shared.tables.view,
                documents,
                duration_ms = begun.elapsed().as_millis(),
                "the index of texts was compared with the store"
            );
        }
        {
            let mut recent = self.shared.recent();
            if recent.stamp.is_none() {
                recent.stamp = stored;
            }
        }
        self.write(writing, true)?;
        let searcher = writing.files.reader.searcher();
        self.shared.recent().ready(searcher, &fields)?;
        self.shared.told_ready();
        Ok(())
    }

    /// Writes what changes, until the index is dropped.
    fn follow(&self, writing: &mut Writing) -> Result<(), Interrupted> {
        loop {
            let stopping = self.shared.until_due();
            match self.shared.recent().phase {
                Phase::Doubtful => return Err(Interrupted::Doubtful),
                Phase::Preparing | Phase::Ready => {}
            }
            self.write(writing, true)?;
            if stopping {
                return Ok(());
            }
        }
    }

    /// Writes what has changed, and has the index be asked as it is then.
    fn write(&self, writing: &mut Writing, complete: bool) -> Result<(), Interrupted> {
        let batch = self.shared.recent().batch();
        for (id, entry) in &batch.changes {
            writing.replace(id, entry.as_deref())?;
        }
        let stamp = batch.stamp.as_ref().filter(|_| complete);
        writing.files.commit(&mut writing.writer, stamp)?;
        let fields = Arc::new(writing.files.fields.clone());
        let searcher = writing.files.reader.searcher();
        self.shared.recent().written(&batch, searcher, &fields)?;
        self.shared.has_room();
        Ok(())
    }

    /// Writes each document that the store has otherwise than the index; returns how many it has.
    fn compare(&self, writing: &mut Writing) -> Result<u64, Interrupted> {
        // Until it is through, the index is of no transaction.
        writing.files.commit(&mut writing.writer, None)?;
        let searcher = writing.files.reader.searcher();
        let mut known = Known::of(writing, &searcher)?;
        let (mut after, mut count) = (None::<String>, 0);
        loop {
            let page = self.page(after.as_deref())?;
            for (row, text) in &page.rows {
                count += 1;
                let is_same = known.has(&row.id, row.position)?;
                if !is_same && !self.is_told(&row.id)? {
                    let tables = &self.shared.tables;
                    // As it is stored: another version of the view may be searched by other fields.
                    let entry = text.clone().map(|text| {
                        Entry::with(tables, &row.id, row.position, &row.document, text)
                    });
                    writing.replace(&row.id, entry.as_ref())?;
                }
            }
            self.is_told("")?;
            let full = self.shared.recent().is_full();
            if full {
                self.write(writing, false)?;
            }
            match page.last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        for id in known.others()? {
            if !self.is_told(&id)? {
                writing.replace(&id, None)?;
            }
        }
        Ok(count)
    }

    /// Returns whether a document has changed since they began to be read: what was read of it may be older.
    fn is_told(&self, id: &str) -> Result<bool, Interrupted> {
        let recent = self.shared.recent();
        match (&recent.told, recent.stopping) {
            (_, true) => Err(Interrupted::Stopping),
            (None, _) => Err(Interrupted::Doubtful),
            (Some(told), _) => Ok(told.contains(id)),
        }
    }

    /// The transaction that the stored documents are of.
    fn stamp(&self) -> Result<Option<Stamp>, Interrupted> {
        let store = self.store.upgrade()?;
        let tables = &self.shared.tables;
        // What may be the store's last owner is let go among its own threads.
        let checkpoint = self.runtime.block_on(async move {
            let checkpoint = store.find_checkpoint(tables).await;
            drop(store);
            checkpoint
        })?;
        Ok(checkpoint.map(|checkpoint| super::stamp(&checkpoint)))
    }

    fn page(&self, after: Option<&str>) -> Result<TextRows, Interrupted> {
        let store = self.store.upgrade()?;
        let tables: &ViewTables = &self.shared.tables;
        Ok(self.runtime.block_on(async move {
            let page = store.rows_after(tables, after, PAGE).await;
            drop(store);
            page
        })?)
    }
}

impl Writing {
    /// Puts a document in the place of the one of the same id, or removes that.
    fn replace(&mut self, id: &str, entry: Option<&Entry>) -> Result<(), IndexError> {
        let fields = &self.files.fields;
        self.writer.delete_term(fields.id_term(id));
        if let Some(entry) = entry {
            let document: TantivyDocument = fields.document(entry);
            self.writer.add_document(document)?;
        }
        Ok(())
    }
}

/// The documents that an index has, and those of them that were found in the store too.
struct Known<'a> {
    searcher: &'a Searcher,
    fields: Fields,
    positions: Vec<Column>,
    seen: Vec<Vec<bool>>,
}

impl<'a> Known<'a> {
    fn of(writing: &Writing, searcher: &'a Searcher) -> Result<Self, IndexError> {
        let segments = searcher.segment_readers().iter();
        let positions = segments.clone();
        let positions = positions.map(|segment| full_numbers(segment, POSITION));
        Ok(Self {
            searcher,
            fields: writing.files.fields.clone(),
            positions: positions.collect::<Result<_, _>>()?,
            seen: segments
                .map(|segment| vec![false; segment.max_doc() as usize])
                .collect(),
        })
    }

    /// Returns whether the index has the document as of this position.
    fn has(&mut self, id: &str, position: u64) -> Result<bool, IndexError> {
        let term = self.fields.id_term(id);
        let segments = self.searcher.segment_readers().iter().zip(&self.positions);
        for ((segment, positions), seen) in segments.zip(&mut self.seen) {
            let ids = segment.inverted_index(self.fields.id)?;
            let Some(mut found) = ids.read_postings(&term, IndexRecordOption::Basic)? else {
                continue;
            };
            while found.doc() != TERMINATED {
                let document: DocId = found.doc();
                if !segment.is_deleted(document) {
                    seen[document as usize] = true;
                    return Ok(positions.get_val(document) == position);
                }
                found.advance();
            }
        }
        Ok(false)
    }

    /// The ids of those that the store does not have.
    fn others(&self) -> Result<Vec<String>, IndexError> {
        let mut others = Vec::new();
        for (segment, seen) in self.searcher.segment_readers().iter().zip(&self.seen) {
            let ids = full_bytes(segment, ID)?;
            for document in segment.doc_ids_alive() {
                if !seen[document as usize] {
                    let mut id = Vec::new();
                    let ordinal = ids.ords().values.get_val(document);
                    ids.ord_to_bytes(ordinal, &mut id)?;
                    others.push(String::from_utf8(id).map_err(|_| IndexError::Damaged)?);
                }
            }
        }
        Ok(others)
    }
}
