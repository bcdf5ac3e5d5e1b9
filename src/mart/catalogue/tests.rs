//! The sample data is accepted, and is enough to look around in.

use super::*;
use crate::view::{ProductView, StorefrontView};
use headwater_core::{
    aggregate::{Aggregate, Context},
    sample::phases,
    testkit::{Log, ViewFold},
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Decides commands of one kind of aggregate, each on the state that those before it left.
struct Folded<A> {
    states: BTreeMap<String, A>,
    claims: BTreeSet<(&'static str, String)>,
}

impl<A: Aggregate> Folded<A> {
    fn new() -> Self {
        Self {
            states: BTreeMap::new(),
            claims: BTreeSet::new(),
        }
    }

    fn decide(&mut self, sample: &SampleCommand) -> Vec<A::Event> {
        let command = json!({ &sample.command: sample.body });
        let command: A::Command = serde_json::from_value(command).unwrap();
        let state = self.states.entry(sample.id.clone()).or_default();
        let at = Context {
            id: sample.id.as_str().into(),
            version: 0,
            command_id: "sample".into(),
            now: "2027-01-01T00:00:00Z".parse().unwrap(),
            caller: headwater_core::caller::Caller::default(),
        };
        let decision = state
            .decide(command, &at)
            .unwrap_or_else(|rejection| panic!("{sample:?}: {rejection}"));
        for claim in decision.claims {
            assert!(self.claims.insert((claim.scope, claim.key)), "{sample:?}");
        }
        for event in &decision.events {
            state.evolve(event);
        }
        assert!(!decision.events.is_empty(), "{sample:?} changes nothing");
        decision.events
    }
}

/// The log after these commands, each of which must be accepted.
fn log(commands: impl IntoIterator<Item = SampleCommand>) -> Log {
    let mut products = Folded::<Product>::new();
    let mut stocks = Folded::<Stock>::new();
    let mut displays = Folded::<Display>::new();
    let mut members = Folded::<Member>::new();
    let mut log = Log::new();
    for sample in commands {
        let id = &sample.id;
        log = match sample.aggregate {
            Product::NAME => log.add::<Product>(id, products.decide(&sample)),
            Stock::NAME => log.add::<Stock>(id, stocks.decide(&sample)),
            Display::NAME => log.add::<Display>(id, displays.decide(&sample)),
            Member::NAME => log.add::<Member>(id, members.decide(&sample)),
            other => panic!("{other} is no aggregate of the sample"),
        };
    }
    log
}

#[test]
fn every_command_is_accepted_in_order() {
    let log = log(sample());
    let ids = |aggregate| {
        let of = log.events().iter().filter(|e| e.aggregate == aggregate);
        of.map(|e| e.id.clone()).collect::<BTreeSet<_>>().len()
    };
    assert!(ids(Product::NAME) >= 200);
    assert_eq!(ids(Stock::NAME), BRANCHES.len() * ids(Product::NAME));
    assert!(ids(Member::NAME) >= 5);
    assert_eq!(ids(Display::NAME), 9);
}

#[test]
fn every_command_is_accepted_phase_by_phase() {
    let mut count = 0;
    for phase in phases(sample()) {
        let targets: BTreeSet<_> = phase.iter().map(|c| (c.aggregate, &c.id)).collect();
        assert_eq!(targets.len(), phase.len(), "an aggregate twice in a phase");
        count += phase.len();
    }
    assert_eq!(count, sample().len());
    let _ = log(phases(sample()).into_iter().flatten());
}

#[test]
fn the_sample_is_always_the_same() {
    assert_eq!(sample(), sample());
}

#[test]
fn ids_are_ids() {
    for command in sample() {
        assert!(crate::rules::is_id(&command.id), "{}", command.id);
    }
}

#[test]
fn apples_are_found_by_both_names() {
    let fold = ViewFold::<ProductView>::of(log(sample()).events());
    let apple = fold.get("apple-1kg").unwrap();
    assert_eq!(apple.name, "사과 1kg");
    assert_eq!(apple.name_en.as_deref(), Some("Apple, 1 kg"));
    assert_eq!(apple.price, 6_900);
}

#[test]
fn names_are_unique_and_korean() {
    let fold = ViewFold::<ProductView>::of(log(products()).events());
    let mut names = BTreeSet::new();
    for id in fold.documents().keys() {
        let product = fold.get(id).unwrap();
        assert!(product.name.chars().any(|c| ('가'..='힣').contains(&c)));
        assert!(names.insert(product.name), "{id}");
    }
}

#[test]
fn barcodes_have_a_right_check_digit() {
    for number in [0, 1, 7, 42, 215] {
        let barcode = barcode(number);
        assert_eq!(barcode.len(), 13);
        let sum: usize = barcode
            .bytes()
            .enumerate()
            .map(|(at, digit)| usize::from(digit - b'0') * if at % 2 == 0 { 1 } else { 3 })
            .sum();
        assert_eq!(sum % 10, 0, "{barcode}");
    }
}

#[test]
fn every_section_shows_known_products_and_some_are_sold_out() {
    let fold = ViewFold::<StorefrontView>::of(log(sample()).events());
    let mut sections = BTreeMap::<String, usize>::new();
    let mut sold_out = 0;
    for id in fold.documents().keys() {
        let document = fold.get(id).unwrap();
        assert!(document.name.is_some(), "{id}");
        sold_out += usize::from(document.sold_out);
        *sections.entry(document.section).or_default() += 1;
    }
    assert_eq!(sections.len(), 9);
    assert!(sections.values().all(|count| (10..=20).contains(count)));
    assert!(sold_out > 0 && sold_out < fold.documents().len() / 4);
    assert_eq!(fold.get("gangnam-fruit_apple-1kg").unwrap().rank, 1);
}
