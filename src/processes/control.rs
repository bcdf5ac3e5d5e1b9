//! Operators' changes of an instance: `ctl.process.<process>.<id>.<verb>`, where one of the replicas that run
//! the process answers with the outcome, or the refusal.

use super::{ToldStatus, desk::Desk, shown};
use crate::{
    access::{AUDIT, Access},
    caller::Action,
    event_log::{
        subject::Id,
        unplaced::{Unplaced, Wanted},
    },
    outcome::Outcome,
    problem::Problem,
    process::InstanceCommand,
    request_reply::ReplyGuard,
};
use async_nats::Message;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The longest reason, in bytes.
const LONGEST: usize = 500;

/// The callers that may ask, and the way they are answered.
#[derive(Clone)]
pub struct Operators {
    /// The connection that they ask by.
    pub nats: async_nats::Client,
    /// The place where answers may go.
    pub guard: ReplyGuard,
    /// Finds out who asks, and what they may.
    pub access: Access,
}

/// The request of an operator.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessAsk {
    /// The reason; it is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The aggregate that the process cannot place the events of; the id is that of the subject then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unplaced: Option<String>,
}

/// Does what an operator asks for.
pub(super) async fn act(
    desk: &Desk,
    operators: &Operators,
    message: &Message,
) -> Result<Bytes, Problem> {
    let who = operators.access.identified(&message.headers, None).await?;
    let who = who.may(Action::Operate)?;
    let tokens: Vec<_> = message.subject.split('.').collect();
    let [_, _, _, id, verb] = tokens[..] else {
        return Err(Problem::malformed(
            "id".to_owned(),
            "ctl.process.<process>.<id>.<verb>",
        ));
    };
    let id = Id::new(id);
    let id = id.map_err(|error| Problem::malformed("id".to_owned(), error.to_string()))?;
    let ask = match message.payload.is_empty() {
        true => ProcessAsk::default(),
        false => serde_json::from_slice(&message.payload)
            .map_err(|error| Problem::malformed("body".to_owned(), error.to_string()))?,
    };
    let settings = desk.process.settings.clone();
    let reason = || match &ask.reason {
        Some(reason) if (1..=LONGEST).contains(&reason.len()) => Ok(reason.clone()),
        _ => {
            let detail = format!("a reason of 1 to {LONGEST} bytes is needed; it is recorded");
            Err(Problem::malformed("reason".to_owned(), detail))
        }
    };
    let by = who.caller.subject().unwrap_or("nobody known");
    if let Some(aggregate) = &ask.unplaced {
        let why = match verb {
            "skip" => reason()?,
            _ => String::new(),
        };
        let outcome = settle_unplaced(desk, aggregate, &id, verb).await?;
        tracing::info!(target: AUDIT, by, process.name = desk.process.name, aggregate.name = aggregate, aggregate.id = %id, doing = verb, why, "an operator");
        return Ok(outcome);
    }
    let command = match verb {
        "retry" => {
            let (told, _) = shown::read(&desk.log, desk.process.name, &id).await?;
            if told.status != ToldStatus::Parked {
                let detail = format!("it is {}, and not parked", told.status);
                return Err(Problem::refused("not_parked", detail));
            }
            InstanceCommand::Resume { settings }
        }
        "resume" => InstanceCommand::Resume { settings },
        "skip" => InstanceCommand::Skip {
            reason: reason()?,
            settings,
        },
        "suspend" => InstanceCommand::Suspend { reason: reason()? },
        "end" => InstanceCommand::End { reason: reason()? },
        _ => {
            let detail = format!("there is no verb {verb:?}: retry, resume, skip, suspend or end");
            return Err(Problem::not_found("unknown_command", detail));
        }
    };
    let outcome = desk.ask(&id, &command).await?;
    tracing::info!(target: AUDIT, by, process.name = desk.process.name, process.instance = %id, doing = verb, "an operator");
    Ok(outcome.to_json().into())
}

/// Notes what an operator wants to be done with what a process cannot place. Whoever follows does it.
async fn settle_unplaced(
    desk: &Desk,
    aggregate: &str,
    id: &Id,
    verb: &str,
) -> Result<Bytes, Problem> {
    let unavailable = |error: &dyn std::fmt::Display| {
        Problem::unavailable(format!("the log cannot be read: {error}"))
    };
    let wanted = match verb {
        "retry" => Wanted::Retry,
        "skip" => Wanted::Skip,
        _ => {
            let detail = "what cannot be placed can be given the verbs retry and skip";
            return Err(Problem::not_found("unknown_command", detail));
        }
    };
    let process = desk.process.name;
    let unplaced = desk.log.unplaced(process).await;
    let mut unplaced = unplaced.map_err(|error| unavailable(&error))?.into_iter();
    let this = |it: &Unplaced| it.aggregate == aggregate && it.id == id.as_str();
    let Some(found) = unplaced.find(this) else {
        let detail = format!("{process} can place all events of {aggregate} {id}");
        return Err(Problem::not_found("not_found", detail));
    };
    let note = Unplaced {
        wanted: Some(wanted),
        ..found
    };
    let noted = desk.log.note_unplaced(process, &note).await;
    noted.map_err(|error| unavailable(&error))?;
    let outcome = Outcome {
        aggregate: process.into(),
        id: id.shared(),
        version: 0,
        position: note.from,
        events: Vec::new(),
        replayed: false,
    };
    Ok(outcome.to_json().into())
}
