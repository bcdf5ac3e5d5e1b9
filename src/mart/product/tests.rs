//! One test a rule.

use super::*;
use headwater_core::testkit::Given;

fn registered() -> Event {
    Event::Registered {
        name: "사과".to_owned(),
        name_en: Some("Apple".to_owned()),
        price: 4_900,
        category: "fruit".to_owned(),
        unit: None,
        barcode: Some("8801234500017".to_owned()),
        description: None,
    }
}

fn listed() -> Given<Product> {
    Given::events([registered()])
}

fn discontinued() -> Given<Product> {
    Given::events([registered(), Event::Discontinued {}])
}

/// A registration in which nothing is wrong and nothing is optional.
fn register(change: impl FnOnce(&mut Fields)) -> Command {
    let mut fields = Fields {
        name: "사과",
        name_en: None,
        price: 4_900,
        category: "fruit",
        unit: None,
        barcode: None,
        description: None,
    };
    change(&mut fields);
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Command::Register {
        name: fields.name.to_owned(),
        name_en: owned(fields.name_en),
        price: fields.price,
        category: fields.category.to_owned(),
        unit: owned(fields.unit),
        barcode: owned(fields.barcode),
        description: owned(fields.description),
    }
}

struct Fields {
    name: &'static str,
    name_en: Option<&'static str>,
    price: i64,
    category: &'static str,
    unit: Option<&'static str>,
    barcode: Option<&'static str>,
    description: Option<&'static str>,
}

fn rename(name: &str, name_en: Option<&str>) -> Command {
    Command::Rename {
        name: name.to_owned(),
        name_en: name_en.map(str::to_owned),
    }
}

fn describe(description: &str) -> Command {
    Command::Describe {
        description: description.to_owned(),
    }
}

fn recategorize(category: &str) -> Command {
    Command::Recategorize {
        category: category.to_owned(),
    }
}

#[test]
fn a_product_is_registered_with_trimmed_texts() {
    Given::<Product>::nothing()
        .when(register(|fields| {
            fields.name = " 사과 ";
            fields.name_en = Some("Apple\n");
            fields.unit = Some(" 1kg");
            fields.description = Some("  ");
        }))
        .then_events([Event::Registered {
            name: "사과".to_owned(),
            name_en: Some("Apple".to_owned()),
            price: 4_900,
            category: "fruit".to_owned(),
            unit: Some("1kg".to_owned()),
            barcode: None,
            description: None,
        }])
        .then_claims([]);
}

#[test]
fn a_barcode_is_claimed_when_given() {
    Given::<Product>::nothing()
        .when(register(|fields| fields.barcode = Some("8801234500017")))
        .then_claims([("product_barcode", "8801234500017")]);
}

#[test]
fn a_product_is_registered_once() {
    listed()
        .when(register(|_| {}))
        .then_rejected("already_registered");
    discontinued()
        .when(register(|_| {}))
        .then_rejected("already_registered");
}

#[test]
fn nothing_but_registering_is_possible_before_it() {
    for command in [
        rename("배", None),
        Command::Reprice { price: 1 },
        recategorize("fruit"),
        describe(""),
        Command::Discontinue {},
        Command::Relist {},
    ] {
        Given::<Product>::nothing()
            .when(command)
            .then_rejected("not_found");
    }
}

#[test]
fn nothing_but_relisting_is_possible_on_a_discontinued_product() {
    for command in [
        rename("배", None),
        Command::Reprice { price: 1 },
        recategorize("fruit"),
        describe(""),
        Command::Discontinue {},
    ] {
        discontinued().when(command).then_rejected("discontinued");
    }
    discontinued()
        .when(Command::Relist {})
        .then_events([Event::Relisted {}]);
}

#[test]
fn a_relisted_product_can_be_changed_again() {
    Given::<Product>::events([registered(), Event::Discontinued {}, Event::Relisted {}])
        .when(Command::Reprice { price: 5_000 })
        .then_events([Event::Repriced { price: 5_000 }]);
}

#[test]
fn relisting_a_listed_product_changes_nothing() {
    listed().when(Command::Relist {}).then_nothing();
}

#[test]
fn discontinuing_gives_nothing_up() {
    listed()
        .when(Command::Discontinue {})
        .then_events([Event::Discontinued {}])
        .then_releases([]);
}

#[test]
fn a_price_is_one_to_a_hundred_million_won() {
    for price in [1, 100_000_000] {
        listed()
            .when(Command::Reprice { price })
            .then_events([Event::Repriced { price }]);
        Given::<Product>::nothing()
            .when(register(|fields| fields.price = price))
            .then_accepted();
    }
    for price in [i64::MIN, -1, 0, 100_000_001, i64::MAX] {
        listed()
            .when(Command::Reprice { price })
            .then_rejected("invalid_price");
        Given::<Product>::nothing()
            .when(register(|fields| fields.price = price))
            .then_rejected("invalid_price");
    }
}

#[test]
fn the_same_again_changes_nothing() {
    for command in [
        rename("사과", Some("Apple")),
        rename(" 사과", None),
        Command::Reprice { price: 4_900 },
        recategorize("fruit "),
        describe(""),
    ] {
        listed().when(command).then_nothing();
    }
}

#[test]
fn a_change_to_something_else_and_back_is_two_changes() {
    Given::<Product>::events([registered(), Event::Repriced { price: 5_000 }])
        .when(Command::Reprice { price: 4_900 })
        .then_events([Event::Repriced { price: 4_900 }]);
}

#[test]
fn renaming_without_an_english_name_keeps_the_one_there_is() {
    listed()
        .when(rename("꿀사과", None))
        .then_events([Event::Renamed {
            name: "꿀사과".to_owned(),
            name_en: Some("Apple".to_owned()),
        }]);
    listed()
        .when(rename("사과", Some("Red apple")))
        .then_events([Event::Renamed {
            name: "사과".to_owned(),
            name_en: Some("Red apple".to_owned()),
        }]);
}

#[test]
fn a_description_can_be_taken_away() {
    let described = Event::Described {
        description: "달다".to_owned(),
    };
    Given::<Product>::events([registered(), described])
        .when(describe(""))
        .then_events([Event::Described {
            description: String::new(),
        }]);
}

#[test]
fn a_category_is_one_to_sixty_characters() {
    listed()
        .when(recategorize("제철 과일"))
        .then_events([Event::Recategorized {
            category: "제철 과일".to_owned(),
        }]);
    for category in ["", " ", &"a".repeat(61)] {
        listed()
            .when(recategorize(category))
            .then_rejected("invalid_category");
    }
}

#[test]
fn texts_are_bounded() {
    listed()
        .when(rename("", None))
        .then_rejected("invalid_name");
    listed()
        .when(rename(&"가".repeat(201), None))
        .then_rejected("invalid_name");
    listed()
        .when(rename("배", Some(" ")))
        .then_rejected("invalid_name_en");
    listed().when(describe(&"가".repeat(4_000))).then_accepted();
    listed()
        .when(describe(&"가".repeat(4_001)))
        .then_rejected("invalid_description");
}

#[test]
fn every_field_of_a_registration_is_checked() {
    let nothing = Given::<Product>::nothing;
    let refused = |change: fn(&mut Fields), code| {
        nothing().when(register(change)).then_rejected(code);
    };
    refused(|fields| fields.name = " ", "invalid_name");
    refused(|fields| fields.name_en = Some(""), "invalid_name_en");
    refused(|fields| fields.category = "", "invalid_category");
    refused(|fields| fields.unit = Some(""), "invalid_unit");
    refused(
        |fields| fields.description = Some("\0"),
        "invalid_description",
    );
    for barcode in ["", "880 123", "바코드"] {
        nothing()
            .when(register(|fields| fields.barcode = Some(barcode)))
            .then_rejected("invalid_barcode");
    }
}

#[test]
fn a_check_changes_nothing_and_tells_why_an_order_cannot_go_on() {
    let check = |unit_price| Command::Check { unit_price };
    listed().when(check(4_900)).then_nothing();
    listed().when(check(4_800)).then_rejected("price_changed");
    listed().when(check(0)).then_rejected("invalid_unit_price");
    Given::<Product>::nothing()
        .when(check(4_900))
        .then_rejected("not_found");
    Given::<Product>::events([registered(), Event::Discontinued {}])
        .when(check(4_900))
        .then_rejected("discontinued");
}

#[test]
fn products_are_for_staff() {
    let by = |scopes: &[&str]| {
        let caller = headwater_core::caller::Caller::new(Some("m-1"), scopes.iter().copied());
        listed().by(caller).when(rename("배", None))
    };
    by(&["staff"]).then_accepted();
    by(&["cmd:*"]).then_forbidden("staff");
}
