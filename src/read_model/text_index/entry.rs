//! The indexed form of a document.

use crate::read_model::{
    ordering::Place,
    schema::{ViewTables, comparable},
};
use serde_json::Value;

/// The indexed form of a document: the text that `q` is compared with, and the values that filters
/// and orders are by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(super) id: String,
    /// The position of the last event that changed the document.
    pub(super) position: u64,
    pub(super) text: String,
    /// For each compared field, in their order, the place of its value; of those within arrays, of each.
    pub(super) values: Vec<Vec<Vec<u8>>>,
}

impl Entry {
    /// Makes it of a document as it was given; none in a view without text search.
    pub(crate) fn of(
        tables: &ViewTables,
        id: &str,
        position: u64,
        document: &Value,
    ) -> Option<Self> {
        let text = tables.searched_text(document)?;
        Some(Self::with(tables, id, position, document, text))
    }

    /// Makes it of a document with the text that it is searched by.
    pub(super) fn with(
        tables: &ViewTables,
        id: &str,
        position: u64,
        document: &Value,
        text: String,
    ) -> Self {
        let values = tables.compared_fields().iter().map(|field| {
            let mut places = Vec::new();
            field.each(document, &mut |value| {
                let other = comparable(value);
                places.push(Place::of(Some(other.as_ref().unwrap_or(value))).into_bytes());
            });
            if !field.is_many() {
                places.truncate(1);
                if places.is_empty() {
                    places.push(Place::of(None).into_bytes());
                }
            }
            places
        });
        Self {
            id: id.to_owned(),
            position,
            values: values.collect(),
            text,
        }
    }

    /// Returns how many bytes of memory it takes, about.
    pub(super) fn size(&self) -> usize {
        let values = self.values.iter().flatten();
        self.id.len() * 2
            + self.text.len()
            + values.map(|value| value.len() + 24).sum::<usize>()
            + 200
    }
}

/// A document that a transaction has changed.
#[derive(Debug)]
pub(crate) struct EntryChange {
    pub(super) id: String,
    /// True if it was there before.
    pub(super) existed: bool,
    /// As it is now; none where it is gone.
    pub(super) entry: Option<Entry>,
}
