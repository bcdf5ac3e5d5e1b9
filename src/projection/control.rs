//! Operators' requests of a running projector role: `ctl.projector.<replica>.<view>.<verb>`, where `all`
//! stands for every replica or every view.
//!
//! Each replica answers for each view with one or more messages: perhaps some that tell how far the
//! work is, then one that ends it. Where replicas share a store, those that do not keep the view say
//! so, and leave the work to the one that does.

mod error;
mod jobs;
mod messages;
mod parked;
mod report;
mod work;

pub use messages::{
    Ask, DriftReport, GenerationReport, ParkedCursor, ParkedPage, ParkedReport, Reply, ReplyBody,
    Settled, Verb, ViewReport,
};

pub use error::ControlError;
pub use jobs::JOB;

use super::view_handle::ViewHandle;
use crate::{
    access::{AUDIT, Access},
    caller::Action,
    config::Role,
    membership::Membership,
    problem::Problem,
    request_reply::{AnswerPlaces, AnswerTasks, ReplyGuard},
};
use async_nats::{Client, Message, Subscriber};
use futures::StreamExt;
use jobs::{Doing, UnderWay};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// The token that stands for every replica, or every view.
pub const ALL: &str = "all";

/// The number of requests for work that are under way at once: a comparison may take as long as a log is.
const WORK: usize = 128;
/// The number of others at once. They have places of their own, so that whoever looks or cancels gets through.
const LOOKS: usize = 256;
/// The pause between two messages that tell how far work is: enough for a person, and to keep an answer alive.
const TOLD: Duration = Duration::from_millis(100);

/// Answers operators.
pub struct ControlEndpoint {
    asked: futures::stream::SelectAll<Subscriber>,
    shared: Arc<Answering>,
    guard: ReplyGuard,
}

struct Answering {
    client: Client,
    membership: Membership,
    views: Vec<ViewHandle>,
    access: Access,
    jobs: UnderWay,
}

impl ControlEndpoint {
    /// Subscribes.
    ///
    /// # Errors
    ///
    /// Returns a retryable error when the connection is closed.
    pub async fn open(
        client: &Client,
        membership: &Membership,
        views: Vec<ViewHandle>,
        guard: ReplyGuard,
        access: Access,
    ) -> Result<Self, async_nats::SubscribeError> {
        let all = client.subscribe(format!("ctl.projector.{ALL}.>")).await?;
        let own = client
            .subscribe(format!("ctl.projector.{}.>", membership.replica()))
            .await?;
        client.flush().await.ok();
        Ok(Self {
            asked: futures::stream::select_all([all, own]),
            shared: Arc::new(Answering {
                client: client.clone(),
                membership: membership.clone(),
                views,
                access,
                jobs: UnderWay::default(),
            }),
            guard,
        })
    }

    /// Answers until told to stop.
    pub async fn run(mut self, stopping: CancellationToken) {
        let mut working = AnswerTasks::new(AnswerPlaces::new(WORK));
        let mut looking = AnswerTasks::new(AnswerPlaces::new(LOOKS));
        loop {
            let message = tokio::select! {
                message = self.asked.next() => message,
                () = stopping.cancelled() => None,
            };
            let Some(message) = message else { break };
            if !self.guard.admits(&message) {
                continue;
            }
            let name = message.subject.split('.').nth(3).unwrap_or_default();
            let views = self.shared.views.iter();
            let asked = views.filter(|view| name == ALL || name == view.view());
            let asked: Vec<_> = asked.cloned().collect();
            if asked.is_empty() {
                self.shared.know_nothing(message).await;
                continue;
            }
            let tasks = match verb_of(&message).is_some_and(Verb::takes_long) {
                true => &mut working,
                false => &mut looking,
            };
            // One place a message, however many views it asks about.
            let Some(place) = tasks.place().map(Arc::new) else {
                self.shared.refuse(&asked, message).await;
                continue;
            };
            let of = asked.len();
            for view in asked {
                let (answering, message) = (Arc::clone(&self.shared), message.clone());
                let place = Arc::clone(&place);
                tasks.spawn(async move {
                    answering.answer(&view, of, message).await;
                    drop(place);
                });
            }
        }
    }
}

/// Returns the verb of a request, the last token of its subject; `None` where there is no such verb.
fn verb_of(message: &Message) -> Option<Verb> {
    let token = message.subject.rsplit('.').next()?;
    serde_json::from_value(token.into()).ok()
}

impl Answering {
    /// Answers about a view that this program does not have, so that nobody waits for it.
    async fn know_nothing(&self, message: Message) {
        let view = message.subject.split('.').nth(3).unwrap_or_default();
        let Some(to) = message.reply else { return };
        let reply = Reply {
            replica: self.membership.replica().to_owned(),
            store: String::new(),
            view: view.to_owned(),
            here: false,
            replicas: self.replicas(),
            of: 1,
            body: ReplyBody::Unknown {},
        };
        respond(&self.client, to, reply).await;
    }

    /// The replicas that have projectors, as far as is known.
    fn replicas(&self) -> Vec<String> {
        let members = self.membership.watch().borrow().clone();
        let keepers = members.iter();
        let keepers = keepers.filter(|member| member.roles().contains(&Role::Projector));
        keepers.map(|it| it.replica().to_owned()).collect()
    }

    /// Refuses a request for which there is no place, so that nobody waits for it.
    async fn refuse(&self, asked: &[ViewHandle], message: Message) {
        let Some(to) = message.reply else { return };
        for view in asked {
            let reason = "too much is under way for operators at this replica; try again later";
            let body = ReplyBody::Refused {
                reason: reason.to_owned(),
            };
            let reply = self.reply(view, asked.len(), body);
            respond(&self.client, to.clone(), reply).await;
        }
    }

    /// The answer about one of the `of` views that are asked about.
    fn reply(&self, view: &ViewHandle, of: usize, body: ReplyBody) -> Reply {
        let shared = view.shared();
        Reply {
            replica: self.membership.replica().to_owned(),
            replicas: self.replicas(),
            of,
            store: shared.options.store.id(),
            view: view.view().to_owned(),
            here: shared.does(&Ask::default()),
            body,
        }
    }

    /// Answers about one of the `of` views that are asked about.
    async fn answer(&self, view: &ViewHandle, of: usize, message: Message) {
        let is_whole = message.subject.split('.').count() == 5;
        let (Some(reply), true) = (message.reply.clone(), is_whole) else {
            return;
        };
        let shared = view.shared();
        // Who keeps the view is told as of when it was asked, whatever the work changes.
        let first = self.reply(view, of, ReplyBody::Taken {});
        let send = |body: ReplyBody| {
            let body = Reply {
                body,
                ..first.clone()
            };
            let (client, reply) = (self.client.clone(), reply.clone());
            async move { respond(&client, reply, body).await }
        };
        let verb = verb_of(&message);
        if let Err(problem) = self.allow(view.view(), verb, &message).await {
            let reason = problem.detail;
            return send(ReplyBody::Refused { reason }).await;
        }
        let ask = match message.payload.is_empty() {
            true => Ok(Ask::default()),
            false => serde_json::from_slice::<Ask>(&message.payload),
        };
        let (Ok(ask), Some(verb)) = (ask, verb) else {
            let reason = "this cannot be asked".to_owned();
            return send(ReplyBody::Refused { reason }).await;
        };
        let anywhere = matches!(verb, Verb::Status | Verb::Parked | Verb::Cancel);
        if !anywhere && !shared.does(&ask) {
            return send(ReplyBody::Elsewhere {}).await;
        }
        if verb == Verb::Cancel {
            let job = ask.id.unwrap_or_default();
            self.jobs.cancel(view.view(), &job);
            return send(ReplyBody::Done {}).await;
        }
        let told = Mutex::new(Instant::now());
        let tell = |done, total| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.elapsed() >= TOLD {
                *told = Instant::now();
                tokio::spawn(send(ReplyBody::Progress { done, total }));
            }
        };
        let headers = message.headers.as_ref();
        let job = headers.and_then(|headers| headers.get(JOB));
        let job = job.map(|job| self.jobs.begin(view.view(), job.as_str()));
        let cancelled = job.as_ref().map(Doing::cancelled).unwrap_or_default();
        send(ReplyBody::Taken {}).await;
        let body = match shared.work_until(verb, ask, &tell, &cancelled).await {
            Ok(body) => body,
            Err(error) => ReplyBody::Refused {
                reason: error.to_string(),
            },
        };
        send(body).await;
    }

    /// Returns the refusal of a caller who may not ask this. What changes something, or is refused, is put on record.
    async fn allow(
        &self,
        view: &str,
        verb: Option<Verb>,
        message: &Message,
    ) -> Result<(), Problem> {
        let action = match verb {
            Some(verb) if !verb.changes() => Action::Inspect,
            _ => Action::Operate,
        };
        let who = self.access.identified(&message.headers, None).await;
        let subject = who.as_ref().ok().and_then(|who| who.caller.subject());
        let by = subject.unwrap_or("nobody known").to_owned();
        let allowed = who.and_then(|who| who.may(action));
        if action == Action::Operate || allowed.is_err() {
            let refused = allowed.as_ref().err().map(|problem| problem.code.as_str());
            let doing = message.subject.rsplit('.').next();
            tracing::info!(target: AUDIT, by, view.name = view, doing, refused, "an operator");
        }
        allowed.map(|_| ())
    }
}

/// Sends an answer; where no message can hold it, that it cannot be sent.
async fn respond(client: &Client, to: async_nats::Subject, reply: Reply) {
    let body = serde_json::to_vec(&reply).expect("an answer is plain data");
    let body = match body.len() < client.server_info().max_payload {
        true => body,
        false => {
            let reason = "the answer is larger than a message may be; ask for less".to_owned();
            let refused = Reply {
                body: ReplyBody::Refused { reason },
                ..reply
            };
            serde_json::to_vec(&refused).expect("an answer is plain data")
        }
    };
    // Who has asked may be gone.
    if let Err(error) = client.publish(to, body.into()).await {
        tracing::warn!(%error, "an operator is not answered");
    }
}
