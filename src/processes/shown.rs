//! One instance with its steps: what came, what it noted, what it sent and what was answered.

use super::{ToldInstance, registered::record_name};
use crate::{
    event_log::{
        EventLog,
        reader::Commit,
        subject::{self, Id},
    },
    problem::Problem,
    process::{Cause, Step},
    recorded::Recorded,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The number of records on a page, unless it is asked for another.
pub const DEFAULT_LIMIT: usize = 100;
/// The most on a page.
pub const MAX_LIMIT: usize = 200;
/// The most bytes of a page: it has to fit into a message.
const MAX_BYTES: usize = 384 * 1024;
/// The most bytes of one record; a larger one is shown without what it carries.
const MAX_RECORD: usize = 128 * 1024;
/// The most records of an instance that are read.
const MOST: usize = 100_000;

/// Which records of an instance are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShowAsk {
    /// The most of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Those after this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<u64>,
}

/// The answers to commands, by step and number.
type Outcomes = BTreeMap<(u64, u32), Value>;

/// Reads an instance.
///
/// # Errors
///
/// Returns `malformed`, `not_found`, or `unavailable` where the log cannot be read.
pub async fn show(
    log: &EventLog,
    process: &str,
    id: &str,
    ask: &ShowAsk,
) -> Result<Value, Problem> {
    let id = Id::new(id);
    let id = id.map_err(|error| Problem::malformed("id".to_owned(), error.to_string()))?;
    let limit = ask.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let detail = format!("the limit is a number from 1 to {MAX_LIMIT}");
        return Err(Problem::malformed("limit".to_owned(), detail));
    }
    let (told, events) = read(log, process, &id).await?;
    let outcomes = outcomes(process, &events);
    let after = ask.cursor.unwrap_or(0);
    let (mut steps, mut bytes, mut next) = (Vec::new(), 0, None);
    let records = grouped(process, &events);
    let wanted = records.into_iter().filter(|group| group[0].version > after);
    for group in wanted {
        if steps.len() == limit || bytes > MAX_BYTES {
            next = steps
                .last()
                .map(|step: &Value| step["last_version"].clone());
            break;
        }
        let mut shown = show_record(process, group, &outcomes);
        let size = shown.to_string().len();
        if size > MAX_RECORD {
            shown = json!({
                "version": shown["version"], "last_version": shown["last_version"], "position": shown["position"],
                "time": shown["time"], "record": shown["record"], "shortened": true,
            });
        }
        bytes += size.min(MAX_RECORD);
        steps.push(shown);
    }
    let mut shown = json!(told);
    let fields = json!({ "process": process, "id": id.as_str(), "steps": steps, "next": next });
    if let (Value::Object(shown), Value::Object(fields)) = (&mut shown, fields) {
        shown.extend(fields);
    }
    Ok(shown)
}

/// Reads all records of an instance.
pub(super) async fn read(
    log: &EventLog,
    process: &str,
    id: &Id,
) -> Result<(ToldInstance, Vec<Recorded>), Problem> {
    let unavailable = |error: &dyn std::fmt::Display| {
        Problem::unavailable(format!("the log cannot be read: {error}"))
    };
    let subject = subject::events_of(process, id);
    let end = log.end().await.map_err(|error| unavailable(&error))?;
    let (mut told, mut events, mut after) = (ToldInstance::default(), Vec::new(), 0);
    loop {
        let messages = log.next_messages(&subject, after, end).await;
        let messages = messages.map_err(|error| unavailable(&error))?;
        let Some(last) = messages.last() else { break };
        after = last.position;
        for message in &messages {
            for event in Commit::of(message).events.into_iter().flatten() {
                told.take(process, &event);
                events.push(event);
            }
        }
        if events.len() > MOST {
            let detail = format!("the instance has more than {MOST} records");
            return Err(Problem::unavailable(detail));
        }
    }
    match events.is_empty() {
        true => Err(Problem::not_found(
            "not_found",
            format!("there is no instance {id} of {process}"),
        )),
        false => Ok((told, events)),
    }
}

/// A step with the facts that follow it, or another record alone.
fn grouped<'a>(process: &str, events: &'a [Recorded]) -> Vec<&'a [Recorded]> {
    let is_fact = |event: &Recorded| !is_own(process, event);
    let chunks = events.chunk_by(|_, next| is_fact(next));
    chunks.collect()
}

fn is_own(process: &str, event: &Recorded) -> bool {
    let own = [
        "stepped",
        "held",
        "parked",
        "skipped",
        "suspended",
        "resumed",
        "ended",
    ];
    record_name(process, &event.event_type).is_some_and(|name| own.contains(&name))
}

fn step_of(process: &str, event: &Recorded) -> Option<Step> {
    let is_step = record_name(process, &event.event_type) == Some("stepped");
    is_step.then(|| serde_json::from_str(event.data.get()).ok())?
}

fn outcomes(process: &str, events: &[Recorded]) -> Outcomes {
    let steps = events.iter().filter_map(|event| step_of(process, event));
    let answered = steps.filter_map(|step| {
        let of = step.input.answered()?;
        Some((of, outcome(&step.input)))
    });
    answered.collect()
}

/// The answer to a command, as it is stored.
fn outcome(cause: &Cause) -> Value {
    match cause {
        Cause::Accepted {
            version, position, ..
        } => json!({ "status": "accepted", "version": version, "position": position }),
        Cause::Refused { code, detail, .. } => {
            json!({ "status": "refused", "code": code, "detail": detail })
        }
        Cause::Event { .. } | Cause::Due { .. } => Value::Null,
    }
}

fn show_record(process: &str, group: &[Recorded], outcomes: &Outcomes) -> Value {
    let (first, last) = (&group[0], &group[group.len() - 1]);
    let name = record_name(process, &first.event_type).unwrap_or(&first.event_type);
    let facts = group[1..]
        .iter()
        .map(|fact| json!({ "version": fact.version, "type": fact.event_type, "data": fact.data }));
    let facts: Vec<_> = facts.collect();
    let mut shown = json!({
        "version": first.version, "last_version": last.version, "position": first.position,
        "time": first.time, "record": name, "correlation_id": first.correlation_id,
    });
    let more = match step_of(process, first) {
        Some(step) => {
            let sent = (0_u32..).zip(&step.send).map(|(number, command)| {
                let outcome = outcomes.get(&(step.step, number));
                json!({
                    "number": number, "aggregate": command.aggregate, "id": command.id,
                    "command": command.command, "body": command.body, "outcome": outcome,
                })
            });
            json!({
                "input": step.input, "facts": facts, "commands": sent.collect::<Vec<_>>(),
                "deadlines_set": step.set, "deadlines_cancelled": step.cancel, "ended": step.ended,
            })
        }
        None => json!({ "data": first.data, "facts": facts }),
    };
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    shown
}
