//! One test a rule.

use super::*;
use headwater_core::testkit::Given;

fn registered() -> Event {
    Event::Registered {
        name: "김하늘".to_owned(),
        email: "Haneul@Example.com".to_owned(),
        address: None,
    }
}

fn member() -> Given<Member> {
    Given::events([registered()])
}

fn register(name: &str, email: &str, address: Option<&str>) -> Command {
    Command::Register {
        name: name.to_owned(),
        email: email.to_owned(),
        address: address.map(str::to_owned),
    }
}

fn change_address(address: &str) -> Command {
    Command::ChangeAddress {
        address: address.to_owned(),
    }
}

#[test]
fn an_email_is_claimed_in_lower_case_and_kept_as_given() {
    Given::<Member>::nothing()
        .when(register("김하늘 ", " Haneul@Example.com ", None))
        .then_events([registered()])
        .then_claims([("member_email", "haneul@example.com")]);
}

#[test]
fn a_member_registers_once() {
    member()
        .when(register("김하늘", "other@example.com", None))
        .then_rejected("already_registered");
}

#[test]
fn nothing_but_registering_is_possible_before_it() {
    for command in [change_address("서울"), Command::Withdraw {}] {
        Given::<Member>::nothing()
            .when(command)
            .then_rejected("not_found");
    }
}

#[test]
fn withdrawing_gives_the_email_up() {
    member()
        .when(Command::Withdraw {})
        .then_events([Event::Withdrawn {}])
        .then_claims([])
        .then_releases([("member_email", "haneul@example.com")]);
    let changed = Event::AddressChanged {
        address: "서울".to_owned(),
    };
    Given::<Member>::events([registered(), changed])
        .when(Command::Withdraw {})
        .then_releases([("member_email", "haneul@example.com")]);
}

#[test]
fn who_withdrew_can_do_nothing_more() {
    for command in [
        register("김하늘", "haneul@example.com", None),
        change_address("서울"),
        Command::Withdraw {},
    ] {
        Given::<Member>::events([registered(), Event::Withdrawn {}])
            .when(command)
            .then_rejected("withdrawn");
    }
}

#[test]
fn nothing_personal_is_left_in_the_state_of_who_withdrew() {
    let mut state = Member::default();
    state.evolve(&registered());
    assert!(serde_json::to_string(&state).unwrap().contains("Haneul"));
    state.evolve(&Event::Withdrawn {});
    assert_eq!(serde_json::to_string(&state).unwrap(), r#""withdrawn""#);
}

#[test]
fn an_address_is_changed_when_it_is_another() {
    let changed = Event::AddressChanged {
        address: "서울 성동구".to_owned(),
    };
    member()
        .when(change_address(" 서울 성동구"))
        .then_events([changed.clone()]);
    Given::<Member>::events([registered(), changed])
        .when(change_address("서울 성동구"))
        .then_nothing();
}

#[test]
fn an_email_has_one_at_and_something_on_both_sides() {
    let nothing = Given::<Member>::nothing;
    for email in ["a@b", "a.b+c@d-e.example", "한글@예시.한국"] {
        nothing()
            .when(register("김하늘", email, None))
            .then_accepted();
    }
    let long = format!("{}@example.com", "a".repeat(243));
    for email in [
        "", "a", "@", "a@", "@b", "a@b@c", "a b@c", "a@b c", "a\n@b", "a@.b", "a@b..c", &long,
    ] {
        nothing()
            .when(register("김하늘", email, None))
            .then_rejected("invalid_email");
    }
}

#[test]
fn names_and_addresses_are_bounded() {
    let nothing = Given::<Member>::nothing;
    for name in ["", " ", &"가".repeat(201)] {
        nothing()
            .when(register(name, "a@b", None))
            .then_rejected("invalid_name");
    }
    for address in ["", " ", &"가".repeat(501)] {
        nothing()
            .when(register("김하늘", "a@b", Some(address)))
            .then_rejected("invalid_address");
        member()
            .when(change_address(address))
            .then_rejected("invalid_address");
    }
}

#[test]
fn an_email_is_claimed_in_one_form_however_it_was_typed() {
    for (typed, claimed) in [
        ("José@example.com", "jos\u{e9}@example.com"),
        ("jose\u{301}@example.com", "jos\u{e9}@example.com"),
        ("JOSE\u{301}@EXAMPLE.COM", "jos\u{e9}@example.com"),
        ("\u{1112}\u{1161}\u{11ab}@example.com", "한@example.com"),
        // Its lower case comes apart, and is put together.
        ("\u{130}@example.com", "i\u{307}@example.com"),
        ("ΟΔΟΣ@example.com", "οδοσ@example.com"),
        ("οδος@example.com", "οδοσ@example.com"),
        ("STRASSE@example.com", "strasse@example.com"),
        ("straße@example.com", "strasse@example.com"),
        ("a@Bücher.example", "a@xn--bcher-kva.example"),
        ("a@BU\u{308}CHER.example", "a@xn--bcher-kva.example"),
        ("a@ｅｘａｍｐｌｅ.com", "a@example.com"),
    ] {
        Given::<Member>::nothing()
            .when(register("김하늘", typed, None))
            .then_claims([("member_email", claimed)]);
    }
    let decomposed = Event::Registered {
        name: "김하늘".to_owned(),
        email: "jose\u{301}@example.com".to_owned(),
        address: None,
    };
    Given::<Member>::events([decomposed])
        .when(Command::Withdraw {})
        .then_releases([("member_email", "jos\u{e9}@example.com")]);
}

#[test]
fn what_nobody_sees_is_refused() {
    let nothing = Given::<Member>::nothing;
    for invisible in [
        '\u{200b}',
        '\u{200e}',
        '\u{202e}',
        '\u{2060}',
        '\u{feff}',
        '\u{ad}',
        '\u{3164}',
        '\u{e0041}',
        '\u{2066}',
        '\u{378}',
        '\u{f8ff}',
        '\u{7}',
    ] {
        let within = format!("a{invisible}b");
        nothing()
            .when(register(&within, "a@b", None))
            .then_rejected("invalid_name");
        nothing()
            .when(register("김하늘", &format!("{within}@b"), None))
            .then_rejected("invalid_email");
        nothing()
            .when(register("김하늘", "a@b", Some(&within)))
            .then_rejected("invalid_address");
        member()
            .when(change_address(&within))
            .then_rejected("invalid_address");
    }
    // Scripts and emoji need some, within others and never alone.
    for name in [
        "نمی\u{200c}خواهم",
        "❤\u{fe0f}",
        "👩\u{200d}🍳",
        "葛\u{e0100}",
    ] {
        nothing()
            .when(register(name, "a@b", Some(name)))
            .then_accepted();
        nothing()
            .when(register("김하늘", &format!("{name}\u{200d}@b"), None))
            .then_rejected("invalid_email");
    }
    for name in ["\u{200d}", "\u{200c}\u{fe0f}"] {
        nothing()
            .when(register(name, "a@b", None))
            .then_rejected("invalid_name");
    }
}

#[test]
fn a_member_is_nobody_else() {
    let by = |subject: &str, scopes: &[&str]| {
        let caller = headwater_core::caller::Caller::new(Some(subject), scopes.iter().copied());
        member().by(caller).when(Command::Withdraw {})
    };
    by("id-1", &[]).then_accepted();
    by("s-1", &["staff"]).then_accepted();
    by("m-2", &["cmd:*"]).then_forbidden("staff");
}
