//! The stored form, held against golden samples of whole commits.
//!
//! A sample that is no longer written so, or no longer read, means that the logs out there are no
//! longer understood. Such a test is never made to pass by changing the sample.

use super::*;
use crate::mart::{member, order, stock};
use std::{fs, path::PathBuf};

const SUBJECT: &str = "evt.stock.gangnam_apple-1kg";

fn received(quantity: i64, available: i64) -> EncodedEvent {
    let event = stock::Event::Received {
        quantity,
        available,
    };
    EncodedEvent::of::<stock::Stock>(&event).unwrap()
}

fn command(id: &str, version_before: u64, events: Vec<EncodedEvent>) -> CommandEvents {
    CommandEvents {
        command_id: id.into(),
        command_hash: None,
        caller_id: None,
        lineage: None,
        time: "2026-11-27T09:00:00.123456Z".parse().unwrap(),
        version_before,
        claims: Vec::new(),
        events,
    }
}

/// Holds a commit against its sample, in both directions, and returns what is read of the sample.
fn hold(name: &str, subject: &str, commands: &[CommandEvents]) -> Vec<StoredEvent> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/commits")
        .join(format!("{name}.json"));
    let (aggregate, id) = subject::parse_events(subject).unwrap();
    let aggregate: &'static str = aggregate.to_owned().leak();
    let written = encode(aggregate, id, commands).unwrap();
    let sample = fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!(
            "no sample {name}: {error}; {}",
            String::from_utf8_lossy(&written)
        )
    });
    let sample = sample.trim_end();
    assert_eq!(String::from_utf8(written).unwrap(), sample, "{name}");
    decode(subject, 7, sample.as_bytes()).unwrap()
}

#[test]
fn a_plain_commit_keeps_its_form() {
    let commands = [command("k-1", 1233, vec![received(100, 12_345)])];
    let read = hold("plain", SUBJECT, &commands);
    let recorded = &read[0].recorded;
    assert_eq!((recorded.version, recorded.position), (1234, 7));
    assert_eq!(recorded.event_type, "stock.received.v1");
    // What is a default is not written.
    assert_eq!(recorded.correlation_id, "k-1");
    assert_eq!(recorded.causation_id, "k-1");
    assert_eq!(read[0].command_hash, None);
    assert_eq!(recorded.caller_id, None);
    assert!(read[0].claims.is_empty());
}

#[test]
fn a_commit_of_a_command_with_a_key_keeps_its_form() {
    let mut keyed = command(r#"a"quote\and"#, 0, vec![received(1, 1)]);
    keyed.command_hash = Some(Fingerprint(0xab));
    let read = hold("with-key", SUBJECT, &[keyed]);
    assert_eq!(read[0].command_hash, Some(Fingerprint(0xab)));
    assert_eq!(read[0].recorded.command_id, r#"a"quote\and"#);
}

#[test]
fn a_commit_of_a_known_caller_keeps_its_form() {
    let mut called = command("k-1", 0, vec![received(1, 1), received(2, 3)]);
    called.caller_id = Some(r#"회원 "1""#.into());
    called.command_hash = Some(Fingerprint(0xab));
    let read = hold("with-caller", SUBJECT, &[called]);
    for event in read {
        assert_eq!(event.recorded.caller_id.as_deref(), Some(r#"회원 "1""#));
    }
}

#[test]
fn a_commit_of_several_commands_keeps_its_form() {
    let commands = [
        command("first", 4, vec![received(1, 1), received(2, 3)]),
        command("second", 6, vec![received(3, 6)]),
    ];
    let read = hold("several-commands", SUBJECT, &commands);
    let told: Vec<_> = read
        .iter()
        .map(|event| (&*event.recorded.command_id, event.recorded.version))
        .collect();
    assert_eq!(told, [("first", 5), ("first", 6), ("second", 7)]);
}

#[test]
fn a_commit_with_claims_keeps_its_form() {
    let registered = member::Event::Registered {
        name: "김하늘".to_owned(),
        email: "haneul@example.com".to_owned(),
        address: None,
    };
    let registered = EncodedEvent::of::<member::Member>(&registered).unwrap();
    let mut claiming = command("k-1", 0, vec![registered]);
    claiming.claims = vec![4711, 4712];
    let read = hold("with-claims", "evt.member.m-haneul", &[claiming]);
    assert_eq!(read[0].claims, [4711, 4712]);
}

#[test]
fn an_event_without_fields_keeps_its_form() {
    let confirmed = EncodedEvent::of::<order::Order>(&order::Event::Confirmed {}).unwrap();
    hold(
        "without-fields",
        "evt.order.o-1",
        &[command("k", 1, vec![confirmed])],
    );
}

/// What others may add to the batch, and what a process will: attributes that this program does not
/// write itself are read.
#[test]
fn a_commit_that_something_caused_is_read() {
    let caused = br#"[{"specversion":"1.0","source":"/order/o-1","id":"7","type":"order.paid.v1","time":"2026-11-27T09:00:00Z","datacontenttype":"application/json","commandid":"k","correlationid":"c","causationid":"e","callerid":"m","data":{}}]"#;
    let read = decode("evt.order.o-1", 9, caused).unwrap();
    let recorded = &read[0].recorded;
    assert_eq!(
        (&*recorded.correlation_id, &*recorded.causation_id),
        ("c", "e")
    );
    assert_eq!(recorded.caller_id.as_deref(), Some("m"));
}

#[test]
fn a_commit_of_another_aggregate_or_form_is_refused_by_its_attribute() {
    let right = r#"[{"specversion":"1.0","source":"/order/o-1","id":"7","type":"order.paid.v1","time":"2026-11-27T09:00:00Z","commandid":"k","data":{}}]"#;
    assert_eq!(
        decode("evt.order.o-1", 9, right.as_bytes()).unwrap().len(),
        1
    );
    for (from, to, attribute) in [
        ("/order/o-1", "/order/o-2", "source"),
        ("/order/o-1", "/headwater/order", "source"),
        (r#""id":"7""#, r#""id":"k/1""#, "id"),
        (r#""data""#, r#""claims":"x","data""#, "claims"),
        (r#""data""#, r#""commandhash":"x","data""#, "commandhash"),
    ] {
        let wrong = right.replace(from, to);
        let error = decode("evt.order.o-1", 9, wrong.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(attribute), "{error}");
        assert!(error.to_string().contains("at 9"), "{error}");
    }
    assert!(decode("evt.order.o-1", 9, b"hello").is_err());
    assert!(decode("evt.order.o-1", 9, b"[]").unwrap().is_empty());
}

#[test]
fn the_form_that_was_never_released_is_told_apart() {
    let before = br#"[{"specversion":"1.0","id":"k/1","type":"order.paid.v1","source":"/headwater/order","subject":"o-1","time":"2026-11-27T09:00:00Z","datacontenttype":"application/json","commandid":"k","correlationid":"k","causationid":"k","version":1,"data":{}}]"#;
    assert!(is_unreleased_form(before));
    assert!(!is_unreleased_form(b"[]"));
    assert!(!is_unreleased_form(b"hello"));
    let form_1 = encode("stock", "a", &[command("k", 0, vec![received(1, 1)])]).unwrap();
    assert!(!is_unreleased_form(&form_1));
}

/// An append of `stock.receive` without key and trace: its protocol line, its one header, its body.
#[test]
fn a_plain_append_takes_at_most_360_bytes_on_the_wire() {
    let id = crate::command::generated_id();
    let body = encode(
        "stock",
        "gangnam_apple-1kg",
        &[command(&id, 1233, vec![received(100, 12_345)])],
    )
    .unwrap();
    let header = "NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 1234567\r\n\r\n".len();
    let inbox = "_INBOX.uE8fI1DVzv9gGJ2yC6sTrX.1234567";
    let total = header + body.len();
    let line = format!("HPUB {SUBJECT} {inbox} {header} {total}\r\n");
    let wire = line.len() + total + "\r\n".len();
    assert!(wire <= 360, "{wire} bytes");
}
