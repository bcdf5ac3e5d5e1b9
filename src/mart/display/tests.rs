//! One test a rule.

use super::*;
use headwater_core::testkit::Given;

fn opened() -> Event {
    Event::Opened {
        branch: "gangnam".to_owned(),
        title: "오늘의 과일".to_owned(),
    }
}

fn placed(sku: &str, rank: i64) -> Event {
    Event::Placed {
        sku: sku.to_owned(),
        rank,
    }
}

fn section(products: &[(&str, i64)]) -> Given<Display> {
    let products = products.iter().map(|(sku, rank)| placed(sku, *rank));
    Given::events([opened()].into_iter().chain(products))
}

fn open(branch: &str, title: &str) -> Command {
    Command::Open {
        branch: branch.into(),
        title: title.to_owned(),
    }
}

fn place(sku: &str, rank: i64) -> Command {
    Command::Place {
        sku: sku.into(),
        rank,
    }
}

fn r#move(sku: &str, rank: i64) -> Command {
    Command::Move {
        sku: sku.into(),
        rank,
    }
}

fn remove(sku: &str) -> Command {
    Command::Remove { sku: sku.into() }
}

fn schedule(from: &str, until: &str) -> Command {
    Command::Schedule {
        from: from.parse().unwrap(),
        until: until.parse().unwrap(),
    }
}

const JANUARY: &str = "2027-01-01T00:00:00Z";
const FEBRUARY: &str = "2027-02-01T00:00:00Z";

#[test]
fn a_section_is_opened_once() {
    Given::<Display>::nothing()
        .when(open("gangnam", " 오늘의 과일"))
        .then_events([opened()]);
    section(&[])
        .when(open("gangnam", "오늘의 과일"))
        .then_rejected("already_opened");
}

#[test]
fn a_section_has_a_branch_and_a_title() {
    for branch in ["", "gang_nam", "강남", "a b", &"a".repeat(65)] {
        Given::<Display>::nothing()
            .when(open(branch, "오늘의 과일"))
            .then_rejected("invalid_branch");
    }
    for title in ["", " ", &"가".repeat(201)] {
        Given::<Display>::nothing()
            .when(open("gangnam", title))
            .then_rejected("invalid_title");
    }
}

#[test]
fn nothing_but_opening_is_possible_before_it() {
    for command in [
        place("apple", 1),
        r#move("apple", 1),
        remove("apple"),
        schedule(JANUARY, FEBRUARY),
        Command::Close {},
    ] {
        Given::<Display>::nothing()
            .when(command)
            .then_rejected("not_found");
    }
}

#[test]
fn a_product_is_in_a_section_once() {
    section(&[])
        .when(place("apple", 1))
        .then_events([placed("apple", 1)]);
    section(&[("apple", 1)])
        .when(place("apple", 2))
        .then_rejected("already_displayed");
    section(&[("apple", 1)])
        .when(place("apple", 1))
        .then_rejected("already_displayed");
}

#[test]
fn two_products_may_share_a_rank() {
    section(&[("apple", 1)])
        .when(place("pear", 1))
        .then_events([placed("pear", 1)]);
}

#[test]
fn a_product_that_was_removed_can_be_placed_again() {
    let removed = Event::Removed {
        sku: "apple".to_owned(),
    };
    let given = Given::<Display>::events([opened(), placed("apple", 1), removed]);
    given
        .when(place("apple", 3))
        .then_events([placed("apple", 3)]);
    given.when(remove("apple")).then_rejected("not_displayed");
}

#[test]
fn only_what_is_in_the_section_is_moved_or_removed() {
    section(&[("apple", 1)])
        .when(r#move("apple", 2))
        .then_events([Event::Moved {
            sku: "apple".to_owned(),
            rank: 2,
        }]);
    section(&[("apple", 1)])
        .when(remove("apple"))
        .then_events([Event::Removed {
            sku: "apple".to_owned(),
        }]);
    section(&[("apple", 1)])
        .when(r#move("pear", 2))
        .then_rejected("not_displayed");
    section(&[("apple", 1)])
        .when(remove("pear"))
        .then_rejected("not_displayed");
}

#[test]
fn a_move_to_the_same_rank_changes_nothing() {
    section(&[("apple", 1)])
        .when(r#move("apple", 1))
        .then_nothing();
}

#[test]
fn ranks_are_one_to_ten_thousand() {
    section(&[]).when(place("apple", 10_000)).then_accepted();
    for rank in [i64::MIN, -1, 0, 10_001, i64::MAX] {
        section(&[])
            .when(place("apple", rank))
            .then_rejected("invalid_rank");
        section(&[("apple", 1)])
            .when(r#move("apple", rank))
            .then_rejected("invalid_rank");
    }
}

#[test]
fn a_sku_is_an_id() {
    for sku in ["", "a.b", "사과", ">", &"a".repeat(65)] {
        for command in [place(sku, 1), r#move(sku, 1), remove(sku)] {
            section(&[]).when(command).then_rejected("invalid_sku");
        }
    }
}

#[test]
fn a_section_shows_five_hundred_products_at_most() {
    let products = |count| (0..count).map(|n| placed(&format!("p-{n}"), 1));
    let section = |count| Given::<Display>::events([opened()].into_iter().chain(products(count)));
    section(499).when(place("apple", 1)).then_accepted();
    section(500)
        .when(place("apple", 1))
        .then_rejected("section_full");
}

#[test]
fn a_period_begins_before_it_ends() {
    section(&[])
        .when(schedule(JANUARY, FEBRUARY))
        .then_events([Event::Scheduled {
            from: JANUARY.parse().unwrap(),
            until: FEBRUARY.parse().unwrap(),
        }]);
    section(&[])
        .when(schedule(FEBRUARY, JANUARY))
        .then_rejected("invalid_period");
    section(&[])
        .when(schedule(JANUARY, JANUARY))
        .then_rejected("invalid_period");
}

#[test]
fn the_same_period_again_changes_nothing() {
    let scheduled = Event::Scheduled {
        from: JANUARY.parse().unwrap(),
        until: FEBRUARY.parse().unwrap(),
    };
    Given::<Display>::events([opened(), scheduled])
        .when(schedule("2027-01-01T09:00:00+09:00", FEBRUARY))
        .then_nothing();
}

#[test]
fn a_time_of_another_form_is_no_command() {
    for time in [
        "tomorrow",
        "2027-01-01",
        "2027-13-01T00:00:00Z",
        "2027-01-01T00:00:00",
    ] {
        let json = format!(r#"{{"schedule":{{"from":"{time}","until":"{FEBRUARY}"}}}}"#);
        assert!(serde_json::from_str::<Command>(&json).is_err(), "{time}");
    }
}

#[test]
fn a_closed_section_refuses_everything() {
    section(&[])
        .when(Command::Close {})
        .then_events([Event::Closed {}]);
    for command in [
        open("gangnam", "오늘의 과일"),
        place("apple", 1),
        r#move("apple", 1),
        remove("apple"),
        schedule(JANUARY, FEBRUARY),
        Command::Close {},
    ] {
        Given::<Display>::events([opened(), Event::Closed {}])
            .when(command)
            .then_rejected("closed");
    }
}

#[test]
fn a_section_has_nothing_in_its_id_that_joins_it_to_a_product() {
    for id in ["a_b", "_", "a_"] {
        for command in [
            open("gangnam", "과일"),
            place("apple", 1),
            Command::Close {},
        ] {
            Given::<Display>::nothing()
                .id(id)
                .when(command)
                .then_rejected("invalid_id");
        }
        let opened = || Given::<Display>::events([opened(), placed("apple", 1)]).id(id);
        opened().when(place("pear", 2)).then_rejected("invalid_id");
        opened().when(remove("apple")).then_accepted();
        opened().when(Command::Close {}).then_accepted();
    }
    Given::<Display>::nothing()
        .id("a-b")
        .when(open("gangnam", "과일"))
        .then_accepted();
}

#[test]
fn sections_are_for_staff() {
    let by = |scopes: &[&str]| {
        let caller = headwater_core::caller::Caller::new(Some("m-1"), scopes.iter().copied());
        section(&[]).by(caller).when(place("apple", 1))
    };
    by(&["staff"]).then_accepted();
    by(&["cmd:*"]).then_forbidden("staff");
}
