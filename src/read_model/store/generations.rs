//! A view's generations as they are stored, and what is done with whole generations.

use super::{
    FENCED, Store, StoreError,
    drift::verified_id,
    load::{checkpoint_id, followed_id},
    take,
    write::integer,
};
use crate::read_model::{
    generation::Generations,
    schema::{SHARED, ViewTables},
};
use surrealdb::types::{Array, RecordId, SurrealValue, Value, Variables};

/// The text that a take-over throws that would go back in time.
const BEHIND: &str = "headwater: behind";
/// The writer of a checkpoint whose generation has got another place: its projector looks again.
pub(crate) const TURNED: &str = "turned";

impl Store {
    /// Defines the tables that all views share. What exists stays.
    pub(crate) async fn define_shared(&self) -> Result<(), StoreError> {
        self.query(SHARED, Variables::new()).await?;
        Ok(())
    }

    /// Reads a view's generations; none at all before a projector has made the first.
    pub(crate) async fn generations(&self, view: &str) -> Result<Generations, StoreError> {
        let mut variables = Variables::new();
        variables.insert("view", Value::RecordId(RecordId::new("view", view)));
        let mut results = self
            .query("SELECT VALUE generations FROM ONLY $view;", variables)
            .await?;
        match take(&mut results, 0)? {
            Value::None => Ok(Generations::default()),
            stored => serde_json::from_value(stored.into_json_value())
                .map_err(|_| StoreError::shape("view.generations")),
        }
    }

    /// Stores a view's next generations, if nobody else has changed them.
    pub(crate) async fn change_generations(
        &self,
        view: &str,
        next: &Generations,
    ) -> Result<(), StoreError> {
        let sql = format!("BEGIN; {} COMMIT;", change());
        self.query(sql, changing(view, next)).await?;
        Ok(())
    }

    /// Stores a view's next generations, in which `to` is live in place of `from`, if there is one, in one transaction
    /// with a new revision of both checkpoints: their projectors are fenced, and look again which is
    /// live. With `forward` it is refused, with `false`, when `to` is behind `from`, or behind that
    /// position, which was served from it.
    pub(crate) async fn turn(
        &self,
        view: &str,
        next: &Generations,
        from: Option<&ViewTables>,
        to: &ViewTables,
        forward: Option<u64>,
    ) -> Result<bool, StoreError> {
        let mut variables = changing(view, next);
        let from_tables = from;
        let from = from.map(|from| Value::RecordId(checkpoint_id(from)));
        variables.insert("from", from.unwrap_or(Value::Array(Array::new())));
        variables.insert("to", Value::RecordId(checkpoint_id(to)));
        let check = match forward {
            Some(served) => {
                variables.insert("served", integer(served));
                format!(
                    "LET $position = (SELECT VALUE position FROM ONLY $to) ?? 0; \
                     IF $position < ((SELECT VALUE position FROM ONLY $from) ?? 0) \
                     OR $position < $served {{ THROW '{BEHIND}' }};"
                )
            }
            None => String::new(),
        };
        let sql = format!(
            "BEGIN; {} {check} \
             UPDATE $from SET revision += 1, writer = '{TURNED}' RETURN NONE; \
             UPDATE $to SET revision += 1, writer = '{TURNED}' RETURN NONE; COMMIT;",
            change()
        );
        match self.query(sql, variables).await {
            Ok(_) => {
                for tables in from_tables.into_iter().chain([to]) {
                    if let Some(texts) = &self.inner.texts {
                        texts.turn(tables);
                    }
                    if let Some(lists) = &self.inner.lists {
                        lists.turn(tables);
                    }
                }
                Ok(true)
            }
            Err(StoreError::Unavailable(error)) if error.message().contains(BEHIND) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes all that a generation has.
    pub(crate) async fn remove(&self, tables: &ViewTables) -> Result<(), StoreError> {
        let mut variables = Variables::new();
        variables.insert("view", tables.documents.as_str());
        variables.insert("checkpoint", Value::RecordId(checkpoint_id(tables)));
        variables.insert("followed", Value::RecordId(followed_id(tables)));
        variables.insert("verified", Value::RecordId(verified_id(tables)));
        let sql = format!(
            "REMOVE TABLE IF EXISTS {}; REMOVE TABLE IF EXISTS {}; REMOVE TABLE IF EXISTS {}; \
             DELETE parked:[$view, NONE]..[$view, ..] RETURN NONE; \
             DELETE parked_head:[$view, NONE]..[$view, ..] RETURN NONE; \
             DELETE behind:[$view, NONE]..[$view, ..] RETURN NONE; \
             DELETE drift:[$view, NONE]..[$view, ..] RETURN NONE; \
             DELETE [$checkpoint, $followed, $verified] RETURN NONE;",
            tables.documents, tables.parts, tables.counts
        );
        self.query(sql, variables).await?;
        if let Some(texts) = &self.inner.texts {
            texts.remove(tables);
        }
        if let Some(lists) = &self.inner.lists {
            lists.remove(tables);
        }
        Ok(())
    }
}

fn change() -> String {
    format!(
        "LET $stored = (SELECT VALUE generations.revision FROM ONLY $view) ?? 0; \
         IF $stored != $fence {{ THROW '{FENCED}' }}; \
         UPSERT $view CONTENT {{ generations: $next }} RETURN NONE;"
    )
}

fn changing(view: &str, next: &Generations) -> Variables {
    let mut variables = Variables::new();
    variables.insert("view", Value::RecordId(RecordId::new("view", view)));
    variables.insert("fence", integer(next.revision - 1));
    let next = serde_json::to_value(next).expect("generations are plain data");
    variables.insert("next", next.into_value());
    variables
}
