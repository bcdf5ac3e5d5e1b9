//! The stories that an order's fulfilment can have.

use super::*;
use headwater_core::testkit::{Log, Story, interleavings};
use jiff::ToSpan;

fn line(sku: &str, quantity: i64, unit_price: i64) -> order::OrderLine {
    order::OrderLine {
        sku: sku.to_owned(),
        quantity,
        unit_price,
    }
}

fn placed(lines: Vec<order::OrderLine>) -> order::Event {
    let total = lines.iter().map(|line| line.quantity * line.unit_price);
    order::Event::Placed {
        member: "m-1".to_owned(),
        branch: "gangnam".to_owned(),
        total: total.sum(),
        lines,
    }
}

fn check(unit_price: i64) -> product::Command {
    product::Command::Check { unit_price }
}

fn reserve(quantity: i64) -> stock::Command {
    let order = "o-1".into();
    stock::Command::Reserve { order, quantity }
}

fn release() -> stock::Command {
    let order = "o-1".into();
    stock::Command::Release { order }
}

fn reject(reason: &str) -> order::Command {
    let reason = reason.to_owned();
    order::Command::Reject { reason }
}

fn cancelled() -> order::Event {
    let reason = "ordered by mistake".to_owned();
    order::Event::Cancelled { reason }
}

fn paid() -> order::Event {
    let payment = "pay-1".to_owned();
    let amount = 11_600;
    order::Event::Paid { payment, amount }
}

/// Two lines are being checked.
fn checking() -> Story<Fulfilment> {
    Story::of("o-1")
        .when_event::<Order>(
            "o-1",
            placed(vec![line("apple", 2, 4_900), line("tofu", 1, 1_800)]),
        )
        .then_sends::<Product>("apple", check(4_900))
        .then_sends::<Product>("tofu", check(1_800))
        .then_sends_no_more()
}

fn reserving() -> Story<Fulfilment> {
    checking()
        .when_accepted::<Product>("apple")
        .then_sends_no_more()
        .when_accepted::<Product>("tofu")
        .then_sends::<Stock>("gangnam_apple", reserve(2))
        .then_sends::<Stock>("gangnam_tofu", reserve(1))
        .then_sends_no_more()
}

fn confirming() -> Story<Fulfilment> {
    reserving()
        .when_accepted::<Stock>("gangnam_tofu")
        .then_sends_no_more()
        .when_accepted::<Stock>("gangnam_apple")
        .then_sends::<Order>("o-1", order::Command::Confirm {})
        .then_sends_no_more()
}

fn confirmed() -> Story<Fulfilment> {
    confirming()
        .when_accepted::<Order>("o-1")
        .then_nothing()
        .when_event::<Order>("o-1", order::Event::Confirmed {})
        .then_sends_no_more()
        .then_deadline(PAYMENT, 15.minutes())
}

/// What was set aside is released, and that is all.
fn releases_both(story: Story<Fulfilment>) {
    story
        .then_no_deadline()
        .then_sends::<Stock>("gangnam_apple", release())
        .then_sends::<Stock>("gangnam_tofu", release())
        .then_sends_no_more()
        .then_running()
        .when_accepted::<Stock>("gangnam_apple")
        .then_running()
        .when_accepted::<Stock>("gangnam_tofu")
        .then_sends_no_more()
        .then_ended();
}

#[test]
fn an_order_is_checked_set_aside_confirmed_paid_and_handed_over() {
    let ship = || stock::Command::Ship {
        order: "o-1".into(),
    };
    confirmed()
        .when_event::<Order>("o-1", paid())
        .then_no_deadline()
        .then_sends_no_more()
        .when_event::<Order>("o-1", order::Event::Shipped {})
        .then_sends::<Stock>("gangnam_apple", ship())
        .then_sends::<Stock>("gangnam_tofu", ship())
        .when_accepted::<Stock>("gangnam_tofu")
        .then_running()
        .when_accepted::<Stock>("gangnam_apple")
        .then_ended()
        .when_event::<Order>("o-1", order::Event::Delivered {})
        .then_nothing();
}

#[test]
fn what_is_out_of_stock_has_the_order_rejected_and_the_rest_released() {
    reserving()
        .when_refused::<Stock>("gangnam_tofu", "out_of_stock")
        .then_sends_no_more()
        .when_accepted::<Stock>("gangnam_apple")
        .then_sends::<Order>("o-1", reject("tofu: out_of_stock"))
        .then_sends_no_more()
        .when_accepted::<Order>("o-1")
        .then_nothing()
        .when_event::<Order>(
            "o-1",
            order::Event::Rejected {
                reason: "tofu: out_of_stock".to_owned(),
            },
        )
        .then_sends::<Stock>("gangnam_apple", release())
        .then_sends_no_more()
        .when_accepted::<Stock>("gangnam_apple")
        .then_ended();
}

#[test]
fn what_the_range_refuses_has_the_order_rejected_with_nothing_set_aside() {
    for code in ["price_changed", "discontinued", "not_found"] {
        checking()
            .when_refused::<Product>("apple", code)
            .then_sends_no_more()
            .when_refused::<Product>("tofu", "not_found")
            .then_sends::<Order>("o-1", reject(&format!("apple: {code}")))
            .then_sends_no_more()
            .when_accepted::<Order>("o-1")
            .when_event::<Order>(
                "o-1",
                order::Event::Rejected {
                    reason: String::new(),
                },
            )
            .then_sends_no_more()
            .then_ended();
    }
}

#[test]
fn an_order_that_is_not_paid_in_time_is_cancelled_at_the_version_that_was_confirmed() {
    let story = confirmed()
        .after(14.minutes())
        .then_nothing()
        .after(1.minute())
        .then_sends::<Order>(
            "o-1",
            order::Command::Cancel {
                reason: "not paid within 15m".to_owned(),
            },
        )
        .then_no_deadline();
    assert_eq!(story.instance().open()[0].expected, Some(2));
    releases_both(
        story
            .when_accepted::<Order>("o-1")
            .then_nothing()
            .when_event::<Order>("o-1", cancelled()),
    );
}

#[test]
fn a_payment_that_comes_with_the_deadline_stands() {
    confirmed()
        .after(15.minutes())
        .when_refused::<Order>("o-1", "version_mismatch")
        .then_nothing()
        .when_event::<Order>("o-1", paid())
        .then_no_deadline()
        .then_running();
}

#[test]
fn a_deployment_says_how_long_a_payment_is_waited_for() {
    let settings = Settings {
        payment_deadline: SignedDuration::from_secs(10),
    };
    confirmed()
        .settings(settings)
        .when_event::<Order>("o-1", order::Event::Confirmed {})
        .then_deadline(PAYMENT, 10.seconds());
}

#[test]
fn an_order_that_is_called_off_releases_what_was_and_what_will_be_set_aside() {
    releases_both(confirmed().when_event::<Order>("o-1", cancelled()));
    releases_both(
        confirmed()
            .when_event::<Order>("o-1", paid())
            .when_event::<Order>("o-1", cancelled()),
    );
    checking()
        .when_event::<Order>("o-1", cancelled())
        .then_sends_no_more()
        .when_accepted::<Product>("apple")
        .then_running()
        .when_accepted::<Product>("tofu")
        .then_sends_no_more()
        .then_ended();
    reserving()
        .when_accepted::<Stock>("gangnam_tofu")
        .when_event::<Order>("o-1", cancelled())
        .then_sends::<Stock>("gangnam_tofu", release())
        .then_sends_no_more()
        .when_accepted::<Stock>("gangnam_tofu")
        .then_running()
        .when_accepted::<Stock>("gangnam_apple")
        .then_sends::<Stock>("gangnam_apple", release())
        .when_accepted::<Stock>("gangnam_apple")
        .then_ended();
}

#[test]
fn what_was_settled_by_hand_is_settled() {
    confirmed()
        .when_event::<Order>("o-1", cancelled())
        .when_refused::<Stock>("gangnam_apple", "not_reserved")
        .when_accepted::<Stock>("gangnam_tofu")
        .then_ended();
}

#[test]
fn an_order_that_is_confirmed_by_hand_goes_on() {
    checking()
        .when_event::<Order>("o-1", order::Event::Confirmed {})
        .then_deadline(PAYMENT, 15.minutes())
        .when_accepted::<Product>("apple")
        .when_accepted::<Product>("tofu")
        .then_sends::<Stock>("gangnam_apple", reserve(2))
        .then_sends::<Stock>("gangnam_tofu", reserve(1))
        .when_accepted::<Stock>("gangnam_apple")
        .when_accepted::<Stock>("gangnam_tofu")
        .then_sends_no_more();
}

#[test]
fn an_order_from_before_there_was_the_process_is_left_alone() {
    Story::<Fulfilment>::of("o-1")
        .when_event::<Order>("o-1", order::Event::Confirmed {})
        .then_nothing()
        .when_event::<Order>("o-1", order::Event::Shipped {})
        .then_nothing()
        .then_running();
}

#[test]
fn a_stock_that_no_branch_can_have_is_refused_without_asking() {
    let sku = "a".repeat(60);
    let reason = format!("{sku}: the branch has no such stock");
    Story::<Fulfilment>::of("o-1")
        .when_event::<Order>("o-1", placed(vec![line(&sku, 1, 100)]))
        .then_sends::<Order>("o-1", reject(&reason))
        .then_sends_no_more();
}

/// However the answers and a cancellation interleave, nothing stays set aside.
#[test]
fn in_every_order_of_answers_nothing_stays_set_aside() {
    let answers = |sku: &'static str| vec![format!("gangnam_{sku}")];
    let cancel = vec!["cancel".to_owned()];
    for order in interleavings(&[answers("apple"), answers("tofu"), cancel]) {
        let mut story = reserving();
        for what in order {
            story = match what.as_str() {
                "cancel" => story.when_event::<Order>("o-1", cancelled()),
                stock => story.when_accepted::<Stock>(stock),
            };
        }
        while let Some(sent) = story.instance().open().first().cloned() {
            story = match sent.is::<Order>() {
                true => story.when_refused::<Order>("o-1", "illegal_transition"),
                false => story.when_accepted::<Stock>(&sent.id),
            };
        }
        let process = story.instance().process();
        let settled = process
            .lines
            .iter()
            .all(|line| line.status == LineStatus::Settled);
        assert!(settled, "{process:?}");
        story.then_ended();
    }
}

#[test]
fn only_the_events_of_orders_belong_to_it() {
    let log = Log::new()
        .add::<Order>("o-1", [order::Event::Confirmed {}])
        .add::<Product>("apple", [product::Event::Discontinued {}]);
    let belongs: Vec<_> = log.events().iter().map(Fulfilment::correlate).collect();
    assert_eq!(belongs, [Some("o-1".to_owned()), None]);
}
