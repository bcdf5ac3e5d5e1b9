//! The lines of the file, and how they are told apart again, byte for byte.
//!
//! A commit is as many lines as it has events: each is the very text of the event with its place added at the
//! end. Whatever is no such commit (a claim, a record of the log, a commit without events, what cannot be
//! read) is one line around its body. All attributes that are added are CloudEvents extensions.

use crate::event_log::{
    StoredMessage, subject,
    whole::{LoggedMessage, Trace},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The type of the first line.
pub(super) const BEGIN: &str = "headwater.export.begin.v1";
/// The type of the last line.
pub(super) const END: &str = "headwater.export.end.v1";
/// The source of what is no event of an aggregate.
const SOURCE: &str = "/log";

/// The data of the first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begin {
    /// The position of the first message.
    pub(super) first: u64,
    /// The position of the last one.
    pub(super) last: u64,
    /// The lists of what is excluded, as they stand at the end.
    pub(super) exclusions: Vec<ExclusionList>,
}

/// The list of what is excluded of one aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ExclusionList {
    pub(super) subject: String,
    pub(super) position: u64,
    pub(super) data: String,
}

/// The data of the last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    /// The number of messages.
    pub(super) messages: u64,
    /// The SHA-256 of all lines before, in hexadecimal digits.
    pub(super) sha256: String,
}

/// The kinds of lines.
#[derive(Debug)]
pub(super) enum Line {
    Begin(Begin),
    /// A part of a message, or the whole of it.
    Part(Part),
    End(End),
}

/// A line's part of a message.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) position: u64,
    /// Which part of how many.
    pub(super) number: (u32, u32),
    pub(super) subject: String,
    /// The event, or the whole body.
    pub(super) body: Body,
    pub(super) trace: Option<Trace>,
}

#[derive(Debug)]
pub(super) enum Body {
    /// One event of a commit.
    Event(Bytes),
    /// All that stands there.
    Whole(Bytes),
}

/// The attributes that are read of every line.
#[derive(Deserialize)]
struct Attributes<'a> {
    #[serde(borrow, default)]
    source: Cow<'a, str>,
    #[serde(borrow, default)]
    r#type: Cow<'a, str>,
    #[serde(borrow, default)]
    subject: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    position: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    part: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tracestate: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data_base64: Option<Cow<'a, str>>,
}

/// Returns whether a text begins as the first line does, or is the beginning of that.
pub(super) fn may_begin(text: &[u8]) -> bool {
    let begin = format!(r#"{{"specversion":"1.0","source":"{SOURCE}","id":"begin""#);
    let length = begin.len().min(text.len());
    begin.as_bytes()[..length] == text[..length]
}

/// Writes the first line.
pub(super) fn begin(begin: &Begin) -> serde_json::Result<Vec<u8>> {
    frame(BEGIN, "begin", begin)
}

/// Writes the last line.
pub(super) fn end(end: &End) -> serde_json::Result<Vec<u8>> {
    frame(END, "end", end)
}

fn frame(event_type: &str, id: &str, data: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let data = serde_json::to_string(data)?;
    let line = format!(
        r#"{{"specversion":"1.0","source":"{SOURCE}","id":"{id}","type":"{event_type}","data":{data}}}"#
    );
    Ok((line + "\n").into_bytes())
}

/// Writes the lines of a message.
pub(super) fn write(logged: &LoggedMessage, into: &mut Vec<u8>) -> serde_json::Result<()> {
    let LoggedMessage { message, trace } = logged;
    let Some(events) = events(message) else {
        return write_whole(message, trace.as_ref(), into);
    };
    let count = events.len() as u32;
    for (number, event) in (1..).zip(events) {
        into.extend_from_slice(&event.as_bytes()[..event.len() - 1]);
        let place = suffix(message.position, (number, count), trace.as_ref())?;
        into.extend_from_slice(place.as_bytes());
        into.push(b'\n');
    }
    Ok(())
}

/// The texts of a commit's events, where nothing else stands in it.
fn events(message: &StoredMessage) -> Option<Vec<&str>> {
    let (aggregate, id) = subject::parse_events(&message.subject)?;
    let body = std::str::from_utf8(&message.payload).ok()?;
    let events: Vec<&RawValue> = serde_json::from_str(body).ok()?;
    let texts: Vec<&str> = events.iter().map(|event| event.get()).collect();
    // With a bracket before, and a comma or a bracket after each.
    let length = 1 + texts.iter().map(|text| text.len() + 1).sum::<usize>();
    if texts.is_empty() || length != body.len() || !texts.iter().all(|it| is_plain(it)) {
        return None;
    }
    let own = texts.iter().all(|text| {
        let read = serde_json::from_str::<Attributes<'_>>(text);
        read.is_ok_and(|read| {
            let source = read
                .source
                .strip_prefix('/')
                .and_then(|it| it.split_once('/'));
            let added = [
                &read.position,
                &read.part,
                &read.traceparent,
                &read.tracestate,
            ];
            source == Some((aggregate, id))
                && added.iter().all(|it| it.is_none())
                && ![BEGIN, END].contains(&&*read.r#type)
        })
    });
    own.then_some(texts)
}

/// Returns whether attributes can be added at the end of an object, on one line.
fn is_plain(text: &str) -> bool {
    let inner = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    inner.is_some_and(|inner| !inner.trim().is_empty()) && !text.contains(['\n', '\r'])
}

fn write_whole(
    message: &StoredMessage,
    trace: Option<&Trace>,
    into: &mut Vec<u8>,
) -> serde_json::Result<()> {
    let StoredMessage {
        subject, position, ..
    } = message;
    let event_type = match subject.split('.').next() {
        Some("claim") => "headwater.claim.v1",
        Some("evt") => "headwater.commit.v1",
        _ => "headwater.record.v1",
    };
    let subject = serde_json::to_string(subject)?;
    let begin = format!(
        r#"{{"specversion":"1.0","source":"{SOURCE}","id":"{position}","type":"{event_type}","subject":{subject}"#
    );
    into.extend_from_slice(begin.as_bytes());
    let json = serde_json::from_slice::<&RawValue>(&message.payload).ok();
    let json = json
        .map(RawValue::get)
        .filter(|text| text.len() == message.payload.len() && !text.contains(['\n', '\r']));
    match json {
        Some(text) => {
            into.extend_from_slice(br#","data":"#);
            into.extend_from_slice(text.as_bytes());
        }
        None => {
            into.extend_from_slice(br#","data_base64":""#);
            into.extend_from_slice(STANDARD.encode(&message.payload).as_bytes());
            into.push(b'"');
        }
    }
    into.extend_from_slice(suffix(*position, (1, 1), trace)?.as_bytes());
    into.push(b'\n');
    Ok(())
}

/// Makes what is added at the end of a line.
fn suffix(
    position: u64,
    (number, count): (u32, u32),
    trace: Option<&Trace>,
) -> serde_json::Result<String> {
    let mut suffix = format!(r#","position":"{position}""#);
    if count != 1 {
        suffix += &format!(r#","part":"{number}/{count}""#);
    }
    if let Some(Trace { parent, state }) = trace {
        suffix += &format!(r#","traceparent":{}"#, serde_json::to_string(parent)?);
        if let Some(state) = state {
            suffix += &format!(r#","tracestate":{}"#, serde_json::to_string(state)?);
        }
    }
    suffix.push('}');
    Ok(suffix)
}

/// Reads a line, without the sign that ends it.
pub(super) fn read(line: &str) -> Result<Line, String> {
    let attributes: Attributes<'_> =
        serde_json::from_str(line).map_err(|error| error.to_string())?;
    let data = || attributes.data.map_or("null", RawValue::get);
    let wrong = |error: serde_json::Error| error.to_string();
    match &*attributes.r#type {
        BEGIN => return serde_json::from_str(data()).map(Line::Begin).map_err(wrong),
        END => return serde_json::from_str(data()).map(Line::End).map_err(wrong),
        _ => {}
    }
    let position = attributes.position.as_deref();
    let position = position.and_then(|digits| digits.parse().ok());
    let position = position.ok_or("it has no position")?;
    let number: (u32, u32) = match attributes.part.as_deref() {
        None => (1, 1),
        Some(part) => part
            .split_once('/')
            .and_then(|(number, count)| Some((number.parse().ok()?, count.parse().ok()?)))
            .filter(|(number, count)| 1 <= *number && number <= count)
            .ok_or("its part is none")?,
    };
    let trace = attributes.traceparent.map(|parent| Trace {
        parent: parent.into_owned(),
        state: attributes.tracestate.map(Cow::into_owned),
    });
    let (subject, body) = match attributes.source.strip_prefix('/') {
        Some("log") => {
            let subject = attributes.subject.ok_or("it has no subject")?.into_owned();
            let body: Bytes = match (attributes.data, attributes.data_base64) {
                (Some(data), None) => data.get().to_owned().into(),
                (None, Some(coded)) => {
                    let decoded = STANDARD.decode(&*coded);
                    decoded.map_err(|error| error.to_string())?.into()
                }
                _ => return Err("it has no data, or two".to_owned()),
            };
            (subject, Body::Whole(body))
        }
        Some(source) => {
            let suffix = suffix(position, number, trace.as_ref()).map_err(wrong)?;
            let event = line
                .strip_suffix(&*suffix)
                .ok_or("it was changed at its end")?;
            let body = Bytes::from([event, "}"].concat());
            let subject = format!("evt.{}", source.replacen('/', ".", 1));
            (subject, Body::Event(body))
        }
        None => return Err("its source is none of a log".to_owned()),
    };
    Ok(Line::Part(Part {
        position,
        number,
        subject,
        body,
        trace,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(subject: &str, body: &str, trace: Option<(&str, Option<&str>)>) -> LoggedMessage {
        LoggedMessage {
            message: StoredMessage {
                subject: subject.to_owned(),
                position: 17,
                time: 0,
                stored: jiff::Timestamp::UNIX_EPOCH,
                traceparent: None,
                payload: body.to_owned().into(),
            },
            trace: trace.map(|(parent, state)| Trace {
                parent: parent.to_owned(),
                state: state.map(str::to_owned),
            }),
        }
    }

    fn event(version: u64) -> String {
        format!(
            r#"{{"specversion":"1.0","source":"/order/o-1","id":"{version}","type":"order.paid.v1","time":"2026-11-27T09:00:00Z","commandid":"k","data":{{"position":"1","사과":[1, 2]}}}}"#
        )
    }

    #[track_caller]
    fn comes_back(logged: &LoggedMessage) -> Vec<String> {
        let mut text = Vec::new();
        write(logged, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let mut message = super::super::lines::Assembly::default();
        let mut done = None;
        for line in &lines {
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            for attribute in ["specversion", "source", "id", "type"] {
                assert!(json[attribute].is_string(), "{line} has no {attribute}");
            }
            let Ok(Line::Part(part)) = read(line) else {
                panic!("{line}");
            };
            assert!(done.is_none(), "{line} comes after the last part");
            done = message.add(part).unwrap();
        }
        let done = done.expect("the message is complete");
        assert_eq!(done.message.payload, logged.message.payload);
        assert_eq!(done.message.subject, logged.message.subject);
        assert_eq!((done.message.position, &done.trace), (17, &logged.trace));
        lines
    }

    #[test]
    fn a_commit_is_a_line_for_each_event_and_comes_back_byte_for_byte() {
        let one = logged("evt.order.o-1", &format!("[{}]", event(1)), None);
        let lines = comes_back(&one);
        let [line] = &lines[..] else {
            panic!("{lines:?}");
        };
        assert!(line.ends_with(r#"},"position":"17"}"#), "{line}");
        let two = format!("[{},{}]", event(1), event(2));
        let two = logged("evt.order.o-1", &two, Some(("00-1-2-01", Some("a=\"b\""))));
        let lines = comes_back(&two);
        assert_eq!(lines.len(), 2);
        assert!(
            lines[1].contains(r#""part":"2/2","traceparent":"00-1-2-01""#),
            "{lines:?}"
        );
    }

    #[test]
    fn whatever_else_stands_there_comes_back_byte_for_byte() {
        let claim = r#"{"source":"/member/m-1","intent":"take","after":3}"#;
        let spaced = format!("[ {} ]", event(1));
        let foreign = event(1).replace("/order/o-1", "/order/o-2");
        let added = event(1).replacen(r#""id""#, r#""position":"9","id""#, 1);
        for (subject, body) in [
            ("claim.member_email.abc", claim),
            ("log.secret", "{}"),
            ("evt.order.o-1", "[]"),
            ("evt.order.o-1", "[{}]"),
            ("evt.order.o-1", "[{ }]"),
            ("evt.order.o-1", "junk\n\"more\""),
            ("evt.order.o-1", ""),
            ("evt.order.o-1", " {} "),
            ("evt.order.o-1", "{\n}"),
            ("evt.order.o-1", &spaced),
            ("evt.order.o-1", &format!("[{foreign}]")),
            ("evt.order.o-1", &format!("[{added}]")),
            ("evt.a.b.c", &format!("[{}]", event(1))),
        ] {
            assert_eq!(comes_back(&logged(subject, body, None)).len(), 1, "{body}");
        }
        let junk = LoggedMessage {
            message: StoredMessage {
                payload: Bytes::from_static(&[0xff, 0, 0xfe]),
                ..logged("evt.order.o-1", "", None).message
            },
            trace: None,
        };
        comes_back(&junk);
    }

    #[test]
    fn a_line_that_was_changed_is_refused() {
        let mut text = Vec::new();
        let two = logged("evt.order.o-1", &format!("[{}]", event(1)), None);
        write(&two, &mut text).unwrap();
        let line = String::from_utf8(text).unwrap();
        let line = line.trim_end();
        for wrong in [
            line.replace(r#","position":"17""#, ""),
            line.replace(r#","position":"17"}"#, r#","position":"17" }"#),
            line.replace(r#""position":"17""#, r#""position":17"#),
            line.replace(r#""position":"17""#, r#""position":"17","part":"3/2""#),
            line[..40].to_owned(),
            String::new(),
        ] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
    }
}
