//! Keeps a view: runs a projector for each of its generations that this program can fold, lets a filled
//! one take over, and removes what is no longer wanted.
//!
//! What is to be is the store's record of generations; the keeper looks at it once a second, and when
//! it is told that something has changed. Where several programs share a store, one of them keeps
//! the view at a time: [`super::placement`] says which. As ever, that two do it for a moment is made
//! harmless by the fences, of the record and of each checkpoint.

mod erased;
mod take_over;
mod unkept;

use super::{
    drift,
    placement::ViewPlacement,
    projector::{Amend, ProjectorError, ProjectorOptions, Retried, Try},
    rates::Rates,
    runner::ProjectorHandle,
    status::ProjectorStatus,
};
use crate::{
    event_log::{Epoch, reader::Reader},
    read_model::{
        Generation, GenerationState, Generations, other_log,
        refresh::{self, RefreshError},
        schema::ViewTables,
        store::StoreError,
    },
    view::PartKey,
};
use actix::ArbiterHandle;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use take_over::TakeOver;
use tokio::sync::{Notify, OwnedMutexGuard, watch};
use tokio_util::sync::CancellationToken;

/// The pause between two looks of the keeper for a change.
const LOOK: Duration = Duration::from_secs(1);
/// The same while a generation is being filled.
const LOOK_BUILDING: Duration = Duration::from_millis(100);

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
    /// In which epoch of the log the generations were last compared with it.
    compared: Mutex<Option<Epoch>>,
    /// The identity of the store that it is kept in.
    known_store: Mutex<Option<String>>,
    /// Whose status is passed on, and what ends it.
    shown: Mutex<Option<(Generation, CancellationToken)>>,
    take_over: Mutex<TakeOver>,
    look: Notify,
    stopping: CancellationToken,
    pub(super) rates: Rates,
}

/// The reason why another generation goes live. Of each, how long the live one is held still for it at most.
#[derive(Debug, Clone, Copy)]
pub(super) enum Turn {
    /// It is filled, and has parked nothing that the live one has applied unless an operator accepts that.
    TakeOver(Duration),
    /// An operator goes back.
    Rollback(Duration),
}

struct Kept {
    handle: ProjectorHandle,
    gate: Arc<tokio::sync::Mutex<()>>,
}

impl Kept {
    fn is_running(&self) -> bool {
        self.handle.is_running()
    }
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
            compared: Mutex::default(),
            known_store: Mutex::default(),
            shown: Mutex::default(),
            take_over: Mutex::default(),
            look: Notify::new(),
            stopping: CancellationToken::new(),
            rates: Rates::default(),
        });
        let keeping = Arc::clone(&shared);
        arbiter.spawn(async move {
            keeping.keep().await;
            kept_sender.send_replace(false);
        });
        let runtime = shared.options.store.runtime().clone();
        runtime.spawn(drift::watch(Arc::clone(&shared)));
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

    /// Returns how the projector of what is read is doing, or of what is being filled where the other is of a
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

    /// Returns how much of the log a generation that is being filled here has applied, from 0 to 1; `None` when
    /// none is.
    #[must_use]
    pub fn rebuilding(&self) -> Option<f64> {
        let building = self.shared.known().find(GenerationState::Building)?;
        let status = self.shared.status_of(building)?;
        let whole = (status.applied + status.lag_commits).max(1);
        Some(status.applied as f64 / whole as f64)
    }

    /// Returns whether nothing of the view is served, as the log is another one than it was filled from.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.shared.options.watermark.serving().is_lost()
    }

    /// Returns whether a filled generation waits for an operator before it takes over.
    #[must_use]
    pub fn take_over_waits(&self) -> bool {
        let building = self.shared.known().find(GenerationState::Building);
        building.is_some_and(|building| self.shared.waits(building).is_some())
    }

    /// Notes how far the projectors of its generations are: from this it is told how fast they get on. To be
    /// called every second.
    pub(super) fn sample_rates(&self) {
        let commits = self.shared.with(|projectors| {
            let projectors = projectors.iter();
            let commits =
                projectors.map(|(generation, kept)| (*generation, kept.handle.status().commits));
            commits.collect::<Vec<_>>()
        });
        self.shared.rates.sample(&commits);
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

    /// Returns how the projector of a generation is doing, if it runs here.
    pub(super) fn status_of(&self, generation: Generation) -> Option<ProjectorStatus> {
        self.with(|projectors| projectors.get(&generation).map(|kept| kept.handle.status()))
    }

    /// Tries again the next of what is parked of an aggregate in a generation; `None` when it is not kept
    /// here.
    pub(super) async fn retry(
        &self,
        generation: Generation,
        aggregate: PartKey,
        how: Try,
    ) -> Option<Result<Retried, ProjectorError>> {
        let handle =
            self.with(|projectors| projectors.get(&generation).map(|kept| kept.handle.clone()));
        handle?.retry(aggregate, how).await
    }

    /// Has documents of a generation exchanged; whether it is kept here.
    pub(super) async fn amend(&self, generation: Generation, amend: Amend) -> bool {
        let handle =
            self.with(|projectors| projectors.get(&generation).map(|kept| kept.handle.clone()));
        match handle {
            Some(handle) => handle.amend(amend).await,
            None => false,
        }
    }

    /// Returns what is cancelled when the view is not kept any more.
    pub(super) fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Keeps a generation as it is until the guard is dropped, if it is kept here.
    pub(super) async fn hold(&self, generation: Generation) -> Option<OwnedMutexGuard<()>> {
        let gate =
            self.with(|projectors| projectors.get(&generation).map(|kept| kept.gate.clone()));
        Some(gate?.lock_owned().await)
    }

    /// Ends all projectors as a defect would.
    #[cfg(test)]
    pub(super) fn break_down(&self) {
        self.with(|projectors| {
            for kept in projectors.values() {
                kept.handle.break_down();
            }
        });
    }

    /// The tables of a generation.
    pub(super) fn tables(&self, generation: Generation) -> Result<ViewTables, RefreshError> {
        let view = self.options.view.description();
        Ok(ViewTables::generation(view, generation)?)
    }

    /// Makes `next` the view's generations, in which another one is live. Where both are kept up to
    /// date, the other first comes up to the one that was live, which is held still meanwhile: whether it
    /// did in time.
    pub(super) async fn turn(
        &self,
        before: &Generations,
        next: &Generations,
        turn: Turn,
    ) -> Result<bool, RefreshError> {
        let live = |generations: &Generations| generations.find(GenerationState::Live);
        let (from, Some(to)) = (live(before), live(next)) else {
            return Ok(false);
        };
        let view = self.options.view.description();
        let to_tables = self.tables(to)?;
        let from_tables = from.map(|from| self.tables(from)).transpose()?;
        let _still = match from {
            Some(from) => self.hold(from).await,
            None => None,
        };
        let hold = match turn {
            Turn::TakeOver(hold) => {
                // Once more: meanwhile what is parked of the live one may have been settled.
                if self.parked_beyond(before, to).await?.is_some() {
                    return Ok(false);
                }
                hold
            }
            Turn::Rollback(hold) => hold,
        };
        // What only an older program can fold stays where it is. Where nothing is live, because it was of
        // another log, there is nothing to be behind of.
        let forward = to.version == view.version && from.is_some();
        let served = || self.options.watermark.progress().position;
        let started = tokio::time::Instant::now();
        let store = &self.options.store;
        while !store
            .turn(
                view.name,
                next,
                from_tables.as_ref(),
                &to_tables,
                forward.then(served),
            )
            .await?
        {
            let gets_on = self.status_of(to).is_some_and(|to| to.stalled.is_none());
            if started.elapsed() > hold || !gets_on {
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

    fn version(&self) -> u32 {
        self.options.view.description().version
    }

    /// Returns whether this program is the one that does what operators ask about generations of this version.
    pub(super) fn answers_for(&self, version: u32) -> bool {
        let mine = version == self.version() || !self.home.is_folded_elsewhere(version);
        mine && self.home.is_here()
    }

    /// Leaves the view to its home, but follows which generation is live.
    async fn stand_by(&self) -> Result<Duration, RefreshError> {
        self.stop_all().await;
        let (store, view) = (&self.options.store, self.options.view.description());
        let generations = store.generations(view.name).await?;
        self.know(&generations);
        refresh::serve(store, view, &self.options.watermark, &generations).await?;
        if let Some(live) = self.unkept(&generations) {
            self.tell_unkept(&generations, live).await?;
            return Ok(LOOK);
        }
        self.options.watermark.serving().stand_still(None);
        self.tell_kept_elsewhere();
        Ok(LOOK)
    }

    /// Does what there is to do; returns how long to wait before looking again.
    async fn look_after(&self) -> Result<Duration, RefreshError> {
        let (store, view) = (&self.options.store, self.options.view.description());
        self.look_which_store().await?;
        store.define_shared().await?;
        let mut generations = refresh::join(store, view).await?;
        generations = self.compare_with_log(generations).await?;
        refresh::serve(store, view, &self.options.watermark, &generations).await?;
        if let Some(next) = self.without_erased(&generations).await? {
            store.change_generations(view.name, &next).await?;
            generations = next;
        }
        for gone in generations.clone().dropping() {
            generations = self.remove(&generations, gone).await?;
        }
        self.know(&generations);
        if self.turned_from_erased(&generations).await? {
            return Ok(LOOK_BUILDING);
        }
        self.run_those_of(&generations).await;
        let looked = match generations.find(GenerationState::Building) {
            Some(building) => self.take_over(&generations, building).await,
            None => Ok(LOOK),
        };
        match self.unkept(&generations) {
            Some(live) => self.tell_unkept(&generations, live).await?,
            None => self.options.watermark.serving().stand_still(None),
        }
        match looked {
            // Somebody else has changed something.
            Err(RefreshError::Store(StoreError::Fenced | StoreError::Conflict(_))) => {
                Ok(LOOK_BUILDING)
            }
            looked => looked,
        }
    }

    /// Lets go of everything where the store has become another one.
    async fn look_which_store(&self) -> Result<(), RefreshError> {
        let store = &self.options.store;
        store.look_which(true).await?;
        let id = store.id();
        if self
            .known_store()
            .as_ref()
            .is_some_and(|known| *known != id)
        {
            self.stop_all().await;
            *self.compared() = None;
            self.options.watermark.forget();
        }
        *self.known_store() = Some(id);
        Ok(())
    }

    fn known_store(&self) -> MutexGuard<'_, Option<String>> {
        self.known_store
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the view begin anew where the log may have become another one, and has.
    async fn compare_with_log(
        &self,
        generations: Generations,
    ) -> Result<Generations, RefreshError> {
        let (store, log) = (&self.options.store, &self.options.log);
        let epoch = log.epoch();
        if *self.compared() == Some(epoch) {
            return Ok(generations);
        }
        let view = self.options.view.description();
        let generations = other_log::begin_anew(store, view, log, generations).await?;
        other_log::doubt(store, view, &self.options.watermark, log).await?;
        *self.compared() = Some(epoch);
        Ok(generations)
    }

    fn compared(&self) -> MutexGuard<'_, Option<Epoch>> {
        self.compared.lock().unwrap_or_else(PoisonError::into_inner)
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
            match self.with(|projectors| projectors.get(generation).map(Kept::is_running)) {
                Some(true) => {}
                Some(false) => {
                    let view = self.name();
                    tracing::error!(view.name = view, view.generation = %generation, "a projector has broken down, another takes its place");
                    self.show(None);
                    self.run(*generation);
                }
                None => self.run(*generation),
            }
        }
        // Of what is served, or of nothing: that it is not kept here is told instead.
        let live = generations.find(GenerationState::Live);
        let shown = live.or_else(|| generations.find(GenerationState::Building));
        if let Some(shown) = shown.filter(|shown| mine.contains(shown)) {
            self.show(Some(shown));
        } else if self.unkept(generations).is_none() {
            self.show(None);
            self.tell_kept_elsewhere();
        }
    }

    /// Another program keeps what is served; this one perhaps another generation.
    fn tell_kept_elsewhere(&self) {
        self.status.send_modify(|status| {
            *status = ProjectorStatus {
                state: super::ProjectorState::StandingBy,
                applied: self.options.watermark.progress().position,
                ready: true,
                ..ProjectorStatus::default()
            };
        });
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
