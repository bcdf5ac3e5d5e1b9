//! A log that another one takes the place of: what was folded of the first is served no more, and the view
//! is filled anew from the second.

use super::{
    WAIT,
    cache::model,
    rebuild::{ask, kept, live},
    world::{Account, Statement, World, deposited},
};
use crate::{
    event_log::topology::Topology,
    projection::{Ask, ReplyBody, Verb},
    read_model::{Freshness, GenerationState, Watermarks},
};
use actix::Arbiter;
use std::time::{Duration, Instant};

/// So many commits the first log has.
const FIRST: u64 = 10;

impl World {
    /// Has an empty log take the place of the one that there is.
    async fn lose_log(&self) {
        self.log.lose().await.unwrap();
        let applied = Topology::embedded().apply(self.log.client()).await;
        applied.unwrap();
        self.forget_versions();
    }

    async fn deposit(&self, id: &str, commits: u64) {
        for _ in 0..commits {
            self.commit::<Account>(id, &[deposited(1)]).await;
        }
    }

    /// As [`World::served`], where there may not be a table yet.
    async fn served_if_any(&self, id: &str) -> Option<(i64, u64)> {
        let live = self.watermark.serving().live()?;
        let row = self.store.get(&live, id).await.ok()??;
        let document: Statement = serde_json::from_value(row.document).unwrap();
        Some((document.total, document.deposits))
    }

    async fn until_served(&self, id: &str, wanted: Option<(i64, u64)>) {
        let started = Instant::now();
        loop {
            let served = self.served_if_any(id).await;
            if served == wanted && !self.watermark.serving().is_lost() {
                return;
            }
            assert!(started.elapsed() < 3 * WAIT, "{id}: {served:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[actix::test]
async fn a_view_is_filled_anew_from_a_log_that_takes_the_place_of_its_own() {
    for (second, goes_down) in [
        (FIRST - 5, false),
        (FIRST, false),
        (FIRST + 5, false),
        (FIRST - 5, true),
        (FIRST, true),
        (FIRST + 5, true),
    ] {
        let (world, arbiter) = (World::new().await, Arbiter::new());
        let mut view = kept(world.options(), &arbiter);
        world.until("a first one", |all| live(all) == "v1").await;
        ask(&view, Verb::Rebuild).await;
        world.deposit("lost", FIRST).await;
        let all = world.until("another", |all| live(all) == "v1.1").await;
        assert!(all.find(GenerationState::Previous).is_some());
        world.until_served("lost", Some((10, FIRST))).await;
        world.wait_for(FIRST).await;
        let edition = world.watermark.serving().edition();
        if goes_down {
            view.stop().await;
        }
        world.lose_log().await;
        world.deposit("kept", second).await;
        if goes_down {
            // As another process, which compares before it answers.
            let mut options = world.options();
            options.watermark = Default::default();
            view = kept(options.clone(), &arbiter);
            let mut world = world;
            world.watermark = options.watermark;
            finish(&world, &view, second).await;
            assert_ne!(world.watermark.serving().edition(), edition);
            view.stop().await;
        } else {
            world.log.suspect("a test has replaced it");
            finish(&world, &view, second).await;
            assert_ne!(world.watermark.serving().edition(), edition);
            view.stop().await;
        }
        arbiter.stop();
    }
}

async fn finish(world: &World, view: &crate::projection::ViewHandle, second: u64) {
    let all = world.until("a third one", |all| live(all) == "v1.2").await;
    assert_eq!(all.find(GenerationState::Previous), None);
    let deposits = (i64::try_from(second).unwrap(), second);
    world.until_served("kept", Some(deposits)).await;
    assert_eq!(world.served("lost").await, None);
    assert_eq!(world.progress().position, second);
    let again = view
        .shared()
        .work(Verb::Rollback, Ask::default(), &|_, _| {});
    assert!(again.await.is_err());
    world.deposit("kept", 1).await;
    world.wait_for(second + 1).await;
    let ReplyBody::Verified(verified) = ask(view, Verb::Verify).await else {
        panic!("it was not verified");
    };
    assert_eq!((verified.checked, verified.different), (1, 0));
}

#[actix::test]
async fn nothing_of_another_log_is_answered_while_the_view_is_filled() {
    let (world, arbiter) = (World::new().await, Arbiter::new());
    let watermarks = Watermarks::new(["statement"]);
    let mut world = world;
    world.watermark = watermarks.view("statement").unwrap().clone();
    let queries = model(&world, &watermarks).await;
    queries.compare_with(&world.log, true).await.unwrap();
    let view = kept(world.options(), &arbiter);
    world.deposit("lost", FIRST).await;
    world.until_served("lost", Some((10, FIRST))).await;
    world.wait_for(FIRST).await;
    let now = Freshness::default();
    assert!(queries.get("statement", "lost", &now).await.is_ok());
    view.stop().await;
    world.lose_log().await;
    world.deposit("kept", FIRST).await;
    world.log.suspect("a test has replaced it");
    queries.compare_with(&world.log, true).await.unwrap();
    assert!(queries.remembered("statement", "lost", &now).is_none());
    let at_once = Freshness {
        min_positions: vec![("account".to_owned(), FIRST)],
        max_wait: Duration::ZERO,
        ..Freshness::default()
    };
    for freshness in [&now, &at_once] {
        for id in ["lost", "kept"] {
            let refused = queries.get("statement", id, freshness).await.unwrap_err();
            assert_eq!((refused.status, &*refused.code), (503, "rebuilding"));
            assert!(refused.retry_after.is_some());
        }
        let refused = queries
            .list("statement", &Default::default(), freshness)
            .await
            .unwrap_err();
        assert_eq!(refused.code, "rebuilding");
    }
    let view = kept(world.options(), &arbiter);
    world.until_served("kept", Some((10, FIRST))).await;
    let lost = queries.get("statement", "lost", &now).await.unwrap_err();
    assert_eq!(lost.code, "not_found");
    view.stop().await;
    arbiter.stop();
}

#[actix::test]
async fn a_log_that_is_away_for_a_while_is_no_other_log() {
    let (world, arbiter) = (World::new().await, Arbiter::new());
    let view = kept(world.options(), &arbiter);
    world.deposit("a", FIRST).await;
    world.until_served("a", Some((10, FIRST))).await;
    let before = world.watermark.serving().edition();
    world.log.suspect("it goes away");
    world.kill_nats().await;
    world.log.suspect("it is there again");
    world.deposit("a", 1).await;
    world.until_served("a", Some((11, FIRST + 1))).await;
    assert_eq!(world.watermark.serving().edition(), before);
    assert_eq!(live(&world.generations().await), "v1");
    view.stop().await;
    arbiter.stop();
}

/// What a projector has read and not written counts as applied.
#[actix::test]
async fn a_position_that_changed_nothing_is_not_claimed_of_another_log_either() {
    let (world, arbiter) = (World::new().await, Arbiter::new());
    let view = kept(world.options(), &arbiter);
    world.deposit("a", 1).await;
    world.until_served("a", Some((1, 1))).await;
    let backup = world.log.message_at(1).await.unwrap().unwrap();
    world.noted("a").await;
    world.wait_for(2).await;
    assert_eq!(world.checkpoint().await.position, 1);
    world.lose_log().await;
    world.log.restore(backup).await.unwrap();
    world.log.suspect("a test has cut it");
    let started = Instant::now();
    while world.progress().position != 1 || world.watermark.serving().is_lost() {
        assert!(started.elapsed() < 3 * WAIT, "{:?}", world.progress());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!world.watermark.reached(2, Duration::ZERO).await);
    assert_eq!(world.served("a").await, Some((1, 1)));
    view.stop().await;
    arbiter.stop();
}
