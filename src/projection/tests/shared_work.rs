//! Work that is not done again: decoding for each view, and asking where a route leads for each batch.

use super::{
    WAIT, named,
    world::{Account, AccountEvent, Owner, Statements, World, deposited, open_store, opened},
};
use crate::{
    event_log::reader::Commit,
    projection::{
        fold::{Fold, Folded, ViewFold},
        projector::Projector,
    },
    read_model::exchange::{Changes, Found, Led},
    testkit::Log,
};
use serde_json::Value;
use std::collections::BTreeMap;

#[tokio::test]
async fn a_commit_is_decoded_once_for_all_views_of_a_replica() {
    let world = World::new().await;
    let mut first = world.projector();
    let mut options = world.options();
    options.replica = Some("second".to_owned());
    options.store = open_store("mem://").await;
    let store = options.store.clone();
    let mut second = Projector::new(options, world.status.clone()).unwrap();
    first.ensure_open().await.unwrap();
    second.ensure_open().await.unwrap();
    world
        .commit::<Account>("a", &[opened("o"), deposited(5)])
        .await;
    world.commit::<Owner>("o", &[named("Kim")]).await;
    let last = world.commit::<Account>("a", &[deposited(7)]).await;
    assert_eq!(world.drain(&mut first).await, 3);
    assert_eq!(world.log.decodings(), (3, 0));
    assert_eq!(world.drain(&mut second).await, 3);
    assert_eq!(world.log.decodings(), (3, 3));
    assert_eq!(world.total("a").await, (12, 2));
    let place = store.checkpoint(&world.tables()).await.unwrap();
    assert_eq!(place.position, last);
    // Alone, it leaves nothing to anybody.
    drop(first);
    world.commit::<Account>("a", &[deposited(1)]).await;
    assert_eq!(second.fetch(WAIT).await.unwrap().len(), 1);
    assert_eq!(world.log.decodings(), (4, 3));
}

/// The commits of events, and what a store holds of them.
struct Folding {
    fold: ViewFold<Statements>,
    stored: BTreeMap<String, Value>,
    /// The number of routes that the store was asked for.
    asked: usize,
    position: u64,
}

impl Folding {
    fn new() -> Self {
        Self {
            fold: ViewFold::default(),
            stored: BTreeMap::new(),
            asked: 0,
            position: 0,
        }
    }

    /// Applies the events of a log, each a commit and a batch by itself; returns which documents change.
    fn apply(&mut self, log: &Log) -> Vec<String> {
        let mut changed = Vec::new();
        for event in log.events() {
            self.position += 1;
            let commit = Commit {
                position: self.position,
                mark: crate::event_log::Mark::default(),
                aggregate: event.aggregate.clone(),
                id: event.id.clone(),
                published: jiff::Timestamp::UNIX_EPOCH,
                pending: 0,
                events: Ok([event.clone()].into_iter().collect()),
            };
            let Changes { documents, .. } = self.batch(&[commit]);
            for document in documents {
                changed.push(document.id.clone());
                match document.document {
                    Some(new) => self.stored.insert(document.id, new),
                    None => self.stored.remove(&document.id),
                };
            }
        }
        changed
    }

    fn batch(&mut self, commits: &[Commit]) -> Changes {
        loop {
            let needs = match self.fold.apply(commits, None).unwrap() {
                Folded::Needs(needs) => needs,
                Folded::Changes(changes, _) => {
                    self.fold.committed();
                    return changes;
                }
            };
            self.asked += needs.routes.len();
            let with = |id: &String| Some((id.clone(), self.stored.get(id)?.clone()));
            let routes = needs.routes.iter().map(|route| {
                let leads = |(_, document): &(&String, &Value)| document["owner"] == *route[0].1;
                let led = self.stored.iter().filter(leads);
                let led = led.map(|(id, document)| (id.clone(), document.clone()));
                (route.clone(), Led::To(led.collect()))
            });
            let found = Found {
                documents: needs.documents.iter().filter_map(with).collect(),
                routes: routes.collect(),
                ..Found::default()
            };
            self.fold.supply(needs, found).unwrap();
        }
    }
}

fn account(id: &str, event: AccountEvent) -> Log {
    Log::new().add::<Account>(id, [event])
}

fn owner(name: &str) -> Log {
    Log::new().add::<Owner>("o", [named(name)])
}

#[test]
fn where_a_route_leads_is_asked_once_and_known_from_then_on() {
    let mut folding = Folding::new();
    folding.apply(&account("a", opened("o")));
    assert_eq!(folding.apply(&owner("Kim")), ["a"]);
    assert_eq!(folding.asked, 1);
    // More come to it, one leaves it, and one is removed.
    folding.apply(&account("b", opened("o")));
    folding.apply(&account("c", opened("o")));
    assert_eq!(folding.apply(&owner("Lee")), ["a", "b", "c"]);
    folding.apply(&account("a", opened("another")));
    folding.apply(&account("b", AccountEvent::Closed {}));
    assert_eq!(folding.apply(&owner("Park")), ["c"]);
    assert_eq!(folding.asked, 1);
    assert_eq!(folding.stored["c"]["owner_name"], "Park");
    assert_eq!(folding.stored["a"]["owner"], "another");
}

#[test]
fn a_route_to_what_was_never_written_is_not_asked_for_where_the_store_began_empty() {
    let mut folding = Folding::new();
    folding.fold.begin_empty();
    assert!(folding.apply(&owner("Kim")).is_empty());
    folding.apply(&account("a", opened("o")));
    assert_eq!(folding.asked, 0);
    assert_eq!(folding.apply(&owner("Lee")), ["a"]);
    assert_eq!(folding.apply(&owner("Park")), ["a"]);
    assert_eq!(folding.asked, 1);
}

#[test]
fn what_is_forgotten_of_routes_is_asked_for_again() {
    let mut folding = Folding::new();
    // More of them than are remembered.
    let accounts: Vec<_> = (0..30).map(|number| format!("a{number:02}")).collect();
    for id in &accounts {
        folding.apply(&account(id, opened("o")));
    }
    assert_eq!(folding.apply(&owner("Kim")), accounts);
    assert_eq!(folding.apply(&owner("Lee")), accounts);
    assert_eq!(folding.asked, 2);
}
