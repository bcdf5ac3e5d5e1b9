//! Commands over NATS: requests on `cmd.<aggregate>.<id>.<command>`, one of the replicas takes each, many of them in a
//! request on `cmds.<aggregate>`, and on `own.<this replica>.…`, what others pass on to the aggregate's home.
//!
//! The subscriptions take every command, the wrong ones too, so that a client always gets a problem
//! and never a silence. Each thread of the command side has its own, and hands on what is decided on
//! another. Stopping drains: what the server had sent is answered.

mod answers;
mod group;
mod many;
mod single;

use super::{
    age::Arrival, client::CommandClient, drain::Drainable, freshness::Freshness, grouped::GROUP,
    passed_on, placement::Placement,
};
use crate::{
    access::{Access, Identified, Identity},
    caller::Caller,
    connection::{flush, round_trip},
    membership::MembershipError,
    problem::Problem,
    request_headers::RequestHeaders,
    request_reply::{
        ReplyGuard,
        discovery::{self, Discovery},
    },
};
use answers::{Sender, Way};
use async_nats::{HeaderName, Message};
use group::GroupAnswers;
use std::{pin::pin, sync::Arc, time::Instant};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

// Made once: a name that is made anew is checked and copied.
const CONTENT_TYPE: HeaderName = HeaderName::from_static("Content-Type");
const POSITION: HeaderName = HeaderName::from_static("Headwater-Position");

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

/// The senders of the commands of a subscription.
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

impl Desk {
    fn take(self: &Arc<Self>, message: Message, since: Instant, under_way: mpsc::Sender<()>) {
        if !self.guard.admits(&message) {
            return;
        }
        let passed_on = self.source == Source::Replicas;
        if passed_on && is_group(&message.subject) {
            return self.take_group(&message, since, &under_way);
        }
        let headers = message.headers.surveyed();
        let arrival = Arrival::by_message(since, &headers, passed_on);
        let caller = Sender {
            desk: self.clone(),
            entry: None,
            way: message.reply.clone().map_or(Way::None, Way::Alone),
            arrived: arrival.read(),
            under_way,
            asked: None,
        };
        let identity = self.identify(&headers);
        match identity {
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
        sender.asked = who.under_way();
        match self.source {
            Source::AnybodyMany => self.decide_many(message, who, sender, arrival),
            Source::Anybody | Source::Replicas => self.decide(message, who, sender, arrival),
        }
    }

    /// Finds out who gives a command. What another replica has found out is taken on trust; what it does not
    /// say is not.
    fn identify(&self, headers: &impl RequestHeaders) -> Identity {
        if self.source != Source::Replicas || self.access.is_open() {
            return self.access.identify(headers, None);
        }
        let told = passed_on::read(headers);
        Identity::Known(told.map(|told| self.told(told)))
    }

    /// The caller of a command, as another replica tells it.
    fn told(&self, told: Option<Caller>) -> Identified {
        match told {
            Some(caller) => Identified::told(caller, Some(i64::MAX)),
            None => Identified::told(self.access.anonymous(), None),
        }
    }
}

/// Returns whether this is the subject `own.<replica>.group`.
fn is_group(subject: &str) -> bool {
    let mut tokens = subject.split('.').skip(2);
    (tokens.next(), tokens.next()) == (Some(GROUP), None)
}
