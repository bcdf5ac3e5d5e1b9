//! The keys of all documents of a generation, sorted in each way that its lists are.
//!
//! Pure. Of a document it keeps its id, what its lists compare and the fingerprint of the document as it is
//! served, in one piece; a sorted list of them is numbers, four bytes each.

use super::sorted::{Gap, SortedSlots};
use crate::read_model::{
    ordering::{Direction, Place},
    schema::{FieldPath, ViewTables, sort_key},
};
use serde_json::Value;
use std::cmp::Ordering;

/// The bytes of the end of a value in a piece.
const END: usize = size_of::<u16>();
/// The bytes that a piece costs the allocator.
const PIECE: usize = 16;

/// The keys of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DocumentKeys {
    /// The fingerprint of the document as it is served.
    pub(super) fingerprint: u64,
    /// The end of each value, the values, and the id.
    piece: Box<[u8]>,
}

impl DocumentKeys {
    /// Takes them from a document as it was given; none where they are too long to be kept.
    pub(super) fn of(
        fields: &[FieldPath],
        fingerprint: u64,
        id: &str,
        document: &Value,
    ) -> Option<Self> {
        let begin = fields.len() * END;
        let mut piece = vec![0; begin];
        for (number, field) in fields.iter().enumerate() {
            let value = sort_key(field, document);
            piece.extend(Place::of(value.as_ref()).into_bytes());
            let end = u16::try_from(piece.len() - begin).ok()?;
            piece[number * END..][..END].copy_from_slice(&end.to_le_bytes());
        }
        piece.extend(id.as_bytes());
        Some(Self {
            fingerprint,
            piece: piece.into(),
        })
    }
}

/// One way of sorting documents: by the values of some fields, then by one more, then by id.
#[derive(Debug)]
pub(super) struct SortedList {
    /// The fields that documents have the same values of, by their number.
    pub(super) equal: Vec<usize>,
    /// The field that they are ordered by; none where that is the id alone.
    pub(super) sort: Option<usize>,
    pub(super) slots: SortedSlots,
}

/// The keys of all documents, and the lists that they are sorted in.
#[derive(Debug)]
pub(super) struct KeyTable {
    pub(super) fields: Vec<FieldPath>,
    /// By slot; what is free has an empty piece.
    keys: Vec<DocumentKeys>,
    free: Vec<u32>,
    by_id: SortedSlots,
    pub(super) lists: Vec<SortedList>,
    pieces: usize,
}

impl KeyTable {
    /// The fields whose values are kept: those that are compared and have one value a document.
    pub(super) fn fields_of(tables: &ViewTables) -> Vec<FieldPath> {
        let fields = tables.compared_fields().iter();
        fields.filter(|field| !field.is_many()).cloned().collect()
    }

    /// An empty one, for all lists of these tables by fields of one value each.
    pub(super) fn new(tables: &ViewTables) -> Self {
        let fields = Self::fields_of(tables);
        let number = |field: &FieldPath| fields.iter().position(|known| known == field);
        let mut lists = Vec::new();
        for index in &tables.indexes {
            let key = index.key.as_ref();
            let Some(key) = key.filter(|key| key.direction == Direction::Up) else {
                continue;
            };
            let order = tables.orders.iter().find(|order| order.name == key.name);
            let sort = order.and_then(|order| order.field.as_ref());
            let equal: Option<Vec<_>> = index.fields.iter().map(number).collect();
            if let Some(equal) = equal {
                lists.push(SortedList {
                    equal,
                    sort: sort.and_then(number),
                    slots: SortedSlots::default(),
                });
            }
        }
        Self {
            fields,
            keys: Vec::new(),
            free: Vec::new(),
            by_id: SortedSlots::default(),
            lists,
            pieces: 0,
        }
    }

    /// The fingerprint of a document.
    pub(super) fn fingerprint(&self, slot: u32) -> u64 {
        self.keys[slot as usize].fingerprint
    }

    /// The id of a document.
    pub(super) fn id(&self, slot: u32) -> &str {
        // It was text when it was put there.
        str::from_utf8(self.id_bytes(slot)).unwrap_or_default()
    }

    pub(super) fn id_bytes(&self, slot: u32) -> &[u8] {
        id(self.fields.len(), &self.keys[slot as usize])
    }

    /// The place of a value of a document.
    pub(super) fn value(&self, slot: u32, field: usize) -> &[u8] {
        value(self.fields.len(), &self.keys[slot as usize], field)
    }

    /// Puts a document in the place of the one of the same id.
    pub(super) fn put(&mut self, keys: DocumentKeys) {
        let fields = self.fields.len();
        let (gap, known) = self.find(id(fields, &keys));
        self.pieces += keys.piece.len() + PIECE;
        if let Some(slot) = known {
            let before = std::mem::replace(&mut self.keys[slot as usize], keys);
            self.pieces -= before.piece.len() + PIECE;
            if before.piece != self.keys[slot as usize].piece {
                self.move_in_lists(slot, &before);
            }
            return;
        }
        let slot = match self.free.pop() {
            Some(slot) => {
                self.keys[slot as usize] = keys;
                slot
            }
            None => {
                self.keys.push(keys);
                (self.keys.len() - 1) as u32
            }
        };
        self.by_id.insert(gap, slot);
        for number in 0..self.lists.len() {
            self.insert_in(number, slot);
        }
    }

    /// Takes out the document of an id, if there is one.
    pub(super) fn remove(&mut self, id: &str) {
        let (gap, Some(slot)) = self.find(id.as_bytes()) else {
            return;
        };
        let keys = self.keys[slot as usize].clone();
        for number in 0..self.lists.len() {
            self.remove_from(number, slot, &keys);
        }
        self.by_id.remove(gap);
        self.pieces -= keys.piece.len() + PIECE;
        self.keys[slot as usize].piece = Box::default();
        self.free.push(slot);
    }

    /// Returns how many bytes it takes, about.
    pub(super) fn size(&self) -> usize {
        let slots = self.lists.iter().map(|list| list.slots.size());
        self.pieces
            + self.keys.capacity() * size_of::<DocumentKeys>()
            + self.free.capacity() * size_of::<u32>()
            + self.by_id.size()
            + slots.sum::<usize>()
    }

    /// Returns how many documents there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len() - self.free.len()
    }

    /// Returns where an id stands, and the slot of its document.
    fn find(&self, wanted: &[u8]) -> (Gap, Option<u32>) {
        let gap = self.by_id.gap(|slot| self.id_bytes(slot) < wanted);
        let slot = self.by_id.at(gap);
        (gap, slot.filter(|slot| self.id_bytes(*slot) == wanted))
    }

    /// Moves a document to where it stands now, in the lists where that is another place than before.
    fn move_in_lists(&mut self, slot: u32, before: &DocumentKeys) {
        let fields = self.fields.len();
        for number in 0..self.lists.len() {
            let (list, now) = (&self.lists[number], &self.keys[slot as usize]);
            if list.compare(fields, before, now) == Ordering::Equal {
                continue;
            }
            self.remove_from(number, slot, before);
            self.insert_in(number, slot);
        }
    }

    fn insert_in(&mut self, number: usize, slot: u32) {
        let (fields, keys) = (self.fields.len(), &self.keys);
        let list = &self.lists[number];
        let own = &keys[slot as usize];
        let gap = list
            .slots
            .gap(|other| list.compare(fields, &keys[other as usize], own) == Ordering::Less);
        self.lists[number].slots.insert(gap, slot);
    }

    /// Takes a document out of a list where it stands by these keys.
    fn remove_from(&mut self, number: usize, slot: u32, by: &DocumentKeys) {
        let (fields, keys) = (self.fields.len(), &self.keys);
        let list = &self.lists[number];
        let gap = list.slots.gap(|other| {
            // The document itself may have other keys by now.
            let other = if other == slot {
                by
            } else {
                &keys[other as usize]
            };
            list.compare(fields, other, by) == Ordering::Less
        });
        debug_assert_eq!(list.slots.at(gap), Some(slot));
        if list.slots.at(gap) == Some(slot) {
            self.lists[number].slots.remove(gap);
        }
    }
}

impl SortedList {
    /// Returns which of two documents stands first.
    fn compare(&self, fields: usize, one: &DocumentKeys, other: &DocumentKeys) -> Ordering {
        for field in self.equal.iter().chain(&self.sort) {
            let order = value(fields, one, *field).cmp(value(fields, other, *field));
            if order != Ordering::Equal {
                return order;
            }
        }
        id(fields, one).cmp(id(fields, other))
    }
}

fn end(keys: &DocumentKeys, field: usize) -> usize {
    let end = keys.piece.get(field * END..).and_then(<[u8]>::first_chunk);
    end.map_or(0, |end| usize::from(u16::from_le_bytes(*end)))
}

fn value(fields: usize, keys: &DocumentKeys, field: usize) -> &[u8] {
    let begin = match field {
        0 => 0,
        field => end(keys, field - 1),
    };
    &keys.piece[fields * END..][begin..end(keys, field)]
}

fn id(fields: usize, keys: &DocumentKeys) -> &[u8] {
    let begin = match fields {
        0 => 0,
        fields => fields * END + end(keys, fields - 1),
    };
    &keys.piece[begin..]
}
