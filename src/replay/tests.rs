use super::*;
use crate::{
    aggregate::{Aggregate, Context, Decision},
    platform::Domain,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use utoipa::ToSchema;

#[derive(Clone, Serialize, Deserialize, ToSchema)]
enum Command {
    Count { by: u32 },
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum Event {
    #[serde(rename = "counter.counted.v2")]
    Counted { by: u32, twice: bool },
}

#[derive(Default, Clone, Serialize, Deserialize)]
struct Counter {
    count: u32,
}

impl Aggregate for Counter {
    const NAME: &'static str = "counter";
    type Command = Command;
    type Event = Event;
    type Rejection = std::convert::Infallible;

    fn decide(&self, _: Command, _: &Context) -> Result<Decision<Event>, Self::Rejection> {
        Ok(Decision::nothing())
    }

    fn evolve(&mut self, event: &Event) {
        let Event::Counted { by, twice } = event;
        assert!(*by < 100, "no counter counts so far");
        self.count += if *twice { 2 * by } else { *by };
    }

    fn upcast(event_type: &str, data: &RawValue) -> Option<(&'static str, Value)> {
        let old: Value = serde_json::from_str(data.get()).ok()?;
        (event_type == "counter.counted.v1").then(|| {
            (
                "counter.counted.v2",
                json!({"by": old["by"], "twice": false}),
            )
        })
    }
}

fn message(subject: &str, position: u64, events: &[(u64, &str, Value)]) -> StoredMessage {
    let source = subject.strip_prefix("evt.").unwrap().replace('.', "/");
    let events = events.iter().map(|(version, event_type, data)| {
        json!({
            "specversion": "1.0", "source": format!("/{source}"), "id": version.to_string(),
            "type": event_type, "time": "2026-11-27T09:00:00Z", "commandid": "k", "data": data,
        })
    });
    StoredMessage {
        subject: subject.to_owned(),
        position,
        time: 0,
        stored: jiff::Timestamp::UNIX_EPOCH,
        traceparent: None,
        payload: json!(events.collect::<Vec<_>>()).to_string().into(),
    }
}

fn known() -> Arc<Known> {
    let domain = Domain::new().aggregate::<Counter>();
    let options = ReplayOptions {
        left_out: vec!["gone".to_owned()],
        ..ReplayOptions::default()
    };
    Arc::new(Known::new(
        domain.stored_aggregates(),
        HashMap::new(),
        &options,
    ))
}

fn fold(messages: &[StoredMessage]) -> (Counts, Vec<Fault>) {
    let (mut folder, mut counts) = (CommitFolder::new(known()), Counts::default());
    let faults = messages
        .iter()
        .filter_map(|it| folder.apply(it, &mut counts));
    let faults = faults.collect();
    (counts, faults)
}

fn counted(version: u64, by: u32) -> (u64, &'static str, Value) {
    (version, "counter.counted.v1", json!({ "by": by }))
}

#[test]
fn what_is_folded_is_counted_by_type() {
    let two = json!({"by": 1, "twice": true});
    let (counts, faults) = fold(&[
        message(
            "evt.counter.a",
            1,
            &[counted(1, 5), (2, "counter.counted.v2", two)],
        ),
        message("evt.counter.b", 2, &[counted(1, 5)]),
        message("evt.counter.a", 3, &[]),
    ]);
    assert_eq!(faults, []);
    assert_eq!(counts.commits, 3);
    let of = |events, upcast| TypeCounts {
        events,
        decoded: events,
        upcast,
        folded: events,
    };
    assert_eq!(counts.types["counter.counted.v1"], of(2, 2));
    assert_eq!(counts.types["counter.counted.v2"], of(1, 0));
}

#[test]
fn an_aggregate_breaks_once_and_is_counted_on() {
    let wrong = (
        2,
        "counter.counted.v2",
        json!({"by": "many", "twice": true}),
    );
    let (counts, faults) = fold(&[
        message("evt.counter.a", 7, &[counted(1, 5), wrong]),
        message("evt.counter.a", 8, &[counted(3, 5)]),
        message("evt.counter.a", 9, &[counted(5, 5)]),
    ]);
    let [fault] = &faults[..] else {
        panic!("{faults:?}");
    };
    assert_eq!((fault.position, fault.version), (7, Some(2)));
    assert_eq!(fault.event_type.as_deref(), Some("counter.counted.v2"));
    assert_eq!(fault.field.as_deref(), Some("by"));
    let first = counts.types["counter.counted.v1"];
    assert_eq!((first.events, first.decoded, first.folded), (3, 1, 1));
}

#[test]
fn a_panic_a_gap_and_what_is_not_known_are_faults() {
    let unknown = (1, "counter.lost.v1", json!({}));
    let (counts, faults) = fold(&[
        message("evt.counter.panics", 1, &[counted(1, 100)]),
        message("evt.counter.gap", 2, &[counted(2, 1)]),
        message("evt.counter.unknown", 3, &[unknown]),
        message("evt.other.a", 4, &[(1, "other.done.v1", json!({}))]),
        message("evt.gone.a", 5, &[(1, "gone.done.v1", json!({}))]),
    ]);
    let told: Vec<_> = faults
        .iter()
        .map(|it| (it.position, it.field.as_deref()))
        .collect();
    assert_eq!(
        told,
        [(1, None), (2, Some("id")), (3, Some("type")), (4, None)]
    );
    assert!(
        faults[0].reason.contains("no counter counts so far"),
        "{}",
        faults[0]
    );
    assert!(faults[3].reason.contains("no aggregate"), "{}", faults[3]);
    let panicked = counts.types["counter.counted.v1"];
    assert_eq!(
        (panicked.events, panicked.decoded, panicked.folded),
        (2, 1, 0)
    );
}

#[test]
fn what_does_not_fit_is_left_for_another_reading_and_nothing_is_counted_twice() {
    let messages: Vec<_> = (0..500)
        .map(|number| {
            message(
                &format!("evt.counter.c-{number}"),
                number + 1,
                &[counted(1, 1)],
            )
        })
        .collect();
    let (mut left, mut readings, mut report) = (u64::MAX, 0, Report::of(Extent::default()));
    while left != 0 {
        let mut pass = Pass::new(known(), left, 50_000);
        for message in &messages {
            let part = part_of(&message.subject);
            if left & (1 << part) != 0 {
                pass.apply(part, message);
            }
        }
        let passed = pass.finish();
        left = passed.left;
        readings += 1;
        for counts in passed.counts {
            report.add(counts, 10);
        }
    }
    assert!(readings > 2, "{readings}");
    assert_eq!(
        (report.events, report.aggregates, report.commits),
        (500, 500, 500)
    );
}
