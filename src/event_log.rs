//! The log: the only module that speaks JetStream.
//!
//! It owns subjects, the stored form of commits, appending with an expected sequence, loading one
//! aggregate's history and excluding from it, unique keys, snapshots, the durable reader that projectors
//! and processes follow the log with, reading the whole log once, and the alarms of processes. It knows
//! nothing of what events mean.

mod ack;
mod acks;
pub mod alarms;
mod api;
pub mod append;
mod beginning;
pub mod choice;
pub mod claim;
pub mod codec;
mod consumers;
pub mod copy;
mod decoded;
pub mod exclusion;
mod group;
pub mod health;
pub mod identity;
pub mod load;
mod put_back;
pub mod queue;
pub mod reader;
pub mod secret;
pub mod snapshot;
pub mod subject;
pub mod topology;
pub mod unplaced;
pub mod version;
pub mod whole;

pub use ack::AppendError;
pub use api::ApiPrefix;
pub use append::Append;
pub use choice::{AppendChoice, ChosenAppend, ServerKnowledge};
pub use consumers::Consumer;
pub use identity::{Epoch, Extent, LogName, LogState, Mark, Place};
pub use load::{LoadError, StoredMessage};

use acks::Acks;
use async_nats::{client::RequestErrorKind, jetstream};
use decoded::DecodedCommits;
use health::LogHealth;
use identity::Known;
use secret::{Hiding, Secret};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// A handle to the log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventLog(Arc<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    client: async_nats::Client,
    /// The connection that snapshots are written by, where there are several: the first. So they do not
    /// stand before appends.
    first: async_nats::Client,
    api: ApiPrefix,
    jetstream: jetstream::Context,
    timeouts: Timeouts,
    acks: Arc<Acks>,
    grouping: Option<group::Grouping>,
    /// Held while a history is read.
    loads: Arc<Semaphore>,
    known: Arc<Known>,
    hiding: Arc<Hiding>,
    /// The trouble of the log; of all handles made from one.
    health: LogHealth,
    /// The commits that readers share; of all handles made from one.
    decoded: Arc<DecodedCommits>,
}

/// The way concurrent appends of different aggregates reach the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendMode {
    /// Each as a message of its own, many in flight. For a server that acknowledges before its sync,
    /// and for a cluster, which syncs many with one entry by itself.
    Pipelined,
    /// Appends that wait at the same time go as one atomic batch, one in flight. For a single server that syncs
    /// before it acknowledges.
    Grouped,
}

/// The time that the log is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the acknowledgement of an append; after it the append is in doubt.
    pub append: Duration,
    /// For each answer of a load.
    pub load: Duration,
}

impl Default for Timeouts {
    /// 4 s for an append, which a log under the heaviest load that is let in still keeps on a small
    /// machine; 2 s for each answer of a load.
    fn default() -> Self {
        Self {
            append: Duration::from_secs(4),
            load: Duration::from_secs(2),
        }
    }
}

impl EventLog {
    /// Makes a handle over a connection. Nothing is sent.
    #[must_use]
    pub fn new(client: async_nats::Client, timeouts: Timeouts) -> Self {
        let health = LogHealth::default();
        health.known().reached_by(&client);
        Self(Arc::new(Inner {
            api: ApiPrefix::default(),
            jetstream: jetstream::new(client.clone()),
            acks: Arc::new(Acks::new(client.clone(), timeouts.append, health.clone())),
            first: client.clone(),
            client,
            timeouts,
            grouping: None,
            loads: Arc::new(Semaphore::new(load::AT_ONCE)),
            known: health.known().clone(),
            hiding: Arc::default(),
            health,
            decoded: Arc::default(),
        }))
    }

    /// Chooses how concurrent appends reach the log; pipelined unless chosen otherwise. Needs a tokio
    /// runtime for [`AppendMode::Grouped`].
    #[must_use]
    pub fn with_append_mode(self, mode: AppendMode) -> Self {
        let mut inner = Inner::clone(&self.0);
        inner.grouping = match mode {
            AppendMode::Pipelined => None,
            AppendMode::Grouped => Some(group::Grouping::start(self)),
        };
        Self(Arc::new(inner))
    }

    /// Hides unique keys under a secret of the deployment; under the log's own salt unless given.
    #[must_use]
    pub fn with_secret(self, secret: Option<Secret>) -> Self {
        let mut inner = Inner::clone(&self.0);
        inner.hiding = Arc::new(Hiding::of(secret));
        Self(Arc::new(inner))
    }

    /// Reaches JetStream under another prefix. To be chosen before [`EventLog::with_append_mode`].
    #[must_use]
    pub fn with_api(self, api: ApiPrefix) -> Self {
        let mut inner = Inner::clone(&self.0);
        inner.jetstream = api.context(inner.client.clone());
        inner.api = api;
        Self(Arc::new(inner))
    }

    /// Reports to this what is wrong with the log, and learns it from there. To be chosen before
    /// [`EventLog::with_append_mode`], whose groups go by the handle that they were started with.
    #[must_use]
    pub fn with_health(self, health: LogHealth) -> Self {
        let mut inner = Inner::clone(&self.0);
        inner.known = health.known().clone();
        inner.known.reached_by(&inner.client);
        inner.acks = Arc::new(Acks::new(
            inner.client.clone(),
            inner.timeouts.append,
            health.clone(),
        ));
        inner.health = health;
        Self(Arc::new(inner))
    }

    /// Returns what is wrong with the log, as far as this process has noticed.
    #[must_use]
    pub fn health(&self) -> &LogHealth {
        &self.0.health
    }

    /// The same log by another connection. What is grouped is grouped with the appends of this handle.
    #[must_use]
    pub fn over(&self, client: async_nats::Client) -> Self {
        self.0.known.reached_by(&client);
        Self(Arc::new(Inner {
            api: self.0.api.clone(),
            jetstream: self.0.api.context(client.clone()),
            acks: self.0.acks.over(client.clone()),
            first: self.0.first.clone(),
            client,
            timeouts: self.0.timeouts,
            grouping: self.0.grouping.clone(),
            loads: self.0.loads.clone(),
            known: self.0.known.clone(),
            hiding: self.0.hiding.clone(),
            health: self.0.health.clone(),
            decoded: self.0.decoded.clone(),
        }))
    }

    /// The decoded commits that readers of this process share.
    fn decoded(&self) -> &Arc<DecodedCommits> {
        &self.0.decoded
    }

    /// Returns how many commits readers have decoded, and how many another reader had decoded before.
    #[cfg(test)]
    pub(crate) fn decodings(&self) -> (usize, usize) {
        self.0.decoded.counts()
    }

    /// The connection.
    #[must_use]
    pub fn client(&self) -> &async_nats::Client {
        &self.0.client
    }

    /// Returns where JetStream is reached.
    #[must_use]
    pub fn api_prefix(&self) -> &ApiPrefix {
        &self.0.api
    }

    /// The JetStream context of the connection.
    #[must_use]
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.0.jetstream
    }

    /// Deletes the log, as somebody else may do.
    #[cfg(test)]
    pub(crate) async fn lose(&self) -> Result<(), jetstream::context::DeleteStreamError> {
        self.0.jetstream.delete_stream("EVENTS").await.map(drop)
    }

    /// Tells of a consumer of the log.
    #[cfg(test)]
    pub(crate) async fn consumer_info(
        &self,
        name: &str,
    ) -> Result<jetstream::consumer::Info, async_nats::Error> {
        let stream = self.0.jetstream.get_stream("EVENTS").await?;
        Ok(stream.consumer_info(name).await?)
    }

    /// Stores a message of another log again, as it was.
    #[cfg(test)]
    pub(crate) async fn restore(
        &self,
        message: StoredMessage,
    ) -> Result<(), jetstream::context::PublishError> {
        let publishing = self.0.jetstream.publish(message.subject, message.payload);
        publishing.await?.await.map(drop)
    }

    /// Asks and waits for the answer, so long at most: counted from now, also while the connection is
    /// away and takes nothing.
    async fn ask(
        &self,
        subject: String,
        request: async_nats::Request,
        within: Duration,
    ) -> Result<async_nats::Message, RequestErrorKind> {
        let asking = self.0.client.send_request(subject, request.timeout(None));
        match tokio::time::timeout(within, asking).await {
            Ok(answer) => answer.map_err(|error| error.kind()),
            Err(_) => Err(RequestErrorKind::TimedOut),
        }
    }
}
