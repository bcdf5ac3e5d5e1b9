//! Commands over NATS: requests on `cmd.<aggregate>.<id>.<command>`, one of the replicas takes each, many of them in a
//! request on `cmds.<aggregate>`, and on `own.<this replica>.…`, what others pass on to the aggregate's home.
//!
//! The subscriptions take every command, the wrong ones too, so that a client always gets a problem
//! and never a silence. Each thread of the command side has its own, and hands on what is decided on
//! another. Stopping drains: what the server had sent is answered.

mod group;
mod many;

use super::{
    age::Arrival,
    answer::{Answered, Respond},
    client::CommandClient,
    drain::Drainable,
    freshness::Freshness,
    grouped::GROUP,
    passed_on,
    placement::Placement,
    request::{ASKED_AGAIN, CommandHeaders, CommandRequest, GIVEN_ID, Lineage, MAX_KEY, is_json},
    table::{CommandEntry, unknown_aggregate},
    traces::Came,
    waits::{PROCESS, ProcessWait, Rested},
};
use crate::{
    access::{Access, Identified, Identity, UnderWay},
    caller::{Action, Caller},
    connection::{flush, round_trip},
    event_log::subject::Id,
    membership::MembershipError,
    outcome::{entity_tag, position_token},
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
use group::GroupAnswers;
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

/// The part that answers the commands of one subscription.
struct Desk {
    nats: async_nats::Client,
    client: CommandClient,
    discovery: Arc<Discovery>,
    guard: ReplyGuard,
    access: Access,
    group_answers: Arc<GroupAnswers>,
    source: Source,
}

/// Whose commands a subscription is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Other replicas.
    Replicas,
    /// Anybody: one in a message.
    Anybody,
    /// Anybody: many in a message.
    AnybodyMany,
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
        for (subject, source) in [
            (format!("{own}.>"), Source::Replicas),
            ("cmd.>".to_owned(), Source::Anybody),
            ("cmds.*".to_owned(), Source::AnybodyMany),
        ] {
            for thread in client.threads() {
                let nats = thread.log.client().clone();
                let requests = nats
                    .queue_subscribe(subject.clone(), QUEUE.to_owned())
                    .await
                    .map_err(|error| fault(&error))?;
                // In force before anybody hears of this replica, and before it counts as started.
                round_trip(&nats).await.map_err(|error| fault(&error))?;
                let requests = Drainable::new(nats.clone(), requests);
                let freshness = Freshness::begin(nats.clone()).await;
                let freshness = freshness.map_err(|error| fault(&error))?;
                let desk = Desk {
                    group_answers: GroupAnswers::new(nats.clone()),
                    nats,
                    client: client.clone(),
                    discovery: discovery.clone(),
                    guard: guard.clone(),
                    access: access.clone(),
                    source,
                };
                let (ended, end) = oneshot::channel();
                let taken = take(requests, freshness, Arc::new(desk), stopped.clone());
                thread.arbiter.spawn(async move {
                    taken.await;
                    let _ = ended.send(());
                });
                taking.push(end);
            }
            if source == Source::Replicas {
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

/// Each command as an endpoint of the service, and after them the commands of each aggregate.
fn discovered(client: &CommandClient) -> Vec<discovery::Endpoint> {
    let aggregates = client.aggregates().iter();
    let many = aggregates.clone().map(|aggregate| {
        let subject = format!("cmds.{}", aggregate.name);
        discovery::Endpoint::new(format!("{}-many", aggregate.name), subject, QUEUE)
    });
    let commands = aggregates.flat_map(|aggregate| {
        let commands = aggregate.commands.iter();
        commands.map(|command| (aggregate.name, command.name.as_str()))
    });
    let endpoint = |(aggregate, command): (&str, &str)| {
        let subject = format!("cmd.{aggregate}.*.{command}");
        discovery::Endpoint::new(format!("{aggregate}_{command}"), subject, QUEUE)
    };
    commands.map(endpoint).chain(many).collect()
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
    /// The command that was asked for; `None` when there is no such thing.
    entry: Option<Arc<CommandEntry>>,
    way: Way,
    arrived: Instant,
    /// Dropped once the answer has been sent.
    under_way: mpsc::Sender<()>,
    /// The command among those of the caller that are under way.
    _asked: Option<Arc<UnderWay>>,
}

/// The way back of an answer.
enum Way {
    /// Nobody waits for it.
    None,
    /// In a message of its own.
    Alone(Subject),
    /// With others, and with the number that the command came with.
    InGroup(Arc<str>, u64),
}

impl Sender {
    /// Answers, once what the command has started is at rest.
    fn answer_after(self, wait: ProcessWait, answered: Result<Answered, Problem>) {
        let outcome = answered.as_ref().ok().and_then(Answered::to_outcome);
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
    fn send(
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

impl Desk {
    fn take(self: &Arc<Self>, message: Message, since: Instant, under_way: mpsc::Sender<()>) {
        if !self.guard.admits(&message) {
            return;
        }
        let passed_on = self.source == Source::Replicas;
        if passed_on && is_group(&message.subject) {
            return self.take_group(&message, since, &under_way);
        }
        let arrival = Arrival::by_message(since, message.headers.as_ref(), passed_on);
        let caller = Sender {
            desk: self.clone(),
            entry: None,
            way: message.reply.clone().map_or(Way::None, Way::Alone),
            arrived: arrival.read(),
            under_way,
            _asked: None,
        };
        match self.identify(&message) {
            Identity::Known(who) => self.decide_as(&message, who, caller, arrival),
            Identity::Unknown(pending) => {
                let desk = self.clone();
                tokio::spawn(async move {
                    let who = pending.settle().await;
                    desk.decide_as(&message, who, caller, arrival);
                });
            }
        }
    }

    fn decide_as(
        &self,
        message: &Message,
        who: Result<Identified, Problem>,
        mut sender: Sender,
        arrival: Arrival,
    ) {
        let mut who = match who {
            Ok(who) => who,
            Err(problem) => return sender.answer(Err(problem)),
        };
        sender._asked = who.under_way();
        match self.source {
            Source::AnybodyMany => self.decide_many(message, who, sender, arrival),
            Source::Anybody | Source::Replicas => self.decide(message, who, sender, arrival),
        }
    }

    /// Finds out who gives a command. What another replica has found out is taken on trust; what it does not
    /// say is not.
    fn identify(&self, message: &Message) -> Identity {
        if self.source != Source::Replicas || self.access.is_open() {
            return self.access.identify(&message.headers, None);
        }
        let told = passed_on::read(&message.headers);
        Identity::Known(told.map(|told| self.told(told)))
    }

    /// The caller of a command, as another replica tells it.
    fn told(&self, told: Option<Caller>) -> Identified {
        match told {
            Some(caller) => Identified::told(caller, Some(i64::MAX)),
            None => Identified::told(self.access.anonymous(), None),
        }
    }

    fn decide(&self, message: &Message, who: Identified, mut caller: Sender, arrival: Arrival) {
        let passed_on = self.source == Source::Replicas;
        let Some((aggregate, id, command)) = names(&message.subject, passed_on) else {
            return caller.answer(Err(who.refused(Problem::malformed(
                "id".to_owned(),
                "a command's subject is cmd.<aggregate>.<id>.<command>, and an id is 1 to 64 of A-Z a-z 0-9 _ -",
            ))));
        };
        let entry = match self.client.entry(aggregate, command) {
            Ok(entry) if entry.internal && !passed_on => {
                return caller.answer(Err(unknown_aggregate(aggregate)));
            }
            Ok(entry) => entry.clone(),
            Err(problem) => return caller.answer(Err(who.refused(problem))),
        };
        caller.entry = Some(entry.clone());
        let read = who.may(Action::Command { aggregate, command });
        let read = read.and_then(|who| {
            let request = self.read(message, &entry, id, who.caller)?;
            // Who has passed it on waits.
            let wait = match passed_on {
                true => None,
                false => self.client.waits().begin(&message.headers)?,
            };
            Ok((request, wait))
        });
        match read {
            Ok((request, wait)) => self.give(entry, request, (caller, wait), arrival),
            Err(problem) => caller.answer(Err(problem)),
        }
    }

    /// Has a command decided.
    fn give(
        &self,
        entry: Arc<CommandEntry>,
        request: CommandRequest,
        (sender, wait): (Sender, Option<ProcessWait>),
        arrival: Arrival,
    ) {
        let respond: Respond = match wait {
            None => Box::new(move |answered| sender.answer(answered)),
            Some(wait) => Box::new(move |answered| sender.answer_after(wait, answered)),
        };
        let came = match self.source {
            Source::Replicas => Came::PassedOn,
            Source::Anybody | Source::AnybodyMany => Came::ToAny,
        };
        let given = (self.client).give(entry, request, came, arrival, respond);
        if let Some(passing_on) = given {
            tokio::spawn(passing_on);
        }
    }

    fn read(
        &self,
        message: &Message,
        entry: &CommandEntry,
        id: &str,
        caller: Caller,
    ) -> Result<CommandRequest, Problem> {
        let id =
            Id::new(id).map_err(|error| Problem::malformed("id".to_owned(), error.to_string()))?;
        if message.payload.len() > entry.max_body() {
            return Err(Problem::too_large(entry.max_body()));
        }
        let given = &message.headers;
        // On NATS a body need not say what it is, but when it does it is taken at its word.
        let content_type = given.single("Content-Type")?;
        if content_type.is_some_and(|value| !is_json(value)) {
            return Err(Problem::unsupported_media_type());
        }
        let mut headers = CommandHeaders::read(given, caller)?;
        if self.source == Source::Replicas {
            let id = given
                .single(GIVEN_ID)?
                .filter(|id| (1..=MAX_KEY).contains(&id.len()));
            headers.given_id = id.map(Arc::from);
            headers.lineage = Lineage::read(given);
            let asked_again = given.single(ASKED_AGAIN)?;
            headers.asked_again = asked_again.and_then(|position| position.parse().ok());
        }
        Ok(CommandRequest {
            aggregate: entry.aggregate.into(),
            id,
            command: entry.command.clone(),
            body: message.payload.clone(),
            headers,
        })
    }
}

/// Returns whether this is the subject `own.<replica>.group`.
fn is_group(subject: &str) -> bool {
    let mut tokens = subject.split('.').skip(2);
    (tokens.next(), tokens.next()) == (Some(GROUP), None)
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
