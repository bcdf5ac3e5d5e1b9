//! The server beneath the gateway: its workers, the time-outs of requests, and the places of
//! connections.

use super::{
    Options,
    connections::{ClientStream, Connections, LEAVING, SPARE, Transport, refuse},
    cors::Origins,
};
use actix_http::{HttpService, Protocol, Request, error::DispatchError};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, map_config};
use actix_web::{
    Error,
    body::BoxBody,
    dev::{AppConfig, Extensions, Server, ServiceResponse, fn_service},
    rt::net::TcpStream,
};
use std::{fmt, io, net::TcpListener};

/// Serves what `factory` makes, once for each worker.
pub(super) fn run<F, I, S>(
    listener: TcpListener,
    options: &Options,
    connections: &Connections,
    factory: F,
) -> io::Result<Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<
            Request,
            Config = AppConfig,
            Response = ServiceResponse<BoxBody>,
            Error = Error,
        > + 'static,
    S::InitError: fmt::Debug,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
{
    let workers = options.workers.max(1);
    // Those that are beyond it wait in the backlog until others are gone.
    let most = options.max_connections + SPARE + LEAVING;
    let builder = Server::build()
        .workers(workers)
        .max_concurrent_connections(most.div_ceil(workers))
        .shutdown_timeout(options.shutdown_timeout.as_secs())
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let (options, connections) = (options.clone(), connections.clone());
    let server = builder.listen("http", listener, move || {
        let stopping = stopping.clone();
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(options.keep_alive)
            .client_request_timeout(options.head_timeout)
            .client_disconnect_timeout(options.disconnect_timeout)
            // Who has closed its side has gone: what it asked for is given up.
            .h1_allow_half_closed(false)
            .on_connect_ext(|stream: &ClientStream, data: &mut Extensions| {
                data.insert(stream.connection());
            })
            .finish(map_config(factory().into_factory(), |()| {
                AppConfig::default()
            }));
        let (connections, patience) = (connections.clone(), options.write_timeout);
        let origins = Origins::new(&options.allowed_origins);
        let (tls, handshake) = (options.tls.clone(), options.head_timeout);
        fn_service(move |stream: TcpStream| {
            let peer = stream.peer_addr().ok();
            let place = connections.admit(peer.map(|peer| peer.ip()));
            let (origins, tls) = (origins.clone(), tls.clone());
            async move {
                let place = match place {
                    Ok(place) => place,
                    // Without a handshake no word can be said.
                    Err(_) if tls.is_some() => return Err(DispatchError::DisconnectTimeout),
                    Err(problem) => {
                        refuse(stream, &origins, &problem).await;
                        return Err(DispatchError::DisconnectTimeout);
                    }
                };
                let stream = Transport::accept(stream, tls.as_ref(), handshake).await;
                let stream = stream.map_err(DispatchError::Io)?;
                let stream = ClientStream::new(stream, place, patience, origins);
                Ok((stream, Protocol::Http1, peer))
            }
        })
        .and_then(http)
    })?;
    Ok(server.run())
}
