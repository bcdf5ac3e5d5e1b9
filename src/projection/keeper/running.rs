//! The projectors that run here: one for each generation of this program's version.

use super::Shared;
use crate::{
    projection::runner::ProjectorHandle,
    read_model::{Generation, GenerationState, Generations},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};
use tokio_util::sync::CancellationToken;

/// A projector that runs here, and the gate by which it is held still.
pub(super) struct Kept {
    pub(super) handle: ProjectorHandle,
    pub(super) gate: Arc<tokio::sync::Mutex<()>>,
}

impl Kept {
    fn is_running(&self) -> bool {
        self.handle.is_running()
    }
}

impl Shared {
    /// Notes how far the projectors are: from this it is told how fast they get on.
    pub(in crate::projection) fn sample_rates(&self) {
        let commits = self.with(|projectors| {
            let projectors = projectors.iter();
            let commits =
                projectors.map(|(generation, kept)| (*generation, kept.handle.status().commits));
            commits.collect::<Vec<_>>()
        });
        self.rates.sample(&commits);
    }

    /// Runs a projector for each generation of this program's version, and no others.
    pub(super) async fn run_those_of(&self, generations: &Generations) {
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
    pub(super) fn show(&self, shown: Option<Generation>) {
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

    /// Stops all projectors.
    pub(super) async fn stop_all(&self) {
        let all = self.with(std::mem::take);
        self.show(None);
        futures::future::join_all(all.values().map(|kept| kept.handle.stop())).await;
    }

    /// Looks at the projectors, or changes them.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<Generation, Kept>) -> T) -> T {
        work(
            &mut self
                .projectors
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}
