//! The running system as operators see and change it: gathered from whoever knows it, for `/ops`
//! and for the shell.
//!
//! Nothing here speaks HTTP, JetStream or SurrealQL. Whatever is read is bounded, and what an open console asks
//! for again and again is gathered once a second for all who ask.

mod aggregates;
pub mod asking;
mod commits;
mod explain;
pub mod history;
mod homes;
mod jobs;
mod overview;
mod parked;
mod processes;
mod recall;
mod refusals;
mod story;
mod tail;
mod views;

pub use aggregates::{AggregateHistory, SnapshotPlace};
pub use asking::{Answers, AskError, Projectors, Question};
pub use commits::{ToldCommit, ToldEvent, ToldExclusion};
pub use explain::DocumentExplained;
pub use homes::AggregateHome;
pub use jobs::{Job, JobOrder, JobPart, JobState, Jobs, carry_out};
pub use overview::{
    Overview, OverviewAppend, OverviewBuilding, OverviewLog, OverviewProcess, OverviewReplica,
    OverviewView,
};
pub use parked::{ParkedCommit, ParkedCommits, ParkedFilter};
pub use processes::{ListedProcess, ListedProcesses};
pub use recall::RecallEndpoint;
pub use refusals::{Refusals, ToldRefusal};
pub use story::{
    CommandStory, Searched, StoryCommand, StoryDeadline, StoryFact, StoryInstance, StoryOrigin,
    StoryPlace, StoryStep,
};
pub use tail::{LogPage, TailFilter, TailPlace};
pub use views::{ToldGeneration, ToldStore, ToldView, ToldViews, statuses};

use crate::{
    command::describe::AggregateDescription,
    event_log::{ChosenAppend, EventLog, LoadError, topology::Durability},
    http::ReadinessProbe,
    membership::Membership,
    problem::Problem,
    processes::{ProcessQueries, RegisteredProcess},
    read_model::ViewDescription,
};
use overview::Gathered;
use std::{fmt, sync::Arc};
use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

/// The number of streams that operators follow at once.
const STREAMS: usize = 32;

/// The parts that operations stand on: one replica, and through it all of the system.
pub struct OperationsOptions {
    /// The connection that other replicas are asked by.
    pub nats: async_nats::Client,
    /// The log.
    pub log: EventLog,
    /// The replicas that are there.
    pub membership: Membership,
    /// All aggregates of the program, the instances of its processes included.
    pub aggregates: Vec<AggregateDescription>,
    /// The views.
    pub views: Vec<ViewDescription>,
    /// The processes.
    pub processes: Vec<RegisteredProcess>,
    /// Asks about their instances.
    pub instances: ProcessQueries,
    /// The way that appends reach the log, where this replica decides commands.
    pub append: Option<ChosenAppend>,
    /// The durability of the server, where whoever started it knows it.
    pub durability: Option<Durability>,
    /// Tells whether this replica is ready.
    pub readiness: ReadinessProbe,
    /// The runtime that jobs are carried out on.
    pub runtime: Handle,
}

/// The operations: all that operators see and do. Cheap to clone.
#[derive(Clone)]
pub struct Operations(Arc<Inner>);

struct Inner {
    options: OperationsOptions,
    gathered: Mutex<Gathered>,
    jobs: jobs::Remembered,
    streams: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl Operations {
    /// Begins with nothing gathered.
    #[must_use]
    pub fn new(options: OperationsOptions) -> Self {
        Self(Arc::new(Inner {
            options,
            gathered: Mutex::default(),
            jobs: jobs::Remembered::default(),
            streams: Arc::new(Semaphore::new(STREAMS)),
            stopping: CancellationToken::new(),
        }))
    }

    /// Ends all streams.
    pub fn stop(&self) {
        self.0.stopping.cancel();
    }

    /// Returns what is cancelled when streams are to end.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.0.stopping.clone()
    }

    /// Takes one of the places of those who follow something.
    ///
    /// # Errors
    ///
    /// Returns `unavailable` where all are taken.
    pub fn follow(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = Arc::clone(&self.0.streams).try_acquire_owned();
        place.map_err(|_| Problem {
            retry_after: Some(5),
            ..Problem::unavailable("too many operators follow something already")
        })
    }

    /// The views of the program.
    #[must_use]
    pub fn known_views(&self) -> &[ViewDescription] {
        &self.0.options.views
    }

    /// Finds an aggregate, or a process by its instances.
    ///
    /// # Errors
    ///
    /// Returns `unknown_aggregate`.
    pub fn known_aggregate(&self, name: &str) -> Result<&AggregateDescription, Problem> {
        let mut known = self.0.options.aggregates.iter();
        known.find(|known| known.name == name).ok_or_else(|| {
            let detail = format!("there is no aggregate named {name:?}");
            Problem::not_found("unknown_aggregate", detail)
        })
    }

    /// Finds a view.
    ///
    /// # Errors
    ///
    /// Returns `unknown_view`.
    pub fn known_view(&self, name: &str) -> Result<&ViewDescription, Problem> {
        let mut known = self.0.options.views.iter();
        known.find(|known| known.name == name).ok_or_else(|| {
            let detail = format!("there is no view named {name:?}");
            Problem::not_found("unknown_view", detail)
        })
    }

    fn options(&self) -> &OperationsOptions {
        &self.0.options
    }
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operations").finish_non_exhaustive()
    }
}

/// The refusal that a log which cannot be read leads to.
fn unread(error: &LoadError) -> Problem {
    match error {
        LoadError::Unreadable { position, reason } => Problem::unreadable(*position, reason),
        _ => Problem::unavailable(error.to_string()),
    }
}
