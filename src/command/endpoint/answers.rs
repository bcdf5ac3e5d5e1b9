//! The answers to commands, and the ways they go back.

use super::{CONTENT_TYPE, Desk, POSITION};
use crate::{
    access::UnderWay,
    command::{
        answer::Answered,
        table::CommandEntry,
        waits::{PROCESS, ProcessWait, Rested},
    },
    outcome::{entity_tag, position_token},
    problem::Problem,
    request_reply::refusal_headers,
};
use async_nats::{HeaderMap, HeaderName, Subject};
use bytes::Bytes;
use futures::FutureExt;
use std::{sync::Arc, time::Instant};
use tokio::{runtime::Handle, sync::mpsc, task::coop::unconstrained};

const ETAG: HeaderName = HeaderName::from_static("ETag");
/// Says 202 where the wait for a process was over before it was at rest. NATS has no status of its own.
const STATUS: HeaderName = HeaderName::from_static("Headwater-Status");

/// From where a command came, and the way back.
pub(super) struct Sender {
    pub desk: Arc<Desk>,
    /// The command that was asked for; `None` when there is no such thing.
    pub entry: Option<Arc<CommandEntry>>,
    pub way: Way,
    pub arrived: Instant,
    /// Dropped once the answer has been sent.
    pub under_way: mpsc::Sender<()>,
    /// The command among those of the caller that are under way.
    pub asked: Option<Arc<UnderWay>>,
}

/// The way back of an answer.
pub(super) enum Way {
    /// Nobody waits for it.
    None,
    /// In a message of its own.
    Alone(Subject),
    /// With others, and with the number that the command came with.
    InGroup(Arc<str>, u64),
}

impl Sender {
    /// Answers, once what the command has started is at rest.
    pub(super) fn answer_after(self, wait: ProcessWait, answered: Result<Answered, Problem>) {
        let outcome = answered.as_ref().ok().and_then(Answered::to_outcome);
        let (Some(outcome), Ok(runtime)) = (outcome, Handle::try_current()) else {
            return self.answer(answered);
        };
        runtime.spawn(async move {
            let rested = wait.rest(&outcome).await;
            self.answer_with(answered, Some(rested));
        });
    }

    pub(super) fn answer(self, answered: Result<Answered, Problem>) {
        self.answer_with(answered, None);
    }

    fn answer_with(self, answered: Result<Answered, Problem>, rested: Option<Rested>) {
        let desk = self.desk;
        // What is for the program alone is not found either.
        if let Some(entry) = self.entry.as_ref().filter(|one| !one.internal) {
            let took = self.arrived.elapsed();
            desk.discovery.count(entry.number, took, answered.is_err());
        }
        let aggregate = self.entry.as_ref().map_or("", |entry| entry.aggregate);
        // A caller that has gone does not matter: the commit stands.
        match self.way {
            Way::None => {}
            Way::Alone(to) => desk.send(to, self.under_way, move || {
                written(aggregate, &answered, rested.as_ref())
            }),
            Way::InGroup(to, number) => {
                let answers = &desk.group_answers;
                answers.give(to, number, &answered, self.under_way);
            }
        }
    }
}

impl Desk {
    /// Sends an answer, which may have to be written twice.
    pub(super) fn send(
        &self,
        to: Subject,
        under_way: mpsc::Sender<()>,
        written: impl Fn() -> (HeaderMap, Bytes) + Send + Sync + 'static,
    ) {
        let (headers, body) = written();
        let sending = (self.nats).publish_with_headers(to.clone(), headers, body);
        // Almost always the connection has room, and there is nothing to wait for.
        if unconstrained(sending).now_or_never().is_none()
            && let Ok(runtime) = Handle::try_current()
        {
            let nats = self.nats.clone();
            runtime.spawn(async move {
                let (headers, body) = written();
                let _ = nats.publish_with_headers(to, headers, body).await;
                drop(under_way);
            });
        }
    }
}

/// The reply's headers and body.
fn written(
    aggregate: &str,
    answered: &Result<Answered, Problem>,
    rested: Option<&Rested>,
) -> (HeaderMap, Bytes) {
    let (mut headers, body) = written_alone(aggregate, answered);
    if let Some(Rested { at_rest, told }) = rested {
        if let Some(told) = told {
            headers.insert(PROCESS, told.as_str());
        }
        if !at_rest {
            headers.insert(STATUS, "202");
        }
    }
    (headers, body)
}

fn written_alone(aggregate: &str, answered: &Result<Answered, Problem>) -> (HeaderMap, Bytes) {
    let accepted = |version, position, body| {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/json");
        headers.insert(ETAG, entity_tag(version));
        headers.insert(POSITION, position_token(aggregate, position));
        (headers, body)
    };
    match answered {
        Ok(Answered::Here(outcome)) => {
            accepted(outcome.version, outcome.position, outcome.to_json().into())
        }
        Ok(Answered::Among(told)) => accepted(told.version, told.position, told.body.clone()),
        Ok(Answered::There(answer)) => {
            let headers = answer.headers.clone().unwrap_or_default();
            (headers, answer.payload.clone())
        }
        Err(problem) => {
            let headers = refusal_headers(problem);
            (headers, problem.to_json().into())
        }
    }
}
