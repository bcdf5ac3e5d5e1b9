//! The place and the name of a replica.

use super::{NatsAddress, Patience};
use crate::{
    access::Access,
    command::client::CommandOptions,
    config::Role,
    event_log::{AppendChoice, ServerKnowledge, secret::Secret},
    http,
    processes::ProcessOptions,
    projection::VerifyOptions,
    read_model::{
        Credentials, DEFAULT_CACHE, DEFAULT_LIST_CACHE, DEFAULT_LIST_INDEX, DEFAULT_SEARCH_MEMORY,
    },
    request_reply::Inboxes,
};
use std::{collections::BTreeSet, time::Duration};

/// The time a start waits where nobody says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// The place and the name of a replica.
#[derive(Debug, Clone)]
pub struct PlatformOptions {
    /// The NATS to connect to, for example `nats://a:4222,nats://b:4222`.
    pub nats: NatsAddress,
    /// The roles of the replica.
    pub roles: BTreeSet<Role>,
    /// The place where documents are kept: `surrealkv://<folder>`, `mem://` or `ws://<host>:<port>`.
    pub store: String,
    /// The user to sign in as at a SurrealDB server: an EDITOR where there is the projector role, a VIEWER
    /// suffices for queries alone.
    pub credentials: Option<Credentials>,
    /// The replica's lasting name, which no other may have: it is reached by it, and its consumers
    /// are set apart by it where each replica keeps documents of its own. 1 to 32 of `A-Z a-z 0-9 _ -`.
    pub replica: String,
    /// The settings of HTTP.
    pub http: http::Options,
    /// The number of bytes of documents that are kept in memory as they are served; 0 for none.
    pub cache: usize,
    /// The number of bytes of pages of lists that are kept in memory as they are served; 0 for none.
    pub list_cache: usize,
    /// The number of bytes of memory each index of texts is written with, where documents are kept in this
    /// process; 0 for no such index.
    pub search_memory: usize,
    /// The number of bytes of memory that the sorted lists of all views take at most, where documents are kept in this
    /// process; 0 for none.
    pub list_index: usize,
    /// The comparison of the views with the log.
    pub verify: VerifyOptions,
    /// The sizes of the command side.
    pub command: CommandOptions,
    /// The settings of processes, where there is the role for them.
    pub processes: ProcessOptions,
    /// True if processes wait for [`super::Platform::begin_processes`].
    pub processes_later: bool,
    /// The way appends reach the log.
    pub append: AppendChoice,
    /// Knowledge of the server: where its JetStream is reached, and from what
    /// [`AppendChoice::Auto`] knows what it does.
    pub server: ServerKnowledge,
    /// Under what unique keys are hidden in the log; its own salt when `None`.
    pub secret: Option<Secret>,
    /// The number of copies NATS keeps of each stream; as it is, or as the files say, when `None`.
    pub stream_replicas: Option<u8>,
    /// The place where answers over NATS may go; a request that wants its answer elsewhere is not carried out.
    pub inboxes: Inboxes,
    /// Finds out who asks, and what they may: over HTTP and over NATS. Everybody may everything unless it
    /// is said.
    pub access: Access,
    /// The time the start waits for what is not there yet; 10 s.
    pub patience: Patience,
}

impl PlatformOptions {
    /// Every role but `process`, HTTP on the default address.
    #[must_use]
    pub fn new(
        nats: impl Into<NatsAddress>,
        store: impl Into<String>,
        replica: impl Into<String>,
    ) -> Self {
        Self {
            nats: nats.into(),
            roles: BTreeSet::from([Role::Command, Role::Projector, Role::Gateway]),
            store: store.into(),
            credentials: None,
            replica: replica.into(),
            http: http::Options::default(),
            cache: DEFAULT_CACHE,
            list_cache: DEFAULT_LIST_CACHE,
            search_memory: DEFAULT_SEARCH_MEMORY,
            list_index: DEFAULT_LIST_INDEX,
            verify: VerifyOptions::new(std::env::temp_dir().join("headwater")),
            command: CommandOptions::default(),
            processes: ProcessOptions::default(),
            processes_later: false,
            append: AppendChoice::Auto,
            server: ServerKnowledge::default(),
            secret: None,
            stream_replicas: None,
            inboxes: Inboxes::default(),
            access: Access::open(),
            patience: Patience::Bounded(PATIENCE),
        }
    }

    pub(super) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    pub(super) fn is_shared(&self) -> bool {
        self.store.starts_with("ws")
    }

    /// Returns whether it makes the tables. On a shared server that is for those who may write there.
    pub(super) fn prepares(&self) -> bool {
        self.has(Role::Projector) || !self.is_shared()
    }
}
