//! Commands over NATS: requests on `cmd.<aggregate>.<id>.<command>`, one of the replicas takes each,
//! and on `own.<this replica>.…`, what others pass on to the aggregate's home.
//!
//! One subscription takes every command, the wrong ones too, so that a client always gets a problem
//! and never a silence. Stopping drains: what the server had sent is answered.

use super::{
    client::{Answered, CommandClient},
    discovery::{self, Discovery},
    drain::Drainable,
    placement::Placement,
    request::{CommandHeaders, CommandRequest, GIVEN_ID, MAX_BODY, MAX_KEY, Outcome, is_json},
    traces::Came,
};
use crate::{event_log::subject::Id, membership::MembershipError, problem::Problem};
use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use std::{sync::Arc, time::Instant};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

/// The endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// A subscription was refused.
    #[error("the command endpoint cannot be opened: {0}")]
    Nats(String),
    /// The replica cannot take part.
    #[error(transparent)]
    Membership(#[from] MembershipError),
}

/// The running endpoint.
pub struct CommandEndpoint {
    stop: watch::Sender<bool>,
    taking: [JoinHandle<()>; 2],
    discovery: JoinHandle<()>,
}

/// What answers a command.
struct Desk {
    nats: async_nats::Client,
    client: CommandClient,
    discovery: Arc<Discovery>,
}

impl CommandEndpoint {
    /// Subscribes to what others pass on, announces the replica to them, subscribes to every
    /// command, and begins to answer.
    ///
    /// # Errors
    ///
    /// Returns [`EndpointError`] when a subscription is refused, or the replica's name is taken.
    pub async fn open(
        nats: async_nats::Client,
        client: CommandClient,
        placement: &Placement,
    ) -> Result<Self, EndpointError> {
        let fault = |error: &dyn std::fmt::Display| EndpointError::Nats(error.to_string());
        let discovery = Discovery::new(client.aggregates());
        let desk = Arc::new(Desk {
            nats: nats.clone(),
            client,
            discovery: discovery.clone(),
        });
        let (stop, stopped) = watch::channel(false);

        let membership = placement.membership();
        let own = format!("own.{}", membership.replica());
        let passed_on = nats
            .subscribe(format!("{own}.>"))
            .await
            .map_err(|error| fault(&error))?;
        let passed_on = Drainable::new(nats.clone(), passed_on, format!("{own}.-"));
        // In force before anybody hears of this replica.
        nats.flush().await.map_err(|error| fault(&error))?;
        let passed_on = tokio::spawn(take(passed_on, desk.clone(), true, stopped.clone()));
        membership.announce().await?;

        let commands = nats
            .queue_subscribe("cmd.>", discovery::QUEUE.to_owned())
            .await
            .map_err(|error| fault(&error))?;
        let commands = Drainable::new(nats.clone(), commands, "cmd.-".to_owned());
        let commands = tokio::spawn(take(commands, desk, false, stopped));
        let discovery = discovery
            .serve(nats.clone())
            .await
            .map_err(|error| fault(&error))?;
        // In force before the replica counts as started.
        nats.flush().await.map_err(|error| fault(&error))?;
        Ok(Self {
            stop,
            taking: [passed_on, commands],
            discovery,
        })
    }

    /// Takes no more commands, answers those that were sent, and returns.
    pub async fn stop(self) {
        self.discovery.abort();
        let _ = self.stop.send(true);
        futures::future::join_all(self.taking).await;
    }
}

/// Answers what comes until it is stopped and all that came is answered.
async fn take(
    mut requests: Drainable,
    desk: Arc<Desk>,
    passed_on: bool,
    mut stopped: watch::Receiver<bool>,
) {
    // Closed once the last answer has been sent.
    let (under_way, mut all_answered) = mpsc::channel::<()>(1);
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            _ = stopped.changed(), if !draining => {
                draining = true;
                requests.drain().await;
            }
            request = requests.next() => {
                let Some(request) = request else { break };
                let (desk, under_way) = (desk.clone(), under_way.clone());
                tokio::spawn(async move {
                    desk.answer(request, passed_on).await;
                    drop(under_way);
                });
            }
        }
    }
    drop(under_way);
    all_answered.recv().await;
    let _ = desk.nats.flush().await;
}

impl Desk {
    async fn answer(&self, message: Message, passed_on: bool) {
        let arrived = Instant::now();
        let parsed = self.parse(&message, passed_on);
        let answered = match parsed {
            Ok(request) => {
                let came = if passed_on {
                    Came::PassedOn
                } else {
                    Came::ToAny
                };
                self.client.answer(request, came).await
            }
            Err(problem) => Err(problem),
        };
        if let Some((aggregate, _, command)) = names(&message.subject, passed_on) {
            let took = arrived.elapsed();
            self.discovery
                .count(aggregate, command, took, answered.is_err());
        }
        let Some(to) = message.reply else { return };
        let (body, headers) = match answered {
            Ok(Answered::Here(outcome)) => encode(&Ok(outcome)),
            Ok(Answered::There(answer)) => (answer.payload, answer.headers.unwrap_or_default()),
            Err(problem) => encode(&Err(problem)),
        };
        // A caller that has gone does not matter: the commit stands.
        let _ = self.nats.publish_with_headers(to, headers, body).await;
    }

    /// Reads a command from a message on `cmd.>` or `own.<replica>.>`.
    fn parse(&self, message: &Message, passed_on: bool) -> Result<CommandRequest, Problem> {
        let (aggregate, id, command) = names(&message.subject, passed_on).ok_or_else(|| {
            Problem::malformed(
                "id".to_owned(),
                "a command's subject is cmd.<aggregate>.<id>.<command>, and an id is 1 to 64 of A-Z a-z 0-9 _ -",
            )
        })?;
        self.client.check_name(aggregate, command)?;
        let id =
            Id::new(id).map_err(|error| Problem::malformed("id".to_owned(), error.to_string()))?;
        if message.payload.len() > MAX_BODY {
            return Err(Problem::too_large(MAX_BODY));
        }
        let header = |name: &str| Some(message.headers.as_ref()?.get(name)?.as_str());
        // On NATS a body need not say what it is, but when it does it is taken at its word.
        if header("Content-Type").is_some_and(|value| !is_json(value)) {
            return Err(Problem::unsupported_media_type());
        }
        let mut headers = CommandHeaders::read(header)?;
        if passed_on {
            let id = header(GIVEN_ID).filter(|id| (1..=MAX_KEY).contains(&id.len()));
            headers.given_id = id.map(str::to_owned);
        }
        Ok(CommandRequest {
            aggregate: aggregate.to_owned(),
            id,
            command: command.to_owned(),
            body: message.payload.clone(),
            headers,
        })
    }
}

/// Takes a command's subject apart into the aggregate's name and id and the command's name.
fn names(subject: &str, passed_on: bool) -> Option<(&str, &str, &str)> {
    let mut tokens = subject.splitn(if passed_on { 5 } else { 4 }, '.').skip(1);
    if passed_on {
        tokens.next();
    }
    let names = (tokens.next()?, tokens.next()?, tokens.next()?);
    (!names.2.contains('.')).then_some(names)
}

/// The reply's body and headers.
fn encode(outcome: &Result<Outcome, Problem>) -> (Bytes, HeaderMap) {
    let mut headers = HeaderMap::new();
    match outcome {
        Ok(outcome) => {
            headers.insert("Content-Type", "application/json");
            headers.insert("ETag", format!("\"{}\"", outcome.version));
            headers.insert("Headwater-Position", outcome.position_token());
            let body = serde_json::to_vec(outcome).expect("an outcome is plain data");
            (body.into(), headers)
        }
        Err(problem) => {
            problem_headers(problem, &mut headers);
            (problem.to_json().into(), headers)
        }
    }
}

/// The headers that a problem has on NATS (ADR-32), beside its body.
pub fn problem_headers(problem: &Problem, headers: &mut HeaderMap) {
    headers.insert("Content-Type", "application/problem+json");
    headers.insert("Nats-Service-Error-Code", problem.status.to_string());
    headers.insert(
        "Nats-Service-Error",
        problem.to_string().replace(['\r', '\n'], " "),
    );
    if let Some(seconds) = problem.retry_after {
        headers.insert("Retry-After", seconds.to_string());
    }
}
