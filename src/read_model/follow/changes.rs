//! Reading what has changed, once for all who follow it.

use super::{Inner, ListError, Served, here};
use crate::{
    problem::Problem,
    read_model::{
        ReadModel,
        live::{
            MAX_GROWN, ReadDocument,
            hub::{Again, ViewLive, Work},
        },
        store::StoreError,
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};

/// The number of documents that are read at once.
const READS: usize = 16;
/// The first pause, and the longest, before what could not be read is read again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

impl ReadModel {
    /// Sees to it that somebody reads what changes, from the first reader on.
    pub(super) fn work(&self, served: &Served<'_>) {
        if !served.live.begin() {
            return;
        }
        let (model, live) = (Arc::downgrade(&self.inner), Arc::clone(served.live));
        let name = served.view.name;
        let runtime = self.inner.store.runtime();
        runtime.spawn(async move {
            loop {
                let (model, worked) = (model.clone(), Arc::clone(&live));
                let work = tokio::spawn(async move { read_changes(&worked, &model, name).await });
                match work.await {
                    Err(error) if error.is_panic() => {
                        tracing::error!(view.name = name, "reading what has changed panicked");
                        live.doubt();
                    }
                    _ => break,
                }
            }
        });
    }
}

/// Works for a view until it is closed, or the model is gone.
async fn read_changes(live: &ViewLive, model: &Weak<Inner>, view: &'static str) {
    let mut pause = PAUSES.0;
    loop {
        let work = live.next().await;
        let Some(inner) = model.upgrade() else { return };
        let model = ReadModel { inner };
        let read = match work {
            Work::Changed { ids, position } => offer(&model, view, ids, position).await,
            Work::Again(again) => make_up(&model, view, again).await,
            Work::Wait => continue,
            Work::Closed => return,
        };
        let Err(error) = read else {
            pause = PAUSES.0;
            continue;
        };
        if pause == PAUSES.0 {
            tracing::warn!(view.name = view, %error, "changes cannot be read; who follows waits for them");
        }
        live.doubt();
        drop(model);
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(PAUSES.1);
    }
}

/// Offers documents that a transaction has changed.
async fn offer(
    model: &ReadModel,
    view: &str,
    ids: Vec<String>,
    position: u64,
) -> Result<(), Unread> {
    let served = model.served(view)?;
    let documents = read(&model.inner, &served, ids).await?;
    served.live.offer(documents, position);
    Ok(())
}

/// Reads all that is followed, each list once, and offers it: anything of it may have changed.
async fn make_up(model: &ReadModel, view: &str, again: Again) -> Result<(), Unread> {
    let served = model.served(view)?;
    let mut from = here(&served);
    // What is read has at least this; what is beyond is told by itself.
    from.position = again.position;
    let documents = read(&model.inner, &served, again.ids).await?;
    served.live.offer_again(&documents, &from, again.epoch);
    for (list, query) in again.lists {
        match model.inner.all(&served, &query, MAX_GROWN).await {
            Ok(documents) => {
                let documents = documents
                    .into_iter()
                    .map(|(id, document)| (id, Some(document)));
                let documents = documents.collect();
                served
                    .live
                    .offer_list_again(list, documents, &from, again.epoch);
            }
            Err(ListError::TooMany) => served.live.refuse_list(list),
            Err(ListError::Store(error)) => return Err(error.into()),
        }
    }
    served.live.made_up(from, again.epoch);
    Ok(())
}

async fn read(
    inner: &Inner,
    served: &Served<'_>,
    ids: Vec<String>,
) -> Result<Vec<ReadDocument>, StoreError> {
    let reads = stream::iter(ids).map(|id| async move {
        let document = inner.read(served, &id).await?;
        Ok::<_, StoreError>((id.into(), document))
    });
    reads.buffer_unordered(READS).try_collect().await
}

/// The reason why what has changed could not be read.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    View(#[from] Problem),
}
