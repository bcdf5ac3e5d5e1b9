//! Documents kept in memory are never older than what a reader asked for, whichever announcements
//! arrive.

use super::world::{Account, AccountEvent, Statement, Statements, World, deposited, opened};
use crate::{
    projection::RegisteredView,
    read_model::{
        Applied, DEFAULT_CACHE, DEFAULT_LIST_CACHE, Freshness, ReadModel, ReadModelOptions,
        Watermarks,
    },
};
use futures::{StreamExt, future::join_all};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const WRITERS: usize = 6;
const ROUNDS: u64 = 40;
const READERS: usize = 8;

pub(super) async fn model(world: &World, watermarks: &Watermarks) -> ReadModel {
    ReadModel::open(ReadModelOptions {
        store: world.store.clone(),
        views: vec![RegisteredView::of::<Statements>().description().clone()],
        aggregates: vec!["account", "owner"],
        watermarks: watermarks.clone(),
        cache: DEFAULT_CACHE,
        list_cache: DEFAULT_LIST_CACHE,
        prepares: true,
    })
    .await
    .unwrap()
}

/// Two readers of the same store: one hears every announcement, the other two of three.
pub(super) async fn lossy(world: &World) -> ([ReadModel; 2], JoinHandle<()>) {
    let (all, some) = (
        Watermarks::new(["statement"]),
        Watermarks::new(["statement"]),
    );
    let models = [model(world, &all).await, model(world, &some).await];
    let announced = world.log.client().subscribe("applied.statement").await;
    let mut announced = announced.unwrap();
    let relay = tokio::spawn(async move {
        let mut count = 0_u64;
        while let Some(message) = announced.next().await {
            let applied: Applied = serde_json::from_slice(&message.payload).unwrap();
            all.note(&applied);
            count += 1;
            if !crate::stable_hash::mixed(count).is_multiple_of(3) {
                some.note(&applied);
            }
        }
    });
    (models, relay)
}

pub(super) fn at_least(position: u64) -> Freshness {
    Freshness {
        min_positions: vec![("account".to_owned(), position)],
        max_wait: Duration::from_secs(30),
        ..Freshness::default()
    }
}

/// Reads a statement; returns the number of its deposits.
pub(super) async fn deposits(model: &ReadModel, id: &str, freshness: &Freshness) -> u64 {
    let answer = model.get("statement", id, freshness).await.unwrap();
    let statement: Statement = serde_json::from_str(answer.value.document.get()).unwrap();
    statement.deposits
}

/// Has a projector work while writers write, each once, and readers read all the time, until everything is
/// written. Meanwhile commits of another account come, so that there always is a next announcement after
/// one that is lost. Readers and writers are told their number, readers also how often they have read.
pub(super) async fn beside_a_projector<R, W>(
    world: &Arc<World>,
    tick: impl Fn(u64) -> AccountEvent + Send + 'static,
    read: impl Fn(usize, usize) -> R + Clone + Send + 'static,
    write: impl Fn(usize) -> W,
) where
    R: Future<Output = ()> + Send,
    W: Future<Output = ()> + Send + 'static,
{
    let (writing, stopping) = (Arc::new(AtomicBool::new(true)), CancellationToken::new());
    let projecting = async {
        let mut projector = world.projector();
        while !stopping.is_cancelled() {
            let step = projector.step(Duration::from_millis(50), &stopping);
            step.await.unwrap();
        }
    };
    let ticking = tokio::spawn({
        let (world, writing) = (Arc::clone(world), Arc::clone(&writing));
        async move {
            for number in 0.. {
                if !writing.load(Ordering::Relaxed) {
                    break;
                }
                world.commit::<Account>("tick", &[tick(number)]).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    let readers: Vec<_> = (0..READERS)
        .map(|number| {
            let (read, writing) = (read.clone(), Arc::clone(&writing));
            tokio::spawn(async move {
                let mut reads = 0;
                while writing.load(Ordering::Relaxed) {
                    read(number, reads).await;
                    reads += 1;
                    tokio::task::yield_now().await;
                }
                reads
            })
        })
        .collect();
    let writers = (0..WRITERS).map(|number| tokio::spawn(write(number)));
    let writers = async {
        let written = join_all(writers).await;
        stopping.cancel();
        written
    };
    for written in tokio::join!(writers, projecting).0 {
        written.unwrap();
    }
    writing.store(false, Ordering::Relaxed);
    ticking.await.unwrap();
    for reader in join_all(readers).await {
        assert!(reader.unwrap() > 0);
    }
}

/// Deposits again and again, and asks every model for what each deposit has made, while others read
/// the same documents all the time.
async fn hammer(world: &Arc<World>, models: &[ReadModel]) {
    let models: Arc<[ReadModel]> = models.into();
    let read = {
        let models = Arc::clone(&models);
        move |number: usize, reads: usize| {
            let model = models[number % models.len()].clone();
            async move {
                let id = format!("a-{}", (number + reads) % WRITERS);
                let _ = model.get("statement", &id, &Freshness::default()).await;
            }
        }
    };
    let write = |number| {
        let (world, models) = (Arc::clone(world), Arc::clone(&models));
        async move {
            let id = format!("a-{number}");
            world.commit::<Account>(&id, &[opened("o")]).await;
            for round in 1..=ROUNDS {
                let position = world.commit::<Account>(&id, &[deposited(1)]).await;
                let freshness = at_least(position);
                let seen = models.iter().map(|model| deposits(model, &id, &freshness));
                assert_eq!(join_all(seen).await, vec![round; models.len()], "{id}");
            }
        }
    };
    beside_a_projector(world, |_| deposited(1), read, write).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_with_a_position_never_meets_an_older_document() {
    let mut world = World::new().await;
    let watermarks = Watermarks::new(["statement"]);
    world.watermark = watermarks.view("statement").unwrap().clone();
    let model = model(&world, &watermarks).await;
    hammer(&Arc::new(world), &[model]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lost_announcements_make_readers_wait_and_never_serve_an_older_document() {
    let world = Arc::new(World::new().await);
    let (models, relay) = lossy(&world).await;
    hammer(&world, &models).await;
    relay.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_that_hears_no_announcement_at_all_still_gets_on() {
    let world = Arc::new(World::new().await);
    let elsewhere = World::new().await;
    let model = model(&world, &Watermarks::new(["statement"])).await;
    // On a server where nothing is announced: as if every announcement were lost.
    let following = tokio::spawn(model.follow(elsewhere.log.client()).await.unwrap());
    let mut projector = world.projector();
    for round in 1..=3 {
        let position = world.commit::<Account>("a", &[deposited(1)]).await;
        world.drain(&mut projector).await;
        assert_eq!(deposits(&model, "a", &at_least(position)).await, round);
    }
    following.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_in_memory_is_made_anew_as_the_store_would_give_it() {
    let mut world = World::new().await;
    let watermarks = Watermarks::new(["statement"]);
    world.watermark = watermarks.view("statement").unwrap().clone();
    let mut projector = world.projector();
    world.commit::<Account>("a", &[opened("o \"1\" 가")]).await;
    world.drain(&mut projector).await;
    let kept = model(&world, &watermarks).await;
    assert_eq!(deposits(&kept, "a", &Freshness::default()).await, 0);
    assert!(world.watermark.wants("a") && !world.watermark.wants("b"));

    let last = world.commit::<Account>("a", &[deposited(3)]).await;
    world.commit::<Account>("b", &[deposited(3)]).await;
    world.drain(&mut projector).await;
    // Nobody has asked for it since.
    assert!(world.watermark.wants("a") && !world.watermark.wants("b"));
    let asks_the_store = model(&world, &watermarks).await;
    let read = async |model: &ReadModel| {
        let freshness = Freshness::default();
        let answer = model.document("statement", "a", &freshness).await;
        answer.unwrap().value
    };
    let (kept, stored) = (read(&kept).await, read(&asks_the_store).await);
    assert_eq!(kept.version, last);
    assert_eq!(
        (kept.version, &kept.tag, &kept.body),
        (stored.version, &stored.tag, &stored.body)
    );
}
