//! NATS request-reply: what the endpoints of commands, queries and operators have in common.
//!
//! Headers of a request are read without regard to case ([`RequestHeaders`]), refusals are written in
//! one form ([`refusal_headers`]), services are found by ADR-32 ([`discovery`]), an answer goes to an inbox
//! alone ([`ReplyGuard`]), and a bounded number of messages is answered at once ([`AnswerTasks`]).

mod answer_tasks;
pub mod discovery;
mod inboxes;
mod reply_guard;

pub use answer_tasks::{AnswerPlace, AnswerPlaces, AnswerTasks};
pub use inboxes::{InboxPrefix, Inboxes};
pub use reply_guard::ReplyGuard;

use crate::{
    problem::{Age, Problem},
    request_headers::RequestHeaders,
};
use async_nats::HeaderMap;

impl RequestHeaders for Option<HeaderMap> {
    fn each(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter()
            .flat_map(HeaderMap::iter)
            .flat_map(|(name, values)| {
                let name: &str = name.as_ref();
                values.iter().map(move |value| (name, value.as_ref()))
            })
    }
}

/// The longest words of a refusal in its header, in bytes.
const LONGEST_WORDS: usize = 640;

/// The headers that a refusal has on NATS (ADR-32), beside its body.
#[must_use]
pub fn refusal_headers(problem: &Problem) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", "application/problem+json");
    headers.insert("Nats-Service-Error-Code", problem.status.to_string());
    // On one line, and short: all headers of a message have 64 KiB. The body has it whole.
    let words = problem.to_string();
    let words = &words[..words.floor_char_boundary(LONGEST_WORDS)];
    headers.insert("Nats-Service-Error", words.replace(['\r', '\n'], " "));
    if let Some(challenge) = problem.challenge() {
        headers.insert("WWW-Authenticate", challenge);
    }
    if let Some(seconds) = problem.retry_after {
        headers.insert("Retry-After", seconds.to_string());
    }
    if let Some(age) = problem.age {
        age_headers(&mut headers, age);
    }
    headers
}

/// Adds the headers that say how fresh an answer about a view is.
pub fn age_headers(headers: &mut HeaderMap, age: Age) {
    headers.insert("Headwater-Applied", age.applied.to_string());
    headers.insert("Headwater-Lag-Ms", age.lag_ms.to_string());
    if age.parked {
        headers.insert("Headwater-Parked", "true");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_two_cases_is_one_header() {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", "a");
        let name = "Idempotency-Key";
        assert_eq!(Some(headers.clone()).single(name), Ok(Some("a")));
        headers.insert(name, "a");
        assert!(Some(headers).single(name).is_err());
        let mut headers = HeaderMap::new();
        headers.append(name, "a");
        headers.append(name, "a");
        assert!(Some(headers).single(name).is_err());
        assert_eq!(None::<HeaderMap>.single(name), Ok(None));
    }
}
