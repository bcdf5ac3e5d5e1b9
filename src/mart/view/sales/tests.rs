//! What counts as sold, where and when.

use super::*;
use crate::order::OrderLine;
use headwater_core::testkit::{Log, ViewFold};
use serde_json::json;

/// An order of three pieces for 400 won.
fn placed(branch: &str) -> Event {
    let line = |sku: &str, quantity, unit_price| OrderLine {
        sku: sku.to_owned(),
        quantity,
        unit_price,
    };
    Event::Placed {
        member: "m-1".to_owned(),
        branch: branch.to_owned(),
        lines: vec![line("apple", 2, 100), line("pear", 1, 200)],
        total: 400,
    }
}

fn paid() -> Event {
    Event::Paid {
        payment: "pay-1".to_owned(),
        amount: 400,
    }
}

fn cancelled() -> Event {
    Event::Cancelled {
        reason: "mistake".to_owned(),
    }
}

fn fold(log: &Log) -> ViewFold<SalesView> {
    ViewFold::of(log.events())
}

/// Orders, units and revenue of a document.
fn sums(log: &Log, id: &str) -> Option<(i64, i64, i64)> {
    let document = fold(log).get(id)?;
    Some((document.orders, document.units, document.revenue))
}

const DAY: &str = "gangnam_2027-01-01";

fn one_paid() -> Log {
    Log::new()
        .add::<Order>("o-1", [placed("gangnam")])
        .add::<Order>("o-1", [Event::Confirmed {}])
        .add::<Order>("o-1", [paid()])
}

#[test]
fn a_paid_order_is_a_sale() {
    assert_eq!(
        fold(&one_paid()).json(DAY),
        Some(&json!({
            "branch": "gangnam",
            "day": "2027-01-01",
            "orders": 1,
            "units": 3,
            "revenue": 400,
        }))
    );
}

#[test]
fn sales_add_up_by_branch() {
    let log = one_paid()
        .add::<Order>("o-2", [placed("gangnam"), Event::Confirmed {}, paid()])
        .add::<Order>("o-3", [placed("seongsu"), Event::Confirmed {}, paid()]);
    assert_eq!(sums(&log, DAY), Some((2, 6, 800)));
    assert_eq!(sums(&log, "seongsu_2027-01-01"), Some((1, 3, 400)));
}

#[test]
fn what_is_not_paid_is_no_sale() {
    let rejected = Event::Rejected {
        reason: "sold out".to_owned(),
    };
    let log = Log::new()
        .add::<Order>("o-1", [placed("gangnam"), Event::Confirmed {}])
        .add::<Order>("o-2", [placed("gangnam"), rejected])
        .add::<Order>("o-3", [placed("gangnam"), cancelled()]);
    assert!(fold(&log).documents().is_empty());
}

#[test]
fn a_sale_cancelled_later_is_taken_off_the_day_it_was_paid() {
    let log = one_paid()
        .add::<Order>("o-2", [placed("gangnam"), Event::Confirmed {}, paid()])
        .at("2027-01-05T00:00:00Z")
        .add::<Order>("o-2", [cancelled()]);
    assert_eq!(sums(&log, DAY), Some((1, 3, 400)));
    assert_eq!(sums(&log, "gangnam_2027-01-05"), None);
}

#[test]
fn a_day_whose_only_sale_was_cancelled_is_shown_with_zeros() {
    let log = one_paid().add::<Order>("o-1", [cancelled()]);
    assert_eq!(sums(&log, DAY), Some((0, 0, 0)));
}

#[test]
fn a_delivered_order_stays_a_sale_and_is_no_longer_remembered() {
    let log = one_paid().add::<Order>("o-1", [Event::Shipped {}, Event::Delivered {}]);
    assert_eq!(sums(&log, DAY), Some((1, 3, 400)));
    assert!(fold(&log).parts().is_empty());
}

#[test]
fn a_day_ends_at_midnight_in_seoul() {
    let paid_at = |time| {
        let log = Log::new()
            .add::<Order>("o-1", [placed("gangnam"), Event::Confirmed {}])
            .at(time)
            .add::<Order>("o-1", [paid()]);
        fold(&log).documents().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(paid_at("2027-01-01T14:59:59.999Z"), ["gangnam_2027-01-01"]);
    assert_eq!(paid_at("2027-01-01T15:00:00Z"), ["gangnam_2027-01-02"]);
    assert_eq!(paid_at("2026-12-31T15:00:00Z"), ["gangnam_2027-01-01"]);
    assert_eq!(paid_at("2027-07-01T14:59:59Z"), ["gangnam_2027-07-01"]);
}

#[test]
fn a_payment_of_an_unknown_order_is_refused() {
    let log = Log::new().add::<Order>("o-1", [paid()]);
    let refused = fold(&Log::new()).apply(&log.events()[0]);
    assert!(matches!(refused, Err(ApplyError::Refused(_))));
}
