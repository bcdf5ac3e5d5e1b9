//! Commands over NATS: requests on `cmd.<aggregate>.<id>.<command>`, one of the replicas takes each,
//! and on `own.<this replica>.…`, what others pass on to the aggregate's home.
//!
//! The subscriptions take every command, the wrong ones too, so that a client always gets a problem
//! and never a silence. Each thread of the command side has its own, and hands on what is decided on
//! another. Stopping drains: what the server had sent is answered.

use super::{
    age::Arrival,
    answer::{Answered, Respond},
    client::{CommandClient, Endpoint},
    drain::Drainable,
    freshness::Freshness,
    passed_on,
    placement::{self, Placement},
    request::{ASKED_AGAIN, CommandHeaders, CommandRequest, GIVEN_ID, MAX_KEY, is_json},
    traces::Came,
    waits::{PROCESS, ProcessWait, Rested},
};
use crate::{
    access::{Access, Identified, Identity, UnderWay},
    caller::{Action, Caller},
    connection::{flush, round_trip},
    event_log::subject::Id,
    membership::MembershipError,
    problem::Problem,
    request_headers::RequestHeaders,
    request_reply::{
        ReplyGuard,
        discovery::{self, Discovery},
        refusal_headers,
    },
};
use async_nats::{HeaderMap, HeaderName, Message, Subject};
use bytes::Bytes;
use futures::FutureExt;
use std::{pin::pin, sync::Arc, time::Instant};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, coop::unconstrained},
};

// Made once: a name that is made anew is checked and copied.
const CONTENT_TYPE: HeaderName = HeaderName::from_static("Content-Type");
const ETAG: HeaderName = HeaderName::from_static("ETag");
const POSITION: HeaderName = HeaderName::from_static("Headwater-Position");
/// Says 202 where the wait for a process was over before it was at rest. NATS has no status of its own.
const STATUS: HeaderName = HeaderName::from_static("Headwater-Status");

/// The name of the service.
const SERVICE: &str = "headwater";
/// The queue group of every command: the one that services have by default.
const QUEUE: &str = "q";
/// So many commands are taken before others have their turn on the thread.
const PORTION: usize = 64;
/// So many are taken at once when there was an echo.
const ECHO_PORTION: usize = 4_096;

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
    taking: Vec<oneshot::Receiver<()>>,
    discovery: JoinHandle<()>,
}

/// What answers the commands of one subscription.
struct Desk {
    nats: async_nats::Client,
    client: CommandClient,
    discovery: Arc<Discovery>,
    guard: ReplyGuard,
    access: Access,
    /// True if they come from other replicas.
    passed_on: bool,
}

impl CommandEndpoint {
    /// Subscribes to what others pass on, announces the replica to them, subscribes to every
    /// command, and begins to answer: on each thread of the command side.
    ///
    /// # Errors
    ///
    /// Returns [`EndpointError`] when a subscription is refused, or the replica's name is taken.
    pub async fn open(
        client: CommandClient,
        placement: &Placement,
        guard: &ReplyGuard,
        access: &Access,
    ) -> Result<Self, EndpointError> {
        let fault = |error: &dyn std::fmt::Display| EndpointError::Nats(error.to_string());
        let commands = discovered(&client);
        let discovery = Discovery::new(SERVICE, "commands of the write side", commands);
        let (stop, stopped) = watch::channel(false);
        let mut taking = Vec::new();

        let membership = placement.membership();
        let own = format!("own.{}", membership.replica());
        for (prefix, passed_on) in [(own.as_str(), true), ("cmd", false)] {
            for thread in client.threads() {
                let nats = thread.log.client().clone();
                let requests = nats
                    .queue_subscribe(format!("{prefix}.>"), QUEUE.to_owned())
                    .await
                    .map_err(|error| fault(&error))?;
                // In force before anybody hears of this replica, and before it counts as started.
                round_trip(&nats).await.map_err(|error| fault(&error))?;
                let requests = Drainable::new(nats.clone(), requests);
                let freshness = Freshness::begin(nats.clone()).await;
                let freshness = freshness.map_err(|error| fault(&error))?;
                let desk = Desk {
                    nats,
                    client: client.clone(),
                    discovery: discovery.clone(),
                    guard: guard.clone(),
                    access: access.clone(),
                    passed_on,
                };
                let (ended, end) = oneshot::channel();
                let taken = take(requests, freshness, Arc::new(desk), stopped.clone());
                thread.arbiter.spawn(async move {
                    taken.await;
                    let _ = ended.send(());
                });
                taking.push(end);
            }
            if passed_on {
                membership.announce().await?;
            }
        }
        let Some(nats) = client.connections().next().cloned() else {
            return Err(fault(&"this replica has no command side"));
        };
        let discovery = discovery
            .serve(nats.clone(), guard.clone())
            .await
            .map_err(|error| fault(&error))?;
        round_trip(&nats).await.map_err(|error| fault(&error))?;
        Ok(Self {
            stop,
            taking,
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

/// Each command as an endpoint of the service.
fn discovered(client: &CommandClient) -> Vec<discovery::Endpoint> {
    let aggregates = client.aggregates().iter();
    let commands = aggregates.flat_map(|aggregate| {
        let commands = aggregate.commands.iter();
        commands.map(|command| (aggregate.name, command.name.as_str()))
    });
    let endpoint = |(aggregate, command): (&str, &str)| {
        let subject = format!("cmd.{aggregate}.*.{command}");
        discovery::Endpoint::new(format!("{aggregate}_{command}"), subject, QUEUE)
    };
    commands.map(endpoint).collect()
}

/// Answers what comes until it is stopped and all that came is answered.
async fn take(
    mut requests: Drainable,
    mut freshness: Freshness,
    desk: Arc<Desk>,
    mut stopped: watch::Receiver<bool>,
) {
    // Closed once the last answer has been sent.
    let (under_way, mut all_answered) = mpsc::channel::<()>(1);
    let mut stop = pin!(async {
        let _ = stopped.changed().await;
        // What the server has sent so far is taken first, so that little is left to come in the end.
        let _ = round_trip(&desk.nats).await;
    });
    let mut stopping = false;
    loop {
        let mut most = PORTION;
        tokio::select! {
            biased;
            () = &mut stop, if !stopping => {
                stopping = true;
                most = usize::MAX;
            }
            // Until nothing is left, since it counts only then.
            () = freshness.echo() => most = ECHO_PORTION,
            request = requests.next() => {
                let Some(request) = request else { break };
                freshness.taken();
                desk.take(request, freshness.since(), under_way.clone());
            }
        }
        // What came with it, without asking each time whether to stop.
        for _ in 1..most {
            let Some(request) = requests.ready() else {
                freshness.emptied();
                break;
            };
            freshness.taken();
            desk.take(request, freshness.since(), under_way.clone());
        }
        if most == usize::MAX {
            requests.drain().await;
        }
    }
    drop(under_way);
    all_answered.recv().await;
    let _ = flush(&desk.nats).await;
}

/// From where a command came, and the way back.
struct Sender {
    desk: Arc<Desk>,
    /// What was asked for; `None` when there is no such thing.
    endpoint: Option<Arc<Endpoint>>,
    reply: Option<Subject>,
    arrived: Instant,
    /// Dropped once the answer has been sent.
    under_way: mpsc::Sender<()>,
    /// The command among those of the caller that are under way.
    _asked: Option<Arc<UnderWay>>,
}

impl Sender {
    /// Answers, once what the command has started is at rest.
    fn answer_after(self, wait: ProcessWait, answered: Result<Answered, Problem>) {
        let outcome = match &answered {
            Ok(Answered::Here(outcome)) => Some(outcome.clone()),
            Ok(Answered::There(answer)) => placement::read(answer).ok(),
            Err(_) => None,
        };
        let (Some(outcome), Ok(runtime)) = (outcome, Handle::try_current()) else {
            return self.answer(answered);
        };
        runtime.spawn(async move {
            let rested = wait.rest(&outcome).await;
            self.answer_with(answered, Some(rested));
        });
    }

    fn answer(self, answered: Result<Answered, Problem>) {
        self.answer_with(answered, None);
    }

    fn answer_with(self, answered: Result<Answered, Problem>, rested: Option<Rested>) {
        let desk = self.desk;
        if let Some(endpoint) = self.endpoint {
            let took = self.arrived.elapsed();
            desk.discovery
                .count(endpoint.number, took, answered.is_err());
        }
        let Some(to) = self.reply else { return };
        // A caller that has gone does not matter: the commit stands.
        let (headers, body) = written(&answered, rested.as_ref());
        let sending = (desk.nats).publish_with_headers(to.clone(), headers, body);
        // Almost always the connection has room, and there is nothing to wait for.
        if unconstrained(sending).now_or_never().is_none()
            && let Ok(runtime) = Handle::try_current()
        {
            let under_way = self.under_way;
            runtime.spawn(async move {
                let (headers, body) = written(&answered, rested.as_ref());
                let _ = desk.nats.publish_with_headers(to, headers, body).await;
                drop(under_way);
            });
        }
    }
}

/// The reply's headers and body.
fn written(answered: &Result<Answered, Problem>, rested: Option<&Rested>) -> (HeaderMap, Bytes) {
    let (mut headers, body) = written_alone(answered);
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

fn written_alone(answered: &Result<Answered, Problem>) -> (HeaderMap, Bytes) {
    match answered {
        Ok(Answered::Here(outcome)) => {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, "application/json");
            headers.insert(ETAG, outcome.entity_tag());
            headers.insert(POSITION, outcome.position_token());
            (headers, outcome.to_json().into())
        }
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

impl Desk {
    fn take(self: &Arc<Self>, message: Message, since: Instant, under_way: mpsc::Sender<()>) {
        if !self.guard.admits(&message) {
            return;
        }
        let arrival = Arrival::by_message(since, message.headers.as_ref(), self.passed_on);
        let caller = Sender {
            desk: self.clone(),
            endpoint: None,
            reply: message.reply.clone(),
            arrived: arrival.read(),
            under_way,
            _asked: None,
        };
        match self.identify(&message) {
            Identity::Known(who) => self.decide(&message, who, caller, arrival),
            Identity::Unknown(pending) => {
                let desk = self.clone();
                tokio::spawn(async move {
                    let who = pending.settle().await;
                    desk.decide(&message, who, caller, arrival);
                });
            }
        }
    }

    /// Finds out who gives a command. What another replica has found out is taken on trust; what it does not
    /// say is not.
    fn identify(&self, message: &Message) -> Identity {
        if !self.passed_on || self.access.is_open() {
            return self.access.identify(&message.headers, None);
        }
        let told = passed_on::read(&message.headers);
        Identity::Known(told.map(|told| match told {
            Some(caller) => Identified::told(caller, Some(i64::MAX)),
            None => Identified::told(self.access.anonymous(), None),
        }))
    }

    fn decide(
        &self,
        message: &Message,
        who: Result<Identified, Problem>,
        mut caller: Sender,
        arrival: Arrival,
    ) {
        let mut who = match who {
            Ok(who) => who,
            Err(problem) => return caller.answer(Err(problem)),
        };
        caller._asked = who.under_way();
        let Some((aggregate, id, command)) = names(&message.subject, self.passed_on) else {
            return caller.answer(Err(who.refused(Problem::malformed(
                "id".to_owned(),
                "a command's subject is cmd.<aggregate>.<id>.<command>, and an id is 1 to 64 of A-Z a-z 0-9 _ -",
            ))));
        };
        let endpoint = match self.client.endpoint(aggregate, command) {
            Ok(endpoint) if endpoint.internal && !self.passed_on => {
                let detail = format!("there is no aggregate named {aggregate:?}");
                let unknown = Problem::not_found("unknown_aggregate", detail);
                return caller.answer(Err(unknown));
            }
            Ok(endpoint) => endpoint.clone(),
            Err(problem) => return caller.answer(Err(who.refused(problem))),
        };
        caller.endpoint = Some(endpoint.clone());
        let read = who.may(Action::Command { aggregate, command });
        let read = read.and_then(|who| {
            let request = self.read(message, &endpoint, id, who.caller)?;
            // Who has passed it on waits.
            let wait = match self.passed_on {
                true => None,
                false => self.client.waits().begin(&message.headers)?,
            };
            Ok((request, wait))
        });
        match read {
            Ok((request, wait)) => {
                let respond: Respond = match wait {
                    None => Box::new(move |answered| caller.answer(answered)),
                    Some(wait) => Box::new(move |answered| caller.answer_after(wait, answered)),
                };
                let came = match self.passed_on {
                    true => Came::PassedOn,
                    false => Came::ToAny,
                };
                let given = (self.client).give(endpoint, request, came, arrival, respond);
                if let Some(passing_on) = given {
                    tokio::spawn(passing_on);
                }
            }
            Err(problem) => caller.answer(Err(problem)),
        }
    }

    fn read(
        &self,
        message: &Message,
        endpoint: &Endpoint,
        id: &str,
        caller: Caller,
    ) -> Result<CommandRequest, Problem> {
        let id =
            Id::new(id).map_err(|error| Problem::malformed("id".to_owned(), error.to_string()))?;
        if message.payload.len() > endpoint.max_body() {
            return Err(Problem::too_large(endpoint.max_body()));
        }
        let given = &message.headers;
        // On NATS a body need not say what it is, but when it does it is taken at its word.
        let content_type = given.single("Content-Type")?;
        if content_type.is_some_and(|value| !is_json(value)) {
            return Err(Problem::unsupported_media_type());
        }
        let mut headers = CommandHeaders::read(given, caller)?;
        if self.passed_on {
            let id = given
                .single(GIVEN_ID)?
                .filter(|id| (1..=MAX_KEY).contains(&id.len()));
            headers.given_id = id.map(Arc::from);
            let asked_again = given.single(ASKED_AGAIN)?;
            headers.asked_again = asked_again.and_then(|position| position.parse().ok());
        }
        Ok(CommandRequest {
            aggregate: endpoint.aggregate.into(),
            id,
            command: endpoint.command.clone(),
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
