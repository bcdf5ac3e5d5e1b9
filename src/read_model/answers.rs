//! Answers queries: one document, or a page of a list, at least as fresh as asked.

use super::{
    Answer, Freshness, MIN_POSITION, Page, StoredDocument, ViewDescription, Watermark, Watermarks,
    announcement::Applied,
    cursor::Cursor,
    parameters::ListQuery,
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
}

/// Answers queries about every view. Cheap to clone.
#[derive(Clone)]
pub struct ReadModel {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    views: Vec<ViewDescription>,
    tables: Vec<ViewTables>,
    aggregates: BTreeSet<&'static str>,
    watermarks: Watermarks,
}

struct Served<'a> {
    view: &'a ViewDescription,
    tables: &'a ViewTables,
    watermark: &'a Watermark,
}

impl ReadModel {
    /// Prepares the views' tables, and reads how far they have come.
    ///
    /// # Errors
    ///
    /// Returns a terminal error when a view declares what cannot be stored, and a retryable one when
    /// the store does not answer.
    pub async fn open(options: ReadModelOptions) -> Result<Self, OpenError> {
        let tables = options.views.iter().map(ViewTables::of);
        let tables: Vec<_> = tables.collect::<Result<_, _>>()?;
        for (view, tables) in options.views.iter().zip(&tables) {
            options.store.define(tables).await?;
            let checkpoint = options.store.find_checkpoint(tables).await?;
            if let (Some(watermark), Some(checkpoint)) =
                (options.watermarks.view(view.name), checkpoint)
            {
                watermark.advance(Progress {
                    position: checkpoint.position,
                    behind_since: None,
                });
            }
        }
        Ok(Self {
            inner: Arc::new(Inner {
                store: options.store,
                views: options.views,
                tables,
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
        let row = self.inner.store.get(served.tables, id.as_str()).await;
        match row.map_err(|error| unavailable(&served, &error))? {
            Some(row) => {
                let document = stored(row, &served)?;
                Ok(answer(document, progress))
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
        let rows = self.inner.store.list(served.tables, &query).await;
        let mut rows = rows.map_err(|error| unavailable(&served, &error))?;
        let more = rows.len() > query.limit;
        rows.truncate(query.limit);
        let next = rows.last().filter(|_| more).map(|last| {
            Cursor::new(name, &query, last.key(query.order), last.id.clone()).to_text()
        });
        let items = rows.into_iter().map(|row| stored(row, &served));
        let page = Page {
            items: items.collect::<Result<_, _>>()?,
            next,
        };
        Ok(answer(page, progress))
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
        let inner = Arc::clone(&self.inner);
        Ok(async move {
            while let Some(message) = announcements.next().await {
                match serde_json::from_slice::<Applied>(&message.payload) {
                    Ok(applied) if applied.store == inner.store.id() => {
                        inner.watermarks.note(&applied);
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
            tables: &inner.tables[index],
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

fn answer<T>(value: T, progress: Progress) -> Answer<T> {
    Answer {
        value,
        applied: progress.position,
        lag_ms: progress.lag_ms(Timestamp::now()),
    }
}

fn stored(row: Row, served: &Served<'_>) -> Result<StoredDocument, Problem> {
    let document = serde_json::value::to_raw_value(&row.document)
        .map_err(|_| unavailable(served, &StoreError::Shape("a document".to_owned())))?;
    Ok(StoredDocument {
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
