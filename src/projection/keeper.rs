//! Keeps a view: runs a projector for each of its generations that this program can fold, lets a filled
//! one take over, and removes what is no longer wanted.
//!
//! What is to be is the store's record of generations; the keeper looks at it once a second, and when
//! it is told that something has changed. Where several programs share a store, one of them keeps
//! the view at a time: [`super::placement`] says which. As ever, that two do it for a moment is made
//! harmless by the fences, of the record and of each checkpoint.

mod erased;
mod running;
mod take_over;
mod turn;
mod unkept;

pub(super) use turn::Turn;

use super::{
    placement::ViewPlacement,
    projector::{Amend, ProjectorError, ProjectorOptions, Retried, Try},
    rates::Rates,
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
use running::Kept;
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

impl Shared {
    /// Begins with nothing known; `status` hears how the projector of what is read is doing.
    pub(super) fn new(
        options: ProjectorOptions,
        home: ViewPlacement,
        arbiter: &ArbiterHandle,
        status: watch::Sender<ProjectorStatus>,
    ) -> Self {
        Self {
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
        }
    }

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

    /// Keeps the view until told to stop.
    pub(super) async fn keep(&self) {
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
}
