//! Operators' requests of a running projector role: `ctl.projector.<replica>.<view>.<verb>`, where `all`
//! stands for every replica or every view.
//!
//! Each replica answers for each view with one or more messages: perhaps some that tell how far the
//! work is, then one that ends it. Where replicas share a store, those that do not keep the view say
//! so, and leave the work to the one that does.

mod jobs;
mod messages;
mod parked;

pub use messages::{
    Ask, DriftReport, GenerationReport, ParkedCursor, ParkedPage, ParkedReport, Reply, ReplyBody,
    Settled, Verb, ViewReport,
};

pub use jobs::JOB;

use super::{
    explain,
    keeper::{Shared, Turn, ViewHandle},
    verify,
};
use crate::{
    access::{AUDIT, Access},
    caller::Action,
    config::Role,
    membership::Membership,
    read_model::{
        Generation, GenerationState, Generations, generation::GenerationError,
        refresh::RefreshError, schema::ViewTables, store::StoreError,
    },
    request_reply::ReplyGuard,
};
use async_nats::{Client, Message, Subscriber};
use futures::StreamExt;
use jobs::{Doing, UnderWay};
use std::{error::Error as StdError, sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The time the live generation is held still for the previous one to come up to it.
const HOLD: Duration = Duration::from_secs(5);

/// The token that stands for every replica, or every view.
pub const ALL: &str = "all";

/// The number of documents that differed from the log and are named.
const DRIFTED: usize = 10;

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
        let mut tasks = JoinSet::new();
        loop {
            let message = tokio::select! {
                message = self.asked.next() => message,
                () = stopping.cancelled() => None,
            };
            let Some(message) = message else { break };
            while tasks.try_join_next().is_some() {}
            if !self.guard.admits(&message) {
                continue;
            }
            let name = message.subject.split('.').nth(3).unwrap_or_default();
            let views = self.shared.views.iter();
            let asked = views.filter(|view| name == ALL || name == view.view());
            let asked: Vec<_> = asked.cloned().collect();
            if asked.is_empty() {
                let (answering, message) = (Arc::clone(&self.shared), message.clone());
                tasks.spawn(async move { answering.know_nothing(message).await });
            }
            let of = asked.len();
            for view in asked {
                let (answering, message) = (Arc::clone(&self.shared), message.clone());
                tasks.spawn(async move { answering.answer(&view, of, message).await });
            }
        }
        tasks.abort_all();
    }
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

    /// Answers about one of the `of` views that are asked about.
    async fn answer(&self, view: &ViewHandle, of: usize, message: Message) {
        let tokens: Vec<_> = message.subject.split('.').collect();
        let [_, _, _, _, verb] = tokens[..] else {
            return;
        };
        let Some(reply) = message.reply else { return };
        let shared = view.shared();
        let here = shared.does(&Ask::default());
        let replicas = self.replicas();
        let send = |body: ReplyBody| {
            let body = Reply {
                replica: self.membership.replica().to_owned(),
                replicas: replicas.clone(),
                of,
                store: shared.options.store.id(),
                view: view.view().to_owned(),
                here,
                body,
            };
            let (client, reply) = (self.client.clone(), reply.clone());
            async move { respond(&client, reply, body).await }
        };
        let verb = serde_json::from_value::<Verb>(verb.into());
        let action = match verb {
            Ok(verb) if !verb.changes() => Action::Inspect,
            _ => Action::Operate,
        };
        let who = self.access.identified(&message.headers, None).await;
        let subject = who.as_ref().ok().and_then(|who| who.caller.subject());
        let by = subject.unwrap_or("nobody known").to_owned();
        let allowed = who.and_then(|who| who.may(action));
        if action == Action::Operate || allowed.is_err() {
            let refused = allowed.as_ref().err().map(|problem| problem.code.as_str());
            let view = view.view();
            tracing::info!(target: AUDIT, by, view.name = view, doing = tokens[4], refused, "an operator");
        }
        if let Err(problem) = allowed {
            let reason = problem.detail;
            return send(ReplyBody::Refused { reason }).await;
        }
        let ask = match message.payload.is_empty() {
            true => Ok(Ask::default()),
            false => serde_json::from_slice::<Ask>(&message.payload),
        };
        let (Ok(ask), Ok(verb)) = (ask, verb) else {
            let reason = "this cannot be asked".to_owned();
            return send(ReplyBody::Refused { reason }).await;
        };
        let anywhere = matches!(verb, Verb::Status | Verb::Parked | Verb::Cancel);
        if !anywhere && !shared.does(&ask) {
            return send(ReplyBody::Elsewhere {}).await;
        }
        let told = std::sync::Mutex::new(std::time::Instant::now());
        let tell = |done, total| {
            // Some ten times a second are enough for a person, and keep an answer alive.
            let mut told = told
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if told.elapsed().as_millis() >= 100 {
                *told = std::time::Instant::now();
                tokio::spawn(send(ReplyBody::Progress { done, total }));
            }
        };
        if verb == Verb::Cancel {
            let job = ask.id.unwrap_or_default();
            self.jobs.cancel(view.view(), &job);
            return send(ReplyBody::Done {}).await;
        }
        let job = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get(JOB));
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

impl Shared {
    /// Returns whether this program is the one that does this: it folds the generation that is meant, or the live
    /// one; where nobody does, it is the view's home.
    fn does(&self, ask: &Ask) -> bool {
        let meant = ask.generation.or(self.known().find(GenerationState::Live));
        let version = meant.map_or(self.options.view.description().version, |one| one.version);
        self.answers_for(version)
    }

    /// Does what is asked for, to its end.
    #[cfg(test)]
    pub(super) async fn work(
        &self,
        verb: Verb,
        ask: Ask,
        tell: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<ReplyBody, ControlError> {
        self.work_until(verb, ask, tell, &CancellationToken::new())
            .await
    }

    async fn work_until(
        &self,
        verb: Verb,
        ask: Ask,
        tell: &(dyn Fn(u64, u64) + Send + Sync),
        cancelled: &CancellationToken,
    ) -> Result<ReplyBody, ControlError> {
        let view = self.options.view.description();
        let generations = match self.options.store.generations(view.name).await {
            Ok(generations) => generations,
            // How the view is doing is worth the most while the store is away.
            Err(error) if verb == Verb::Status && error.is_retryable() => self.known(),
            Err(error) => return Err(error.into()),
        };
        match verb {
            Verb::Status => Ok(ReplyBody::Status(self.report(&generations).await?)),
            Verb::Rebuild => {
                let mut next = generations.rebuild(view.version)?;
                if ask.accept_parked {
                    next.accepts_parked = next.find(GenerationState::Building);
                }
                self.change(&next).await?;
                Ok(filling(&next))
            }
            Verb::TakeOver => {
                let building = generations.find(GenerationState::Building);
                let waits = building.and_then(|building| self.waits(building));
                if let (Some(reason), false) = (waits, ask.accept_parked) {
                    return Err(ControlError::Waits(reason));
                }
                let next = generations.accept_parked()?;
                self.change(&next).await?;
                Ok(filling(&next))
            }
            Verb::Rollback => {
                let next = generations.rollback()?;
                if let Some(previous) = generations.find(GenerationState::Previous)
                    && previous.version != view.version
                    && self.holds_erased(previous).await?
                {
                    return Err(ControlError::Erased(previous));
                }
                match self.turn(&generations, &next, Turn::Rollback(HOLD)).await? {
                    true => {
                        self.look_now();
                        Ok(ReplyBody::Done {})
                    }
                    false => Err(ControlError::Behind),
                }
            }
            Verb::Drop => {
                // One that is being filled is work that somebody waits for: it is dropped by its name.
                let previous = || generations.find(GenerationState::Previous);
                let one = ask.generation.or_else(previous);
                let one = one.ok_or(GenerationError::NoPrevious)?;
                self.change(&generations.without(one)?).await?;
                Ok(ReplyBody::Done {})
            }
            Verb::Verify => Ok(ReplyBody::Verified(
                verify::verify(self, ask.sample, tell, cancelled).await?,
            )),
            Verb::Explain => {
                let id = ask.id.ok_or(ControlError::Unnamed)?;
                let explained = explain::explain(self, &id, tell).await?;
                Ok(ReplyBody::Explained(Box::new(explained)))
            }
            // It is done where the jobs are known.
            Verb::Cancel => Ok(ReplyBody::Done {}),
            Verb::Parked => {
                let tables = self.tables(chosen(&ask, &generations)?)?;
                Ok(ReplyBody::Parked(self.parked(&tables, &ask).await?))
            }
            Verb::Retry | Verb::Skip => {
                let generation = chosen(&ask, &generations)?;
                let skip = verb == Verb::Skip;
                self.try_again(generation, &ask, skip, tell, cancelled)
                    .await
            }
        }
    }

    async fn change(&self, next: &Generations) -> Result<(), ControlError> {
        let view = self.options.view.description();
        self.options
            .store
            .change_generations(view.name, next)
            .await?;
        self.look_now();
        Ok(())
    }

    fn waits_if(
        &self,
        generations: &Generations,
        generation: Generation,
        state: GenerationState,
    ) -> Option<String> {
        let building = state == GenerationState::Building;
        // What the keeper has noted may be of before somebody accepted it.
        let accepted = generations.accepts_parked == Some(generation);
        (building && !accepted)
            .then(|| self.waits(generation))
            .flatten()
    }

    async fn report(&self, generations: &Generations) -> Result<ViewReport, ControlError> {
        let view = self.options.view.description();
        let mut all = Vec::new();
        for (generation, state) in &generations.all {
            let tables = self.tables(*generation)?;
            let status = self.status_of(*generation);
            let status = status.as_ref();
            let checkpoint = match self.options.store.find_checkpoint(&tables).await {
                Ok(checkpoint) => checkpoint.map(|checkpoint| checkpoint.position),
                Err(error) if error.is_retryable() => status.map(|status| status.applied),
                Err(error) => return Err(error.into()),
            };
            let now = jiff::Timestamp::now();
            let stalled = status.and_then(|status| status.stalled.as_ref());
            all.push(GenerationReport {
                generation: *generation,
                state: *state,
                position: checkpoint.unwrap_or(0),
                lag_commits: status.map(|status| status.lag_commits),
                lag_ms: status.map(|status| status.lag_ms(now)),
                parked: status.map_or(0, |status| status.parked),
                waiting: self.waits_if(generations, *generation, *state),
                stalled: stalled.map(|stalled| stalled.reason.clone()),
                drift: self.drift(&tables).await?,
                stalled_ms: stalled.map(|stalled| stalled.age_ms(now)),
                stalled_since: stalled.map(|stalled| stalled.since),
                rate_per_s: self.rates.of(*generation),
            });
        }
        Ok(ViewReport {
            version: view.version,
            generations: all,
        })
    }

    /// Returns what comparing a generation with the log all the time has come to, unless the store is away.
    async fn drift(&self, tables: &ViewTables) -> Result<Option<DriftReport>, ControlError> {
        let store = &self.options.store;
        let found = async {
            let verified = store.verification(tables).await?;
            Ok((verified, store.evidence(tables, DRIFTED).await?))
        };
        let (verified, evidence) = match found.await {
            Ok(found) => found,
            Err(StoreError::Silent | StoreError::Unavailable(_)) => return Ok(None),
            Err(error) => return Err(ControlError::from(error)),
        };
        Ok((verified.checked > 0).then(|| DriftReport {
            checked: verified.checked,
            different: verified.different,
            repaired: verified.repaired,
            at: verified.at,
            ids: evidence.into_iter().map(|it| it.id).collect(),
        }))
    }
}

/// Which generation takes over once it is filled.
fn filling(generations: &Generations) -> ReplyBody {
    match generations.find(GenerationState::Building) {
        Some(generation) => ReplyBody::Filling { generation },
        None => ReplyBody::Done {},
    }
}

fn chosen(ask: &Ask, generations: &Generations) -> Result<Generation, ControlError> {
    let live = generations.find(GenerationState::Live);
    let chosen = ask.generation.or(live);
    let chosen = chosen.filter(|one| generations.all.iter().any(|(other, _)| other == one));
    chosen.ok_or(ControlError::Generation(GenerationError::Unknown))
}

/// The reason why what an operator has asked for was not done.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The view's generations do not allow it.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// The store failed, or somebody else changed the same.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The one to go back to does not come up to what is live.
    #[error("the other generation is behind what is live, and does not come up to it")]
    Behind,
    /// Nothing of this aggregate is parked.
    #[error("nothing of this aggregate is parked")]
    NotParked,
    /// The scope of a request: one aggregate, or all of it.
    #[error("name the aggregate and its id, or ask for all")]
    Unnamed,
    /// The filled generation has parked what the live one has applied.
    #[error("{0}")]
    Waits(String),
    /// The one to go back to has personal data that was withdrawn.
    #[error("{0} holds personal data that was withdrawn since, and no program that runs folds it")]
    Erased(Generation),
    /// It was cancelled.
    #[error("it was cancelled")]
    Cancelled,
    /// This program does not keep this generation.
    #[error("this program does not keep this generation")]
    NotKept,
    /// Anything else.
    #[error("{0}")]
    Other(#[source] Box<dyn StdError + Send + Sync>),
}

impl From<RefreshError> for ControlError {
    fn from(error: RefreshError) -> Self {
        Self::Other(Box::new(error))
    }
}

impl From<verify::VerifyError> for ControlError {
    fn from(error: verify::VerifyError) -> Self {
        Self::Other(Box::new(error))
    }
}
