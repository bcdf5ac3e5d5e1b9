//! Projectors against a real log and a real store.

mod bounded;
mod cache;
mod chaos;
mod drift;
mod editions;
mod lists;
mod live;
mod offered;
mod other_log;
mod parked;
mod parked_many;
mod property;
mod queries;
mod rebuild;
mod shared_work;
mod take_over;
mod unchanged;
mod upgrade;
mod verify;
mod world;

use super::{
    fold::{Fold, Folded},
    *,
};
use crate::{
    event_log::reader::{Reader, ReaderOptions},
    read_model::exchange::Found,
};
use actix::prelude::*;
use futures::StreamExt;
use std::time::Duration;
use world::{Account, AccountEvent, Owner, OwnerEvent, World, deposited, opened};

const WAIT: Duration = Duration::from_secs(10);

fn named(name: &str) -> OwnerEvent {
    OwnerEvent::Named {
        name: name.to_owned(),
    }
}

#[tokio::test]
async fn every_commit_is_applied_once_and_announced() {
    let world = World::new().await;
    let mut announced = world
        .log
        .client()
        .subscribe("applied.statement")
        .await
        .unwrap();
    world
        .commit::<Account>("a", &[opened("o"), deposited(5)])
        .await;
    world.commit::<Account>("b", &[deposited(1)]).await;
    let last = world.commit::<Account>("a", &[deposited(7)]).await;
    let mut projector = world.projector();
    assert_eq!(world.drain(&mut projector).await, 3);
    assert_eq!(world.total("a").await, (12, 2));
    assert_eq!(world.total("b").await, (1, 1));
    assert_eq!(world.progress().position, last);
    assert_eq!(world.progress().behind_since, None);
    let status = world.status.borrow().clone();
    assert_eq!(
        (status.applied, status.lag_commits, status.ready),
        (last, 0, true)
    );
    let message = announced.next().await.unwrap();
    let applied: crate::read_model::Applied = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!((applied.previous, applied.position), (0, last));
    assert_eq!(applied.store, world.store.id());
    assert_eq!(applied.ids, ["a", "b"]);
}

#[tokio::test]
async fn a_projector_killed_at_any_point_of_a_step_applies_nothing_twice_or_never() {
    let world = World::new().await;
    let mut expected = 0;
    for stage in 0..5 {
        for amount in 1..=3 {
            expected += amount;
            world.commit::<Account>("a", &[deposited(amount)]).await;
        }
        let mut killed = world.projector();
        let batch = killed.fetch(WAIT).await.unwrap();
        assert!(!batch.is_empty());
        if stage > 0 {
            let written = killed.apply(&batch).await.unwrap();
            if stage > 1 {
                killed.acknowledge(&written).await.unwrap();
            }
            if stage > 2 {
                killed.announce(&written).await.unwrap();
            }
        }
        drop(killed);
        let mut next = world.projector();
        world.drain(&mut next).await;
        assert_eq!(
            world.total("a").await,
            (expected, (stage + 1) * 3),
            "killed at {stage}"
        );
    }
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_not_repeated() {
    let world = World::new().await;
    world.commit::<Account>("a", &[deposited(5)]).await;
    let mut projector = world.projector();
    let batch = projector.fetch(WAIT).await.unwrap();
    projector.apply(&batch).await.unwrap();
    // As if the answer had not come: it begins again at what it believes to be stored.
    projector.close();
    assert_eq!(world.drain(&mut projector).await, 0);
    assert_eq!(world.total("a").await, (5, 1));
}

#[tokio::test]
async fn a_second_projector_of_a_view_is_refused_by_the_fence() {
    let world = World::new().await;
    world.commit::<Account>("a", &[deposited(5)]).await;
    let mut first = world.projector();
    // With a consumer of its own, so that nothing but the fence is between them.
    let mut options = world.options();
    options.replica = Some("second".to_owned());
    let mut second = projector::Projector::new(options, world.status.clone()).unwrap();
    let batch = first.fetch(WAIT).await.unwrap();
    let same = second.fetch(WAIT).await.unwrap();
    first.apply(&batch).await.unwrap();
    let refused = second.apply(&same).await.err().unwrap();
    assert!(refused.is_fenced(), "{refused}");
    assert!(!second.wrote_last().await);
    assert!(first.wrote_last().await);
    assert_eq!(world.total("a").await, (5, 1));
    // It begins again where the first has come to.
    second.close();
    world.commit::<Account>("a", &[deposited(1)]).await;
    world.drain(&mut second).await;
    assert_eq!(world.total("a").await, (6, 2));
}

fn accounts() -> ReaderOptions {
    ReaderOptions {
        stream: "EVENTS".to_owned(),
        name: "test".to_owned(),
        aggregates: vec!["account".to_owned()],
        prefetch: ReaderOptions::PREFETCH,
        inactive: ReaderOptions::LASTING,
    }
}

#[tokio::test]
async fn a_reader_that_is_disturbed_says_so_instead_of_leaving_commits_out() {
    let world = World::new().await;
    for amount in 0..10 {
        world.commit::<Account>("a", &[deposited(amount)]).await;
    }
    let options = accounts();
    let mut first = Reader::open(&world.log, &options, 0).await.unwrap();
    let batch = first.next_batch(100, WAIT).await.unwrap();
    assert_eq!(batch.len(), 10);
    // Another takes the consumer over. What is delivered then comes to the one or to the other.
    let mut second = Reader::open(&world.log, &options, 4).await.unwrap();
    let disturbed = first.next_batch(100, WAIT).await.err().unwrap();
    assert!(disturbed.is_retryable(), "{disturbed}");
    drop(first);
    let last = world.commit::<Account>("a", &[deposited(1)]).await;
    let (mut position, started) = (4, std::time::Instant::now());
    while position < last {
        assert!(started.elapsed() < WAIT, "still at {position}");
        match second.next_batch(100, Duration::from_millis(300)).await {
            Ok(batch) => {
                for commit in batch {
                    assert_eq!(commit.position, position + 1);
                    position = commit.position;
                }
            }
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                drop(second);
                second = Reader::open(&world.log, &options, position).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_consumer_that_nobody_reads_any_more_goes_by_itself_and_an_old_one_is_brought_to_that() {
    let world = World::new().await;
    let for_ever = ReaderOptions {
        inactive: Duration::ZERO,
        ..accounts()
    };
    drop(Reader::open(&world.log, &for_ever, 0).await.unwrap());
    assert_eq!(left_alone(&world, "test").await, None);
    let reader = Reader::open(&world.log, &accounts(), 0).await.unwrap();
    let after = left_alone(&world, "test").await;
    assert_eq!(after, Some(ReaderOptions::LASTING));
    drop(reader);
    let soon = ReaderOptions {
        name: "soon".to_owned(),
        inactive: Duration::from_millis(200),
        ..accounts()
    };
    drop(Reader::open(&world.log, &soon, 0).await.unwrap());
    let started = std::time::Instant::now();
    while world.consumers().await.contains(&"soon".to_owned()) {
        assert!(started.elapsed() < 6 * WAIT, "it stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Whoever comes back makes it anew, at what they know.
    let position = world.commit::<Account>("a", &[deposited(1)]).await;
    let mut reader = Reader::open(&world.log, &soon, position - 1).await.unwrap();
    let batch = reader.next_batch(10, WAIT).await.unwrap();
    assert_eq!(batch[0].position, position);
}

async fn left_alone(world: &World, name: &str) -> Option<Duration> {
    let mut all = world.log.consumers().await.unwrap().into_iter();
    all.find(|consumer| consumer.name == name)?.inactive
}

#[tokio::test]
async fn a_reader_asks_for_no_more_bytes_than_it_has_room_for() {
    let world = World::new().await;
    let asked = "$JS.API.CONSUMER.MSG.NEXT.EVENTS.test";
    let mut asked = world.log.client().subscribe(asked).await.unwrap();
    // Some 48 MB.
    for number in 0..60 {
        let id = format!("a-{number}");
        world
            .commit::<Account>(&id, &[opened(&"x".repeat(800_000))])
            .await;
    }
    let mut reader = Reader::open(&world.log, &accounts(), 0).await.unwrap();
    let batch = reader.next_batch(1, WAIT).await.unwrap();
    assert_eq!(batch.len(), 1);
    let request = asked.next().await.unwrap();
    let request: serde_json::Value = serde_json::from_slice(&request.payload).unwrap();
    assert_eq!(request["max_bytes"], 4 << 20);
    let consumer = || async {
        let info = world.log.consumer_info("test").await.unwrap();
        (info.num_ack_pending, info.num_waiting)
    };
    // Nobody reads on, so the server ends what it was asked for, and sends no more.
    let started = std::time::Instant::now();
    let mut sent = consumer().await;
    while sent.1 > 0 {
        assert!(started.elapsed() < 3 * WAIT, "{sent:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        sent = consumer().await;
    }
    assert!(sent.0 <= 11, "{} of 800 KB", sent.0);
    // All of it comes to who reads.
    let mut read = 1;
    while read < 60 {
        let batch = reader.next_batch(100, WAIT).await.unwrap();
        assert!(batch.len() <= 6);
        read += batch.len();
        reader.ack(batch.last().unwrap().position).await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_that_hangs_keeps_nothing_from_the_next_one() {
    let world = World::new().await;
    let options = accounts();
    // It has asked for whatever comes, and takes nothing of it.
    let hangs = Reader::open(&world.log, &options, 0).await.unwrap();
    let mut next = Reader::open(&world.log, &options, 0).await.unwrap();
    let position = world.commit::<Account>("a", &[deposited(1)]).await;
    let batch = next.next_batch(100, WAIT).await.unwrap();
    assert_eq!(batch[0].position, position);
    drop(hangs);
}

#[tokio::test]
async fn a_commit_that_is_delivered_again_is_handed_out_once() {
    let world = World::new().await;
    let options = accounts();
    let mut reader = Reader::open(&world.log, &options, 0).await.unwrap();
    for amount in 0..3 {
        world.commit::<Account>("a", &[deposited(amount)]).await;
    }
    let mut positions = Vec::new();
    while positions.len() < 3 {
        let batch = reader.next_batch(100, WAIT).await.unwrap();
        positions.extend(batch.iter().map(|commit| commit.position));
    }
    reader.refuse_oldest().await;
    world.commit::<Account>("a", &[deposited(3)]).await;
    let batch = reader.next_batch(100, WAIT).await.unwrap();
    positions.extend(batch.iter().map(|commit| commit.position));
    assert_eq!(positions, [1, 2, 3, 4]);
    let nothing = reader
        .next_batch(100, Duration::from_millis(300))
        .await
        .unwrap();
    assert!(nothing.is_empty());
    // Both deliveries count in the consumer's numbering: neither is taken for a gap.
    let last = world.commit::<Account>("a", &[deposited(4)]).await;
    assert_eq!(
        reader.next_batch(100, WAIT).await.unwrap()[0].position,
        last
    );
}

#[tokio::test]
async fn what_comes_while_something_else_is_done_is_handed_out_next_in_order() {
    let world = World::new().await;
    let options = accounts();
    let mut reader = Reader::open(&world.log, &options, 0).await.unwrap();
    let mut positions = Vec::new();
    for _ in 0..3 {
        let work = async {
            for amount in 0..4 {
                world.commit::<Account>("a", &[deposited(amount)]).await;
            }
            "done"
        };
        assert_eq!(reader.ahead(3, work).await, "done");
        let batch = reader.next_batch(3, WAIT).await.unwrap();
        assert!((1..=3).contains(&batch.len()), "{}", batch.len());
        positions.extend(batch.iter().map(|commit| commit.position));
    }
    while positions.len() < 12 {
        let batch = reader.next_batch(3, WAIT).await.unwrap();
        positions.extend(batch.iter().map(|commit| commit.position));
    }
    assert_eq!(positions, Vec::from_iter(1..=12));
}

#[tokio::test]
async fn a_reader_refuses_a_log_that_ends_before_what_was_read() {
    let world = World::new().await;
    let options = accounts();
    let error = Reader::open(&world.log, &options, 7).await.err().unwrap();
    assert!(!error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_poisoned_aggregate_is_parked_and_the_others_go_on() {
    let world = World::new().await;
    for poison in ["refused", "exploded", "garbage"] {
        world.commit::<Account>(poison, &[deposited(1)]).await;
    }
    world
        .commit::<Account>(
            "refused",
            &[deposited(2), AccountEvent::Refused {}, deposited(4)],
        )
        .await;
    world
        .commit::<Account>("exploded", &[AccountEvent::Exploded {}])
        .await;
    world.garbage("evt.account.garbage").await;
    world.commit::<Account>("refused", &[deposited(8)]).await;
    world.commit::<Account>("well", &[deposited(16)]).await;
    let mut projector = world.projector();
    assert_eq!(world.drain(&mut projector).await, 8);
    assert_eq!(world.total("well").await, (16, 1));
    // What came before the poison counts, in the same commit too; what came after does not.
    assert_eq!(world.total("refused").await, (3, 2));
    assert_eq!(world.total("exploded").await, (1, 1));
    assert_eq!(world.total("garbage").await, (1, 1));
    assert_eq!(world.status.borrow().parked, 3);
    // It stays parked for a projector that comes later.
    drop(projector);
    world.commit::<Account>("exploded", &[deposited(32)]).await;
    let last = world.commit::<Account>("well", &[deposited(32)]).await;
    let mut next = world.projector();
    assert_eq!(world.drain(&mut next).await, 2);
    assert_eq!(world.total("exploded").await, (1, 1));
    assert_eq!(world.total("well").await, (48, 2));
    assert_eq!(world.status.borrow().parked, 3);
    assert_eq!(world.progress().position, last);
    let parked = world.store.parked_commits(&world.tables()).await.unwrap();
    let parked: Vec<_> = parked
        .iter()
        .map(|p| (p.aggregate.1.as_str(), p.position, p.from_event))
        .collect();
    assert_eq!(
        parked,
        [
            ("exploded", 5, 0),
            ("exploded", 9, 0),
            ("garbage", 6, 0),
            ("refused", 4, 1),
            ("refused", 7, 0),
        ]
    );
}

#[tokio::test]
async fn a_route_by_field_finds_stored_documents_and_those_of_the_same_batch() {
    let world = World::new().await;
    let mut projector = world.projector();
    world.commit::<Account>("stored", &[opened("o")]).await;
    world.commit::<Account>("moved", &[opened("o")]).await;
    world.commit::<Account>("gone", &[opened("o")]).await;
    world.drain(&mut projector).await;
    // All in one batch, with nothing kept from the one before.
    projector.close();
    world.commit::<Account>("new", &[opened("o")]).await;
    world.commit::<Account>("moved", &[opened("p")]).await;
    world
        .commit::<Account>("gone", &[AccountEvent::Closed {}])
        .await;
    world.commit::<Account>("other", &[opened("p")]).await;
    world.commit::<Owner>("o", &[named("사과")]).await;
    let last = world.commit::<Account>("new", &[deposited(3)]).await;
    assert_eq!(world.drain(&mut projector).await, 6);
    let name = async |id| world.document(id).await.map(|d| d.owner_name);
    assert_eq!(name("stored").await, Some(Some("사과".to_owned())));
    assert_eq!(name("new").await, Some(Some("사과".to_owned())));
    assert_eq!(name("moved").await, Some(None));
    assert_eq!(name("other").await, Some(None));
    assert_eq!(name("gone").await, None);
    let row = world
        .store
        .get(&world.tables(), "new")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.position, last);
}

#[tokio::test]
async fn a_part_is_there_in_whatever_order_its_source_comes() {
    let world = World::new().await;
    let mut projector = world.projector();
    world.commit::<Owner>("early", &[named("Early")]).await;
    world.drain(&mut projector).await;
    // The part must be read from the store: nothing is kept in memory.
    projector.close();
    world.commit::<Account>("a", &[opened("early")]).await;
    world.commit::<Account>("b", &[opened("late")]).await;
    world.drain(&mut projector).await;
    projector.close();
    world.commit::<Owner>("late", &[named("Late")]).await;
    world.commit::<Owner>("early", &[named("Renamed")]).await;
    world.drain(&mut projector).await;
    let name = async |id| world.document(id).await.unwrap().owner_name.unwrap();
    assert_eq!(name("a").await, "Renamed");
    assert_eq!(name("b").await, "Late");
}

#[tokio::test]
async fn batches_of_any_size_come_to_the_same_documents() {
    let world = World::new().await;
    for number in 0..60_i64 {
        let id = format!("a{}", number % 7);
        world
            .commit::<Account>(
                &id,
                &[deposited(number), opened(&format!("o{}", number % 3))],
            )
            .await;
        if number % 5 == 0 {
            let owner = format!("o{}", number % 3);
            world
                .commit::<Owner>(&owner, &[named(&format!("n{number}"))])
                .await;
        }
        if number % 11 == 0 {
            world
                .commit::<Account>(&id, &[AccountEvent::Closed {}])
                .await;
        }
    }
    let mut results = Vec::new();
    for batch in [1, 7, 1_000] {
        let mut options = world.options();
        options.store = world::open_store("mem://").await;
        options.batch = batch;
        let mut projector =
            projector::Projector::new(options.clone(), world.status.clone()).unwrap();
        world.drain(&mut projector).await;
        let mut documents = Vec::new();
        for number in 0..7 {
            let row = options
                .store
                .get(&world.tables(), &format!("a{number}"))
                .await
                .unwrap();
            documents.push(row.map(|row| (row.position, row.document)));
        }
        results.push(documents);
    }
    assert!(results[0].iter().flatten().count() > 3);
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}

#[tokio::test]
async fn a_store_on_disk_goes_on_from_its_checkpoint() {
    let mut world = World::new().await;
    let url = world.store_url();
    world.store = world::open_store(&url).await;
    world.commit::<Account>("a", &[deposited(5)]).await;
    let mut projector = world.projector();
    assert_eq!(world.drain(&mut projector).await, 1);
    let identity = world.store.id();
    drop(projector);
    world.store = world::open_store("mem://").await;
    world.store = world::reopen_store(&url).await;
    assert_eq!(world.store.id(), identity);
    world.commit::<Account>("a", &[deposited(6)]).await;
    let mut projector = world.projector();
    assert_eq!(world.drain(&mut projector).await, 1);
    assert_eq!(world.total("a").await, (11, 2));
}

#[actix::test]
async fn a_running_projector_follows_the_log_and_stops_when_told() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    let handle = ProjectorHandle::start(world.options(), &arbiter.handle()).unwrap();
    let mut status = handle.watch();
    tokio::time::timeout(WAIT, status.wait_for(|status| status.ready))
        .await
        .unwrap()
        .unwrap();
    let position = world.commit::<Account>("a", &[deposited(5)]).await;
    assert!(world.watermark.reached(position, WAIT).await);
    assert_eq!(world.total("a").await, (5, 1));
    tokio::time::timeout(WAIT, handle.stop()).await.unwrap();
    assert_eq!(handle.status().state, ProjectorState::Stopped);
    arbiter.stop();
}

#[actix::test]
async fn of_two_running_projectors_of_a_view_one_steps_down() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    let other = ProjectorOptions {
        replica: Some("other".to_owned()),
        ..world.options()
    };
    let handles =
        [world.options(), other].map(|o| ProjectorHandle::start(o, &arbiter.handle()).unwrap());
    let (mut sum, started) = (0_i64, std::time::Instant::now());
    let stepped_down = |handle: &ProjectorHandle| {
        let status = handle.status();
        status.state == ProjectorState::SteppedDown && status.stalled.is_some()
    };
    let mut last = 0;
    while !handles.iter().any(stepped_down) {
        assert!(started.elapsed() < 3 * WAIT);
        sum += 1;
        last = world.commit::<Account>("a", &[deposited(1)]).await;
    }
    assert!(world.watermark.reached(last, 3 * WAIT).await);
    assert_eq!(world.total("a").await, (sum, sum.unsigned_abs()));
    for handle in handles {
        handle.stop().await;
    }
    arbiter.stop();
}

#[actix::test]
async fn a_running_projector_goes_on_when_the_log_was_away() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    let handle = ProjectorHandle::start(world.options(), &arbiter.handle()).unwrap();
    let position = world.commit::<Account>("a", &[deposited(5)]).await;
    assert!(world.watermark.reached(position, WAIT).await);
    world.kill_nats().await;
    let mut last = 0;
    for amount in 1..=20 {
        last = world.commit::<Account>("a", &[deposited(amount)]).await;
    }
    assert!(
        world.watermark.reached(last, 3 * WAIT).await,
        "{:?}",
        handle.status()
    );
    assert_eq!(world.total("a").await, (215, 21));
    handle.stop().await;
    arbiter.stop();
}

#[test]
fn an_error_that_follows_from_something_missing_parks_nobody() {
    struct Strict;
    impl crate::view::View for Strict {
        const NAME: &'static str = "strict";
        const VERSION: u32 = 1;
        const AGGREGATES: &'static [&'static str] = &["account"];
        type Document = world::Statement;
        type Part = String;
        fn query() -> crate::view::Query {
            crate::view::Query::default()
        }
        fn route(
            event: &crate::recorded::Recorded,
            parts: &crate::view::Parts<String>,
        ) -> Result<crate::view::Route, crate::view::ApplyError> {
            match parts.get("owner", "o") {
                Some(id) => Ok(crate::view::Route::id(id.as_str())),
                None => Err(crate::view::ApplyError::refused(format!(
                    "no owner of {}",
                    event.id
                ))),
            }
        }
        fn apply(
            _: &str,
            _: Option<world::Statement>,
            _: &crate::recorded::Recorded,
            _: &crate::view::Parts<String>,
        ) -> Result<crate::view::Change<world::Statement>, crate::view::ApplyError> {
            Ok(crate::view::Change::Put(world::Statement {
                owner: None,
                owner_name: None,
                total: 1,
                deposits: 1,
            }))
        }
    }
    let mut fold = fold::ViewFold::<Strict>::default();
    let batch = [crate::event_log::reader::Commit {
        position: 1,
        mark: crate::event_log::Mark::default(),
        aggregate: "account".to_owned(),
        id: "a".to_owned(),
        published: jiff::Timestamp::UNIX_EPOCH,
        pending: 0,
        events: Ok([crate::recorded::Recorded {
            aggregate: "account".to_owned(),
            id: "a".to_owned(),
            event_type: "account.deposited.v1".to_owned(),
            version: 1,
            position: 1,
            time: jiff::Timestamp::UNIX_EPOCH,
            command_id: String::new(),
            correlation_id: String::new(),
            causation_id: String::new(),
            caller_id: None,
            data: serde_json::value::RawValue::from_string("{}".to_owned())
                .unwrap()
                .into(),
        }]
        .into_iter()
        .collect()),
    }];
    loop {
        match fold.apply(&batch, None).unwrap() {
            Folded::Needs(needs) => {
                let found = Found {
                    parts: needs
                        .parts
                        .contains(&("owner".to_owned(), "o".to_owned()))
                        .then(|| (("owner".to_owned(), "o".to_owned()), "\"d\"".to_owned()))
                        .into_iter()
                        .collect(),
                    ..Found::default()
                };
                fold.supply(needs, found).unwrap();
            }
            Folded::Changes(changes, _) => {
                assert!(changes.parked.is_empty(), "{:?}", changes.parked);
                assert_eq!(changes.documents.len(), 1);
                return;
            }
        }
    }
}
