//! An event as it stands in the log: the vocabulary that the command side's history and the query
//! side's views share. Pure.

use crate::aggregate::Aggregate;
use jiff::Timestamp;
use serde::{
    Deserialize, Serialize,
    de::{
        self, DeserializeOwned, DeserializeSeed, MapAccess,
        value::{BorrowedStrDeserializer, MapAccessDeserializer},
    },
};
use serde_json::value::{RawValue, to_raw_value};
use std::sync::Arc;

/// One event of the log, with its place in it. `data` is decoded only by who needs it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recorded {
    /// The aggregate's name, for example `"order"`.
    pub aggregate: String,
    /// The aggregate's id.
    pub id: String,
    /// The full storage name, for example `"order.placed.v1"`.
    pub event_type: String,
    /// The aggregate's version after this event; the first event is 1.
    pub version: u64,
    /// The stream sequence of the commit that carries the event. Events of one commit share it.
    pub position: u64,
    /// The time when the command was decided.
    pub time: Timestamp,
    /// The id of the command that caused the event.
    pub command_id: String,
    /// The id that all consequences of one original command share.
    pub correlation_id: String,
    /// The id of what caused the command: an event, or the command itself.
    pub causation_id: String,
    /// The caller of the command, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_id: Option<String>,
    /// The event's fields as JSON.
    pub data: Arc<RawValue>,
}

impl Recorded {
    /// Decodes the event as one of aggregate `A`, upcasting older storage versions.
    ///
    /// # Errors
    ///
    /// Returns [`DecodeError`] when the type is not one that `A` knows, or the data has another shape.
    pub fn event<A: Aggregate>(&self) -> Result<A::Event, DecodeError> {
        decode_event::<A>(&self.event_type, &self.data)
    }
}

/// Decodes a stored event of aggregate `A` from its full storage name and its data.
///
/// # Errors
///
/// Returns [`DecodeError`] when the type is not one that `A` knows, or the data has another shape.
pub fn decode_event<A: Aggregate>(
    event_type: &str,
    data: &RawValue,
) -> Result<A::Event, DecodeError> {
    let read = match A::upcast(event_type, data) {
        None => Tagged::read(event_type, data),
        Some((event_type, data)) => {
            to_raw_value(&data).and_then(|data| Tagged::read(event_type, &data))
        }
    };
    read.map_err(|source| DecodeError {
        event_type: event_type.to_owned(),
        source,
    })
}

/// An event as a map of its type and its data, in this order: as `{"type": …, "data": …}` is read, without
/// writing that.
struct Tagged<'a> {
    event_type: Option<&'a str>,
    data: Option<&'a RawValue>,
}

impl<'a> Tagged<'a> {
    fn read<E: DeserializeOwned>(
        event_type: &'a str,
        data: &'a RawValue,
    ) -> Result<E, serde_json::Error> {
        E::deserialize(MapAccessDeserializer::new(Self {
            event_type: Some(event_type),
            data: Some(data),
        }))
    }
}

impl<'de> MapAccess<'de> for Tagged<'de> {
    type Error = serde_json::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Self::Error> {
        let key = match (self.event_type, self.data) {
            (Some(_), _) => "type",
            (None, Some(_)) => "data",
            (None, None) => return Ok(None),
        };
        seed.deserialize(BorrowedStrDeserializer::new(key))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Self::Error> {
        match (self.event_type.take(), self.data) {
            (Some(event_type), _) => seed.deserialize(BorrowedStrDeserializer::new(event_type)),
            (None, Some(data)) => {
                self.data = None;
                seed.deserialize(data)
            }
            (None, None) => Err(de::Error::custom("an event has a type and data")),
        }
    }
}

/// A stored event as `A::Event` is written, in its newest form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadEvent {
    /// `{"type": …, "data": …}`.
    pub json: String,
    /// True if it was stored in an older form.
    pub upcast: bool,
}

/// Brings a stored event of aggregate `A` to its newest form, without decoding it.
///
/// # Errors
///
/// Returns an error when what the aggregate makes of it cannot be written down.
pub fn read_event<A: Aggregate>(
    event_type: &str,
    data: &RawValue,
) -> Result<ReadEvent, serde_json::Error> {
    #[derive(Serialize)]
    struct Tagged<'a, D> {
        r#type: &'a str,
        data: D,
    }
    let (json, upcast) = match A::upcast(event_type, data) {
        Some((event_type, data)) => {
            let tagged = Tagged {
                r#type: event_type,
                data,
            };
            (serde_json::to_string(&tagged), true)
        }
        None => {
            let tagged = Tagged {
                r#type: event_type,
                data,
            };
            (serde_json::to_string(&tagged), false)
        }
    };
    json.map(|json| ReadEvent { json, upcast })
}

/// A stored event that this program cannot read.
#[derive(Debug, thiserror::Error)]
#[error("event {event_type} cannot be decoded: {source}")]
pub struct DecodeError {
    /// The storage name found.
    pub event_type: String,
    /// The fault.
    pub source: serde_json::Error,
}

impl DecodeError {
    /// Returns whether the aggregate of this program has no event of this type. That of another build may.
    #[must_use]
    pub fn is_unknown_type(&self) -> bool {
        let unknown = format!("unknown variant `{}`", self.event_type);
        self.source.to_string().starts_with(&unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "type", content = "data", deny_unknown_fields)]
    enum Event {
        #[serde(rename = "a.put.v1")]
        Put { n: i64, text: Option<String> },
        #[serde(rename = "a.raw.v1")]
        Raw { raw: AsWritten },
        #[serde(rename = "a.list.v1")]
        List(Vec<u8>),
    }

    /// A value that is kept as it was written.
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(transparent)]
    struct AsWritten(Box<RawValue>);

    impl PartialEq for AsWritten {
        fn eq(&self, other: &Self) -> bool {
            self.0.get() == other.0.get()
        }
    }

    /// The other way: as the written whole is read.
    fn whole(event_type: &str, data: &RawValue) -> Result<Event, serde_json::Error> {
        let text = format!(r#"{{"type":{event_type:?},"data":{}}}"#, data.get());
        serde_json::from_str(&text)
    }

    #[test]
    fn an_event_is_read_as_its_written_whole_is() {
        for (event_type, data) in [
            ("a.put.v1", r#"{"n":1}"#),
            ("a.put.v1", r#" {"n": -1, "text": "\u0041 사과"} "#),
            ("a.put.v1", r#"{"n":1.5}"#),
            ("a.put.v1", r#"{"n":1,"m":2}"#),
            ("a.put.v1", r#"{"n":1,"n":2}"#),
            ("a.put.v1", r#"{}"#),
            ("a.put.v1", "null"),
            ("a.raw.v1", r#"{"raw":{"b":1,  "a":[1e400]}}"#),
            ("a.list.v1", "[1,2]"),
            ("a.list.v1", "[256]"),
            ("a.gone.v1", "{}"),
            ("", "{}"),
        ] {
            let data = RawValue::from_string(data.to_owned()).unwrap();
            let read = Tagged::read::<Event>(event_type, &data);
            match (read, whole(event_type, &data)) {
                (Ok(read), Ok(whole)) => assert_eq!(read, whole),
                (Err(read), Err(whole)) => {
                    let reason = |error: serde_json::Error| {
                        let text = error.to_string();
                        text.split(" at line").next().unwrap_or_default().to_owned()
                    };
                    assert_eq!(reason(read), reason(whole), "{event_type} {data}");
                }
                (read, whole) => panic!("{event_type} {data}: {read:?}, but {whole:?}"),
            }
        }
    }
}
