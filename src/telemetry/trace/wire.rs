//! The messages to the collector: those of OTLP 1.x for traces, as far as they are filled in.
//!
//! The numbers of the fields are those of `opentelemetry/proto/trace/v1/trace.proto` and what it
//! includes, which are stable. A test holds them against bytes that OpenTelemetry's own library has
//! written.

use super::{
    TraceContext,
    span::{Recorded, Value},
};
use prost::Message;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The body of `POST /v1/traces`.
#[derive(Clone, PartialEq, Message)]
pub struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Scope {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub version: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    #[prost(int32, tag = "6")]
    pub kind: i32,
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "13")]
    pub links: Vec<Link>,
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    pub flags: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Link {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(fixed32, tag = "6")]
    pub flags: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Status {
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// The [`Status::code`] of what failed.
const ERROR: i32 = 2;

#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    #[prost(oneof = "AnyOf", tags = "1, 2, 3")]
    pub value: Option<AnyOf>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum AnyOf {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Truth(bool),
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// The answer to an [`ExportRequest`].
#[derive(Clone, PartialEq, Message)]
pub struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub rejected_spans: i64,
    #[prost(string, tag = "2")]
    pub error_message: String,
}

impl KeyValue {
    pub fn new(key: &str, value: Value) -> Self {
        let value = match value {
            Value::Text(text) => AnyOf::Text(text.into_owned()),
            Value::Number(number) => AnyOf::Number(number),
            Value::Truth(truth) => AnyOf::Truth(truth),
        };
        Self {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
        }
    }
}

/// The wall clock and the monotonic one at one moment: spans are timed by the latter.
pub struct Clock {
    wall: Duration,
    monotonic: Instant,
}

impl Clock {
    pub fn now() -> Self {
        Self {
            wall: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            monotonic: Instant::now(),
        }
    }

    fn unix_nanoseconds(&self, at: Instant) -> u64 {
        let ago = self.monotonic.saturating_duration_since(at);
        let then = self.wall.saturating_sub(ago);
        then.as_nanos().try_into().unwrap_or(u64::MAX)
    }
}

impl Span {
    pub fn new(recorded: Recorded, clock: &Clock) -> Self {
        let Recorded {
            context, parent, ..
        } = recorded;
        let attributes = recorded.attributes.into_iter();
        let failed = recorded.failed.map(|reason| Status {
            message: reason.into_owned(),
            code: ERROR,
        });
        Self {
            trace_id: context.trace().to_be_bytes().into(),
            span_id: context.span().to_be_bytes().into(),
            parent_span_id: match parent {
                0 => Vec::new(),
                parent => parent.to_be_bytes().into(),
            },
            name: recorded.name.into_owned(),
            kind: recorded.kind as i32,
            start_time_unix_nano: clock.unix_nanoseconds(recorded.begun),
            end_time_unix_nano: recorded
                .ended
                .map_or(0, |ended| clock.unix_nanoseconds(ended)),
            attributes: attributes
                .map(|(key, value)| KeyValue::new(key, value))
                .collect(),
            links: recorded.links.into_iter().map(Link::new).collect(),
            status: failed,
            flags: context.flags().into(),
        }
    }
}

impl Link {
    fn new(to: TraceContext) -> Self {
        Self {
            trace_id: to.trace().to_be_bytes().into(),
            span_id: to.span().to_be_bytes().into(),
            flags: to.flags().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::trace::span::Kind;

    /// A request with every field that is written here, as OpenTelemetry's library for Python (1.45)
    /// encodes it.
    const REQUEST: &str = "0ad1010a180a160a0c736572766963652e6e616d6512060a046d61727412b4010a12\
        0a096865616477617465721205312e322e33129d010a100af7651916cd43dd8448eb211c80319c1208b7ad6b7169\
        203331220800f067aa0ba902b72a06617070656e6430043901002a36fe9c97174102002a36fe9c97174a210a1268\
        65616477617465722e636f6d6d616e6473120b18fdffffffffffffffff016a210a100af7651916cd43dd8448eb21\
        1c80319c1208111213141516171835010000007a0d12096c6f737420726163651802850101000000";
    /// A response, by the same.
    const RESPONSE: &str = "0a080807120466756c6c";

    fn bytes(hexadecimal: &str) -> Vec<u8> {
        let digits: Vec<u8> = hexadecimal
            .bytes()
            .filter_map(|digit| char::from(digit).to_digit(16))
            .map(|digit| digit as u8)
            .collect();
        digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect()
    }

    fn context(header: &str) -> TraceContext {
        header.parse().unwrap()
    }

    #[test]
    fn a_request_is_the_bytes_that_opentelemetry_writes() {
        let begun = Instant::now();
        let clock = Clock {
            wall: Duration::from_nanos(1_700_000_000_000_000_002),
            monotonic: begun + Duration::from_nanos(1),
        };
        let recorded = Recorded {
            context: context("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            parent: 0x00f0_67aa_0ba9_02b7,
            kind: Kind::Producer,
            name: "append".into(),
            begun,
            ended: Some(clock.monotonic),
            attributes: vec![("headwater.commands", Value::Number(-3))],
            links: vec![context(
                "00-0af7651916cd43dd8448eb211c80319c-1112131415161718-01",
            )],
            failed: Some("lost race".into()),
        };
        let service = KeyValue::new("service.name", "mart".into());
        let scope = Scope {
            name: "headwater".to_owned(),
            version: "1.2.3".to_owned(),
        };
        let request = ExportRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource {
                    attributes: vec![service],
                }),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope),
                    spans: vec![Span::new(recorded, &clock)],
                }],
            }],
        };
        assert_eq!(ExportRequest::decode(&*bytes(REQUEST)), Ok(request.clone()));
        assert_eq!(request.encode_to_vec(), bytes(REQUEST));
    }

    #[test]
    fn a_collector_can_say_what_it_left_out() {
        let response = ExportResponse::decode(&*bytes(RESPONSE)).unwrap();
        let partial = response.partial_success.unwrap();
        assert_eq!(partial.rejected_spans, 7);
        assert_eq!(partial.error_message, "full");
        let all = ExportResponse::decode(&[][..]).unwrap();
        assert_eq!(all.partial_success, None);
    }
}
