//! A log, a store, and a view whose sums show every commit that is applied twice or never.

use crate::{
    aggregate::{Aggregate, Context, Decision, Rejection},
    dev::nats_server::{NatsServer, NatsServerOptions},
    event_log::{
        EventLog, Place, Timeouts,
        append::Append,
        codec::{self, CommandEvents, EncodedEvent},
        exclusion::Exclusion,
        subject::{self, Id},
        topology::{self, Topology},
    },
    projection::{
        ProjectorOptions, RegisteredView,
        projector::{Projector, Step},
    },
    read_model::{Progress, Store, StoreOptions, Watermark, schema::ViewTables},
    recorded::Recorded,
    view::{ApplyError, Change, Compare, Filter, Kind, Parts, Query, Route, Sort, View},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    marker::PhantomData,
    process::Command,
    sync::{LazyLock, Mutex},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

/// Queries need a deeper stack than a test's thread has.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(10 << 20)
        .enable_all()
        .build()
        .expect("a runtime can be built")
});

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Account;

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AccountCommand {
    Open {},
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub(super) enum AccountEvent {
    #[serde(rename = "account.opened.v1")]
    Opened { owner: String },
    #[serde(rename = "account.deposited.v1")]
    Deposited { amount: i64 },
    /// Changes nothing.
    #[serde(rename = "account.noted.v1")]
    Noted {},
    #[serde(rename = "account.refused.v1")]
    Refused {},
    #[serde(rename = "account.exploded.v1")]
    Exploded {},
    #[serde(rename = "account.closed.v1")]
    Closed {},
}

#[derive(Debug, thiserror::Error, Rejection)]
#[error("never")]
pub(super) struct Never;

impl Aggregate for Account {
    const NAME: &'static str = "account";
    type Command = AccountCommand;
    type Event = AccountEvent;
    type Rejection = Never;
    fn decide(&self, _: AccountCommand, _: &Context) -> Result<Decision<AccountEvent>, Never> {
        Ok(Decision::nothing())
    }
    fn evolve(&mut self, _: &AccountEvent) {}
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Owner;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub(super) enum OwnerEvent {
    #[serde(rename = "owner.named.v1")]
    Named { name: String },
}

impl Aggregate for Owner {
    const NAME: &'static str = "owner";
    type Command = AccountCommand;
    type Event = OwnerEvent;
    type Rejection = Never;
    fn decide(&self, _: AccountCommand, _: &Context) -> Result<Decision<OwnerEvent>, Never> {
        Ok(Decision::nothing())
    }
    fn evolve(&mut self, _: &OwnerEvent) {}
}

/// One account, with its owner's name in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Statement {
    pub(super) owner: Option<String>,
    pub(super) owner_name: Option<String>,
    pub(super) total: i64,
    pub(super) deposits: u64,
}

pub(super) struct Statements;

impl View for Statements {
    const NAME: &'static str = "statement";
    const VERSION: u32 = 1;
    const AGGREGATES: &'static [&'static str] = &["account", "owner"];
    type Document = Statement;
    type Part = String;

    fn query() -> Query {
        Query {
            filters: vec![Filter {
                name: "owner",
                field: "owner",
                compare: Compare::Equal,
                kind: Kind::Text,
            }],
            sorts: vec![Sort {
                field: "total",
                kind: Kind::Integer,
            }],
            combined: Vec::new(),
            counted: Vec::new(),
            search: vec!["owner_name"],
            routes: vec![vec!["owner"]],
        }
    }

    fn route(event: &Recorded, _: &Parts<String>) -> Result<Route, ApplyError> {
        Ok(match event.aggregate.as_str() {
            "owner" => Route::when("owner", event.id.as_str()),
            _ => Route::id(event.id.as_str()),
        })
    }

    fn remember(_: Option<String>, event: &Recorded) -> Result<Change<String>, ApplyError> {
        if event.aggregate != "owner" {
            return Ok(Change::Keep);
        }
        let OwnerEvent::Named { name } = event.event::<Owner>()?;
        Ok(Change::Put(name))
    }

    fn apply(
        _: &str,
        document: Option<Statement>,
        event: &Recorded,
        parts: &Parts<String>,
    ) -> Result<Change<Statement>, ApplyError> {
        let mut document = document.unwrap_or(Statement {
            owner: None,
            owner_name: None,
            total: 0,
            deposits: 0,
        });
        if event.aggregate == "owner" {
            document.owner_name = parts.get("owner", &event.id).cloned();
            return Ok(Change::Put(document));
        }
        match event.event::<Account>()? {
            AccountEvent::Opened { owner } => {
                document.owner_name = parts.get("owner", &owner).cloned();
                document.owner = Some(owner);
            }
            AccountEvent::Deposited { amount } => {
                document.total += amount;
                document.deposits += 1;
            }
            AccountEvent::Noted {} => return Ok(Change::Keep),
            AccountEvent::Refused {} => return Err(ApplyError::refused("not this one")),
            AccountEvent::Exploded {} => panic!("boom"),
            AccountEvent::Closed {} => return Ok(Change::Delete),
        }
        Ok(Change::Put(document))
    }
}

/// How another program folds the statements. All but this is as they have it.
pub(super) trait OtherFold: Send + Sync + 'static {
    const VERSION: u32;

    /// The fields by whose values documents are counted.
    fn counted() -> Vec<Vec<&'static str>> {
        Vec::new()
    }

    fn apply(
        id: &str,
        document: Option<Statement>,
        event: &Recorded,
        parts: &Parts<String>,
    ) -> Result<Change<Statement>, ApplyError>;
}

/// The statements, folded by `F`.
pub(super) struct FoldedBy<F>(PhantomData<F>);

impl<F: OtherFold> View for FoldedBy<F> {
    const NAME: &'static str = Statements::NAME;
    const VERSION: u32 = F::VERSION;
    const AGGREGATES: &'static [&'static str] = Statements::AGGREGATES;
    type Document = Statement;
    type Part = String;

    fn query() -> Query {
        Query {
            counted: F::counted(),
            ..Statements::query()
        }
    }

    fn route(event: &Recorded, parts: &Parts<String>) -> Result<Route, ApplyError> {
        Statements::route(event, parts)
    }

    fn remember(part: Option<String>, event: &Recorded) -> Result<Change<String>, ApplyError> {
        Statements::remember(part, event)
    }

    fn apply(
        id: &str,
        document: Option<Statement>,
        event: &Recorded,
        parts: &Parts<String>,
    ) -> Result<Change<Statement>, ApplyError> {
        F::apply(id, document, event, parts)
    }
}

pub(super) fn opened(owner: &str) -> AccountEvent {
    AccountEvent::Opened {
        owner: owner.to_owned(),
    }
}

pub(super) fn deposited(amount: i64) -> AccountEvent {
    AccountEvent::Deposited { amount }
}

pub(super) struct World {
    pub(super) log: EventLog,
    pub(super) store: Store,
    pub(super) watermark: Watermark,
    pub(super) status: watch::Sender<crate::projection::ProjectorStatus>,
    versions: Mutex<HashMap<String, (u64, u64)>>,
    server: NatsServer,
    _folder: TempDir,
}

impl World {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = NatsServer::start(NatsServerOptions::new(folder.path().join("nats")))
            .await
            .unwrap();
        let client = async_nats::connect(server.client_url()).await.unwrap();
        Topology::embedded().apply(&client).await.unwrap();
        Self {
            log: EventLog::new(client, Timeouts::default()),
            store: open_store("mem://").await,
            watermark: Watermark::default(),
            status: watch::Sender::default(),
            versions: Mutex::default(),
            server,
            _folder: folder,
        }
    }

    /// A folder for an embedded store on disk.
    pub(super) fn store_url(&self) -> String {
        format!(
            "surrealkv://{}?sync=every",
            self._folder.path().join("views").display()
        )
    }

    pub(super) fn options(&self) -> ProjectorOptions {
        self.options_of::<Statements>()
    }

    pub(super) fn options_of<V: View>(&self) -> ProjectorOptions {
        ProjectorOptions::new(
            RegisteredView::of::<V>(),
            self.store.clone(),
            self.log.clone(),
            self.watermark.clone(),
        )
    }

    pub(super) fn projector(&self) -> Projector {
        Projector::new(self.options(), self.status.clone()).unwrap()
    }

    pub(super) fn tables(&self) -> ViewTables {
        ViewTables::of(RegisteredView::of::<Statements>().description()).unwrap()
    }

    /// Kills the log's server, which comes back by itself; returns when it has.
    pub(super) async fn kill_nats(&self) {
        let mut state = self.server.state();
        let pid = state.borrow().pid.expect("the server runs");
        let killed = Command::new("kill")
            .args(["-KILL", &pid.to_string()])
            .status();
        assert!(killed.is_ok_and(|status| status.success()));
        let back = state.wait_for(|state| state.restarts > 0 && state.pid.is_some());
        timeout(Duration::from_secs(60), back)
            .await
            .unwrap()
            .unwrap();
        let started = Instant::now();
        while !topology::is_ready(self.log.client()).await {
            assert!(started.elapsed() < Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Appends one commit; returns its position.
    pub(super) async fn commit<A: Aggregate>(&self, id: &str, events: &[A::Event]) -> u64 {
        let subject = subject::events_of(A::NAME, &Id::new(id).unwrap());
        let (version_before, expected) = self.last(&subject);
        let encoded = events
            .iter()
            .map(|event| EncodedEvent::of::<A>(event).unwrap());
        let command = CommandEvents {
            command_id: "c".into(),
            command_hash: None,
            caller_id: None,
            lineage: None,
            time: Timestamp::now(),
            version_before,
            claims: Vec::new(),
            events: encoded.collect(),
        };
        let body = codec::encode(A::NAME, id, &[command]).unwrap();
        self.append(subject, expected, body, events.len()).await
    }

    /// Appends what is no commit.
    pub(super) async fn garbage(&self, subject: &str) -> u64 {
        let (_, expected) = self.last(subject);
        self.append(subject.to_owned(), expected, b"{".to_vec(), 1)
            .await
    }

    /// Excludes a commit of an account, as an operator does.
    pub(super) async fn exclude(&self, id: &str, position: u64) {
        let found = self.log.message_at(position).await.unwrap().unwrap();
        let exclusion = Exclusion {
            position,
            mark: Place::of(&found).mark,
            reason: "a test".to_owned(),
            by: "a test".to_owned(),
            at: Timestamp::now(),
        };
        let id = Id::new(id).unwrap();
        let excluding = self.log.exclude("account", &id, &exclusion);
        excluding.await.unwrap();
        // A commit without events has followed.
        let last = self.log.last_message(&found.subject).await.unwrap();
        let mut versions = self.versions.lock().unwrap();
        versions.entry(found.subject).or_default().1 = last.unwrap().position;
    }

    /// Appends from now on as to an empty log.
    pub(super) fn forget_versions(&self) {
        self.versions.lock().unwrap().clear();
    }

    /// The consumers of the log.
    pub(super) async fn consumers(&self) -> Vec<String> {
        let all = self.log.consumers().await.unwrap();
        all.into_iter().map(|consumer| consumer.name).collect()
    }

    fn last(&self, subject: &str) -> (u64, u64) {
        let versions = self.versions.lock().unwrap();
        versions.get(subject).copied().unwrap_or_default()
    }

    async fn append(&self, subject: String, expected: u64, body: Vec<u8>, events: usize) -> u64 {
        let position = self
            .log
            .append(Append {
                subject: subject.clone(),
                expected,
                payload: body.into(),
                headers: async_nats::HeaderMap::new(),
            })
            .await
            .unwrap();
        let mut versions = self.versions.lock().unwrap();
        let last = versions.entry(subject).or_default();
        *last = (last.0 + events as u64, position);
        position
    }

    /// Steps until there is nothing more to do; returns how many commits were applied.
    pub(super) async fn drain(&self, projector: &mut Projector) -> usize {
        let (mut applied, never) = (0, CancellationToken::new());
        loop {
            let step = projector.step(Duration::from_millis(300), &never);
            match step.await.unwrap() {
                Step::Applied(commits) => applied += commits,
                Step::Idle | Step::Stopped => return applied,
            }
        }
    }

    pub(super) async fn document(&self, id: &str) -> Option<Statement> {
        let row = self.store.get(&self.tables(), id).await.unwrap();
        row.map(|row| serde_json::from_value(row.document).unwrap())
    }

    pub(super) async fn total(&self, id: &str) -> (i64, u64) {
        let document = self.document(id).await.unwrap();
        (document.total, document.deposits)
    }

    pub(super) fn progress(&self) -> Progress {
        self.watermark.progress()
    }
}

pub(super) async fn open_store(url: &str) -> Store {
    Store::for_tests(url, RUNTIME.handle().clone())
        .await
        .unwrap()
}

/// The engine lets go of a folder a moment after its last handle is gone.
pub(super) async fn reopen_store(url: &str) -> Store {
    let started = Instant::now();
    loop {
        match Store::open(StoreOptions::new(url, RUNTIME.handle().clone())).await {
            Ok(store) => return store,
            Err(error) => assert!(started.elapsed() < Duration::from_secs(20), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
