//! What operators do with an instance: `ctl.process.<process>.<id>.<verb>`, where one of the replicas that run
//! the process answers with the outcome, or the refusal.

use super::desk::Desk;
use crate::{
    access::Access,
    caller::Action,
    event_log::subject::Id,
    problem::Problem,
    process::InstanceCommand,
    request_reply::{ReplyGuard, refusal_headers},
};
use async_nats::Message;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The queue group of the replicas.
const QUEUE: &str = "process";
/// The longest reason, in bytes.
const LONGEST: usize = 500;
/// The number of requests that are answered at once.
const MOST: usize = 64;

/// Who may ask, and how they are answered.
#[derive(Clone)]
pub struct Operators {
    /// The connection that they ask by.
    pub nats: async_nats::Client,
    /// The place where answers may go.
    pub guard: ReplyGuard,
    /// Finds out who asks, and what they may.
    pub access: Access,
}

/// What an operator asks for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessAsk {
    /// Why; it is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Answers operators until told to stop.
pub(super) async fn run(desk: Arc<Desk>, operators: Operators, stopping: CancellationToken) {
    let subject = format!("ctl.process.{}.*.*", desk.process.name);
    let subscribed = operators.nats.queue_subscribe(subject, QUEUE.to_owned());
    let mut asked = match subscribed.await {
        Ok(asked) => asked,
        Err(error) => {
            tracing::error!(process.name = desk.process.name, %error, "operators cannot ask about this process");
            return;
        }
    };
    let mut under_way = FuturesUnordered::new();
    loop {
        let room = under_way.len() < MOST;
        tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            _ = under_way.next(), if !under_way.is_empty() => {}
            message = asked.next(), if room => {
                let Some(message) = message else { return };
                if operators.guard.admits(&message) {
                    under_way.push(answer(&desk, &operators, message).boxed());
                }
            }
        }
    }
}

async fn answer(desk: &Desk, operators: &Operators, message: Message) {
    let answer = act(desk, operators, &message).await;
    let Some(to) = message.reply else { return };
    let sent = match answer {
        Ok(body) => operators.nats.publish(to, body).await,
        Err(problem) => {
            let headers = refusal_headers(&problem);
            let body = problem.to_json().into();
            operators.nats.publish_with_headers(to, headers, body).await
        }
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "an operator is not answered");
    }
}

async fn act(desk: &Desk, operators: &Operators, message: &Message) -> Result<Bytes, Problem> {
    let who = operators.access.identified(&message.headers).await?;
    who.may(Action::Operate)?;
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
    tracing::info!(process.name = desk.process.name, process.instance = %id, verb, "an operator has acted");
    Ok(outcome.to_json().into())
}
