//! The commits that a view has set aside, as they are read. All of it is read page by page.
//!
//! Of what is parked there is a row a commit, ordered by view, aggregate and position, so that one
//! aggregate's are a range in stream order; a row an aggregate, its *head*; and a row for each document
//! that is behind because of an aggregate. These are of one generation of the view. Which events are left
//! out is decided by an operator, and holds for all generations.

use super::{Store, StoreError, field, load::unsigned, rows, take, write::integer};
use crate::{
    event_log::LogName,
    read_model::{
        exchange::{Parked, ParkedHead, Skipped, SkippedPlace},
        schema::ViewTables,
        serving::Behind,
    },
    view::PartKey,
};
use std::collections::{HashMap, HashSet};
use surrealdb::types::{Array, Object, RecordId, RecordIdKey, Value, Variables};

/// The number of rows that are read at once.
const PAGE: usize = 10_000;

/// Which rows of what is parked: those of one aggregate, of all of its name, or all.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Of<'a> {
    pub(crate) aggregate: Option<&'a str>,
    /// Only with the aggregate's name.
    pub(crate) id: Option<&'a str>,
}

impl<'a> Of<'a> {
    /// One aggregate's.
    pub(crate) fn one(key: &'a PartKey) -> Self {
        Self {
            aggregate: Some(&key.0),
            id: Some(&key.1),
        }
    }
}

impl Store {
    /// Reads which aggregates a view has parked.
    pub(crate) async fn parked(
        &self,
        tables: &ViewTables,
    ) -> Result<HashMap<PartKey, ParkedHead>, StoreError> {
        let all = Range::of(tables.documents.as_str(), Of::default());
        let mut heads = HashMap::new();
        let mut after: Option<PartKey> = None;
        loop {
            let after_key = after
                .take()
                .map(|(aggregate, id)| vec![text(&aggregate), text(&id)]);
            let found = self
                .range("parked_head", "*", &all, after_key, PAGE)
                .await?;
            let more = found.len() == PAGE;
            for mut row in found {
                let key = aggregate(&mut row)?;
                after = Some(key.clone());
                heads.insert(key, head(&mut row)?);
            }
            if !more {
                return Ok(heads);
            }
        }
    }

    /// Reads which documents of a view are behind because of which parked aggregate.
    pub(crate) async fn behind_by_aggregate(
        &self,
        tables: &ViewTables,
    ) -> Result<HashMap<PartKey, HashSet<String>>, StoreError> {
        let mut behind: HashMap<PartKey, HashSet<String>> = HashMap::new();
        let all = Range::of(tables.documents.as_str(), Of::default());
        let mut after: Option<(PartKey, String)> = None;
        loop {
            let after_key = after.take().map(|((aggregate, id), document)| {
                vec![text(&aggregate), text(&id), text(&document)]
            });
            let found = self.range("behind", "*", &all, after_key, PAGE).await?;
            let more = found.len() == PAGE;
            for mut row in found {
                let key = aggregate(&mut row)?;
                let document: String = field(&mut row, "document")?;
                after = Some((key.clone(), document.clone()));
                behind.entry(key).or_default().insert(document);
            }
            if !more {
                return Ok(behind);
            }
        }
    }

    /// Reads what readers are told of what a view has parked.
    pub(crate) async fn behind(&self, tables: &ViewTables) -> Result<Behind, StoreError> {
        let heads = self.parked(tables).await?;
        if heads.is_empty() {
            return Ok(Behind::default());
        }
        let behind = self.behind_by_aggregate(tables).await?;
        Ok(Behind {
            aggregates: heads.len(),
            vague: heads.values().any(|head| head.vague),
            documents: behind.into_values().flatten().collect(),
        })
    }

    /// Reads some documents that are behind because of an aggregate.
    pub(crate) async fn behind_because_of(
        &self,
        tables: &ViewTables,
        key: &PartKey,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let range = Range::of(tables.documents.as_str(), Of::one(key));
        let found = self
            .range("behind", "document", &range, None, limit)
            .await?;
        let found = found.into_iter();
        found.map(|mut row| field(&mut row, "document")).collect()
    }

    /// Reads the next parked commits after one of them, each aggregate's in stream order.
    pub(crate) async fn parked_page(
        &self,
        tables: &ViewTables,
        of: Of<'_>,
        after: Option<&(PartKey, u64)>,
        limit: usize,
    ) -> Result<Vec<Parked>, StoreError> {
        let range = Range::of(tables.documents.as_str(), of);
        let after = after
            .map(|((aggregate, id), position)| vec![text(aggregate), text(id), integer(*position)]);
        let found = self.range("parked", "*", &range, after, limit).await?;
        found.into_iter().map(read).collect()
    }

    /// Counts the parked commits of an aggregate.
    pub(crate) async fn count_parked(
        &self,
        tables: &ViewTables,
        key: &PartKey,
    ) -> Result<usize, StoreError> {
        let mut variables = Variables::new();
        variables.insert("view", tables.documents.as_str());
        variables.insert("aggregate", key.0.as_str());
        variables.insert("instance", key.1.as_str());
        let counted = "SELECT count() FROM parked:[$view, $aggregate, $instance, NONE]\
             ..[$view, $aggregate, $instance, ..] GROUP ALL;";
        let mut results = self.query(counted, variables).await?;
        match rows(take(&mut results, 0)?).into_iter().next() {
            Some(Value::Object(mut row)) => {
                let counted = unsigned(&mut row, "count")?;
                usize::try_from(counted).map_err(|_| StoreError::shape("parked"))
            }
            _ => Ok(0),
        }
    }

    /// Reads all that a view has parked, each aggregate's in stream order.
    #[cfg(test)]
    pub(crate) async fn parked_commits(
        &self,
        tables: &ViewTables,
    ) -> Result<Vec<Parked>, StoreError> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self
                .parked_page(tables, Of::default(), after.as_ref(), PAGE)
                .await?;
            let more = page.len() == PAGE;
            all.extend(page);
            after = all
                .last()
                .map(|last: &Parked| (last.aggregate.clone(), last.position));
            if !more {
                return Ok(all);
            }
        }
    }

    /// Reads which events a view leaves out.
    pub(crate) async fn skipped(
        &self,
        tables: &ViewTables,
    ) -> Result<HashSet<SkippedPlace>, StoreError> {
        self.skipped_of(tables, Of::default()).await
    }

    /// Reads which events of an aggregate, or of several, a view leaves out.
    pub(crate) async fn skipped_of(
        &self,
        tables: &ViewTables,
        of: Of<'_>,
    ) -> Result<HashSet<SkippedPlace>, StoreError> {
        let range = Range::of(tables.view, of);
        let (mut places, mut after) = (HashSet::new(), None);
        loop {
            let found = self.range("skipped", "*", &range, after, PAGE).await?;
            let more = found.len() == PAGE;
            after = None;
            for mut row in found {
                let id: RecordId = field(&mut row, "id")?;
                if let RecordIdKey::Array(key) = id.key {
                    after = Some(key.into_inner().into_iter().skip(1).collect());
                }
                let event = match row.contains_key("event") {
                    true => Some(index(&mut row, "event")?),
                    false => None,
                };
                let mark: String = field(&mut row, "mark")?;
                places.insert(SkippedPlace {
                    position: unsigned(&mut row, "position")?,
                    mark: mark
                        .parse()
                        .map_err(|_| StoreError::shape("skipped.mark"))?,
                    event,
                });
            }
            if !more {
                return Ok(places);
            }
        }
    }

    /// The position in a log up to which a generation must have come so that what was withdrawn is not in
    /// it.
    pub(crate) async fn erased(&self, view: &str, log: LogName) -> Result<u64, StoreError> {
        let mut variables = Variables::new();
        variables.insert("erased", Value::RecordId(RecordId::new("erased", view)));
        let erased = "SELECT position, log FROM ONLY $erased;";
        let mut results = self.query(erased, variables).await?;
        let Value::Object(mut row) = take(&mut results, 0)? else {
            return Ok(0);
        };
        match field::<String>(&mut row, "log")? == log.to_string() {
            true => unsigned(&mut row, "position"),
            false => Ok(0),
        }
    }

    /// Reads the next rows of a range, after the row whose key ends with `after`.
    async fn range(
        &self,
        table: &'static str,
        fields: &'static str,
        range: &Range,
        after: Option<Vec<Value>>,
        limit: usize,
    ) -> Result<Vec<Object>, StoreError> {
        let mut variables = Variables::new();
        let open = after.is_none();
        let first = match after {
            Some(after) => {
                let mut key = vec![range.prefix[0].clone()];
                key.extend(after);
                key
            }
            None => range.prefix.clone(),
        };
        let mut names = |name: char, values: &[Value]| {
            let named = values.iter().enumerate().map(|(number, value)| {
                let name = format!("{name}{number}");
                variables.insert(&name, value.clone());
                format!("${name}, ")
            });
            named.collect::<String>()
        };
        let (from, to) = (names('a', &first), names('b', &range.prefix));
        let from = match open {
            true => format!("[{from}NONE].."),
            false => format!("[{}]>..", from.trim_end_matches(", ")),
        };
        let sql = format!("SELECT {fields} FROM {table}:{from}[{to}..] LIMIT {limit};");
        let mut results = self.query(sql, variables).await?;
        rows(take(&mut results, 0)?)
            .into_iter()
            .map(|row| match row {
                Value::Object(row) => Ok(row),
                _ => Err(StoreError::shape(table)),
            })
            .collect()
    }
}

/// The beginning that the keys of some rows share.
struct Range {
    prefix: Vec<Value>,
}

impl Range {
    fn of(first: &str, of: Of<'_>) -> Self {
        let mut prefix = vec![text(first)];
        prefix.extend(of.aggregate.map(text));
        prefix.extend(of.aggregate.and(of.id).map(text));
        Self { prefix }
    }
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn keyed(table: &str, key: Vec<Value>) -> RecordId {
    RecordId::new(table, RecordIdKey::Array(Array::from(key)))
}

fn key_of(tables: &ViewTables, (aggregate, id): &PartKey) -> Vec<Value> {
    vec![text(tables.documents.as_str()), text(aggregate), text(id)]
}

pub(super) fn head_id(tables: &ViewTables, key: &PartKey) -> RecordId {
    keyed("parked_head", key_of(tables, key))
}

pub(super) fn parked_id(tables: &ViewTables, key: &PartKey, position: u64) -> RecordId {
    let mut id = key_of(tables, key);
    id.push(integer(position));
    keyed("parked", id)
}

pub(super) fn behind_id(tables: &ViewTables, key: &PartKey, document: &str) -> RecordId {
    let mut id = key_of(tables, key);
    id.push(text(document));
    keyed("behind", id)
}

pub(super) fn skipped_id(tables: &ViewTables, skipped: &Skipped) -> RecordId {
    let place = &skipped.place;
    let event = place
        .event
        .map_or(Value::None, |event| integer(event as u64));
    let place = [
        integer(place.position),
        text(&place.mark.to_string()),
        event,
    ];
    let (aggregate, id) = &skipped.aggregate;
    let key = [text(tables.view), text(aggregate), text(id)];
    keyed("skipped", key.into_iter().chain(place).collect())
}

fn read(mut row: Object) -> Result<Parked, StoreError> {
    let at: String = field(&mut row, "at")?;
    Ok(Parked {
        aggregate: aggregate(&mut row)?,
        position: unsigned(&mut row, "position")?,
        from_event: index(&mut row, "from_event")?,
        after: field(&mut row, "after")?,
        reason: field(&mut row, "reason")?,
        documents: Vec::new(),
        first: field(&mut row, "first")?,
        unknown: field(&mut row, "unknown")?,
        vague: false,
        at: at.parse().ok(),
    })
}

fn head(row: &mut Object) -> Result<ParkedHead, StoreError> {
    Ok(ParkedHead {
        position: unsigned(row, "position")?,
        from_event: index(row, "from_event")?,
        unknown: field(row, "unknown")?,
        vague: field(row, "vague")?,
    })
}

fn index(row: &mut Object, name: &'static str) -> Result<usize, StoreError> {
    usize::try_from(unsigned(row, name)?).map_err(|_| StoreError::shape(name))
}

fn aggregate(row: &mut Object) -> Result<PartKey, StoreError> {
    Ok((field(row, "aggregate")?, field(row, "instance")?))
}
