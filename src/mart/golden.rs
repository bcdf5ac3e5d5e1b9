//! The storage format of the mart's events, held against the samples in `tests/golden`.
//!
//! A sample that no longer decodes means that the logs out there no longer do. Such a test is never
//! made to pass by changing the sample: the event gets a new version, and the old one an upcast.

use super::{
    display::{self, Display},
    fulfilment::{self, Fulfilment},
    member::{self, Member},
    order::{self, Order, OrderLine},
    product::{self, Product},
    stock::{self, Stock},
};
use headwater_core::{
    aggregate::Aggregate,
    process::{Instance, Process, Record},
    recorded::decode_event,
    testkit::event_types,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use std::{collections::BTreeSet, fmt::Debug, fs, path::PathBuf};

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden"))
}

/// Holds the events against the samples of their types, and demands one for every type.
fn hold<A: Aggregate>(events: Vec<A::Event>)
where
    A::Event: PartialEq + Debug,
{
    let held = hold_each(events, |event_type, data| {
        decode_event::<A>(event_type, data).unwrap()
    });
    assert_eq!(held, event_types::<A>(), "an event without a sample");
}

/// Holds each against the sample of its type, and returns the types.
fn hold_each<E: Serialize + PartialEq + Debug>(
    events: Vec<E>,
    read: impl Fn(&str, &RawValue) -> E,
) -> Vec<String> {
    #[derive(Deserialize)]
    struct Sample {
        r#type: String,
        data: Box<RawValue>,
    }

    let mut held = Vec::new();
    for event in events {
        let written = serde_json::to_value(&event).unwrap();
        let event_type = written["type"].as_str().unwrap().to_owned();
        let sample = fs::read_to_string(folder().join(format!("{event_type}.json")))
            .unwrap_or_else(|error| panic!("no sample of {event_type}: {error}"));
        let expected: Value = serde_json::from_str(&sample).unwrap();
        assert_eq!(written, expected, "{event_type} is written differently");
        let sample: Sample = serde_json::from_str(&sample).unwrap();
        let read = read(&sample.r#type, &sample.data);
        assert_eq!(read, event, "{event_type} is read differently");
        held.push(event_type);
    }
    held
}

/// The storage names of a process's facts, from the message that lists them.
fn fact_types<F: DeserializeOwned + Debug>() -> BTreeSet<String> {
    let unknown = serde_json::json!({ "type": "?", "data": {} });
    let message = serde_json::from_value::<F>(unknown)
        .unwrap_err()
        .to_string();
    let names = message.split('`').skip(3).step_by(2);
    names.map(str::to_owned).collect()
}

#[test]
fn product_events_keep_their_storage_format() {
    use product::Event;

    hold::<Product>(vec![
        Event::Registered {
            name: "사과 1kg".to_owned(),
            name_en: Some("Apple 1kg".to_owned()),
            price: 4_900,
            category: "fruit".to_owned(),
            unit: Some("1kg".to_owned()),
            barcode: Some("8801234500017".to_owned()),
            description: Some("경북 청송".to_owned()),
        },
        Event::Renamed {
            name: "꿀사과 1kg".to_owned(),
            name_en: Some("Honey apple 1kg".to_owned()),
        },
        Event::Repriced { price: 5_200 },
        Event::Recategorized {
            category: "seasonal".to_owned(),
        },
        Event::Described {
            description: "아침에 딴 사과".to_owned(),
        },
        Event::Discontinued {},
        Event::Relisted {},
    ]);
}

#[test]
fn stock_events_keep_their_storage_format() {
    use stock::Event;

    let order = |id: &str| id.to_owned();
    hold::<Stock>(vec![
        Event::Received {
            quantity: 100,
            available: 100,
        },
        Event::Reserved {
            order: order("o-1"),
            quantity: 3,
            available: 97,
        },
        Event::Released {
            order: order("o-1"),
            quantity: 3,
            available: 100,
        },
        Event::Shipped {
            order: order("o-2"),
            quantity: 2,
            available: 98,
        },
        Event::Adjusted {
            delta: -5,
            reason: "spoiled".to_owned(),
            available: 93,
        },
    ]);
}

#[test]
fn display_events_keep_their_storage_format() {
    use display::Event;

    let sku = || "apple-1kg".to_owned();
    hold::<Display>(vec![
        Event::Opened {
            branch: "gangnam".to_owned(),
            title: "오늘의 과일".to_owned(),
        },
        Event::Placed {
            sku: sku(),
            rank: 1,
        },
        Event::Moved {
            sku: sku(),
            rank: 7,
        },
        Event::Removed { sku: sku() },
        Event::Scheduled {
            from: "2027-01-01T00:00:00Z".parse().unwrap(),
            until: "2027-02-01T00:00:00Z".parse().unwrap(),
        },
        Event::Closed {},
    ]);
}

#[test]
fn member_events_keep_their_storage_format() {
    use member::Event;

    hold::<Member>(vec![
        Event::Registered {
            name: "김하늘".to_owned(),
            email: "Haneul@example.com".to_owned(),
            address: Some("서울 강남구 테헤란로 1".to_owned()),
        },
        Event::AddressChanged {
            address: "서울 성동구 왕십리로 2".to_owned(),
        },
        Event::Withdrawn {},
    ]);
}

#[test]
fn order_events_keep_their_storage_format() {
    use order::Event;

    let line = |sku: &str, quantity, unit_price| OrderLine {
        sku: sku.to_owned(),
        quantity,
        unit_price,
    };
    hold::<Order>(vec![
        Event::Placed {
            member: "m-haneul".to_owned(),
            branch: "gangnam".to_owned(),
            lines: vec![line("apple-1kg", 2, 4_900), line("tofu", 1, 1_800)],
            total: 11_600,
        },
        Event::Confirmed {},
        Event::Rejected {
            reason: "out of stock: tofu".to_owned(),
        },
        Event::Paid {
            payment: "pay-1".to_owned(),
            amount: 11_600,
        },
        Event::Shipped {},
        Event::Delivered {},
        Event::Cancelled {
            reason: "ordered by mistake".to_owned(),
        },
    ]);
}

#[test]
fn the_facts_of_a_fulfilment_keep_their_storage_format() {
    use fulfilment::{Fact, NewLine};

    let sku = || "tofu".to_owned();
    let skus = || vec!["apple-1kg".to_owned(), sku()];
    let facts = vec![
        Fact::Began {
            branch: "gangnam".to_owned(),
            lines: vec![NewLine {
                sku: sku(),
                quantity: 1,
                unit_price: 1_800,
            }],
        },
        Fact::Checked { sku: sku() },
        Fact::ReserveSent {},
        Fact::Reserved { sku: sku() },
        Fact::Refused {
            sku: sku(),
            reason: "tofu: only 0 available".to_owned(),
        },
        Fact::ConfirmSent {},
        Fact::RejectSent {},
        Fact::Confirmed { version: 2 },
        Fact::Paid {},
        Fact::Shipped {},
        Fact::CalledOff {},
        Fact::ReleaseSent { skus: skus() },
        Fact::ShipSent { skus: skus() },
        Fact::Settled { sku: sku() },
    ];
    let held = hold_each(facts, |event_type, data| {
        match decode_event::<Instance<Fulfilment>>(event_type, data).unwrap() {
            Record::Fact(fact) => fact,
            other => panic!("{event_type} is read as {other:?}"),
        }
    });
    let held: BTreeSet<_> = held.into_iter().collect();
    assert_eq!(held, fact_types::<<Fulfilment as Process>::Fact>());
}

#[test]
fn optional_fields_may_be_missing_and_are_not_written_as_null() {
    let minimal = r#"{"name":"무","price":1200,"category":"vegetable"}"#;
    let data = RawValue::from_string(minimal.to_owned()).unwrap();
    let event = decode_event::<Product>("product.registered.v1", &data).unwrap();
    let written = serde_json::to_value(&event).unwrap();
    assert_eq!(
        written["data"],
        serde_json::from_str::<Value>(minimal).unwrap()
    );

    let minimal = r#"{"name":"김하늘","email":"haneul@example.com"}"#;
    let data = RawValue::from_string(minimal.to_owned()).unwrap();
    let event = decode_event::<Member>("member.registered.v1", &data).unwrap();
    let written = serde_json::to_value(&event).unwrap();
    assert_eq!(
        written["data"],
        serde_json::from_str::<Value>(minimal).unwrap()
    );
}

#[test]
fn every_sample_is_of_an_event_that_there_is() {
    let known: BTreeSet<_> = [
        event_types::<Product>(),
        event_types::<Stock>(),
        event_types::<Display>(),
        event_types::<Member>(),
        event_types::<Order>(),
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .chain(fact_types::<<Fulfilment as Process>::Fact>())
    .map(|event_type| format!("{event_type}.json"))
    .collect();
    let samples: BTreeSet<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap())
        // Whole commits have a folder of their own.
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(samples, known);
}
