//! What operators have done to views, as jobs: begun by one request, looked at and cancelled by others.
//!
//! A job is remembered by the replica that took it, and lost with it: what it has begun in the projectors goes on,
//! and shows in the views' generations.

mod run;

use super::Operations;
use crate::{
    problem::Problem,
    projection::{Ask, Verb},
    read_model::Generation,
};
use jiff::Timestamp;
use serde::Serialize;
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

/// What is done.
#[derive(Debug, Clone)]
pub struct JobOrder {
    /// The action.
    pub verb: Verb,
    /// The view that it is done to.
    pub view: String,
    /// With what.
    pub ask: Ask,
    /// Who asks, as the replicas are told it: the value of `Authorization`.
    pub authorization: Option<String>,
    /// Who asks, as it is shown.
    pub by: Option<String>,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
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
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// What is done: `rebuild`, `take_over`, `rollback`, `drop`, `verify`, `retry` or `skip`.
    #[schema(value_type = String)]
    pub kind: Verb,
    /// The view.
    pub view: String,
    /// Who has asked for it, where that is known.
    pub by: Option<String>,
    /// The status.
    pub state: JobState,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub began: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
    /// How much of it is done, in all its parts; 0 of 0 until that is known.
    pub done: u64,
    /// How much there is to do.
    pub total: u64,
    /// True if it can be cancelled now.
    pub cancellable: bool,
    /// Why it could not be done.
    pub error: Option<String>,
    /// The stores that it is done in.
    pub parts: Vec<JobPart>,
}

/// The part of a job that is done in one store.
#[derive(Debug, Clone, Serialize, ToSchema)]
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
    /// How much is done: positions of the log, or aggregates.
    pub done: u64,
    /// How much there is to do.
    pub total: u64,
    /// What has come of it, of a verification, a retry or a skip.
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
    /// Why it could not be done.
    pub error: Option<String>,
}

/// The jobs of a replica, the last one first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Jobs {
    /// Each of them.
    pub items: Vec<Job>,
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
        let entry = Arc::new(Entry {
            job: watch::Sender::new(Job {
                id: format!("{replica}-{}", uuid::Uuid::now_v7().simple()),
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
        });
        self.0.jobs.add(&entry)?;
        let running = run::Running::new(self, order, Arc::clone(&entry));
        self.options().runtime.spawn(running.run());
        let mut job = entry.job.subscribe();
        let ended = job.wait_for(|job| job.state != JobState::Running);
        // It goes on by itself.
        let _ = tokio::time::timeout(AT_ONCE, ended).await;
        Ok(entry.job.borrow().clone())
    }

    /// The jobs of this replica, the last one first.
    #[must_use]
    pub fn jobs(&self) -> Jobs {
        let entries = self.0.jobs.lock();
        let items = entries.iter().map(|entry| entry.job.borrow().clone());
        Jobs {
            items: items.collect(),
        }
    }

    /// A job.
    ///
    /// # Errors
    ///
    /// Returns `not_found`.
    pub fn job(&self, id: &str) -> Result<Job, Problem> {
        let found = self.find_job(id)?;
        Ok(found.job.borrow().clone())
    }

    fn find_job(&self, id: &str) -> Result<Arc<Entry>, Problem> {
        self.0.jobs.find(id).ok_or_else(|| {
            let detail = "this replica has no such job; it remembers its own, the last hundred";
            Problem::not_found("not_found", detail)
        })
    }

    /// Cancels a job, and returns how far it is after a moment.
    ///
    /// # Errors
    ///
    /// Returns `not_found`, and `not_cancellable` where it has ended or is over at once.
    pub async fn cancel(&self, id: &str) -> Result<Job, Problem> {
        let entry = self.find_job(id)?;
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
