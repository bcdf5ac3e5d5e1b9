//! The start of a replica, in the order in which data flows.

use super::{
    Domain, Platform, PlatformOptions, RunningEndpoint, StartError, WaitingProcesses, command_side,
    early::EarlyGateway, io::IoThreads, nats::connect_replica, query_side, readiness::readiness,
    starting::Starting,
};
use crate::{
    command::{placement::Placement, tally, threads::CommandThreads},
    config::Role,
    event_log::{
        EventLog, Timeouts,
        health::{LogHealth, Monitor},
        topology::Difference,
    },
    http::{self, Backends, Connections, Gateway},
    membership::{Member, Membership, MembershipOptions},
    ops::{Operations, OperationsOptions, RecallEndpoint},
    processes::{Operators, ProcessQueries},
    telemetry,
};
use actix_web::dev::ServerHandle;
use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// An address that was taken, and how HTTP is served there.
type Listening = (TcpListener, http::Options);

/// Starts the roles, in the order in which data flows.
pub(super) async fn start(
    domain: &Domain,
    options: &PlatformOptions,
    callers: Listening,
    operators: Option<Listening>,
    io_threads: &IoThreads,
) -> Result<Platform, StartError> {
    if let Some((process, aggregate)) = domain.missing() {
        return Err(StartError::Process { process, aggregate });
    }
    telemetry::metrics::install();
    let starting = Starting::new(domain, options, io_threads);
    keep_access_and_certificates(&starting);
    let early_gateways = open_early(&starting, &callers, operators.as_ref())?;
    let health = LogHealth::default();
    let nats = connect(&starting, &health).await?;
    let told = set_up_topology(&starting, &nats).await?;
    let log = open_log(&starting, &nats, &health).await?;
    let deciding = command_side::connect(&starting, &log).await?;
    let (threads, append) = deciding.unzip();
    // By the connection that commands come by: a replica that they cannot reach falls silent.
    let told_by = threads.as_ref().map_or(&nats, CommandThreads::connection);
    let membership = join(&starting, told_by).await?;
    let placement = Placement::new(nats.clone(), membership.clone());
    let (commands, command_endpoint) = command_side::open(&starting, threads, placement).await?;
    announce(&starting, &membership).await?;

    let mut platform = Platform {
        _io: None,
        nats,
        append,
        told,
        health,
        membership,
        commands,
        command_endpoint,
        projectors: Vec::new(),
        control: None,
        recall: None,
        projector_arbiter: None,
        queries: None,
        query_endpoint: None,
        processes: None,
        waiting_processes: None,
        operations: None,
        gateway: None,
        operators: None,
        connections: Connections::bounded(
            options.http.max_connections,
            options.http.max_connections_per_address,
        ),
        draining: Arc::default(),
    };
    if options.has(Role::Projector) || options.has(Role::Gateway) {
        query_side::start(&starting, &log, &mut platform).await?;
    }
    if options.has(Role::Process) && !domain.processes.is_empty() {
        begin_processes(&starting, &log, &mut platform).await?;
    }
    let monitor = Monitor::new(log.clone(), platform.all_connections());
    starting.io().spawn(monitor.run());
    if options.has(Role::Gateway) {
        platform.operations = Some(operations(&starting, log, &platform));
    }
    if options.has(Role::Gateway) || options.has(Role::Command) {
        platform.recall = Some(open_recall(&starting, &platform).await?);
    }
    let connections = &platform.connections;
    platform.gateway = Some(serve(&starting, callers, connections, &platform)?);
    platform.operators = match operators {
        Some(listening) => {
            let connections = Connections::new(listening.1.max_connections);
            Some(serve(&starting, listening, &connections, &platform)?)
        }
        None => None,
    };
    for early in early_gateways {
        early.hand_over().await;
    }
    Ok(platform)
}

/// Reads keys and certificates again, as their files change.
fn keep_access_and_certificates(starting: &Starting<'_>) {
    let (io, options) = (starting.io(), starting.options);
    io.spawn(options.access.clone().keep());
    if let Some(tls) = &options.http.tls {
        io.spawn(tls.clone().keep());
    }
}

/// Answers at the addresses how the start goes, until everything is served there.
fn open_early(
    starting: &Starting<'_>,
    callers: &Listening,
    operators: Option<&Listening>,
) -> Result<Vec<EarlyGateway>, StartError> {
    let addresses = std::iter::once(callers).chain(operators);
    addresses
        .map(|(listener, http)| EarlyGateway::start(listener, http, &starting.waiting))
        .collect()
}

async fn connect(
    starting: &Starting<'_>,
    health: &LogHealth,
) -> Result<async_nats::Client, StartError> {
    let options = starting.options;
    starting
        .waiting
        .until("nats", "not connected yet", async || {
            let (servers, name) = (options.nats.clone(), options.replica.clone());
            let health = health.clone();
            let connecting = async move { connect_replica(&servers, &name, &health).await };
            starting.on_io(connecting).await?
        })
        .await
}

async fn open_log(
    starting: &Starting<'_>,
    nats: &async_nats::Client,
    health: &LogHealth,
) -> Result<EventLog, StartError> {
    let options = starting.options;
    let log = EventLog::new(nats.clone(), Timeouts::default())
        .with_api(options.server.api.clone())
        .with_health(health.clone())
        .with_secret(options.secret.clone());
    starting
        .waiting
        .until("log", "cannot be read yet", async || {
            Ok(log.check_form().await?)
        })
        .await?;
    Ok(log)
}

/// Learns who else is there. Nobody is told of this replica yet.
async fn join(
    starting: &Starting<'_>,
    told_by: &async_nats::Client,
) -> Result<Membership, StartError> {
    let Starting {
        domain, options, ..
    } = starting;
    starting
        .waiting
        .until("membership", "not joined yet", async || {
            let (nats, replica) = (told_by.clone(), options.replica.clone());
            let views = domain.views.iter().map(|view| view.description());
            let views = views.map(|view| (view.name.to_owned(), view.version));
            let me = Member::new(&replica, options.roles.clone()).with_views(views.collect());
            let opening =
                async move { Membership::open_with(nats, me, MembershipOptions::default()).await };
            Ok(starting.on_io(opening).await??)
        })
        .await
}

/// Tells the others that this replica is there, now that it can be reached.
async fn announce(starting: &Starting<'_>, membership: &Membership) -> Result<(), StartError> {
    starting
        .waiting
        .until("membership", "not told of yet", async || {
            let announcing = membership.clone();
            let telling = async move { announcing.announce().await };
            Ok(starting.on_io(telling).await??)
        })
        .await?;
    let decides = starting.options.has(Role::Command);
    let keeping = keep_metrics(membership.clone(), decides);
    starting.io().spawn(keeping);
    Ok(())
}

/// Begins the processes, or leaves them to be begun later.
async fn begin_processes(
    starting: &Starting<'_>,
    log: &EventLog,
    platform: &mut Platform,
) -> Result<(), StartError> {
    let options = starting.options;
    platform.waiting_processes = Some(WaitingProcesses {
        processes: starting.domain.processes.clone(),
        log: log.clone(),
        operators: Operators {
            nats: platform.nats.clone(),
            guard: starting.guard.clone(),
            access: options.access.clone(),
        },
        options: options.processes,
        io: starting.io(),
    });
    if options.processes_later {
        return Ok(());
    }
    starting
        .waiting
        .until("processes", "not begun yet", async || {
            platform.begin_processes().await
        })
        .await
}

/// Begins to serve HTTP at an address: how the replica is, and with the gateway role everything else.
fn serve(
    starting: &Starting<'_>,
    (listener, http): Listening,
    connections: &Connections,
    platform: &Platform,
) -> Result<(ServerHandle, SocketAddr), StartError> {
    let unbound = |source| StartError::unbound(&http, source);
    let address = listener.local_addr().map_err(unbound)?;
    let readiness = readiness(platform);
    let server = if starting.options.has(Role::Gateway) {
        let backends = Backends {
            commands: Arc::new(platform.commands.clone()),
            views: Arc::new(platform.queries().clone()),
            processes: Arc::new(ProcessQueries::new(
                platform.nats.clone(),
                platform.commands.waits().processes().to_vec(),
            )),
            readiness,
            pages: starting.domain.pages.clone(),
            operations: platform.operations.clone(),
        };
        Gateway::serve(listener, &http, connections, backends)
    } else {
        Gateway::serve_operations(listener, &http, connections, readiness)
    };
    let server = server.map_err(unbound)?;
    let handle = server.handle();
    actix::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "gateway ended");
        }
    });
    Ok((handle, address))
}

/// Gathers what operators see and do through this replica.
fn operations(starting: &Starting<'_>, log: EventLog, platform: &Platform) -> Operations {
    let (domain, server) = (starting.domain, &starting.options.server);
    let views = domain.views.iter();
    Operations::new(OperationsOptions {
        nats: platform.nats.clone(),
        log,
        membership: platform.membership.clone(),
        aggregates: domain.aggregates.all_descriptions().cloned().collect(),
        views: views.map(|view| view.description().clone()).collect(),
        processes: domain.processes.clone(),
        instances: ProcessQueries::new(
            platform.nats.clone(),
            platform.commands.waits().processes().to_vec(),
        ),
        append: platform.append.clone(),
        durability: server.durability,
        readiness: readiness(platform),
        runtime: starting.io(),
    })
}

/// Brings the streams to what the files say, once JetStream has a leader.
async fn set_up_topology(
    starting: &Starting<'_>,
    nats: &async_nats::Client,
) -> Result<Vec<Difference>, StartError> {
    starting
        .waiting
        .until("topology", "not set up yet", async || {
            set_up(nats, starting.domain, starting.options).await
        })
        .await
}

/// Begins to tell other replicas what this one remembers.
async fn open_recall(
    starting: &Starting<'_>,
    platform: &Platform,
) -> Result<RunningEndpoint, StartError> {
    let options = starting.options;
    let endpoint = starting
        .waiting
        .until("control", "not subscribed to yet", async || {
            let (nats, operations) = (platform.nats.clone(), platform.operations.clone());
            let (guard, access) = (starting.guard.clone(), options.access.clone());
            let replica = options.replica.clone();
            let opening = async move {
                RecallEndpoint::open(&nats, &replica, operations, guard, access).await
            };
            let opened = starting.on_io(opening).await?;
            opened.map_err(|error| StartError::Queries(error.to_string()))
        })
        .await?;
    let stopping = CancellationToken::new();
    let running = starting.io().spawn(endpoint.run(stopping.clone()));
    Ok((stopping, running))
}

/// Brings the streams to what the files say, and looks whether they are. Returns what is an
/// operator's own.
async fn set_up(
    nats: &async_nats::Client,
    domain: &Domain,
    options: &PlatformOptions,
) -> Result<Vec<Difference>, StartError> {
    let topology = domain.topology().with_api(options.server.api.clone());
    let topology = match options.stream_replicas {
        Some(replicas) => topology.with_replicas(replicas),
        None => topology,
    };
    topology.apply(nats).await?;
    let differences = topology.verify(nats).await?;
    let (wrong, told): (Vec<_>, Vec<_>) = differences.into_iter().partition(Difference::matters);
    if !wrong.is_empty() {
        return Err(StartError::WrongTopology(wrong));
    }
    for difference in &told {
        match difference.forgets() {
            true => tracing::error!(%difference, "the log forgets by itself"),
            false => tracing::warn!(%difference, "left as it is"),
        }
    }
    Ok(told)
}

/// Looks after the metrics as long as the replica's threads live.
async fn keep_metrics(membership: Membership, decides: bool) {
    let members = metrics::gauge!("headwater_members");
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        members.set(membership.watch().borrow().iter().count() as f64);
        if decides {
            membership.tell_load(Some(tally::sample()));
        }
        telemetry::metrics::upkeep();
    }
}
