//! The start of a replica, in the order in which data flows.

use super::{
    Domain, Platform, PlatformOptions, StartError, WaitingProcesses,
    early::EarlyGateway,
    io::IoThreads,
    nats::{connect_command_side, connect_replica},
    query_side,
    readiness::readiness,
    waiting::Waiting,
};
use crate::{
    command::{
        client::CommandClient, endpoint::CommandEndpoint, placement::Placement, tally,
        threads::CommandThreads,
    },
    config::Role,
    event_log::{
        AppendMode, ChosenAppend, EventLog, Timeouts,
        health::{LogHealth, Monitor},
        topology::Difference,
    },
    http::{self, Backends, Connections, Gateway},
    membership::{Member, Membership, MembershipOptions},
    ops::{Operations, OperationsOptions},
    processes::{Operators, ProcessQueries},
    request_reply::ReplyGuard,
    telemetry,
};
use actix_web::dev::ServerHandle;
use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};
use tokio::runtime::Handle;

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
    let io = &io_threads.handle();
    if let Some((process, aggregate)) = domain.missing() {
        return Err(StartError::Process { process, aggregate });
    }
    telemetry::metrics::install();
    let guard = ReplyGuard::new(options.inboxes.clone());
    let waiting = Waiting::new(options.patience);
    io.spawn(options.access.clone().keep());
    if let Some(tls) = &options.http.tls {
        io.spawn(tls.clone().keep());
    }
    let early = |(listener, http): &Listening| EarlyGateway::start(listener, http, &waiting);
    let early_gateways = std::iter::once(&callers).chain(&operators).map(early);
    let early_gateways = early_gateways.collect::<Result<Vec<_>, _>>()?;
    let health = LogHealth::default();
    let nats = waiting
        .until("nats", "not connected yet", async || {
            let (servers, name) = (options.nats.clone(), options.replica.clone());
            let health = health.clone();
            joined(io.spawn(async move { connect_replica(&servers, &name, &health).await })).await?
        })
        .await?;
    let told = waiting
        .until("topology", "not set up yet", async || {
            set_up(&nats, domain, options).await
        })
        .await?;
    let log = EventLog::new(nats.clone(), Timeouts::default())
        .with_api(options.server.api.clone())
        .with_health(health.clone())
        .with_secret(options.secret.clone());
    waiting
        .until("log", "cannot be read yet", async || {
            Ok(log.check_form().await?)
        })
        .await?;
    let (threads, append) = match options.has(Role::Command) {
        true => {
            let (threads, append) = waiting
                .until("nats", "not connected yet", async || {
                    command_side(&log, options).await
                })
                .await?;
            (Some(threads), Some(append))
        }
        false => (None, None),
    };
    let membership = waiting
        .until("membership", "not joined yet", async || {
            // By the connection that commands come by: a replica that they cannot reach falls silent.
            let told_by = threads.as_ref().map_or(&nats, CommandThreads::connection);
            let (nats, replica) = (told_by.clone(), options.replica.clone());
            let views = domain.views.iter().map(|view| view.description());
            let views = views.map(|view| (view.name.to_owned(), view.version));
            let me = Member::new(&replica, options.roles.clone()).with_views(views.collect());
            let opening =
                async move { Membership::open_with(nats, me, MembershipOptions::default()).await };
            Ok(joined(io.spawn(opening)).await??)
        })
        .await?;

    let placement = Placement::new(nats.clone(), membership.clone());
    let (aggregates, sized) = (&domain.aggregates, options.command);
    let (commands, command_endpoint) = if let Some(threads) = threads {
        let commands = CommandClient::start(aggregates, threads, sized, Some(placement.clone()));
        let endpoint = waiting
            .until("commands", "not subscribed to yet", async || {
                let (client, placement) = (commands.clone(), placement.clone());
                let (guard, access) = (guard.clone(), options.access.clone());
                let opening =
                    async move { CommandEndpoint::open(client, &placement, &guard, &access).await };
                Ok(joined(io.spawn(opening)).await??)
            })
            .await?;
        (commands, Some(endpoint))
    } else {
        (CommandClient::remote(aggregates, sized, placement), None)
    };
    waiting
        .until("membership", "not told of yet", async || {
            let announcing = membership.clone();
            Ok(joined(io.spawn(async move { announcing.announce().await })).await??)
        })
        .await?;
    io.spawn(keep_metrics(membership.clone(), options.has(Role::Command)));

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
        query_side::start(
            domain,
            options,
            &log,
            io_threads,
            &guard,
            &waiting,
            &mut platform,
        )
        .await?;
    }
    if options.has(Role::Process) && !domain.processes.is_empty() {
        platform.waiting_processes = Some(WaitingProcesses {
            processes: domain.processes.clone(),
            log: log.clone(),
            operators: Operators {
                nats: platform.nats.clone(),
                guard: guard.clone(),
                access: options.access.clone(),
            },
            options: options.processes,
            io: io.clone(),
        });
        if !options.processes_later {
            waiting
                .until("processes", "not begun yet", async || {
                    platform.begin_processes().await
                })
                .await?;
        }
    }
    let monitor = Monitor::new(log.clone(), connections(&platform));
    io.spawn(monitor.run());
    if options.has(Role::Gateway) {
        platform.operations = Some(operations(domain, options, log, &platform, io));
    }
    platform.gateway = Some(serve(
        callers,
        &platform.connections,
        &platform,
        domain,
        options,
    )?);
    platform.operators = match operators {
        Some(listening) => {
            let connections = Connections::new(listening.1.max_connections);
            Some(serve(listening, &connections, &platform, domain, options)?)
        }
        None => None,
    };
    for early in early_gateways {
        early.hand_over().await;
    }
    Ok(platform)
}

/// Begins to serve HTTP at an address: how the replica is, and with the gateway role everything else.
fn serve(
    (listener, http): Listening,
    connections: &Connections,
    platform: &Platform,
    domain: &Domain,
    options: &PlatformOptions,
) -> Result<(ServerHandle, SocketAddr), StartError> {
    let unbound = |source| StartError::unbound(&http, source);
    let address = listener.local_addr().map_err(unbound)?;
    let readiness = readiness(platform);
    let server = if options.has(Role::Gateway) {
        let backends = Backends {
            commands: Arc::new(platform.commands.clone()),
            views: Arc::new(platform.queries().clone()),
            processes: Arc::new(ProcessQueries::new(
                platform.nats.clone(),
                platform.commands.waits().processes().to_vec(),
            )),
            readiness,
            pages: domain.pages.clone(),
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

/// What operators see and do through this replica.
fn operations(
    domain: &Domain,
    options: &PlatformOptions,
    log: EventLog,
    platform: &Platform,
    io: &Handle,
) -> Operations {
    let views = domain.views.iter();
    Operations::new(OperationsOptions {
        nats: platform.nats.clone(),
        log,
        membership: platform.membership.clone(),
        aggregates: domain.aggregates.all_descriptions().cloned().collect(),
        views: views.map(|view| view.description().clone()).collect(),
        processes: domain.processes.clone(),
        append: platform.append.clone(),
        durability: options.server.durability,
        readiness: readiness(platform),
        runtime: io.clone(),
    })
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

/// All connections of a replica.
pub(super) fn connections(platform: &Platform) -> Vec<async_nats::Client> {
    std::iter::once(&platform.nats)
        .chain(platform.commands.connections())
        .cloned()
        .collect()
}

async fn command_side(
    log: &EventLog,
    options: &PlatformOptions,
) -> Result<(CommandThreads, ChosenAppend), StartError> {
    log.agree_on_secret().await?;
    let append = options.append.choose(log.client(), &options.server).await?;
    let threads = command_threads(options, log, append.mode).await?;
    Ok((threads, append))
}

/// The threads of the command side, each with a connection of its own.
async fn command_threads(
    options: &PlatformOptions,
    log: &EventLog,
    append: AppendMode,
) -> Result<CommandThreads, StartError> {
    let open = |first: Option<EventLog>| {
        let (servers, name) = (options.nats.clone(), options.replica.clone());
        let log = log.clone();
        let health = log.health().clone();
        async move {
            let nats = connect_command_side(&servers, &name, &health).await?;
            Ok(match first {
                None => log.over(nats).with_append_mode(append),
                Some(first) => first.over(nats),
            })
        }
    };
    CommandThreads::opening(options.command.threads, open).await
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

pub(super) async fn joined<T>(task: tokio::task::JoinHandle<T>) -> Result<T, StartError> {
    task.await
        .map_err(|error| StartError::Runtime(std::io::Error::other(error)))
}
