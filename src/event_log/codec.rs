//! The stored form of a commit: a CloudEvents 1.0 JSON batch, one element an event.
//!
//! The shape is `application/cloudevents-batch+json` with the extension attributes `commandid`,
//! `commandhash`, `correlationid`, `causationid` and `version`. It is a storage format: fields are
//! added, never renamed or removed.

use super::subject;
use crate::{aggregate::Aggregate, recorded::Recorded};
use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;
use std::{borrow::Cow, io, ops::Range, sync::Arc};

/// The media type of a commit's body.
pub const CONTENT_TYPE: &str = "application/cloudevents-batch+json";
/// What an event takes in a commit beside its data, in bytes, as long as its ids are of the usual length.
const USUAL_ENVELOPE: usize = 640;

/// Writes times as RFC 3339 has them.
const PRINTER: DateTimePrinter = DateTimePrinter::new();

/// An event in its stored form, not yet part of a commit.
#[derive(Debug, Clone)]
pub struct EncodedEvent {
    /// Has both parts in it.
    text: String,
    event_type: Range<usize>,
    data: Range<usize>,
}

impl EncodedEvent {
    /// Encodes an event of aggregate `A`.
    ///
    /// # Errors
    ///
    /// Returns [`CodecError::Encode`] when it does not serialise to `{"type", "data"}`, or when its
    /// type does not begin with the aggregate's name.
    pub fn of<A: Aggregate>(event: &A::Event) -> Result<Self, CodecError> {
        let encode = |source| CodecError::Encode {
            aggregate: A::NAME,
            source,
        };
        let json = serde_json::to_string(event).map_err(encode)?;
        let encoded = match find_parts(&json) {
            Some((event_type, data)) => Self {
                text: json,
                event_type,
                data,
            },
            None => Parts::read(&json).map_err(encode)?,
        };
        let rest = encoded.event_type().strip_prefix(A::NAME);
        if rest.is_none_or(|rest| !rest.starts_with('.')) {
            return Err(CodecError::EventName {
                aggregate: A::NAME,
                event_type: encoded.event_type().to_owned(),
            });
        }
        Ok(encoded)
    }

    /// The full storage name, for example `order.placed.v1`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.text[self.event_type.clone()]
    }

    /// The event's fields as JSON.
    #[must_use]
    pub fn data(&self) -> &str {
        &self.text[self.data.clone()]
    }
}

/// Where the parts of an event stand as it is almost always written, `{"type":"…","data":…}`, without
/// reading it twice; `None` when it is written otherwise.
fn find_parts(json: &str) -> Option<(Range<usize>, Range<usize>)> {
    const BEGIN: &str = r#"{"type":""#;
    const BETWEEN: &str = r#"","data":"#;
    let named = json.strip_prefix(BEGIN)?;
    let length = named
        .bytes()
        .position(|byte| matches!(byte, b'"' | b'\\'))?;
    let data = named[length..].strip_prefix(BETWEEN)?.strip_suffix('}')?;
    // It is checked to be one value: there may be more than these two fields.
    serde_json::from_str::<IgnoredAny>(data).ok()?;
    let end = BEGIN.len() + length;
    let data = json.len() - 1 - data.len()..json.len() - 1;
    Some((BEGIN.len()..end, data))
}

/// The parts of an event, in whatever order and with whatever else.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Parts<'_> {
    fn read(json: &str) -> serde_json::Result<EncodedEvent> {
        let Parts { r#type, data } = serde_json::from_str(json)?;
        let text = [&*r#type, data.get()].concat();
        Ok(EncodedEvent {
            event_type: 0..r#type.len(),
            data: r#type.len()..text.len(),
            text,
        })
    }
}

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

/// What one command adds to a commit.
#[derive(Debug, Clone)]
pub struct CommandEvents {
    /// The command's id.
    pub command_id: Arc<str>,
    /// The fingerprint of the command's name and body, which tells a reused key from a retry; `None`
    /// when the client chose no key.
    pub command_hash: Option<Fingerprint>,
    /// When it was decided.
    pub time: Timestamp,
    /// The aggregate's version before its first event.
    pub version_before: u64,
    /// Its events.
    pub events: Vec<EncodedEvent>,
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    time: Timestamp,
    #[serde(borrow)]
    commandid: Cow<'a, str>,
    #[serde(default, borrow)]
    commandhash: Cow<'a, str>,
    #[serde(borrow)]
    correlationid: Cow<'a, str>,
    #[serde(borrow)]
    causationid: Cow<'a, str>,
    version: u64,
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
    let mut body = Vec::with_capacity(data.map(|data| data + USUAL_ENVELOPE).sum());
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
/// By hand, since the attributes' names and most of their values need no escaping, and looking for it
/// cost more than all the rest: the names of aggregates and the ids are of `A-Z a-z 0-9 _ -`.
fn write_events(
    body: &mut Vec<u8>,
    aggregate: &str,
    id: &str,
    command: &CommandEvents,
) -> Result<(), serde_json::Error> {
    let command_id = serde_json::to_string(&command.command_id)?;
    let open_id = &command_id[..command_id.len() - 1];
    let mut digits = itoa::Buffer::new();
    for (number, event) in (1_u64..).zip(&command.events) {
        let begin = r#"{"specversion":"1.0","id":"#;
        put(body, &[begin, open_id, "/", digits.format(number)]);
        put(body, &[r#"","type":"#]);
        serde_json::to_writer(&mut *body, event.event_type())?;
        put(body, &[r#","source":"/headwater/"#, aggregate]);
        put(body, &[r#"","subject":""#, id, r#"","time":""#]);
        let timed = PRINTER.print_timestamp(&command.time, &mut *body);
        timed.map_err(|error| serde_json::Error::io(io::Error::other(error)))?;
        put(body, &[r#"","datacontenttype":"application/json""#]);
        put(body, &[r#","commandid":"#, &command_id]);
        if let Some(hash) = command.command_hash {
            put(body, &[r#","commandhash":""#]);
            hash.write(body);
            body.push(b'"');
        }
        put(body, &[r#","correlationid":"#, &command_id]);
        put(body, &[r#","causationid":"#, &command_id]);
        let version = command.version_before + number;
        put(body, &[r#","version":"#, digits.format(version)]);
        put(body, &[r#","data":"#, event.data(), "},"]);
    }
    Ok(())
}

/// Writes texts as they are, one after the other.
pub(crate) fn put(to: &mut Vec<u8>, texts: &[&str]) {
    for text in texts {
        to.extend_from_slice(text.as_bytes());
    }
}

/// Reads the commit that stands at `position` on `subject`.
///
/// # Errors
///
/// Returns [`CodecError`] when the subject or the body is not a commit's.
pub fn decode(subject: &str, position: u64, body: &[u8]) -> Result<Vec<StoredEvent>, CodecError> {
    let (aggregate, id) =
        subject::parse_events(subject).ok_or_else(|| CodecError::Subject(subject.to_owned()))?;
    let events: Vec<Read<'_>> =
        serde_json::from_slice(body).map_err(|source| CodecError::Decode { position, source })?;
    Ok(events
        .into_iter()
        .map(|read| StoredEvent {
            recorded: Recorded {
                aggregate: aggregate.to_owned(),
                id: id.to_owned(),
                event_type: read.r#type.into_owned(),
                version: read.version,
                position,
                time: read.time,
                command_id: read.commandid.into_owned(),
                correlation_id: read.correlationid.into_owned(),
                causation_id: read.causationid.into_owned(),
                data: Arc::from(read.data.unwrap_or_else(no_data)),
            },
            command_hash: Fingerprint::read(&read.commandhash),
        })
        .collect())
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
        /// What was wrong.
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
    /// The body is not a CloudEvents batch of this program.
    #[error("the commit at {position} cannot be decoded: {source}")]
    Decode {
        /// Its stream sequence.
        position: u64,
        /// What was wrong.
        source: serde_json::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_whatever_the_client_called_its_command() {
        let event = |name: &str, data: &str| {
            let json = format!(r#"{{"data":{data},"type":"{name}"}}"#);
            Parts::read(&json).unwrap()
        };
        let command = |id: &str, version_before, events| CommandEvents {
            command_id: id.into(),
            command_hash: (version_before == 0).then_some(Fingerprint(0xab)),
            time: "2027-01-01T00:00:00.5Z".parse().unwrap(),
            version_before,
            events,
        };
        let commands = [
            command(r#"a"quote\and"#, 0, vec![event("a.x.v1", r#"{"n":1}"#)]),
            command(
                "plain",
                1,
                vec![event("a.x.v1", "{}"), event("a.y.v1", "[2]")],
            ),
        ];
        let body = encode("a", "id-1", &commands).unwrap();
        let written: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            written[0],
            serde_json::json!({
                "specversion": "1.0", "id": r#"a"quote\and/1"#, "type": "a.x.v1", "source": "/headwater/a",
                "subject": "id-1", "time": "2027-01-01T00:00:00.5Z", "datacontenttype": "application/json",
                "commandid": r#"a"quote\and"#, "commandhash": "00000000000000ab",
                "correlationid": r#"a"quote\and"#, "causationid": r#"a"quote\and"#, "version": 1, "data": {"n": 1},
            })
        );
        assert_eq!(written[2]["id"], "plain/2");
        assert_eq!(written[2].get("commandhash"), None);
        let read = decode("evt.a.id-1", 9, &body).unwrap();
        let told: Vec<_> = read
            .iter()
            .map(|event| (&*event.recorded.command_id, event.recorded.version))
            .collect();
        assert_eq!(told, [(r#"a"quote\and"#, 1), ("plain", 2), ("plain", 3)]);
        assert_eq!(read[0].command_hash, Some(Fingerprint(0xab)));
        assert_eq!(encode("a", "id-1", &[]).unwrap(), b"[]");
    }
}
