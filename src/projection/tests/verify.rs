//! Views that are folded again and compared: what is the same however the log ends and the view goes on,
//! what differs, and what is left behind.

use super::{
    named,
    rebuild::{ask, kept},
    world::{
        Account, AccountEvent, FoldedBy, OtherFold, Owner, Statement, Statements, World, deposited,
        opened,
    },
};
use crate::{
    projection::{Ask, ReplyBody, Verb, Verified, ViewHandle},
    read_model::{GenerationState, exchange::DocumentChange},
    recorded::Recorded,
    view::{ApplyError, Change, Parts, View},
};
use actix::Arbiter;
use serde_json::{Value, json};
use std::time::Instant;

async fn verified(view: &ViewHandle) -> Verified {
    match ask(view, Verb::Verify).await {
        ReplyBody::Verified(verified) => verified,
        other => panic!("it was not verified: {other:?}"),
    }
}

impl World {
    /// Makes a document something else, as somebody who writes into the store may.
    pub(super) async fn tamper(&self, id: &str, make: impl FnOnce(Option<Value>) -> Option<Value>) {
        let tables = self.tables();
        let row = self.store.get(&tables, id).await.unwrap();
        let (exists, position) = (row.is_some(), row.as_ref().map_or(1, |row| row.position));
        let change = DocumentChange {
            id: id.to_owned(),
            position,
            exists,
            before: None,
            document: make(row.map(|row| row.document)),
        };
        self.store.tamper(&tables, change).await.unwrap();
    }
}

/// The statements as an older program had them, which refused deposits of thirteen.
struct Cautious;

impl OtherFold for Cautious {
    const VERSION: u32 = Statements::VERSION;

    fn apply(
        id: &str,
        document: Option<Statement>,
        event: &Recorded,
        parts: &Parts<String>,
    ) -> Result<Change<Statement>, ApplyError> {
        if event.data.get().contains("13") {
            return Err(ApplyError::refused("thirteen"));
        }
        Statements::apply(id, document, event, parts)
    }
}

#[actix::test]
async fn a_healthy_view_is_verified_whatever_the_log_ends_with() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    for number in 0..20 {
        world
            .commit::<Account>(&format!("a{number}"), &[opened("o"), deposited(1)])
            .await;
    }
    let last = world.commit::<Owner>("o", &[named("n")]).await;
    // Nothing that the view follows.
    for _ in 0..3 {
        world.garbage("evt.other.x").await;
    }
    let view = kept(world.options(), &arbiter);
    world.wait_for(last).await;
    assert_eq!(verified(&view).await.checked, 20);
    ask(&view, Verb::Rebuild).await;
    world
        .until("another one", |all| super::rebuild::live(all) == "v1.1")
        .await;
    let found = verified(&view).await;
    assert_eq!((found.checked, found.different), (20, 0), "{found:?}");
    ask(&view, Verb::Rollback).await;
    world.garbage("evt.other.x").await;
    assert_eq!(verified(&view).await.different, 0);
    assert!(
        !world
            .consumers()
            .await
            .iter()
            .any(|name| name.starts_with("verify")),
        "a consumer has stayed"
    );
    view.stop().await;
    arbiter.stop();
}

#[actix::test]
async fn a_view_that_goes_on_meanwhile_is_verified_without_being_held() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    let view = kept(world.options(), &arbiter);
    let mut last = 0;
    for number in 0..60 {
        let id = format!("a{}", number % 30);
        last = world
            .commit::<Account>(&id, &[opened("o"), deposited(1)])
            .await;
    }
    world.wait_for(last).await;
    let mut rounds = 0;
    let writing = async {
        for number in 0.. {
            let id = format!("a{}", number % 37);
            let event = match number % 11 {
                0 => AccountEvent::Closed {},
                _ => deposited(1),
            };
            world.commit::<Account>(&id, &[event]).await;
            world
                .commit::<Owner>("o", &[named(&format!("n{number}"))])
                .await;
        }
    };
    let verifying = async {
        for _ in 0..8 {
            let found = verified(&view).await;
            assert_eq!(found.different, 0, "{found:?}");
            assert!(found.checked > 0);
            rounds += 1;
        }
    };
    tokio::select! {
        () = writing => {}
        () = verifying => {}
    }
    assert_eq!(rounds, 8);
    view.stop().await;
    arbiter.stop();
}

#[actix::test]
async fn what_is_parked_is_no_difference_even_where_this_program_understands_it() {
    let world = World::new().await;
    let mut before = crate::projection::projector::Projector::new(
        world.options_of::<FoldedBy<Cautious>>(),
        world.status.clone(),
    )
    .unwrap();
    world
        .commit::<Account>("a", &[opened("o"), deposited(5)])
        .await;
    world
        .commit::<Account>("a", &[deposited(2), deposited(13), deposited(3)])
        .await;
    world
        .commit::<Account>("b", &[opened("o"), deposited(7)])
        .await;
    let last = world.commit::<Account>("a", &[deposited(4)]).await;
    world.drain(&mut before).await;
    drop(before);
    let arbiter = Arbiter::new();
    let view = kept(world.options(), &arbiter);
    world.wait_for(last).await;
    world
        .until("a first one", |all| super::rebuild::live(all) == "v1")
        .await;
    let found = verified(&view).await;
    assert_eq!(
        (found.checked, found.different, found.parked),
        (2, 0, 1),
        "{found:?}"
    );
    // What somebody does to its document shows all the same.
    world
        .tamper("a", |document| {
            document.map(|mut it| {
                it["total"] = json!(9);
                it
            })
        })
        .await;
    assert_eq!(verified(&view).await.different, 1);
    view.stop().await;
    arbiter.stop();
}

#[actix::test]
async fn a_store_that_lost_or_gained_many_documents_is_told_in_full() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    let mut last = 0;
    for number in 0..90 {
        let id = format!("a{number}");
        last = world
            .commit::<Account>(&id, &[opened("o"), deposited(1)])
            .await;
    }
    let view = kept(world.options(), &arbiter);
    world.wait_for(last).await;
    for number in 0..70 {
        world.tamper(&format!("a{number}"), |_| None).await;
    }
    for number in 0..30 {
        world
            .tamper(&format!("b{number}"), |_| Some(json!({"total": 1})))
            .await;
    }
    let found = verified(&view).await;
    assert_eq!((found.checked, found.different), (120, 100), "{found:?}");
    let gained = found.differences.iter().filter(|it| it.folded.is_none());
    assert_eq!(gained.count(), 30);
    view.stop().await;
    arbiter.stop();
}

#[actix::test]
async fn two_who_ask_at_once_are_served_one_after_the_other() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    let last = world
        .commit::<Account>("a", &[opened("o"), deposited(1)])
        .await;
    let view = kept(world.options(), &arbiter);
    world.wait_for(last).await;
    let started = Instant::now();
    let (one, other) = tokio::join!(verified(&view), verified(&view));
    assert_eq!((one.checked, other.checked), (1, 1));
    assert!(started.elapsed() < 6 * super::WAIT);
    view.stop().await;
    arbiter.stop();
}

#[actix::test]
async fn dropping_without_a_name_leaves_what_is_being_filled() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    let view = kept(world.options(), &arbiter);
    let last = world
        .commit::<Account>("a", &[opened("o"), deposited(1)])
        .await;
    world.wait_for(last).await;
    let first = world
        .until("a first one", |all| super::rebuild::live(all) == "v1")
        .await;
    // It cannot take over meanwhile.
    let live = first.find(GenerationState::Live).unwrap();
    let held = view.shared().hold(live).await;
    let ReplyBody::Filling { generation } = ask(&view, Verb::Rebuild).await else {
        panic!("it is not said which one is filled");
    };
    let drop_one = |ask: Ask| async { view.shared().work(Verb::Drop, ask, &|_, _| {}).await };
    assert!(drop_one(Ask::default()).await.is_err());
    let building = world.generations().await.find(GenerationState::Building);
    assert_eq!(building, Some(generation));
    let named = Ask {
        generation: Some(generation),
        ..Ask::default()
    };
    drop_one(named).await.unwrap();
    world
        .until("it is gone", |all| {
            all.all.iter().all(|(one, _)| *one != generation)
        })
        .await;
    drop(held);
    view.stop().await;
    arbiter.stop();
}

/// The statements, counted by their owners.
struct ByOwner;

impl OtherFold for ByOwner {
    const VERSION: u32 = Statements::VERSION;

    fn counted() -> Vec<Vec<&'static str>> {
        vec![vec!["owner"]]
    }

    fn apply(
        id: &str,
        document: Option<Statement>,
        event: &Recorded,
        parts: &Parts<String>,
    ) -> Result<Change<Statement>, ApplyError> {
        Statements::apply(id, document, event, parts)
    }
}

#[actix::test]
async fn counts_that_differ_are_told_and_right_again_after_a_rebuild() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    world.commit::<Account>("a", &[opened("o")]).await;
    world.commit::<Account>("b", &[opened("o")]).await;
    let last = world.commit::<Account>("c", &[opened("p")]).await;
    let view = kept(world.options_of::<FoldedBy<ByOwner>>(), &arbiter);
    world.wait_for(last).await;
    let counts = verified(&view).await.counts;
    assert_eq!((counts.checked, counts.different), (2, 0));
    let more = format!("UPDATE {} SET n += 1;", world.tables().counts);
    world.store.by_hand(&more).await.unwrap();
    let found = verified(&view).await;
    let told = found.counts.differences.iter();
    let told = told.map(|one| (&one.values[..], one.stored, one.documents));
    let expected = [(&[json!("o")][..], 3, 2), (&[json!("p")][..], 2, 1)];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_eq!((found.checked, found.different), (3, 0));
    ask(&view, Verb::Rebuild).await;
    world
        .until("another one", |all| {
            let live = all.find(GenerationState::Live);
            live.is_some_and(|live| live.number == 1)
        })
        .await;
    let counts = verified(&view).await.counts;
    assert_eq!((counts.checked, counts.different), (2, 0));
    view.stop().await;
    arbiter.stop();
}
