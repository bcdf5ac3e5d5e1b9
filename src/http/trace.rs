//! The span of a request, which all that it causes becomes a part of.

use super::meters;
use crate::telemetry::trace::{self, Kind, Span, TraceContext};
use actix_web::{
    dev::ServiceRequest,
    http::{
        Method, StatusCode,
        header::{HeaderName, HeaderValue},
    },
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Begins the span of a command or a query, with the `traceparent` that the client sent, and puts its
/// own in the place of that. Requests of operators and pages have none.
pub(super) fn begin(request: &mut ServiceRequest) -> Span {
    if !trace::is_on() {
        return Span::none();
    }
    let route = meters::route_of(request.path());
    if !route.starts_with("/commands") && !route.starts_with("/views/") {
        return Span::none();
    }
    let method = method_of(request.method());
    // Of two that differ neither is to be believed.
    let mut sent = request.headers().get_all(&TRACEPARENT);
    let sent = match (sent.next(), sent.next()) {
        (Some(only), None) => only.to_str().ok(),
        _ => None,
    };
    let sent = sent.filter(|header| header.parse::<TraceContext>().is_ok());
    let mut span = Span::begin(Kind::Server, sent, || format!("{method} {route}").into());
    span.set("http.request.method", method);
    span.set("http.route", route);
    let begins = sent.is_none();
    if let Some(context) = span.context()
        && let Ok(traceparent) = HeaderValue::from_str(&context.to_string())
    {
        let headers = request.headers_mut();
        headers.insert(TRACEPARENT, traceparent);
        if begins {
            // It was of the trace that could not be read.
            headers.remove(TRACESTATE);
        }
    }
    span
}

/// Says how the request was answered.
pub(super) fn answered(span: &mut Span, status: StatusCode) {
    span.set("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.fail("");
    }
}

/// A client may make up any method; those that are not known are one (semantic conventions of HTTP).
fn method_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}
