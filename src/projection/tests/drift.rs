//! What nobody asked for is found all the same: documents that are not what the log says.

use super::{
    WAIT, named,
    rebuild::kept,
    world::{Account, Owner, World, deposited, opened},
};
use crate::{
    projection::{ProjectorOptions, ViewHandle},
    read_model::{Applied, store::drift::Verification},
};
use actix::Arbiter;
use futures::StreamExt;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

impl World {
    /// As fast as it goes.
    fn watching(&self, repair: bool) -> ProjectorOptions {
        let mut options = self.options();
        options.verify = options.verify.unasked(1_000_000, repair);
        options
    }

    async fn accounts(&self, many: usize) -> u64 {
        let mut last = 0;
        for number in 0..many {
            let events = [opened(&format!("o{}", number % 3)), deposited(1)];
            last = self.commit::<Account>(&format!("a{number}"), &events).await;
        }
        last
    }

    async fn verification(&self) -> Verification {
        // The keeper may not have made the table yet.
        let tables = self.tables();
        self.store.verification(&tables).await.unwrap_or_default()
    }

    /// Waits until a pass has found what `wanted` says.
    async fn found(&self, what: &str, wanted: impl Fn(&Verification) -> bool) -> Verification {
        let started = Instant::now();
        loop {
            let verification = self.verification().await;
            if wanted(&verification) {
                return verification;
            }
            assert!(started.elapsed() < 3 * WAIT, "{what}: {verification:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until whatever is compared from now on was.
    async fn round(&self, documents: u64) {
        let checked = self.verification().await.checked;
        // A pass that is under way may have compared some before.
        self.found("a whole round", |it| it.checked >= checked + 3 * documents)
            .await;
    }

    async fn json(&self, id: &str) -> Option<Value> {
        let row = self.store.get(&self.tables(), id).await.unwrap();
        row.map(|row| row.document)
    }
}

fn richer(document: Option<Value>) -> Option<Value> {
    document.map(|mut document| {
        document["total"] = json!(1_000_000);
        document
    })
}

async fn begin(world: &World, repair: bool, many: usize) -> (Arbiter, ViewHandle) {
    let arbiter = Arbiter::new();
    let view = kept(world.watching(repair), &arbiter);
    let last = world.accounts(many).await;
    world.wait_for(last).await;
    (arbiter, view)
}

#[actix::test]
async fn a_document_that_somebody_changed_is_found_told_and_left_where_nothing_is_to_be_repaired() {
    let world = World::new().await;
    // More than one pass takes.
    let (arbiter, view) = begin(&world, false, 130).await;
    world.round(130).await;
    assert_eq!(world.verification().await.different, 0);
    world.tamper("a77", richer).await;
    world.found("the difference", |it| it.different > 0).await;
    let evidence = world.store.evidence(&world.tables(), 10).await.unwrap();
    assert_eq!(evidence.len(), 1, "{evidence:?}");
    assert_eq!(evidence[0].id, "a77");
    assert!(evidence[0].stored.as_ref().unwrap().contains("1000000"));
    assert!(!evidence[0].folded.as_ref().unwrap().contains("1000000"));
    assert_eq!(world.json("a77").await.unwrap()["total"], 1_000_000);
    // Found again and again, it is one piece of evidence.
    let found = world.verification().await.different;
    world.found("it again", |it| it.different > found).await;
    let evidence = world.store.evidence(&world.tables(), 10).await.unwrap();
    assert_eq!(evidence.len(), 1, "{evidence:?}");
    view.stop().await;
    arbiter.stop();
}

#[actix::test]
async fn documents_that_were_changed_removed_or_made_up_are_set_right_and_everyone_hears_of_it() {
    let world = World::new().await;
    let (arbiter, view) = begin(&world, true, 40).await;
    let mut told = world
        .log
        .client()
        .subscribe("applied.statement")
        .await
        .unwrap();
    world.log.client().flush().await.unwrap();
    let right = world.json("a3").await;
    world.tamper("a3", richer).await;
    world.tamper("a4", |_| None).await;
    world.tamper("zz", |_| Some(json!({"total": 1}))).await;
    world.found("all three", |it| it.repaired >= 3).await;
    assert_eq!(world.json("a3").await, right);
    assert_eq!(world.total("a4").await, (1, 1));
    assert_eq!(world.json("zz").await, None);
    let mut heard = std::collections::BTreeSet::new();
    while heard.len() < 3 {
        let message = tokio::time::timeout(WAIT, told.next()).await.unwrap();
        let applied: Applied = serde_json::from_slice(&message.unwrap().payload).unwrap();
        // In place, and not when they were made.
        if applied.previous == applied.position {
            heard.extend(applied.ids);
        }
    }
    assert!(
        ["a3", "a4", "zz"].iter().all(|id| heard.contains(*id)),
        "{heard:?}"
    );
    let repaired = world.verification().await.repaired;
    world.round(40).await;
    assert_eq!(
        world.verification().await.repaired,
        repaired,
        "nothing is left to do"
    );
    // The view goes on from what it now holds.
    let last = world.commit::<Account>("a3", &[deposited(4)]).await;
    world.commit::<Account>("a4", &[deposited(4)]).await;
    world.wait_for(last + 1).await;
    assert_eq!(world.total("a3").await, (5, 2));
    assert_eq!(world.total("a4").await, (5, 2));
    view.stop().await;
    arbiter.stop();
}

#[actix::test]
async fn a_document_that_changes_all_the_time_is_set_right_without_losing_an_event() {
    let world = World::new().await;
    let (arbiter, view) = begin(&world, true, 10).await;
    let mut deposits: i64 = 1;
    world.tamper("a5", |_| None).await;
    let started = Instant::now();
    while world.verification().await.repaired == 0 {
        assert!(started.elapsed() < 3 * WAIT);
        world.commit::<Account>("a5", &[deposited(1)]).await;
        world
            .commit::<Owner>("o2", &[named(&format!("n{deposits}"))])
            .await;
        deposits += 1;
    }
    let last = world.commit::<Account>("a5", &[deposited(1)]).await;
    deposits += 1;
    world.wait_for(last).await;
    world.round(10).await;
    assert_eq!(world.total("a5").await, (deposits, deposits.unsigned_abs()));
    let owner = world.document("a5").await.unwrap().owner;
    assert_eq!(owner.as_deref(), Some("o2"));
    view.stop().await;
    arbiter.stop();
}

#[actix::test]
async fn a_view_with_something_parked_is_not_repaired_to_what_it_would_be_without() {
    let world = World::new().await;
    let (arbiter, view) = begin(&world, true, 5).await;
    let refused = super::world::AccountEvent::Refused {};
    world
        .commit::<Account>("a1", &[deposited(2), refused, deposited(3)])
        .await;
    let last = world.commit::<Account>("a1", &[deposited(4)]).await;
    world.wait_for(last).await;
    world.round(5).await;
    assert_eq!(world.verification().await.different, 0);
    assert_eq!(world.total("a1").await, (3, 2));
    view.stop().await;
    arbiter.stop();
}
