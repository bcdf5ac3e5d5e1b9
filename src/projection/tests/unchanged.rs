//! Commits that change nothing need no transaction, and nothing is lost by that.

use super::world::{Account, AccountEvent, World, deposited};
use crate::{
    projection::projector::{Projector, Step},
    read_model::{Applied, exchange::Checkpoint},
    view::PartKey,
};
use futures::StreamExt;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

impl World {
    pub(super) async fn noted(&self, id: &str) -> u64 {
        let events = [AccountEvent::Noted {}];
        self.commit::<Account>(id, &events).await
    }

    pub(super) async fn checkpoint(&self) -> Checkpoint {
        self.store.checkpoint(&self.tables()).await.unwrap()
    }

    /// One step that finds something.
    async fn step(&self, projector: &mut Projector) -> usize {
        let (wait, never) = (Duration::from_secs(10), CancellationToken::new());
        match projector.step(wait, &never).await.unwrap() {
            Step::Applied(commits) => commits,
            other => panic!("{other:?}"),
        }
    }

    /// Makes one deposit, and then a commit that changes nothing; returns the position of each. The
    /// checkpoint is at the first, and what is served at the second.
    async fn deferred(&self, projector: &mut Projector) -> (u64, u64) {
        let changed = self.commit::<Account>("a", &[deposited(5)]).await;
        self.drain(projector).await;
        let noted = self.noted("a").await;
        assert_eq!(self.step(projector).await, 1);
        assert_eq!(self.checkpoint().await.position, changed);
        assert_eq!(self.progress().position, noted);
        (changed, noted)
    }
}

#[tokio::test]
async fn the_checkpoint_follows_when_nothing_more_comes() {
    let world = World::new().await;
    let client = world.log.client();
    let mut announced = client.subscribe("applied.statement").await.unwrap();
    let mut projector = world.projector();
    let (changed, noted) = world.deferred(&mut projector).await;
    let before = world.checkpoint().await;
    assert_eq!(world.drain(&mut projector).await, 0);
    let after = world.checkpoint().await;
    assert_eq!(
        (after.position, after.revision),
        (noted, before.revision + 1)
    );
    let mut told = Vec::new();
    while told.last() != Some(&(changed, noted)) {
        let message = announced.next().await.unwrap();
        let applied: Applied = serde_json::from_slice(&message.payload).unwrap();
        if applied.previous < applied.position {
            told.push((applied.previous, applied.position));
        }
    }
    assert_eq!(told, [(0, changed), (changed, noted)]);
}

#[tokio::test]
async fn the_checkpoint_follows_with_the_next_change() {
    let world = World::new().await;
    let mut projector = world.projector();
    world.deferred(&mut projector).await;
    let last = world.commit::<Account>("a", &[deposited(1)]).await;
    assert_eq!(world.step(&mut projector).await, 1);
    assert_eq!(world.checkpoint().await.position, last);
    assert_eq!(world.total("a").await, (6, 2));
}

#[tokio::test]
async fn a_projector_killed_before_the_checkpoint_followed_reads_them_again() {
    let world = World::new().await;
    let mut killed = world.projector();
    let (_, noted) = world.deferred(&mut killed).await;
    drop(killed);
    let mut next = world.projector();
    assert_eq!(world.drain(&mut next).await, 1);
    assert_eq!(world.total("a").await, (5, 1));
    assert_eq!(world.checkpoint().await.position, noted);
}

#[tokio::test]
async fn no_more_than_a_batch_is_deferred() {
    let world = World::new().await;
    let mut options = world.options();
    options.batch = 2;
    let mut projector = Projector::new(options, world.status.clone()).unwrap();
    world.deferred(&mut projector).await;
    world.noted("a").await;
    assert_eq!(world.step(&mut projector).await, 1);
    let last = world.noted("a").await;
    assert_eq!(world.step(&mut projector).await, 1);
    assert_eq!(world.checkpoint().await.position, last);
}

#[tokio::test]
async fn a_second_projector_is_refused_by_the_fence_without_a_change_too() {
    let world = World::new().await;
    let mut first = world.projector();
    world.deferred(&mut first).await;
    let mut options = world.options();
    options.replica = Some("second".to_owned());
    let mut second = Projector::new(options, world.status.clone()).unwrap();
    world.drain(&mut second).await;
    world.noted("a").await;
    let batch = first.fetch(Duration::from_secs(10)).await.unwrap();
    let refused = first.apply(&batch).await.err().unwrap();
    assert!(refused.is_fenced(), "{refused}");
}

#[tokio::test]
async fn what_is_tried_again_goes_on_from_what_is_served() {
    let world = World::new().await;
    let mut projector = world.projector();
    let poison = [AccountEvent::Refused {}, deposited(7)];
    world.commit::<Account>("p", &poison).await;
    let (_, noted) = world.deferred(&mut projector).await;
    let parked: PartKey = ("account".to_owned(), "p".to_owned());
    let skipped = projector
        .retry(&parked, crate::projection::Try::WithoutFirst)
        .await
        .unwrap();
    assert_eq!((skipped.applied, skipped.parked), (1, 0));
    assert_eq!(world.total("p").await, (7, 1));
    assert_eq!(world.checkpoint().await.position, noted);
    let row = world.store.get(&world.tables(), "p").await.unwrap();
    assert_eq!(row.unwrap().position, noted);
}
