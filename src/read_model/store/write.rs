//! What projectors write: one fenced transaction a batch.

use super::{
    FENCED, Store, StoreError,
    load::{checkpoint_id, document_id, part_id},
};
use crate::read_model::{
    exchange::{Changes, Checkpoint, DocumentChange, Parked, PartChange},
    schema::ViewTables,
};
use crate::view::PartKey;
use jiff::Timestamp;
use surrealdb::types::{Array, Object, RecordId, RecordIdKey, SurrealValue, Value, Variables};

impl Store {
    /// Writes what a batch changes, and the checkpoint, all or nothing, if the stored checkpoint is
    /// still of the revision `fence`; returns the new checkpoint.
    ///
    /// A retryable error leaves it open whether it was written: the checkpoint tells.
    pub(crate) async fn write(
        &self,
        tables: &ViewTables,
        fence: &Checkpoint,
        next: Checkpoint,
        changes: Changes,
    ) -> Result<Checkpoint, StoreError> {
        let mut variables = Variables::new();
        variables.insert("checkpoint", Value::RecordId(checkpoint_id(tables)));
        variables.insert("fence", integer(fence.revision));
        variables.insert("next", Value::Object(checkpoint_row(&next)));
        let mut sql = format!(
            "BEGIN; \
             LET $stored = (SELECT VALUE revision FROM ONLY $checkpoint); \
             IF $stored != $fence {{ THROW '{FENCED}' }}; \
             UPDATE $checkpoint CONTENT $next RETURN NONE;"
        );
        let Rows {
            inserted,
            changed,
            removed,
        } = documents(tables, changes.documents);
        let parts = parts(tables, changes.parts);
        bulk(
            &mut sql,
            &mut variables,
            &format!("INSERT INTO {} $inserted RETURN NONE;", tables.documents),
            "inserted",
            inserted,
        );
        // An update of what is there is half as dear as one that has to look whether it is.
        bulk(
            &mut sql,
            &mut variables,
            "FOR $row IN $changed { UPDATE $row.id CONTENT $row.row RETURN NONE };",
            "changed",
            changed.into_iter().chain(parts.changed).collect(),
        );
        bulk(
            &mut sql,
            &mut variables,
            "DELETE $removed RETURN NONE;",
            "removed",
            removed.into_iter().chain(parts.removed).collect(),
        );
        bulk(
            &mut sql,
            &mut variables,
            &format!("INSERT INTO {} $parts RETURN NONE;", tables.parts),
            "parts",
            parts.inserted,
        );
        // What is tried again is parked again as a whole, or not at all.
        if let Some((aggregate, instance)) = changes.retried {
            sql.push_str(
                " DELETE parked:[$view, $aggregate, $instance, NONE]\
                 ..[$view, $aggregate, $instance, ..] RETURN NONE;",
            );
            variables.insert("view", tables.documents.as_str());
            variables.insert("aggregate", aggregate);
            variables.insert("instance", instance);
        }
        if let Some((aggregate, position, event)) = changes.skipped {
            sql.push_str(" INSERT INTO skipped $skipped RETURN NONE;");
            variables.insert("skipped", skipped_row(tables, &aggregate, position, event));
        }
        let parked = changes.parked.into_iter();
        bulk(
            &mut sql,
            &mut variables,
            "INSERT INTO parked $parked RETURN NONE;",
            "parked",
            parked.map(|parked| parked_row(tables, parked)).collect(),
        );
        sql.push_str(" COMMIT;");
        self.query(sql, variables).await?;
        Ok(next)
    }
}

/// Adds a statement over `rows`, if there are any.
fn bulk(
    sql: &mut String,
    variables: &mut Variables,
    statement: &str,
    name: &str,
    rows: Vec<Value>,
) {
    if !rows.is_empty() {
        sql.push(' ');
        sql.push_str(statement);
        variables.insert(name, Value::Array(Array::from(rows)));
    }
}

/// What is inserted, changed, and removed by its id.
#[derive(Default)]
struct Rows {
    inserted: Vec<Value>,
    changed: Vec<Value>,
    removed: Vec<Value>,
}

impl Rows {
    fn put(&mut self, id: Value, mut row: Object, exists: bool) {
        if exists {
            let mut changed = Object::new();
            changed.insert("id", id);
            changed.insert("row", Value::Object(row));
            self.changed.push(Value::Object(changed));
        } else {
            row.insert("id", id);
            self.inserted.push(Value::Object(row));
        }
    }
}

fn documents(tables: &ViewTables, changes: Vec<DocumentChange>) -> Rows {
    let mut documents = Rows::default();
    for change in changes {
        let id = Value::RecordId(document_id(&tables.documents, &change.id));
        match change.document {
            Some(document) => {
                let mut row = Object::new();
                if let Some(searched) = tables.searched(&document) {
                    row.insert("text", searched.text);
                    row.insert("pieces", searched.pieces);
                }
                let (compared, given) = tables.compared(document);
                row.insert("seq", integer(change.position));
                row.insert("doc", compared.into_value());
                if let Some(given) = given {
                    row.insert("given", given.into_value());
                }
                documents.put(id, row, change.exists);
            }
            None if change.exists => documents.removed.push(id),
            None => {}
        }
    }
    documents
}

fn parts(tables: &ViewTables, changes: Vec<PartChange>) -> Rows {
    let mut parts = Rows::default();
    for change in changes {
        let id = Value::RecordId(part_id(&tables.parts, &change.key));
        match change.part {
            Some(part) => {
                let mut row = Object::new();
                row.insert("part", part);
                parts.put(id, row, change.exists);
            }
            None if change.exists => parts.removed.push(id),
            None => {}
        }
    }
    parts
}

/// Ordered by view, aggregate and position, so that one aggregate's are a range in stream order.
fn parked_row(tables: &ViewTables, parked: Parked) -> Value {
    let (aggregate, instance) = parked.aggregate;
    let key = vec![
        Value::String(tables.documents.as_str().to_owned()),
        Value::String(aggregate.clone()),
        Value::String(instance.clone()),
        integer(parked.position),
    ];
    let mut row = Object::new();
    row.insert(
        "id",
        Value::RecordId(RecordId::new(
            "parked",
            RecordIdKey::Array(Array::from(key)),
        )),
    );
    row.insert("aggregate", aggregate);
    row.insert("instance", instance);
    row.insert("position", integer(parked.position));
    row.insert("from_event", integer(parked.from_event as u64));
    row.insert("reason", parked.reason);
    let documents = parked.documents.into_iter().map(Value::String);
    row.insert(
        "documents",
        Value::Array(documents.collect::<Vec<_>>().into()),
    );
    let at = parked.at.unwrap_or_else(Timestamp::now);
    row.insert("at", at.to_string());
    Value::Object(row)
}

fn skipped_row(
    tables: &ViewTables,
    (aggregate, instance): &PartKey,
    position: u64,
    event: usize,
) -> Value {
    let key = vec![
        Value::String(tables.documents.as_str().to_owned()),
        integer(position),
        integer(event as u64),
    ];
    let id = RecordId::new("skipped", RecordIdKey::Array(Array::from(key)));
    let mut row = Object::new();
    row.insert("id", Value::RecordId(id));
    row.insert("aggregate", aggregate.clone());
    row.insert("instance", instance.clone());
    row.insert("position", integer(position));
    row.insert("event", integer(event as u64));
    row.insert("at", Timestamp::now().to_string());
    Value::Object(row)
}

pub(super) fn checkpoint_row(checkpoint: &Checkpoint) -> Object {
    let mut row = Object::new();
    row.insert("position", integer(checkpoint.position));
    row.insert("mark", checkpoint.mark.to_string());
    row.insert("log", checkpoint.log.to_string());
    row.insert("exchanges", integer(checkpoint.exchanges.into()));
    row.insert("revision", integer(checkpoint.revision));
    row.insert("writer", checkpoint.writer.clone());
    row.insert("at", checkpoint.at.to_string());
    row
}

/// Stream sequences and counts stay far below 2^63.
pub(super) fn integer(value: u64) -> Value {
    i64::try_from(value).unwrap_or(i64::MAX).into_value()
}
