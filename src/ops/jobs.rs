//! The jobs that operators give: begun by one request, looked at and cancelled by others.
//!
//! A job is remembered by the replica that took it, and lost with it: what it has begun in the projectors goes on,
//! and shows in the views' generations. Whichever replica is asked about it asks that one.

mod run;

use super::{
    Operations,
    recall::{RecallAsk, RecallVerb},
};
use crate::{
    problem::Problem,
    projection::{Ask, Verb},
    read_model::Generation,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

/// The number of jobs that are remembered.
const REMEMBERED: usize = 100;
/// The number of jobs that are under way at once.
const UNDER_WAY: usize = 16;
/// The time that a job is waited for when it is begun: most are over at once.
const AT_ONCE: Duration = Duration::from_millis(500);

/// The order for a job.
#[derive(Debug, Clone)]
pub struct JobOrder {
    /// The action.
    pub verb: Verb,
    /// The view that it is done to.
    pub view: String,
    /// With what.
    pub ask: Ask,
    /// The replica that does it, where not all do.
    pub replica: Option<String>,
    /// The caller as the replicas are told: the value of `Authorization`.
    pub authorization: Option<String>,
    /// The caller as it is shown.
    pub by: Option<String>,
}

/// The status of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It is under way.
    Running,
    /// It is done.
    Done,
    /// It could not be done.
    Failed,
    /// It was cancelled.
    Cancelled,
}

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// The kind: `rebuild`, `take_over`, `rollback`, `drop`, `verify`, `retry` or `skip`.
    #[schema(value_type = String)]
    pub kind: Verb,
    /// The view.
    pub view: String,
    /// The caller who has asked for it, where that is known.
    pub by: Option<String>,
    /// The status.
    pub state: JobState,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub began: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
    /// The amount that is done, in all its parts; 0 of 0 until that is known.
    pub done: u64,
    /// The amount that there is to do.
    pub total: u64,
    /// True if it can be cancelled now.
    pub cancellable: bool,
    /// The reason why it could not be done.
    pub error: Option<String>,
    /// The stores that it is done in.
    pub parts: Vec<JobPart>,
}

/// The part of a job that is done in one store.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobPart {
    /// The store's identity.
    pub store: String,
    /// The replica that does it.
    pub replica: String,
    /// The generation that is filled, where one is.
    #[schema(value_type = Option<String>)]
    pub generation: Option<Generation>,
    /// The status.
    pub state: JobState,
    /// The amount that is done: positions of the log, or aggregates.
    pub done: u64,
    /// The amount that there is to do.
    pub total: u64,
    /// The result, of a verification, a retry or a skip.
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
    /// The reason why it could not be done.
    pub error: Option<String>,
}

/// The latest jobs of all replicas, the last one first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Jobs {
    /// Each of them.
    pub items: Vec<Job>,
    /// The replicas that should have told of theirs and did not.
    pub missing: Vec<String>,
}

/// The role whose replicas are given jobs.
const GIVEN: &[&str] = &["gateway"];
/// The number of jobs that are told of.
const TOLD: usize = 200;

/// The refusal where nobody remembers a job.
pub(super) fn unknown_job() -> Problem {
    let detail = "no live replica remembers such a job; each remembers those that it was given, the last hundred";
    Problem::not_found("not_found", detail)
}

/// The jobs that are remembered.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<VecDeque<Arc<Entry>>>);

/// A job as it is remembered.
#[derive(Debug)]
struct Entry {
    job: watch::Sender<Job>,
    cancelled: CancellationToken,
}

impl Entry {
    fn new(given_to: &str, order: &JobOrder) -> Arc<Self> {
        Arc::new(Self {
            job: watch::Sender::new(Job {
                id: format!("{given_to}-{}", uuid::Uuid::now_v7().simple()),
                kind: order.verb,
                view: order.view.clone(),
                by: order.by.clone(),
                state: JobState::Running,
                began: Timestamp::now(),
                ended: None,
                done: 0,
                total: 0,
                cancellable: takes_long(order.verb, &order.ask),
                error: None,
                parts: Vec::new(),
            }),
            cancelled: CancellationToken::new(),
        })
    }
}

/// Carries a job out that no replica remembers: over this connection, by whoever waits for it. Unless it `waits`, what is
/// filled goes on by itself, and the job is running still.
pub async fn carry_out(nats: async_nats::Client, order: JobOrder, waits: bool) -> Job {
    let entry = Entry::new("shell", &order);
    let running = run::Running::new(nats, order, Arc::clone(&entry));
    match waits {
        true => running.run().await,
        false => running.begin().await,
    }
    entry.job.borrow().clone()
}

impl Remembered {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str) -> Option<Arc<Entry>> {
        let entries = self.lock();
        entries
            .iter()
            .find(|entry| entry.job.borrow().id == id)
            .cloned()
    }

    /// Remembers one more, if not too many are under way.
    fn add(&self, entry: &Arc<Entry>) -> Result<(), Problem> {
        let mut entries = self.lock();
        let running = |entry: &&Arc<Entry>| entry.job.borrow().state == JobState::Running;
        if entries.iter().filter(running).count() >= UNDER_WAY {
            return Err(Problem::unavailable(
                "too many jobs are under way; cancel one, or wait",
            ));
        }
        if entries.len() >= REMEMBERED {
            // The oldest that has ended: there are more than can be under way.
            let ended = entries.iter().rposition(|entry| !running(&entry));
            if let Some(ended) = ended {
                entries.remove(ended);
            }
        }
        entries.push_front(Arc::clone(entry));
        Ok(())
    }
}

/// Returns whether a job of this kind takes a while, so that it makes sense to cancel it.
fn takes_long(verb: Verb, ask: &Ask) -> bool {
    match verb {
        Verb::Rebuild | Verb::TakeOver | Verb::Verify => true,
        Verb::Retry | Verb::Skip => ask.all,
        _ => false,
    }
}

impl Operations {
    /// Begins a job, and returns how far it is after a moment.
    ///
    /// # Errors
    ///
    /// Returns `unknown_view`, and `unavailable` where too many are under way.
    pub async fn begin(&self, order: JobOrder) -> Result<Job, Problem> {
        self.known_view(&order.view)?;
        let replica = self.options().membership.replica();
        let entry = Entry::new(replica, &order);
        self.0.jobs.add(&entry)?;
        let nats = self.options().nats.clone();
        let running = run::Running::new(nats, order, Arc::clone(&entry));
        let ran = Arc::clone(&entry);
        self.options().runtime.spawn(async move {
            running.run().await;
            let job = ran.job.borrow();
            tracing::info!(
                job.id,
                job.state = ?job.state,
                view.name = job.view,
                "a job of an operator's has ended"
            );
        });
        let mut job = entry.job.subscribe();
        let ended = job.wait_for(|job| job.state != JobState::Running);
        // It goes on by itself.
        let _ = tokio::time::timeout(AT_ONCE, ended).await;
        Ok(entry.job.borrow().clone())
    }

    /// The latest jobs of all replicas, the last one first.
    pub async fn jobs(&self, authorization: Option<&str>) -> Jobs {
        let ask = RecallAsk::default();
        let others = self.others_with(GIVEN);
        let recalled = self.recall::<Job>((RecallVerb::Jobs, &ask), others, authorization);
        let recalled = recalled.await;
        let mut items = self.own_jobs();
        items.extend(recalled.items.into_iter().map(|(_, job)| job));
        items.sort_by_key(|job| std::cmp::Reverse(job.began));
        items.truncate(TOLD);
        Jobs {
            items,
            missing: recalled.missing,
        }
    }

    /// The jobs that were given to this replica, the last one first.
    pub(super) fn own_jobs(&self) -> Vec<Job> {
        let entries = self.0.jobs.lock();
        let items = entries.iter().map(|entry| entry.job.borrow().clone());
        items.collect()
    }

    /// A job, whichever replica it was given to.
    ///
    /// # Errors
    ///
    /// Returns `not_found` where no live replica remembers it, `unavailable` where the one that would does not answer.
    pub async fn job(&self, id: &str, authorization: Option<&str>) -> Result<Job, Problem> {
        match self.0.jobs.find(id) {
            Some(found) => Ok(found.job.borrow().clone()),
            None => {
                self.job_of_another(RecallVerb::Jobs, id, authorization)
                    .await
            }
        }
    }

    /// Cancels a job, and returns how far it is after a moment.
    ///
    /// # Errors
    ///
    /// Returns what [`Operations::job`] does, and `not_cancellable` where it has ended or is over at once.
    pub async fn cancel(&self, id: &str, authorization: Option<&str>) -> Result<Job, Problem> {
        match self.0.jobs.find(id) {
            Some(_) => self.cancel_own(id).await,
            None => {
                self.job_of_another(RecallVerb::Cancel, id, authorization)
                    .await
            }
        }
    }

    /// Asks the replica that an id names for its job.
    async fn job_of_another(
        &self,
        verb: RecallVerb,
        id: &str,
        authorization: Option<&str>,
    ) -> Result<Job, Problem> {
        let named = id.rsplit_once('-').map(|(replica, _)| replica);
        let mut others = self.others_with(GIVEN);
        others.retain(|other| Some(&**other) == named);
        if others.is_empty() {
            return Err(unknown_job());
        }
        let ask = RecallAsk {
            id: Some(id.to_owned()),
            ..RecallAsk::default()
        };
        let recalled = self.recall::<Job>((verb, &ask), others, authorization);
        let recalled = recalled.await;
        if let Some(replica) = recalled.missing.first() {
            let detail = format!("replica {replica}, which it was given to, does not answer");
            return Err(Problem {
                retry_after: Some(1),
                ..Problem::unavailable(detail)
            });
        }
        if let Some(problem) = recalled.refused {
            return Err(problem);
        }
        let mut items = recalled.items.into_iter().map(|(_, job)| job);
        items.find(|job| job.id == id).ok_or_else(unknown_job)
    }

    /// Cancels a job that was given to this replica, and returns how far it is after a moment.
    pub(super) async fn cancel_own(&self, id: &str) -> Result<Job, Problem> {
        let entry = self.0.jobs.find(id).ok_or_else(unknown_job)?;
        if !entry.job.borrow().cancellable {
            let detail = "the job has ended, or is of a kind that is over at once";
            return Err(Problem::refused("not_cancellable", detail));
        }
        entry.cancelled.cancel();
        let mut job = entry.job.subscribe();
        let ended = job.wait_for(|job| job.state != JobState::Running);
        let _ = tokio::time::timeout(AT_ONCE, ended).await;
        Ok(entry.job.borrow().clone())
    }
}
