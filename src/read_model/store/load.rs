//! What projectors read: checkpoints, parked aggregates, and what a batch needs, in bulk.

use super::{Row, Store, StoreError, field, rows, take, write::checkpoint_row};
use crate::{
    event_log::{LogName, Mark},
    read_model::{
        exchange::{Checkpoint, Found, Needs, RouteKey},
        schema::{FieldPath, TableName, ViewTables, compared},
    },
    view::PartKey,
};
use jiff::Timestamp;
use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write,
    str::FromStr,
};
use surrealdb::types::{Array, Object, RecordId, RecordIdKey, Value, Variables};

impl Store {
    /// Reads a view's checkpoint; one at the beginning of a log is made when there is none.
    pub(crate) async fn checkpoint(&self, tables: &ViewTables) -> Result<Checkpoint, StoreError> {
        self.checkpoint_of(tables, LogName::default()).await
    }

    /// As [`Store::checkpoint`]; one that is made is of the log of this name.
    pub(crate) async fn checkpoint_of(
        &self,
        tables: &ViewTables,
        log: LogName,
    ) -> Result<Checkpoint, StoreError> {
        if let Some(checkpoint) = self.find_checkpoint(tables).await? {
            return Ok(checkpoint);
        }
        let mut variables = Variables::new();
        let first = Checkpoint {
            position: 0,
            mark: Mark::default(),
            log,
            exchanges: 0,
            revision: 0,
            writer: String::new(),
            at: Timestamp::now(),
        };
        let mut row = checkpoint_row(&first);
        row.insert("id", Value::RecordId(checkpoint_id(tables)));
        variables.insert("first", Value::Object(row));
        let insert = "INSERT IGNORE INTO checkpoint $first RETURN NONE;";
        self.query(insert, variables).await?;
        let made = self.find_checkpoint(tables).await?;
        made.ok_or_else(|| StoreError::shape("checkpoint"))
    }

    /// Reads a view's checkpoint, if the view was ever written.
    pub(crate) async fn find_checkpoint(
        &self,
        tables: &ViewTables,
    ) -> Result<Option<Checkpoint>, StoreError> {
        let mut variables = Variables::new();
        variables.insert("id", Value::RecordId(checkpoint_id(tables)));
        let mut results = self.query("SELECT * FROM ONLY $id;", variables).await?;
        let mut row = match take(&mut results, 0)? {
            Value::Object(row) => row,
            Value::None => return Ok(None),
            _ => return Err(StoreError::shape("checkpoint")),
        };
        let at: String = field(&mut row, "at")?;
        Ok(Some(Checkpoint {
            position: unsigned(&mut row, "position")?,
            mark: digits(&mut row, "mark")?,
            log: digits(&mut row, "log")?,
            exchanges: unsigned(&mut row, "exchanges")?
                .try_into()
                .map_err(|_| StoreError::shape("checkpoint.exchanges"))?,
            revision: unsigned(&mut row, "revision")?,
            writer: field(&mut row, "writer")?,
            at: at.parse().map_err(|_| StoreError::shape("checkpoint.at"))?,
        }))
    }

    /// Whether a view has neither documents nor parts.
    pub(crate) async fn is_empty(&self, tables: &ViewTables) -> Result<bool, StoreError> {
        let sql = format!(
            "SELECT VALUE id FROM {} LIMIT 1; SELECT VALUE id FROM {} LIMIT 1;",
            tables.documents, tables.parts
        );
        let mut results = self.query(sql, Variables::new()).await?;
        Ok(rows(take(&mut results, 0)?).is_empty() && rows(take(&mut results, 1)?).is_empty())
    }

    /// Reads all that a batch needs, in one round trip.
    pub(crate) async fn load(
        &self,
        tables: &ViewTables,
        needs: &Needs,
    ) -> Result<Found, StoreError> {
        if needs.is_empty() {
            return Ok(Found::default());
        }
        let mut variables = Variables::new();
        let ids = |ids: Vec<RecordId>| {
            Value::Array(
                ids.into_iter()
                    .map(Value::RecordId)
                    .collect::<Vec<_>>()
                    .into(),
            )
        };
        variables.insert(
            "parts",
            ids(needs
                .parts
                .iter()
                .map(|key| part_id(&tables.parts, key))
                .collect()),
        );
        variables.insert(
            "documents",
            ids(needs
                .documents
                .iter()
                .map(|id| document_id(&tables.documents, id))
                .collect()),
        );
        let mut sql =
            "SELECT id, part FROM $parts; SELECT id, seq, doc, given FROM $documents;".to_owned();
        let groups = RouteGroup::all(needs)?;
        for (number, group) in groups.iter().enumerate() {
            group.write(&mut sql, &mut variables, tables, number);
        }
        let mut results = self.query(sql, variables).await?;
        let parts = rows(take(&mut results, 0)?)
            .into_iter()
            .map(read_part)
            .collect::<Result<_, _>>()?;
        let documents = rows(take(&mut results, 1)?)
            .into_iter()
            .map(|row| Row::read(row).map(|row| (row.id, row.document)))
            .collect::<Result<_, _>>()?;
        let mut routes = Vec::with_capacity(needs.routes.len());
        for (number, group) in groups.into_iter().enumerate() {
            let found = rows(take(&mut results, 2 + number)?).into_iter();
            let found = found.map(|row| Row::read(row).map(|row| (row.id, row.document)));
            group.share(found.collect::<Result<_, _>>()?, &mut routes);
        }
        Ok(Found {
            parts,
            documents,
            routes,
        })
    }
}

/// The most values of a field that one statement asks for.
const MOST_VALUES: usize = 256;

/// Routes that one statement follows: those by the same field alone, since a statement costs much more
/// than one more value in it, or else one.
struct RouteGroup<'a> {
    paths: Vec<FieldPath>,
    routes: Vec<&'a RouteKey>,
}

impl<'a> RouteGroup<'a> {
    fn all(needs: &'a Needs) -> Result<Vec<Self>, StoreError> {
        let mut groups: Vec<Self> = Vec::new();
        // They are in the order of their fields.
        for route in &needs.routes {
            match groups.last_mut() {
                Some(group) if group.takes(route) => group.routes.push(route),
                _ => groups.push(Self {
                    paths: route
                        .iter()
                        .map(|(field, _)| FieldPath::parse(field))
                        .collect::<Result<_, _>>()
                        .map_err(|error| StoreError::shape(error.to_string()))?,
                    routes: vec![route],
                }),
            }
        }
        Ok(groups)
    }

    fn takes(&self, route: &RouteKey) -> bool {
        let [(field, _)] = &route[..] else {
            return false;
        };
        let same = |known: &RouteKey| matches!(&known[..], [(known, _)] if known == field);
        self.routes.len() < MOST_VALUES && same(self.routes[0])
    }

    fn write(
        &self,
        sql: &mut String,
        variables: &mut Variables,
        tables: &ViewTables,
        number: usize,
    ) {
        let mut conditions = Vec::with_capacity(self.paths.len());
        for (index, path) in self.paths.iter().enumerate() {
            let name = format!("r{number}_{index}");
            let mut values = self.routes.iter().map(|route| route[index].1.as_str());
            match (values.len(), path.is_many()) {
                (1, many) => {
                    let compare = if many { "CONTAINS" } else { "=" };
                    conditions.push(format!("{path} {compare} ${name}"));
                    variables.insert(name, compared(values.next().unwrap_or_default()).as_ref());
                }
                (_, many) => {
                    let compare = if many { "CONTAINSANY" } else { "IN" };
                    conditions.push(format!("{path} {compare} ${name}"));
                    let values = values.map(|value| Value::String(compared(value).into_owned()));
                    let values = Value::Array(Array::from(values.collect::<Vec<_>>()));
                    variables.insert(name, values);
                }
            }
        }
        write!(
            sql,
            " SELECT id, seq, doc, given FROM {} WHERE {};",
            tables.documents,
            conditions.join(" AND ")
        )
        .expect("a string takes all that is written");
    }

    /// Gives each route the documents that it leads to: those with its very values, of those with values
    /// that are compared as the same.
    fn share(
        self,
        documents: Vec<(String, serde_json::Value)>,
        to: &mut Vec<(RouteKey, Vec<(String, serde_json::Value)>)>,
    ) {
        if let [route] = self.routes[..] {
            let leads = |(_, document): &(String, serde_json::Value)| {
                let mut fields = self.paths.iter().zip(route);
                fields.all(|(path, (_, value))| {
                    let mut same = false;
                    path.each(document, &mut |found| same |= found == value.as_str());
                    same
                })
            };
            let documents = documents.into_iter().filter(leads);
            return to.push((route.clone(), documents.collect()));
        }
        let mut places = HashMap::with_capacity(self.routes.len());
        for route in self.routes {
            places.insert(route[0].1.as_str(), to.len());
            to.push((route.clone(), Vec::new()));
        }
        for (id, document) in documents {
            let mut found = BTreeSet::<usize>::new();
            self.paths[0].each(&document, &mut |value| {
                found.extend(value.as_str().and_then(|value| places.get(value).copied()));
            });
            for place in found {
                to[place].1.push((id.clone(), document.clone()));
            }
        }
    }
}

fn read_part(row: Value) -> Result<(PartKey, String), StoreError> {
    let Value::Object(mut row) = row else {
        return Err(StoreError::shape("part"));
    };
    let part = field(&mut row, "part")?;
    match row.remove("id") {
        Some(Value::RecordId(RecordId {
            key: RecordIdKey::Array(key),
            ..
        })) => match <[Value; 2]>::try_from(key.into_inner()) {
            Ok([Value::String(aggregate), Value::String(id)]) => Ok(((aggregate, id), part)),
            _ => Err(StoreError::shape("part.id")),
        },
        _ => Err(StoreError::shape("part.id")),
    }
}

pub(super) fn unsigned(row: &mut Object, name: &'static str) -> Result<u64, StoreError> {
    let value: i64 = field(row, name)?;
    u64::try_from(value).map_err(|_| StoreError::shape(name))
}

/// A number that is stored as its digits.
fn digits<T: FromStr>(row: &mut Object, name: &'static str) -> Result<T, StoreError> {
    let digits: String = field(row, name)?;
    digits.parse().map_err(|_| StoreError::shape(name))
}

pub(super) fn checkpoint_id(tables: &ViewTables) -> RecordId {
    RecordId::new("checkpoint", tables.documents.as_str())
}

pub(super) fn followed_id(tables: &ViewTables) -> RecordId {
    RecordId::new("followed", tables.documents.as_str())
}

pub(super) fn document_id(table: &TableName, id: &str) -> RecordId {
    RecordId::new(table.as_str(), id)
}

pub(super) fn part_id(table: &TableName, (aggregate, id): &PartKey) -> RecordId {
    let key = [aggregate, id].map(|part| Value::String(part.clone()));
    RecordId::new(
        table.as_str(),
        RecordIdKey::Array(Array::from(key.to_vec())),
    )
}
