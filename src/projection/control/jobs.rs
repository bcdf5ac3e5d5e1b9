//! The parts of operators' jobs that are under way here, to be cancelled by the jobs' ids.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio_util::sync::CancellationToken;

/// The header by which a request says which job it is of.
pub const JOB: &str = "Headwater-Job";

/// A view and a job.
type Key = (String, String);

/// The jobs that are under way.
#[derive(Debug, Clone, Default)]
pub(super) struct UnderWay(Arc<Mutex<HashMap<Key, CancellationToken>>>);

/// A part of a job, for as long as it is under way.
pub(super) struct Doing {
    all: UnderWay,
    key: Key,
    cancelled: CancellationToken,
}

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that it is begun.
    pub(super) fn begin(&self, view: &str, job: &str) -> Doing {
        let key = (view.to_owned(), job.to_owned());
        let cancelled = CancellationToken::new();
        self.lock().insert(key.clone(), cancelled.clone());
        Doing {
            all: self.clone(),
            key,
            cancelled,
        }
    }

    /// Cancels it, if it is under way here.
    pub(super) fn cancel(&self, view: &str, job: &str) {
        if let Some(cancelled) = self.lock().get(&(view.to_owned(), job.to_owned())) {
            cancelled.cancel();
        }
    }
}

impl Doing {
    /// Returns what is cancelled with it.
    pub(super) fn cancelled(&self) -> CancellationToken {
        self.cancelled.clone()
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        self.all.lock().remove(&self.key);
    }
}
