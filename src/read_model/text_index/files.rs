//! The index's files: their form, and where they are.

use super::{IndexError, entry::Entry, pieces::Cutter};
use crate::read_model::schema::ViewTables;
use serde::{Deserialize, Serialize};
use std::{fs, io, path::PathBuf};
use tantivy::{
    Index, IndexReader, IndexWriter, ReloadPolicy, TantivyDocument, Term,
    indexer::{IndexWriterOptions, LogMergePolicy},
    schema::{
        BytesOptions, FAST, Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions,
    },
};

/// The form of the files. Of another form, they are made anew.
const FORM: u32 = 1;
/// The name of the tokenizer.
const PIECES: &str = "pieces";
/// The share of a segment that may be documents that are removed before it is written anew.
const REMOVED: f32 = 0.3;

/// The place of an index.
#[derive(Debug, Clone)]
pub(super) enum Home {
    Memory,
    Folder(PathBuf),
}

/// The fields of the index.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    pub(super) id: Field,
    pub(super) text: Field,
    pub(super) length: Field,
    pub(super) position: Field,
    /// For each compared field of the view one, in their order.
    pub(super) values: Vec<Field>,
}

/// The names that the columns have.
pub(super) const ID: &str = "id";
pub(super) const LENGTH: &str = "length";
pub(super) const POSITION: &str = "position";

/// The name of the column of a compared field.
pub(super) fn value_name(number: usize) -> String {
    format!("value{number}")
}

/// The transaction that the index is of: stored with each commit of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// The number of the generation's last transaction.
    pub(super) revision: u64,
    /// The writer and the time: a number alone may come again after the store has gone back.
    pub(super) writer: String,
    pub(super) at: String,
}

/// The note that is stored with each commit.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Payload {
    form: String,
    stamp: Option<Stamp>,
}

/// An open index.
pub(super) struct Files {
    pub(super) index: Index,
    pub(super) reader: IndexReader,
    pub(super) fields: Fields,
    /// The transaction that it was of when it was opened, if it is complete.
    pub(super) stamp: Option<Stamp>,
    form: String,
}

impl Files {
    /// Opens the index of a view's documents in a store. What is not of it, or damaged, is made anew.
    pub(super) fn open(home: &Home, tables: &ViewTables, store: &str) -> Result<Self, IndexError> {
        let form = form(tables, store);
        match Self::open_as_is(home, tables, &form) {
            Ok(Some(files)) => return Ok(files),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, view.name = tables.view, "the index of texts is made anew");
            }
        }
        remove(home)?;
        let (schema, fields) = schema(tables);
        let index = match home {
            Home::Memory => Index::create_in_ram(schema),
            Home::Folder(folder) => {
                fs::create_dir_all(folder)?;
                Index::create_in_dir(folder, schema)?
            }
        };
        Self::of(index, fields, form, None)
    }

    fn open_as_is(
        home: &Home,
        tables: &ViewTables,
        form: &str,
    ) -> Result<Option<Self>, IndexError> {
        let Home::Folder(folder) = home else {
            return Ok(None);
        };
        if !folder.join("meta.json").exists() {
            return Ok(None);
        }
        let index = Index::open_in_dir(folder)?;
        let (schema, fields) = schema(tables);
        let payload = index.load_metas()?.payload.unwrap_or_default();
        let Ok(payload) = serde_json::from_str::<Payload>(&payload) else {
            return Ok(None);
        };
        if payload.form != form || index.schema() != schema {
            return Ok(None);
        }
        let damaged = index.validate_checksum()?;
        if !damaged.is_empty() {
            return Err(IndexError::Damaged);
        }
        Ok(Some(Self::of(
            index,
            fields,
            form.to_owned(),
            payload.stamp,
        )?))
    }

    fn of(
        index: Index,
        fields: Fields,
        form: String,
        stamp: Option<Stamp>,
    ) -> Result<Self, IndexError> {
        index.tokenizers().register(PIECES, Cutter);
        let reader = index.reader_builder();
        let reader = reader.reload_policy(ReloadPolicy::Manual);
        Ok(Self {
            reader: reader.try_into()?,
            index,
            fields,
            stamp,
            form,
        })
    }

    /// Returns what writes the index, with so many bytes of memory.
    pub(super) fn writer(&self, memory: usize) -> Result<IndexWriter, IndexError> {
        let options = IndexWriterOptions::builder()
            .num_worker_threads(1)
            .num_merge_threads(1)
            .memory_budget_per_thread(memory)
            .build();
        let writer = self.index.writer_with_options(options)?;
        let mut merges = LogMergePolicy::default();
        merges.set_del_docs_ratio_before_merge(REMOVED);
        writer.set_merge_policy(Box::new(merges));
        Ok(writer)
    }

    /// Makes what was written what is found, as of this transaction; none while it is not complete.
    pub(super) fn commit(
        &self,
        writer: &mut IndexWriter,
        stamp: Option<&Stamp>,
    ) -> Result<(), IndexError> {
        let payload = Payload {
            form: self.form.clone(),
            stamp: stamp.cloned(),
        };
        let payload = serde_json::to_string(&payload).map_err(io::Error::from)?;
        let mut prepared = writer.prepare_commit()?;
        prepared.set_payload(&payload);
        prepared.commit()?;
        self.reader.reload()?;
        Ok(())
    }
}

impl Fields {
    /// Returns what finds a document by its id.
    pub(super) fn id_term(&self, id: &str) -> Term {
        Term::from_field_bytes(self.id, id.as_bytes())
    }

    pub(super) fn document(&self, entry: &Entry) -> TantivyDocument {
        let mut document = TantivyDocument::default();
        document.add_bytes(self.id, entry.id.as_bytes());
        document.add_text(self.text, &entry.text);
        document.add_u64(
            self.length,
            super::question::length(&entry.text).unsigned_abs(),
        );
        document.add_u64(self.position, entry.position);
        for (field, places) in self.values.iter().zip(&entry.values) {
            for place in places {
                document.add_bytes(*field, place);
            }
        }
        document
    }
}

fn schema(tables: &ViewTables) -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let pieces = TextFieldIndexing::default()
        .set_tokenizer(PIECES)
        .set_fieldnorms(false)
        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let bytes = BytesOptions::default().set_indexed();
    let id = schema.add_bytes_field(ID, bytes.clone().set_fast());
    let text = TextOptions::default().set_indexing_options(pieces);
    let text = schema.add_text_field("text", text);
    let length = schema.add_u64_field(LENGTH, FAST);
    let position = schema.add_u64_field(POSITION, FAST);
    let values = tables.compared_fields().iter().enumerate();
    let values = values.map(|(number, field)| {
        let options = match field.is_many() {
            true => bytes.clone(),
            false => bytes.clone().set_fast(),
        };
        schema.add_bytes_field(&value_name(number), options)
    });
    let values = values.collect();
    let fields = Fields {
        id,
        text,
        length,
        position,
        values,
    };
    (schema.build(), fields)
}

/// Returns what tells files of which all is the same from others.
fn form(tables: &ViewTables, store: &str) -> String {
    let paths = |fields: &[_]| -> Vec<String> { fields.iter().map(ToString::to_string).collect() };
    let search = paths(&tables.search);
    let compared = paths(tables.compared_fields());
    let documents = &tables.documents;
    format!("{FORM} {store} {documents} of {search:?} by {compared:?}")
}

/// Removes an index, if there is one.
pub(super) fn remove(home: &Home) -> io::Result<()> {
    let Home::Folder(folder) = home else {
        return Ok(());
    };
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
