//! A command on its way in, the same whichever surface it came by.

pub use crate::outcome::{Outcome, OutcomeEvent};

use super::passed_on;
use crate::{
    access::AUTHORIZATION, caller::Caller, event_log::subject::Id, problem::Problem,
    request_headers::RequestHeaders,
};
use bytes::Bytes;
use std::{borrow::Cow, sync::Arc};

/// The largest command body, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// The same of a command that only the program itself gives: it may carry an event, and has to fit into a
/// message.
pub const MAX_INTERNAL_BODY: usize = 960 * 1024;
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
    /// The origin of the command, where it is the program's own. Never read from a client.
    pub lineage: Option<Lineage>,
    /// The caller; the program itself by default, which may everything.
    pub caller: Caller,
    /// True if it came from outside of the program. Who may everything there, since nobody is asked, is not
    /// the program to a replica that asks.
    pub from_outside: bool,
    /// The proof of that (`Authorization`), for a replica that does not take it on trust.
    pub authorization: Option<Arc<str>>,
}

/// The origin of a command of the program's own, as its events tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// The id that all consequences of one original command share.
    pub correlation_id: Arc<str>,
    /// The id of what caused the command: an event, as `<aggregate>/<id>/<version>`, or a command.
    pub causation_id: Arc<str>,
}

/// The headers in which a command carries its lineage from one replica to another.
pub const CORRELATION: &str = "Headwater-Correlation-Id";
/// See [`CORRELATION`].
pub const CAUSATION: &str = "Headwater-Causation-Id";
/// The longest id of a lineage, in bytes.
pub const MAX_LINEAGE: usize = 256;

/// The header by which a replica tells that it has asked another one for the same command.
pub const ASKED_AGAIN: &str = "Headwater-Asked-Again";

/// The header in which a command without a key carries its id from one replica to another.
pub const GIVEN_ID: &str = "Headwater-Command-Id";

impl CommandHeaders {
    /// Reads the headers of a request of this caller.
    ///
    /// # Errors
    ///
    /// Returns a `malformed` problem that names the header. Trace headers are never refused: what is
    /// wrong with them drops them.
    pub fn read(headers: &impl RequestHeaders, caller: Caller) -> Result<Self, Problem> {
        let headers = headers.surveyed();
        let key = headers.single("Idempotency-Key")?;
        if let Some(key) = key {
            checked_key(key, "Idempotency-Key")?;
        }
        let idempotency_key = key.map(Arc::from);
        let if_match = match headers.single("If-Match")? {
            None => None,
            Some(tag) => Some(parse_version(tag).ok_or_else(|| {
                Problem::malformed(
                    "If-Match".to_owned(),
                    "If-Match is the aggregate's version in double quotes, for example \"3\"",
                )
            })?),
        };
        let authorization = match caller.is_unrestricted() {
            true => None,
            false => headers.single(AUTHORIZATION)?.map(Arc::from),
        };
        let (traceparent, tracestate) = headers.trace();
        Ok(Self {
            idempotency_key,
            if_match,
            traceparent: traceparent.map(str::to_owned),
            tracestate: tracestate.map(Cow::into_owned),
            given_id: None,
            asked_again: None,
            lineage: None,
            caller,
            from_outside: true,
            authorization,
        })
    }

    /// The headers with these names and values, as another replica reads them: the home, which takes it
    /// on trust who asks, or any, which does not.
    pub(super) fn written(&self, to_home: bool) -> async_nats::HeaderMap {
        let mut headers = async_nats::HeaderMap::new();
        let if_match = self.if_match.map(|version| format!("\"{version}\""));
        let asked_again = self.asked_again.map(|position| position.to_string());
        let known = to_home && self.tells_caller();
        let caller = known.then(|| passed_on::written(&self.caller));
        let authorization = self.authorization.as_deref().filter(|_| !to_home);
        let lineage = self.lineage.as_ref().filter(|_| to_home);
        let named = [
            (passed_on::CALLER, caller.as_deref()),
            (AUTHORIZATION, authorization),
            ("Idempotency-Key", self.idempotency_key.as_deref()),
            ("If-Match", if_match.as_deref()),
            ("traceparent", self.traceparent.as_deref()),
            ("tracestate", self.tracestate.as_deref()),
            (GIVEN_ID, self.given_id.as_deref()),
            (ASKED_AGAIN, asked_again.as_deref()),
            (CORRELATION, lineage.map(|it| &*it.correlation_id)),
            (CAUSATION, lineage.map(|it| &*it.causation_id)),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        headers
    }
}

impl CommandHeaders {
    /// Returns whether a home is told who gives the command: not, where nobody was asked.
    pub(super) fn tells_caller(&self) -> bool {
        !(self.caller.is_unrestricted() && self.from_outside)
    }
}

/// Refuses what is no idempotency key, naming where it stands.
pub(super) fn checked_key(key: &str, field: &str) -> Result<(), Problem> {
    let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    match (1..=MAX_KEY).contains(&key.len()) && visible {
        true => Ok(()),
        false => Err(Problem::malformed(
            field.to_owned(),
            "an idempotency key is 1 to 128 visible ASCII characters",
        )),
    }
}

impl Lineage {
    /// Returns about how many bytes it takes in each event.
    pub(super) fn size(&self) -> usize {
        40 + self.correlation_id.len() + self.causation_id.len()
    }

    /// Reads the lineage that another replica tells; `None` when it tells none.
    pub(super) fn read(headers: &impl RequestHeaders) -> Option<Self> {
        let id = |name| {
            let id = headers.single(name).ok().flatten()?;
            (1..=MAX_LINEAGE).contains(&id.len()).then(|| Arc::from(id))
        };
        Some(Self {
            correlation_id: id(CORRELATION)?,
            causation_id: id(CAUSATION)?,
        })
    }
}

/// Reads a version as an entity tag writes it. A weak tag is one that something on the way has
/// changed the form of the body for: it names the same version.
pub(super) fn parse_version(tag: &str) -> Option<u64> {
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

/// Returns whether a content type is `application/json`, in UTF-8 if it says anything of that.
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
}
