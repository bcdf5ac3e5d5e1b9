//! Views whose projectors are killed at random, for as long as `HEADWATER_CHAOS_SECONDS` says (two
//! unless set), with the chances that `HEADWATER_CHAOS_SEED` repeats.

use super::{
    WAIT, named,
    projector::{Projector, ProjectorOptions, Step},
    world::{Account, AccountEvent, Owner, Statements, World, deposited, opened},
};
use crate::{
    event_log::{reader::Commit, subject},
    mart::{
        order::{Event, Order, OrderLine},
        view::SalesView,
    },
    read_model::schema::ViewTables,
    testkit::ViewFold,
    view::View,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// A small generator: the same chances for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A view, and what happens to it by chance.
trait Scene {
    type View: View;

    /// Appends one commit.
    async fn append(&mut self, world: &World, chance: &mut Chance);

    /// All aggregates that it may have appended to, by name and id.
    fn aggregates(&self) -> Vec<(&'static str, String)>;
}

/// Statements come and go, and all show the names of their owners.
struct Bank;

impl Scene for Bank {
    type View = Statements;

    async fn append(&mut self, world: &World, chance: &mut Chance) {
        let id = format!("a{}", chance.below(6));
        match chance.below(12) {
            0 => {
                let owner = opened(&format!("o{}", chance.below(3)));
                world.commit::<Account>(&id, &[owner, deposited(1)]).await;
            }
            1 => {
                let name = named(&format!("n{}", chance.below(50)));
                world
                    .commit::<Owner>(&format!("o{}", chance.below(3)), &[name])
                    .await;
            }
            2 => {
                world
                    .commit::<Account>(&id, &[AccountEvent::Closed {}])
                    .await;
            }
            _ => {
                let amount = deposited(chance.below(100).cast_signed());
                world.commit::<Account>(&id, &[amount]).await;
            }
        }
    }

    fn aggregates(&self) -> Vec<(&'static str, String)> {
        let accounts = (0..6).map(|number| ("account", format!("a{number}")));
        let owners = (0..3).map(|number| ("owner", format!("o{number}")));
        accounts.chain(owners).collect()
    }
}

/// Orders are paid, and some are taken back: the sums of three branches, and nothing else.
#[derive(Default)]
struct Branches {
    orders: u64,
    /// Those that something can still happen to, and whether they are paid.
    open: Vec<(String, bool)>,
}

impl Scene for Branches {
    type View = SalesView;

    async fn append(&mut self, world: &World, chance: &mut Chance) {
        if self.open.len() < 4 || chance.below(3) == 0 {
            let id = format!("o{}", self.orders);
            let line = OrderLine {
                sku: "s".to_owned(),
                quantity: chance.below(9).cast_signed() + 1,
                unit_price: chance.below(1_000).cast_signed() + 1,
            };
            let placed = Event::Placed {
                member: "m".to_owned(),
                branch: format!("b{}", chance.below(3)),
                total: line.quantity * line.unit_price,
                lines: vec![line],
            };
            self.orders += 1;
            world.commit::<Order>(&id, &[placed]).await;
            return self.open.push((id, false));
        }
        let which = chance.below(self.open.len() as u64) as usize;
        let (id, paid) = self.open.swap_remove(which);
        let next = match (paid, chance.below(4)) {
            (false, 0) | (true, 0 | 1) => Event::Cancelled {
                reason: "chance".to_owned(),
            },
            (true, _) => Event::Shipped {},
            (false, _) => Event::Paid {
                payment: "p".to_owned(),
                amount: 1,
            },
        };
        let goes_on = matches!(next, Event::Paid { .. });
        world.commit::<Order>(&id, &[next]).await;
        if goes_on {
            self.open.push((id, true));
        }
    }

    fn aggregates(&self) -> Vec<(&'static str, String)> {
        let orders = (0..self.orders).map(|number| ("order", format!("o{number}")));
        orders.collect()
    }
}

/// One step that ends where chance wills: after reading, writing, acknowledging or announcing.
async fn step(projector: &mut Projector, chance: &mut Chance) {
    let Ok(batch) = projector.fetch(Duration::from_millis(50)).await else {
        return projector.close();
    };
    if batch.is_empty() {
        return;
    }
    let end = chance.below(8);
    if end == 0 {
        return projector.close();
    }
    // A fence that refuses it is as good as a kill: another projector was faster.
    let Ok(written) = projector.apply(&batch).await else {
        return projector.close();
    };
    if end == 1 {
        return projector.close();
    }
    let acknowledged = projector.acknowledge(&written).await;
    if end == 2 || acknowledged.is_err() || projector.announce(&written).await.is_err() {
        projector.close();
    }
}

/// Returns what the log says that the documents are, one event after another.
async fn expected<S: Scene>(scene: &S, world: &World) -> BTreeMap<String, Value> {
    let mut commits = Vec::new();
    for (aggregate, id) in scene.aggregates() {
        let subject = subject::events_of(aggregate, &subject::Id::new(id).unwrap());
        let last = world.log.last_message(&subject).await.unwrap();
        let last = last.map_or(0, |message| message.position);
        let messages = world.log.messages(&subject, 0, last).await.unwrap();
        commits.extend(messages.iter().map(Commit::of));
    }
    commits.sort_by_key(|commit| commit.position);
    let events: Vec<_> = commits
        .into_iter()
        .flat_map(|commit| commit.events.unwrap())
        .collect();
    ViewFold::<S::View>::of(&events).documents().clone()
}

/// All documents that there are.
async fn stored(world: &World, options: &ProjectorOptions) -> BTreeMap<String, Value> {
    let tables = ViewTables::of(options.view.description()).unwrap();
    let rows = world.store.page(&tables, None, None, 1_000).await;
    let (_, rows) = rows.unwrap();
    let rows = rows.into_iter();
    rows.map(|row| (row.id, row.document)).collect()
}

async fn survive(mut scene: impl Scene) {
    let seed =
        variable("HEADWATER_CHAOS_SEED").unwrap_or_else(|| uuid::Uuid::now_v7().as_u64_pair().1);
    let seconds = variable("HEADWATER_CHAOS_SECONDS").unwrap_or(2);
    println!("HEADWATER_CHAOS_SEED={seed}");
    let mut chance = Chance(seed.max(1));
    let world = World::new().await;
    let started = Instant::now();
    let mut last_away = started;
    let options = options_of(&scene, &world);
    let other_options = ProjectorOptions {
        replica: Some("other".to_owned()),
        ..options.clone()
    };
    let begin = |options: &ProjectorOptions| {
        let options = ProjectorOptions {
            writer: uuid::Uuid::now_v7().to_string(),
            ..options.clone()
        };
        Projector::new(options, world.status.clone()).unwrap()
    };
    // Two that disagree about who keeps the view, with a consumer each and with the same one.
    let kinds = [&options, &options, &other_options];
    let mut projectors = kinds.map(begin);
    while started.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..chance.below(6) {
            scene.append(&world, &mut chance).await;
        }
        let which = chance.below(3) as usize;
        match chance.below(20) {
            0 => projectors[which] = begin(kinds[which]),
            1 if last_away.elapsed() > Duration::from_secs(5) => {
                world.kill_nats().await;
                last_away = Instant::now();
            }
            _ => step(&mut projectors[which], &mut chance).await,
        }
    }
    drop(projectors);
    let mut projector = begin(&options);
    let drained = Instant::now();
    let never = tokio_util::sync::CancellationToken::new();
    loop {
        // What is left may be with a consumer that nobody reads from any more.
        match projector.step(Duration::from_millis(300), &never).await {
            Ok(Step::Idle) => break,
            _ => assert!(drained.elapsed() < 3 * WAIT),
        }
    }
    let expected = expected(&scene, &world).await;
    assert!(!expected.is_empty());
    assert_eq!(stored(&world, &options).await, expected, "seed {seed}");
}

fn options_of<S: Scene>(_: &S, world: &World) -> ProjectorOptions {
    world.options_of::<S::View>()
}

#[tokio::test]
async fn documents_are_what_the_log_says_however_their_projectors_are_killed() {
    survive(Bank).await;
}

#[tokio::test]
async fn sales_are_what_the_log_says_however_their_projectors_are_killed() {
    survive(Branches::default()).await;
}
