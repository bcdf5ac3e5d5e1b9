//! Answers other replicas what this one remembers.

use super::messages::{RecallAsk, RecallPart, RecallVerb, deal};
use crate::{
    access::{AUDIT, Access},
    caller::Action,
    command::refusals,
    ops::{
        Operations,
        jobs::{Job, unknown_job},
    },
    problem::Problem,
    request_reply::{AnswerPlaces, AnswerTasks, ReplyGuard},
};
use async_nats::{Client, Message, Subject, Subscriber};
use futures::StreamExt;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The number of requests that are answered at once.
const AT_ONCE: usize = 32;
/// The bytes of a message that are not of things.
const AROUND: usize = 4 * 1024;

/// Answers other replicas.
pub struct RecallEndpoint {
    asked: Subscriber,
    answering: Arc<Answering>,
    guard: ReplyGuard,
}

struct Answering {
    client: Client,
    replica: String,
    access: Access,
    /// There where this replica takes jobs.
    operations: Option<Operations>,
}

impl RecallEndpoint {
    /// Subscribes. `operations` is there where this replica takes jobs.
    ///
    /// # Errors
    ///
    /// Returns a retryable error when the connection is closed.
    pub async fn open(
        client: &Client,
        replica: &str,
        operations: Option<Operations>,
        guard: ReplyGuard,
        access: Access,
    ) -> Result<Self, async_nats::SubscribeError> {
        let asked = client.subscribe(format!("ctl.replica.{replica}.*")).await?;
        client.flush().await.ok();
        Ok(Self {
            asked,
            answering: Arc::new(Answering {
                client: client.clone(),
                replica: replica.to_owned(),
                access,
                operations,
            }),
            guard,
        })
    }

    /// Answers until told to stop.
    pub async fn run(mut self, stopping: CancellationToken) {
        let mut tasks = AnswerTasks::new(AnswerPlaces::new(AT_ONCE));
        loop {
            let message = tokio::select! {
                message = self.asked.next() => message,
                () = stopping.cancelled() => None,
            };
            let Some(message) = message else { break };
            if self.guard.admits(&message) {
                let answering = Arc::clone(&self.answering);
                let place = tasks.next_place().await;
                tasks.spawn(async move {
                    answering.answer(message).await;
                    drop(place);
                });
            }
        }
    }
}

impl Answering {
    async fn answer(&self, message: Message) {
        let Some(to) = message.reply.clone() else {
            return;
        };
        match self.act(&message).await {
            Ok(items) => {
                let room = self.client.server_info().max_payload;
                let dealt = deal(items, room.saturating_sub(AROUND));
                let last = dealt.len() - 1;
                for (number, items) in dealt.iter().enumerate() {
                    self.send(to.clone(), items, number != last, None).await;
                }
            }
            Err(problem) => self.send(to, &[], false, Some(&problem)).await,
        }
    }

    async fn act(&self, message: &Message) -> Result<Vec<Box<RawValue>>, Problem> {
        let token = message.subject.rsplit('.').next().unwrap_or_default();
        let verb = RecallVerb::of(token).ok_or_else(|| {
            let detail = format!("there is no verb {token:?}: refusals, jobs or cancel");
            Problem::not_found("unknown_command", detail)
        })?;
        let action = match verb {
            RecallVerb::Cancel => Action::Operate,
            RecallVerb::Refusals | RecallVerb::Jobs => Action::Inspect,
        };
        let who = self.access.identified(&message.headers, None).await?;
        let who = who.may(action)?;
        let ask = match message.payload.is_empty() {
            true => RecallAsk::default(),
            false => serde_json::from_slice(&message.payload)
                .map_err(|error| Problem::malformed("body".to_owned(), error.to_string()))?,
        };
        let limit = ask.limit.unwrap_or(usize::MAX);
        match (verb, ask.id) {
            (RecallVerb::Refusals, id) => {
                let all = refusals::latest().into_iter();
                let all = all.filter(|one| id.as_deref().is_none_or(|id| &*one.command_id == id));
                written(all.take(limit))
            }
            (RecallVerb::Jobs, id) => {
                let all = self.operations.iter().flat_map(Operations::own_jobs);
                let all = all.filter(|job| id.as_deref().is_none_or(|id| job.id == id));
                self.written_jobs(all.take(limit))
            }
            (RecallVerb::Cancel, id) => {
                let id = id.unwrap_or_default();
                let by = who.caller.subject().unwrap_or("nobody known");
                tracing::info!(target: AUDIT, by, job.id = id, doing = "cancel", "an operator");
                let operations = self.operations.as_ref();
                let operations = operations.ok_or_else(unknown_job)?;
                let job = operations.cancel_own(&id).await?;
                self.written_jobs(std::iter::once(job))
            }
        }
    }

    /// Jobs as they fit into a message each: without what has come of them where that is too much.
    fn written_jobs(&self, jobs: impl Iterator<Item = Job>) -> Result<Vec<Box<RawValue>>, Problem> {
        let room = self.client.server_info().max_payload;
        let room = room.saturating_sub(AROUND);
        let all = jobs.map(|mut job| {
            let whole = raw(&job)?;
            if whole.get().len() < room {
                return Ok(whole);
            }
            for part in &mut job.parts {
                part.result = None;
            }
            raw(&job)
        });
        all.collect()
    }

    async fn send(
        &self,
        to: Subject,
        items: &[Box<RawValue>],
        more: bool,
        problem: Option<&Problem>,
    ) {
        let part = RecallPart {
            replica: &self.replica,
            items,
            more,
            problem,
        };
        let body = serde_json::to_vec(&part).expect("an answer is plain data");
        // Who has asked may be gone.
        if let Err(error) = self.client.publish(to, body.into()).await {
            tracing::warn!(%error, "another replica is not answered");
        }
    }
}

fn written(items: impl Iterator<Item = impl Serialize>) -> Result<Vec<Box<RawValue>>, Problem> {
    items.map(|item| raw(&item)).collect()
}

fn raw(item: &impl Serialize) -> Result<Box<RawValue>, Problem> {
    to_raw_value(item).map_err(|error| {
        tracing::error!(%error, "what is remembered cannot be written");
        Problem::internal()
    })
}
