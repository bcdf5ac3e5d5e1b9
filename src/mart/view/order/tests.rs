//! What an order looks like after which events, in every order in which they can arrive.

use super::*;
use crate::order::OrderLine;
use headwater_core::testkit::{Log, ViewFold, interleavings};
use serde_json::json;

fn placed(member: &str, skus: &[&str]) -> Event {
    let line = |sku: &&str| OrderLine {
        sku: (*sku).to_owned(),
        quantity: 2,
        unit_price: 100,
    };
    Event::Placed {
        member: member.to_owned(),
        branch: "gangnam".to_owned(),
        lines: skus.iter().map(line).collect(),
        total: 200 * skus.len() as i64,
    }
}

fn joined(name: &str) -> member::Event {
    member::Event::Registered {
        name: name.to_owned(),
        email: "haneul@example.com".to_owned(),
        address: None,
    }
}

fn registered(name: &str) -> product::Event {
    product::Event::Registered {
        name: name.to_owned(),
        name_en: None,
        price: 100,
        category: "fruit".to_owned(),
        unit: None,
        barcode: None,
        description: None,
    }
}

fn renamed(name: &str) -> product::Event {
    product::Event::Renamed {
        name: name.to_owned(),
        name_en: None,
    }
}

fn cancelled() -> Event {
    Event::Cancelled {
        reason: "mistake".to_owned(),
    }
}

fn paid() -> Event {
    Event::Paid {
        payment: "pay-1".to_owned(),
        amount: 400,
    }
}

fn fold(log: &Log) -> ViewFold<OrderView> {
    ViewFold::of(log.events())
}

#[derive(Clone)]
enum Any {
    Order(Event),
    Member(member::Event),
    Product(product::Event),
}

/// The names in the one order, for every order in which the three histories can arrive.
#[track_caller]
fn names_in_any_order(
    members: Vec<member::Event>,
    products: Vec<product::Event>,
    expected: (Option<&str>, Option<&str>),
) {
    let orders = interleavings(&[
        vec![
            Any::Order(placed("m-1", &["apple"])),
            Any::Order(Event::Confirmed {}),
        ],
        members.into_iter().map(Any::Member).collect(),
        products.into_iter().map(Any::Product).collect(),
    ]);
    for order in orders {
        let log = order
            .into_iter()
            .fold(Log::new(), |log, event| match event {
                Any::Order(event) => log.add::<Order>("o-1", [event]),
                Any::Member(event) => log.add::<Member>("m-1", [event]),
                Any::Product(event) => log.add::<Product>("apple", [event]),
            });
        let document = fold(&log).get("o-1").unwrap();
        let names = (
            document.member.name.as_deref(),
            document.lines[0].name.as_deref(),
        );
        assert_eq!(names, expected);
    }
}

#[test]
fn an_order_is_shown_with_the_names_in_it() {
    let log = Log::new()
        .add::<Product>("apple", [registered("사과")])
        .add::<Member>("m-1", [joined("김하늘")])
        .at("2027-01-02T03:04:05.5Z")
        .add::<Order>("o-1", [placed("m-1", &["apple", "unknown"])]);
    assert_eq!(
        fold(&log).json("o-1"),
        Some(&json!({
            "id": "o-1",
            "status": "placed",
            "member": { "id": "m-1", "name": "김하늘" },
            "branch": "gangnam",
            "lines": [
                { "sku": "apple", "name": "사과", "quantity": 2, "unit_price": 100 },
                { "sku": "unknown", "name": null, "quantity": 2, "unit_price": 100 },
            ],
            "total": 400,
            "payment": null,
            "reason": null,
            "placed_at": "2027-01-02T03:04:05.500000Z",
            "timeline": [{ "status": "placed", "at": "2027-01-02T03:04:05.500000Z" }],
        }))
    );
}

#[test]
fn the_timeline_has_every_step() {
    let log = Log::new()
        .add::<Order>("o-1", [placed("m-1", &["apple"])])
        .add::<Order>("o-1", [Event::Confirmed {}])
        .add::<Order>("o-1", [paid()])
        .add::<Order>("o-1", [Event::Shipped {}])
        .add::<Order>("o-1", [Event::Delivered {}]);
    let document = fold(&log).get("o-1").unwrap();
    let steps: Vec<_> = document
        .timeline
        .iter()
        .map(|step| (step.status, &step.at[17..19]))
        .collect();
    assert_eq!(
        steps,
        [
            (Status::Placed, "00"),
            (Status::Confirmed, "01"),
            (Status::Paid, "02"),
            (Status::Shipped, "03"),
            (Status::Delivered, "04"),
        ]
    );
    assert_eq!(document.status, Status::Delivered);
    assert_eq!(document.payment.as_deref(), Some("pay-1"));
    assert_eq!(document.reason, None);
}

#[test]
fn why_an_order_was_rejected_or_cancelled_is_shown() {
    let rejected = Event::Rejected {
        reason: "sold out".to_owned(),
    };
    let log = Log::new()
        .add::<Order>("o-1", [placed("m-1", &["apple"]), rejected])
        .add::<Order>("o-2", [placed("m-1", &["apple"]), cancelled()]);
    let shown = |id| {
        let document = fold(&log).get(id).unwrap();
        (document.status, document.reason.unwrap())
    };
    assert_eq!(shown("o-1"), (Status::Rejected, "sold out".to_owned()));
    assert_eq!(shown("o-2"), (Status::Cancelled, "mistake".to_owned()));
}

#[test]
fn a_payment_stays_on_an_order_that_is_cancelled_later() {
    let history = [
        placed("m-1", &["apple"]),
        Event::Confirmed {},
        paid(),
        cancelled(),
    ];
    let document = fold(&Log::new().add::<Order>("o-1", history));
    let document = document.get("o-1").unwrap();
    assert_eq!(document.status, Status::Cancelled);
    assert_eq!(document.payment.as_deref(), Some("pay-1"));
}

#[test]
fn names_are_the_same_in_any_order_of_arrival() {
    names_in_any_order(
        vec![joined("김하늘")],
        vec![registered("사과"), renamed("꿀사과")],
        (Some("김하늘"), Some("꿀사과")),
    );
}

#[test]
fn a_withdrawn_members_name_is_gone_in_any_order_of_arrival() {
    let moved = member::Event::AddressChanged {
        address: "서울".to_owned(),
    };
    names_in_any_order(
        vec![joined("김하늘"), moved, member::Event::Withdrawn {}],
        vec![],
        (None, None),
    );
}

#[test]
fn nothing_personal_is_left_of_a_withdrawn_member() {
    let log = Log::new()
        .add::<Member>("m-1", [joined("김하늘")])
        .add::<Order>("o-1", [placed("m-1", &["apple"])])
        .add::<Order>("o-2", [placed("m-1", &["apple"]), cancelled()])
        .add::<Member>("m-2", [joined("이바다")])
        .add::<Order>("o-3", [placed("m-2", &["apple"])])
        .add::<Member>("m-1", [member::Event::Withdrawn {}]);
    let fold = fold(&log);
    let kept = format!("{:?} {:?}", fold.documents(), fold.parts());
    assert!(!kept.contains("김하늘"), "{kept}");
    assert!(!kept.contains("haneul@"), "{kept}");
    let name = |id| fold.get(id).unwrap().member.name;
    assert_eq!(name("o-1"), None);
    assert_eq!(name("o-3"), Some("이바다".to_owned()));
}

#[test]
fn a_renamed_product_is_renamed_in_every_order_and_line() {
    let log = Log::new()
        .add::<Product>("apple", [registered("사과")])
        .add::<Product>("pear", [registered("배")])
        .add::<Order>("o-1", [placed("m-1", &["apple", "pear"])])
        .add::<Order>("o-2", [placed("m-2", &["pear", "apple"])])
        .add::<Product>("apple", [renamed("꿀사과")]);
    let fold = fold(&log);
    let names = |id| {
        let lines = fold.get(id).unwrap().lines;
        lines
            .into_iter()
            .map(|line| line.name.unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(names("o-1"), ["꿀사과", "배"]);
    assert_eq!(names("o-2"), ["배", "꿀사과"]);
}

#[test]
fn what_is_not_shown_leaves_the_version() {
    let log = Log::new()
        .add::<Product>("apple", [registered("사과")])
        .add::<Order>("o-1", [placed("m-1", &["apple"])])
        .add::<Product>(
            "apple",
            [
                product::Event::Repriced { price: 7 },
                product::Event::Discontinued {},
            ],
        );
    assert_eq!(fold(&log).version("o-1"), Some(2));
}

#[test]
fn orders_sort_by_time_as_text() {
    let at = |time: &str| micros(time.parse().unwrap());
    assert!(at("2027-01-01T00:00:00Z") < at("2027-01-01T00:00:00.000001Z"));
    assert!(at("2027-01-01T00:00:00.9Z") < at("2027-01-01T00:00:01Z"));
}

#[test]
fn an_event_before_the_order_was_placed_is_refused() {
    let log = Log::new().add::<Order>("o-1", [Event::Confirmed {}]);
    let refused = ViewFold::<OrderView>::new().apply(&log.events()[0]);
    assert!(matches!(refused, Err(ApplyError::Refused(_))));
}
