//! Answers what replicas, gateways and operators ask about the instances of a process: `prc.<process>.…` and
//! `ctl.process.<process>.…`, one replica of those that run it each time.

use super::{Operators, control, desk::Desk, index::Index, rest, shown};
use crate::{
    caller::Action, command::waits::RestAsk, problem::Problem, request_reply::refusal_headers,
};
use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde::de::DeserializeOwned;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// The queue group of the replicas.
const QUEUE: &str = "process";
/// The number of operators' requests that are answered at once.
const OPERATORS: usize = 64;
/// The number of commands that this replica watches instances for at once.
const WAITING: usize = 4_096;
/// The pause between two looks whether the list of the instances is still needed.
const TIDYING: Duration = Duration::from_secs(60);

/// The service that answers for one process.
struct Service {
    desk: Arc<Desk>,
    operators: Operators,
    index: Index,
}

/// Answers until told to stop.
pub(super) async fn run(desk: Arc<Desk>, operators: Operators, stopping: CancellationToken) {
    let process = desk.process.name;
    let service = Service {
        index: Index::new(desk.process.name),
        desk,
        operators,
    };
    let serving = async {
        tokio::join!(
            serve(
                &service,
                format!("ctl.process.{process}.*.*"),
                OPERATORS,
                Service::act
            ),
            serve(
                &service,
                format!("prc.{process}.list"),
                OPERATORS,
                Service::list
            ),
            serve(
                &service,
                format!("prc.{process}.show.*"),
                OPERATORS,
                Service::show
            ),
            serve(
                &service,
                format!("prc.{process}.rest"),
                WAITING,
                Service::rest
            ),
            tidy(&service.index),
        )
    };
    tokio::select! {
        _ = serving => {}
        () = stopping.cancelled() => {}
    }
}

async fn tidy(index: &Index) {
    loop {
        tokio::time::sleep(TIDYING).await;
        index.forget_unused().await;
    }
}

type Answering<'a> = BoxFuture<'a, Result<Bytes, Problem>>;

/// Answers what is asked on a subject, up to `most` of it at once.
async fn serve<'a>(
    service: &'a Service,
    subject: String,
    most: usize,
    answer: impl Fn(&'a Service, Message) -> Answering<'a>,
) {
    let nats = &service.operators.nats;
    let mut asked: Subscriber = match nats
        .queue_subscribe(subject.clone(), QUEUE.to_owned())
        .await
    {
        Ok(asked) => asked,
        Err(error) => {
            tracing::error!(nats.subject = subject, %error, "nobody can ask about this process");
            return;
        }
    };
    let mut under_way = FuturesUnordered::new();
    loop {
        let room = under_way.len() < most;
        tokio::select! {
            biased;
            _ = under_way.next(), if !under_way.is_empty() => {}
            message = asked.next(), if room => {
                let Some(message) = message else { return };
                if service.operators.guard.admits(&message) {
                    let to = message.reply.clone();
                    let answering = answer(service, message);
                    under_way.push(async move {
                        let answer = answering.await;
                        if let Some(to) = to {
                            respond(nats, to, answer).await;
                        }
                    }.boxed());
                }
            }
        }
    }
}

async fn respond(
    nats: &async_nats::Client,
    to: async_nats::Subject,
    answer: Result<Bytes, Problem>,
) {
    let sent = match answer {
        Ok(body) => nats.publish(to, body).await,
        Err(problem) => {
            let headers = refusal_headers(&problem);
            let body = problem.to_json().into();
            nats.publish_with_headers(to, headers, body).await
        }
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "who has asked about a process is not answered");
    }
}

impl Service {
    fn act(&self, message: Message) -> Answering<'_> {
        async move { control::act(&self.desk, &self.operators, &message).await }.boxed()
    }

    fn list(&self, message: Message) -> Answering<'_> {
        async move {
            self.may_read(&message).await?;
            let ask = read(&message)?;
            let page = self.index.page(&self.desk.log, &ask).await?;
            written(&page)
        }
        .boxed()
    }

    fn show(&self, message: Message) -> Answering<'_> {
        async move {
            self.may_read(&message).await?;
            let ask = read(&message)?;
            let id = message.subject.rsplit('.').next().unwrap_or_default();
            let shown = shown::show(&self.desk.log, self.desk.process.name, id, &ask).await?;
            written(&shown)
        }
        .boxed()
    }

    /// Asked by replicas alone, for callers of theirs whose command it was.
    fn rest(&self, message: Message) -> Answering<'_> {
        async move {
            let ask: RestAsk = read(&message)?;
            written(&rest::rest(&self.desk, &ask).await)
        }
        .boxed()
    }

    async fn may_read(&self, message: &Message) -> Result<(), Problem> {
        let who = self
            .operators
            .access
            .identified(&message.headers, None)
            .await?;
        who.may(Action::Inspect).map(drop)
    }
}

fn read<T: DeserializeOwned>(message: &Message) -> Result<T, Problem> {
    let body: &[u8] = match message.payload.is_empty() {
        true => b"{}",
        false => &message.payload,
    };
    serde_json::from_slice(body)
        .map_err(|error| Problem::malformed("body".to_owned(), error.to_string()))
}

fn written(answer: &impl serde::Serialize) -> Result<Bytes, Problem> {
    match serde_json::to_vec(answer) {
        Ok(body) => Ok(body.into()),
        Err(error) => {
            tracing::error!(%error, "an answer about a process cannot be written");
            Err(Problem::internal())
        }
    }
}
