//! Following documents: where one begins, and who reads what has changed.

use super::{
    Freshness, ReadModel,
    answers::{Inner, Served, check_id, unavailable},
    live::{
        Condition, LiveEvent, LiveKind, Subscription,
        hub::{Closed, ViewLive, Work},
    },
    parameters::{ListQuery, MAX_LIMIT},
    store::StoreError,
};
use crate::problem::Problem;
use futures::{StreamExt, stream};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Weak},
};

/// The most documents that a followed list may have at the start.
pub const MAX_LIVE_DOCUMENTS: usize = 1_000;
/// How many documents are read at once after a transaction.
const READS: usize = 16;

impl ReadModel {
    /// Follows one document: what it is now, then each change. `last` is the position of the last
    /// event that the reader has had; what is not newer is not repeated.
    ///
    /// # Errors
    ///
    /// As [`ReadModel::get`]; a document that is not there is only followed by who had it before.
    pub async fn follow_document(
        &self,
        view: &str,
        id: &str,
        last: Option<u64>,
        freshness: &Freshness,
    ) -> Result<Subscription, Problem> {
        let served = self.served(view)?;
        check_id(id)?;
        self.wait(&served, freshness).await?;
        let last = self.known(&served, last, freshness).await;
        let subscription = served.live.follow_document(id).map_err(closed)?;
        self.work(&served);
        let position = served.watermark.progress().position;
        let read = self.inner.read(&served, id).await;
        let document = read.map_err(|error| unavailable(view, &error))?;
        let (mut initial, mut has) = (Vec::new(), Vec::new());
        match document {
            Some(document) => {
                let version = document.version;
                has.push((id.to_owned(), version));
                if last.known.is_none_or(|last| last < version) {
                    initial.push(LiveEvent::put(id, version, version, document.body));
                }
            }
            None if last.given => {
                let gone_before = last.known.is_some_and(|last| {
                    let changed = served.live.changed_since(last);
                    changed.is_some_and(|changed| !changed.contains(id))
                });
                if !gone_before {
                    let position = position.max(last.known.unwrap_or(0));
                    initial.push(LiveEvent::gone(LiveKind::Delete, id, position, position));
                }
            }
            None => {
                return Err(Problem::not_found(
                    "not_found",
                    format!("there is no {view} {id}"),
                ));
            }
        }
        subscription.start(initial, &has);
        Ok(subscription)
    }

    /// Follows the documents that filters ask for: those that there are, then each change; an event
    /// too when one is not among them any more.
    ///
    /// # Errors
    ///
    /// As [`ReadModel::list`]; `malformed` for what is no filter, and when more than
    /// [`MAX_LIVE_DOCUMENTS`] fulfil them.
    pub async fn follow_list(
        &self,
        view: &str,
        filters: &BTreeMap<String, String>,
        last: Option<u64>,
        freshness: &Freshness,
    ) -> Result<Subscription, Problem> {
        let served = self.served(view)?;
        let query = self.filters(&served, filters)?;
        let conditions = query.filters.iter().cloned();
        let conditions = conditions.filter_map(|(filter, value)| Condition::new(filter, value));
        self.wait(&served, freshness).await?;
        let last = self.known(&served, last, freshness).await;
        let follow = served.live.follow_list(conditions.collect());
        let subscription = follow.map_err(closed)?;
        self.work(&served);
        // What is read now has every change up to here.
        let position = served.watermark.progress().position;
        let changed = last.known.and_then(|last| served.live.changed_since(last));
        let documents = self.all(&served, query).await?;

        let has: Vec<_> = documents
            .iter()
            .map(|(id, event)| (id.clone(), event.position))
            .collect();
        let mut initial = Vec::new();
        let mut after = 0;
        match (last.known, &changed) {
            (Some(last), Some(changed)) => {
                after = last;
                let there: HashSet<_> = has.iter().map(|(id, _)| id).collect();
                let gone = changed.iter().filter(|id| !there.contains(id));
                initial.extend(gone.map(|id| LiveEvent::gone(LiveKind::Leave, id, last, last)));
            }
            _ if last.given => initial.push(LiveEvent::reset()),
            _ => {}
        }
        let news = documents.into_iter().map(|(_, event)| event);
        let news = news.filter(|event| event.position > after).map(|event| {
            let goes_on = event.position.min(position).max(after);
            LiveEvent::put(&event.id, goes_on, event.position, event.body.clone())
        });
        initial.extend(news);
        subscription.start(initial, &has);
        Ok(subscription)
    }

    /// Ends all who follow something, and takes nobody any more.
    pub fn stop_following(&self) {
        self.inner.lives.iter().for_each(|live| live.close());
    }

    /// What is known of a reader who comes again. One who is ahead of this view even after a wait
    /// has read another one.
    async fn known(&self, served: &Served<'_>, last: Option<u64>, freshness: &Freshness) -> Last {
        let known = match last {
            Some(position) => {
                let reached = served.watermark.reached(position, freshness.max_wait);
                reached.await.then_some(position)
            }
            None => None,
        };
        Last {
            given: last.is_some(),
            known,
        }
    }

    fn filters(
        &self,
        served: &Served<'_>,
        parameters: &BTreeMap<String, String>,
    ) -> Result<ListQuery, Problem> {
        let declared = &served.view.query;
        let mut names = parameters.keys();
        let other = names.find(|name| {
            ["q", "sort", "limit", "count", "cursor"].contains(&name.as_str())
                && !declared.filters.iter().any(|filter| filter.name == **name)
        });
        if let Some(other) = other {
            return Err(Problem::malformed(
                other.clone(),
                "a list is followed by its filters alone",
            ));
        }
        let view = (served.view.name, served.view.version);
        let mut query = ListQuery::read(view, declared, parameters)?;
        query.limit = MAX_LIMIT;
        Ok(query)
    }

    /// All documents of a list, by their position.
    async fn all(
        &self,
        served: &Served<'_>,
        mut query: ListQuery,
    ) -> Result<Vec<(String, Arc<LiveEvent>)>, Problem> {
        let view = served.view.name;
        let mut all = BTreeMap::new();
        loop {
            let rows = self.inner.list(served, &query).await;
            let (mut rows, _) = rows.map_err(|error| unavailable(view, &error))?;
            let more = rows.len() > query.limit;
            rows.truncate(query.limit);
            query.after = rows
                .last()
                .filter(|_| more)
                .map(|last| (last.key(query.order), last.id.clone()));
            for row in rows {
                let document = self.inner.serialise(served, &row);
                // One that changed between two pages may be on both.
                all.insert(
                    row.id.clone(),
                    LiveEvent::put(&row.id, row.position, row.position, document.body),
                );
            }
            if all.len() > MAX_LIVE_DOCUMENTS {
                return Err(Problem::malformed(
                    None,
                    format!("more than {MAX_LIVE_DOCUMENTS} documents fulfil this; filter further"),
                ));
            }
            if query.after.is_none() {
                break;
            }
        }
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by_key(|(_, event)| event.position);
        Ok(all)
    }

    /// Sees to it that somebody reads what changes, from the first reader on.
    fn work(&self, served: &Served<'_>) {
        if served.live.begin() {
            let (model, live) = (Arc::downgrade(&self.inner), Arc::clone(served.live));
            let name = served.view.name;
            let runtime = self.inner.store.runtime();
            runtime.spawn(async move { read_changes(&live, &model, name).await });
        }
    }
}

/// What is known of a reader who comes again.
struct Last {
    /// Whether it says that it does.
    given: bool,
    /// The position that it has all changes up to, where this view has come that far.
    known: Option<u64>,
}

async fn read_changes(live: &ViewLive, model: &Weak<Inner>, view: &'static str) {
    loop {
        let work = live.next().await;
        let Some(inner) = model.upgrade() else { return };
        let model = ReadModel { inner };
        let Ok(served) = model.served(view) else {
            return;
        };
        let (ids, position) = match work {
            Work::Changed { ids, position } => (ids, position),
            Work::Lost { ids } => (ids, served.watermark.progress().position),
            Work::Wait => continue,
            Work::Closed => return,
        };
        if let Err(error) = offer(&model.inner, &served, ids, position).await {
            tracing::warn!(view.name = view, %error, "changes could not be read; those who follow are cut off");
            live.end_all();
        }
    }
}

/// Reads documents, and offers them in the order of their positions.
async fn offer(
    inner: &Inner,
    served: &Served<'_>,
    ids: Vec<String>,
    position: u64,
) -> Result<(), StoreError> {
    let mut reads = stream::iter(ids)
        .map(|id| async move {
            let document = inner.read(served, &id).await?;
            Ok::<_, StoreError>((id, document))
        })
        .buffer_unordered(READS);
    let mut documents = Vec::new();
    while let Some(read) = reads.next().await {
        documents.push(read?);
    }
    documents.sort_by_key(|(_, document)| document.as_ref().map_or(position, |d| d.version));
    for (id, document) in documents {
        served.live.offer(&id, document.as_ref(), position);
    }
    Ok(())
}

fn closed(_: Closed) -> Problem {
    Problem::unavailable("this replica is being stopped")
}
