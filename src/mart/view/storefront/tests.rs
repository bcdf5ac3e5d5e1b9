//! What a shopper sees after which events, in every order in which they can arrive.

use super::*;
use headwater_core::testkit::{Log, ViewFold, interleavings};
use serde_json::{Value, json};

const FROM: &str = "2027-01-01T00:00:00Z";
const UNTIL: &str = "2027-02-01T00:00:00Z";

fn opened() -> display::Event {
    display::Event::Opened {
        branch: "gangnam".to_owned(),
        title: "오늘의 과일".to_owned(),
    }
}

fn placed(sku: &str, rank: i64) -> display::Event {
    display::Event::Placed {
        sku: sku.to_owned(),
        rank,
    }
}

fn scheduled() -> display::Event {
    display::Event::Scheduled {
        from: FROM.parse().unwrap(),
        until: UNTIL.parse().unwrap(),
    }
}

fn registered() -> product::Event {
    product::Event::Registered {
        name: "사과".to_owned(),
        name_en: Some("Apple".to_owned()),
        price: 4_900,
        category: "fruit".to_owned(),
        unit: None,
        barcode: None,
        description: None,
    }
}

fn received(available: i64) -> stock::Event {
    stock::Event::Received {
        quantity: available,
        available,
    }
}

fn adjusted(available: i64) -> stock::Event {
    stock::Event::Adjusted {
        delta: -1,
        reason: "counted".to_owned(),
        available,
    }
}

/// One event of one of the three, for mixing them.
#[derive(Clone)]
enum Any {
    Display(display::Event),
    Product(product::Event),
    Stock(stock::Event),
}

fn fold(events: &[Any]) -> ViewFold<StorefrontView> {
    let log = events
        .iter()
        .cloned()
        .fold(Log::new(), |log, event| match event {
            Any::Display(event) => log.add::<Display>("fruits", [event]),
            Any::Product(event) => log.add::<Product>("apple", [event]),
            Any::Stock(event) => log.add::<Stock>("gangnam_apple", [event]),
        });
    ViewFold::of(log.events())
}

/// Folds the three histories in every order in which they can arrive, and expects the same.
#[track_caller]
fn in_any_order(
    display: Vec<display::Event>,
    product: Vec<product::Event>,
    stock: Vec<stock::Event>,
    expected: Option<&Value>,
) {
    let orders = interleavings(&[
        display.into_iter().map(Any::Display).collect(),
        product.into_iter().map(Any::Product).collect(),
        stock.into_iter().map(Any::Stock).collect(),
    ]);
    assert!(!orders.is_empty());
    for order in orders {
        assert_eq!(fold(&order).json("fruits_apple"), expected);
    }
}

#[test]
fn a_document_is_the_same_in_any_order_of_arrival() {
    in_any_order(
        vec![opened(), placed("apple", 3), scheduled()],
        vec![
            registered(),
            product::Event::Renamed {
                name: "꿀사과".to_owned(),
                name_en: None,
            },
            product::Event::Repriced { price: 5_200 },
        ],
        vec![received(10), adjusted(7)],
        Some(&json!({
            "branch": "gangnam",
            "section": "fruits",
            "title": "오늘의 과일",
            "sku": "apple",
            "rank": 3,
            "name": "꿀사과",
            "price": 5_200,
            "category": "fruit",
            "status": "listed",
            "available": 7,
            "sold_out": false,
            "from": FROM,
            "until": UNTIL,
        })),
    );
}

#[test]
fn every_change_of_a_product_is_shown_in_any_order_of_arrival() {
    in_any_order(
        vec![opened(), placed("apple", 3)],
        vec![
            registered(),
            product::Event::Recategorized {
                category: "seasonal".to_owned(),
            },
            product::Event::Described {
                description: "달다".to_owned(),
            },
            product::Event::Discontinued {},
            product::Event::Relisted {},
            product::Event::Discontinued {},
        ],
        vec![],
        Some(&json!({
            "branch": "gangnam",
            "section": "fruits",
            "title": "오늘의 과일",
            "sku": "apple",
            "rank": 3,
            "name": "사과",
            "price": 4_900,
            "category": "seasonal",
            "status": "discontinued",
            "available": 0,
            "sold_out": true,
            "from": null,
            "until": null,
        })),
    );
}

#[test]
fn what_is_not_known_yet_is_null_and_sold_out() {
    in_any_order(
        vec![opened(), placed("apple", 1)],
        vec![],
        vec![],
        Some(&json!({
            "branch": "gangnam",
            "section": "fruits",
            "title": "오늘의 과일",
            "sku": "apple",
            "rank": 1,
            "name": null,
            "price": null,
            "category": null,
            "status": null,
            "available": 0,
            "sold_out": true,
            "from": null,
            "until": null,
        })),
    );
}

#[test]
fn a_removed_product_is_gone_in_any_order_of_arrival() {
    let removed = display::Event::Removed {
        sku: "apple".to_owned(),
    };
    in_any_order(
        vec![opened(), placed("apple", 1), removed],
        vec![registered(), product::Event::Repriced { price: 1 }],
        vec![received(5), adjusted(4)],
        None,
    );
}

#[test]
fn a_closed_section_is_gone_in_any_order_of_arrival() {
    in_any_order(
        vec![
            opened(),
            placed("apple", 1),
            scheduled(),
            display::Event::Closed {},
        ],
        vec![registered(), product::Event::Repriced { price: 1 }],
        vec![received(5), adjusted(4)],
        None,
    );
}

#[test]
fn a_closed_section_is_no_longer_remembered() {
    let log = Log::new().add::<Display>("fruits", [opened(), display::Event::Closed {}]);
    assert!(
        ViewFold::<StorefrontView>::of(log.events())
            .parts()
            .is_empty()
    );
}

#[test]
fn a_product_placed_again_has_its_new_rank() {
    let removed = display::Event::Removed {
        sku: "apple".to_owned(),
    };
    let log = Log::new().add::<Display>(
        "fruits",
        [opened(), placed("apple", 1), removed, placed("apple", 9)],
    );
    let fold = ViewFold::<StorefrontView>::of(log.events());
    assert_eq!(fold.get("fruits_apple").unwrap().rank, 9);
}

#[test]
fn a_move_changes_the_rank_of_one_product() {
    let moved = display::Event::Moved {
        sku: "apple".to_owned(),
        rank: 5,
    };
    let log = Log::new().add::<Display>(
        "fruits",
        [opened(), placed("apple", 1), placed("pear", 2), moved],
    );
    let fold = ViewFold::<StorefrontView>::of(log.events());
    assert_eq!(fold.get("fruits_apple").unwrap().rank, 5);
    assert_eq!(fold.get("fruits_pear").unwrap().rank, 2);
}

#[test]
fn a_schedule_and_a_closing_touch_only_their_section() {
    let log = Log::new()
        .add::<Display>("fruits", [opened(), placed("apple", 1)])
        .add::<Display>("sweets", [opened(), placed("apple", 1)])
        .add::<Display>("fruits", [scheduled()])
        .add::<Display>("sweets", [display::Event::Closed {}]);
    let fold = ViewFold::<StorefrontView>::of(log.events());
    assert!(fold.get("fruits_apple").unwrap().from.is_some());
    assert_eq!(fold.get("sweets_apple"), None);
}

#[test]
fn a_branch_sees_its_own_stock() {
    let elsewhere = display::Event::Opened {
        branch: "seongsu".to_owned(),
        title: "과일".to_owned(),
    };
    let log = Log::new()
        .add::<Display>("a", [opened(), placed("apple", 1)])
        .add::<Display>("b", [elsewhere, placed("apple", 1), placed("red_apple", 2)])
        .add::<Stock>("gangnam_apple", [received(5)])
        .add::<Stock>("seongsu_apple", [received(6), adjusted(0)])
        .add::<Stock>("seongsu_red_apple", [received(7)]);
    let fold = ViewFold::<StorefrontView>::of(log.events());
    let shown = |id| {
        let document = fold.get(id).unwrap();
        (document.available, document.sold_out)
    };
    assert_eq!(shown("a_apple"), (5, false));
    assert_eq!(shown("b_apple"), (0, true));
    assert_eq!(shown("b_red_apple"), (7, false));
}

#[test]
fn every_kind_of_stock_event_shows_what_is_available() {
    let order = || "o-1".to_owned();
    let events = [
        (received(5), 5),
        (
            stock::Event::Reserved {
                order: order(),
                quantity: 5,
                available: 0,
            },
            0,
        ),
        (
            stock::Event::Released {
                order: order(),
                quantity: 5,
                available: 5,
            },
            5,
        ),
        (
            stock::Event::Shipped {
                order: order(),
                quantity: 1,
                available: 4,
            },
            4,
        ),
        (adjusted(3), 3),
    ];
    let mut log = Log::new().add::<Display>("fruits", [opened(), placed("apple", 1)]);
    for (event, available) in events {
        log = log.add::<Stock>("gangnam_apple", [event]);
        let document = ViewFold::<StorefrontView>::of(log.events())
            .get("fruits_apple")
            .unwrap();
        assert_eq!(document.available, available);
        assert_eq!(document.sold_out, available == 0);
    }
}

#[test]
fn an_event_that_changes_nothing_shown_leaves_the_version() {
    let described = product::Event::Described {
        description: "달다".to_owned(),
    };
    let shipped = stock::Event::Shipped {
        order: "o-1".to_owned(),
        quantity: 1,
        available: 5,
    };
    let log = Log::new()
        .add::<Product>("apple", [registered()])
        .add::<Stock>("gangnam_apple", [received(5)])
        .add::<Display>("fruits", [opened(), placed("apple", 1)])
        .add::<Product>("apple", [described])
        .add::<Stock>("gangnam_apple", [shipped]);
    let fold = ViewFold::<StorefrontView>::of(log.events());
    assert_eq!(fold.version("fruits_apple"), Some(3));
}

#[test]
fn two_pairs_with_one_document_id_are_refused() {
    let log = Log::new()
        .add::<Display>("a_b", [opened(), placed("c", 1)])
        .add::<Display>("a", [opened()])
        .add::<Display>("a", [placed("b_c", 1)]);
    let (last, others) = log.events().split_last().unwrap();
    let mut fold = ViewFold::<StorefrontView>::of(others);
    assert!(matches!(fold.apply(last), Err(ApplyError::Refused(_))));
    assert_eq!(fold.get("a_b_c").unwrap().section, "a_b");
}
