//! The start of a replica, in the order in which data flows.

use super::{
    Domain, Platform, PlatformOptions, StartError, connect, nats::connect_command_side, query_side,
    readiness::readiness,
};
use crate::{
    command::{
        client::CommandClient, endpoint::CommandEndpoint, placement::Placement,
        threads::CommandThreads,
    },
    config::Role,
    event_log::{AppendMode, EventLog, Timeouts, topology::Topology},
    http::{Backends, Gateway},
    membership::{Membership, MembershipOptions},
    request_reply::ReplyGuard,
    telemetry,
};
use std::{net::TcpListener, sync::Arc, time::Duration};
use tokio::runtime::Handle;

/// Starts the roles, in the order in which data flows.
pub(super) async fn start(
    domain: &Domain,
    options: &PlatformOptions,
    listener: TcpListener,
    io: &Handle,
) -> Result<Platform, StartError> {
    telemetry::metrics::install();
    let guard = ReplyGuard::new(options.inboxes.clone());
    let (servers, name) = (options.nats.clone(), options.replica.clone());
    let nats = io.spawn(async move { connect(&servers, &name).await });
    let nats = joined(nats).await??;
    let topology = Topology::embedded();
    let topology = match options.stream_replicas {
        Some(replicas) => topology.with_replicas(replicas),
        None => topology,
    };
    topology.apply(&nats).await?;
    let log = EventLog::new(nats.clone(), Timeouts::default()).with_secret(options.secret.clone());
    log.check_form().await?;
    let (threads, append) = match options.has(Role::Command) {
        true => {
            log.agree_on_secret().await?;
            let append = options.append.choose(&nats, &options.server).await?;
            (
                Some(command_threads(options, &log, append.mode).await?),
                Some(append),
            )
        }
        false => (None, None),
    };
    let membership = {
        // By the connection that commands come by: a replica that they cannot reach falls silent.
        let told_by = threads.as_ref().map_or(&nats, CommandThreads::connection);
        let (nats, replica) = (told_by.clone(), options.replica.clone());
        let roles = options.roles.clone();
        let opening = async move {
            Membership::open(nats, &replica, roles, MembershipOptions::default()).await
        };
        joined(io.spawn(opening)).await??
    };

    let placement = Placement::new(nats.clone(), membership.clone());
    let (aggregates, sized) = (&domain.aggregates, options.command);
    let (commands, command_endpoint) = if let Some(threads) = threads {
        let commands = CommandClient::start(aggregates, threads, sized, Some(placement.clone()));
        let client = commands.clone();
        let guard = guard.clone();
        let opening = async move { CommandEndpoint::open(client, &placement, &guard).await };
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
        append,
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
        query_side::start(domain, options, &log, io, &guard, &mut platform).await?;
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

/// The threads of the command side, each with a connection of its own.
async fn command_threads(
    options: &PlatformOptions,
    log: &EventLog,
    append: AppendMode,
) -> Result<CommandThreads, StartError> {
    let open = |first: Option<EventLog>| {
        let (servers, name) = (options.nats.clone(), options.replica.clone());
        let log = log.clone();
        async move {
            let nats = connect_command_side(&servers, &name).await?;
            Ok(match first {
                None => log.over(nats).with_append_mode(append),
                Some(first) => first.over(nats),
            })
        }
    };
    CommandThreads::opening(options.command.threads, open).await
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

pub(super) async fn joined<T>(task: tokio::task::JoinHandle<T>) -> Result<T, StartError> {
    task.await
        .map_err(|error| StartError::Runtime(std::io::Error::other(error)))
}
