//! Answers queries: one document, or a page of a list, at least as fresh as asked.

use super::{
    Answer, Freshness, MIN_POSITION, Page, StoredDocument, ViewDescription, Watermark, Watermarks,
    announcement::Applied,
    cursor::Cursor,
    generation::GenerationState,
    parameters::{ListQuery, MAX_COUNT},
    refresh,
    schema::{SchemaError, ViewTables},
    store::{Row, Store, StoreError},
    watermark::Progress,
};
use crate::{
    event_log::subject::{Id, is_name},
    problem::Problem,
};
use futures::StreamExt;
use jiff::Timestamp;
use serde_json::value::RawValue;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What queries are answered from.
pub struct ReadModelOptions {
    /// Where the documents are.
    pub store: Store,
    /// The views, in the order in which they are shown.
    pub views: Vec<ViewDescription>,
    /// The names of all aggregates of the system: those that a position may speak of.
    pub aggregates: Vec<&'static str>,
    /// How far the views have come.
    pub watermarks: Watermarks,
    /// Whether this program may prepare the views' tables: it keeps documents, and does not only
    /// read them.
    pub prepares: bool,
}

/// Answers queries about every view. Cheap to clone.
#[derive(Clone)]
pub struct ReadModel {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    views: Vec<ViewDescription>,
    aggregates: BTreeSet<&'static str>,
    watermarks: Watermarks,
}

struct Served<'a> {
    view: &'a ViewDescription,
    watermark: &'a Watermark,
}

impl Served<'_> {
    /// The tables to read now.
    fn tables(&self) -> Result<Arc<ViewTables>, Problem> {
        let live = self.watermark.serving().live();
        live.ok_or_else(|| Problem::unavailable("the view has no documents yet"))
    }

    /// What to do when reading from `tables` has failed: read again if meanwhile others are live.
    fn instead(
        &self,
        tables: &Arc<ViewTables>,
        error: &StoreError,
    ) -> Result<Arc<ViewTables>, Problem> {
        let now = self.tables()?;
        match Arc::ptr_eq(&now, tables) {
            true => Err(unavailable(self, error)),
            false => Ok(now),
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
            if options.prepares
                && generations.find(GenerationState::Live) == Some(tables.generation)
            {
                store.define(&tables).await?;
            }
            if let Some(watermark) = options.watermarks.view(view.name) {
                refresh::serve(store, view, watermark, &generations).await?;
            }
        }
        Ok(Self {
            inner: Arc::new(Inner {
                store: options.store,
                views: options.views,
                aggregates: options.aggregates.into_iter().collect(),
                watermarks: options.watermarks,
            }),
        })
    }

    /// The views that can be asked, in the order in which they were registered.
    #[must_use]
    pub fn views(&self) -> &[ViewDescription] {
        &self.inner.views
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
        let served = self.served(view)?;
        let id = Id::document(id)
            .map_err(|error| Problem::malformed("id".to_owned(), error.to_string()))?;
        self.wait(&served, freshness).await?;
        let progress = served.watermark.progress();
        let mut tables = served.tables()?;
        let row = loop {
            match self.inner.store.get(&tables, id.as_str()).await {
                Ok(row) => break row,
                Err(error) => tables = served.instead(&tables, &error)?,
            }
        };
        match row {
            Some(row) => {
                let seen = row.position;
                let parked = served.watermark.serving().is_parked(&row.id);
                let document = stored(row, &served, &tables)?;
                Ok(answer(document, progress, seen, parked))
            }
            None => Err(Problem::not_found(
                "not_found",
                format!("there is no {view} {id}"),
            )),
        }
    }

    /// Reads a page of a list. The parameters are the view's filters, `q`, `sort` (`price` or
    /// `-price`), `limit` (1 to 200, 20 unless given) and `cursor`, all in their text form.
    ///
    /// # Errors
    ///
    /// Returns `unknown_view` (404), `malformed` (400) naming the parameter or header,
    /// `not_yet_applied` (504) and `unavailable` (503) as [`ReadModel::get`] does.
    pub async fn list(
        &self,
        view: &str,
        parameters: &BTreeMap<String, String>,
        freshness: &Freshness,
    ) -> Result<Answer<Page>, Problem> {
        let served = self.served(view)?;
        let name = (served.view.name, served.view.version);
        let query = ListQuery::read(name, &served.view.query, parameters)?;
        self.wait(&served, freshness).await?;
        let progress = served.watermark.progress();
        let mut tables = served.tables()?;
        let mut rows = loop {
            match self.inner.store.list(&tables, &query).await {
                Ok(rows) => break rows,
                Err(error) => tables = served.instead(&tables, &error)?,
            }
        };
        let count = match query.count {
            true => {
                let count = self.inner.store.count(&tables, &query).await;
                Some(count.map_err(|error| unavailable(&served, &error))?)
            }
            false => None,
        };
        let more = rows.len() > query.limit;
        rows.truncate(query.limit);
        let next = rows.last().filter(|_| more).map(|last| {
            Cursor::new(name, &query, last.key(query.order), last.id.clone()).to_text()
        });
        let seen = rows.iter().map(|row| row.position).max().unwrap_or(0);
        let serving = served.watermark.serving();
        let parked = rows.iter().any(|row| serving.is_parked(&row.id));
        let items = rows.into_iter().map(|row| stored(row, &served, &tables));
        let page = Page {
            items: items.collect::<Result<_, _>>()?,
            next,
            count: count.map(|count| count.min(MAX_COUNT as u64)),
            count_capped: count.is_some_and(|count| count > MAX_COUNT as u64),
        };
        Ok(answer(page, progress, seen, parked))
    }

    /// Follows the announcements of projectors of other processes until it is dropped. Those about
    /// other stores are of no concern.
    ///
    /// # Errors
    ///
    /// Returns an error when the connection is closed.
    pub async fn follow(
        &self,
        client: &async_nats::Client,
    ) -> Result<impl Future<Output = ()> + Send + use<>, async_nats::SubscribeError> {
        let mut announcements = client.subscribe(Applied::subject("*")).await?;
        let model = self.clone();
        Ok(async move {
            while let Some(message) = announcements.next().await {
                match serde_json::from_slice::<Applied>(&message.payload) {
                    Ok(applied) if applied.store == model.inner.store.id() => {
                        model.note(&applied).await;
                    }
                    Ok(_) => {}
                    Err(error) => tracing::warn!(
                        message.subject = %message.subject,
                        %error,
                        "ignored an announcement"
                    ),
                }
            }
        })
    }

    /// Takes note of what another program has written.
    async fn note(&self, applied: &Applied) {
        let Ok(served) = self.served(&applied.view) else {
            return;
        };
        let (store, serving) = (&self.inner.store, served.watermark.serving());
        if applied.revision < serving.revision() {
            return;
        }
        let looked = async {
            if applied.revision > serving.revision() || serving.live().is_none() {
                let generations = store.generations(served.view.name).await?;
                refresh::serve(store, served.view, served.watermark, &generations).await?;
            }
            if let Some(live) = serving
                .live()
                .filter(|_| applied.parked_at != serving.parked_at())
            {
                serving.park(applied.parked_at, store.parked_documents(&live).await?);
            }
            Ok::<_, refresh::RefreshError>(())
        };
        match looked.await {
            Ok(()) => self.inner.watermarks.note(applied),
            // The next announcement comes within a second.
            Err(error) => {
                tracing::warn!(view.name = served.view.name, %error, "did not look again")
            }
        }
    }

    fn served(&self, view: &str) -> Result<Served<'_>, Problem> {
        let unknown = || {
            let shown = if is_name(view) { view } else { "this" };
            Problem::not_found("unknown_view", format!("there is no view {shown}"))
        };
        let inner = &*self.inner;
        let index = inner.views.iter().position(|known| known.name == view);
        let index = index.ok_or_else(unknown)?;
        Ok(Served {
            view: &inner.views[index],
            watermark: inner.watermarks.view(view).ok_or_else(unknown)?,
        })
    }

    async fn wait(&self, served: &Served<'_>, freshness: &Freshness) -> Result<(), Problem> {
        let Some((aggregate, position)) = &freshness.min_position else {
            return Ok(());
        };
        if !self.inner.aggregates.contains(aggregate.as_str()) {
            return Err(Problem::malformed(
                MIN_POSITION.to_owned(),
                format!("there is no aggregate {aggregate}"),
            ));
        }
        if !served.view.aggregates.contains(&aggregate.as_str()) {
            return Ok(());
        }
        if served
            .watermark
            .reached(*position, freshness.max_wait)
            .await
        {
            return Ok(());
        }
        let applied = served.watermark.progress().position;
        Err(Problem::not_yet_applied(format!(
            "view {} has applied the log up to {applied}, not yet {aggregate}@{position}; \
             if that was a command's answer, the command was accepted",
            served.view.name
        )))
    }
}

/// `seen` is the newest position in the answer: it may be of a transaction that is stored but that the
/// watermark does not show yet.
fn answer<T>(value: T, progress: Progress, seen: u64, parked: bool) -> Answer<T> {
    Answer {
        value,
        applied: progress.position.max(seen),
        lag_ms: progress.lag_ms(Timestamp::now()),
        parked,
    }
}

fn stored(row: Row, served: &Served<'_>, tables: &ViewTables) -> Result<StoredDocument, Problem> {
    let document = serde_json::value::to_raw_value(&row.document)
        .map_err(|_| unavailable(served, &StoreError::Shape("a document".to_owned())))?;
    let mut edition = String::new();
    if tables.generation.number != 0 {
        edition = format!(".g{}", tables.generation.number);
    }
    if let Some(fix) = row.fix {
        edition = format!("{edition}.f{fix}");
    }
    Ok(StoredDocument {
        edition,
        id: row.id,
        version: row.position,
        document: Arc::<RawValue>::from(document),
    })
}

fn unavailable(served: &Served<'_>, error: &StoreError) -> Problem {
    tracing::warn!(view.name = served.view.name, %error, "query failed");
    Problem::unavailable("the view cannot be read now")
}

/// Why queries cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A view declares what cannot be stored.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// Whether trying again may help: a server that does not answer yet, or a store that no projector
    /// has prepared yet.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Schema(_) => false,
            Self::Store(error) => error.is_retryable(),
        }
    }
}

impl From<refresh::RefreshError> for OpenError {
    fn from(error: refresh::RefreshError) -> Self {
        match error {
            refresh::RefreshError::Schema(error) => Self::Schema(error),
            refresh::RefreshError::Store(error) => Self::Store(error),
        }
    }
}
