//! Operators' changes of an instance: `ctl.process.<process>.<id>.<verb>`, where one of the replicas that run
//! the process answers with the outcome, or the refusal.

use super::desk::Desk;
use crate::{
    access::{AUDIT, Access},
    caller::Action,
    event_log::subject::Id,
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
    let command = match verb {
        "resume" => InstanceCommand::Resume { settings },
        "skip" => InstanceCommand::Skip {
            reason: reason()?,
            settings,
        },
        "suspend" => InstanceCommand::Suspend { reason: reason()? },
        "end" => InstanceCommand::End { reason: reason()? },
        _ => {
            let detail = format!("there is no verb {verb:?}: resume, skip, suspend or end");
            return Err(Problem::not_found("unknown_command", detail));
        }
    };
    let outcome = desk.ask(&id, &command).await?;
    let by = who.caller.subject().unwrap_or("nobody known");
    tracing::info!(target: AUDIT, by, process.name = desk.process.name, process.instance = %id, doing = verb, "an operator");
    Ok(outcome.to_json().into())
}
