//! The stored form of a commit: a CloudEvents 1.0 JSON batch, one element an event.
//!
//! `source` is `/<aggregate>/<id>` and `id` the aggregate's version after the event, so that the two are
//! unique. Extension attributes are `commandid`; `commandhash` where the client chose the command's key;
//! `callerid` where it is known who gave the command; `correlationid` and `causationid` where they are not the
//! command's id; and `claims` where keys are
//! taken or given up. What is a default is not written. It is a storage format, *form 1*: attributes are
//! added, never renamed or removed.

mod event;

pub use event::EncodedEvent;

use super::subject;
use crate::{json::put_text, recorded::Recorded};
use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{borrow::Cow, io, sync::Arc};

/// The most that an event takes in a commit beside its data and ids, in bytes.
pub const ENVELOPE: usize = 320;

/// Writes times as RFC 3339 has them.
const PRINTER: DateTimePrinter = DateTimePrinter::new();

/// Tells a retry of a command from another command under the same key. Written as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// Writes its 16 hexadecimal digits.
    fn write(self, to: &mut Vec<u8>) {
        let digit = |place: usize| b"0123456789abcdef"[(self.0 >> (60 - 4 * place)) as usize & 0xf];
        to.extend::<[u8; 16]>(std::array::from_fn(digit));
    }

    /// Reads its digits; `None` when they are not its.
    fn read(digits: &str) -> Option<Self> {
        u64::from_str_radix(digits, 16).ok().map(Self)
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        let mut digits = Vec::with_capacity(16);
        fingerprint.write(&mut digits);
        digits.into_iter().map(char::from).collect()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = &'static str;

    fn try_from(digits: String) -> Result<Self, Self::Error> {
        Self::read(&digits).ok_or("a fingerprint is 16 hexadecimal digits")
    }
}

/// The addition of one command to a commit.
#[derive(Debug, Clone)]
pub struct CommandEvents {
    /// The command's id.
    pub command_id: Arc<str>,
    /// The fingerprint of the command's name and body, which tells a reused key from a retry; `None`
    /// when the client chose no key.
    pub command_hash: Option<Fingerprint>,
    /// The caller, where that is known.
    pub caller_id: Option<Arc<str>>,
    /// The ids of what the command follows from, of the first command and of what caused this one, where it is not
    /// its own cause.
    pub lineage: Option<(Arc<str>, Arc<str>)>,
    /// The time when it was decided.
    pub time: Timestamp,
    /// The aggregate's version before its first event.
    pub version_before: u64,
    /// The positions of the claims that it wrote: keys that it takes or gives up with this commit.
    pub claims: Vec<u64>,
    /// Its events.
    pub events: Vec<EncodedEvent>,
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    time: Timestamp,
    #[serde(borrow)]
    commandid: Cow<'a, str>,
    #[serde(default, borrow)]
    commandhash: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    callerid: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    correlationid: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    causationid: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    claims: Option<Cow<'a, str>>,
    #[serde(default)]
    data: Option<Box<RawValue>>,
}

/// One event read from a commit, with what the command side needs to remember outcomes.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// The event.
    pub recorded: Recorded,
    /// The fingerprint of the command that caused it, when it had a key.
    pub command_hash: Option<Fingerprint>,
    /// The positions of the claims that the command wrote before; with its first event.
    pub claims: Vec<u64>,
}

/// Writes one commit of an aggregate. A command that nothing caused is its own cause.
///
/// # Errors
///
/// Returns [`CodecError::Encode`] when the batch cannot be serialised.
pub fn encode(
    aggregate: &'static str,
    id: &str,
    commands: &[CommandEvents],
) -> Result<Vec<u8>, CodecError> {
    let events = commands.iter().flat_map(|command| &command.events);
    let data = events.map(|event| event.data().len());
    let mut body = Vec::with_capacity(data.map(|data| data + ENVELOPE).sum());
    body.push(b'[');
    for command in commands {
        let written = write_events(&mut body, aggregate, id, command);
        written.map_err(|source| CodecError::Encode { aggregate, source })?;
    }
    body.pop_if(|last| *last == b',');
    body.push(b']');
    Ok(body)
}

/// Writes the events of one command, with a comma after each.
///
/// By hand, since the attributes' names need no escaping, and looking for it cost more than all the rest: the names
/// of aggregates and the ids are of `A-Z a-z 0-9 _ -`.
fn write_events(
    body: &mut Vec<u8>,
    aggregate: &str,
    id: &str,
    command: &CommandEvents,
) -> Result<(), serde_json::Error> {
    let lineage = written_lineage(command)?;
    let mut digits = itoa::Buffer::new();
    for (number, event) in (1_u64..).zip(&command.events) {
        let begin = r#"{"specversion":"1.0","source":"/"#;
        put(body, &[begin, aggregate, "/", id]);
        let version = command.version_before + number;
        put(body, &[r#"","id":""#, digits.format(version)]);
        put(body, &[r#"","type":"#]);
        put_text(body, event.event_type());
        put(body, &[r#","time":""#]);
        let timed = PRINTER.print_timestamp(&command.time, &mut *body);
        timed.map_err(|error| serde_json::Error::io(io::Error::other(error)))?;
        put(body, &[r#"","commandid":"#]);
        put_text(body, &command.command_id);
        if let Some(hash) = command.command_hash {
            put(body, &[r#","commandhash":""#]);
            hash.write(body);
            body.push(b'"');
        }
        if let Some(caller_id) = &command.caller_id {
            put(body, &[r#","callerid":"#]);
            put_text(body, caller_id);
        }
        put(body, &[&lineage]);
        if number == 1 {
            write_claims(body, &command.claims);
        }
        put(body, &[r#","data":"#]);
        body.extend_from_slice(event.data());
        put(body, &["},"]);
    }
    Ok(())
}

/// The ids of what a command follows from that are not its own.
fn written_lineage(command: &CommandEvents) -> Result<String, serde_json::Error> {
    let mut written = String::new();
    let Some((correlation, causation)) = &command.lineage else {
        return Ok(written);
    };
    for (name, id) in [("correlationid", correlation), ("causationid", causation)] {
        if *id != command.command_id {
            let id = serde_json::to_string(id)?;
            written.push_str(&format!(r#","{name}":{id}"#));
        }
    }
    Ok(written)
}

/// Names the claims of a command by their positions, with a space in between.
fn write_claims(body: &mut Vec<u8>, claims: &[u64]) {
    for (number, position) in claims.iter().enumerate() {
        let before = if number == 0 { r#","claims":""# } else { " " };
        put(body, &[before, itoa::Buffer::new().format(*position)]);
    }
    if !claims.is_empty() {
        body.push(b'"');
    }
}

fn read_claims(named: Option<&str>) -> Option<Vec<u64>> {
    let named = named.unwrap_or_default().split_ascii_whitespace();
    named.map(|position| position.parse().ok()).collect()
}

/// Writes texts as they are, one after the other.
fn put(to: &mut Vec<u8>, texts: &[&str]) {
    for text in texts {
        to.extend_from_slice(text.as_bytes());
    }
}

/// Reads the commit that stands at `position` on `subject`. One without events is right, and changes
/// nothing.
///
/// # Errors
///
/// Returns [`CodecError`] when the subject or the body is not a commit's.
pub fn decode(subject: &str, position: u64, body: &[u8]) -> Result<Vec<StoredEvent>, CodecError> {
    let (aggregate, id) =
        subject::parse_events(subject).ok_or_else(|| CodecError::Subject(subject.to_owned()))?;
    let events: Vec<Read<'_>> =
        serde_json::from_slice(body).map_err(|source| CodecError::Decode { position, source })?;
    let stored = events.into_iter().map(|read| {
        let of_this = read
            .source
            .strip_prefix('/')
            .and_then(|source| source.split_once('/'));
        if of_this != Some((aggregate, id)) {
            return Err(attribute(position, "source"));
        }
        let text = |given: Option<Cow<'_, str>>| match given {
            Some(given) => given.into_owned(),
            None => read.commandid.to_string(),
        };
        let version = read.id.parse().map_err(|_| attribute(position, "id"))?;
        let hash = read.commandhash.map(|digits| {
            Fingerprint::read(&digits).ok_or_else(|| attribute(position, "commandhash"))
        });
        Ok(StoredEvent {
            command_hash: hash.transpose()?,
            claims: read_claims(read.claims.as_deref())
                .ok_or_else(|| attribute(position, "claims"))?,
            recorded: Recorded {
                aggregate: aggregate.to_owned(),
                id: id.to_owned(),
                event_type: read.r#type.into_owned(),
                version,
                position,
                time: read.time,
                correlation_id: text(read.correlationid),
                causation_id: text(read.causationid),
                command_id: read.commandid.into_owned(),
                caller_id: read.callerid.map(Cow::into_owned),
                data: Arc::from(read.data.unwrap_or_else(no_data)),
            },
        })
    });
    stored.collect()
}

/// Returns whether a body is a commit of the form before form 1, which was never released.
#[must_use]
pub fn is_unreleased_form(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Before {
        #[serde(rename = "version")]
        _version: u64,
        #[serde(rename = "subject")]
        _subject: String,
    }
    serde_json::from_slice::<Vec<Before>>(body).is_ok_and(|events| !events.is_empty())
}

fn attribute(position: u64, attribute: &'static str) -> CodecError {
    CodecError::Attribute {
        position,
        attribute,
    }
}

fn no_data() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("an empty object is JSON")
}

/// A commit that cannot be written or read. Never retryable.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The subject is not `evt.<aggregate>.<id>`.
    #[error("{0} is not the subject of a commit")]
    Subject(String),
    /// An event does not serialise to `{"type", "data"}`.
    #[error("an event of {aggregate} cannot be encoded: {source}")]
    Encode {
        /// The aggregate's name.
        aggregate: &'static str,
        /// The fault.
        source: serde_json::Error,
    },
    /// An event's storage name does not begin with its aggregate's.
    #[error("{event_type} is not the storage name of an event of {aggregate}")]
    EventName {
        /// The aggregate's name.
        aggregate: &'static str,
        /// The name found.
        event_type: String,
    },
    /// An attribute of an event is not what it is in this log.
    #[error("the commit at {position} cannot be decoded: {attribute} is not that of an event here")]
    Attribute {
        /// Its stream sequence.
        position: u64,
        /// The attribute's name.
        attribute: &'static str,
    },
    /// The body is not a CloudEvents batch of this program.
    #[error("the commit at {position} cannot be decoded: {source}")]
    Decode {
        /// Its stream sequence.
        position: u64,
        /// The fault.
        source: serde_json::Error,
    },
}

#[cfg(test)]
mod tests;
