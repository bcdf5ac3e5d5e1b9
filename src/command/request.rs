//! A command on its way in, the same whichever surface it came by.

use crate::{
    event_log::{codec::put, subject::Id},
    problem::Problem,
    request_headers::RequestHeaders,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, sync::Arc};
use utoipa::ToSchema;

/// The largest command body, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// The longest idempotency key, in bytes.
pub const MAX_KEY: usize = 128;

/// One command for one aggregate, not yet decoded.
#[derive(Debug, Clone)]
pub struct CommandRequest {
    /// The aggregate's name.
    pub aggregate: Cow<'static, str>,
    /// The aggregate's id.
    pub id: Id,
    /// The command's name, for example `place`.
    pub command: Arc<str>,
    /// The command's fields as a JSON object.
    pub body: Bytes,
    /// The headers that mean something to the command side.
    pub headers: CommandHeaders,
}

/// The request headers of a command, the same names on NATS and HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandHeaders {
    /// `Idempotency-Key`: 1 to 128 visible ASCII characters.
    pub idempotency_key: Option<Arc<str>>,
    /// `If-Match: "<version>"`.
    pub if_match: Option<u64>,
    /// `traceparent` (W3C Trace Context), carried on to the events.
    pub traceparent: Option<String>,
    /// `tracestate` (W3C Trace Context), carried on to the events.
    pub tracestate: Option<String>,
    /// The id that a replica made up for a command without a key before it passed it on
    /// ([`GIVEN_ID`]). Never read from a client.
    pub given_id: Option<Arc<str>>,
    /// Another replica was asked for the same command before ([`ASKED_AGAIN`]): what it left in the log
    /// can stand only after this position. Never read from a client.
    pub asked_again: Option<u64>,
}

/// The header by which a replica tells that it has asked another one for the same command.
pub const ASKED_AGAIN: &str = "Headwater-Asked-Again";

/// The header in which a command without a key carries its id from one replica to another.
pub const GIVEN_ID: &str = "Headwater-Command-Id";

impl CommandHeaders {
    /// Reads the headers of a request.
    ///
    /// # Errors
    ///
    /// Returns a `malformed` problem that names the header. Trace headers are never refused: what is
    /// wrong with them drops them.
    pub fn read(headers: &impl RequestHeaders) -> Result<Self, Problem> {
        let idempotency_key = match headers.single("Idempotency-Key")? {
            None => None,
            Some(key)
                if (1..=MAX_KEY).contains(&key.len())
                    && key.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                Some(key.into())
            }
            Some(_) => {
                return Err(Problem::malformed(
                    "Idempotency-Key".to_owned(),
                    "an idempotency key is 1 to 128 visible ASCII characters",
                ));
            }
        };
        let if_match = match headers.single("If-Match")? {
            None => None,
            Some(tag) => Some(parse_version(tag).ok_or_else(|| {
                Problem::malformed(
                    "If-Match".to_owned(),
                    "If-Match is the aggregate's version in double quotes, for example \"3\"",
                )
            })?),
        };
        let (traceparent, tracestate) = headers.trace();
        Ok(Self {
            idempotency_key,
            if_match,
            traceparent: traceparent.map(str::to_owned),
            tracestate: tracestate.map(Cow::into_owned),
            given_id: None,
            asked_again: None,
        })
    }

    /// The headers with these names and values, as another replica reads them.
    pub(super) fn written(&self) -> async_nats::HeaderMap {
        let mut headers = async_nats::HeaderMap::new();
        let if_match = self.if_match.map(|version| format!("\"{version}\""));
        let asked_again = self.asked_again.map(|position| position.to_string());
        let named = [
            ("Idempotency-Key", self.idempotency_key.as_deref()),
            ("If-Match", if_match.as_deref()),
            ("traceparent", self.traceparent.as_deref()),
            ("tracestate", self.tracestate.as_deref()),
            (GIVEN_ID, self.given_id.as_deref()),
            (ASKED_AGAIN, asked_again.as_deref()),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        headers
    }
}

/// Reads a version as an entity tag writes it. A weak tag is one that something on the way has
/// changed the form of the body for: it names the same version.
fn parse_version(tag: &str) -> Option<u64> {
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// The refusal of a command without a body.
#[must_use]
pub fn empty_body() -> Problem {
    Problem::malformed(
        "body".to_owned(),
        "the body is empty; a command's fields are a JSON object, {} where it has none",
    )
}

/// Whether a content type is `application/json`, in UTF-8 if it says anything of that.
#[must_use]
pub fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let json = parts
        .next()
        .is_some_and(|media| media.eq_ignore_ascii_case("application/json"));
    json && parts.filter(|part| !part.is_empty()).all(|parameter| {
        parameter.split_once('=').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("charset")
                && value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
    })
}

/// What an accepted command answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    /// The aggregate's name.
    pub aggregate: Cow<'static, str>,
    /// The aggregate's id.
    #[schema(value_type = String)]
    pub id: Arc<str>,
    /// The aggregate's version after the command.
    pub version: u64,
    /// The stream sequence of the aggregate's last commit, this command's when it has events.
    pub position: u64,
    /// The events that the command caused; none when it changed nothing.
    pub events: Vec<OutcomeEvent>,
    /// Whether this is the remembered outcome of an earlier command with the same key.
    pub replayed: bool,
}

impl Outcome {
    /// The position token, `<aggregate>@<stream sequence>`: what `Headwater-Position` carries.
    #[must_use]
    pub fn position_token(&self) -> String {
        let mut token = String::with_capacity(self.aggregate.len() + 21);
        token.push_str(&self.aggregate);
        token.push('@');
        token.push_str(itoa::Buffer::new().format(self.position));
        token
    }

    /// The version as an entity tag, in its quotes.
    #[must_use]
    pub fn entity_tag(&self) -> String {
        let mut tag = String::with_capacity(22);
        tag.push('"');
        tag.push_str(itoa::Buffer::new().format(self.version));
        tag.push('"');
        tag
    }

    /// Its JSON. By hand, as it is written for every command: the names of aggregates and their ids
    /// are of `A-Z a-z 0-9 _ -`, and need no escaping.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let names = self.events.iter().map(|event| event.r#type.len() + 48);
        let mut json = Vec::with_capacity(160 + names.sum::<usize>());
        let mut digits = itoa::Buffer::new();
        put(&mut json, &[r#"{"aggregate":""#, &self.aggregate]);
        put(&mut json, &[r#"","id":""#, &self.id]);
        put(&mut json, &[r#"","version":"#, digits.format(self.version)]);
        put(
            &mut json,
            &[r#","position":"#, digits.format(self.position)],
        );
        put(&mut json, &[r#","events":["#]);
        for (number, event) in self.events.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            put(&mut json, &[comma, r#"{"type":"#]);
            serde_json::to_writer(&mut json, &event.r#type).expect("memory takes all");
            put(
                &mut json,
                &[r#","version":"#, digits.format(event.version), "}"],
            );
        }
        let replayed = if self.replayed { "true}" } else { "false}" };
        put(&mut json, &[r#"],"replayed":"#, replayed]);
        json
    }
}

/// One event of an [`Outcome`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutcomeEvent {
    /// The full storage name, for example `order.placed.v1`.
    #[schema(value_type = String)]
    pub r#type: Arc<str>,
    /// The aggregate's version after it.
    pub version: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_a_strong_tag_and_from_a_weak_one() {
        for (tag, version) in [
            ("\"3\"", Some(3)),
            ("W/\"3\"", Some(3)),
            ("\"0\"", Some(0)),
            ("w/\"3\"", None),
            ("W/3", None),
            ("W/W/\"3\"", None),
            ("3", None),
            ("\"\"", None),
            ("\"+3\"", None),
            ("*", None),
            ("\"3\", \"4\"", None),
        ] {
            assert_eq!(parse_version(tag), version, "{tag}");
        }
    }

    #[test]
    fn an_outcome_is_written_as_it_is_described() {
        let event = |name: &str, version| OutcomeEvent {
            r#type: name.into(),
            version,
        };
        for (events, replayed) in [
            (vec![], true),
            (vec![event("stock.received.v1", 7)], false),
            (vec![event("a \"quoted\" name", 7), event("b", 8)], false),
        ] {
            let outcome = Outcome {
                aggregate: "stock".into(),
                id: "gangnam_apple-1kg".into(),
                version: 8,
                position: u64::MAX,
                events,
                replayed,
            };
            let json = serde_json::to_string(&outcome).unwrap();
            assert_eq!(String::from_utf8(outcome.to_json()).unwrap(), json);
            assert_eq!(outcome.entity_tag(), "\"8\"");
            assert_eq!(outcome.position_token(), format!("stock@{}", u64::MAX));
        }
    }
}
