//! The composition root: the only place that wires the parts of a replica together.
//!
//! [`Domain`] says what a program consists of, [`PlatformOptions`] where and as what it runs, and
//! [`Platform`] is the running replica. Parts are started in the order in which data flows and
//! stopped from the outside in, so that nothing is taken that cannot be finished.

use crate::{
    aggregate::Aggregate,
    command::{
        client::{Aggregates, CommandClient, CommandOptions},
        endpoint::{CommandEndpoint, EndpointError},
        placement::Placement,
    },
    config::Role,
    event_log::{
        AppendMode, EventLog, Timeouts,
        topology::{Topology, TopologyError},
    },
    http::{self, Backends, Gateway, Readiness, ReadinessCheck, ReadinessProbe},
    mart,
    membership::{Membership, MembershipError, MembershipOptions},
    projection::{
        ControlEndpoint, ProjectorError, ProjectorOptions, RegisteredView, ViewHandle,
        ViewPlacement, meters,
    },
    read_model::{
        Credentials, DEFAULT_CACHE, OpenError, QueryEndpoint, ReadModel, ReadModelOptions, Store,
        StoreError, StoreOptions, Watermarks,
    },
    telemetry,
    view::View,
};
use actix::Arbiter;
use actix_web::dev::ServerHandle;
use async_nats::ServerAddr;
use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::runtime::{Handle, Runtime};
use tokio_util::sync::CancellationToken;

/// The stack of the threads that run SurrealDB's queries, in bytes: its parser and planner recurse
/// deeper than the usual 2 MiB.
const QUERY_STACK: usize = 10 << 20;
/// How long a stop waits for tasks whose owners are gone, at most.
const SETTLING: Duration = Duration::from_secs(2);
/// After how long without one more that has ended they are taken to have.
const SETTLED: Duration = Duration::from_millis(200);
/// How long the first connection to NATS is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a shared store may take to be there at the start, and the pause between two looks.
const STORE_TIMEOUT: Duration = Duration::from_secs(60);
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// What a program consists of: its aggregates and its views.
#[derive(Clone, Default)]
pub struct Domain {
    aggregates: Aggregates,
    views: Vec<RegisteredView>,
}

impl Domain {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The mart: the reference domain that ships in the binary.
    #[must_use]
    pub fn mart() -> Self {
        Self::new()
            .aggregate::<mart::product::Product>()
            .aggregate::<mart::stock::Stock>()
            .aggregate::<mart::display::Display>()
            .aggregate::<mart::member::Member>()
            .aggregate::<mart::order::Order>()
            .view::<mart::view::ProductView>()
            .view::<mart::view::StorefrontView>()
            .view::<mart::view::OrderView>()
            .view::<mart::view::SalesView>()
    }

    /// Adds aggregate `A`.
    ///
    /// # Panics
    ///
    /// Panics when its name is not `[a-z][a-z0-9_]*` or taken: a defect of the program.
    #[must_use]
    pub fn aggregate<A: Aggregate>(mut self) -> Self {
        self.aggregates = self.aggregates.with::<A>();
        self
    }

    /// Adds view `V`.
    ///
    /// # Panics
    ///
    /// Panics when its name is taken: a defect of the program.
    #[must_use]
    pub fn view<V: View>(mut self) -> Self {
        let view = RegisteredView::of::<V>();
        let name = view.description().name;
        let taken = self
            .views
            .iter()
            .any(|other| other.description().name == name);
        assert!(!taken, "there are two views {name}");
        self.views.push(view);
        self
    }
}

/// Where and as what a replica runs.
#[derive(Debug, Clone)]
pub struct PlatformOptions {
    /// The NATS servers to connect to, for example `nats://a:4222,nats://b:4222`.
    pub nats: String,
    /// What the replica does.
    pub roles: BTreeSet<Role>,
    /// Where documents are kept: `surrealkv://<folder>`, `mem://` or `ws://<host>:<port>`.
    pub store: String,
    /// Who to sign in as at a SurrealDB server: an EDITOR where there is the projector role, a VIEWER
    /// suffices for queries alone.
    pub credentials: Option<Credentials>,
    /// The replica's lasting name, which no other may have: it is reached by it, and its consumers
    /// are set apart by it where each replica keeps documents of its own. 1 to 32 of `A-Z a-z 0-9 _ -`.
    pub replica: String,
    /// How HTTP is served.
    pub http: http::Options,
    /// How many bytes of documents are kept in memory as they are served; 0 for none.
    pub cache: usize,
    /// How the command side is sized.
    pub command: CommandOptions,
    /// How appends reach the log.
    pub append: AppendMode,
    /// How many copies NATS keeps of each stream; as it is, or as the files say, when `None`.
    pub stream_replicas: Option<u8>,
}

impl PlatformOptions {
    /// Every role, HTTP on the default address.
    #[must_use]
    pub fn new(
        nats: impl Into<String>,
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
            command: CommandOptions::default(),
            append: AppendMode::Pipelined,
            stream_replicas: None,
        }
    }

    fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    fn is_shared(&self) -> bool {
        self.store.starts_with("ws")
    }

    /// Whether it makes the tables. On a shared server that is for those who may write there.
    fn prepares(&self) -> bool {
        self.has(Role::Projector) || !self.is_shared()
    }

    fn unbound(&self, source: std::io::Error) -> StartError {
        StartError::Bind {
            address: self.http.address,
            source,
        }
    }
}

/// A running replica.
pub struct Platform {
    _io: Option<IoThreads>,
    nats: async_nats::Client,
    membership: Membership,
    commands: CommandClient,
    command_endpoint: Option<CommandEndpoint>,
    projectors: Vec<ViewHandle>,
    control: Option<(CancellationToken, tokio::task::JoinHandle<()>)>,
    projector_arbiter: Option<Arbiter>,
    queries: Option<ReadModel>,
    query_endpoint: Option<(CancellationToken, tokio::task::JoinHandle<()>)>,
    gateway: Option<(ServerHandle, SocketAddr)>,
}

impl Platform {
    /// Connects, brings the streams to what the files say, and starts the roles.
    ///
    /// It must be called on an actix system; see [`crate::run`].
    ///
    /// # Errors
    ///
    /// Returns [`StartError`]; what had been started is dropped then.
    pub async fn start(domain: Domain, options: PlatformOptions) -> Result<Self, StartError> {
        let listener = Gateway::listen(&options.http).map_err(|source| options.unbound(source))?;
        let io = IoThreads::start()?;
        let started = start(&domain, &options, listener, &io.handle()).await?;
        Ok(Self {
            _io: Some(io),
            ..started
        })
    }

    /// The connection to NATS.
    #[must_use]
    pub fn nats(&self) -> &async_nats::Client {
        &self.nats
    }

    /// Who is there, and which replica is the home of what.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Gives commands.
    #[must_use]
    pub fn commands(&self) -> &CommandClient {
        &self.commands
    }

    /// Answers queries.
    ///
    /// # Panics
    ///
    /// Panics when the replica has no store: neither the projector nor the gateway role.
    #[must_use]
    pub fn queries(&self) -> &ReadModel {
        self.queries
            .as_ref()
            .expect("this replica keeps no documents")
    }

    /// Where HTTP is served: the whole surface with the gateway role, otherwise only how the replica
    /// is and what it measures.
    #[must_use]
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.gateway.as_ref().map(|(_, address)| *address)
    }

    /// Waits until every view has read the log to its end once.
    pub async fn wait_caught_up(&self) {
        for projector in &self.projectors {
            // An error means that the projector is gone; there is nothing to wait for.
            let _ = projector.watch().wait_for(|status| status.ready).await;
        }
    }

    /// Leaves, stops taking, finishes what is in flight, acknowledges, and lets go of everything.
    pub async fn stop(mut self) {
        self.membership.leave().await;
        if let Some(queries) = &self.queries {
            queries.stop_following();
        }
        // What still comes to this replica finds its way to others, or is finished here.
        let gateway = self.gateway.take();
        let endpoint = self.command_endpoint.take();
        futures::future::join(
            async {
                if let Some((gateway, _)) = gateway {
                    gateway.stop(true).await;
                }
            },
            async {
                if let Some(endpoint) = endpoint {
                    endpoint.stop().await;
                }
            },
        )
        .await;
        let endpoints = [self.query_endpoint.take(), self.control.take()];
        for (stopping, running) in endpoints.into_iter().flatten() {
            stopping.cancel();
            let _ = running.await;
        }
        self.commands.stop().await;
        futures::future::join_all(self.projectors.iter().map(ViewHandle::stop)).await;
        if let Some(arbiter) = self.projector_arbiter.take() {
            arbiter.stop();
        }
        self.membership.stop();
        let _ = self.nats.flush().await;
        let io = self._io.take();
        drop(self);
        if let Some(io) = io {
            io.settle().await;
        }
    }
}

/// The threads that speak to NATS and run SurrealDB's queries.
struct IoThreads(Option<Runtime>);

impl IoThreads {
    fn start() -> Result<Self, StartError> {
        tokio::runtime::Builder::new_multi_thread()
            .thread_name("headwater-io")
            .thread_stack_size(QUERY_STACK)
            .enable_all()
            .build()
            .map(|runtime| Self(Some(runtime)))
            .map_err(StartError::Runtime)
    }

    fn handle(&self) -> Handle {
        let runtime = self
            .0
            .as_ref()
            .expect("the runtime is there until it is dropped");
        runtime.handle().clone()
    }

    /// Waits, for as long as [`SETTLING`] at most, until no more tasks end: the store closes its files
    /// in some of them once its last owner is gone, and none of them says when it has.
    async fn settle(&self) {
        let metrics = self.handle().metrics();
        let settled = async {
            let (mut alive, mut since) = (metrics.num_alive_tasks(), Instant::now());
            while alive > 0 && since.elapsed() < SETTLED {
                tokio::time::sleep(Duration::from_millis(5)).await;
                if metrics.num_alive_tasks() != alive {
                    (alive, since) = (metrics.num_alive_tasks(), Instant::now());
                }
            }
        };
        if tokio::time::timeout(SETTLING, settled).await.is_err() {
            tracing::debug!(tasks = metrics.num_alive_tasks(), "tasks were cut off");
        }
    }
}

impl Drop for IoThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting for the threads is not allowed where a future may be running.
            runtime.shutdown_background();
        }
    }
}

async fn start(
    domain: &Domain,
    options: &PlatformOptions,
    listener: TcpListener,
    io: &Handle,
) -> Result<Platform, StartError> {
    telemetry::metrics::install();
    let (servers, name) = (options.nats.clone(), options.replica.clone());
    let nats = io.spawn(async move { connect(&servers, &name).await });
    let nats = joined(nats).await??;
    let topology = Topology::embedded();
    let topology = match options.stream_replicas {
        Some(replicas) => topology.with_replicas(replicas),
        None => topology,
    };
    topology.apply(&nats).await?;
    let log = {
        let log = EventLog::new(nats.clone(), Timeouts::default());
        let _on_these_threads = io.enter();
        log.with_append_mode(options.append)
    };
    let membership = {
        let (nats, replica) = (nats.clone(), options.replica.clone());
        let roles = options.roles.clone();
        let opening = async move {
            Membership::open(nats, &replica, roles, MembershipOptions::default()).await
        };
        joined(io.spawn(opening)).await??
    };

    let placement = Placement::new(nats.clone(), membership.clone());
    let (aggregates, sized) = (&domain.aggregates, options.command);
    let (commands, command_endpoint) = if options.has(Role::Command) {
        let commands = CommandClient::start(aggregates, &log, sized, Some(placement.clone()));
        let (nats, client) = (nats.clone(), commands.clone());
        let opening = async move { CommandEndpoint::open(nats, client, &placement).await };
        (commands, Some(joined(io.spawn(opening)).await??))
    } else {
        (CommandClient::remote(aggregates, sized, placement), None)
    };
    let announcing = membership.clone();
    joined(io.spawn(async move { announcing.announce().await })).await??;
    io.spawn(keep_metrics(membership.clone()));

    let mut platform = Platform {
        _io: None,
        nats,
        membership,
        commands,
        command_endpoint,
        projectors: Vec::new(),
        control: None,
        projector_arbiter: None,
        queries: None,
        query_endpoint: None,
        gateway: None,
    };
    if options.has(Role::Projector) || options.has(Role::Gateway) {
        start_query_side(domain, options, &log, io, &mut platform).await?;
    }
    let unbound = |source| options.unbound(source);
    let address = listener.local_addr().map_err(unbound)?;
    let readiness = readiness(&platform);
    let server = if options.has(Role::Gateway) {
        let backends = Backends {
            commands: Arc::new(platform.commands.clone()),
            views: Arc::new(platform.queries().clone()),
            readiness,
        };
        Gateway::serve(listener, &options.http, backends)
    } else {
        Gateway::serve_operations(listener, &options.http, readiness)
    };
    let server = server.map_err(unbound)?;
    platform.gateway = Some((server.handle(), address));
    actix::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "gateway ended");
        }
    });
    Ok(platform)
}

async fn open_store(options: &PlatformOptions, io: &Handle) -> Result<Store, StartError> {
    let started = tokio::time::Instant::now();
    loop {
        let mut store = StoreOptions::new(&options.store, io.clone());
        store.credentials.clone_from(&options.credentials);
        store.prepares = options.prepares();
        match Store::open(store).await {
            Ok(store) => return Ok(store),
            Err(error)
                if options.is_shared()
                    && error.is_retryable()
                    && started.elapsed() < STORE_TIMEOUT =>
            {
                tracing::info!(%error, "waits for the store");
                tokio::time::sleep(STORE_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn start_query_side(
    domain: &Domain,
    options: &PlatformOptions,
    log: &EventLog,
    io: &Handle,
    platform: &mut Platform,
) -> Result<(), StartError> {
    let descriptions: Vec<_> = domain
        .views
        .iter()
        .map(|view| view.description().clone())
        .collect();
    let watermarks = Watermarks::new(descriptions.iter().map(|view| view.name));
    let store = open_store(options, io).await?;
    let aggregates = domain.aggregates.descriptions();
    let started = tokio::time::Instant::now();
    let queries = loop {
        let opened = ReadModel::open(ReadModelOptions {
            store: store.clone(),
            views: descriptions.clone(),
            aggregates: aggregates.iter().map(|aggregate| aggregate.name).collect(),
            watermarks: watermarks.clone(),
            cache: options.cache,
            prepares: options.prepares(),
        });
        match opened.await {
            Ok(queries) => break queries,
            // A gateway may be there before the first projector.
            Err(error) if error.is_retryable() && started.elapsed() < STORE_TIMEOUT => {
                tracing::info!(%error, "waits for the documents");
                tokio::time::sleep(STORE_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    };

    if options.has(Role::Projector) {
        let arbiter = Arbiter::new();
        let writer = format!("{}-{}", options.replica, uuid::Uuid::now_v7().simple());
        for view in &domain.views {
            let name = view.description().name;
            let watermark = watermarks.view(name).cloned().unwrap_or_default();
            let mut projector =
                ProjectorOptions::new(view.clone(), store.clone(), log.clone(), watermark);
            projector.replica = (!options.is_shared()).then(|| options.replica.clone());
            projector.writer.clone_from(&writer);
            let description = view.description();
            let home = match options.is_shared() {
                true => ViewPlacement::among(&platform.membership, description.name),
                false => ViewPlacement::here(),
            };
            let kept = ViewHandle::start(projector, home, &arbiter.handle());
            platform.projectors.push(kept);
        }
        platform.projector_arbiter = Some(arbiter);
        io.spawn(meters::keep(platform.projectors.clone()));
        let opening = {
            let (nats, views) = (platform.nats.clone(), platform.projectors.clone());
            let replica = options.replica.clone();
            io.spawn(async move { ControlEndpoint::open(&nats, &replica, views).await })
        };
        let control = joined(opening)
            .await?
            .map_err(|error| StartError::Queries(error.to_string()))?;
        let stopping = CancellationToken::new();
        let running = io.spawn(control.run(stopping.clone()));
        platform.control = Some((stopping, running));
    }

    if options.is_shared() {
        let (nats, queries) = (platform.nats.clone(), queries.clone());
        let following = joined(io.spawn(async move { queries.follow(&nats).await }))
            .await?
            .map_err(|error| StartError::Queries(error.to_string()))?;
        io.spawn(following);
    }
    let endpoint = {
        let (nats, queries) = (platform.nats.clone(), queries.clone());
        io.spawn(async move { QueryEndpoint::open(&nats, queries).await })
    };
    let endpoint = joined(endpoint)
        .await?
        .map_err(|error| StartError::Queries(error.to_string()))?;
    let stopping = CancellationToken::new();
    let running = io.spawn(endpoint.run(stopping.clone()));
    platform.query_endpoint = Some((stopping, running));
    platform.queries = Some(queries);
    Ok(())
}

fn readiness(platform: &Platform) -> ReadinessProbe {
    let membership = platform.membership.clone();
    let nats = platform.nats.clone();
    let projectors = platform.projectors.clone();
    Arc::new(move || {
        let connected = nats.connection_state() == async_nats::connection::State::Connected;
        let detail = if connected {
            "connected"
        } else {
            "not connected"
        };
        let mut checks = vec![ReadinessCheck::new("nats", connected, detail)];
        if membership.is_leaving() {
            checks.push(ReadinessCheck::new("membership", false, "leaving"));
        }
        checks.extend(projectors.iter().map(|projector| {
            let status = projector.status();
            let detail = match status.stalled {
                Some(stalled) => format!("stalled since {}", stalled.since),
                None if status.ready => format!("at {}", status.applied),
                None => format!("reading the log, at {}", status.applied),
            };
            ReadinessCheck::new(format!("view {}", projector.view()), status.ready, detail)
        }));
        Readiness::of(checks)
    })
}

/// Reads a list of NATS servers, `nats://a:4222,nats://b:4222`.
///
/// # Errors
///
/// Returns what is wrong with the first that cannot be read, without any password.
pub fn nats_servers(list: &str) -> Result<Vec<ServerAddr>, String> {
    list.split(',')
        .map(|server| {
            let parsed = server.trim().parse::<ServerAddr>();
            parsed.map_err(|error| format!("not the address of a NATS server: {error}"))
        })
        .collect()
}

/// The servers of a list as they may be shown: without user and password.
#[must_use]
pub fn shown(servers: &[ServerAddr]) -> String {
    let shown =
        |server: &ServerAddr| format!("{}://{}:{}", server.scheme(), server.host(), server.port());
    let servers: Vec<_> = servers.iter().map(shown).collect();
    servers.join(",")
}

/// Connects to one of a list of NATS servers, and to another when it goes away.
///
/// # Errors
///
/// Returns [`StartError::Nats`] when the list cannot be read, or none answers in time.
pub async fn connect(servers: &str, name: &str) -> Result<async_nats::Client, StartError> {
    let failed = |servers: String, reason: String| StartError::Nats { servers, reason };
    let servers = nats_servers(servers).map_err(|reason| failed(String::new(), reason))?;
    let connecting = async_nats::ConnectOptions::new()
        .name(format!("headwater {name}"))
        // Room for a burst of commands; what comes faster than it is handled is bounded further in.
        .client_capacity(16_384)
        .subscription_capacity(65_536)
        .connection_timeout(Duration::from_secs(5))
        .ping_interval(Duration::from_secs(10))
        .connect(&servers[..]);
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected.map_err(|error| failed(shown(&servers), error.to_string())),
        Err(_) => Err(failed(shown(&servers), "no answer in time".to_owned())),
    }
}

/// Looks after the metrics as long as the replica's threads live.
async fn keep_metrics(membership: Membership) {
    let members = metrics::gauge!("headwater_members");
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        members.set(membership.watch().borrow().iter().count() as f64);
        telemetry::metrics::upkeep();
    }
}

async fn joined<T>(task: tokio::task::JoinHandle<T>) -> Result<T, StartError> {
    task.await
        .map_err(|error| StartError::Runtime(std::io::Error::other(error)))
}

/// A replica cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// NATS does not answer, or refuses the connection.
    #[error("cannot connect to NATS {servers}: {reason}")]
    Nats {
        /// Where it was looked for.
        servers: String,
        /// What went wrong.
        reason: String,
    },
    /// The streams cannot be brought to what the files say.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The other replicas cannot be joined.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The commands cannot be subscribed to.
    #[error(transparent)]
    Commands(#[from] EndpointError),
    /// The documents cannot be opened.
    #[error("cannot open the documents: {0}")]
    Store(#[from] StoreError),
    /// A view cannot be prepared.
    #[error("cannot prepare the views: {0}")]
    Views(#[from] OpenError),
    /// A projector cannot be started.
    #[error(transparent)]
    Projector(#[from] ProjectorError),
    /// The queries cannot be subscribed to.
    #[error("the query endpoint cannot be opened: {0}")]
    Queries(String),
    /// The HTTP address cannot be had.
    #[error("cannot serve HTTP on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What went wrong.
        source: std::io::Error,
    },
    /// Threads cannot be started.
    #[error("cannot start threads: {0}")]
    Runtime(std::io::Error),
}
