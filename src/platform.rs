//! The composition root: the only place that wires the parts of a replica together.
//!
//! [`Domain`] says what a program consists of, [`PlatformOptions`] where and as what it runs, and
//! [`Platform`] is the running replica. Parts are started in the order in which data flows and
//! stopped from the outside in, so that nothing is taken that cannot be finished.

mod command_side;
mod domain;
mod early;
mod error;
mod io;
mod nats;
mod open_files;
mod options;
mod query_side;
mod readiness;
mod start;
mod starting;
mod waiting;

pub use domain::Domain;
pub use error::StartError;
pub use nats::{NatsAddress, NatsTls, SignIn, connect, nats_servers, shown};
pub use options::PlatformOptions;
pub use waiting::Patience;

use crate::{
    command::{client::CommandClient, endpoint::CommandEndpoint},
    connection,
    event_log::{
        ChosenAppend, EventLog, health::LogHealth, identity::LogError, topology::Difference,
    },
    http::{self, Connections, Gateway},
    membership::Membership,
    ops::Operations,
    processes::{Operators, ProcessOptions, Processes, RegisteredProcess},
    projection::ViewHandle,
    read_model::ReadModel,
};
use actix::Arbiter;
use actix_web::dev::ServerHandle;
use io::IoThreads;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tokio_util::sync::CancellationToken;

/// A task that takes requests from NATS, until it is told to stop.
type RunningEndpoint = (CancellationToken, tokio::task::JoinHandle<()>);

/// A running replica.
pub struct Platform {
    _io: Option<IoThreads>,
    nats: async_nats::Client,
    append: Option<ChosenAppend>,
    told: Vec<Difference>,
    health: LogHealth,
    membership: Membership,
    commands: CommandClient,
    command_endpoint: Option<CommandEndpoint>,
    projectors: Vec<ViewHandle>,
    control: Option<RunningEndpoint>,
    recall: Option<RunningEndpoint>,
    projector_arbiter: Option<Arbiter>,
    queries: Option<ReadModel>,
    query_endpoint: Option<RunningEndpoint>,
    processes: Option<Processes>,
    waiting_processes: Option<WaitingProcesses>,
    operations: Option<Operations>,
    gateway: Option<(ServerHandle, SocketAddr)>,
    operators: Option<(ServerHandle, SocketAddr)>,
    connections: Connections,
    draining: Arc<AtomicBool>,
}

/// Processes that have not begun.
struct WaitingProcesses {
    processes: Vec<RegisteredProcess>,
    log: EventLog,
    operators: Operators,
    options: ProcessOptions,
    io: tokio::runtime::Handle,
}

impl Platform {
    /// Takes the HTTP address, connects, brings the streams to what the files say, and starts the
    /// roles. From the moment that the address is taken, `/healthz` and `/readyz` are answered there;
    /// what is not there yet is waited for, as [`PlatformOptions::patience`] says.
    ///
    /// It must be called on an actix system; see [`crate::run`].
    ///
    /// # Errors
    ///
    /// Returns [`StartError`]; what had been started is dropped then.
    pub async fn start(domain: Domain, mut options: PlatformOptions) -> Result<Self, StartError> {
        options.http.max_connections = open_files::connections_within(options.http.max_connections);
        options.http.access = options.access.clone();
        let listen = |http: http::Options| {
            let listener = Gateway::listen(&http);
            let listener = listener.map_err(|source| StartError::unbound(&http, source))?;
            Ok::<_, StartError>((listener, http))
        };
        let callers = listen(options.http.for_callers())?;
        let operators = options.http.for_operators().map(listen).transpose()?;
        let io = IoThreads::start(&options.store)?;
        let started = start::start(&domain, &options, callers, operators, &io).await?;
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

    /// Returns how appends reach the log, and why so; `None` without the command role.
    #[must_use]
    pub fn append(&self) -> Option<&ChosenAppend> {
        self.append.as_ref()
    }

    /// The settings of the streams that are an operator's own, or a newer program's.
    #[must_use]
    pub fn topology_differences(&self) -> &[Difference] {
        &self.told
    }

    /// Returns what is wrong with the log, if anything is.
    #[must_use]
    pub fn log_health(&self) -> &LogHealth {
        &self.health
    }

    /// Returns who is there, and which replica is the home of what.
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

    /// Returns where HTTP is served: the whole surface with the gateway role, otherwise only how the replica
    /// is and what it measures.
    #[must_use]
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.gateway.as_ref().map(|(_, address)| *address)
    }

    /// Returns where operators are served, if that is at an address of its own.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.operators.as_ref().map(|(_, address)| *address)
    }

    /// Waits until every view has read the log to its end once.
    pub async fn wait_caught_up(&self) {
        for projector in &self.projectors {
            // An error means that the projector is gone; there is nothing to wait for.
            let _ = projector.watch().wait_for(|status| status.ready).await;
        }
    }

    /// Begins the processes, where [`PlatformOptions::processes_later`] has left it to this. A process that
    /// the log does not know yet follows what comes from now on.
    ///
    /// # Errors
    ///
    /// Returns [`StartError`] when the log does not answer; it can be called again then.
    pub async fn begin_processes(&mut self) -> Result<(), StartError> {
        let Some(waiting) = &self.waiting_processes else {
            return Ok(());
        };
        for process in &waiting.processes {
            let begun = waiting.log.beginning_of(process.name).await;
            begun.map_err(LogError::Unreadable)?;
        }
        self.processes = Some(Processes::start(
            &waiting.processes,
            &waiting.log,
            &self.commands,
            &self.membership,
            &waiting.operators,
            waiting.options,
            &waiting.io,
        ));
        self.waiting_processes = None;
        Ok(())
    }

    /// Its connections to NATS: its own, and one of each thread that decides.
    fn all_connections(&self) -> Vec<async_nats::Client> {
        std::iter::once(&self.nats)
            .chain(self.commands.connections())
            .cloned()
            .collect()
    }

    /// Says in `/readyz` that the replica is about to stop, and tells each client with its next answer to
    /// connect anew. Everything is still served, so that nobody who has not heard it yet is refused.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
        self.connections.drain();
    }

    /// Leaves, stops taking, finishes what is in flight, acknowledges, and lets go of everything.
    pub async fn stop(mut self) {
        self.membership.leave().await;
        self.commands.waits().stop();
        if let Some(queries) = &self.queries {
            queries.stop_waiting();
        }
        if let Some(operations) = &self.operations {
            operations.stop();
        }
        if let Some(processes) = self.processes.take() {
            processes.stop().await;
        }
        // What still comes to this replica finds its way to others, or is finished here.
        let gateway = self.gateway.take();
        let operators = self.operators.take();
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
        let endpoints = [
            self.query_endpoint.take(),
            self.control.take(),
            self.recall.take(),
        ];
        for (stopping, running) in endpoints.into_iter().flatten() {
            stopping.cancel();
            let _ = running.await;
        }
        self.commands.stop().await;
        futures::future::join_all(self.projectors.iter().map(ViewHandle::stop)).await;
        if let Some(arbiter) = self.projector_arbiter.take() {
            arbiter.stop();
        }
        // To the end it can be seen how the replica is.
        if let Some((operators, _)) = operators {
            operators.stop(true).await;
        }
        self.membership.stop();
        let _ = connection::flush(&self.nats).await;
        let io = self._io.take();
        drop(self);
        if let Some(io) = io {
            io.settle().await;
        }
    }
}
