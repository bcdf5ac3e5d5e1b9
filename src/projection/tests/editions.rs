//! Readers of other processes know which documents they have been told of: by the edition, and not by the
//! position or by how often the view's generations have changed.

use super::{
    WAIT,
    cache::{at_least, deposits, model},
    rebuild::{ask, kept, live},
    world::{Account, AccountEvent, World, deposited},
};
use crate::{
    projection::{Try, Verb},
    read_model::{Freshness, Generation, GenerationState, ReadModel, Watermarks},
};
use actix::Arbiter;
use std::time::{Duration, Instant};

/// A reader in another process that shares the store.
pub(super) struct Reader {
    pub(super) model: ReadModel,
    watermarks: Watermarks,
    following: tokio::task::JoinHandle<()>,
}

impl Reader {
    /// It hears what is announced on this server.
    pub(super) async fn start(world: &World, heard: &World) -> Self {
        let watermarks = Watermarks::new(["statement"]);
        let model = model(world, &watermarks).await;
        let following = model.follow(heard.log.client()).await.unwrap();
        Self {
            model,
            watermarks,
            following: tokio::spawn(following),
        }
    }

    pub(super) async fn until(&self, what: &str, mut is_so: impl AsyncFnMut(&Self) -> bool) {
        let started = Instant::now();
        while !is_so(self).await {
            assert!(started.elapsed() < WAIT, "{what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn generations(&self) -> u64 {
        let watermark = self.watermarks.view("statement").unwrap();
        watermark.serving().seen().generations
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.following.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_are_heard_of_while_another_generation_is_filled_and_after_it_is_dropped() {
    let world = World::new().await;
    let mut projector = world.projector();
    world.commit::<Account>("kept", &[deposited(1)]).await;
    world.drain(&mut projector).await;
    let reader = Reader::start(&world, &world).await;
    let first = Generation::first(1);
    let joined = world.store.generations("statement").await.unwrap();
    let building = joined.rebuild(1).unwrap();
    let second = building.find(GenerationState::Building).unwrap();
    let dropped = building.without(second).unwrap();
    let forgotten = dropped.forgotten(second);
    for (what, generations) in [
        ("one is filled", building),
        ("it is dropped", dropped),
        ("it is gone", forgotten),
    ] {
        let store = &world.store;
        let changing = store.change_generations("statement", &generations);
        changing.await.unwrap();
        assert_eq!(generations.find(GenerationState::Live), Some(first));
        let known = async |reader: &Reader| reader.generations() == generations.revision;
        reader.until("the record is known", known).await;
        // A change of one document leaves the copies of others as they are, unless the reader happens
        // to look at the store between the transaction and its announcement.
        let mut kept = false;
        for _ in 0..10 {
            let freshness = Freshness::default();
            deposits(&reader.model, "kept", &freshness).await;
            let position = world.commit::<Account>("a", &[deposited(1)]).await;
            world.drain(&mut projector).await;
            deposits(&reader.model, "a", &at_least(position)).await;
            let remembered = reader.model.remembered("statement", "kept", &freshness);
            kept |= remembered.is_some();
        }
        assert!(kept, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_document_that_is_exchanged_where_the_view_is_reaches_who_hears_nothing_of_it() {
    let (world, elsewhere) = (World::new().await, World::new().await);
    let events = [deposited(1), AccountEvent::Refused {}, deposited(2)];
    world.commit::<Account>("a", &events).await;
    let mut projector = world.projector();
    world.drain(&mut projector).await;
    let reader = Reader::start(&world, &elsewhere).await;
    let document = async |reader: &Reader| {
        let freshness = Freshness::default();
        let answer = reader.model.document("statement", "a", &freshness);
        let answer = answer.await.unwrap();
        (answer.applied, answer.value.version, answer.value.tag)
    };
    let before = document(&reader).await;
    let account = ("account".to_owned(), "a".to_owned());
    projector.retry(&account, Try::WithoutFirst).await.unwrap();
    let other = async |reader: &Reader| document(reader).await != before;
    reader.until("the document is another", other).await;
    let after = document(&reader).await;
    assert_eq!((after.0, after.1), (before.0, before.1));
    assert_ne!(after.2, before.2);
}

#[actix::test]
async fn a_view_that_has_applied_everything_is_not_behind_after_another_generation_took_over() {
    let (world, arbiter) = (World::new().await, Arbiter::new());
    let view = kept(world.options(), &arbiter);
    world.until("a first one", |all| live(all) == "v1").await;
    let position = world.commit::<Account>("a", &[deposited(1)]).await;
    world.wait_for(position).await;
    ask(&view, Verb::Rebuild).await;
    // As when a commit was pending at the turn, after which nothing comes any more.
    world.until("another", |all| live(all) == "v1.1").await;
    world.watermark.fall_behind(Some(jiff::Timestamp::now()));
    let started = Instant::now();
    while world.progress().behind_since.is_some() {
        assert!(started.elapsed() < WAIT, "{:?}", world.progress());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    view.stop().await;
    arbiter.stop();
}
