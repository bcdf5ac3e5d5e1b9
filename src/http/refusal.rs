//! The form of a [`Problem`] on HTTP: the one place that turns a refusal into a response.

use crate::problem::{Age, Problem};
use actix_web::{
    HttpResponse, HttpResponseBuilder, ResponseError,
    http::{
        StatusCode,
        header::{
            ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
            WWW_AUTHENTICATE,
        },
    },
};

/// The media type of RFC 9457.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";
const APPLIED: HeaderName = HeaderName::from_static("headwater-applied");
const LAG: HeaderName = HeaderName::from_static("headwater-lag-ms");
/// Something in the answer is behind because of an event that could not be applied.
const PARKED: (&str, &str) = ("Headwater-Parked", "true");

/// A handler's refusal.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct Refusal(#[from] Problem);

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        status(&self.0)
    }

    fn error_response(&self) -> HttpResponse {
        response(&self.0)
    }
}

fn status(problem: &Problem) -> StatusCode {
    StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The response that says this problem.
pub(super) fn response(problem: &Problem) -> HttpResponse {
    let mut response = HttpResponse::build(status(problem));
    response
        .insert_header((CONTENT_TYPE, PROBLEM_JSON))
        // A 404 may be cached unless it says otherwise (RFC 9111, 4.2.2), and the document that is
        // not there yet is about to be.
        .insert_header((CACHE_CONTROL, "no-store"));
    if let Some(challenge) = problem.challenge() {
        response.insert_header((WWW_AUTHENTICATE, challenge));
    }
    if let Some(seconds) = problem.retry_after {
        response.insert_header((RETRY_AFTER, seconds));
    }
    if let Some(age) = problem.age {
        say_age(&mut response, age);
    }
    response.body(problem.to_json())
}

/// Adds the headers that say how fresh an answer about a view is.
pub(super) fn say_age(response: &mut HttpResponseBuilder, age: Age) {
    response
        .insert_header((APPLIED, age.applied))
        .insert_header((LAG, age.lag_ms));
    if age.parked {
        response.insert_header(PARKED);
    }
}

/// 503 for everything that a replica does once it has started.
pub(super) async fn starting() -> HttpResponse {
    response(&Problem::unavailable(
        "the replica is starting; /readyz says what it waits for",
    ))
}

/// 404 for a path that is none of ours.
pub(super) async fn no_such_path() -> HttpResponse {
    response(&Problem::not_found(
        "not_found",
        "there is nothing at this path; /openapi.json describes what there is",
    ))
}

/// 405, with the methods that the path does take.
pub(super) async fn method_not_allowed(allowed: &'static str) -> HttpResponse {
    let problem = Problem::method_not_allowed(format!("this path takes {allowed}"));
    let mut response = response(&problem);
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// 404 for a name in a path that nothing is registered under.
pub(super) fn unknown(kind: &str, name: &str) -> Problem {
    Problem::not_found(
        &format!("unknown_{kind}"),
        format!("there is no {kind} named {name:?}"),
    )
}
