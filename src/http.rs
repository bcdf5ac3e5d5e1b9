//! The HTTP surface: commands in, documents out, and the pages that explain both.
//!
//! It owns paths, status codes, header names and the OpenAPI description, and nothing else: what a
//! command means is the command side's, what a query means is the read model's. It reaches them
//! through [`Commands`] and [`Views`], so it can stand in another process than either. Every refusal
//! that leaves it is a [`Problem`](crate::problem::Problem), whoever refused, and every input is
//! checked before it can become part of a subject.
//!
//! What is no HTTP at all, such as bytes outside of ASCII in a request line, is refused by the server's
//! parser and never gets to a handler; [`connections`] gives that refusal its words.

mod asyncapi;
mod backend;
mod boundary;
mod commands;
mod compression;
mod conditional;
mod connections;
mod cors;
mod direct;
mod docs;
mod health;
mod index;
mod input;
mod live;
mod meters;
mod metrics;
mod openapi;
mod ops;
mod pages;
mod processes;
mod refusal;
mod routes;
mod server;
mod tls;
mod trace;
mod views;

#[cfg(test)]
mod fakes;
#[cfg(test)]
mod tests;

pub use backend::{
    Backends, Commands, Processes, Readiness, ReadinessCheck, ReadinessProbe, Views,
};
pub use connections::Connections;
pub use cors::Origin;
pub use openapi::describe;
pub(crate) use pages::check as check_pages;
pub use routes::Surface;
pub use tls::Tls;

use crate::{
    access::{Access, Identified},
    problem::Problem,
};
use actix_web::{
    App, HttpRequest,
    dev::{Server, ServiceRequest},
    http::ConnectionType,
    middleware::Condition,
    web::{Data, ServiceConfig},
};
use boundary::Refuses;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    num::NonZeroU32,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};
use tokio::{net::TcpSocket, sync::Semaphore};

/// Connections held open at once while a replica starts: probes, mostly.
const EARLY_CONNECTIONS: usize = 256;

/// Connections of operators held open at once, where they have an address of their own.
const MAX_OPERATORS: usize = 256;

/// Lists of commands that are read or decided at once: each may have a mebibyte.
const MAX_LISTS: usize = 256;

/// Connections held open at once, unless it is said otherwise.
pub const MAX_CONNECTIONS: usize = 12_000;

/// The address and the bounds of the gateway.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address to listen at. Port 0 takes a free one, which the listener then has.
    pub address: SocketAddr,
    /// An address for operators alone; they are served with the callers unless given.
    pub admin: Option<SocketAddr>,
    /// The people who are served.
    pub surface: Surface,
    /// Threads that serve connections. Two do: the work is elsewhere, a worker parses and waits.
    pub workers: usize,
    /// The certificate that is shown; no TLS without one.
    pub tls: Option<Tls>,
    /// Connections of one address held open at once; as many as there may be with `None`.
    pub max_connections_per_address: Option<NonZeroU32>,
    /// Connections held open at once, over all workers. Where all are in use, further ones are refused.
    pub max_connections: usize,
    /// Connections that the kernel holds while none of ours is free.
    pub backlog: u32,
    /// The time a client may take to send the head of a request.
    pub head_timeout: Duration,
    /// The time a client may take to send the body, all of it.
    pub body_timeout: Duration,
    /// The time a client may take nothing of an answer.
    pub write_timeout: Duration,
    /// The time a connection may idle. Longer than the 60 s after which common load balancers
    /// close theirs, so that it is never this side that closes under a request.
    pub keep_alive: Duration,
    /// The time a connection that is being closed may take to go.
    pub disconnect_timeout: Duration,
    /// The time requests in flight may take once the server is stopped gracefully.
    pub shutdown_timeout: Duration,
    /// The number of clients that may follow documents live at once. Each holds a connection.
    pub max_live: usize,
    /// The pause between two signs of life to such a client.
    pub live_heartbeat: Duration,
    /// The origins whose pages may use the gateway.
    pub allowed_origins: Vec<Origin>,
    /// Finds out who asks, and what they may.
    pub access: Access,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            admin: None,
            surface: Surface::Everyone,
            workers: 2,
            tls: None,
            max_connections_per_address: None,
            // Beside as many live clients as there may be, room for those that come and go.
            max_connections: MAX_CONNECTIONS,
            backlog: 1_024,
            head_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            disconnect_timeout: Duration::from_secs(2),
            shutdown_timeout: Duration::from_secs(10),
            max_live: 10_000,
            live_heartbeat: Duration::from_secs(15),
            allowed_origins: Vec::new(),
            access: Access::open(),
        }
    }
}

impl Options {
    /// Returns the beginning of its addresses.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match self.tls {
            Some(_) => "https",
            None => "http",
        }
    }

    /// The service of callers: without what is for operators, where those have an address of their own.
    #[must_use]
    pub fn for_callers(&self) -> Self {
        Self {
            surface: self.admin.map_or(self.surface, |_| Surface::Callers),
            ..self.clone()
        }
    }

    /// The service of operators, where they have an address of their own.
    #[must_use]
    pub fn for_operators(&self) -> Option<Self> {
        Some(Self {
            address: self.admin?,
            surface: Surface::Operators,
            max_connections: MAX_OPERATORS.min(self.max_connections),
            ..self.clone()
        })
    }
}

/// The HTTP server of a replica.
#[derive(Debug)]
pub struct Gateway;

impl Gateway {
    /// Takes the address, so that a replica that cannot have it finds out before it begins anything.
    /// Clients wait in the backlog until [`Gateway::serve`].
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system when the address cannot be bound.
    pub fn listen(options: &Options) -> io::Result<TcpListener> {
        let socket = match options.address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A restart need not wait for the connections of the process before it.
        socket.set_reuseaddr(true)?;
        socket.bind(options.address)?;
        socket.listen(options.backlog)?.into_std()
    }

    /// Returns the server, which serves while it is awaited. It leaves signals alone; stop it by its
    /// handle.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system when the listener cannot be used.
    pub fn serve(
        listener: TcpListener,
        options: &Options,
        connections: &Connections,
        backends: Backends,
    ) -> io::Result<Server> {
        let site = Site::new(backends, options);
        let direct = options.surface.has_callers().then(|| Data::clone(&site));
        serve(listener, options, connections, direct, move |config| {
            routes::all(config, &site);
        })
    }

    /// As [`Gateway::serve`], for a replica without the gateway role: only how it is and what it
    /// measures.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system when the listener cannot be used.
    pub fn serve_operations(
        listener: TcpListener,
        options: &Options,
        connections: &Connections,
        readiness: ReadinessProbe,
    ) -> io::Result<Server> {
        let readiness = Data::new(readiness);
        let access = Data::new(options.access.clone());
        let surface = options.surface;
        serve(listener, options, connections, None, move |config| {
            config.app_data(readiness.clone());
            config.app_data(access.clone());
            routes::operations(config, surface);
        })
    }
}

impl Gateway {
    /// As [`Gateway::serve_operations`], for a replica that is starting: what it will have is
    /// unavailable yet. Each connection is closed after its answer, so that none outlives the start.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system when the listener cannot be used.
    pub fn serve_early(
        listener: TcpListener,
        options: &Options,
        readiness: ReadinessProbe,
    ) -> io::Result<Server> {
        let readiness = Data::new(readiness);
        let access = Data::new(options.access.clone());
        let origins = options.allowed_origins.clone();
        let surface = options.surface;
        let early = Self::early_options(options);
        let connections = Connections::new(early.max_connections);
        server::run(listener, &early, &connections, move || {
            let closing = |request: ServiceRequest, service: &_| {
                let answered = boundary::guard(request, service, None, Refuses::Within);
                async move {
                    let mut response = answered.await?;
                    response
                        .response_mut()
                        .head_mut()
                        .set_connection_type(ConnectionType::Close);
                    Ok(response)
                }
            };
            let policy = Condition::new(!origins.is_empty(), cors::policy(&origins));
            App::new()
                .wrap_fn(cors::refuse)
                .wrap(policy)
                .wrap_fn(closing)
                .app_data(readiness.clone())
                .app_data(access.clone())
                .configure(|config| routes::early(config, surface))
        })
    }

    /// Returns the options under which it is served meanwhile: probes, mostly, and nothing that takes long.
    fn early_options(options: &Options) -> Options {
        Options {
            workers: 1,
            max_connections: EARLY_CONNECTIONS.min(options.max_connections),
            shutdown_timeout: options.head_timeout,
            ..options.clone()
        }
    }
}

fn serve(
    listener: TcpListener,
    options: &Options,
    connections: &Connections,
    site: Option<Data<Site>>,
    configure: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
) -> io::Result<Server> {
    let origins = options.allowed_origins.clone();
    if origins.is_empty() {
        return server::run(listener, options, connections, move || {
            let site = site.clone();
            App::new()
                .wrap_fn(move |request, service| {
                    boundary::guard(request, service, site.as_ref(), Refuses::Here)
                })
                .configure(configure.clone())
        });
    }
    // With pages of other origins every answer passes what adds their headers, the direct ones too.
    server::run(listener, options, connections, move || {
        let site = site.clone();
        App::new()
            .wrap_fn(move |request, service| direct::first(request, service, site.as_ref()))
            .wrap_fn(cors::refuse)
            .wrap(cors::policy(&origins))
            .wrap_fn(cors::explain)
            .wrap_fn(|request, service| boundary::guard(request, service, None, Refuses::Within))
            .configure(configure.clone())
    })
}

/// State that all workers share: the back ends, and the pages, which are made once.
struct Site {
    backends: Backends,
    access: Access,
    surface: Surface,
    body_timeout: Duration,
    /// The number of clients that follow documents live.
    live: Arc<AtomicUsize>,
    /// Places for lists of commands.
    lists: Semaphore,
    max_live: usize,
    live_heartbeat: Duration,
    openapi: conditional::Page,
    asyncapi: conditional::Page,
    index: index::Index,
    pages: pages::Hosted,
}

impl Site {
    fn new(backends: Backends, options: &Options) -> Data<Self> {
        let aggregates = backends.commands.aggregates();
        let views = backends.views.views();
        let processes = backends.processes.names();
        let mut openapi = openapi::describe(aggregates, views, processes, &options.access);
        let asyncapi = asyncapi::describe(&openapi, aggregates, views).to_string();
        options.surface.leave_out(&mut openapi);
        let openapi = openapi.to_string();
        Data::from(Arc::new(Self {
            openapi: conditional::Page::new("application/json", openapi),
            asyncapi: conditional::Page::new("application/json", asyncapi),
            index: index::Index::new(
                (aggregates, views),
                &backends.pages,
                options.surface.has_operators(),
            ),
            pages: pages::Hosted::new(&backends.pages),
            backends,
            access: options.access.clone(),
            surface: options.surface,
            body_timeout: options.body_timeout,
            live: Arc::default(),
            lists: Semaphore::new(MAX_LISTS),
            max_live: options
                .max_live
                .min(options.max_connections - options.max_connections / 8),
            live_heartbeat: options.live_heartbeat,
        }))
    }

    /// Finds out who asks, and whether it is not too much.
    async fn identified(&self, request: &HttpRequest) -> Result<Identified, Problem> {
        let from = input::address(request);
        self.access.identified(request.headers(), from).await
    }
}
