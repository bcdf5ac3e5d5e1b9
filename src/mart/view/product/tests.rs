//! What the view shows after which events.

use super::*;
use headwater_core::testkit::{Log, ViewFold};
use serde_json::json;

fn registered() -> Event {
    Event::Registered {
        name: "사과".to_owned(),
        name_en: None,
        price: 4_900,
        category: "fruit".to_owned(),
        unit: Some("1kg".to_owned()),
        barcode: Some("8801234500017".to_owned()),
        description: None,
    }
}

fn after(events: Vec<Event>) -> ViewFold<ProductView> {
    let log = Log::new()
        .add::<Product>("apple", [registered()])
        .add::<Product>("apple", events);
    ViewFold::of(log.events())
}

#[test]
fn a_registered_product_is_shown_with_null_for_what_it_has_not() {
    assert_eq!(
        after(vec![]).json("apple"),
        Some(&json!({
            "sku": "apple",
            "name": "사과",
            "name_en": null,
            "price": 4_900,
            "category": "fruit",
            "unit": "1kg",
            "barcode": "8801234500017",
            "description": null,
            "status": "listed",
        }))
    );
}

#[test]
fn every_change_is_shown() {
    let fold = after(vec![
        Event::Renamed {
            name: "꿀사과".to_owned(),
            name_en: Some("Honey apple".to_owned()),
        },
        Event::Repriced { price: 5_200 },
        Event::Recategorized {
            category: "seasonal".to_owned(),
        },
        Event::Described {
            description: "달다".to_owned(),
        },
        Event::Discontinued {},
    ]);
    assert_eq!(
        fold.json("apple"),
        Some(&json!({
            "sku": "apple",
            "name": "꿀사과",
            "name_en": "Honey apple",
            "price": 5_200,
            "category": "seasonal",
            "unit": "1kg",
            "barcode": "8801234500017",
            "description": "달다",
            "status": "discontinued",
        }))
    );
    assert_eq!(fold.version("apple"), Some(2));
}

#[test]
fn a_relisted_product_is_listed() {
    let fold = after(vec![Event::Discontinued {}, Event::Relisted {}]);
    assert_eq!(fold.get("apple").unwrap().status, ProductStatus::Listed);
}

#[test]
fn a_description_taken_away_is_null() {
    let describe = |text: &str| Event::Described {
        description: text.to_owned(),
    };
    let fold = after(vec![describe("달다"), describe("")]);
    assert_eq!(fold.get("apple").unwrap().description, None);
}

#[test]
fn an_event_before_the_registration_is_refused() {
    let log = Log::new().add::<Product>("apple", [Event::Discontinued {}]);
    let refused = ViewFold::<ProductView>::new().apply(&log.events()[0]);
    assert!(matches!(refused, Err(ApplyError::Refused(_))));
}
