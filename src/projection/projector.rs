//! One projector's work, a batch at a time.
//!
//! A step reads a batch, applies it, writes it, acknowledges it and announces it, in this order. It
//! may end between any two of these: what was written is at or below the checkpoint and is never
//! applied again, what was not written is read again.

mod amend;
mod error;
mod excluded;
mod pace;
mod parked;
mod parked_set;
mod progress;
mod refused;
mod write;

pub(super) use amend::Amend;
pub use error::ProjectorError;
pub use parked::{Retried, Try};
use parked_set::ParkedSet;

use super::{
    fold::{Fold, Folded, Limits, Reach},
    fold_error::FoldError,
    meters,
    registered::RegisteredView,
    status::ProjectorStatus,
    verify_options::VerifyOptions,
};
use crate::{
    event_log::{
        Epoch, EventLog, LogName, Place,
        reader::{Commit, Reader, ReaderOptions},
        subject,
    },
    read_model::{
        Applied, Edition, Generation, GenerationState, Progress, StoreError, Watermark,
        exchange::{Changes, Checkpoint, Found, Needs},
        schema::ViewTables,
        store::{Store, generations::TURNED},
    },
    view::PartKey,
};
use pace::Pause;
use refused::{Attempt, Trouble};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// The largest batch, in commits, unless set. It is only reached while catching up, where a larger one
/// is faster (a document that changes often is written once a batch) and a transaction of some
/// thousand documents still takes less than a few seconds. Of what it changes, a transaction has no more
/// than its limits.
const BATCH: usize = 4_000;
/// The time a step waits for commits while there is something else to do.
const SOON: Duration = Duration::from_millis(1);

/// The parts of a projector.
#[derive(Clone)]
pub struct ProjectorOptions {
    /// The view.
    pub view: RegisteredView,
    /// The place where its documents are kept.
    pub store: Store,
    /// The log.
    pub log: EventLog,
    /// The stream of the log.
    pub stream: String,
    /// The marks to move when a batch is in the store.
    pub watermark: Watermark,
    /// The name that sets this projector's consumer apart from those of other replicas, where each replica
    /// keeps documents of its own. None where all share one store.
    pub replica: Option<String>,
    /// The largest batch, in commits.
    pub batch: usize,
    /// The most that one transaction has.
    pub limits: Limits,
    /// Which filling of the view's tables it keeps.
    pub generation: Generation,
    /// The name of the writer, in the checkpoints that it writes.
    pub writer: String,
    /// Held by the projector from the reading of what a batch needs to its announcement: who holds
    /// it meanwhile keeps the generation as it is.
    pub gate: Arc<Mutex<()>>,
    /// The comparison of the view with the log.
    pub verify: VerifyOptions,
}

impl ProjectorOptions {
    /// The usual options for a view.
    #[must_use]
    pub fn new(view: RegisteredView, store: Store, log: EventLog, watermark: Watermark) -> Self {
        Self {
            generation: Generation::first(view.description().version),
            writer: uuid::Uuid::now_v7().simple().to_string(),
            gate: Arc::default(),
            view,
            store,
            log,
            stream: subject::STREAM.to_owned(),
            watermark,
            replica: None,
            batch: BATCH,
            verify: VerifyOptions::new(std::env::temp_dir().join("headwater")),
            limits: Limits::USUAL,
        }
    }

    /// The name of its consumer.
    pub(super) fn consumer(&self) -> String {
        let Generation { version, number } = self.generation;
        let mut name = format!("view-{}-v{version}", self.view.description().name);
        if number > 0 {
            name = format!("{name}-g{number}");
        }
        match &self.replica {
            Some(replica) => format!("{name}-{replica}"),
            None => name,
        }
    }

    /// Returns what it follows, by a consumer of this name.
    pub(super) fn reader(&self, name: String) -> ReaderOptions {
        let view = self.view.description();
        ReaderOptions {
            stream: self.stream.clone(),
            name,
            prefetch: ReaderOptions::PREFETCH,
            inactive: ReaderOptions::LASTING,
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
    /// The number of the transaction that last changed what readers are told of what is parked.
    parked_at: u64,
    parked: ParkedSet,
    /// The aggregates that are parked as unknown and still to be tried again by this program.
    unknown: VecDeque<PartKey>,
    /// True if it was looked at what there is of that.
    looked: bool,
    /// The positions of the commits that are passed over.
    excluded: HashSet<u64>,
    /// True if something may be parked because of one of them.
    releases: bool,
    /// The highest revision of the checkpoint that it has known.
    revision: u64,
    /// The commit up to which it has told that everything is applied.
    told: Place,
    /// True if the store or the log has gone back, so that what was told at later positions is not so.
    renews: bool,
    /// The part that cannot be written, if there is one.
    trouble: Option<Trouble>,
    attempt: Attempt,
    open: Option<Open>,
    /// The pause before the next batch.
    paced: Option<Pause>,
    /// As [`Open::live`], and the edition, when it last knew.
    was_live: Option<(u64, Edition)>,
    status: watch::Sender<ProjectorStatus>,
}

struct Open {
    reader: Reader,
    /// Commits that were read and are not applied, because they did not fit into the last transaction.
    rest: Vec<Commit>,
    /// Rows that the next transaction needs, read while the last one was written.
    page_ahead: Option<(Needs, Found)>,
    /// As it is stored.
    checkpoint: Checkpoint,
    /// The commit that the documents are of. It is beyond the checkpoint where commits have
    /// changed nothing since.
    place: Place,
    /// The name of the log that is read.
    log: LogName,
    /// The era of the view that the generation is of.
    era: u32,
    /// The edition of the documents as they are stored.
    edition: Edition,
    /// The number of such commits.
    deferred: usize,
    /// The time when the checkpoint was last written or read.
    stored: Instant,
    /// The revision by which its generation is the live one, if it is.
    live: Option<u64>,
    /// The time when the log was last known to have what `place` says.
    epoch: Epoch,
}

/// The edition of a generation that has this checkpoint.
fn edition(generation: Generation, era: u32, checkpoint: &Checkpoint) -> Edition {
    Edition::of(generation, era, checkpoint.log, checkpoint.exchanges)
}

/// A batch that is in the store, or the beginning of one.
pub(super) struct Written {
    applied: Applied,
    /// The number of its commits.
    commits: usize,
    pending: u64,
    /// True if the stored checkpoint has yet to follow.
    deferred: bool,
}

/// The result of a step.
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
        let mut fold = options.view.fold();
        fold.limit(options.limits);
        Ok(Self {
            tables: ViewTables::generation(options.view.description(), options.generation)?,
            fold,
            parked_at: 0,
            parked: ParkedSet::default(),
            unknown: VecDeque::new(),
            looked: false,
            excluded: HashSet::new(),
            releases: false,
            revision: 0,
            told: Place::default(),
            renews: false,
            trouble: None,
            attempt: Attempt::default(),
            open: None,
            paced: None,
            was_live: None,
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
        let paced = self.paced.take();
        let next = async {
            if let Some(pause) = paced {
                self.rest(pause).await;
            }
            self.fetch(max_wait).await
        };
        let batch = tokio::select! {
            batch = next => batch?,
            () = stopping.cancelled() => return Ok(Step::Stopped),
        };
        // After the batch has come: it may be of another log than those before.
        self.compare_with_log().await?;
        let gate = Arc::clone(&self.options.gate);
        let _turn = gate.lock().await;
        self.follow_exclusions(&batch).await?;
        let tried = self.apply_unknown().await?;
        if batch.is_empty() && tried {
            return Ok(Step::Applied(0));
        }
        if batch.is_empty() {
            self.ensure_stored().await?;
            self.settle().await?;
            self.announce_position().await?;
            return Ok(Step::Idle);
        }
        let begun = Instant::now();
        let written = self.apply(&batch).await?;
        self.acknowledge(&written).await?;
        self.announce(&written).await?;
        let Written {
            applied,
            commits,
            pending,
            ..
        } = written;
        let whole = commits == batch.len();
        let first = batch.first().filter(|_| whole);
        self.paced = first.and_then(|first| self.pause(begun, commits, first.published));
        self.put_back(batch, commits);
        meters::applied(self.view(), commits);
        self.count(commits);
        self.follow(applied.position, pending, applied.behind_since);
        Ok(Step::Applied(commits))
    }

    /// Reads a batch, from after the stored checkpoint if nothing was read yet.
    pub(super) async fn fetch(
        &mut self,
        max_wait: Duration,
    ) -> Result<Vec<Commit>, ProjectorError> {
        self.ensure_open().await?;
        let Some(open) = &mut self.open else {
            return Err(ProjectorError::Panicked("nothing is open".to_owned()));
        };
        if !open.rest.is_empty() {
            return Ok(std::mem::take(&mut open.rest));
        }
        let max_wait = match self.unknown.is_empty() {
            true => max_wait,
            false => max_wait.min(SOON),
        };
        let batch = open.reader.next_batch(self.options.batch, max_wait).await?;
        let applied = open.place.position;
        if let (Some(first), Some(last)) = (batch.first(), batch.last()) {
            self.behind(applied, first.published, batch.len() as u64 + last.pending);
        }
        Ok(batch)
    }

    pub(super) async fn ensure_open(&mut self) -> Result<(), ProjectorError> {
        if self.open.is_none() {
            self.open = Some(self.open().await?);
            if self.renews {
                self.renew().await?;
            }
        }
        Ok(())
    }

    /// Gives the documents another edition, where the store or the log has gone back: what was told of
    /// them at later positions is not so any more.
    async fn renew(&mut self) -> Result<(), ProjectorError> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        let (place, is_live) = (open.place, open.live.is_some());
        tracing::warn!(
            view.name = self.view(),
            view.generation = %self.options.generation,
            checkpoint.position = place.position,
            "what the view stands on has gone back"
        );
        if let Some(here) = self.here() {
            self.commit(here, Changes::default()).await?;
        }
        if is_live {
            self.options.watermark.reset(Progress {
                position: place.position,
                behind_since: None,
            });
            self.options.watermark.stands_on(place);
        }
        self.told = place;
        Ok(())
    }

    /// Makes sure that nobody else has written the checkpoint: its generation has got another place, or the
    /// store was restored from a backup.
    async fn ensure_stored(&self) -> Result<(), ProjectorError> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        let stored = self.options.store.find_checkpoint(&self.tables).await?;
        match stored.is_some_and(|stored| stored.revision == open.checkpoint.revision) {
            true => Ok(()),
            false => Err(StoreError::Fenced.into()),
        }
    }

    /// Makes sure, where the log may have become another one, that it is the one that was applied so far.
    pub(super) async fn compare_with_log(&mut self) -> Result<(), ProjectorError> {
        let epoch = self.options.log.epoch();
        let Some(open) = self.open.as_mut().filter(|open| open.epoch != epoch) else {
            return Ok(());
        };
        let log = &self.options.log;
        if !log.holds(open.place).await? || !log.holds(open.begun()).await? {
            let edition = open.edition.clone();
            let (is_live, position) = (open.live.is_some(), open.place.position);
            return Err(self.lose(&edition, is_live, position));
        }
        open.epoch = epoch;
        Ok(())
    }

    /// Serves nothing any more of what was applied, up to this position, from another log.
    fn lose(&mut self, edition: &Edition, is_live: bool, position: u64) -> ProjectorError {
        let log = &self.options.log;
        log.suspect("a view was filled from another log");
        self.was_live = None;
        if is_live {
            self.options.watermark.lose(edition);
        }
        // The checkpoint may stand on what both logs have, but what came after it was told already.
        self.renews = true;
        ProjectorError::OtherLog { position }
    }

    /// Keeps what is left of a batch for the next step.
    fn put_back(&mut self, mut batch: Vec<Commit>, applied: usize) {
        if let Some(open) = &mut self.open {
            open.rest = batch.split_off(applied);
        }
    }

    /// An announcement that nothing has changed.
    fn nothing(&self) -> Applied {
        let open = self.open.as_ref();
        let place = open.map(|open| open.place);
        let position = place.map_or(0, |place| place.position);
        let edition = open.map(|open| open.edition.clone());
        Applied {
            store: self.options.store.id(),
            view: self.view().to_owned(),
            edition: edition.unwrap_or_default(),
            generations: self.live().unwrap_or(0),
            previous: position,
            position,
            mark: place.map(|place| place.mark),
            behind_since: None,
            stalled: None,
            ids: Vec::new(),
            page: None,
            all: false,
            writer: self.options.writer.clone(),
            revision: self.revision,
            parked_at: self.parked_at,
            parked: None,
        }
    }

    /// The revision by which the generation is the live one, if it is.
    fn live(&self) -> Option<u64> {
        self.open.as_ref().and_then(|open| open.live)
    }

    /// Says where it is although nothing has changed, where others depend on hearing it: an
    /// announcement may have been lost.
    async fn announce_position(&self) -> Result<(), ProjectorError> {
        if self.options.replica.is_some() || self.open.is_none() {
            return Ok(());
        }
        self.publish(&self.nothing()).await
    }

    /// Tells the log that the batch is done with.
    pub(super) async fn acknowledge(&mut self, written: &Written) -> Result<(), ProjectorError> {
        match written.deferred {
            true => Ok(()),
            false => self.acknowledge_to(written.applied.position).await,
        }
    }

    async fn acknowledge_to(&mut self, position: u64) -> Result<(), ProjectorError> {
        if let Some(open) = &mut self.open {
            open.reader.ack(position).await?;
        }
        Ok(())
    }

    /// Tells everyone what has changed.
    pub(super) async fn announce(&self, written: &Written) -> Result<(), ProjectorError> {
        self.publish(&written.applied).await
    }

    /// Announces, if the generation is what is read.
    async fn publish(&self, applied: &Applied) -> Result<(), ProjectorError> {
        match self.live() {
            Some(_) => self.tell(applied).await,
            None => Ok(()),
        }
    }

    async fn tell(&self, applied: &Applied) -> Result<(), ProjectorError> {
        let client = self.options.log.client();
        let body = applied.body(client.server_info().max_payload);
        client
            .publish(Applied::subject(self.view()), body.into())
            .await
            .map_err(|error| ProjectorError::Announce(error.to_string()))
    }

    async fn open(&mut self) -> Result<Open, ProjectorError> {
        let store = &self.options.store;
        store.define(&self.tables).await?;
        let epoch = self.options.log.epoch();
        let log = self.options.log.name().await?;
        let checkpoint = store.checkpoint_of(&self.tables, log).await?;
        // After the checkpoint: a turn that comes between the two is noticed by its fence.
        let generations = store.generations(self.view()).await?;
        let live = match generations.find(GenerationState::Live) {
            Some(live) => (live == self.options.generation).then_some(generations.revision),
            None => Some(0),
        };
        let edition = edition(self.options.generation, generations.era, &checkpoint);
        let events = &self.options.log;
        let holds = events.holds(checkpoint.place()).await?;
        if !holds || !events.holds(checkpoint.begun()).await? {
            return Err(self.lose(&edition, live.is_some(), checkpoint.position));
        }
        let skipped = store.skipped(&self.tables).await?;
        let parked = store.parked(&self.tables).await?;
        let behind = match parked.is_empty() {
            true => HashMap::new(),
            false => store.behind_by_aggregate(&self.tables).await?,
        };
        let untouched = checkpoint.revision == 0 && parked.is_empty();
        if untouched && store.is_empty(&self.tables).await? {
            self.fold.begin_empty();
            skipped.into_iter().for_each(|place| self.fold.skip(place));
        } else {
            self.fold.reset(parked.keys().cloned().collect(), skipped);
        }
        self.parked = ParkedSet::new(parked, behind);
        self.look_for_unknown();
        self.load_exclusions().await?;
        let consumer = self.options.reader(self.options.consumer());
        let reader = Reader::open(&self.options.log, &consumer, checkpoint.position).await?;
        tracing::info!(
            view.name = self.view(),
            view.generation = %self.options.generation,
            checkpoint.position = checkpoint.position,
            log.pending = reader.pending(),
            "projector follows the log"
        );
        let (place, pending) = (checkpoint.place(), reader.pending());
        let open = Open {
            reader,
            rest: Vec::new(),
            page_ahead: None,
            place,
            log,
            era: generations.era,
            edition,
            deferred: 0,
            stored: Instant::now(),
            checkpoint,
            live,
            epoch,
        };
        self.renews |= open.checkpoint.revision < self.revision;
        if self.told.position > place.position {
            self.renews |= !self.options.log.holds(self.told).await?;
        }
        self.parked_at = open.checkpoint.revision;
        self.revision = open.checkpoint.revision;
        self.was_live = None;
        if live.is_some() {
            let serving = self.options.watermark.serving();
            serving.park(self.parked_at, self.parked.told());
            self.wrote(open.live, open.edition.clone());
        }
        self.opened(&open.checkpoint, pending, live.is_some());
        Ok(open)
    }

    /// Has readers in this process know which edition it is. Where documents were exchanged, their copies
    /// are of before: perhaps by a transaction of which this projector never learnt the end.
    fn wrote(&mut self, live: Option<u64>, edition: Edition) {
        let (generation, watermark) = (self.options.generation, &self.options.watermark);
        let serving = watermark.serving();
        if serving.wrote(generation, &edition, self.revision) {
            watermark.replaced();
        }
        self.was_live = live.map(|live| (live, edition));
    }

    /// Folds the batch, reading what it needs until it needs nothing.
    async fn fold(
        &mut self,
        pass: &mut (dyn FnMut(&mut dyn Fold) -> Result<Folded, FoldError> + Send),
    ) -> Result<(Changes, Reach), ProjectorError> {
        let mut told: Option<HashSet<PartKey>> = None;
        loop {
            match pass(&mut *self.fold)? {
                Folded::Changes(mut changes, reach) => {
                    if let Some(untold) = &told {
                        for parked in &mut changes.parked {
                            parked.vague |= parked.first && untold.contains(&parked.aggregate);
                        }
                        return Ok((changes, reach));
                    }
                    // It cannot be told from some commits alone which documents they concern.
                    told = self.tell_histories(&changes).await?;
                    if told.is_none() {
                        return Ok((changes, reach));
                    }
                }
                Folded::Needs(needs) => {
                    let open = self.open.as_mut();
                    let ahead = open.and_then(|open| open.page_ahead.take());
                    let found = match ahead.filter(|(known, _)| *known == needs) {
                        Some((_, found)) => found,
                        None => {
                            let store = &self.options.store;
                            store.load(&self.tables, &needs, self.fold.rows()).await?
                        }
                    };
                    self.fold.supply(needs, found)?;
                }
            }
        }
    }

    /// Returns whether the stored checkpoint is one that this projector wrote, so that a fence that refused it
    /// was its own, from a transaction of which it never learnt the end; or one that was written
    /// because its generation has got another place.
    pub(super) async fn wrote_last(&self) -> bool {
        let stored = self.options.store.find_checkpoint(&self.tables).await;
        stored.ok().flatten().is_some_and(|checkpoint| {
            checkpoint.writer == self.options.writer || checkpoint.writer == TURNED
        })
    }
}
