//! A view whose projectors are killed at random, for as long as `HEADWATER_CHAOS_SECONDS` says (two
//! unless set), with the chances that `HEADWATER_CHAOS_SEED` repeats.

use super::{
    WAIT, named,
    projector::Projector,
    world::{Account, AccountEvent, Owner, Statement, Statements, World, deposited, opened},
};
use crate::{
    event_log::{reader::Commit, subject},
    testkit::ViewFold,
};
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

async fn append(world: &World, chance: &mut Chance) {
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

/// One step that ends where chance wills: after reading, writing, acknowledging or announcing.
async fn step(world: &World, projector: &mut Projector, chance: &mut Chance) {
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
    let _ = world;
}

/// What the log says that the documents are, one event after another.
async fn expected(world: &World) -> BTreeMap<String, Statement> {
    let mut commits = Vec::new();
    for (aggregate, ids) in [("account", 6), ("owner", 3)] {
        for number in 0..ids {
            let id = subject::Id::new(format!("{}{number}", &aggregate[..1])).unwrap();
            let subject = subject::events_of(aggregate, &id);
            let last = world.log.last_message(&subject).await.unwrap();
            let last = last.map_or(0, |message| message.position);
            let messages = world.log.messages(&subject, 0, last).await.unwrap();
            commits.extend(messages.iter().map(Commit::of));
        }
    }
    commits.sort_by_key(|commit| commit.position);
    let events: Vec<_> = commits
        .into_iter()
        .flat_map(|commit| commit.events.unwrap())
        .collect();
    let fold = ViewFold::<Statements>::of(&events);
    let ids = fold.documents().keys();
    ids.map(|id| (id.clone(), fold.get(id).unwrap())).collect()
}

#[tokio::test]
async fn documents_are_what_the_log_says_however_their_projectors_are_killed() {
    let seed =
        variable("HEADWATER_CHAOS_SEED").unwrap_or_else(|| uuid::Uuid::now_v7().as_u64_pair().1);
    let seconds = variable("HEADWATER_CHAOS_SECONDS").unwrap_or(2);
    println!("HEADWATER_CHAOS_SEED={seed}");
    let mut chance = Chance(seed.max(1));
    let world = World::new().await;
    let started = Instant::now();
    let mut last_away = started;
    // Two that disagree about who keeps the view, with a consumer each and with the same one.
    let other = |world: &World| {
        let mut options = world.options();
        options.replica = Some("other".to_owned());
        Projector::new(options, world.status.clone()).unwrap()
    };
    let mut projectors = [world.projector(), world.projector(), other(&world)];
    while started.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..chance.below(6) {
            append(&world, &mut chance).await;
        }
        let which = chance.below(3) as usize;
        match chance.below(20) {
            0 => {
                projectors[which] = if which == 2 {
                    other(&world)
                } else {
                    world.projector()
                }
            }
            1 if last_away.elapsed() > Duration::from_secs(5) => {
                world.kill_nats().await;
                last_away = Instant::now();
            }
            _ => step(&world, &mut projectors[which], &mut chance).await,
        }
    }
    drop(projectors);
    let mut projector = world.projector();
    let drained = Instant::now();
    let never = tokio_util::sync::CancellationToken::new();
    loop {
        // What is left may be with a consumer that nobody reads from any more.
        match projector.step(Duration::from_millis(300), &never).await {
            Ok(super::projector::Step::Idle) => break,
            _ => assert!(drained.elapsed() < 3 * WAIT),
        }
    }
    let expected = expected(&world).await;
    for number in 0..6 {
        let id = format!("a{number}");
        let document = world.document(&id).await;
        assert_eq!(document.as_ref(), expected.get(&id), "{id}, seed {seed}");
    }
}
