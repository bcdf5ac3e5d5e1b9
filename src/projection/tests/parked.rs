//! What is parked is shown on its documents, tried again in order, and left out one by one.

use super::world::{Account, AccountEvent, World, deposited, opened};
use crate::{
    projection::{Retried, Try, projector::Projector},
    view::PartKey,
};
use std::{collections::BTreeSet, time::Duration};

fn account(id: &str) -> PartKey {
    ("account".to_owned(), id.to_owned())
}

impl World {
    /// The documents that are said to be behind: by readers in this process, and by the store.
    async fn behind(&self, ids: &[&str]) -> Vec<String> {
        let stored = self.store.behind(&self.tables()).await.unwrap();
        let stored: BTreeSet<_> = stored.documents.into_iter().collect();
        let serving = self.watermark.serving();
        let told: BTreeSet<_> = ids
            .iter()
            .filter(|id| serving.is_parked(id))
            .map(|id| (*id).to_owned())
            .collect();
        assert_eq!(stored, told);
        told.into_iter().collect()
    }
}

#[tokio::test]
async fn the_documents_that_a_parked_event_concerns_are_said_to_be_behind() {
    let world = World::new().await;
    world.commit::<Account>("well", &[deposited(1)]).await;
    world.commit::<Account>("refused", &[deposited(1)]).await;
    world
        .commit::<Account>("refused", &[AccountEvent::Refused {}])
        .await;
    // What cannot even be read says nothing of its documents, but what came before it does.
    world.commit::<Account>("garbage", &[deposited(1)]).await;
    world.garbage("evt.account.garbage").await;
    let mut projector = world.projector();
    world.drain(&mut projector).await;
    let ids = ["well", "refused", "garbage"];
    assert_eq!(world.behind(&ids).await, ["garbage", "refused"]);
    // It is known to a projector that comes later, too.
    drop(projector);
    let mut next = world.projector();
    world.drain(&mut next).await;
    assert_eq!(world.behind(&ids).await, ["garbage", "refused"]);
}

#[tokio::test]
async fn skipping_leaves_one_event_out_and_goes_on_in_order() {
    let world = World::new().await;
    world
        .commit::<Account>("a", &[deposited(1), AccountEvent::Refused {}, deposited(2)])
        .await;
    world.commit::<Account>("a", &[deposited(4)]).await;
    world
        .commit::<Account>("a", &[AccountEvent::Exploded {}])
        .await;
    world.commit::<Account>("a", &[deposited(8)]).await;
    let mut projector = world.projector();
    world.drain(&mut projector).await;
    assert_eq!(world.total("a").await, (1, 1));
    let before = world.store.checkpoint(&world.tables()).await.unwrap();

    // Nothing has changed, so trying again comes to the same.
    let again = projector.retry(&account("a"), Try::Again).await.unwrap();
    assert_eq!((again.applied, again.parked), (0, 4));
    assert_eq!(again.reason.as_deref(), Some("not this one"));
    assert_eq!(world.total("a").await, (1, 1));

    let skipped = projector
        .retry(&account("a"), Try::WithoutFirst)
        .await
        .unwrap();
    assert_eq!((skipped.applied, skipped.parked), (2, 2));
    assert_eq!(world.total("a").await, (7, 3));
    assert_eq!(world.behind(&["a"]).await, ["a"]);
    // That it is another document is known although it is of no later position.
    let after = world.store.checkpoint(&world.tables()).await.unwrap();
    assert_eq!(after.position, before.position);
    assert_eq!(after.exchanges, before.exchanges + 1);

    // What was done is known to a projector that comes later.
    drop(projector);
    let mut next = world.projector();
    let skipped = next.retry(&account("a"), Try::WithoutFirst).await.unwrap();
    assert_eq!((skipped.applied, skipped.parked), (2, 0));
    assert_eq!(world.total("a").await, (15, 4));
    assert!(world.behind(&["a"]).await.is_empty());
    world.commit::<Account>("a", &[deposited(16)]).await;
    assert_eq!(world.drain(&mut next).await, 1);
    assert_eq!(world.total("a").await, (31, 5));
    assert_eq!(world.status.borrow().parked, 0);
    assert_eq!(
        next.retry(&account("a"), Try::WithoutFirst).await.unwrap(),
        Retried::default()
    );
}

#[tokio::test]
async fn a_commit_that_cannot_be_read_is_skipped_as_a_whole() {
    let world = World::new().await;
    world.commit::<Account>("a", &[opened("o")]).await;
    world.garbage("evt.account.a").await;
    world.commit::<Account>("a", &[deposited(2)]).await;
    let mut projector = world.projector();
    world.drain(&mut projector).await;
    assert_eq!(world.total("a").await, (0, 0));
    let skipped = projector
        .retry(&account("a"), Try::WithoutFirst)
        .await
        .unwrap();
    assert_eq!((skipped.applied, skipped.parked), (2, 0));
    assert_eq!(world.total("a").await, (2, 1));
}

#[tokio::test]
async fn trying_again_is_fenced_like_any_other_write() {
    let world = World::new().await;
    world
        .commit::<Account>(
            "a",
            &[
                AccountEvent::Refused {},
                AccountEvent::Refused {},
                deposited(2),
            ],
        )
        .await;
    let mut first = world.projector();
    world.drain(&mut first).await;
    let mut options = world.options();
    options.replica = Some("second".to_owned());
    let mut second = Projector::new(options, world.status.clone()).unwrap();
    second
        .retry(&account("a"), Try::WithoutFirst)
        .await
        .unwrap();
    let refused = first
        .retry(&account("a"), Try::WithoutFirst)
        .await
        .err()
        .unwrap();
    assert!(refused.is_fenced(), "{refused}");
    assert_eq!(world.document("a").await, None);
}

#[tokio::test]
async fn what_is_parked_because_of_an_excluded_commit_is_applied_without_it() {
    let world = World::new().await;
    world.commit::<Account>("a", &[deposited(1)]).await;
    let junk = world.garbage("evt.account.a").await;
    world.commit::<Account>("a", &[deposited(2)]).await;
    let refused = world
        .commit::<Account>("a", &[AccountEvent::Refused {}, deposited(16)])
        .await;
    world.commit::<Account>("a", &[deposited(4)]).await;
    let mut projector = world.projector();
    world.drain(&mut projector).await;
    assert_eq!(world.total("a").await, (1, 1));

    // The next one that the view cannot apply is parked still.
    world.exclude("a", junk).await;
    world.drain(&mut projector).await;
    assert_eq!(world.total("a").await, (3, 2));
    assert_eq!(world.behind(&["a"]).await, ["a"]);

    // A projector that comes later does not need to be told.
    drop(projector);
    world.exclude("a", refused).await;
    let mut next = world.projector();
    world.drain(&mut next).await;
    assert_eq!(world.total("a").await, (7, 3));
    assert!(world.behind(&["a"]).await.is_empty());
    assert_eq!(world.status.borrow().parked, 0);
    world.commit::<Account>("a", &[deposited(8)]).await;
    world.drain(&mut next).await;
    assert_eq!(world.total("a").await, (15, 4));
}

/// The projector opens after the exclusion, but has written all that came with it: as after a crash between
/// the two.
#[tokio::test]
async fn an_exclusion_whose_notice_was_applied_is_followed_by_the_next_projector() {
    let world = World::new().await;
    world.commit::<Account>("a", &[deposited(1)]).await;
    let junk = world.garbage("evt.account.a").await;
    let mut projector = world.projector();
    world.drain(&mut projector).await;
    world.exclude("a", junk).await;
    world.commit::<Account>("a", &[deposited(2)]).await;
    let batch = projector.fetch(Duration::from_secs(10)).await.unwrap();
    projector.apply(&batch).await.unwrap();
    drop(projector);
    assert_eq!(world.total("a").await, (1, 1));
    let mut next = world.projector();
    world.drain(&mut next).await;
    assert_eq!(world.total("a").await, (3, 2));
}

#[tokio::test]
async fn a_view_that_is_filled_anew_leaves_out_what_is_excluded_from_the_start() {
    let world = World::new().await;
    let wrong = world.commit::<Account>("a", &[deposited(100)]).await;
    world.commit::<Account>("a", &[deposited(2)]).await;
    world.exclude("a", wrong).await;
    let mut projector = world.projector();
    world.drain(&mut projector).await;
    assert_eq!(world.total("a").await, (2, 1));
}
