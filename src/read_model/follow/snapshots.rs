//! The present contents of a list, read once for all who begin to follow it at the same time.
//!
//! Who comes while it is being read gets what the next reading finds: what has changed since that began
//! is told by itself, and what has changed before is in it.

use super::{Inner, Served, here};
use crate::{
    problem::Problem,
    read_model::{
        EventId, MAX_LIVE_DOCUMENTS, ReadModel,
        live::{LiveEvent, list_key},
        parameters::ListQuery,
    },
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// The documents of a list, by their position.
pub(super) struct Snapshot {
    /// The position that they have every change up to, at least.
    pub(super) from: EventId,
    pub(super) documents: Vec<Arc<LiveEvent>>,
}

type Taken = Result<Arc<Snapshot>, Problem>;

/// The lists that are being read, and who waits for the next reading of each.
#[derive(Default)]
pub(in crate::read_model) struct Snapshots {
    waiting: Mutex<HashMap<Key, Vec<oneshot::Sender<Taken>>>>,
}

/// A view, and what tells its lists apart.
type Key = (&'static str, String);

impl Snapshots {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Vec<oneshot::Sender<Taken>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether nobody reads the list yet; the caller is to see to it then.
    fn wait(&self, key: &Key, told: oneshot::Sender<Taken>) -> bool {
        let mut waiting = self.lock();
        if let Some(others) = waiting.get_mut(key) {
            others.push(told);
            return false;
        }
        waiting.insert(key.clone(), vec![told]);
        true
    }

    /// Those who wait; when nobody does, the list is not read any more.
    fn take(&self, key: &Key) -> Option<Vec<oneshot::Sender<Taken>>> {
        let mut waiting = self.lock();
        let those = std::mem::take(waiting.get_mut(key)?);
        if those.is_empty() {
            waiting.remove(key);
            return None;
        }
        Some(those)
    }
}

impl ReadModel {
    /// Reads a list as it is now, together with others who want the same.
    pub(super) async fn snapshot(&self, served: &Served<'_>, query: &Arc<ListQuery>) -> Taken {
        let (told, taken) = oneshot::channel();
        let key = (served.view.name, list_key(query));
        if self.inner.snapshots.wait(&key, told) {
            let reading = Reading {
                model: self.clone(),
                key,
                ended: false,
            };
            let query = Arc::clone(query);
            let runtime = self.inner.store.runtime();
            runtime.spawn(async move { reading.run(&query).await });
        }
        let stopped = || Err(Problem::unavailable("the view cannot be read now"));
        taken.await.unwrap_or_else(|_| stopped())
    }
}

/// A list that is being read.
struct Reading {
    model: ReadModel,
    key: Key,
    ended: bool,
}

impl Reading {
    async fn run(mut self, query: &ListQuery) {
        while let Some(waiting) = self.model.inner.snapshots.take(&self.key) {
            let taken = self.read(query).await;
            for told in waiting {
                // It may have gone.
                let _ = told.send(taken.clone());
            }
        }
        self.ended = true;
    }

    async fn read(&self, query: &ListQuery) -> Taken {
        let served = self.model.served(self.key.0)?;
        let inner: &Inner = &self.model.inner;
        let _slot = inner.lists.take(inner.cost(&served, query)).await?;
        let from = here(&served);
        let documents = inner.all(&served, query, MAX_LIVE_DOCUMENTS).await;
        let documents = documents.map_err(|error| error.problem(self.key.0))?;
        let event = |(id, document): (Arc<str>, crate::read_model::ServedDocument)| {
            let goes_on = from.at(document.version.min(from.position));
            let event = LiveEvent::put(&id, goes_on, document.version, document.body);
            Arc::new(event)
        };
        Ok(Arc::new(Snapshot {
            documents: documents.into_iter().map(event).collect(),
            from,
        }))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if !self.ended {
            // It was cut off, with the runtime or by a panic: who waits is told, and the next may read.
            self.model.inner.snapshots.lock().remove(&self.key);
        }
    }
}
