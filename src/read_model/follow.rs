//! Following documents: where one begins.

mod changes;
mod snapshots;

pub(super) use snapshots::Snapshots;

use super::{
    EventId, Freshness, ReadModel, ServedDocument,
    announcement::Applied,
    answers::{Inner, Served, check_id, unavailable},
    exchange::Checkpoint,
    live::{
        Condition, LiveEvent, LiveKind, Subscription,
        hub::{Closed, too_many},
    },
    parameters::{ListQuery, MAX_LIMIT},
    store::StoreError,
    visible::{Visibility, Visible},
    waits::stopping,
};
use crate::{caller::Caller, problem::Problem};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// The number of times that the start is read again because meanwhile anything may have changed.
const ATTEMPTS: usize = 5;
/// The longest time until this replica is told of a transaction that is in the store.
const TOLD: Duration = Duration::from_secs(5);

impl ReadModel {
    /// Follows one document: what it is now, then each change. `last` is the id of the last event that
    /// the reader has had; what is not newer is not repeated.
    ///
    /// # Errors
    ///
    /// As [`ReadModel::get`]; a document that is not there is only followed by who had it before.
    /// `unavailable` (503) when the reader is ahead of this replica.
    pub async fn follow_document(
        &self,
        view: &str,
        id: &str,
        last: Option<&EventId>,
        freshness: &Freshness,
    ) -> Result<Subscription, Problem> {
        let served = self.served(view)?;
        check_id(id)?;
        self.wait(&served, freshness).await?;
        self.until_known(&served, last, freshness).await?;
        for _ in 0..ATTEMPTS {
            let visible = Visible::of(served.view, &freshness.caller);
            let sees_all = visible.is_all();
            let subscription = served.live.follow_document(id).map_err(closed)?;
            self.work(&served);
            let from = here(&served);
            let last = Last::of(last, &from);
            let read = self.inner.read(&served, id).await;
            let document = read.map_err(|error| unavailable(view, &error))?;
            let document = document.filter(|document| visible.shows(&document.body));
            let subscription = subscription.seen_by(visible);
            let (mut initial, mut has) = (Vec::new(), Vec::new());
            match document {
                Some(document) => {
                    let version = document.version;
                    let put = LiveEvent::put(id, from.at(version), version, document.body);
                    let put = Arc::new(put);
                    has.push(Arc::clone(&put));
                    if last.position.is_none_or(|last| last < version) {
                        initial.push(put);
                    }
                }
                // Who does not see all is not told whether one that is not there has changed.
                None if last.given && sees_all => {
                    let changed = self.changed_since(&served, &last).await?;
                    if !was_gone(changed.as_deref(), id) {
                        let at = from.position;
                        let gone = LiveEvent::gone(LiveKind::Delete, id, from.clone(), at);
                        initial.push(Arc::new(gone));
                    }
                }
                None => {
                    return Err(Problem::not_found(
                        "not_found",
                        format!("there is no {view} {id}"),
                    ));
                }
            }
            if subscription.start(initial, &has, from) {
                return Ok(subscription);
            }
        }
        Err(unsettled())
    }

    /// Follows the documents that filters ask for: those that there are, then each change; an event
    /// too when one is not among them any more.
    ///
    /// # Errors
    ///
    /// As [`ReadModel::list`]; `malformed` for what is no filter, and when more than
    /// [`MAX_LIVE_DOCUMENTS`](super::MAX_LIVE_DOCUMENTS) fulfil them; `unavailable` (503) when the reader is ahead of this replica.
    pub async fn follow_list(
        &self,
        view: &str,
        filters: &BTreeMap<String, String>,
        last: Option<&EventId>,
        freshness: &Freshness,
    ) -> Result<Subscription, Problem> {
        let served = self.served(view)?;
        let query = Arc::new(self.filters(&served, filters, &freshness.caller)?);
        self.wait(&served, freshness).await?;
        self.until_known(&served, last, freshness).await?;
        for _ in 0..ATTEMPTS {
            let conditions = query.filters.iter().cloned();
            let conditions = conditions.filter_map(|(filter, value)| Condition::new(filter, value));
            let follow = served.live.follow_list(&query, conditions.collect());
            let subscription = follow.map_err(closed)?;
            self.work(&served);
            let snapshot = self.snapshot(&served, &query).await?;
            let (has, from) = (&snapshot.documents, &snapshot.from);
            let last = Last::of(last, from);
            // Among what has changed are documents that only others see.
            let changed = match query.visible {
                Visibility::All => self.changed_since(&served, &last).await?,
                Visibility::Where(_) | Visibility::Nothing => None,
            };
            let initial = begin(&last, changed.as_deref(), has, from);
            if subscription.start(initial, has, from.clone()) {
                return Ok(subscription);
            }
        }
        Err(unsettled())
    }

    /// Ends all who follow something or wait for a position, and takes none of either any more. What can
    /// be answered at once still is.
    pub fn stop_waiting(&self) {
        self.inner.waits.stop();
        self.inner.lives.iter().for_each(|live| live.close());
    }

    /// Waits until this replica has what a reader who comes again has seen: what is here may be older.
    async fn until_known(
        &self,
        served: &Served<'_>,
        last: Option<&EventId>,
        freshness: &Freshness,
    ) -> Result<(), Problem> {
        // Of another log nothing compares.
        let here = here(served);
        let comparable = |last: &&EventId| !last.edition.is_empty() && last.log() == here.log();
        let Some(last) = last.filter(comparable) else {
            return Ok(());
        };
        let waits = &self.inner.waits;
        let reach = waits.reach(served.watermark, last.position, freshness.max_wait);
        match reach.await? {
            true => Ok(()),
            false => Err(Problem::unavailable(format!(
                "this replica has not applied the log up to {} yet; come again",
                last.position
            ))),
        }
    }

    /// Returns what has changed for a reader who comes again, up to what was read before this; none where that is
    /// not known.
    async fn changed_since(
        &self,
        served: &Served<'_>,
        last: &Last,
    ) -> Result<Option<Vec<Arc<Applied>>>, Problem> {
        let Some(position) = last.position else {
            return Ok(None);
        };
        // A transaction is in the store, and so in what was read, before it is told of. What it has taken
        // away would be missed: it is neither among what is there nor, yet, among what has changed.
        let view = served.view.name;
        let read = async {
            let tables = served.tables()?;
            self.inner.store.find_checkpoint(&tables).await
        };
        let stored = read.await.map_err(|error| unavailable(view, &error))?;
        let position_of = |stored: &Option<Checkpoint>| stored.as_ref().map_or(0, |at| at.position);
        let waits = &self.inner.waits;
        if !waits
            .reach(served.watermark, position_of(&stored), TOLD)
            .await?
        {
            return Err(unsettled());
        }
        // One that has exchanged documents where the view is does not show in the position.
        let heard = served.watermark.serving().seen().revision;
        let told = stored.is_none_or(|stored| stored.revision <= heard);
        Ok(served.live.changed_since(position).filter(|_| told))
    }

    fn filters(
        &self,
        served: &Served<'_>,
        parameters: &BTreeMap<String, String>,
        caller: &Caller,
    ) -> Result<ListQuery, Problem> {
        let declared = &served.view.query;
        let mut names = parameters.keys();
        let other = names.find(|name| {
            ["q", "sort", "limit", "count", "facets", "cursor"].contains(&name.as_str())
                && !declared.filters.iter().any(|filter| filter.name == **name)
        });
        if let Some(other) = other {
            return Err(Problem::malformed(
                other.clone(),
                "a list is followed by its filters alone",
            ));
        }
        let view = (served.view.name, served.view.version);
        let rows = (served.view.visible)(caller);
        let mut query = ListQuery::read_of(view, declared, parameters, &rows)?;
        query.limit = MAX_LIMIT;
        Ok(query)
    }
}

impl Inner {
    /// Reads all documents of a list, by their position, if there are not more than so many.
    async fn all(
        &self,
        served: &Served<'_>,
        query: &ListQuery,
        most: usize,
    ) -> Result<Vec<(Arc<str>, ServedDocument)>, ListError> {
        let mut all = BTreeMap::new();
        let mut query = query.clone();
        loop {
            let mut rows = self.list(served, &query).await?.rows;
            let more = rows.len() > query.limit;
            rows.truncate(query.limit);
            query.after = rows
                .last()
                .filter(|_| more)
                .map(|last| (last.key(query.order), last.id.clone()));
            for row in rows {
                let document = self.serialise(served, &row);
                // One that changed between two pages may be on both.
                all.insert(row.id.into(), document);
            }
            if all.len() > most {
                return Err(ListError::TooMany);
            }
            if query.after.is_none() {
                break;
            }
        }
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by_key(|(_, document)| document.version);
        Ok(all)
    }
}

/// The reason why a list cannot be followed.
enum ListError {
    /// It has more documents than can be.
    TooMany,
    /// It cannot be read.
    Store(StoreError),
}

impl From<StoreError> for ListError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl ListError {
    fn problem(&self, view: &str) -> Problem {
        match self {
            Self::TooMany => too_many(),
            Self::Store(error) => unavailable(view, error),
        }
    }
}

/// Knowledge of a reader who comes again.
struct Last {
    /// True if it says that it does.
    given: bool,
    /// The position that it has all changes up to, where they are changes of what is sent now.
    position: Option<u64>,
}

impl Last {
    fn of(last: Option<&EventId>, from: &EventId) -> Self {
        let same = last.filter(|last| last.edition == from.edition && !last.edition.is_empty());
        Self {
            given: last.is_some(),
            position: same.map(|last| last.position),
        }
    }
}

/// Returns what is sent from now on, and what is read from now on has every change up to.
fn here(served: &Served<'_>) -> EventId {
    // The edition first: documents of a later one are then sent as of this one, which nobody goes on
    // from once there is another.
    let edition = served.watermark.serving().edition();
    let position = served.watermark.progress().position;
    EventId::new(edition.as_str().into(), position)
}

/// Returns what the stream of a list begins with: for who comes again, what has changed, or else all of it.
fn begin(
    last: &Last,
    changed: Option<&[Arc<Applied>]>,
    has: &[Arc<LiveEvent>],
    from: &EventId,
) -> Vec<Arc<LiveEvent>> {
    let (Some(last), Some(changed)) = (last.position, changed) else {
        let reset = last.given.then(|| Arc::new(LiveEvent::reset(from.at(0))));
        return reset.into_iter().chain(has.iter().cloned()).collect();
    };
    let there: HashSet<&str> = has.iter().map(|event| &*event.id).collect();
    let mut gone: Vec<_> = changed.iter().flat_map(|applied| &applied.ids).collect();
    gone.retain(|id| !there.contains(id.as_str()));
    gone.sort_unstable();
    gone.dedup();
    let gone = gone
        .into_iter()
        .map(|id| Arc::new(LiveEvent::gone(LiveKind::Leave, id, from.at(last), last)));
    let news = has.iter().filter(|event| event.version() > last);
    gone.chain(news.cloned()).collect()
}

/// Returns whether a reader who comes again knew already that the document is gone, by what has changed since.
fn was_gone(changed: Option<&[Arc<Applied>]>, id: &str) -> bool {
    changed.is_some_and(|changed| {
        let mut ids = changed.iter().flat_map(|applied| &applied.ids);
        !ids.any(|changed| changed == id)
    })
}

fn closed(_: Closed) -> Problem {
    stopping()
}

fn unsettled() -> Problem {
    Problem::unavailable("the view's documents are being exchanged")
}
