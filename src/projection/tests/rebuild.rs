//! Generations: filled beside the live one, taken over from it, gone back to, dropped, and verified.

use super::{
    WAIT, named,
    world::{
        Account, AccountEvent, FoldedBy, OtherFold, Owner, Statement, Statements, World, deposited,
        opened,
    },
};
use crate::{
    projection::{
        Ask, ProjectorState, ProjectorStatus, RegisteredView, ReplyBody, Verb, ViewHandle,
        ViewPlacement, projector::ProjectorOptions,
    },
    read_model::{Generation, GenerationState, Generations, exchange::Changes, schema::ViewTables},
    recorded::Recorded,
    view::{ApplyError, Change, Parts, Query, Route, View},
};
use actix::Arbiter;
use std::time::{Duration, Instant};

/// The next version of the statements: every deposit counts twice.
pub(super) struct Doubled;

impl OtherFold for Doubled {
    const VERSION: u32 = 2;

    fn apply(
        id: &str,
        document: Option<Statement>,
        event: &Recorded,
        parts: &Parts<String>,
    ) -> Result<Change<Statement>, ApplyError> {
        let before = document.as_ref().map_or(0, |document| document.total);
        let change = Statements::apply(id, document, event, parts)?;
        Ok(match change {
            Change::Put(mut document) => {
                document.total += document.total - before;
                Change::Put(document)
            }
            other => other,
        })
    }
}

pub(super) fn kept(options: ProjectorOptions, arbiter: &Arbiter) -> ViewHandle {
    ViewHandle::start(options, ViewPlacement::here(), &arbiter.handle())
}

impl World {
    pub(super) async fn generations(&self) -> Generations {
        // Nothing is there before a keeper has begun.
        self.store
            .generations("statement")
            .await
            .unwrap_or_default()
    }

    /// Waits until the view's generations are as `wanted` says.
    pub(super) async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&Generations) -> bool,
    ) -> Generations {
        let started = Instant::now();
        loop {
            let generations = self.generations().await;
            if wanted(&generations) {
                return generations;
            }
            assert!(started.elapsed() < 3 * WAIT, "{what}: {generations:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A document as readers of this process would get it now.
    pub(super) async fn served(&self, id: &str) -> Option<(i64, u64)> {
        let live = self.watermark.serving().live()?;
        let row = self.store.get(&live, id).await.unwrap()?;
        let document: Statement = serde_json::from_value(row.document).unwrap();
        Some((document.total, document.deposits))
    }

    pub(super) async fn wait_for(&self, position: u64) {
        assert!(self.watermark.reached(position, 3 * WAIT).await);
    }
}

pub(super) async fn ask(view: &ViewHandle, verb: Verb) -> ReplyBody {
    let asked = view.shared().work(verb, Ask::default(), &|_, _| {}).await;
    asked.unwrap()
}

pub(super) fn live(generations: &Generations) -> String {
    let live = generations.find(GenerationState::Live);
    live.map_or_else(String::new, |live| live.to_string())
}

#[actix::test]
async fn a_rebuilt_generation_takes_over_while_readers_see_time_go_forward_only() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    for amount in 0..200 {
        world.commit::<Account>("a", &[deposited(amount % 3)]).await;
    }
    let view = kept(world.options(), &arbiter);
    world.until("a first one", |all| live(all) == "v1").await;
    ask(&view, Verb::Rebuild).await;
    let (mut last, mut deposits, mut turned) = (0, 0, false);
    let started = Instant::now();
    // Some commits and reads after the turn, too.
    let mut after = 0;
    while after < 20 {
        assert!(started.elapsed() < 3 * WAIT);
        last = world.commit::<Account>("a", &[deposited(1)]).await;
        world.wait_for(last).await;
        let (_, now) = world.served("a").await.expect("reads never stop");
        assert!(now > deposits, "{now} after {deposits}");
        deposits = now;
        turned |= live(&world.generations().await) == "v1.1";
        after += i32::from(turned);
    }
    // The one before is kept up to date, so that going back is no way back in time.
    ask(&view, Verb::Rollback).await;
    assert_eq!(live(&world.generations().await), "v1");
    assert!(world.progress().position >= last);
    let (_, now) = world.served("a").await.unwrap();
    assert_eq!(now, deposits);
    last = world.commit::<Account>("a", &[deposited(1)]).await;
    world.wait_for(last).await;
    assert_eq!(world.served("a").await.unwrap().1, deposits + 1);
    // The other is dropped with all that it had.
    ask(&view, Verb::Drop).await;
    let left = world.until("dropped", |all| all.all.len() == 1).await;
    assert_eq!(live(&left), "v1");
    let gone = Generation {
        version: 1,
        number: 1,
    };
    let description = RegisteredView::of::<Statements>().description().clone();
    let gone = ViewTables::generation(&description, gone).unwrap();
    assert!(world.store.find_checkpoint(&gone).await.unwrap().is_none());
    view.stop().await;
    arbiter.stop();
}

#[actix::test]
async fn a_rebuild_that_was_killed_goes_on_from_its_checkpoint() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    let mut total = 0;
    for amount in 0..300 {
        total += amount;
        world
            .commit::<Account>(&format!("a{}", amount % 5), &[deposited(amount)])
            .await;
    }
    let mut options = world.options();
    options.batch = 5;
    let view = kept(options.clone(), &arbiter);
    world.until("a first one", |all| live(all) == "v1").await;
    let ReplyBody::Filling { .. } = ask(&view, Verb::Rebuild).await else {
        panic!("it was not begun");
    };
    let building = world
        .generations()
        .await
        .find(GenerationState::Building)
        .unwrap();
    let description = options.view.description();
    let tables = ViewTables::generation(description, building).unwrap();
    let started = Instant::now();
    let (held, reached) = loop {
        let held = view.shared().hold(building).await;
        let checkpoint = world.store.find_checkpoint(&tables).await.unwrap();
        if let (Some(held), Some(checkpoint)) = (held, checkpoint)
            && checkpoint.position > 0
        {
            break (held, checkpoint);
        }
        assert!(started.elapsed() < WAIT);
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let told = view.rebuilding().expect("it is told how far it is");
    assert!(told > 0.0 && told <= 1.0, "{told}");
    drop(held);
    view.stop().await;
    let stopped = world.store.find_checkpoint(&tables).await.unwrap().unwrap();
    assert!(stopped.position >= reached.position);
    let again = kept(options, &arbiter);
    world
        .until("it takes over", |all| live(all) == "v1.1")
        .await;
    let ended = world.store.find_checkpoint(&tables).await.unwrap().unwrap();
    // Had it begun again, it would have taken every batch again.
    assert!(ended.revision >= stopped.revision);
    let mut sum = 0;
    for number in 0..5 {
        sum += world.served(&format!("a{number}")).await.unwrap().0;
    }
    assert_eq!(sum, total);
    again.stop().await;
    arbiter.stop();
}

#[actix::test]
async fn a_new_version_is_filled_beside_the_old_one_and_gone_back_from() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    let last = world.commit::<Account>("a", &[deposited(5)]).await;
    let old = kept(world.options(), &arbiter);
    world.wait_for(last).await;
    assert_eq!(world.served("a").await, Some((5, 1)));
    old.stop().await;

    let mut options = world.options();
    options.view = RegisteredView::of::<FoldedBy<Doubled>>();
    options.generation = Generation::first(2);
    let new = kept(options, &arbiter);
    world
        .until("it takes over", |all| live(all) == "v2.1")
        .await;
    let position = world.commit::<Account>("a", &[deposited(1)]).await;
    world.wait_for(position).await;
    assert_eq!(world.served("a").await, Some((12, 2)));
    // The old one stays as it was, since nobody here can fold it.
    ask(&new, Verb::Rollback).await;
    assert_eq!(world.served("a").await, Some((5, 1)));
    assert_eq!(world.progress().position, last);
    ask(&new, Verb::Rollback).await;
    assert_eq!(world.served("a").await, Some((12, 2)));
    assert!(world.progress().position >= position);
    new.stop().await;

    // An older program that comes back leaves what is live alone.
    let old = kept(world.options(), &arbiter);
    let mut status = old.watch();
    let stalled = |status: &ProjectorStatus| status.stalled.is_some();
    tokio::time::timeout(WAIT, status.wait_for(stalled))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(live(&world.generations().await), "v2.1");
    assert_eq!(world.served("a").await, Some((12, 2)));
    // It says that what is served stands still, and how far it is behind.
    let next = world.commit::<Account>("a", &[deposited(1)]).await;
    let behind = |status: &ProjectorStatus| status.lag_commits > 0;
    let status = tokio::time::timeout(WAIT, status.wait_for(behind)).await;
    let status = status.unwrap().unwrap().clone();
    assert_eq!(
        (status.state, status.ready),
        (ProjectorState::Stalled, false)
    );
    assert_eq!(status.applied, position);
    let reason = status.stalled.unwrap().reason;
    assert!(reason.contains("v2.1 is live"), "{reason}");
    assert!(status.behind_since.is_some());
    assert!(!world.watermark.reached(next, Duration::ZERO).await);
    let because = world.watermark.serving().stands_still_because();
    assert_eq!(because.as_deref(), Some(reason.as_str()));
    // Its own, which it has kept up to date meanwhile, can be gone back to.
    ask(&old, Verb::Rollback).await;
    world.wait_for(next).await;
    assert_eq!(world.served("a").await, Some((7, 3)));
    let follows = |status: &ProjectorStatus| status.state == ProjectorState::Following;
    let mut followed = old.watch();
    let followed = tokio::time::timeout(WAIT, followed.wait_for(follows)).await;
    drop(followed.unwrap());
    assert_eq!(world.watermark.serving().stands_still_because(), None);
    old.stop().await;
    arbiter.stop();
}

/// The next version of the statements: without the names of owners, whom it does not follow.
struct Nameless;

impl View for Nameless {
    const NAME: &'static str = Statements::NAME;
    const VERSION: u32 = 2;
    const AGGREGATES: &'static [&'static str] = &["account"];
    type Document = Statement;
    type Part = ();

    fn query() -> Query {
        Statements::query()
    }

    fn route(event: &Recorded, _: &Parts<()>) -> Result<Route, ApplyError> {
        Ok(Route::id(event.id.as_str()))
    }

    fn apply(
        id: &str,
        document: Option<Statement>,
        event: &Recorded,
        _: &Parts<()>,
    ) -> Result<Change<Statement>, ApplyError> {
        Statements::apply(id, document, event, &Parts::default())
    }
}

#[actix::test]
async fn a_new_version_takes_over_that_does_not_follow_what_came_last() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    world.commit::<Account>("a", &[deposited(5)]).await;
    let last = world.commit::<Owner>("o", &[named("Kim")]).await;
    let old = kept(world.options(), &arbiter);
    world.wait_for(last).await;
    old.stop().await;

    let mut options = world.options();
    options.view = RegisteredView::of::<Nameless>();
    options.generation = Generation::first(2);
    let new = kept(options, &arbiter);
    world
        .until("it takes over", |all| live(all) == "v2.1")
        .await;
    assert!(world.progress().position >= last);
    let position = world.commit::<Account>("a", &[deposited(1)]).await;
    world.wait_for(position).await;
    assert_eq!(world.served("a").await, Some((6, 2)));
    new.stop().await;
    arbiter.stop();
}

#[actix::test]
async fn verifying_finds_what_differs_and_nothing_else() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    let view = kept(world.options(), &arbiter);
    let mut last = 0;
    for number in 0..40_i64 {
        let id = format!("a{number}");
        world
            .commit::<Account>(&id, &[opened(&format!("o{}", number % 3)), deposited(1)])
            .await;
        last = world
            .commit::<Owner>(&format!("o{}", number % 3), &[named(&format!("n{number}"))])
            .await;
    }
    world
        .commit::<Account>("a0", &[AccountEvent::Refused {}])
        .await;
    world
        .commit::<Account>("a1", &[AccountEvent::Closed {}])
        .await;
    last = world
        .commit::<Account>("a2", &[deposited(1)])
        .await
        .max(last);
    world.wait_for(last).await;
    let ReplyBody::Verified(verified) = ask(&view, Verb::Verify).await else {
        panic!("it was not verified");
    };
    assert_eq!(
        (verified.checked, verified.different),
        (39, 0),
        "{verified:?}"
    );
    // Somebody has written into the store.
    let tables = world.tables();
    let fence = world.store.checkpoint(&tables).await.unwrap();
    let mut next = fence.clone();
    next.revision += 1;
    let mut wrong = serde_json::to_value(world.document("a3").await.unwrap()).unwrap();
    wrong["total"] = 1_000.into();
    let change = |id: &str, exists, document| crate::read_model::exchange::DocumentChange {
        id: id.to_owned(),
        position: last,
        exists,
        before: None,
        document,
    };
    let changes = Changes {
        documents: vec![
            change("a3", true, Some(wrong.clone())),
            change("a4", true, None),
            change("a1", false, Some(wrong)),
        ],
        ..Changes::default()
    };
    world
        .store
        .write(&tables, &fence, next, changes)
        .await
        .unwrap();
    let ReplyBody::Verified(verified) = ask(&view, Verb::Verify).await else {
        panic!("it was not verified");
    };
    let ids: Vec<_> = verified.differences.iter().map(|d| d.id.as_str()).collect();
    assert_eq!(ids, ["a1", "a3", "a4"]);
    assert_eq!(verified.different, 3);
    view.stop().await;
    arbiter.stop();
}
