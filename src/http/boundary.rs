//! The boundary that every request passes on its way in and out: the bound on its length, the headers that every
//! response has, and the one line that the log has of it.

use super::{
    Site,
    connections::{Connection, Occupied, too_many},
    direct::Direct,
    meters, refusal, trace,
};
use crate::problem::Problem;
use actix_web::{
    Error, HttpMessage,
    body::{BoxBody, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse},
    http::{
        ConnectionType, StatusCode,
        header::{
            CONTENT_SECURITY_POLICY, CONTENT_TYPE, CROSS_ORIGIN_OPENER_POLICY,
            CROSS_ORIGIN_RESOURCE_POLICY, HeaderMap, HeaderValue, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    web::Data,
};
use std::{future::Future, sync::Arc, time::Instant};

/// The longest path and query, in bytes: room for every parameter of a list at its longest.
pub(super) const MAX_URI: usize = 8 * 1024;

/// Refusals before a request is looked at, for who answers behind the policy for pages of other origins.
pub(super) struct Refused(pub(super) Problem);

/// The part that says what is refused before it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refuses {
    /// The guard itself.
    Here,
    /// A service within: see [`Refused`].
    Within,
}

/// The outermost middleware. What is asked most of `site`, if there is one, never gets to `service`.
pub(super) fn guard<S, B>(
    mut request: ServiceRequest,
    service: &S,
    site: Option<&Data<Site>>,
    refuses: Refuses,
) -> impl Future<Output = Result<ServiceResponse<BoxBody>, Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    let started = Instant::now();
    let occupied = request
        .conn_data::<Arc<Connection>>()
        .map(Connection::occupy);
    let mut span = trace::begin(&mut request);
    let uri = request.uri();
    let length = uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    let refused = if length > MAX_URI {
        Some(Problem::uri_too_long(MAX_URI))
    } else if occupied.as_ref().is_some_and(Occupied::is_spare)
        && !meters::is_operation(request.path())
    {
        Some(too_many())
    } else {
        None
    };
    let way = if let Some(problem) = refused {
        match refuses {
            Refuses::Here => Way::Refused(request.into_response(refusal::response(&problem))),
            Refuses::Within => {
                request.extensions_mut().insert(Refused(problem));
                Way::Routed(service.call(request))
            }
        }
    } else {
        match site.and_then(|site| Some((Direct::of(&request)?, site))) {
            Some((direct, site)) => Way::Direct(direct, request, Data::clone(site)),
            None => Way::Routed(service.call(request)),
        }
    };
    async move {
        let mut response = match way {
            Way::Refused(response) => response,
            Way::Direct(direct, request, site) => direct.serve(request, &site).await,
            Way::Routed(response) => response.await?.map_into_boxed_body(),
        };
        secure(response.headers_mut());
        if occupied.is_some_and(|occupied| occupied.is_to_close()) {
            let head = response.response_mut().head_mut();
            head.set_connection_type(ConnectionType::Close);
        }
        log(&response, started);
        trace::answered(&mut span, response.status());
        Ok(response)
    }
}

/// The policy of a page that has none of its own: it may load and do nothing.
const NOTHING: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Says what a browser may do with an answer. A page stands in no frame of another, is sent to no other place
/// by its address, and loads what its own policy allows.
fn secure(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let is_page = |kind: &HeaderValue| kind.as_bytes().starts_with(b"text/html");
    if !headers.get(CONTENT_TYPE).is_some_and(is_page) {
        return;
    }
    if !headers.contains_key(CONTENT_SECURITY_POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(NOTHING));
    }
    for (name, value) in [
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
        (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

enum Way<R> {
    Refused(ServiceResponse),
    Direct(Direct, ServiceRequest, Data<Site>),
    Routed(R),
}

/// Measures the request, and writes the access line. Neither the path nor the query is in it: both
/// carry ids and search words, which may say something of a person.
fn log(response: &ServiceResponse, started: Instant) {
    let request = response.request();
    let said = response
        .response()
        .extensions()
        .get::<meters::Route>()
        .map(|route| route.0);
    let route = said.unwrap_or_else(|| meters::route_of(request.path()));
    let status = response.status();
    let (method, elapsed) = (request.method(), started.elapsed());
    meters::answered(route, method, status, elapsed);
    macro_rules! write {
        ($level:ident) => {
            tracing::$level!(
                http.method = method.as_str(),
                http.route = route,
                http.status = status.as_u16(),
                duration_ms = elapsed.as_secs_f64() * 1e3,
                "request answered"
            )
        };
    }
    // That something is not there is an ordinary answer, and a line for each of too many requests makes
    // them more: both are in the metrics.
    let ordinary = [StatusCode::NOT_FOUND, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    if status.is_server_error() {
        write!(warn);
    } else if status.is_client_error() && !ordinary {
        write!(info);
    } else {
        write!(debug);
    }
}
