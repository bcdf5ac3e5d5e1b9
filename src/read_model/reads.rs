//! Reads single documents of a view from the store.
//!
//! A query costs much more than one more document in it. So what is asked for while the store is busy
//! with others waits for it, and is then read together with whatever else has come; what is asked for
//! while it is idle is read at once. A read is never answered from a query that began before it.

use super::{
    ServedDocument, Watermark,
    store::{Store, StoreError, Text},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// The most documents that one query reads, so that the first of them does not wait for long.
const MOST: usize = 64;
/// The most queries of a view that are under way at once: one for each core, and where the store is
/// elsewhere, one on its way while the other is answered.
const QUERIES: usize = 2;

/// The reads of one view.
pub(super) struct Reads {
    store: Store,
    view: &'static str,
    watermark: Watermark,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Asked>,
    running: usize,
}

struct Asked {
    id: String,
    answer: oneshot::Sender<Found>,
}

type Found = Result<Option<ServedDocument>, StoreError>;

impl Reads {
    /// The reads of a view whose live tables its watermark knows.
    pub(super) fn new(store: Store, view: &'static str, watermark: Watermark) -> Arc<Self> {
        Arc::new(Self {
            store,
            view,
            watermark,
            state: Mutex::default(),
        })
    }

    /// Reads one document. Who stops waiting for it leaves the others theirs.
    pub(super) async fn read(self: &Arc<Self>, id: &str) -> Found {
        let (answer, answered) = oneshot::channel();
        if let Some(run) = self.ask(id, answer) {
            self.store.runtime().spawn(run.finish());
        }
        answered.await.unwrap_or(Err(StoreError::Stopped))
    }

    fn ask(self: &Arc<Self>, id: &str, answer: oneshot::Sender<Found>) -> Option<Run> {
        let mut state = self.lock();
        state.waiting.push(Asked {
            id: id.to_owned(),
            answer,
        });
        (state.running < QUERIES).then(|| {
            state.running += 1;
            Run {
                reads: Arc::clone(self),
                ended: false,
            }
        })
    }

    /// Reads documents from the tables that are live, also when others come to be meanwhile.
    async fn find<'a>(
        &self,
        ids: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<HashMap<String, ServedDocument>, StoreError> {
        let serving = self.watermark.serving();
        let (mut tables, mut fence) = serving.fenced()?;
        loop {
            match self.store.texts(&tables, Some(&fence), ids.clone()).await {
                Ok(texts) => {
                    let served = |text: Text| {
                        let served =
                            ServedDocument::new(self.view, &text.id, text.position, &text.document);
                        (text.id, served)
                    };
                    return Ok(texts.into_iter().map(served).collect());
                }
                Err(error) => {
                    let (now, known) = serving.fenced()?;
                    if Arc::ptr_eq(&now, &tables) {
                        return Err(error);
                    }
                    (tables, fence) = (now, known);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the queries that may be under way.
struct Run {
    reads: Arc<Reads>,
    ended: bool,
}

impl Run {
    async fn finish(mut self) {
        while let Some(asked) = self.take() {
            let mut askers: HashMap<String, Vec<oneshot::Sender<Found>>> = HashMap::new();
            for Asked { id, answer } in asked {
                askers.entry(id).or_default().push(answer);
            }
            let mut found = self.reads.find(askers.keys().map(String::as_str)).await;
            for (id, askers) in askers {
                let document = match &mut found {
                    Ok(found) => Ok(found.remove(&id)),
                    Err(error) => Err(error.clone()),
                };
                for asker in askers {
                    // It may have gone.
                    let _ = asker.send(document.clone());
                }
            }
        }
    }

    /// Returns what waits, up to a bound; when nothing does, that is the end.
    fn take(&mut self) -> Option<Vec<Asked>> {
        let mut state = self.reads.lock();
        if state.waiting.is_empty() {
            state.running -= 1;
            self.ended = true;
            return None;
        }
        let most = state.waiting.len().min(MOST);
        Some(state.waiting.drain(..most).collect())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // It was cut off, with the runtime or by a panic. Who waits for nobody is told.
        let mut state = self.reads.lock();
        state.running -= 1;
        let left = match state.running {
            0 => std::mem::take(&mut state.waiting),
            _ => Vec::new(),
        };
        drop(state);
        drop(left);
    }
}
