//! Who follows documents is told of what is exchanged in place, and is never sent what is older.

use super::{
    WAIT,
    cache::model,
    editions::Reader,
    rebuild::{Doubled, ask, kept},
    world::{Account, AccountEvent, FoldedBy, Statement, World, deposited, open_store, opened},
};
use crate::{
    projection::{RegisteredView, Try, Verb},
    read_model::{
        Delivery, EventId, Freshness, Generation, LiveKind, ReadModel, Subscription, Watermarks,
    },
};
use actix::Arbiter;
use futures::StreamExt;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::timeout;

/// Follows a document alone, and in the list of its owner.
struct Follower {
    model: ReadModel,
    /// Both streams, and where each would go on from.
    streams: [(Subscription, Option<EventId>); 2],
}

impl Follower {
    async fn start(model: &ReadModel) -> Self {
        Self::from(model, [None, None]).await
    }

    async fn from(model: &ReadModel, last: [Option<EventId>; 2]) -> Self {
        let [document, list] = follow(model, last.each_ref().map(Option::as_ref)).await;
        let [from_document, from_list] = last;
        Self {
            model: model.clone(),
            streams: [
                (document.unwrap(), from_document),
                (list.unwrap(), from_list),
            ],
        }
    }

    /// Returns what both streams tell next of the document: its total. A reset on the way is passed over.
    async fn total(&mut self) -> i64 {
        let mut totals = Vec::new();
        for (stream, last) in &mut self.streams {
            let event = loop {
                let next = timeout(3 * WAIT, stream.next());
                let Delivery { event, resumes } = next.await.expect("in time").expect("goes on");
                if resumes {
                    *last = Some(event.from.clone());
                }
                if event.kind != LiveKind::Reset {
                    break event;
                }
            };
            assert_eq!((event.kind, &*event.id), (LiveKind::Put, "a"));
            let body: serde_json::Value = serde_json::from_slice(&event.body).unwrap();
            let document: Statement = serde_json::from_value(body["document"].clone()).unwrap();
            totals.push(document.total);
        }
        assert_eq!(totals[0], totals[1]);
        totals[0]
    }

    /// One that was there until now, and comes again.
    async fn again(self) -> Self {
        Self::from(&self.model, self.last()).await
    }

    fn last(&self) -> [Option<EventId>; 2] {
        self.streams.each_ref().map(|(_, last)| last.clone())
    }
}

async fn follow(
    model: &ReadModel,
    last: [Option<&EventId>; 2],
) -> [Result<Subscription, crate::problem::Problem>; 2] {
    let freshness = Freshness {
        max_wait: Duration::from_millis(50),
        ..Freshness::default()
    };
    let owner = BTreeMap::from([("owner".to_owned(), "o".to_owned())]);
    [
        model
            .follow_document("statement", "a", last[0], &freshness)
            .await,
        model
            .follow_list("statement", &owner, last[1], &freshness)
            .await,
    ]
}

/// A world whose view is read in the same process, too.
async fn world() -> (World, Watermarks) {
    let mut world = World::new().await;
    let watermarks = Watermarks::new(["statement"]);
    world.watermark = watermarks.view("statement").unwrap().clone();
    (world, watermarks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_parked_event_that_is_skipped_reaches_who_follows_here_and_who_hears_nothing_of_it() {
    let (world, watermarks) = world().await;
    let elsewhere = World::new().await;
    let here = model(&world, &watermarks).await;
    let events = [
        opened("o"),
        deposited(1),
        AccountEvent::Refused {},
        deposited(2),
        AccountEvent::Refused {},
        deposited(4),
    ];
    world.commit::<Account>("a", &events).await;
    let mut projector = world.projector();
    world.drain(&mut projector).await;
    let reader = Reader::start(&world, &elsewhere).await;
    let mut followers = [
        Follower::start(&here).await,
        Follower::start(&reader.model).await,
    ];
    let mut gone = [
        Follower::start(&here).await,
        Follower::start(&reader.model).await,
    ];
    for follower in followers.iter_mut().chain(&mut gone) {
        assert_eq!(follower.total().await, 1);
    }
    let account = ("account".to_owned(), "a".to_owned());
    // Twice at the position where the view is.
    for total in [3, 7] {
        projector.retry(&account, Try::WithoutFirst).await.unwrap();
        for follower in &mut followers {
            assert_eq!(follower.total().await, total);
        }
    }
    for follower in gone {
        assert_eq!(follower.again().await.total().await, 7);
    }
    // From then on all is as before.
    world.commit::<Account>("a", &[deposited(1)]).await;
    world.drain(&mut projector).await;
    for follower in &mut followers {
        assert_eq!(follower.total().await, 8);
    }
}

#[actix::test]
async fn a_generation_that_takes_over_or_is_gone_back_to_reaches_who_follows() {
    let (world, watermarks) = world().await;
    let elsewhere = World::new().await;
    let here = model(&world, &watermarks).await;
    let arbiter = Arbiter::new();
    let events = [opened("o"), deposited(5)];
    let last = world.commit::<Account>("a", &events).await;
    let old = kept(world.options(), &arbiter);
    assert!(world.watermark.reached(last, WAIT).await);
    old.stop().await;
    let reader = Reader::start(&world, &elsewhere).await;
    let mut followers = [
        Follower::start(&here).await,
        Follower::start(&reader.model).await,
    ];
    for follower in &mut followers {
        assert_eq!(follower.total().await, 5);
    }
    let gone = Follower::from(&here, followers[0].last()).await;
    let mut options = world.options();
    options.view = RegisteredView::of::<FoldedBy<Doubled>>();
    options.generation = Generation::first(2);
    let new = kept(options, &arbiter);
    for follower in &mut followers {
        assert_eq!(follower.total().await, 10);
    }
    assert_eq!(gone.again().await.total().await, 10);
    for total in [5, 10] {
        ask(&new, Verb::Rollback).await;
        for follower in &mut followers {
            assert_eq!(follower.total().await, total);
        }
    }
    new.stop().await;
    arbiter.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_is_behind_refuses_who_has_seen_more_and_goes_on_once_it_is_not() {
    let (world, watermarks) = world().await;
    world
        .commit::<Account>("a", &[opened("o"), deposited(1)])
        .await;
    // Two replicas with documents of their own.
    let mut projector = world.projector();
    world.drain(&mut projector).await;
    let other_marks = Watermarks::new(["statement"]);
    let mut options = world.options();
    options.store = open_store("mem://").await;
    options.replica = Some("other".to_owned());
    options.watermark = other_marks.view("statement").cloned().unwrap();
    let mut other = World::new().await;
    other.store = options.store.clone();
    let other_model = model(&other, &other_marks).await;
    let mut behind =
        crate::projection::projector::Projector::new(options, other.status.clone()).unwrap();
    world.drain(&mut behind).await;

    let model = model(&world, &watermarks).await;
    let mut follower = Follower::start(&model).await;
    assert_eq!(follower.total().await, 1);
    world.commit::<Account>("a", &[deposited(2)]).await;
    world.drain(&mut projector).await;
    assert_eq!(follower.total().await, 3);
    let last = follower.last();
    for refused in follow(&other_model, last.each_ref().map(Option::as_ref)).await {
        let problem = refused.unwrap_err();
        assert_eq!((problem.status, problem.retry_after), (503, Some(1)));
    }
    world.commit::<Account>("a", &[deposited(4)]).await;
    world.drain(&mut behind).await;
    let mut follower = Follower::from(&other_model, last).await;
    assert_eq!(follower.total().await, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_went_away_just_before_a_client_comes_again_is_told_to_it() {
    let (world, _) = world().await;
    let elsewhere = World::new().await;
    let mut projector = world.projector();
    world
        .commit::<Account>("a", &[opened("o"), deposited(1)])
        .await;
    world.drain(&mut projector).await;
    let reader = Reader::start(&world, &elsewhere).await;
    let mut follower = Follower::start(&reader.model).await;
    assert_eq!(follower.total().await, 1);
    let last = follower.last();
    // In the store, and not told to the replica yet.
    world
        .commit::<Account>("a", &[AccountEvent::Closed {}])
        .await;
    world.drain(&mut projector).await;
    drop(follower);
    let mut follower = Follower::from(&reader.model, last).await;
    for (stream, _) in &mut follower.streams {
        let next = timeout(3 * WAIT, stream.next()).await.expect("in time");
        let kind = next.expect("it goes on").event.kind;
        let told = [LiveKind::Reset, LiveKind::Delete, LiveKind::Leave];
        assert!(told.contains(&kind), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_who_begin_to_follow_a_list_at_once_read_it_a_few_times() {
    let (world, watermarks) = world().await;
    let model = model(&world, &watermarks).await;
    world
        .commit::<Account>("a", &[opened("o"), deposited(1)])
        .await;
    world.drain(&mut world.projector()).await;
    // More than may read lists at once, or wait for their turn.
    let following = (0..1_000).map(|_| async {
        let freshness = Freshness::default();
        let owner = BTreeMap::from([("owner".to_owned(), "o".to_owned())]);
        let list = model.follow_list("statement", &owner, None, &freshness);
        let mut list = list.await.unwrap();
        let first = list.next().await.unwrap();
        assert_eq!((first.event.kind, &*first.event.id), (LiveKind::Put, "a"));
    });
    futures::future::join_all(following).await;
}
