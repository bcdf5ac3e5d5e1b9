//! One test a rule.

use super::*;
use headwater_core::testkit::Given;

fn line(sku: &str, quantity: i64, unit_price: i64) -> NewLine {
    NewLine {
        sku: sku.into(),
        quantity,
        unit_price,
    }
}

fn stored(sku: &str, quantity: i64, unit_price: i64) -> OrderLine {
    OrderLine {
        sku: sku.to_owned(),
        quantity,
        unit_price,
    }
}

fn place(lines: Vec<NewLine>) -> Command {
    Command::Place {
        member: "m-1".into(),
        branch: "gangnam".into(),
        lines,
    }
}

fn placed() -> Event {
    Event::Placed {
        member: "m-1".to_owned(),
        branch: "gangnam".to_owned(),
        lines: vec![stored("apple", 2, 4_900), stored("tofu", 1, 1_800)],
        total: 11_600,
    }
}

fn pay(amount: i64) -> Command {
    Command::Pay {
        payment: "pay-1".to_owned(),
        amount,
    }
}

fn paid() -> Event {
    Event::Paid {
        payment: "pay-1".to_owned(),
        amount: 11_600,
    }
}

fn reject(reason: &str) -> Command {
    Command::Reject {
        reason: reason.to_owned(),
    }
}

fn rejected() -> Event {
    Event::Rejected {
        reason: "why".to_owned(),
    }
}

fn cancel(reason: &str) -> Command {
    Command::Cancel {
        reason: reason.to_owned(),
    }
}

fn cancelled() -> Event {
    Event::Cancelled {
        reason: "why".to_owned(),
    }
}

/// An order with this status, by the shortest way to it.
fn order(status: Status) -> Given<Order> {
    let way = match status {
        Status::Placed => vec![],
        Status::Confirmed => vec![Event::Confirmed {}],
        Status::Rejected => vec![rejected()],
        Status::Paid => vec![Event::Confirmed {}, paid()],
        Status::Shipped => vec![Event::Confirmed {}, paid(), Event::Shipped {}],
        Status::Delivered => vec![
            Event::Confirmed {},
            paid(),
            Event::Shipped {},
            Event::Delivered {},
        ],
        Status::Cancelled => vec![cancelled()],
    };
    Given::events([placed()].into_iter().chain(way))
}

const ALL: [Status; 7] = [
    Status::Placed,
    Status::Confirmed,
    Status::Rejected,
    Status::Paid,
    Status::Shipped,
    Status::Delivered,
    Status::Cancelled,
];

/// The command leads to the event from these, and is an illegal transition from all others.
#[track_caller]
fn only_from(from: &[Status], command: Command, event: Event) {
    for status in ALL {
        let when = order(status).when(command.clone());
        if from.contains(&status) {
            when.then_events([event.clone()]);
        } else {
            when.then_rejected("illegal_transition");
        }
    }
}

#[test]
fn an_order_is_placed_with_its_total() {
    Given::<Order>::nothing()
        .when(place(vec![line("apple", 2, 4_900), line("tofu", 1, 1_800)]))
        .then_events([placed()]);
}

#[test]
fn an_order_is_placed_once() {
    for status in ALL {
        order(status)
            .when(place(vec![line("apple", 1, 1)]))
            .then_rejected("already_placed");
    }
}

#[test]
fn nothing_but_placing_is_possible_before_it() {
    for command in [
        Command::Confirm {},
        reject("why"),
        pay(1),
        Command::Ship {},
        Command::Deliver {},
        cancel("why"),
    ] {
        Given::<Order>::nothing()
            .when(command)
            .then_rejected("not_found");
    }
}

#[test]
fn only_a_placed_order_is_confirmed() {
    only_from(&[Status::Placed], Command::Confirm {}, Event::Confirmed {});
}

#[test]
fn only_a_placed_order_is_rejected() {
    only_from(&[Status::Placed], reject("why"), rejected());
}

#[test]
fn only_a_confirmed_order_is_paid() {
    only_from(&[Status::Confirmed], pay(11_600), paid());
}

#[test]
fn only_a_paid_order_is_shipped() {
    only_from(&[Status::Paid], Command::Ship {}, Event::Shipped {});
}

#[test]
fn only_a_shipped_order_is_delivered() {
    only_from(&[Status::Shipped], Command::Deliver {}, Event::Delivered {});
}

#[test]
fn an_order_is_cancelled_before_it_is_shipped() {
    let before = [Status::Placed, Status::Confirmed, Status::Paid];
    only_from(&before, cancel("why"), cancelled());
}

#[test]
fn the_amount_paid_is_the_total() {
    for amount in [i64::MIN, -11_600, 0, 11_599, 11_601, i64::MAX] {
        order(Status::Confirmed)
            .when(pay(amount))
            .then_rejected("wrong_amount");
    }
}

#[test]
fn an_order_has_one_to_fifty_lines() {
    let lines = |count: usize| (0..count).map(|n| line(&format!("p-{n}"), 99, 100_000_000));
    let all_stored = (0..50).map(|n| stored(&format!("p-{n}"), 99, 100_000_000));
    Given::<Order>::nothing()
        .when(place(lines(50).collect()))
        .then_events([Event::Placed {
            member: "m-1".to_owned(),
            branch: "gangnam".to_owned(),
            lines: all_stored.collect(),
            total: 495_000_000_000,
        }]);
    for count in [0, 51] {
        Given::<Order>::nothing()
            .when(place(lines(count).collect()))
            .then_rejected("invalid_lines");
    }
}

#[test]
fn a_product_stands_on_one_line() {
    let twice = vec![line("apple", 1, 4_900), line("apple", 1, 4_900)];
    Given::<Order>::nothing()
        .when(place(twice))
        .then_rejected("duplicate_sku");
}

#[test]
fn a_quantity_is_one_to_ninety_nine() {
    for quantity in [i64::MIN, -1, 0, 100, i64::MAX] {
        Given::<Order>::nothing()
            .when(place(vec![line("apple", quantity, 4_900)]))
            .then_rejected("invalid_quantity");
    }
}

#[test]
fn a_unit_price_is_one_that_a_product_can_have() {
    for unit_price in [i64::MIN, -1, 0, 100_000_001, i64::MAX] {
        Given::<Order>::nothing()
            .when(place(vec![line("apple", 1, unit_price)]))
            .then_rejected("invalid_unit_price");
    }
}

#[test]
fn members_branches_and_skus_are_ids() {
    for sku in ["", "a.b", "사과", &"a".repeat(65)] {
        Given::<Order>::nothing()
            .when(place(vec![line(sku, 1, 1)]))
            .then_rejected("invalid_sku");
    }
    let place = |member: &str, branch: &str| Command::Place {
        member: member.into(),
        branch: branch.into(),
        lines: vec![line("apple", 1, 1)],
    };
    Given::<Order>::nothing()
        .when(place("m 1", "gangnam"))
        .then_rejected("invalid_member");
    Given::<Order>::nothing()
        .when(place("m-1", "gang_nam"))
        .then_rejected("invalid_branch");
}

#[test]
fn a_reason_is_given() {
    for reason in ["", " ", &"a".repeat(501)] {
        order(Status::Placed)
            .when(reject(reason))
            .then_rejected("invalid_reason");
        order(Status::Placed)
            .when(cancel(reason))
            .then_rejected("invalid_reason");
    }
}

#[test]
fn a_payment_has_a_reference() {
    for payment in ["", " ", &"a".repeat(129)] {
        let pay = Command::Pay {
            payment: payment.to_owned(),
            amount: 11_600,
        };
        order(Status::Confirmed)
            .when(pay)
            .then_rejected("invalid_payment");
    }
}

#[test]
fn a_field_that_a_later_build_stores_is_no_fault() {
    let stored = r#"{"sku":"apple","quantity":1,"unit_price":2,"note":"later"}"#;
    let line: OrderLine = serde_json::from_str(stored).unwrap();
    assert_eq!(line.sku, "apple");
    assert!(serde_json::from_str::<NewLine>(stored).is_err());
}

fn member(id: &str) -> Caller {
    Caller::new(Some(id), [""; 0])
}

fn staff() -> Caller {
    Caller::new(Some("s-1"), ["staff"])
}

#[test]
fn a_member_places_an_order_for_nobody_else() {
    let lines = || vec![line("apple", 2, 4_900)];
    let nothing = |caller| Given::<Order>::nothing().by(caller).when(place(lines()));
    nothing(member("m-1")).then_accepted();
    nothing(staff()).then_accepted();
    nothing(member("m-2")).then_forbidden("staff");
    nothing(Caller::new(None, [""; 0])).then_forbidden("staff");
}

#[test]
fn an_order_of_somebody_else_is_none_to_a_member() {
    let confirmed = || order(Status::Confirmed);
    for command in [pay(11_600), cancel("why")] {
        confirmed()
            .by(member("m-1"))
            .when(command.clone())
            .then_accepted();
        confirmed()
            .by(staff())
            .when(command.clone())
            .then_accepted();
        confirmed()
            .by(member("m-2"))
            .when(command.clone())
            .then_rejected("not_found");
        // As of one that is not there.
        Given::<Order>::nothing()
            .by(member("m-2"))
            .when(command)
            .then_rejected("not_found");
    }
}

#[test]
fn what_the_branch_does_is_for_staff() {
    for (status, command) in [
        (Status::Placed, Command::Confirm {}),
        (Status::Placed, reject("why")),
        (Status::Paid, Command::Ship {}),
        (Status::Shipped, Command::Deliver {}),
    ] {
        order(status)
            .by(staff())
            .when(command.clone())
            .then_accepted();
        order(status)
            .by(member("m-1"))
            .when(command)
            .then_forbidden("staff");
    }
}
