//! The projector's rows of what it has set aside: the parked commits, in short which aggregates they are
//! of, which documents are behind because of them, and which events are left out.

use super::{
    parked::{behind_id, head_id, parked_id, skipped_id},
    write::{bulk, integer},
};
use crate::{
    event_log::LogName,
    read_model::{
        exchange::{Aside, Parked, Skipped, TriedAgain},
        schema::ViewTables,
    },
    view::PartKey,
};
use jiff::Timestamp;
use std::collections::BTreeSet;
use surrealdb::types::{Object, RecordId, Value, Variables};

/// The longest reason that is kept, in bytes.
const MAX_REASON: usize = 1_000;

/// Adds to a transaction the statements for what was set aside.
pub(super) fn write(
    tables: &ViewTables,
    log: LogName,
    aside: Aside,
    sql: &mut String,
    variables: &mut Variables,
) {
    if let Some(again) = aside.retried {
        let fails = aside.parked.iter().any(|parked| parked.first);
        retried(tables, again, fails, sql, variables);
    }
    let heads = aside.parked.iter().filter(|parked| parked.first);
    let heads = heads.map(|parked| head_row(tables, parked)).collect();
    bulk(
        sql,
        variables,
        "FOR $row IN $heads { UPSERT $row.id CONTENT $row.row RETURN NONE };",
        "heads",
        heads,
    );
    // One that waits for the first may concern more documents than can be told.
    let vaguer = aside.parked.iter().filter(|it| !it.first && it.vague);
    let vaguer: BTreeSet<_> = vaguer.map(|parked| &parked.aggregate).collect();
    let vaguer = vaguer.into_iter().map(|key| head_id(tables, key));
    bulk(
        sql,
        variables,
        "UPDATE $vaguer SET vague = true RETURN NONE;",
        "vaguer",
        vaguer.map(Value::RecordId).collect(),
    );
    let parked = aside.parked.into_iter();
    bulk(
        sql,
        variables,
        "INSERT INTO parked $parked RETURN NONE;",
        "parked",
        parked.map(|parked| parked_row(tables, parked)).collect(),
    );
    let behind = aside.behind.into_iter();
    bulk(
        sql,
        variables,
        "INSERT IGNORE INTO behind $behind RETURN NONE;",
        "behind",
        behind
            .map(|(key, id)| behind_row(tables, &key, id))
            .collect(),
    );
    let skipped = aside.skipped.iter();
    bulk(
        sql,
        variables,
        "INSERT IGNORE INTO skipped $skipped RETURN NONE;",
        "skipped",
        skipped
            .map(|skipped| skipped_row(tables, skipped))
            .collect(),
    );
    if let Some(position) = aside.erased {
        erased(tables, log, position, sql, variables);
    }
}

/// Takes away what was tried again, and what the aggregate holds up by it, unless it fails anew.
fn retried(
    tables: &ViewTables,
    again: TriedAgain,
    fails: bool,
    sql: &mut String,
    variables: &mut Variables,
) {
    sql.push_str(
        " DELETE parked:[$view, $aggregate, $instance, NONE]\
         ..=[$view, $aggregate, $instance, $through] RETURN NONE;",
    );
    if again.last && !fails {
        sql.push_str(
            " DELETE $head RETURN NONE; \
             DELETE behind:[$view, $aggregate, $instance, NONE]\
             ..[$view, $aggregate, $instance, ..] RETURN NONE;",
        );
    } else if !fails {
        // Unknown, so that the rest is tried again where this was not gone on with.
        sql.push_str(
            " UPDATE $head SET position = $through + 1, from_event = 0, unknown = true \
             RETURN NONE;",
        );
    }
    variables.insert("view", tables.documents.as_str());
    variables.insert("head", Value::RecordId(head_id(tables, &again.aggregate)));
    variables.insert("aggregate", again.aggregate.0);
    variables.insert("instance", again.aggregate.1);
    variables.insert("through", integer(again.through));
}

/// Notes up to where the view has applied erasures of this log.
fn erased(
    tables: &ViewTables,
    log: LogName,
    position: u64,
    sql: &mut String,
    variables: &mut Variables,
) {
    sql.push_str(
        " UPSERT $erased SET position = \
         IF log = $log { math::max([position ?? 0, $erased_at]) } ELSE { $erased_at }, \
         log = $log RETURN NONE;",
    );
    // What was found to differ is kept for a while, and may hold just that.
    sql.push_str(" DELETE drift:[$drifted, NONE]..[$drifted, ..] RETURN NONE;");
    variables.insert("drifted", tables.documents.as_str());
    let erased = RecordId::new("erased", tables.view);
    variables.insert("erased", Value::RecordId(erased));
    variables.insert("erased_at", integer(position));
    variables.insert("log", log.to_string());
}

fn head_row(tables: &ViewTables, parked: &Parked) -> Value {
    let mut row = Object::new();
    row.insert("aggregate", parked.aggregate.0.clone());
    row.insert("instance", parked.aggregate.1.clone());
    row.insert("position", integer(parked.position));
    row.insert("from_event", integer(parked.from_event as u64));
    row.insert("unknown", parked.unknown);
    row.insert("vague", parked.vague);
    let mut upsert = Object::new();
    upsert.insert("id", Value::RecordId(head_id(tables, &parked.aggregate)));
    upsert.insert("row", Value::Object(row));
    Value::Object(upsert)
}

fn parked_row(tables: &ViewTables, mut parked: Parked) -> Value {
    let mut row = Object::new();
    let id = parked_id(tables, &parked.aggregate, parked.position);
    row.insert("id", Value::RecordId(id));
    row.insert("aggregate", parked.aggregate.0);
    row.insert("instance", parked.aggregate.1);
    row.insert("position", integer(parked.position));
    row.insert("from_event", integer(parked.from_event as u64));
    if let Some(after) = parked.after {
        row.insert("after", after);
    }
    parked
        .reason
        .truncate(parked.reason.floor_char_boundary(MAX_REASON));
    row.insert("reason", parked.reason);
    row.insert("first", parked.first);
    row.insert("unknown", parked.unknown);
    let at = parked.at.unwrap_or_else(Timestamp::now);
    row.insert("at", at.to_string());
    Value::Object(row)
}

fn behind_row(tables: &ViewTables, key: &PartKey, id: String) -> Value {
    let mut row = Object::new();
    row.insert("id", Value::RecordId(behind_id(tables, key, &id)));
    row.insert("aggregate", key.0.clone());
    row.insert("instance", key.1.clone());
    row.insert("document", id);
    Value::Object(row)
}

fn skipped_row(tables: &ViewTables, skipped: &Skipped) -> Value {
    let place = skipped.place;
    let mut row = Object::new();
    row.insert("id", Value::RecordId(skipped_id(tables, skipped)));
    row.insert("position", integer(place.position));
    row.insert("mark", place.mark.to_string());
    if let Some(event) = place.event {
        row.insert("event", integer(event as u64));
    }
    row.insert("at", Timestamp::now().to_string());
    Value::Object(row)
}
