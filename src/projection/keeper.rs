//! Keeps a view: runs a projector for each of its generations that this program can fold, lets a filled
//! one take over, and removes what is no longer wanted.
//!
//! What is to be is the store's record of generations; the keeper looks at it once a second, and when
//! it is told that something has changed. Where several programs share a store, one of them keeps
//! the view at a time: [`super::placement`] says which. As ever, that two do it for a moment is made
//! harmless by the fences, of the record and of each checkpoint.

use super::{
    placement::ViewPlacement,
    projector::{ProjectorError, ProjectorOptions, Retried},
    runner::ProjectorHandle,
    status::ProjectorStatus,
};
use crate::{
    event_log::reader::Reader,
    read_model::{
        Generation, GenerationState, Generations,
        refresh::{self, RefreshError},
        schema::ViewTables,
        store::StoreError,
    },
    view::PartKey,
};
use actix::ArbiterHandle;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, OwnedMutexGuard, watch};
use tokio_util::sync::CancellationToken;

/// How often the keeper looks whether something has changed.
const LOOK: Duration = Duration::from_secs(1);
/// The same while a generation is being filled.
const LOOK_BUILDING: Duration = Duration::from_millis(100);
/// How long the live generation is held still for another to come up to it.
const HOLD: Duration = Duration::from_secs(5);

/// A kept view. Cheap to clone.
#[derive(Clone)]
pub struct ViewHandle {
    shared: Arc<Shared>,
    status: watch::Receiver<ProjectorStatus>,
    kept: watch::Receiver<bool>,
}

pub(super) struct Shared {
    /// As for the first generation; each has its own.
    pub(super) options: ProjectorOptions,
    pub(super) home: ViewPlacement,
    arbiter: ArbiterHandle,
    status: watch::Sender<ProjectorStatus>,
    projectors: Mutex<BTreeMap<Generation, Kept>>,
    /// As they were when the store was last asked.
    known: Mutex<Generations>,
    /// Whose status is passed on, and what ends it.
    shown: Mutex<Option<(Generation, CancellationToken)>>,
    look: Notify,
    stopping: CancellationToken,
}

struct Kept {
    handle: ProjectorHandle,
    gate: Arc<tokio::sync::Mutex<()>>,
}

impl ViewHandle {
    /// Begins to keep a view; its projectors run on `arbiter`. `options` are those of its first
    /// generation; `home` says when this program keeps it.
    pub fn start(options: ProjectorOptions, home: ViewPlacement, arbiter: &ArbiterHandle) -> Self {
        let (status, followed) = watch::channel(ProjectorStatus::default());
        let (kept_sender, kept) = watch::channel(true);
        let shared = Arc::new(Shared {
            options,
            home,
            arbiter: arbiter.clone(),
            status,
            projectors: Mutex::default(),
            known: Mutex::default(),
            shown: Mutex::default(),
            look: Notify::new(),
            stopping: CancellationToken::new(),
        });
        let keeping = Arc::clone(&shared);
        arbiter.spawn(async move {
            keeping.keep().await;
            kept_sender.send_replace(false);
        });
        Self {
            shared,
            status: followed,
            kept,
        }
    }

    /// The view's name.
    #[must_use]
    pub fn view(&self) -> &'static str {
        self.shared.options.view.description().name
    }

    /// How the projector of what is read is doing, or of what is being filled where the other is of a
    /// version that this program does not have.
    #[must_use]
    pub fn status(&self) -> ProjectorStatus {
        self.status.borrow().clone()
    }

    /// Each change of how it is doing.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<ProjectorStatus> {
        self.status.clone()
    }

    /// How much of the log a generation that is being filled here has applied, from 0 to 1; `None` when
    /// none is.
    #[must_use]
    pub fn rebuilding(&self) -> Option<f64> {
        let building = self.shared.known().find(GenerationState::Building)?;
        let status = self.shared.status_of(building)?;
        let whole = (status.applied + status.lag_commits).max(1);
        Some(status.applied as f64 / whole as f64)
    }

    /// Finishes the batches in hand and stops.
    pub async fn stop(&self) {
        self.shared.stopping.cancel();
        let mut kept = self.kept.clone();
        // An error means that the keeper is gone: it has stopped as well.
        let _ = kept.wait_for(|kept| !kept).await;
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl Shared {
    /// Has the keeper look now.
    pub(super) fn look_now(&self) {
        self.look.notify_one();
    }

    /// The view's generations as they were when the store was last asked.
    pub(super) fn known(&self) -> Generations {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    fn know(&self, generations: &Generations) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone_from(generations);
    }

    /// How the projector of a generation is doing, if it runs here.
    pub(super) fn status_of(&self, generation: Generation) -> Option<ProjectorStatus> {
        self.with(|projectors| projectors.get(&generation).map(|kept| kept.handle.status()))
    }

    /// Tries again what is parked of an aggregate in a generation; `None` when it is not kept here.
    pub(super) async fn retry(
        &self,
        generation: Generation,
        aggregate: PartKey,
        skip: bool,
    ) -> Option<Result<Retried, ProjectorError>> {
        let handle =
            self.with(|projectors| projectors.get(&generation).map(|kept| kept.handle.clone()));
        handle?.retry(aggregate, skip).await
    }

    /// Keeps a generation as it is until the guard is dropped, if it is kept here.
    pub(super) async fn hold(&self, generation: Generation) -> Option<OwnedMutexGuard<()>> {
        let gate =
            self.with(|projectors| projectors.get(&generation).map(|kept| kept.gate.clone()));
        Some(gate?.lock_owned().await)
    }

    /// The tables of a generation.
    pub(super) fn tables(&self, generation: Generation) -> Result<ViewTables, RefreshError> {
        let view = self.options.view.description();
        Ok(ViewTables::generation(view, generation)?)
    }

    /// Makes `next` the view's generations, in which another one is live. Where both are kept up to
    /// date, the other first comes up to the one that was live: whether it did in time.
    pub(super) async fn turn(
        &self,
        before: &Generations,
        next: &Generations,
    ) -> Result<bool, RefreshError> {
        let live = |generations: &Generations| generations.find(GenerationState::Live);
        let (Some(from), Some(to)) = (live(before), live(next)) else {
            return Ok(false);
        };
        let view = self.options.view.description();
        let (from_tables, to_tables) = (self.tables(from)?, self.tables(to)?);
        let _still = self.hold(from).await;
        // What only an older program can fold stays where it is.
        let forward = to.version == view.version;
        let served = || self.options.watermark.progress().position;
        let started = tokio::time::Instant::now();
        let store = &self.options.store;
        while !store
            .turn(
                view.name,
                next,
                &from_tables,
                &to_tables,
                forward.then(served),
            )
            .await?
        {
            if started.elapsed() > HOLD {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        refresh::serve(store, view, &self.options.watermark, next).await?;
        tracing::info!(view.name = view.name, view.generation = %to, "another generation is live");
        Ok(true)
    }

    async fn keep(&self) {
        let mut failing = false;
        loop {
            let looked = if self.home.is_here() {
                self.look_after().await
            } else {
                self.stand_by().await
            };
            let pause = looked.as_ref().map_or(LOOK, |pause| *pause);
            if let (Err(error), false) = (&looked, failing) {
                tracing::warn!(view.name = self.name(), %error, "cannot look after the view");
            }
            failing = looked.is_err();
            tokio::select! {
                () = self.look.notified() => {}
                () = self.home.changed() => {}
                () = tokio::time::sleep(pause) => {}
                () = self.stopping.cancelled() => break,
            }
        }
        self.stop_all().await;
        self.status
            .send_modify(|status| status.state = super::ProjectorState::Stopped);
    }

    fn name(&self) -> &'static str {
        self.options.view.description().name
    }

    /// Leaves the view to its home, but follows which generation is live.
    async fn stand_by(&self) -> Result<Duration, RefreshError> {
        self.stop_all().await;
        let (store, view) = (&self.options.store, self.options.view.description());
        let generations = store.generations(view.name).await?;
        self.know(&generations);
        refresh::serve(store, view, &self.options.watermark, &generations).await?;
        self.status.send_modify(|status| {
            *status = ProjectorStatus {
                state: super::ProjectorState::StandingBy,
                applied: self.options.watermark.progress().position,
                ready: true,
                ..ProjectorStatus::default()
            };
        });
        Ok(LOOK)
    }

    /// Does what there is to do; returns how long to wait before looking again.
    async fn look_after(&self) -> Result<Duration, RefreshError> {
        let (store, view) = (&self.options.store, self.options.view.description());
        store.define_shared().await?;
        let mut generations = refresh::join(store, view).await?;
        refresh::serve(store, view, &self.options.watermark, &generations).await?;
        for gone in generations.clone().dropping() {
            generations = self.remove(&generations, gone).await?;
        }
        self.know(&generations);
        self.run_those_of(&generations).await;
        let Some(building) = generations.find(GenerationState::Building) else {
            return Ok(LOOK);
        };
        let filled = self.status_of(building).is_some_and(|status| status.ready);
        if filled && let Ok(next) = generations.take_over() {
            match self.turn(&generations, &next).await {
                Ok(true) => self.look_now(),
                Ok(false) => {}
                // Somebody else has changed something.
                Err(RefreshError::Store(StoreError::Fenced | StoreError::Conflict(_))) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(LOOK_BUILDING)
    }

    async fn remove(
        &self,
        generations: &Generations,
        gone: Generation,
    ) -> Result<Generations, RefreshError> {
        let kept = self.with(|projectors| projectors.remove(&gone));
        if let Some(kept) = kept {
            kept.handle.stop().await;
        }
        let options = self.options_of(gone);
        let (log, stream) = (&options.log, &options.stream);
        if let Err(error) = Reader::forget(log, stream, &options.consumer()).await {
            tracing::warn!(view.name = self.name(), %error, "a consumer stays behind");
        }
        let store = &self.options.store;
        store.remove(&self.tables(gone)?).await?;
        let next = generations.forgotten(gone);
        store.change_generations(self.name(), &next).await?;
        Ok(next)
    }

    fn options_of(&self, generation: Generation) -> ProjectorOptions {
        ProjectorOptions {
            generation,
            gate: Arc::default(),
            ..self.options.clone()
        }
    }

    /// Runs a projector for each generation of this program's version, and no others.
    async fn run_those_of(&self, generations: &Generations) {
        let version = self.options.view.description().version;
        let mine: Vec<Generation> = generations
            .all
            .iter()
            .filter(|(generation, state)| {
                generation.version == version && *state != GenerationState::Dropping
            })
            .map(|(generation, _)| *generation)
            .collect();
        let others: Vec<Kept> = self.with(|projectors| {
            projectors
                .extract_if(.., |generation, _| !mine.contains(generation))
                .map(|(_, kept)| kept)
                .collect()
        });
        for kept in others {
            kept.handle.stop().await;
        }
        for generation in &mine {
            if !self.with(|projectors| projectors.contains_key(generation)) {
                self.run(*generation);
            }
        }
        let live = generations.find(GenerationState::Live);
        let shown = live.filter(|live| mine.contains(live));
        let shown = shown.or_else(|| generations.find(GenerationState::Building));
        self.show(shown.or(mine.first().copied()));
    }

    fn run(&self, generation: Generation) {
        let options = self.options_of(generation);
        let gate = Arc::clone(&options.gate);
        match ProjectorHandle::start(options, &self.arbiter) {
            Ok(handle) => {
                let kept = Kept { handle, gate };
                self.with(|projectors| projectors.insert(generation, kept));
            }
            Err(error) => {
                tracing::error!(view.name = self.name(), %error, "a projector cannot be started");
            }
        }
    }

    /// Passes on how one of the projectors is doing, and no other.
    fn show(&self, shown: Option<Generation>) {
        let mut showing = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if showing.as_ref().map(|(generation, _)| *generation) == shown {
            return;
        }
        if let Some((_, telling)) = showing.take() {
            telling.cancel();
        }
        let Some(generation) = shown else { return };
        let watched =
            self.with(|projectors| projectors.get(&generation).map(|kept| kept.handle.watch()));
        let Some(mut watched) = watched else { return };
        let (telling, status) = (CancellationToken::new(), self.status.clone());
        *showing = Some((generation, telling.clone()));
        self.arbiter.spawn(async move {
            loop {
                let now = watched.borrow_and_update().clone();
                status.send_replace(now);
                tokio::select! {
                    changed = watched.changed() => if changed.is_err() { return },
                    () = telling.cancelled() => return,
                }
            }
        });
    }

    async fn stop_all(&self) {
        let all = self.with(std::mem::take);
        self.show(None);
        futures::future::join_all(all.values().map(|kept| kept.handle.stop())).await;
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<Generation, Kept>) -> T) -> T {
        work(
            &mut self
                .projectors
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}
