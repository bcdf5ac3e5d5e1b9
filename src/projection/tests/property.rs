//! Any events of the mart, in batches of any size, come to what applying them one by one comes to.

use crate::{
    event_log::reader::Commit,
    mart::view::{OrderView, ProductView, SalesView, StorefrontView},
    projection::{
        fold::{self, Fold, Folded, Limits},
        refold::Memory,
    },
    read_model::exchange::{Found, Led, Needs},
    recorded::Recorded,
    testkit::ViewFold,
    view::{PartKey, View},
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json, value::to_raw_value};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What an event is made of: which one, and small numbers that choose its aggregate and its fields.
type Seed = (u8, u8, u8, u8);

/// An event of the mart, legal or not, in storage form: aggregate, id, type, data.
fn event((kind, id, a, b): Seed) -> (&'static str, String, &'static str, Value) {
    let (sku, other) = (format!("s{}", id % 3), format!("s{}", a % 3));
    let (branch, amount) = (format!("b{}", a % 2), i64::from(b % 5) * 100);
    let (stock, section) = (format!("{branch}_{sku}"), format!("d{}", id % 2));
    let (member, order) = (format!("m{}", id % 2), format!("o{}", id % 4));
    let name = format!("n{}", b % 4);
    let quantity = i64::from(b % 4) + 1;
    let of_order = format!("o{}", b % 4);
    match kind % 29 {
        0 => (
            "product",
            sku,
            "product.registered.v1",
            json!({"name": name, "price": amount, "category": branch}),
        ),
        1 => (
            "product",
            sku,
            "product.renamed.v1",
            json!({"name": name, "name_en": name}),
        ),
        2 => (
            "product",
            sku,
            "product.repriced.v1",
            json!({"price": amount}),
        ),
        3 => (
            "product",
            sku,
            "product.recategorized.v1",
            json!({"category": branch}),
        ),
        4 => (
            "product",
            sku,
            "product.described.v1",
            json!({"description": name}),
        ),
        5 => ("product", sku, "product.discontinued.v1", json!({})),
        6 => ("product", sku, "product.relisted.v1", json!({})),
        7 => (
            "stock",
            stock,
            "stock.received.v1",
            json!({"quantity": quantity, "available": amount}),
        ),
        8 => (
            "stock",
            stock,
            "stock.reserved.v1",
            json!({"order": of_order, "quantity": quantity, "available": amount}),
        ),
        9 => (
            "stock",
            stock,
            "stock.released.v1",
            json!({"order": of_order, "quantity": quantity, "available": amount}),
        ),
        10 => (
            "stock",
            stock,
            "stock.shipped.v1",
            json!({"order": of_order, "quantity": quantity, "available": amount}),
        ),
        11 => (
            "stock",
            stock,
            "stock.adjusted.v1",
            json!({"delta": quantity, "reason": name, "available": amount}),
        ),
        12 => (
            "display",
            section,
            "display.opened.v1",
            json!({"branch": branch, "title": name}),
        ),
        13 => (
            "display",
            section,
            "display.placed.v1",
            json!({"sku": other, "rank": amount}),
        ),
        14 => (
            "display",
            section,
            "display.moved.v1",
            json!({"sku": other, "rank": amount}),
        ),
        15 => (
            "display",
            section,
            "display.removed.v1",
            json!({"sku": other}),
        ),
        16 => (
            "display",
            section,
            "display.scheduled.v1",
            json!({"from": "2027-01-01T00:00:00Z", "until": "2027-02-01T00:00:00Z"}),
        ),
        17 => ("display", section, "display.closed.v1", json!({})),
        18 => (
            "member",
            member,
            "member.registered.v1",
            json!({"name": name, "email": "a@example.com"}),
        ),
        19 => (
            "member",
            member,
            "member.address_changed.v1",
            json!({"address": name}),
        ),
        20 => ("member", member, "member.withdrawn.v1", json!({})),
        21 => (
            "order",
            order,
            "order.placed.v1",
            json!({"member": format!("m{}", b % 2), "branch": branch,
            "lines": [{"sku": other, "quantity": quantity, "unit_price": 100}], "total": 100 * quantity}),
        ),
        22 => ("order", order, "order.confirmed.v1", json!({})),
        23 => ("order", order, "order.rejected.v1", json!({"reason": name})),
        24 => (
            "order",
            order,
            "order.paid.v1",
            json!({"payment": name, "amount": amount}),
        ),
        25 => ("order", order, "order.shipped.v1", json!({})),
        26 => ("order", order, "order.delivered.v1", json!({})),
        27 => (
            "order",
            order,
            "order.cancelled.v1",
            json!({"reason": name}),
        ),
        // What no program knows: its aggregate is parked.
        _ => ("order", order, "order.forgotten.v9", json!({})),
    }
}

/// Commits of one or more events, as they would stand in the log. The seeds of a commit after the
/// first keep its aggregate.
fn log(seeds: &[Vec<Seed>]) -> Vec<Commit> {
    let mut versions: BTreeMap<PartKey, u64> = BTreeMap::new();
    let mut time: Timestamp = "2027-01-01T10:00:00Z".parse().unwrap();
    (1..)
        .zip(seeds)
        .map(|(position, seeds)| {
            // Some commits are on another day.
            time += SignedDuration::from_mins(97);
            let (aggregate, id, ..) = event(seeds[0]);
            let version = versions
                .entry((aggregate.to_owned(), id.clone()))
                .or_default();
            let events = seeds.iter().map(|seed| event(*seed));
            let events = events
                .filter(|(other, ..)| *other == aggregate)
                .map(|(_, _, event_type, data)| {
                    *version += 1;
                    Recorded {
                        aggregate: aggregate.to_owned(),
                        id: id.clone(),
                        event_type: event_type.to_owned(),
                        version: *version,
                        position,
                        time,
                        command_id: "c".to_owned(),
                        correlation_id: "c".to_owned(),
                        causation_id: "c".to_owned(),
                        caller_id: None,
                        data: to_raw_value(&data).unwrap().into(),
                    }
                })
                .collect();
            Commit {
                position,
                mark: crate::event_log::Mark::default(),
                aggregate: aggregate.to_owned(),
                id,
                published: time,
                pending: 0,
                events: Ok(events),
            }
        })
        .collect()
}

type Documents = BTreeMap<String, (u64, Value)>;

/// One by one, as the view's contract says.
fn one_by_one<V: View>(log: &[Commit]) -> (Documents, BTreeSet<PartKey>) {
    let mut oracle = ViewFold::<V>::new();
    let mut parked = BTreeSet::new();
    for commit in log {
        let aggregate = (commit.aggregate.clone(), commit.id.clone());
        for event in commit.events.as_ref().unwrap() {
            if !parked.contains(&aggregate) && oracle.apply(event).is_err() {
                parked.insert(aggregate.clone());
            }
        }
    }
    let documents = oracle.documents().iter();
    let documents = documents
        .map(|(id, document)| (id.clone(), (oracle.version(id).unwrap(), document.clone())))
        .collect();
    (documents, parked)
}

/// What a fold knows of the store.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Knows {
    /// What it has asked and written.
    Learns,
    /// That it was empty at the beginning too.
    Emptiness,
    /// Nothing: it starts over with each batch.
    Restarts,
}

/// Returns what a store finds that reads no more than so many documents of a route.
fn at_most(rows: usize, needs: &Needs, mut found: Found) -> Found {
    for (route, led) in &mut found.routes {
        if matches!(led, Led::To(documents) if documents.len() > rows) {
            *led = match needs.alone.contains(route) {
                true => Led::Many,
                false => Led::Crowd,
            };
        }
    }
    if let Some(page) = &mut found.page
        && page.documents.len() > rows
    {
        page.documents.truncate(rows);
        page.through = page.documents.last().map(|(id, _)| id.clone());
    }
    found
}

/// More than any batch takes: each of its events with a page for each document.
const MAX_STEPS: usize = 20_000;

/// As a projector does. A restart forgets all but what is stored.
fn in_batches<V: View>(
    log: &[Commit],
    (sizes, rows): (&[usize], usize),
    knows: Knows,
) -> (Documents, BTreeSet<PartKey>) {
    let mut memory = Memory::new(&V::query().routes);
    let mut fold = fold::ViewFold::<V>::default();
    fold.limit(Limits {
        rows,
        ..Limits::USUAL
    });
    let (mut parked, mut positions) = (HashSet::new(), HashMap::new());
    if knows == Knows::Emptiness {
        fold.begin_empty();
    }
    let mut left: Vec<Commit> = log
        .iter()
        .filter(|commit| V::AGGREGATES.contains(&commit.aggregate.as_str()))
        .cloned()
        .collect();
    for size in sizes.iter().cycle() {
        if left.is_empty() {
            break;
        }
        let batch: Vec<_> = left.drain(..left.len().min(*size)).collect();
        if knows == Knows::Restarts {
            fold.reset(parked.clone(), HashSet::new());
        }
        let (mut rest, mut within) = (&batch[..], None);
        let mut steps = 0;
        while !rest.is_empty() {
            steps += 1;
            assert!(steps < MAX_STEPS, "it gets nowhere");
            match fold.apply(rest, within.as_ref()).unwrap() {
                Folded::Needs(needs) => {
                    let found = at_most(fold.rows(), &needs, memory.find(&needs));
                    fold.supply(needs, found).unwrap();
                }
                Folded::Changes(changes, reach) => {
                    assert!(changes.documents.len() <= rows);
                    fold.committed();
                    rest = &rest[reach.commits..];
                    within = reach.within;
                    parked.extend(changes.parked.iter().map(|parked| parked.aggregate.clone()));
                    for change in &changes.documents {
                        let exists = memory.documents.contains_key(&change.id);
                        assert_eq!(change.exists, exists, "{}", change.id);
                        positions.insert(change.id.clone(), change.position);
                    }
                    memory.change(changes);
                    if knows == Knows::Restarts {
                        fold.reset(parked.clone(), HashSet::new());
                    }
                }
            }
        }
    }
    let documents = memory.documents.into_iter();
    let documents = documents.map(|(id, document)| {
        let position = positions[&id];
        (id, (position, document))
    });
    (documents.collect(), parked.into_iter().collect())
}

fn agree<V: View>(log: &[Commit], sizes: (&[usize], usize)) -> Result<(), TestCaseError> {
    let expected = one_by_one::<V>(log);
    for knows in [Knows::Learns, Knows::Emptiness, Knows::Restarts] {
        let found = in_batches::<V>(log, sizes, knows);
        prop_assert_eq!(&found.0, &expected.0, "{} {:?}", V::NAME, knows);
        prop_assert_eq!(&found.1, &expected.1, "{} {:?}", V::NAME, knows);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn batches_of_any_size_come_to_what_one_by_one_comes_to(
        seeds in prop::collection::vec(
            prop::collection::vec(any::<Seed>(), 1..4), 1..80),
        sizes in prop::collection::vec(1_usize..30, 1..5),
        rows in prop_oneof![Just(1_usize), 2..5_usize, Just(1_000)],
    ) {
        let log = log(&seeds);
        let sizes = (&sizes[..], rows);
        agree::<ProductView>(&log, sizes)?;
        agree::<StorefrontView>(&log, sizes)?;
        agree::<OrderView>(&log, sizes)?;
        agree::<SalesView>(&log, sizes)?;
    }
}

/// The last page of the first event changes nothing any more, so that there is room for the second one's.
#[test]
fn two_events_of_one_commit_get_on_that_touch_the_same_many_documents() {
    let placed = [vec![(21, 3, 0, 1)], vec![(21, 0, 0, 1)]];
    let withdrawn_twice = vec![(20, 1, 0, 0), (20, 1, 0, 0)];
    let log = log(&[&placed[..], &[withdrawn_twice]].concat());
    for commits in [1, 3] {
        agree::<OrderView>(&log, (&[commits], 1)).unwrap();
    }
}
