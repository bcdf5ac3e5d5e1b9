//! Answers queries: what they are answered from, and one document, at least as fresh as asked.

use super::{
    Answer, Freshness, MIN_POSITION, ServedDocument, StoredDocument, ViewDescription, Watermark,
    Watermarks,
    cache::{DocumentCache, ViewCache},
    comparison::Comparison,
    follow::Snapshots,
    generation::GenerationState,
    list_cache::{ListCache, ViewLists},
    list_slots::ListSlots,
    live::hub::ViewLive,
    reads::Reads,
    refresh,
    schema::{SchemaError, ViewTables},
    store::{Row, Store, StoreError},
    visible::Visible,
    waits::Waits,
    watermark::Progress,
};
use crate::{
    caller::Caller,
    event_log::{
        EventLog, LoadError,
        subject::{Id, is_name},
    },
    problem::{Age, Problem},
};
use jiff::Timestamp;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock},
};
use tokio::time::Instant;

/// The number of bytes of documents that are kept in memory unless set.
pub const DEFAULT_CACHE: usize = 64 << 20;

/// The number of times that an answer is read while the store's server turns out to have other data than before.
pub(super) const READS: usize = 3;

/// Everything that queries are answered from.
pub struct ReadModelOptions {
    /// The place where the documents are.
    pub store: Store,
    /// The views, in the order in which they are shown.
    pub views: Vec<ViewDescription>,
    /// The names of all aggregates of the system: those that a position may speak of.
    pub aggregates: Vec<&'static str>,
    /// The positions that the views have come to.
    pub watermarks: Watermarks,
    /// The number of bytes of documents that are kept in memory as they are served; 0 for none.
    pub cache: usize,
    /// The number of bytes of pages of lists that are kept in memory as they are served; with 0, equal lists that are
    /// asked for at the same time are read one by one, too.
    pub list_cache: usize,
    /// True if this program may prepare the views' tables: it keeps documents, and does not only
    /// read them.
    pub prepares: bool,
}

/// Answers queries about every view. Cheap to clone.
#[derive(Clone)]
pub struct ReadModel {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) views: Vec<ViewDescription>,
    caches: Vec<Arc<ViewCache>>,
    list_caches: Vec<Arc<ViewLists>>,
    reads: Vec<Arc<Reads>>,
    pub(super) lives: Vec<Arc<ViewLive>>,
    pub(super) waits: Waits,
    pub(super) lists: ListSlots,
    pub(super) snapshots: Snapshots,
    aggregates: BTreeSet<&'static str>,
    pub(super) watermarks: Watermarks,
    /// The log and the generation that the documents are to be of.
    pub(super) log: OnceLock<EventLog>,
    pub(super) comparisons: Vec<Arc<Comparison>>,
    /// As [`ReadModelOptions::prepares`].
    pub(super) prepares: bool,
    /// The identity of the store that is known.
    pub(super) known_store: Mutex<String>,
}

pub(super) struct Served<'a> {
    pub(super) view: &'a ViewDescription,
    pub(super) cache: Option<&'a ViewCache>,
    pub(super) lists: Option<&'a Arc<ViewLists>>,
    pub(super) reads: &'a Arc<Reads>,
    pub(super) live: &'a Arc<ViewLive>,
    pub(super) comparison: &'a Arc<Comparison>,
    pub(super) watermark: &'a Watermark,
}

impl Served<'_> {
    /// The tables to read now.
    pub(super) fn tables(&self) -> Result<Arc<ViewTables>, StoreError> {
        self.watermark.serving().tables()
    }

    /// The last of the positions asked for that the view can have: those of aggregates that it follows.
    fn last_of<'f>(&self, freshness: &'f Freshness) -> Option<&'f (String, u64)> {
        let positions = &freshness.min_positions;
        // Nothing is asked for in most cases.
        let last = positions.iter().max_by_key(|(_, position)| *position)?;
        let Ok(tables) = self.tables() else {
            return Some(last);
        };
        let followed = positions
            .iter()
            .filter(|(aggregate, _)| tables.follows(aggregate));
        followed.max_by_key(|(_, position)| *position)
    }
}

impl Served<'_> {
    /// Returns how fresh it is now.
    pub(super) fn age(&self) -> Age {
        let progress = self.watermark.progress();
        answer((), progress, 0, false).age()
    }

    /// A refusal, with how fresh the view is that it is about.
    pub(super) fn aged(&self, problem: Problem) -> Problem {
        Problem {
            age: problem.age.or_else(|| Some(self.age())),
            ..problem
        }
    }

    /// A document as it was read after the view had come so far, if this caller may see it.
    fn found(
        &self,
        id: &str,
        document: Option<ServedDocument>,
        progress: Progress,
        caller: &Caller,
    ) -> Result<Answer<ServedDocument>, Problem> {
        let visible = Visible::of(self.view, caller);
        let document = document.filter(|document| visible.shows(&document.body));
        let serving = self.watermark.serving();
        let parked = match document {
            Some(_) => serving.is_parked(id),
            None => serving.may_miss(id),
        };
        match document {
            Some(document) => {
                let seen = document.version;
                Ok(answer(document, progress, seen, parked))
            }
            None => Err(Problem {
                age: Some(answer((), progress, 0, parked).age()),
                ..Problem::not_found("not_found", format!("there is no {} {id}", self.view.name))
            }),
        }
    }
}

impl ReadModel {
    /// Prepares the views' tables, and reads how far they have come.
    ///
    /// # Errors
    ///
    /// Returns a terminal error when a view declares what cannot be stored, and a retryable one when
    /// the store does not answer.
    pub async fn open(options: ReadModelOptions) -> Result<Self, OpenError> {
        let store = &options.store;
        if options.prepares {
            store.define_shared().await?;
        }
        for view in &options.views {
            let tables = ViewTables::of(view)?;
            let generations = match options.prepares {
                true => refresh::join(store, view).await?,
                false => store.generations(view.name).await?,
            };
            let live = generations.find(GenerationState::Live);
            if options.prepares && live == Some(tables.generation) {
                store.define(&tables).await?;
            }
            if let Some(watermark) = options.watermarks.view(view.name) {
                refresh::serve(store, view, watermark, &generations).await?;
            }
        }
        let mut caches = Vec::new();
        if options.cache > 0 {
            let cache = DocumentCache::new(options.cache);
            for (number, view) in options.views.iter().enumerate() {
                let cache = ViewCache::new(Arc::clone(&cache), number, view.name);
                if let Some(watermark) = options.watermarks.view(view.name) {
                    watermark.observe(cache.clone());
                }
                caches.push(cache);
            }
        }
        let mut list_caches = Vec::new();
        if options.list_cache > 0 {
            let cache = ListCache::new(options.list_cache);
            for (number, view) in options.views.iter().enumerate() {
                let lists = ViewLists::new(Arc::clone(&cache), number, view.name);
                if let Some(watermark) = options.watermarks.view(view.name) {
                    watermark.observe(lists.clone());
                }
                list_caches.push(lists);
            }
        }
        // After the caches: what is read when told of a change must not come from them.
        let (mut lives, mut reads) = (Vec::new(), Vec::new());
        for view in &options.views {
            let watermark = options.watermarks.view(view.name);
            let known = watermark.cloned().unwrap_or_default();
            reads.push(Reads::new(store.clone(), view.name, known));
            let live = ViewLive::new(watermark.map_or(0, |at| at.progress().position));
            if let Some(watermark) = watermark {
                watermark.observe(live.clone());
            }
            lives.push(live);
        }
        let known_store = options.store.id();
        let comparisons = options.views.iter().map(|_| Arc::default()).collect();
        Ok(Self {
            inner: Arc::new(Inner {
                store: options.store,
                views: options.views,
                caches,
                list_caches,
                reads,
                lives,
                waits: Waits::default(),
                lists: ListSlots::default(),
                snapshots: Snapshots::default(),
                aggregates: options.aggregates.into_iter().collect(),
                watermarks: options.watermarks,
                log: OnceLock::new(),
                comparisons,
                prepares: options.prepares,
                known_store: Mutex::new(known_store),
            }),
        })
    }

    /// The views that can be asked, in the order in which they were registered.
    #[must_use]
    pub fn views(&self) -> &[ViewDescription] {
        &self.inner.views
    }

    /// Returns whether the store answered when it was last asked.
    #[must_use]
    pub fn store_answers(&self) -> bool {
        self.inner.store.answers()
    }

    /// Reads one document.
    ///
    /// # Errors
    ///
    /// Returns `unknown_view` or `not_found` (404), `malformed` (400) naming what is wrong with the
    /// id or the position, `not_yet_applied` (504) when the asked position was not reached within
    /// the wait, and `unavailable` (503) when the store cannot be read.
    pub async fn get(
        &self,
        view: &str,
        id: &str,
        freshness: &Freshness,
    ) -> Result<Answer<StoredDocument>, Problem> {
        let answer = self.document(view, id, freshness).await?;
        let value = serde_json::from_slice(&answer.value.body).map_err(|_| {
            let served = StoreError::Shape("a document".to_owned());
            unavailable(view, &served)
        })?;
        Ok(Answer {
            value,
            applied: answer.applied,
            lag_ms: answer.lag_ms,
            parked: answer.parked,
        })
    }

    /// Reads one document as it goes out, from memory if it is there.
    ///
    /// # Errors
    ///
    /// As [`ReadModel::get`].
    pub async fn document(
        &self,
        view: &str,
        id: &str,
        freshness: &Freshness,
    ) -> Result<Answer<ServedDocument>, Problem> {
        let served = self.served(view)?;
        let answer = async {
            check_id(id)?;
            for _ in 1..READS {
                match self.read_fresh(&served, id, freshness).await {
                    Err(Unread::GoneBack) => {}
                    read => return Ok(read?),
                }
            }
            Ok(self.read_fresh(&served, id, freshness).await?)
        };
        answer.await.map_err(|problem| served.aged(problem))
    }

    async fn read_fresh(
        &self,
        served: &Served<'_>,
        id: &str,
        freshness: &Freshness,
    ) -> Result<Answer<ServedDocument>, Unread> {
        self.wait(served, freshness).await?;
        // Before anything is read: what is read is at least as new as that.
        let progress = served.watermark.progress();
        let document = self.inner.read(served, id).await;
        let document = document.map_err(|error| Unread::of(served.view.name, &error))?;
        Ok(served.found(id, document, progress, &freshness.caller)?)
    }

    /// The document as it goes out, or that there is none, if that is in memory and as fresh as asked:
    /// nothing is waited for.
    #[must_use]
    pub fn remembered(
        &self,
        view: &str,
        id: &str,
        freshness: &Freshness,
    ) -> Option<Result<Answer<ServedDocument>, Problem>> {
        let served = self.served(view).ok()?;
        let progress = served.watermark.progress();
        if !freshness.min_positions.is_empty() {
            if !self.is_compared(&served) {
                return None;
            }
            let tables = served.tables().ok()?;
            let has = |(aggregate, position): &(String, u64)| {
                tables.follows(aggregate) && progress.position >= *position
            };
            if !freshness.min_positions.iter().all(has) {
                return None;
            }
        }
        // After the progress, as in every read.
        let document = served.cache?.find(id)?;
        Some(served.found(id, document, progress, &freshness.caller))
    }

    /// Returns how fresh a view is now, if there is one of this name.
    #[must_use]
    pub fn age(&self, view: &str) -> Option<Age> {
        self.served(view).ok().map(|served| served.age())
    }

    /// Returns whether a query need not wait for the view to become as fresh as it asks.
    pub(super) fn is_fresh(&self, view: &str, freshness: &Freshness) -> bool {
        let positions = freshness.min_positions.iter();
        let Some(last) = positions.map(|(_, position)| *position).max() else {
            return true;
        };
        let Ok(served) = self.served(view) else {
            return true;
        };
        served.watermark.progress().position >= last && self.is_compared(&served)
    }

    /// Waits until the view is as fresh as asked.
    ///
    /// # Errors
    ///
    /// As [`ReadModel::get`], of what concerns the position; `overloaded` (429) when too many wait.
    pub(super) async fn until_fresh(
        &self,
        view: &str,
        freshness: &Freshness,
    ) -> Result<(), Problem> {
        let served = self.served(view)?;
        let fresh = self.wait(&served, freshness).await;
        fresh.map_err(|problem| served.aged(problem))
    }

    pub(super) fn served(&self, view: &str) -> Result<Served<'_>, Problem> {
        let unknown = || {
            let shown = if is_name(view) { view } else { "this" };
            Problem::not_found("unknown_view", format!("there is no view {shown}"))
        };
        let inner = &*self.inner;
        let index = inner.views.iter().position(|known| known.name == view);
        let index = index.ok_or_else(unknown)?;
        Ok(Served {
            view: &inner.views[index],
            cache: inner.caches.get(index).map(|cache| &**cache),
            lists: inner.list_caches.get(index),
            reads: &inner.reads[index],
            live: &inner.lives[index],
            comparison: &inner.comparisons[index],
            watermark: inner.watermarks.view(view).ok_or_else(unknown)?,
        })
    }

    pub(super) async fn wait(
        &self,
        served: &Served<'_>,
        freshness: &Freshness,
    ) -> Result<(), Problem> {
        let serving = served.watermark.serving();
        if serving.is_lost() {
            return Err(Problem::rebuilding(served.view.name));
        }
        let mut positions = freshness.min_positions.iter();
        let unknown =
            |(aggregate, _): &&(String, u64)| !self.inner.aggregates.contains(aggregate.as_str());
        if let Some((aggregate, _)) = positions.find(unknown) {
            return Err(Problem::malformed(
                MIN_POSITION.to_owned(),
                format!("there is no aggregate {aggregate}"),
            ));
        }
        let Some((aggregate, position)) = served.last_of(freshness) else {
            return Ok(());
        };
        let until = Instant::now() + freshness.max_wait;
        let reached = self.reach(served, *position, until).await?;
        if reached == Reached::Yes {
            return Ok(());
        }
        if serving.is_lost() {
            return Err(Problem::rebuilding(served.view.name));
        }
        if reached == Reached::Unknown {
            return Err(Problem::not_yet_applied(format!(
                "view {} has not been compared with the log since that was away or changed, so it is not known \
                 whether it has {aggregate}@{position}; if that was a command's answer, the command was accepted",
                served.view.name
            )));
        }
        let applied = served.watermark.progress().position;
        let because = served.watermark.serving().stands_still_because();
        let because = because.map_or_else(String::new, |because| format!(": {because}"));
        Err(Problem::not_yet_applied(format!(
            "view {} has applied the log up to {applied}, not yet {aggregate}@{position}; \
             if that was a command's answer, the command was accepted{because}",
            served.view.name
        )))
    }
}

impl ReadModel {
    /// Waits until the view has applied a position of the log that there is now.
    async fn reach(
        &self,
        served: &Served<'_>,
        position: u64,
        until: Instant,
    ) -> Result<Reached, Problem> {
        let (waits, serving) = (&self.inner.waits, served.watermark.serving());
        loop {
            let comparing = self.until_compared(served, until);
            if !self.is_compared(served) && !waits.during(comparing).await? {
                return Ok(Reached::Unknown);
            }
            let left = until.saturating_duration_since(Instant::now());
            let reached = waits.reach(served.watermark, position, left).await?;
            if !reached || serving.is_lost() {
                return Ok(Reached::No);
            }
            // The log may have become another one while the view came so far.
            if self.is_compared(served) {
                return Ok(Reached::Yes);
            }
        }
    }
}

/// The reason why nothing was read.
#[derive(Debug, Clone)]
pub(super) enum Unread {
    /// The store has other data than before; what it has is known by now.
    GoneBack,
    Refused(Problem),
}

impl Unread {
    pub(super) fn of(view: &str, error: &StoreError) -> Self {
        match error {
            StoreError::GoneBack => Self::GoneBack,
            error => Self::Refused(unavailable(view, error)),
        }
    }
}

impl From<Problem> for Unread {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

impl From<Unread> for Problem {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::GoneBack => {
                Self::unavailable("the documents' server has other data than before; ask again")
            }
            Unread::Refused(problem) => problem,
        }
    }
}

/// True if a view has a position.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    Yes,
    No,
    /// It is not known of which log the view is.
    Unknown,
}

impl Inner {
    /// Reads one document, from memory if it is there.
    pub(super) async fn read(
        &self,
        served: &Served<'_>,
        id: &str,
    ) -> Result<Option<ServedDocument>, StoreError> {
        if let Some(known) = served.cache.and_then(|cache| cache.get(id)) {
            return Ok(known);
        }
        self.read_stored(served, id).await
    }

    /// Looks anew what the store has, where it has turned out to be other data.
    pub(super) async fn unless_gone_back<T>(
        &self,
        served: &Served<'_>,
        read: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Err(StoreError::GoneBack) = read {
            if let Err(error) = self.look_which_store().await {
                tracing::debug!(%error, "which store it is cannot be read");
            }
            self.look(served.view, served.watermark).await;
        }
        read
    }

    pub(super) fn serialise(&self, served: &Served<'_>, row: &Row) -> ServedDocument {
        ServedDocument::new(
            served.view.name,
            &row.id,
            row.position,
            &row.document.to_string(),
        )
    }
}

/// `seen` is the newest position in the answer: it may be of a transaction that is stored but that the
/// watermark does not show yet. All before it is applied then; of itself more may be to come.
pub(super) fn answer<T>(value: T, progress: Progress, seen: u64, parked: bool) -> Answer<T> {
    Answer {
        value,
        applied: progress.position.max(seen.saturating_sub(1)),
        // The clock is only asked where there is a lag.
        lag_ms: progress
            .behind_since
            .map_or(0, |_| progress.lag_ms(Timestamp::now())),
        parked,
    }
}

pub(super) fn check_id(id: &str) -> Result<(), Problem> {
    Id::check_document(id).map_err(|error| Problem::malformed("id".to_owned(), error.to_string()))
}

pub(super) fn unavailable(view: &str, error: &StoreError) -> Problem {
    match error {
        StoreError::OtherLog => return Problem::rebuilding(view),
        // Said once, by who has noticed.
        StoreError::Silent | StoreError::GoneBack => {}
        StoreError::NotSearchable => {
            return Problem::unavailable(
                "the view cannot be searched until the version that can be is live",
            );
        }
        StoreError::TooSlow => {
            return Problem::unavailable("it takes too long to find that; filter further");
        }
        error => tracing::warn!(view.name = view, %error, "query failed"),
    }
    Problem::unavailable("the view cannot be read now")
}

/// The reason why queries cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A view declares what cannot be stored.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LoadError),
}

impl OpenError {
    /// Returns whether trying again may help: a server that does not answer yet, or a store that no projector
    /// has prepared yet.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Schema(_) => false,
            Self::Store(error) => error.is_retryable(),
            Self::Log(error) => error.is_retryable(),
        }
    }
}

impl From<refresh::RefreshError> for OpenError {
    fn from(error: refresh::RefreshError) -> Self {
        match error {
            refresh::RefreshError::Schema(error) => Self::Schema(error),
            refresh::RefreshError::Store(error) => Self::Store(error),
            refresh::RefreshError::Log(error) => Self::Log(error),
        }
    }
}
