//! A filled generation takes over only with all that the live one has; what is withdrawn is in none that can
//! be gone back to; and a view is kept although its projector breaks down.

use super::{
    WAIT, named,
    rebuild::{kept, live},
    world::{
        Account, AccountEvent, FoldedBy, OtherFold, Owner, Statement, World, deposited, opened,
    },
};
use crate::{
    aggregate::{Aggregate, Context, Decision},
    projection::{
        Ask, ControlError, ParkedPage, ProjectorStatus, RegisteredView, ReplyBody, Verb, ViewHandle,
    },
    read_model::{Generation, GenerationState, schema::ViewTables},
    recorded::Recorded,
    view::{ApplyError, Change, Parts, Query, Route, View},
};
use actix::Arbiter;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// The next version of the statements, with a defect.
struct Defective;

impl OtherFold for Defective {
    const VERSION: u32 = 2;

    fn apply(
        _: &str,
        _: Option<Statement>,
        event: &Recorded,
        _: &Parts<String>,
    ) -> Result<Change<Statement>, ApplyError> {
        assert_ne!(event.event_type, "account.deposited.v1", "a defect");
        Ok(Change::Keep)
    }
}

async fn asks(view: &ViewHandle, verb: Verb, ask: Ask) -> Result<ReplyBody, ControlError> {
    view.shared().work(verb, ask, &|_, _| {}).await
}

async fn waiting(view: &ViewHandle) -> Option<String> {
    let status = asks(view, Verb::Status, Ask::default()).await.unwrap();
    let ReplyBody::Status(report) = status else {
        panic!("{status:?}");
    };
    report.generations.into_iter().find_map(|one| one.waiting)
}

async fn until_waiting(view: &ViewHandle) -> String {
    let started = Instant::now();
    loop {
        if let Some(reason) = waiting(view).await {
            return reason;
        }
        assert!(started.elapsed() < 3 * WAIT);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix::test]
async fn a_version_that_parks_what_the_live_one_has_applied_waits_for_an_operator() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    world.commit::<Owner>("o", &[named("n")]).await;
    for id in ["a", "b"] {
        world
            .commit::<Account>(id, &[opened("o"), deposited(1)])
            .await;
    }
    let refused = world
        .commit::<Account>("c", &[AccountEvent::Refused {}])
        .await;
    let old = kept(world.options(), &arbiter);
    assert!(world.watermark.reached(refused, 3 * WAIT).await);
    old.stop().await;

    let mut options = world.options();
    options.view = RegisteredView::of::<FoldedBy<Defective>>();
    options.generation = Generation::first(2);
    let new = kept(options, &arbiter);
    let reason = until_waiting(&new).await;
    // The one that is parked in both is no reason.
    assert!(reason.contains("has parked 2 aggregates"), "{reason}");
    assert_eq!(live(&world.generations().await), "v1");
    assert_eq!(world.served("a").await, Some((1, 1)));
    assert!(new.take_over_waits());
    // It says so where it is looked for.
    let told = |status: &ProjectorStatus| {
        let stalled = status.stalled.as_ref();
        stalled.is_some_and(|stalled| stalled.reason.contains("--accept-parked"))
    };
    let mut status = new.watch();
    let told = tokio::time::timeout(WAIT, status.wait_for(told)).await;
    drop(told.unwrap().unwrap());
    let refused = asks(&new, Verb::TakeOver, Ask::default()).await;
    assert!(
        matches!(refused, Err(ControlError::Waits(_))),
        "{refused:?}"
    );
    // What it has parked can be looked at.
    let building = world.generations().await.find(GenerationState::Building);
    let about = Ask {
        generation: building,
        ..Ask::default()
    };
    let ReplyBody::Parked(page) = asks(&new, Verb::Parked, about).await.unwrap() else {
        panic!("no page");
    };
    let ids: Vec<_> = page.items.iter().map(|parked| parked.id.as_str()).collect();
    assert_eq!(ids, ["a", "b"]);
    let accepted = Ask {
        accept_parked: true,
        ..Ask::default()
    };
    asks(&new, Verb::TakeOver, accepted).await.unwrap();
    world
        .until("it takes over", |all| live(all) == "v2.1")
        .await;
    new.stop().await;
    arbiter.stop();
}

#[actix::test]
async fn what_was_left_out_is_left_out_by_the_next_generation() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    let events = [deposited(1), AccountEvent::Refused {}, deposited(2)];
    let last = world.commit::<Account>("a", &events).await;
    let view = kept(world.options(), &arbiter);
    assert!(world.watermark.reached(last, 3 * WAIT).await);
    let one = Ask {
        aggregate: Some("account".to_owned()),
        id: Some("a".to_owned()),
        ..Ask::default()
    };
    asks(&view, Verb::Skip, one).await.unwrap();
    assert_eq!(world.served("a").await, Some((3, 2)));
    asks(&view, Verb::Rebuild, Ask::default()).await.unwrap();
    world
        .until("it takes over", |all| live(all) == "v1.1")
        .await;
    assert_eq!(world.served("a").await, Some((3, 2)));
    assert_eq!(view.status().parked, 0);
    view.stop().await;
    arbiter.stop();
}

/// Left out in the live generation only after the one that is being filled has parked it.
#[actix::test]
async fn what_is_left_out_while_a_generation_is_filled_no_longer_keeps_it_waiting() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    let events = [deposited(1), AccountEvent::Refused {}, deposited(2)];
    let last = world.commit::<Account>("a", &events).await;
    let view = kept(world.options(), &arbiter);
    assert!(world.watermark.reached(last, 3 * WAIT).await);
    // Both park it; then the live one goes on.
    asks(&view, Verb::Rebuild, Ask::default()).await.unwrap();
    let one = Ask {
        aggregate: Some("account".to_owned()),
        id: Some("a".to_owned()),
        ..Ask::default()
    };
    asks(&view, Verb::Skip, one).await.unwrap();
    world
        .until("it takes over", |all| live(all) == "v1.1")
        .await;
    assert_eq!(world.served("a").await, Some((3, 2)));
    let tables = world.watermark.serving().live().unwrap();
    assert!(world.store.parked(&tables).await.unwrap().is_empty());
    view.stop().await;
    arbiter.stop();
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Person;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum PersonEvent {
    #[serde(rename = "person.named.v1")]
    Named { name: String },
    #[serde(rename = "person.withdrawn.v1")]
    Withdrawn {},
}

impl Aggregate for Person {
    const NAME: &'static str = "person";
    type Command = super::world::AccountCommand;
    type Event = PersonEvent;
    type Rejection = super::world::Never;
    fn decide(
        &self,
        _: Self::Command,
        _: &Context,
    ) -> Result<Decision<PersonEvent>, Self::Rejection> {
        Ok(Decision::nothing())
    }
    fn evolve(&mut self, _: &PersonEvent) {}
}

/// The names of persons, in a version.
struct Names<const V: u32>;

impl<const V: u32> View for Names<V> {
    const NAME: &'static str = "names";
    const VERSION: u32 = V;
    const AGGREGATES: &'static [&'static str] = &[Person::NAME];
    type Document = Statement;
    type Part = ();

    fn query() -> Query {
        Query::default()
    }

    fn erases(event: &Recorded) -> bool {
        event.event_type == "person.withdrawn.v1"
    }

    fn route(event: &Recorded, _: &Parts<()>) -> Result<Route, ApplyError> {
        Ok(Route::id(event.id.as_str()))
    }

    fn apply(
        _: &str,
        _: Option<Statement>,
        event: &Recorded,
        _: &Parts<()>,
    ) -> Result<Change<Statement>, ApplyError> {
        Ok(match event.event::<Person>()? {
            PersonEvent::Named { name } => Change::Put(Statement {
                owner: None,
                owner_name: Some(name),
                total: 0,
                deposits: 0,
            }),
            PersonEvent::Withdrawn {} => Change::Delete,
        })
    }
}

#[actix::test]
async fn what_was_withdrawn_cannot_be_gone_back_to() {
    withdrawn_after(1).await;
}

#[actix::test]
async fn what_is_withdrawn_after_going_back_is_not_shown_any_more_either() {
    withdrawn_after(0).await;
}

/// Somebody withdraws while the older version is kept to be gone back to, or, one step earlier, while it is what is
/// served.
async fn withdrawn_after(steps: usize) {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    let name = |name: &str| PersonEvent::Named {
        name: name.to_owned(),
    };
    world
        .commit::<Person>("early", &[name("x"), PersonEvent::Withdrawn {}])
        .await;
    let last = world.commit::<Person>("p", &[name("Kim")]).await;
    let options = |view: RegisteredView| {
        let mut options = world.options();
        options.generation = Generation::first(view.description().version);
        options.view = view;
        options
    };
    let generations = async || world.store.generations("names").await.unwrap_or_default();
    let until = async |what: &str| {
        let started = Instant::now();
        loop {
            let all = generations().await.all;
            let shown: Vec<_> = all.iter().map(|(one, _)| one.to_string()).collect();
            if shown.join(" ") == what {
                return;
            }
            assert!(started.elapsed() < 3 * WAIT, "{all:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let old = kept(options(RegisteredView::of::<Names<1>>()), &arbiter);
    assert!(world.watermark.reached(last, 3 * WAIT).await);
    old.stop().await;
    let new = kept(options(RegisteredView::of::<Names<2>>()), &arbiter);
    let started = Instant::now();
    while live(&generations().await) != "v2.1" {
        assert!(started.elapsed() < 3 * WAIT);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What was withdrawn before is in neither, so the old one stays, and can be gone back to.
    asks(&new, Verb::Rollback, Ask::default()).await.unwrap();
    for _ in 0..steps {
        asks(&new, Verb::Rollback, Ask::default()).await.unwrap();
    }
    until("v1 v2.1").await;
    let withdrawn = world
        .commit::<Person>("p", &[PersonEvent::Withdrawn {}])
        .await;
    assert!(world.watermark.reached(withdrawn, 3 * WAIT).await);
    assert!(asks(&new, Verb::Rollback, Ask::default()).await.is_err());
    // All that it had goes.
    until("v2.1").await;
    assert_eq!(live(&generations().await), "v2.1");
    let view = RegisteredView::of::<Names<1>>();
    let tables = ViewTables::generation(view.description(), Generation::first(1)).unwrap();
    assert!(world.store.get(&tables, "p").await.ok().flatten().is_none());
    new.stop().await;
    arbiter.stop();
}

#[actix::test]
async fn a_projector_that_breaks_down_is_replaced() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    let first = world.commit::<Account>("a", &[deposited(1)]).await;
    let view = kept(world.options(), &arbiter);
    assert!(world.watermark.reached(first, 3 * WAIT).await);
    view.shared().break_down();
    let second = world.commit::<Account>("a", &[deposited(2)]).await;
    assert!(world.watermark.reached(second, 3 * WAIT).await);
    let mut status = view.watch();
    let follows = status.wait_for(|status| status.applied == second && status.ready);
    tokio::time::timeout(3 * WAIT, follows)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(world.served("a").await, Some((3, 2)));
    view.stop().await;
    arbiter.stop();
}

#[actix::test]
async fn what_is_parked_is_shown_and_settled_page_by_page() {
    let world = World::new().await;
    let arbiter = Arbiter::new();
    let view = kept(world.options(), &arbiter);
    let mut last = 0;
    for number in 0..30 {
        let id = format!("a{number:02}");
        world.commit::<Account>(&id, &[deposited(1)]).await;
        world
            .commit::<Account>(&id, &[AccountEvent::Refused {}])
            .await;
        last = world.commit::<Account>(&id, &[deposited(2)]).await;
    }
    assert!(world.watermark.reached(last, 3 * WAIT).await);
    let pages = async |mut ask: Ask| {
        let mut pages: Vec<ParkedPage> = Vec::new();
        loop {
            let ReplyBody::Parked(page) = asks(&view, Verb::Parked, ask.clone()).await.unwrap()
            else {
                panic!("no page");
            };
            ask.after.clone_from(&page.next);
            pages.push(page);
            if ask.after.is_none() {
                return pages;
            }
        }
    };
    let all = pages(Ask::default()).await;
    // By bytes, which are few in tests.
    assert!(all.len() > 1);
    let items = all.iter().flat_map(|page| &page.items);
    let positions: Vec<_> = items.map(|parked| (&parked.id, parked.position)).collect();
    assert!(positions.is_sorted());
    assert_eq!(positions.len(), 60);
    let few = Ask {
        limit: Some(7),
        ..Ask::default()
    };
    assert_eq!(pages(few).await.len(), 9);
    let one = Ask {
        aggregate: Some("account".to_owned()),
        id: Some("a07".to_owned()),
        ..Ask::default()
    };
    let one = pages(one).await;
    assert_eq!(one[0].items.len(), 2);
    assert_eq!(one[0].items[0].documents, ["a07"]);
    assert_eq!(one[0].items[1].events[0]["data"]["amount"], 2);

    assert!(asks(&view, Verb::Skip, Ask::default()).await.is_err());
    let every = Ask {
        all: true,
        ..Ask::default()
    };
    let again = asks(&view, Verb::Retry, every.clone()).await.unwrap();
    let ReplyBody::Settled(settled) = again else {
        panic!("{again:?}");
    };
    assert_eq!((settled.aggregates, settled.still_parked), (30, 30));
    assert_eq!(settled.left.len(), 30);
    let skipped = asks(&view, Verb::Skip, every).await.unwrap();
    let ReplyBody::Settled(settled) = skipped else {
        panic!("{skipped:?}");
    };
    assert_eq!((settled.applied, settled.still_parked), (60, 0));
    assert_eq!(world.served("a29").await, Some((3, 2)));
    view.stop().await;
    arbiter.stop();
}
