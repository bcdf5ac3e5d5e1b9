//! Finding documents in the index.
//!
//! All that match are looked at, some nanoseconds each: their keys are columns, and only of those that are
//! answered the id is read. By rank the classes are gone through from the best one on, and the rest is left
//! where the page is full. A segment after the first only gives what comes before the last of the page.

use super::{
    IndexError,
    files::{Fields, ID, LENGTH, POSITION, value_name},
    pieces::pieces_of,
    question::{ELSEWHERE, Hit, LENGTHS, Question},
};
use std::{
    collections::{BTreeMap, BinaryHeap, HashMap, HashSet},
    sync::Arc,
};
use tantivy::{
    COLLECT_BLOCK_BUFFER_LEN, DocId, DocSet, Searcher, SegmentReader, Term,
    columnar::{BytesColumn, Cardinality, ColumnValues, TermOrdHit},
    query::{
        BooleanQuery, EnableScoring, PhraseQuery, Query, QueryClone, Scorer, TermQuery, Weight,
    },
    schema::IndexRecordOption,
};

/// The index at one moment: its segments, and in each the documents that have changed since.
#[derive(Clone)]
pub(super) struct View {
    pub(super) searcher: Searcher,
    pub(super) fields: Arc<Fields>,
    pub(super) changed: Vec<Arc<HashSet<DocId>>>,
}

/// Place of a document among those of a segment: by the order's field, then by id. Upwards always.
type Key = (u64, u64);

pub(super) type Column = Arc<dyn ColumnValues<u64>>;

impl View {
    /// The first documents of a page.
    pub(super) fn page(&self, question: &Question) -> Result<Vec<Hit>, IndexError> {
        let mut found = Page {
            question,
            hits: Vec::new(),
        };
        if question.sort.is_some() {
            let weight = self.weight(self.matches(question))?;
            self.walk(&mut found, 0, &*weight, &[])?;
            return Ok(found.hits);
        }
        let first = question
            .after
            .as_ref()
            .map_or(0, |after| after.rank / LENGTHS);
        let mut better: Vec<Box<dyn Weight>> = Vec::new();
        for class in 0..=ELSEWHERE {
            let part = match class {
                ELSEWHERE => None,
                class => Some(self.contains(&question.part(class))),
            };
            if class >= first {
                let mut all = match &part {
                    None => self.words(question),
                    Some(part) => vec![part.box_clone()],
                };
                all.extend(self.equal(question));
                let weight = self.weight(intersection(all))?;
                self.walk(&mut found, class, &*weight, &better)?;
                if found.hits.len() == question.most {
                    break;
                }
            }
            if let Some(part) = part {
                better.push(self.weight(part)?);
            }
        }
        Ok(found.hits)
    }

    /// Returns how many documents match, up to a bound.
    pub(super) fn count(&self, question: &Question, most: usize) -> Result<usize, IndexError> {
        let mut count = 0;
        self.each(question, most, &mut |_, _| count += 1)?;
        Ok(count)
    }

    /// Returns how many of the documents that match have each value of a field, and how many there are, up to a
    /// bound.
    pub(super) fn values(
        &self,
        question: &Question,
        field: usize,
        most: usize,
    ) -> Result<(BTreeMap<Vec<u8>, u64>, usize), IndexError> {
        let columns = self.searcher.segment_readers().iter();
        let columns = columns.map(|segment| full_bytes(segment, &value_name(field)));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let mut ordinals: Vec<HashMap<u64, u64>> = vec![HashMap::new(); columns.len()];
        let mut count = 0;
        self.each(question, most, &mut |segment, document| {
            let value = columns[segment].ords().values.get_val(document);
            *ordinals[segment].entry(value).or_default() += 1;
            count += 1;
        })?;
        let mut values = BTreeMap::new();
        for (column, ordinals) in columns.iter().zip(ordinals) {
            for (ordinal, count) in ordinals {
                let mut value = Vec::new();
                column.ord_to_bytes(ordinal, &mut value)?;
                *values.entry(value).or_default() += count;
            }
        }
        Ok((values, count))
    }

    /// Calls `found` with each document that matches, until there were so many.
    fn each(
        &self,
        question: &Question,
        most: usize,
        found: &mut dyn FnMut(usize, DocId),
    ) -> Result<(), IndexError> {
        let weight = self.weight(self.matches(question))?;
        let mut left = most;
        for number in 0..self.changed.len() {
            let filter = self.filter(number, question)?;
            let mut scorer = weight.scorer(filter.segment, 1.0)?;
            let mut block = [0; COLLECT_BLOCK_BUFFER_LEN];
            loop {
                let length = scorer.fill_buffer(&mut block);
                for &document in &block[..length] {
                    if left == 0 {
                        return Ok(());
                    }
                    if filter.takes(document) {
                        found(number, document);
                        left -= 1;
                    }
                }
                if length < block.len() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn walk(
        &self,
        found: &mut Page<'_>,
        class: i64,
        weight: &dyn Weight,
        better: &[Box<dyn Weight>],
    ) -> Result<(), IndexError> {
        // The largest first: of the others, few come before the last of what it gives.
        let segments = self.searcher.segment_readers();
        let mut order: Vec<_> = (0..segments.len()).collect();
        order.sort_by_key(|number| std::cmp::Reverse(segments[*number].num_docs()));
        for number in order {
            let filter = self.filter(number, found.question)?;
            let mut better = better
                .iter()
                .map(|better| better.scorer(filter.segment, 1.0))
                .collect::<Result<Vec<_>, _>>()?;
            let keys = Keys::of(filter.segment, found.question, class)?;
            let mut scorer = weight.scorer(filter.segment, 1.0)?;
            found.add(&filter, &keys, &mut *scorer, &mut better)?;
        }
        Ok(())
    }

    /// Returns what a document is compared with beside the query.
    fn filter(&self, number: usize, question: &Question) -> Result<Filter<'_>, IndexError> {
        let segment = &self.searcher.segment_readers()[number];
        let mut ranges = Vec::new();
        for range in &question.ranges {
            let column = full_bytes(segment, &value_name(range.field))?;
            let from = first_ordinal(&column, &range.from)?;
            let until = first_ordinal(&column, &range.until)?;
            ranges.push((Arc::clone(&column.ords().values), from..until));
        }
        Ok(Filter {
            segment,
            changed: &self.changed[number],
            ranges,
        })
    }

    fn weight(&self, query: Box<dyn Query>) -> Result<Box<dyn Weight>, IndexError> {
        Ok(query.weight(EnableScoring::disabled_from_searcher(&self.searcher))?)
    }

    /// All that match, but for ranges.
    fn matches(&self, question: &Question) -> Box<dyn Query> {
        let mut all = self.words(question);
        all.extend(self.equal(question));
        intersection(all)
    }

    fn words(&self, question: &Question) -> Vec<Box<dyn Query>> {
        let words = question.search.words().iter();
        words.map(|word| self.contains(word)).collect()
    }

    fn equal(&self, question: &Question) -> impl Iterator<Item = Box<dyn Query>> {
        question
            .equal
            .iter()
            .map(|(field, value)| -> Box<dyn Query> {
                let term = Term::from_field_bytes(self.fields.values[*field], value);
                Box::new(TermQuery::new(term, IndexRecordOption::Basic))
            })
    }

    /// The documents whose text contains this.
    fn contains(&self, part: &str) -> Box<dyn Query> {
        let pieces = pieces_of(part).into_iter();
        let mut terms: Vec<_> = pieces
            .map(|(place, piece)| (place, Term::from_field_text(self.fields.text, &piece)))
            .collect();
        match terms.pop() {
            Some((_, term)) if terms.is_empty() => {
                Box::new(TermQuery::new(term, IndexRecordOption::Basic))
            }
            last => {
                terms.extend(last);
                Box::new(PhraseQuery::new_with_offset(terms))
            }
        }
    }
}

fn intersection(mut all: Vec<Box<dyn Query>>) -> Box<dyn Query> {
    match all.pop() {
        Some(one) if all.is_empty() => one,
        last => {
            all.extend(last);
            Box::new(BooleanQuery::intersection(all))
        }
    }
}

/// The values that a document of a segment is compared with beside the query.
struct Filter<'a> {
    segment: &'a SegmentReader,
    changed: &'a HashSet<DocId>,
    ranges: Vec<(Column, std::ops::Range<u64>)>,
}

impl Filter<'_> {
    fn takes(&self, document: DocId) -> bool {
        !self.segment.is_deleted(document)
            && (self.changed.is_empty() || !self.changed.contains(&document))
            && self
                .ranges
                .iter()
                .all(|(column, range)| range.contains(&column.get_val(document)))
    }
}

/// The keys of a segment's documents under an order.
struct Keys {
    first: Column,
    /// The meanings of the field's numbers; none where they are lengths.
    values: Option<BytesColumn>,
    ids: BytesColumn,
    id_ordinals: Column,
    positions: Column,
    descending: bool,
    class: i64,
    after: Option<Key>,
}

impl Keys {
    fn of(segment: &SegmentReader, question: &Question, class: i64) -> Result<Self, IndexError> {
        let ids = full_bytes(segment, ID)?;
        let positions = full_numbers(segment, POSITION)?;
        let (first, values, descending) = match question.sort {
            None => (full_numbers(segment, LENGTH)?, None, false),
            Some((field, descending)) => {
                let values = full_bytes(segment, &value_name(field))?;
                (Arc::clone(&values.ords().values), Some(values), descending)
            }
        };
        let mut keys = Self {
            first,
            values,
            id_ordinals: Arc::clone(&ids.ords().values),
            ids,
            positions,
            descending,
            class,
            after: None,
        };
        let after = question.after.as_ref();
        keys.after =
            match after.filter(|after| question.sort.is_some() || after.rank / LENGTHS == class) {
                None => None,
                Some(after) => Some(keys.place(after.rank, &after.value, &after.id)?),
            };
        Ok(keys)
    }

    /// The key of a document that has this place in the segment's numbers. Those of documents that are
    /// there are odd, so that there is room for what is between them.
    fn key(&self, first: u64, second: u64) -> Key {
        match self.descending {
            false => (first, second),
            true => (u64::MAX - first, u64::MAX - second),
        }
    }

    fn first_of(&self, number: u64) -> u64 {
        match self.descending {
            false => 2 * number + 1,
            true => u64::MAX - (2 * number + 1),
        }
    }

    fn second_of(&self, document: DocId) -> u64 {
        self.first_of(self.id_ordinals.get_val(document))
    }

    /// The key that a document would have that may be in another segment.
    fn place(&self, rank: i64, value: &[u8], id: &str) -> Result<Key, IndexError> {
        let first = match &self.values {
            None => 2 * (rank % LENGTHS).unsigned_abs() + 1,
            Some(values) => place(values, value)?,
        };
        Ok(self.key(first, place(&self.ids, id.as_bytes())?))
    }

    fn hit(&self, document: DocId) -> Result<Hit, IndexError> {
        let number = self.first.get_val(document);
        let (mut id, mut value) = (Vec::new(), Vec::new());
        self.ids
            .ord_to_bytes(self.id_ordinals.get_val(document), &mut id)?;
        let rank = match &self.values {
            None => Some(self.class * LENGTHS + i64::try_from(number).unwrap_or(0)),
            Some(values) => {
                values.ord_to_bytes(number, &mut value)?;
                None
            }
        };
        Ok(Hit {
            id: String::from_utf8(id).map_err(|_| IndexError::Damaged)?,
            position: self.positions.get_val(document),
            rank,
            value,
        })
    }
}

/// The documents of a page, as far as they are found.
struct Page<'a> {
    question: &'a Question,
    /// In their order.
    hits: Vec<Hit>,
}

impl Page<'_> {
    /// Adds what a segment has that belongs to it.
    fn add(
        &mut self,
        filter: &Filter<'_>,
        keys: &Keys,
        scorer: &mut dyn Scorer,
        better: &mut [Box<dyn Scorer>],
    ) -> Result<(), IndexError> {
        let most = self.question.most;
        let mut end = match self.hits.last() {
            Some(last) if self.hits.len() == most => {
                Some(keys.place(last.rank.unwrap_or(0), &last.value, &last.id)?)
            }
            _ => None,
        };
        let mut heap: BinaryHeap<(Key, DocId)> = BinaryHeap::new();
        let mut block = [0; COLLECT_BLOCK_BUFFER_LEN];
        let mut numbers = [0; COLLECT_BLOCK_BUFFER_LEN];
        loop {
            let length = scorer.fill_buffer(&mut block);
            keys.first
                .get_vals(&block[..length], &mut numbers[..length]);
            for (&document, &number) in block[..length].iter().zip(&numbers) {
                let first = keys.first_of(number);
                let outside = end.is_some_and(|end| first > end.0)
                    || keys.after.is_some_and(|after| first < after.0);
                if outside || !filter.takes(document) {
                    continue;
                }
                let key = (first, keys.second_of(document));
                let outside = end.is_some_and(|end| key >= end)
                    || keys.after.is_some_and(|after| key <= after);
                if outside || better.iter_mut().any(|better| has(&mut **better, document)) {
                    continue;
                }
                heap.push((key, document));
                if heap.len() > most {
                    heap.pop();
                }
                if heap.len() == most {
                    end = heap.peek().map(|(key, _)| *key);
                }
            }
            if length < block.len() {
                break;
            }
        }
        for (_, document) in heap {
            self.hits.push(keys.hit(document)?);
        }
        self.hits
            .sort_by(|one, other| self.question.compare(one, other));
        self.hits.truncate(most);
        Ok(())
    }
}

/// Returns whether a set that is asked for ever higher documents has this one.
fn has(set: &mut dyn Scorer, document: DocId) -> bool {
    if set.doc() < document {
        set.seek(document);
    }
    set.doc() == document
}

/// The place of a value among those of a segment.
fn place(column: &BytesColumn, value: &[u8]) -> Result<u64, IndexError> {
    Ok(match column.dictionary().term_ord_or_next(value)? {
        TermOrdHit::Exact(ordinal) => 2 * ordinal + 1,
        TermOrdHit::Next(ordinal) => ordinal.saturating_mul(2),
    })
}

/// The number of the first value of a segment that is not below this one.
fn first_ordinal(column: &BytesColumn, value: &[u8]) -> Result<u64, IndexError> {
    Ok(match column.dictionary().term_ord_or_next(value)? {
        TermOrdHit::Exact(ordinal) | TermOrdHit::Next(ordinal) => ordinal,
    })
}

/// A column with one value for each document.
pub(super) fn full_bytes(segment: &SegmentReader, name: &str) -> Result<BytesColumn, IndexError> {
    let column = segment.fast_fields().bytes(name)?;
    let column = column.ok_or(IndexError::Damaged)?;
    match column.ords().get_cardinality() {
        Cardinality::Full => Ok(column),
        _ => Err(IndexError::Damaged),
    }
}

pub(super) fn full_numbers(segment: &SegmentReader, name: &str) -> Result<Column, IndexError> {
    let column = segment.fast_fields().u64(name)?;
    match column.get_cardinality() {
        Cardinality::Full => Ok(column.values),
        _ => Err(IndexError::Damaged),
    }
}
