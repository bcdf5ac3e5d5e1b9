//! One projector's work, a batch at a time.
//!
//! A step reads a batch, applies it, writes it, acknowledges it and announces it, in this order. It
//! may end between any two of these: what was written is at or below the checkpoint and is never
//! applied again, what was not written is read again.

use super::{
    fold::{Fold, FoldError, Folded},
    meters,
    registered::RegisteredView,
    status::{ProjectorState, ProjectorStatus},
};
use crate::{
    event_log::{
        EventLog,
        reader::{Commit, ReadError, Reader, ReaderOptions},
        subject,
    },
    read_model::{
        Applied, Progress, Watermark,
        exchange::{Changes, Checkpoint},
        schema::{SchemaError, ViewTables},
        store::{Store, StoreError},
    },
};
use jiff::Timestamp;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The largest batch, in commits, unless set. It is only reached while catching up, where a larger one
/// is faster (a document that changes often is written once a batch) and a transaction of some
/// thousand documents still takes less than a few seconds.
const BATCH: usize = 4_000;

/// What a projector is made of.
#[derive(Clone)]
pub struct ProjectorOptions {
    /// The view.
    pub view: RegisteredView,
    /// Where its documents are kept.
    pub store: Store,
    /// The log.
    pub log: EventLog,
    /// The stream of the log.
    pub stream: String,
    /// What to move when a batch is in the store.
    pub watermark: Watermark,
    /// What sets this projector's consumer apart from those of other replicas, where each replica
    /// keeps documents of its own. None where all share one store.
    pub replica: Option<String>,
    /// The largest batch, in commits.
    pub batch: usize,
}

impl ProjectorOptions {
    /// The usual options for a view.
    #[must_use]
    pub fn new(view: RegisteredView, store: Store, log: EventLog, watermark: Watermark) -> Self {
        Self {
            view,
            store,
            log,
            stream: subject::STREAM.to_owned(),
            watermark,
            replica: None,
            batch: BATCH,
        }
    }

    fn reader(&self) -> ReaderOptions {
        let view = self.view.description();
        let name = format!("view-{}-v{}", view.name, view.version);
        ReaderOptions {
            stream: self.stream.clone(),
            name: match &self.replica {
                Some(replica) => format!("{name}-{replica}"),
                None => name,
            },
            aggregates: view
                .aggregates
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
        }
    }
}

/// The worker. It is driven step by step; [`super::runner`] does.
pub(super) struct Projector {
    options: ProjectorOptions,
    tables: ViewTables,
    fold: Box<dyn Fold>,
    /// Who this is, in the checkpoints that it writes.
    writer: String,
    open: Option<Open>,
    status: watch::Sender<ProjectorStatus>,
}

struct Open {
    reader: Reader,
    checkpoint: Checkpoint,
}

/// A batch that is in the store.
pub(super) struct Written {
    applied: Applied,
    pending: u64,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There was nothing to do.
    Idle,
    /// A batch of this many commits was applied.
    Applied(usize),
    /// It was told to stop while it waited.
    Stopped,
}

impl Projector {
    pub(super) fn new(
        options: ProjectorOptions,
        status: watch::Sender<ProjectorStatus>,
    ) -> Result<Self, ProjectorError> {
        Ok(Self {
            tables: ViewTables::of(options.view.description())?,
            fold: options.view.fold(),
            writer: uuid::Uuid::now_v7().simple().to_string(),
            open: None,
            status,
            options,
        })
    }

    /// The view's name.
    pub(super) fn view(&self) -> &'static str {
        self.options.view.description().name
    }

    /// Does one batch, or waits at most `max_wait` for one. When told to stop it does not wait, but
    /// finishes the batch that it has.
    pub(super) async fn step(
        &mut self,
        max_wait: Duration,
        stopping: &CancellationToken,
    ) -> Result<Step, ProjectorError> {
        let step = self.try_step(max_wait, stopping).await;
        if step.is_err() {
            self.close();
        }
        step
    }

    /// Forgets everything but what is stored, as a new process would.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    async fn try_step(
        &mut self,
        max_wait: Duration,
        stopping: &CancellationToken,
    ) -> Result<Step, ProjectorError> {
        let batch = tokio::select! {
            batch = self.fetch(max_wait) => batch?,
            () = stopping.cancelled() => return Ok(Step::Stopped),
        };
        if batch.is_empty() {
            return Ok(Step::Idle);
        }
        let written = self.apply(&batch).await?;
        self.acknowledge(&written).await?;
        self.announce(&written).await?;
        let Written { applied, pending } = written;
        meters::applied(self.view(), batch.len());
        self.follow(applied.position, pending, applied.behind_since);
        Ok(Step::Applied(batch.len()))
    }

    /// Reads a batch, from after the stored checkpoint if nothing was read yet.
    pub(super) async fn fetch(
        &mut self,
        max_wait: Duration,
    ) -> Result<Vec<Commit>, ProjectorError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.open().await?,
        };
        let open = self.open.insert(open);
        let batch = open.reader.next_batch(self.options.batch, max_wait).await?;
        let applied = open.checkpoint.position;
        if let (Some(first), Some(last)) = (batch.first(), batch.last()) {
            self.behind(applied, first.published, batch.len() as u64 + last.pending);
        }
        Ok(batch)
    }

    /// Applies a batch that was fetched, and writes what it changes.
    pub(super) async fn apply(&mut self, batch: &[Commit]) -> Result<Written, ProjectorError> {
        let (Some(open), Some(last)) = (&self.open, batch.last()) else {
            return Err(ProjectorError::Panicked("nothing was fetched".to_owned()));
        };
        let fence = open.checkpoint.clone();
        let changes = self.fold(batch).await?;
        let ids = changes.documents.iter().map(|d| d.id.clone()).collect();
        let checkpoint = self.write(&fence, last.position, changes).await?;
        self.fold.committed();
        if let Some(open) = &mut self.open {
            open.checkpoint = checkpoint;
        }
        let view = self.options.view.description();
        let applied = Applied {
            store: self.options.store.id().to_owned(),
            view: view.name.to_owned(),
            version: view.version,
            previous: fence.position,
            position: last.position,
            behind_since: (last.pending > 0).then_some(last.published),
            ids,
        };
        // At once: until then, copies of these documents are served that are older than the store's.
        self.options.watermark.note(&applied);
        Ok(Written {
            applied,
            pending: last.pending,
        })
    }

    /// Tells the log that the batch is done with.
    pub(super) async fn acknowledge(&mut self, written: &Written) -> Result<(), ProjectorError> {
        if let Some(open) = &mut self.open {
            open.reader.ack(written.applied.position).await?;
        }
        Ok(())
    }

    /// Tells everyone what has changed.
    pub(super) async fn announce(&self, written: &Written) -> Result<(), ProjectorError> {
        let body = serde_json::to_vec(&written.applied).expect("an announcement is plain data");
        self.options
            .log
            .client()
            .publish(Applied::subject(self.view()), body.into())
            .await
            .map_err(|error| ProjectorError::Announce(error.to_string()))
    }

    async fn open(&mut self) -> Result<Open, ProjectorError> {
        let store = &self.options.store;
        store.define(&self.tables).await?;
        let checkpoint = store.checkpoint(&self.tables).await?;
        self.fold.reset(store.parked(&self.tables).await?);
        let reader = Reader::open(
            &self.options.log,
            &self.options.reader(),
            checkpoint.position,
        )
        .await?;
        tracing::info!(
            view.name = self.view(),
            view.version = self.options.view.description().version,
            checkpoint.position = checkpoint.position,
            log.pending = reader.pending(),
            "projector follows the log"
        );
        self.opened(&checkpoint, reader.pending());
        Ok(Open { reader, checkpoint })
    }

    /// Folds the batch, reading what it needs until it needs nothing.
    async fn fold(&mut self, batch: &[Commit]) -> Result<Changes, ProjectorError> {
        loop {
            match self.fold.apply(batch)? {
                Folded::Changes(changes) => return Ok(changes),
                Folded::Needs(needs) => {
                    let found = self.options.store.load(&self.tables, &needs).await?;
                    self.fold.supply(needs, found)?;
                }
            }
        }
    }

    async fn write(
        &self,
        fence: &Checkpoint,
        position: u64,
        changes: Changes,
    ) -> Result<Checkpoint, StoreError> {
        let next = Checkpoint {
            position,
            revision: fence.revision + 1,
            writer: self.writer.clone(),
            at: Timestamp::now(),
        };
        self.options
            .store
            .write(&self.tables, fence, next, changes)
            .await
    }

    /// Notes that a batch has come that is not applied yet.
    fn behind(&self, applied: u64, since: Timestamp, commits: u64) {
        self.options.watermark.fall_behind(Some(since));
        self.status.send_modify(|status| {
            status.applied = applied;
            status.behind_since = Some(since);
            status.lag_commits = commits;
        });
    }

    /// Notes what the store held at the start. Whether the projector gets on shows only when there is
    /// something to apply.
    fn opened(&self, checkpoint: &Checkpoint, pending: u64) {
        let behind_since = (pending > 0).then_some(checkpoint.at);
        if behind_since.is_none() {
            return self.follow(checkpoint.position, 0, None);
        }
        self.options.watermark.advance(Progress {
            position: checkpoint.position,
            behind_since,
        });
        let parked = self.fold.parked();
        self.status.send_modify(|status| {
            status.applied = checkpoint.position;
            status.lag_commits = pending;
            status.behind_since = behind_since;
            status.parked = parked;
        });
    }

    /// Notes that nothing is known of the log any more.
    pub(super) fn stall(&self) {
        let since = self.options.watermark.progress().behind_since;
        let since = since.unwrap_or_else(Timestamp::now);
        self.options.watermark.fall_behind(Some(since));
        self.status
            .send_modify(|status| status.behind_since = Some(since));
    }

    /// Notes what the store now holds.
    fn follow(&self, position: u64, pending: u64, behind_since: Option<Timestamp>) {
        self.options.watermark.advance(Progress {
            position,
            behind_since,
        });
        let parked = self.fold.parked();
        self.status.send_modify(|status| {
            *status = ProjectorStatus {
                state: ProjectorState::Following,
                applied: position,
                lag_commits: pending,
                behind_since,
                stalled: None,
                parked,
                ready: status.ready || pending == 0,
            };
        });
    }

    /// Whether the stored checkpoint is one that this projector wrote: then a fence that refused it
    /// was its own, from a transaction of which it never learnt the end.
    pub(super) async fn wrote_last(&self) -> bool {
        let stored = self.options.store.checkpoint(&self.tables).await;
        stored.is_ok_and(|checkpoint| checkpoint.writer == self.writer)
    }
}

/// Why a projector does not get on.
#[derive(Debug, thiserror::Error)]
pub enum ProjectorError {
    /// The view declares what cannot be stored.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The view's data do not fit its types.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The batch is written, but could not be announced.
    #[error("the batch could not be announced: {0}")]
    Announce(String),
    /// A defect.
    #[error("the projector panicked: {0}")]
    Panicked(String),
}

impl ProjectorError {
    /// Whether trying again may help without anybody doing something.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Read(error) => error.is_retryable(),
            Self::Announce(_) => true,
            Self::Schema(_) | Self::Fold(_) | Self::Panicked(_) => false,
        }
    }

    /// Whether another projector wrote the view.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Store(StoreError::Fenced))
    }
}
