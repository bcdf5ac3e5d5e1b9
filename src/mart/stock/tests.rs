//! One test a rule.

use super::*;
use headwater_core::testkit::Given;
use proptest::prelude::*;

const ID: &str = "gangnam_apple";

fn received(quantity: i64) -> Event {
    Event::Received {
        quantity,
        available: quantity,
    }
}

fn reserved(order: &str, quantity: i64, available: i64) -> Event {
    Event::Reserved {
        order: order.to_owned(),
        quantity,
        available,
    }
}

fn released(order: &str, quantity: i64, available: i64) -> Event {
    Event::Released {
        order: order.to_owned(),
        quantity,
        available,
    }
}

fn shipped(order: &str, quantity: i64, available: i64) -> Event {
    Event::Shipped {
        order: order.to_owned(),
        quantity,
        available,
    }
}

fn given(events: impl IntoIterator<Item = Event>) -> Given<Stock> {
    Given::events(events).id(ID)
}

fn receive(quantity: i64) -> Command {
    Command::Receive { quantity }
}

fn reserve(order: &str, quantity: i64) -> Command {
    Command::Reserve {
        order: order.into(),
        quantity,
    }
}

fn release(order: &str) -> Command {
    Command::Release {
        order: order.into(),
    }
}

fn ship(order: &str) -> Command {
    Command::Ship {
        order: order.into(),
    }
}

fn adjust(delta: i64, reason: &str) -> Command {
    Command::Adjust {
        delta,
        reason: reason.to_owned(),
    }
}

#[test]
fn goods_received_become_available() {
    given([]).when(receive(10)).then_events([received(10)]);
    given([received(10), reserved("o-1", 4, 6)])
        .when(receive(5))
        .then_events([Event::Received {
            quantity: 5,
            available: 11,
        }]);
}

#[test]
fn one_to_a_million_are_received_at_a_time() {
    given([]).when(receive(1_000_000)).then_accepted();
    for quantity in [i64::MIN, -1, 0, 1_000_001, i64::MAX] {
        given([])
            .when(receive(quantity))
            .then_rejected("invalid_quantity");
    }
}

#[test]
fn a_stock_holds_a_billion_available_and_reserved_together() {
    let full = [received(999_999_999), reserved("o-1", 9, 999_999_990)];
    given(full.clone()).when(receive(1)).then_accepted();
    given(full.clone())
        .when(receive(2))
        .then_rejected("too_much_stock");
    given(full.clone())
        .when(adjust(2, "found"))
        .then_rejected("too_much_stock");
    given(full).when(release("o-1")).then_accepted();
}

#[test]
fn the_id_is_a_branch_and_a_sku() {
    assert_eq!(
        split_id("gangnam_red_apple"),
        Some(("gangnam", "red_apple"))
    );
    for id in ["gangnam", "_apple", "gangnam_", "_"] {
        for command in [
            receive(1),
            reserve("o-1", 1),
            release("o-1"),
            ship("o-1"),
            adjust(1, "found"),
        ] {
            Given::<Stock>::events([received(5)])
                .id(id)
                .when(command)
                .then_rejected("invalid_id");
        }
    }
}

#[test]
fn nothing_but_receiving_is_possible_before_it() {
    for command in [
        reserve("o-1", 1),
        release("o-1"),
        ship("o-1"),
        adjust(1, "found"),
    ] {
        given([]).when(command).then_rejected("not_found");
    }
}

#[test]
fn all_that_is_available_can_be_reserved_and_no_more() {
    given([received(5)])
        .when(reserve("o-1", 5))
        .then_events([reserved("o-1", 5, 0)]);
    given([received(5)])
        .when(reserve("o-1", 6))
        .then_rejected("out_of_stock");
    given([received(5), reserved("o-1", 3, 2)])
        .when(reserve("o-2", 3))
        .then_rejected("out_of_stock");
}

#[test]
fn one_to_a_million_are_reserved_at_a_time() {
    for quantity in [i64::MIN, -1, 0, 1_000_001, i64::MAX] {
        given([received(5)])
            .when(reserve("o-1", quantity))
            .then_rejected("invalid_quantity");
    }
}

#[test]
fn reserving_again_for_an_order_changes_nothing() {
    given([received(5), reserved("o-1", 3, 2)])
        .when(reserve("o-1", 3))
        .then_nothing();
}

#[test]
fn another_quantity_for_the_same_order_is_refused() {
    given([received(5), reserved("o-1", 3, 2)])
        .when(reserve("o-1", 1))
        .then_rejected("already_reserved");
}

#[test]
fn released_goods_are_available_again() {
    given([received(5), reserved("o-1", 3, 2)])
        .when(release("o-1"))
        .then_events([released("o-1", 3, 5)]);
}

#[test]
fn shipped_goods_are_gone() {
    let history = [received(5), reserved("o-1", 3, 2)];
    given(history.clone())
        .when(ship("o-1"))
        .then_events([shipped("o-1", 3, 2)]);
    given(history.into_iter().chain([shipped("o-1", 3, 2)]))
        .when(receive(1))
        .then_events([Event::Received {
            quantity: 1,
            available: 3,
        }]);
}

#[test]
fn releasing_and_shipping_again_changes_nothing() {
    let history = [received(5), reserved("o-1", 3, 2), released("o-1", 3, 5)];
    given(history).when(release("o-1")).then_nothing();
    let history = [received(5), reserved("o-1", 3, 2), shipped("o-1", 3, 2)];
    given(history).when(ship("o-1")).then_nothing();
}

#[test]
fn a_late_reservation_of_a_settled_order_changes_nothing() {
    let history = [received(5), reserved("o-1", 3, 2), released("o-1", 3, 5)];
    given(history).when(reserve("o-1", 3)).then_nothing();
    let history = [received(5), reserved("o-1", 3, 2), shipped("o-1", 3, 2)];
    given(history).when(reserve("o-1", 3)).then_nothing();
}

#[test]
fn what_is_not_reserved_is_neither_released_nor_shipped() {
    given([received(5)])
        .when(release("o-1"))
        .then_rejected("not_reserved");
    given([received(5)])
        .when(ship("o-1"))
        .then_rejected("not_reserved");
    let history = [received(5), reserved("o-1", 3, 2), released("o-1", 3, 5)];
    given(history)
        .when(ship("o-1"))
        .then_rejected("not_reserved");
    let history = [received(5), reserved("o-1", 3, 2), shipped("o-1", 3, 2)];
    given(history)
        .when(release("o-1"))
        .then_rejected("not_reserved");
}

#[test]
fn the_last_thousand_settled_orders_are_remembered() {
    let orders = |count: usize| {
        (0..count).flat_map(|n| {
            let order = format!("o-{n}");
            [reserved(&order, 1, 4), released(&order, 1, 5)]
        })
    };
    let after = |count| given([received(5)].into_iter().chain(orders(count)));
    after(REMEMBERED).when(reserve("o-0", 1)).then_nothing();
    after(REMEMBERED + 1)
        .when(reserve("o-0", 1))
        .then_events([reserved("o-0", 1, 4)]);
    after(REMEMBERED + 1)
        .when(release("o-0"))
        .then_rejected("not_reserved");
    after(REMEMBERED + 1).when(release("o-1")).then_nothing();
}

#[test]
fn an_open_reservation_is_never_forgotten() {
    let others = (0..=REMEMBERED).flat_map(|n| {
        let order = format!("o-{n}");
        [reserved(&order, 1, 1), released(&order, 1, 2)]
    });
    given(
        [received(5), reserved("first", 3, 2)]
            .into_iter()
            .chain(others),
    )
    .when(ship("first"))
    .then_events([shipped("first", 3, 2)]);
}

#[test]
fn an_adjustment_needs_a_reason() {
    given([received(5)])
        .when(adjust(-5, " spoiled "))
        .then_events([Event::Adjusted {
            delta: -5,
            reason: "spoiled".to_owned(),
            available: 0,
        }]);
    for reason in ["", "  ", &"a".repeat(501)] {
        given([received(5)])
            .when(adjust(-1, reason))
            .then_rejected("invalid_reason");
    }
}

#[test]
fn an_adjustment_cannot_take_what_is_reserved() {
    given([received(5), reserved("o-1", 3, 2)])
        .when(adjust(-3, "spoiled"))
        .then_rejected("out_of_stock");
}

#[test]
fn an_adjustment_by_nothing_changes_nothing() {
    given([received(5)])
        .when(adjust(0, "counted"))
        .then_nothing();
}

#[test]
fn an_adjustment_is_a_million_at_most() {
    for delta in [i64::MIN, -1_000_001, 1_000_001, i64::MAX] {
        given([received(5)])
            .when(adjust(delta, "counted"))
            .then_rejected("invalid_delta");
    }
}

#[test]
fn an_order_is_an_id() {
    for order in ["", "o.1", "o 1", "*", ">", &"o".repeat(65)] {
        for command in [reserve(order, 1), release(order), ship(order)] {
            given([received(5)])
                .when(command)
                .then_rejected("invalid_order");
        }
    }
}

/// Any command on one of a few orders, with quantities around the bounds.
fn any_command() -> impl Strategy<Value = Command> {
    let order = || (0..4_u8).prop_map(|n| format!("o-{n}"));
    prop_oneof![
        (-1..9_i64).prop_map(receive),
        (order(), -1..9_i64).prop_map(|(order, quantity)| reserve(&order, quantity)),
        order().prop_map(|order| release(&order)),
        order().prop_map(|order| ship(&order)),
        (-9..9_i64).prop_map(|delta| adjust(delta, "counted")),
    ]
}

proptest! {
    #[test]
    fn nothing_is_ever_lost_or_made_up(commands in prop::collection::vec(any_command(), 0..60)) {
        let at = Context {
            id: ID.into(),
            version: 0,
            command_id: "command-1".into(),
            now: "2027-01-01T00:00:00Z".parse().unwrap(),
            caller: headwater_core::caller::Caller::default(),
        };
        let mut stock = Stock::default();
        let mut on_hand = 0;
        for command in commands {
            let Ok(decision) = stock.decide(command.clone(), &at) else {
                continue;
            };
            for event in decision.events {
                stock.evolve(&event);
                match event {
                    Event::Received { quantity, .. } => on_hand += quantity,
                    Event::Shipped { quantity, .. } => on_hand -= quantity,
                    Event::Adjusted { delta, .. } => on_hand += delta,
                    Event::Reserved { .. } | Event::Released { .. } => {}
                }
            }
            prop_assert!(stock.available >= 0);
            prop_assert_eq!(stock.reservations.values().sum::<i64>(), stock.reserved);
            prop_assert_eq!(stock.available + stock.reserved, on_hand);
            // What is not a matter of quantity has its effect once.
            if !matches!(command, Command::Receive { .. } | Command::Adjust { .. }) {
                prop_assert_eq!(stock.decide(command, &at), Ok(Decision::nothing()));
            }
        }
    }
}

#[test]
fn stock_is_for_staff() {
    let by = |scopes: &[&str]| {
        let caller = headwater_core::caller::Caller::new(Some("m-1"), scopes.iter().copied());
        given([]).by(caller).when(receive(1))
    };
    by(&["staff"]).then_accepted();
    by(&["cmd:*"]).then_forbidden("staff");
}
