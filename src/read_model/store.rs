//! The connection to SurrealDB, embedded or remote, and the one way to run a query on it.
//!
//! Queries need a deep stack, so each runs as a task of a runtime that was built for them. What is
//! written must not be dropped half-way: a caller that goes away leaves it to finish. What is only read
//! ends with its caller, and after a few seconds in any case.

mod aside;
mod compared_counts;
mod counts;
pub(crate) mod drift;
pub(crate) mod fence;
pub mod floor;
mod folder;
pub(crate) mod generations;
mod identity;
mod list;
mod load;
mod ordered;
mod page;
pub(crate) mod parked;
mod routes;
mod searched;
mod select;
mod session;
#[cfg(test)]
mod tests;
mod write;

pub use compared_counts::{ComparedCounts, CountDifference};
pub(crate) use folder::{aside, texts_beside};
pub use folder::{closed, set_aside};
pub(crate) use list::Listed;
pub(crate) use searched::TextRows;
pub(crate) use select::{Row, Text, text};

use super::{
    list_index::{DEFAULT_LIST_INDEX, ListIndexes},
    schema::{TEXT_INDEX, ViewTables},
    text_index::{DEFAULT_SEARCH_MEMORY, TextIndexes},
};
use load::followed_id;
use session::Session;
use std::{
    borrow::Cow,
    sync::{Arc, RwLock, Weak},
};
use surrealdb::{
    IndexedResults,
    types::{Error as SurrealError, QueryError, SurrealValue, Value, Variables},
};
use tokio::{runtime::Handle, task::JoinHandle};

/// The text that the fence of a checkpoint throws.
const FENCED: &str = "headwater: fenced";
/// The text that is thrown where a document that is to be changed is not there any more.
const GONE: &str = "headwater: gone";

/// The place of the documents.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// `mem://`, `surrealkv://<folder>?sync=every|never|<interval>` or `ws://<host>:<port>`.
    pub url: String,
    /// The SurrealDB namespace.
    pub namespace: String,
    /// The SurrealDB database.
    pub database: String,
    /// The user to sign in as, at a server.
    pub credentials: Option<Credentials>,
    /// True if a store that nobody has used yet is prepared, which takes the right to write. Without, it
    /// is waited for until somebody else has.
    pub prepares: bool,
    /// The number of bytes of memory each index of texts is written with, where the store is embedded; 0 for no
    /// such index.
    pub search_memory: usize,
    /// The number of bytes of memory that the sorted lists of all views take at most, where the store is embedded; 0
    /// for none.
    pub list_index: usize,
    /// True if the store's own full-text index is kept and asked in its place, as at a server.
    pub(crate) full_text: bool,
    /// The place where queries run: a multi-threaded runtime whose threads have 10 MiB of stack.
    pub runtime: Handle,
}

impl StoreOptions {
    /// A store at `url` under the names that Headwater uses, with nobody signed in.
    #[must_use]
    pub fn new(url: impl Into<String>, runtime: Handle) -> Self {
        Self {
            url: url.into(),
            namespace: "headwater".to_owned(),
            database: "views".to_owned(),
            credentials: None,
            prepares: true,
            search_memory: DEFAULT_SEARCH_MEMORY,
            list_index: DEFAULT_LIST_INDEX,
            full_text: false,
            runtime,
        }
    }
}

/// A user of a SurrealDB server: an EDITOR where projectors run, a VIEWER suffices for queries.
#[derive(Clone)]
pub struct Credentials {
    /// The user's name.
    pub username: String,
    /// The user's password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// The store of documents. Cheap to clone: all clones share one session.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    // First: those that keep them are told to end before the store is let go.
    texts: Option<TextIndexes>,
    lists: Option<ListIndexes>,
    /// True if the store itself has an index of texts.
    full_text: bool,
    session: Session,
    runtime: Handle,
    id: RwLock<String>,
}

/// A store that may be gone.
#[derive(Clone)]
pub(crate) struct WeakStore(Weak<Inner>);

impl WeakStore {
    /// The store, if it is still there.
    pub(crate) fn upgrade(&self) -> Result<Store, StoreError> {
        let inner = self.0.upgrade().ok_or(StoreError::Stopped)?;
        Ok(Store { inner })
    }
}

impl Store {
    /// Connects, signs in, and gives the store an identity on first use.
    ///
    /// # Errors
    ///
    /// Returns a retryable error when a server does not answer, a terminal one when the address or
    /// the credentials are refused.
    pub async fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let session = Session::open(&options).await?;
        // Of a server others write, and what they write is only told of by ids.
        let full_text = session.is_remote() || options.full_text;
        let texts = (!full_text && options.search_memory > 0).then(|| {
            let folder = folder::texts(&options.url);
            TextIndexes::new(folder, options.search_memory, options.runtime.clone())
        });
        let lists = (!session.is_remote() && options.list_index > 0)
            .then(|| ListIndexes::new(options.list_index, options.runtime.clone()));
        let unnamed = Self {
            inner: Arc::new(Inner {
                texts,
                lists,
                full_text,
                session,
                runtime: options.runtime,
                id: RwLock::default(),
            }),
        };
        let id = unnamed.identify(options.prepares).await?;
        let inner = Arc::into_inner(unnamed.inner).ok_or(StoreError::Stopped)?;
        Ok(Self {
            inner: Arc::new(Inner {
                id: RwLock::new(id),
                ..inner
            }),
        })
    }

    /// As [`Store::open`], for tests: where a server is named by `HEADWATER_TEST_SURREAL`
    /// (`ws://<host>:<port>`, root/root), what would be in memory is in a database of its own there.
    #[cfg(test)]
    pub(crate) async fn for_tests(url: &str, runtime: Handle) -> Result<Self, StoreError> {
        let mut options = StoreOptions::new(url, runtime);
        options.full_text = true;
        if let (Ok(server), "mem://") = (std::env::var("HEADWATER_TEST_SURREAL"), url) {
            options.url = server;
            options.database = format!("t{}", uuid::Uuid::now_v7().simple());
            options.credentials = Some(Credentials {
                username: "root".to_owned(),
                password: "root".to_owned(),
            });
        }
        Self::open(options).await
    }

    /// Returns whether the server answered when it was last asked; what is embedded does.
    pub(crate) fn answers(&self) -> bool {
        self.inner.session.answers()
    }

    /// Returns where queries run.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.inner.runtime
    }

    /// Defines the tables and indexes of a view. What exists stays.
    pub(crate) async fn define(&self, tables: &ViewTables) -> Result<(), StoreError> {
        let mut sql = tables.definitions(self.inner.full_text);
        let mut variables = Variables::new();
        if tables.indexed {
            sql.push_str(" UPSERT $followed CONTENT { aggregates: $aggregates } RETURN NONE;");
            variables.insert("followed", Value::RecordId(followed_id(tables)));
            variables.insert("aggregates", tables.aggregates.clone());
        }
        self.query(sql, variables).await?;
        self.index_texts(tables);
        Ok(())
    }

    /// Keeps an index of these documents' texts from now on, where that is for this program to do.
    fn index_texts(&self, tables: &ViewTables) {
        if let Some(texts) = &self.inner.texts {
            texts.open(tables, WeakStore(Arc::downgrade(&self.inner)));
        }
    }

    /// Looks in the store what tables of another version can do: whether they can be searched, and which
    /// aggregates they follow.
    pub(crate) async fn look_into(&self, tables: &mut ViewTables) -> Result<(), StoreError> {
        tables.searchable = match self.inner.full_text {
            true => self.has_index(tables, TEXT_INDEX).await?,
            false => self.has_texts(tables).await?,
        };
        self.index_texts(tables);
        let mut variables = Variables::new();
        variables.insert("followed", Value::RecordId(followed_id(tables)));
        let sql = "SELECT VALUE aggregates FROM ONLY $followed;";
        let mut results = match self.query(sql, variables).await {
            Ok(results) => results,
            Err(StoreError::Unavailable(error)) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        match take(&mut results, 0)? {
            Value::None => Ok(()),
            stored => {
                let aggregates = Vec::from_value(stored);
                tables.aggregates = aggregates.map_err(|_| StoreError::shape("followed"))?;
                Ok(())
            }
        }
    }

    /// Returns whether the documents have an index of this name.
    async fn has_index(&self, tables: &ViewTables, name: &str) -> Result<bool, StoreError> {
        let sql = format!("INFO FOR TABLE {};", tables.documents);
        let mut results = match self.query(sql, Variables::new()).await {
            Ok(results) => results,
            Err(StoreError::Unavailable(error)) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        };
        let Value::Object(mut table) = take(&mut results, 0)? else {
            return Err(StoreError::shape("a table"));
        };
        let indexes = table.remove("indexes");
        Ok(matches!(indexes, Some(Value::Object(indexes)) if indexes.contains_key(name)))
    }

    /// Runs statements that change nothing, and fails when any of them does. Who stops waiting for them
    /// stops them.
    async fn read(
        &self,
        sql: impl Into<Cow<'static, str>>,
        variables: Variables,
    ) -> Result<IndexedResults, StoreError> {
        let sql = sql.into();
        let asked = async move {
            let mut asked = Aborted(self.begin(sql, variables));
            join(&mut asked.0).await
        };
        self.answer(asked).await
    }

    /// Runs statements that no part of the program runs.
    #[cfg(test)]
    pub(crate) async fn by_hand(&self, sql: &str) -> Result<(), StoreError> {
        self.query(sql.to_owned(), Variables::new()).await?;
        Ok(())
    }

    /// Runs statements, and fails when any of them does.
    async fn query(
        &self,
        sql: impl Into<Cow<'static, str>>,
        variables: Variables,
    ) -> Result<IndexedResults, StoreError> {
        let sql = sql.into();
        let asked = async move { join(&mut self.begin(sql, variables)).await };
        self.answer(asked).await
    }

    /// Has statements run by the store's own threads.
    fn begin(
        &self,
        sql: Cow<'static, str>,
        variables: Variables,
    ) -> JoinHandle<Result<IndexedResults, SurrealError>> {
        let client = self.inner.session.client();
        let asked = async move { client.query(sql).bind(variables).await };
        self.inner.runtime.spawn(asked)
    }

    async fn answer(
        &self,
        asked: impl Future<Output = Result<IndexedResults, StoreError>>,
    ) -> Result<IndexedResults, StoreError> {
        let mut results = self.inner.session.beside(asked).await?;
        match worst(results.take_errors()) {
            Some(error) => Err(error),
            None => Ok(results),
        }
    }
}

/// A task that ends when nobody waits for it any more.
struct Aborted<T>(JoinHandle<T>);

impl<T> Drop for Aborted<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn join<T>(task: &mut JoinHandle<Result<T, SurrealError>>) -> Result<T, StoreError> {
    match task.await {
        Ok(result) => result.map_err(StoreError::from),
        Err(error) if error.is_panic() => Err(StoreError::Panicked),
        Err(_) => Err(StoreError::Stopped),
    }
}

/// The error that explains the others: in a failed transaction each statement has one.
fn worst(errors: impl IntoIterator<Item = (usize, SurrealError)>) -> Option<StoreError> {
    let mut errors: Vec<_> = errors.into_iter().collect();
    errors.sort_by_key(|(statement, error)| {
        let echo = matches!(
            error.query_details(),
            Some(QueryError::NotExecuted | QueryError::Cancelled)
        );
        (echo, *statement)
    });
    errors.into_iter().next().map(|(_, error)| error.into())
}

fn take(results: &mut IndexedResults, statement: usize) -> Result<Value, StoreError> {
    results.take::<Value>(statement).map_err(StoreError::from)
}

fn rows(value: Value) -> Vec<Value> {
    match value {
        Value::Array(rows) => rows.into_inner(),
        Value::None | Value::Null => Vec::new(),
        row => vec![row],
    }
}

/// Takes a field of a row as a plain type.
fn field<T: SurrealValue>(
    row: &mut surrealdb::types::Object,
    name: &'static str,
) -> Result<T, StoreError> {
    T::from_value(row.remove(name).unwrap_or_default()).map_err(|_| StoreError::shape(name))
}

/// The reason why the store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The checkpoint is not the one that the writer wrote last: somebody else writes this view.
    #[error("another projector writes this view")]
    Fenced,
    /// The store cannot do this, and may never: a record of that id is there already, or is not there any
    /// more, an index does not take the value, or something within it failed.
    #[error("the store fails: {0}")]
    Failed(#[source] SurrealError),
    /// Two transactions met. Nothing was written.
    #[error("a transaction met another: {0}")]
    Conflict(#[source] SurrealError),
    /// The store does not answer, or cannot do it now.
    #[error("the store is not available: {0}")]
    Unavailable(#[source] SurrealError),
    /// The server does not answer anything. What it was asked it may yet do.
    #[error("the store does not answer")]
    Silent,
    /// The answer is older than what is known, or of other documents: the server has other data than before.
    #[error("the server has other data than before")]
    GoneBack,
    /// A reader's statement took longer than it may.
    #[error("it took too long to find that")]
    TooSlow,
    /// The store refuses the statement or who asks.
    #[error("the store refuses: {0}")]
    Refused(#[source] SurrealError),
    /// The stored form is another than this program writes.
    #[error("{0} in the store has an unknown form")]
    Shape(String),
    /// Something that no projector has written stands in the place of what was to be read.
    #[error("something else stands in the store in the place of {0}")]
    Foreign(String),
    /// The stored form is another than this program keeps documents in.
    #[error(
        "the store is of another form than this program's: give it an empty database, and the views are filled anew in it"
    )]
    OtherForm,
    /// Nobody who may write has used the store yet.
    #[error("no projector has prepared the store yet")]
    Unprepared,
    /// The live version of the view was not made to be searched.
    #[error("what is live cannot be searched")]
    NotSearchable,
    /// Nothing is served: the log is another one than the view was filled from.
    #[error("the view is being filled anew, as the log is another one than before")]
    OtherLog,
    /// The query panicked inside the engine.
    #[error("the store failed while it worked on this")]
    Panicked,
    /// The runtime of the store has been shut down.
    #[error("the store has been closed")]
    Stopped,
}

impl StoreError {
    fn shape(what: impl Into<String>) -> Self {
        Self::Shape(what.into())
    }

    /// Returns whether the same may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Conflict(_)
            | Self::Unavailable(_)
            | Self::Failed(_)
            | Self::Foreign(_)
            | Self::Silent
            | Self::GoneBack
            | Self::TooSlow
            | Self::Panicked
            | Self::OtherLog
            | Self::Unprepared => true,
            Self::Fenced
            | Self::Refused(_)
            | Self::OtherForm
            | Self::Shape(_)
            | Self::NotSearchable
            | Self::Stopped => false,
        }
    }

    /// Returns whether it may be what was asked that is at fault, so that a part of it may succeed.
    #[must_use]
    pub fn may_be_the_contents(&self) -> bool {
        match self {
            Self::Failed(_) | Self::Foreign(_) | Self::Panicked => true,
            Self::Refused(error) => error.is_validation(),
            _ => false,
        }
    }
}

impl From<SurrealError> for StoreError {
    fn from(error: SurrealError) -> Self {
        if error.is_thrown() && error.message().contains(FENCED) {
            Self::Fenced
        } else if error.query_details() == Some(&QueryError::TransactionConflict) {
            Self::Conflict(error)
        } else if matches!(error.query_details(), Some(QueryError::TimedOut { .. })) {
            Self::TooSlow
        } else if error.is_validation() || error.is_not_allowed() {
            Self::Refused(error)
        } else if error.is_already_exists()
            || error.is_serialization()
            || error.is_internal()
            || (error.is_thrown() && error.message().contains(GONE))
        {
            Self::Failed(error)
        } else {
            Self::Unavailable(error)
        }
    }
}
