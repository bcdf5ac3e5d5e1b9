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
mod refusal;
mod server;
mod trace;
mod views;

#[cfg(test)]
mod fakes;
#[cfg(test)]
mod tests;

pub use backend::{Backends, Commands, Readiness, ReadinessCheck, ReadinessProbe, Views};
pub use connections::Connections;
pub use cors::Origin;
pub use openapi::describe;

use crate::access::Access;
use actix_web::{
    App, HttpServer, Resource,
    dev::{Server, ServiceRequest},
    guard,
    http::{ConnectionType, Method},
    middleware::Condition,
    web::{self, Data, ServiceConfig},
};
use boundary::Refuses;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};
use tokio::net::TcpSocket;

/// Connections held open at once while a replica starts: probes, mostly.
const EARLY_CONNECTIONS: usize = 256;

/// Connections held open at once, unless it is said otherwise.
pub const MAX_CONNECTIONS: usize = 12_000;

/// How the gateway listens, and what it bounds.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen. Port 0 takes a free one, which the listener then has.
    pub address: SocketAddr,
    /// Threads that serve connections. Two do: the work is elsewhere, a worker parses and waits.
    pub workers: usize,
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
    /// How often such a client hears that its connection stands.
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
            workers: 2,
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
        let direct = Some(Data::clone(&site));
        serve(listener, options, connections, direct, move |config| {
            routes(config, &site);
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
        serve(listener, options, connections, None, move |config| {
            config.app_data(readiness.clone());
            config.app_data(access.clone());
            operations(config);
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
        let server = HttpServer::new(move || {
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
                .service(readable("/healthz").to(health::alive))
                .service(readable("/readyz").to(health::ready))
                .service(readable("/metrics").to(metrics::serve))
                .default_service(web::to(refusal::starting))
        })
        .workers(1)
        .max_connections(EARLY_CONNECTIONS.min(options.max_connections))
        .client_request_timeout(options.head_timeout)
        .client_disconnect_timeout(options.disconnect_timeout)
        .shutdown_timeout(options.head_timeout.as_secs())
        .disable_signals()
        .listen(listener)?;
        Ok(server.run())
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

/// What all workers share: the back ends, and the pages, which are made once.
struct Site {
    backends: Backends,
    access: Access,
    body_timeout: Duration,
    /// The number of clients that follow documents live.
    live: Arc<AtomicUsize>,
    max_live: usize,
    live_heartbeat: Duration,
    openapi: conditional::Page,
    index: index::Index,
}

impl Site {
    fn new(backends: Backends, options: &Options) -> Data<Self> {
        let aggregates = backends.commands.aggregates();
        let views = backends.views.views();
        let openapi = openapi::describe(aggregates, views, &options.access).to_string();
        Data::from(Arc::new(Self {
            openapi: conditional::Page::new("application/json", openapi),
            index: index::Index::new(aggregates, views),
            backends,
            access: options.access.clone(),
            body_timeout: options.body_timeout,
            live: Arc::default(),
            max_live: options
                .max_live
                .min(options.max_connections - options.max_connections / 8),
            live_heartbeat: options.live_heartbeat,
        }))
    }
}

/// The paths. An id is matched even when it is empty, so that the answer can say what is wrong
/// with it; it is read from the undecoded path (see [`input`]). Reading a document and giving a command
/// is not among what gets here: see [`direct`].
fn routes(config: &mut ServiceConfig, site: &Data<Site>) {
    // The router tries one after the other: what is asked most stands first.
    config
        .app_data(site.clone())
        .service(readable("/views/{view}").to(views::list))
        .service(document_or_live())
        .service(
            web::resource("/commands/{aggregate}/{id:[^/]*}/{command}")
                .default_service(web::to(|| refusal::method_not_allowed("POST"))),
        )
        .service(followable("/views/{view}/{id:[^/]*}/live").to(live::document))
        .service(readable("/openapi.json").to(openapi::serve))
        .service(readable("/docs").to(docs::redirect))
        .service(readable("/docs/{file:.*}").to(docs::serve))
        .service(readable("/").to(index::serve))
        .app_data(Data::new(site.backends.readiness.clone()))
        .app_data(Data::new(site.access.clone()));
    operations(config);
}

/// Returns what is asked of a document beside reading it, or where its id would stand, of `live`: one pattern
/// instead of two to try.
fn document_or_live() -> Resource {
    let live = || {
        guard::fn_guard(|context| {
            let last = context.head().uri.path().rsplit('/').next();
            last.is_some_and(direct::is_live)
        })
    };
    web::resource("/views/{view}/{id:[^/]*}")
        .route(web::get().guard(live()).to(live::list))
        .route(
            web::route()
                .guard(live())
                .to(|| refusal::method_not_allowed("GET")),
        )
        .default_service(web::to(|| refusal::method_not_allowed("GET, HEAD")))
}

/// How the replica is and what it measures.
fn operations(config: &mut ServiceConfig) {
    config
        .service(readable("/healthz").to(health::alive))
        .service(readable("/readyz").to(health::ready))
        .service(readable("/metrics").to(metrics::serve))
        .default_service(web::to(refusal::no_such_path));
}

/// A resource that is read: `GET` and `HEAD`, and nothing else.
struct Readable(Resource, bool);

fn readable(path: &str) -> Readable {
    let resource = web::resource(path);
    Readable(
        resource.default_service(web::to(|| refusal::method_not_allowed("GET, HEAD"))),
        true,
    )
}

/// A resource that goes on and on: `GET`, and nothing else.
fn followable(path: &str) -> Readable {
    let resource = web::resource(path);
    Readable(
        resource.default_service(web::to(|| refusal::method_not_allowed("GET"))),
        false,
    )
}

impl Readable {
    fn to<F, Args>(self, handler: F) -> Resource
    where
        F: actix_web::Handler<Args>,
        Args: actix_web::FromRequest + 'static,
        F::Output: actix_web::Responder + 'static,
    {
        let Self(resource, head) = self;
        let read = guard::fn_guard(move |context| match context.head().method {
            Method::GET => true,
            Method::HEAD => head,
            _ => false,
        });
        resource.route(web::route().guard(read).to(handler))
    }
}
