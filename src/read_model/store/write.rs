//! The projectors' writings: one fenced transaction a batch.

use super::{
    FENCED, GONE, Store, StoreError, aside,
    counts::count_rows,
    load::{checkpoint_id, document_id, part_id},
    ordered::insert_keys,
};
use crate::read_model::{
    counting::CountChanges,
    exchange::{Changes, Checkpoint, DocumentChange, PartChange, Within},
    schema::ViewTables,
};
use serde_json::Value as Json;
use surrealdb::types::{Array, Object, SurrealValue, Value, Variables};

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
        mut changes: Changes,
    ) -> Result<Checkpoint, StoreError> {
        let aside = changes.take_aside();
        let texts = self.inner.texts.as_ref();
        let indexed = texts.and_then(|texts| texts.begin(tables));
        let entries = indexed.as_ref();
        let entries = entries.map(|indexed| indexed.entries(&changes.documents));
        let lists = self.inner.lists.as_ref();
        let listed = lists.map(|lists| lists.begin(tables, &changes.documents));
        let mut transaction = Transaction::begin(tables, fence, &next);
        let rows = documents(tables, changes.documents, self.inner.full_text);
        transaction.rows(tables, rows, parts(tables, changes.parts));
        let Transaction {
            mut sql,
            mut variables,
        } = transaction;
        aside::write(tables, next.log, aside, &mut sql, &mut variables);
        sql.push_str(" COMMIT;");
        let written = self.query(sql, variables).await;
        match &written {
            Ok(_) => {
                if let Some(listed) = listed {
                    listed.written(fence.revision, next.revision);
                }
                if let Some(indexed) = indexed {
                    let entries = entries.unwrap_or_default();
                    indexed.written(fence.revision, &next, entries).await;
                }
            }
            Err(
                StoreError::Fenced
                | StoreError::Failed(_)
                | StoreError::Conflict(_)
                | StoreError::Refused(_),
            ) => {
                if let Some(listed) = listed {
                    listed.refused();
                }
                if let Some(indexed) = indexed {
                    indexed.refused();
                }
            }
            // It may have been written.
            Err(_) => {}
        }
        written?;
        Ok(next)
    }
}

/// A transaction as it is written down.
struct Transaction {
    sql: String,
    variables: Variables,
}

impl Transaction {
    /// The checkpoint, which ends it where another has been written meanwhile.
    fn begin(tables: &ViewTables, fence: &Checkpoint, next: &Checkpoint) -> Self {
        let mut variables = Variables::new();
        variables.insert("checkpoint", Value::RecordId(checkpoint_id(tables)));
        variables.insert("fence", integer(fence.revision));
        variables.insert("next", Value::Object(checkpoint_row(next)));
        let sql = format!(
            "BEGIN; \
             LET $stored = (SELECT VALUE revision FROM ONLY $checkpoint); \
             IF $stored != $fence {{ THROW '{FENCED}' }}; \
             UPDATE $checkpoint CONTENT $next RETURN NONE;"
        );
        Self { sql, variables }
    }

    fn rows(&mut self, tables: &ViewTables, documents: Rows, parts: Rows) {
        self.bulk(
            &format!("INSERT INTO {} $inserted RETURN NONE;", tables.documents),
            "inserted",
            documents.inserted,
        );
        // An update of what is there is half as dear as one that has to look whether it is. Of what is not
        // there any more it changes nothing, and says nothing.
        self.bulk(
            &format!(
                "FOR $row IN $changed {{ \
                 IF (UPDATE $row.id CONTENT $row.row RETURN VALUE id) = [] {{ THROW '{GONE}' }} }};"
            ),
            "changed",
            documents.changed.into_iter().chain(parts.changed).collect(),
        );
        self.bulk(
            "DELETE $removed RETURN NONE;",
            "removed",
            documents.removed.into_iter().chain(parts.removed).collect(),
        );
        self.bulk(
            &format!("INSERT INTO {} $parts RETURN NONE;", tables.parts),
            "parts",
            parts.inserted,
        );
        self.bulk(
            "FOR $row IN $counts { UPSERT $row.id SET n += $row.by RETURN NONE };",
            "counts",
            count_rows(tables, documents.counts),
        );
    }

    fn bulk(&mut self, statement: &str, name: &str, rows: Vec<Value>) {
        bulk(&mut self.sql, &mut self.variables, statement, name, rows);
    }
}

/// Adds a statement over `rows`, if there are any.
pub(super) fn bulk(
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

/// Rows that are inserted, changed, and removed by their id.
#[derive(Default)]
struct Rows {
    inserted: Vec<Value>,
    changed: Vec<Value>,
    removed: Vec<Value>,
    counts: CountChanges,
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

/// Adds what a document is searched by to its row.
pub(super) fn insert_text(row: &mut Object, tables: &ViewTables, document: &Json, full_text: bool) {
    if full_text && let Some(searched) = tables.searched(document) {
        row.insert("text", searched.text);
        row.insert("pieces", searched.pieces);
    } else if let Some(text) = tables.searched_text(document) {
        row.insert("text", text);
    }
}

fn documents(tables: &ViewTables, changes: Vec<DocumentChange>, full_text: bool) -> Rows {
    let mut documents = Rows::default();
    for change in changes {
        let id = Value::RecordId(document_id(&tables.documents, &change.id));
        let (before, after) = (change.before.as_ref(), change.document.as_ref());
        documents.counts.note(&tables.counted, before, after);
        match change.document {
            Some(document) => {
                let mut row = Object::new();
                insert_text(&mut row, tables, &document, full_text);
                let (compared, given) = tables.compared(document);
                insert_keys(&mut row, tables, &change.id, &compared);
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

pub(super) fn checkpoint_row(checkpoint: &Checkpoint) -> Object {
    let mut row = Object::new();
    row.insert("position", integer(checkpoint.position));
    row.insert("mark", checkpoint.mark.to_string());
    row.insert("log", checkpoint.log.to_string());
    row.insert("exchanges", integer(checkpoint.exchanges.into()));
    row.insert("revision", integer(checkpoint.revision));
    row.insert("writer", checkpoint.writer.clone());
    row.insert("at", checkpoint.at.to_string());
    if let Some(within) = &checkpoint.within {
        row.insert("within", within_row(within));
    }
    row
}

fn within_row(within: &Within) -> Object {
    let mut row = Object::new();
    row.insert("position", integer(within.position));
    row.insert("mark", within.mark.to_string());
    row.insert("event", integer(within.event as u64));
    if let Some(after) = &within.after {
        row.insert("after", after.clone());
    }
    row.insert("pages", integer(within.pages.into()));
    row
}

/// Stream sequences and counts stay far below 2^63.
pub(super) fn integer(value: u64) -> Value {
    i64::try_from(value).unwrap_or(i64::MAX).into_value()
}
