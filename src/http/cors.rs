//! Which pages of other origins may use the gateway from a browser (the Fetch standard, "CORS
//! protocol").
//!
//! An allow-list, empty unless an operator names origins: never every origin, and never with what a
//! browser remembers of a user (cookies, client certificates), which the gateway does not read.

mod raw;

pub(super) use raw::{Origins, headers_for};

use super::{boundary::Refused, live::LAST_EVENT_ID, refusal};
use crate::{
    command::waits::{PROCESS, WAIT},
    problem::Problem,
    read_model::MIN_POSITION,
    request_headers::MAX_WAIT,
};
use actix_cors::Cors;
use actix_web::{
    Error, HttpMessage,
    body::{BoxBody, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{ACCESS_CONTROL_REQUEST_METHOD, VARY},
    },
};
use futures::future::Either;
use std::{fmt, str::FromStr};
use url::Url;

/// For how long a browser may remember what is allowed, in seconds.
const REMEMBERED: usize = 600;
/// The request headers that a page may set.
const REQUEST: [&str; 11] = [
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    LAST_EVENT_ID,
    MIN_POSITION,
    MAX_WAIT,
    WAIT,
    "traceparent",
    "tracestate",
];
/// The answers' headers that a page may read, beside those that each may.
const ANSWER: [&str; 8] = [
    "ETag",
    "Headwater-Applied",
    "Headwater-Lag-Ms",
    "Headwater-Parked",
    "Headwater-Position",
    PROCESS,
    "Retry-After",
    "WWW-Authenticate",
];

/// An origin as a browser writes it: `https://shop.example`, with the port where it is not the usual
/// one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Reads an origin.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it, in words.
    pub fn read(text: &str) -> Result<Self, String> {
        let wrong = "an origin is https://<host> or http://<host>, with the port where it is not the usual one";
        let url: Url = text.trim().parse().map_err(|_| wrong.to_owned())?;
        let origin = url.origin().ascii_serialization();
        // A browser sends the origin alone: with a path, or as `*`, nothing would ever match.
        let alone = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let nobody = url.username().is_empty() && url.password().is_none();
        match url.scheme() {
            "http" | "https" if alone && nobody => Ok(Self(origin)),
            _ => Err(wrong.to_owned()),
        }
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::read(text)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns what pages of these origins may do. Those of others are answered as any client is, and their
/// browsers keep the answer from them.
pub(super) fn policy(origins: &[Origin]) -> Cors {
    let policy = Cors::default()
        .block_on_origin_mismatch(false)
        .allowed_methods(["GET", "HEAD", "POST"])
        .allowed_headers(REQUEST)
        .expose_headers(ANSWER)
        .max_age(REMEMBERED);
    let allow = |policy: Cors, origin: &Origin| policy.allowed_origin(&origin.0);
    origins.iter().fold(policy, allow)
}

/// Answers what was refused before anything was looked at. It stands behind the policy, so that the page
/// that has asked may read why.
pub(super) fn refuse<S, B>(
    request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse<BoxBody>, Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    let refused = request.extensions_mut().remove::<Refused>();
    let way = match refused {
        Some(Refused(problem)) => Either::Left(request.into_response(refusal::response(&problem))),
        None => Either::Right(service.call(request)),
    };
    async move {
        match way {
            Either::Left(refused) => Ok(refused),
            Either::Right(answered) => Ok(answered.await?.map_into_boxed_body()),
        }
    }
}

/// Gives the refusal of a preflight request the form that every refusal has.
pub(super) fn explain<S, B>(
    request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse<BoxBody>, Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    let is_preflight = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let answered = service.call(request);
    async move {
        let response = answered.await?.map_into_boxed_body();
        if !is_preflight || !response.status().is_client_error() {
            return Ok(response);
        }
        let problem = Problem::malformed(
            None,
            "a page of this origin may not send such a request: the origin, the method or a header is not allowed",
        );
        let mut refused = refusal::response(&problem);
        if let Some(vary) = response.headers().get(VARY) {
            refused.headers_mut().insert(VARY, vary.clone());
        }
        Ok(response.into_response(refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_read_as_a_browser_writes_it() {
        for (text, origin) in [
            ("https://shop.example", "https://shop.example"),
            ("https://Shop.Example/", "https://shop.example"),
            ("https://shop.example:443", "https://shop.example"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("http://[::1]:5173", "http://[::1]:5173"),
            ("https://사과.example", "https://xn--vb0b968a.example"),
        ] {
            assert_eq!(Origin::read(text).unwrap().0, origin, "{text}");
        }
        for wrong in [
            "",
            "*",
            "null",
            "shop.example",
            "https://*.example/a",
            "https://shop.example/path",
            "https://shop.example?a",
            "https://user@shop.example",
            "ftp://shop.example",
            "file:///a",
        ] {
            assert!(Origin::read(wrong).is_err(), "{wrong}");
        }
    }
}
