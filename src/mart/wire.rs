//! The mart's commands as JSON: what decodes, and what does not.

use super::{display::Display, member::Member, order::Order, product::Product, stock::Stock};
use headwater_core::{
    aggregate::{Aggregate, Rejection},
    testkit::command_names,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn refusal<A: Aggregate>(command: &Value) -> String {
    match serde_json::from_str::<A::Command>(&command.to_string()) {
        Ok(_) => panic!("{command} is decoded"),
        Err(error) => error.to_string(),
    }
}

/// Rules that hold of the commands of every aggregate.
fn hold<A: Aggregate>(expected: &[&str]) {
    assert_eq!(command_names::<A>(), expected);
    for name in expected {
        let refusal = refusal::<A>(&json!({ *name: { "bogus": 1 } }));
        assert!(
            refusal.contains("unknown field `bogus`"),
            "{name}: {refusal}"
        );

        let codes = A::Rejection::codes(name);
        let distinct: BTreeSet<_> = codes.iter().collect();
        assert_eq!(distinct.len(), codes.len(), "{name} has a code twice");
        for code in codes {
            let snake = code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(snake && !code.is_empty(), "{name}: {code}");
        }
    }
}

#[test]
fn every_command_has_its_name_and_denies_unknown_fields() {
    hold::<Product>(&[
        "register",
        "rename",
        "reprice",
        "recategorize",
        "describe",
        "discontinue",
        "relist",
        "check",
    ]);
    hold::<Stock>(&["receive", "reserve", "release", "ship", "adjust"]);
    hold::<Display>(&["open", "place", "move", "remove", "schedule", "close"]);
    hold::<Member>(&["register", "change_address", "withdraw"]);
    hold::<Order>(&[
        "place", "confirm", "reject", "pay", "ship", "deliver", "cancel",
    ]);
}

#[test]
fn a_number_that_is_no_whole_number_of_64_bits_is_not_decoded() {
    for price in [
        json!("1"),
        json!(1.5),
        json!(1.0),
        json!(1e30),
        json!(null),
        json!(true),
    ] {
        refusal::<Product>(&json!({ "reprice": { "price": price } }));
    }
    let huge = r#"{"reprice":{"price":9223372036854775808}}"#;
    assert!(serde_json::from_str::<super::product::Command>(huge).is_err());
}

#[test]
fn a_line_of_an_order_is_an_object_with_these_fields_and_no_others() {
    let place =
        |lines: Value| json!({ "place": { "member": "m-1", "branch": "gangnam", "lines": lines } });
    let right = json!([{ "sku": "apple", "quantity": 1, "unit_price": 1 }]);
    assert!(serde_json::from_value::<super::order::Command>(place(right)).is_ok());
    for wrong in [
        json!({}),
        json!("apple"),
        json!([["apple", 1, 1]]),
        json!(["apple"]),
        json!([null]),
        json!([{ "sku": "apple", "quantity": 1 }]),
        json!([{ "sku": "apple", "quantity": 1, "unit_price": 1, "name": "사과" }]),
        json!([{ "sku": 7, "quantity": 1, "unit_price": 1 }]),
    ] {
        refusal::<Order>(&place(wrong));
    }
}
