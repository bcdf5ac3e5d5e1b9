//! A transaction is bounded: what does not fit is left for the next one, within a commit too, and nothing
//! is applied twice or never, wherever a projector ends.

use super::{
    WAIT,
    world::{Account, AccountEvent, Owner, OwnerEvent, World, deposited, opened, reopen_store},
};
use crate::{
    projection::{
        Limits, ProjectorHandle, ProjectorOptions,
        projector::{Projector, Step, Try},
    },
    read_model::{Applied, exchange::Parked, schema::ViewTables, store::parked::Of},
    recorded::Recorded,
    view::{ApplyError, Change, PartKey, Parts, Query, Route, View},
};
use actix::Arbiter;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

/// How often each of an owner's accounts was renamed, which shows every time too many or too few.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
struct Card {
    owner: String,
    names: Vec<String>,
    total: i64,
}

struct Cards;

impl View for Cards {
    const NAME: &'static str = "card";
    const VERSION: u32 = 1;
    const AGGREGATES: &'static [&'static str] = &["account", "owner"];
    type Document = Card;
    type Part = u64;

    fn query() -> Query {
        Query {
            routes: vec![vec!["owner"]],
            ..Query::default()
        }
    }

    /// Returns how often an owner was named.
    fn remember(part: Option<u64>, event: &Recorded) -> Result<Change<u64>, ApplyError> {
        Ok(match event.aggregate.as_str() {
            "owner" => Change::Put(part.unwrap_or(0) + 1),
            _ => Change::Keep,
        })
    }

    fn route(event: &Recorded, _: &Parts<u64>) -> Result<Route, ApplyError> {
        Ok(match event.aggregate.as_str() {
            "owner" => Route::when("owner", &event.id),
            _ => Route::id(&event.id),
        })
    }

    fn apply(
        id: &str,
        document: Option<Card>,
        event: &Recorded,
        parts: &Parts<u64>,
    ) -> Result<Change<Card>, ApplyError> {
        let mut card = document.unwrap_or_default();
        if event.aggregate == "owner" {
            let OwnerEvent::Named { name } = event.event::<Owner>()?;
            if name == "bad" && id == "a-11" {
                return Err(ApplyError::refused("not this one"));
            }
            // The very field that the cards are found by.
            if let Some(heir) = name.strip_prefix("to ") {
                heir.clone_into(&mut card.owner);
            }
            let times = parts.get("owner", &event.id).copied().unwrap_or(0);
            card.names.push(format!("{name} {times}"));
            return Ok(Change::Put(card));
        }
        match event.event::<Account>()? {
            AccountEvent::Opened { owner } => card.owner = owner,
            AccountEvent::Deposited { amount } => card.total += amount,
            AccountEvent::Closed {} => return Ok(Change::Delete),
            _ => return Ok(Change::Keep),
        }
        Ok(Change::Put(card))
    }
}

fn named(name: &str) -> OwnerEvent {
    OwnerEvent::Named {
        name: name.to_owned(),
    }
}

const CARDS: usize = 23;

impl World {
    fn cards(&self, rows: usize) -> ProjectorOptions {
        ProjectorOptions {
            limits: Limits {
                rows,
                ..Limits::USUAL
            },
            ..self.options_of::<Cards>()
        }
    }

    fn card_projector(&self, rows: usize) -> Projector {
        Projector::new(self.cards(rows), self.status.clone()).unwrap()
    }

    /// Cards of one owner, and one of another.
    async fn open_cards(&self) {
        for number in 0..CARDS {
            let id = format!("a-{number:02}");
            self.commit::<Account>(&id, &[opened("o")]).await;
        }
        self.commit::<Account>("other", &[opened("p")]).await;
    }

    async fn card(&self, id: &str) -> Option<Card> {
        let tables = ViewTables::of(self.cards(1).view.description()).unwrap();
        let row = self.store.get(&tables, id).await.unwrap();
        row.map(|row| serde_json::from_value(row.document).unwrap())
    }

    async fn all_cards(&self) -> Vec<Card> {
        let mut cards = Vec::new();
        for number in 0..CARDS {
            cards.extend(self.card(&format!("a-{number:02}")).await);
        }
        cards
    }

    async fn assert_named(&self, names: &[&str]) {
        let cards = self.all_cards().await;
        assert_eq!(cards.len(), CARDS);
        for (number, card) in cards.iter().enumerate() {
            assert_eq!(card.names, names, "a-{number:02}");
        }
        assert_eq!(self.card("other").await.unwrap().names, [""; 0]);
    }
}

/// Tries all that is parked of an aggregate again, the first of it as said.
async fn retry_all(projector: &mut Projector, aggregate: &PartKey, how: Try) -> (usize, usize) {
    let mut tried = projector.retry(aggregate, how).await.unwrap();
    let mut applied = tried.applied;
    while tried.more {
        tried = projector.retry(aggregate, Try::Again).await.unwrap();
        applied += tried.applied;
    }
    (applied, tried.parked)
}

/// One step; whether there was something to do.
async fn step(projector: &mut Projector) -> Step {
    let never = CancellationToken::new();
    let step = projector.step(Duration::from_millis(300), &never);
    step.await.unwrap()
}

#[tokio::test]
async fn one_event_that_touches_many_documents_takes_several_transactions() {
    let world = World::new().await;
    world.open_cards().await;
    let mut projector = world.card_projector(5);
    world.drain(&mut projector).await;
    let before = world.progress().position;
    let mut announced = world.log.client().subscribe("applied.card").await.unwrap();
    let last = world.commit::<Owner>("o", &[named("a")]).await;
    let mut steps = 0;
    while world.progress().position < last {
        // Not before all of it is applied.
        assert_eq!(world.progress().position, before);
        assert!(matches!(step(&mut projector).await, Step::Applied(_)));
        steps += 1;
        assert!(steps < 10, "it never ends");
    }
    assert!(steps >= 5, "{steps} transactions");
    world.assert_named(&["a 1"]).await;
    let mut ids = Vec::new();
    for page in 0..steps {
        let message = announced.next().await.unwrap();
        let applied: Applied = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!((applied.previous, applied.page), (before, Some(page)));
        let whole = page == steps - 1;
        assert_eq!(applied.position, if whole { last } else { before });
        assert!(applied.ids.len() <= 5);
        ids.extend(applied.ids);
    }
    assert_eq!(ids.len(), CARDS);
    ids.dedup();
    assert_eq!(ids.len(), CARDS);
}

#[tokio::test]
async fn a_projector_that_ends_within_an_event_goes_on_where_it_was() {
    for shared in [false, true] {
        let mut world = World::new().await;
        let url = world.store_url();
        if !shared {
            world.store = reopen_store(&url).await;
        }
        world.open_cards().await;
        world.drain(&mut world.card_projector(100)).await;
        // Two of one commit, and one behind it that comes in the same batch.
        let first = world.commit::<Owner>("o", &[named("a"), named("b")]).await;
        world.commit::<Account>("a-03", &[deposited(5)]).await;
        let last = world.commit::<Owner>("o", &[named("c")]).await;
        let mut ends = 0;
        while world.progress().position < last {
            let mut projector = world.card_projector(4);
            let batch = projector.fetch(WAIT).await.unwrap();
            let written = projector.apply(&batch).await.unwrap();
            if ends % 3 > 0 {
                projector.acknowledge(&written).await.unwrap();
            }
            if ends % 3 > 1 {
                projector.announce(&written).await.unwrap();
            }
            assert!(world.progress().position < first || ends > 8);
            ends += 1;
            assert!(ends < 60, "it never ends");
        }
        assert!(ends >= 3 * CARDS / 4, "{ends} transactions");
        world.assert_named(&["a 1", "b 2", "c 3"]).await;
        assert_eq!(world.card("a-03").await.unwrap().total, 5);
    }
}

#[tokio::test]
async fn an_event_may_change_the_very_field_that_its_documents_are_found_by() {
    let world = World::new().await;
    world.open_cards().await;
    let mut projector = world.card_projector(4);
    world.drain(&mut projector).await;
    world
        .commit::<Owner>("o", &[named("to q"), named("never")])
        .await;
    world.commit::<Account>("a-03", &[deposited(1)]).await;
    world.commit::<Owner>("q", &[named("to o")]).await;
    world.commit::<Owner>("o", &[named("back")]).await;
    for _ in 0..2 {
        step(&mut projector).await;
        projector.close();
    }
    world.drain(&mut projector).await;
    world.assert_named(&["to q 1", "to o 1", "back 3"]).await;
    assert_eq!(world.card("a-03").await.unwrap().total, 1);
}

#[tokio::test]
async fn an_event_comes_after_those_before_it_in_the_same_batch() {
    let world = World::new().await;
    world.open_cards().await;
    world.drain(&mut world.card_projector(100)).await;
    let mut projector = world.card_projector(4);
    // All in one batch: one that goes away, one that comes, one that changes hands before and after.
    world
        .commit::<Account>("a-01", &[AccountEvent::Closed {}])
        .await;
    world.commit::<Account>("new", &[opened("o")]).await;
    world.commit::<Account>("other", &[opened("o")]).await;
    world.commit::<Owner>("o", &[named("a")]).await;
    world.commit::<Account>("a-02", &[opened("p")]).await;
    world.commit::<Account>("a-01", &[opened("o")]).await;
    world.commit::<Owner>("o", &[named("b")]).await;
    world.drain(&mut projector).await;
    let names = async |id: &str| world.card(id).await.unwrap().names;
    assert_eq!(names("a-00").await, ["a 1", "b 2"]);
    assert_eq!(names("a-01").await, ["b 2"]);
    assert_eq!(names("a-02").await, ["a 1"]);
    assert_eq!(names("new").await, ["a 1", "b 2"]);
    assert_eq!(names("other").await, ["a 1", "b 2"]);
}

#[tokio::test]
async fn a_transaction_is_bounded_by_bytes_too() {
    let world = World::new().await;
    world.open_cards().await;
    let mut projector = Projector::new(
        ProjectorOptions {
            limits: Limits {
                bytes: 500,
                ..Limits::USUAL
            },
            ..world.cards(100)
        },
        world.status.clone(),
    )
    .unwrap();
    let mut steps = 0;
    while let Step::Applied(_) = step(&mut projector).await {
        steps += 1;
    }
    assert!(steps > 1, "{steps} transactions");
    let last = world.commit::<Owner>("o", &[named(&"x".repeat(200))]).await;
    steps = 0;
    while world.progress().position < last {
        step(&mut projector).await;
        steps += 1;
    }
    assert!(steps >= CARDS / 2, "{steps} transactions");
    assert!(
        world
            .all_cards()
            .await
            .iter()
            .all(|card| card.names.len() == 1)
    );
    // A document that alone is larger than the bound is written all the same.
    world.commit::<Owner>("p", &[named(&"x".repeat(900))]).await;
    world.drain(&mut projector).await;
    assert_eq!(world.card("other").await.unwrap().names.len(), 1);
}

#[tokio::test]
async fn what_fails_in_the_middle_of_its_documents_is_parked_from_there_on() {
    let world = World::new().await;
    world.open_cards().await;
    let mut projector = world.card_projector(4);
    world.drain(&mut projector).await;
    world.commit::<Owner>("o", &[named("good")]).await;
    world.commit::<Owner>("o", &[named("bad")]).await;
    world.commit::<Owner>("o", &[named("later")]).await;
    let last = world.commit::<Account>("a-20", &[deposited(1)]).await;
    world.drain(&mut projector).await;
    assert_eq!(world.progress().position, last);
    assert_eq!(world.card("a-20").await.unwrap().total, 1);
    let names = async |id: &str| world.card(id).await.unwrap().names;
    assert_eq!(names("a-00").await, ["good 1", "bad 2"]);
    assert_eq!(names("a-11").await, ["good 1"]);
    assert_eq!(names("a-20").await, ["good 1"]);
    let owner = ("owner".to_owned(), "o".to_owned());
    // It fails at the same document, and nothing is applied twice.
    let how = Try::Again;
    assert_eq!(retry_all(&mut projector, &owner, how).await, (0, 2));
    assert_eq!(names("a-00").await, ["good 1", "bad 2"]);
    // Left out, it is left out for the rest of its documents.
    let how = Try::WithoutFirst;
    assert_eq!(retry_all(&mut projector, &owner, how).await, (2, 0));
    assert_eq!(names("a-00").await, ["good 1", "bad 2", "later 3"]);
    assert_eq!(names("a-11").await, ["good 1", "later 3"]);
    assert_eq!(names("a-20").await, ["good 1", "later 3"]);
    world.commit::<Owner>("o", &[named("last")]).await;
    world.drain(&mut projector).await;
    assert_eq!(names("a-22").await, ["good 1", "later 3", "last 4"]);
}

/// Runs a projector until the view has come to a position.
async fn run_to(world: &World, options: ProjectorOptions, position: u64) {
    let arbiter = Arbiter::new();
    let projector = ProjectorHandle::start(options, &arbiter.handle()).unwrap();
    let reached = world.watermark.reached(position, 6 * WAIT).await;
    let status = projector.status();
    projector.stop().await;
    assert!(reached, "{status:?}");
}

impl World {
    /// Does something to the store by hand.
    async fn by_hand(&self, sql: &str) {
        let tables = ViewTables::of(self.cards(1).view.description()).unwrap();
        let sql = sql.replace("PARTS", tables.parts.as_str());
        let sql = sql.replace("CARDS", tables.documents.as_str());
        self.store.by_hand(&sql).await.unwrap();
    }

    async fn parked_cards(&self) -> Vec<Parked> {
        let tables = ViewTables::of(self.cards(1).view.description()).unwrap();
        let all = self.store.parked_page(&tables, Of::default(), None, 100);
        all.await.unwrap()
    }
}

#[actix::test]
async fn what_stands_in_the_place_of_a_document_sets_its_events_aside_and_no_others() {
    let world = World::new().await;
    world.open_cards().await;
    world.drain(&mut world.card_projector(100)).await;
    world
        .by_hand("CREATE CARDS:foreign SET note = 'by hand'; DELETE CARDS:`a-05`;")
        .await;
    world.commit::<Account>("foreign", &[opened("o")]).await;
    world.commit::<Account>("foreign", &[deposited(1)]).await;
    world.commit::<Account>("a-05", &[deposited(2)]).await;
    let last = world.commit::<Account>("a-06", &[deposited(3)]).await;
    run_to(&world, world.cards(100), last).await;
    let parked = world.parked_cards().await;
    assert_eq!(parked.len(), 2);
    assert!(
        parked[0].reason.contains("in the place of the document"),
        "{parked:?}"
    );
    // What was deleted is begun anew: it says so where the view cannot do that.
    assert_eq!(world.card("a-05").await.unwrap().total, 2);
    assert_eq!(world.card("a-06").await.unwrap().total, 3);
    // Once the place is free, it is applied.
    world.by_hand("DELETE CARDS:foreign;").await;
    let foreign = ("account".to_owned(), "foreign".to_owned());
    let mut projector = world.card_projector(100);
    let how = Try::Again;
    assert_eq!(retry_all(&mut projector, &foreign, how).await, (2, 0));
    assert_eq!(world.card("foreign").await.unwrap().total, 1);
}

#[actix::test]
async fn a_record_that_came_under_a_running_projector_is_noticed() {
    let world = World::new().await;
    let mut options = world.cards(100);
    options.replica = Some("r".to_owned());
    let arbiter = Arbiter::new();
    let projector = ProjectorHandle::start(options, &arbiter.handle()).unwrap();
    let first = world.commit::<Account>("a-00", &[opened("o")]).await;
    assert!(world.watermark.reached(first, WAIT).await);
    // It knows that nothing else was ever written.
    world
        .by_hand("CREATE CARDS:`a-01` SET note = 'by hand';")
        .await;
    world.commit::<Account>("a-01", &[opened("o")]).await;
    let last = world.commit::<Account>("a-02", &[opened("o")]).await;
    assert!(world.watermark.reached(last, 6 * WAIT).await);
    projector.stop().await;
    assert_eq!(world.parked_cards().await.len(), 1);
    assert!(world.card("a-02").await.is_some());
}

#[actix::test]
async fn what_the_store_refuses_is_halved_down_to_the_one_event_which_is_set_aside() {
    let world = World::new().await;
    world.open_cards().await;
    world.drain(&mut world.card_projector(100)).await;
    world
        .by_hand("DEFINE FIELD doc.total ON CARDS TYPE int ASSERT $value < 1000;")
        .await;
    for number in 0..CARDS {
        let id = format!("a-{number:02}");
        let amount = if number == 9 { 5_000 } else { 1 };
        let commit = [deposited(7), deposited(amount), deposited(2)];
        world.commit::<Account>(&id, &commit).await;
    }
    let last = world.commit::<Account>("a-09", &[deposited(4)]).await;
    run_to(&world, world.cards(100), last).await;
    for (number, card) in world.all_cards().await.iter().enumerate() {
        assert_eq!(
            card.total,
            if number == 9 { 7 } else { 10 },
            "a-{number:02}"
        );
    }
    let parked = world.parked_cards().await;
    assert_eq!(parked.len(), 2);
    assert_eq!((parked[0].from_event, &*parked[0].aggregate.1), (1, "a-09"));
    assert!(parked[0].reason.contains("cannot be written"), "{parked:?}");
    assert!(parked[0].reason.contains("5007"), "{parked:?}");
}

#[actix::test]
async fn of_an_event_with_many_documents_the_one_that_the_store_refuses_is_found() {
    let world = World::new().await;
    world.open_cards().await;
    world.commit::<Account>("a-13", &[deposited(13)]).await;
    world.drain(&mut world.card_projector(100)).await;
    world
        .by_hand(
            "DEFINE FIELD doc ON CARDS TYPE any \
             ASSERT $value.total != 13 OR array::len($value.names) < 2;",
        )
        .await;
    world.commit::<Owner>("o", &[named("a")]).await;
    world.commit::<Owner>("o", &[named("b")]).await;
    let last = world.commit::<Account>("other", &[deposited(1)]).await;
    run_to(&world, world.cards(8), last).await;
    for (number, card) in world.all_cards().await.iter().enumerate() {
        let names = if number < 13 { 2 } else { 1 };
        assert_eq!(card.names.len(), names, "a-{number:02}");
    }
    let parked = world.parked_cards().await;
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].after.as_deref(), Some("a-12"));
    // Once the store takes it, the rest of its documents follow, and none twice.
    world.by_hand("REMOVE FIELD doc ON CARDS;").await;
    let owner = ("owner".to_owned(), "o".to_owned());
    let mut projector = world.card_projector(4);
    let how = Try::Again;
    assert_eq!(retry_all(&mut projector, &owner, how).await, (1, 0));
    world.assert_named(&["a 1", "b 2"]).await;
}

#[actix::test]
async fn a_part_that_is_none_sets_its_aggregate_aside() {
    let world = World::new().await;
    world.open_cards().await;
    world.drain(&mut world.card_projector(100)).await;
    world
        .by_hand("CREATE PARTS:['owner', 'o'] SET note = 'by hand';")
        .await;
    world.commit::<Account>("a-00", &[deposited(1)]).await;
    world.commit::<Owner>("o", &[named("a")]).await;
    world.commit::<Owner>("p", &[named("b")]).await;
    let last = world.commit::<Account>("a-00", &[deposited(1)]).await;
    run_to(&world, world.cards(100), last).await;
    assert_eq!(world.card("a-00").await.unwrap().total, 2);
    assert_eq!(world.card("other").await.unwrap().names, ["b 1"]);
    let parked = world.parked_cards().await;
    assert_eq!(parked.len(), 1);
    assert!(parked[0].reason.contains("part of owner o"), "{parked:?}");
}

#[actix::test]
async fn a_store_that_takes_nothing_sets_nothing_aside() {
    let world = World::new().await;
    world.open_cards().await;
    world.drain(&mut world.card_projector(100)).await;
    world
        .by_hand("DEFINE FIELD position ON checkpoint TYPE int ASSERT $value < 0;")
        .await;
    let mut last = 0;
    for _ in 0..4 {
        last = world.commit::<Account>("a-00", &[deposited(1)]).await;
    }
    let arbiter = Arbiter::new();
    let projector = ProjectorHandle::start(world.cards(100), &arbiter.handle()).unwrap();
    // It goes on trying.
    let mut status = projector.watch();
    let mut stalled = 0;
    while stalled < 10 {
        let changed = tokio::time::timeout(6 * WAIT, status.changed());
        changed.await.expect("it tries").unwrap();
        stalled += usize::from(status.borrow().stalled.is_some());
    }
    assert!(world.parked_cards().await.is_empty());
    world.by_hand("REMOVE FIELD position ON checkpoint;").await;
    assert!(world.watermark.reached(last, 6 * WAIT).await);
    projector.stop().await;
    assert_eq!(world.card("a-00").await.unwrap().total, 4);
    assert!(world.parked_cards().await.is_empty());
}
