//! However much is parked, a batch reads nothing of it, and it is tried again a part after the other.

use super::{
    named,
    world::{Account, AccountEvent, Owner, Statement, Statements, World, deposited, opened},
};
use crate::{
    aggregate::{Aggregate, Context, Decision},
    projection::{ProjectorOptions, Retried, Try, projector::Projector},
    read_model::store::parked::Of,
    recorded::Recorded,
    view::{ApplyError, Change, PartKey, Parts, Query, Route, View},
};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

fn account(id: &str) -> PartKey {
    ("account".to_owned(), id.to_owned())
}

/// An account of a later program.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct LaterAccount;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum LaterEvent {
    #[serde(rename = "account.deposited.v1")]
    Deposited { amount: i64 },
    #[serde(rename = "account.tipped.v1")]
    Tipped { amount: i64 },
}

impl Aggregate for LaterAccount {
    const NAME: &'static str = Account::NAME;
    type Command = super::world::AccountCommand;
    type Event = LaterEvent;
    type Rejection = super::world::Never;
    fn decide(
        &self,
        _: Self::Command,
        _: &Context,
    ) -> Result<Decision<LaterEvent>, Self::Rejection> {
        Ok(Decision::nothing())
    }
    fn evolve(&mut self, _: &LaterEvent) {}
}

/// The statements of a later program, which knows one more event; the version is the same.
struct LaterStatements;

impl View for LaterStatements {
    const NAME: &'static str = Statements::NAME;
    const VERSION: u32 = Statements::VERSION;
    const AGGREGATES: &'static [&'static str] = &[Account::NAME];
    type Document = Statement;
    type Part = ();

    fn query() -> Query {
        Statements::query()
    }

    fn route(event: &Recorded, _: &Parts<()>) -> Result<Route, ApplyError> {
        Ok(Route::id(event.id.as_str()))
    }

    fn apply(
        _: &str,
        document: Option<Statement>,
        event: &Recorded,
        _: &Parts<()>,
    ) -> Result<Change<Statement>, ApplyError> {
        let mut document = document.unwrap_or(Statement {
            owner: None,
            owner_name: None,
            total: 0,
            deposits: 0,
        });
        match event.event::<LaterAccount>()? {
            LaterEvent::Deposited { amount } | LaterEvent::Tipped { amount } => {
                document.total += amount;
                document.deposits += 1;
            }
        }
        Ok(Change::Put(document))
    }
}

/// A view that accounts have no document in.
struct Nowhere;

impl View for Nowhere {
    const NAME: &'static str = "nowhere";
    const VERSION: u32 = 1;
    const AGGREGATES: &'static [&'static str] = &[Account::NAME];
    type Document = Statement;
    type Part = ();

    fn query() -> Query {
        Query::default()
    }

    fn route(_: &Recorded, _: &Parts<()>) -> Result<Route, ApplyError> {
        Ok(Route::Nothing)
    }

    fn apply(
        _: &str,
        _: Option<Statement>,
        _: &Recorded,
        _: &Parts<()>,
    ) -> Result<Change<Statement>, ApplyError> {
        Ok(Change::Keep)
    }
}

impl World {
    fn projector_of(&self, options: ProjectorOptions) -> Projector {
        Projector::new(options, self.status.clone()).unwrap()
    }

    async fn retry_all(&self, projector: &mut Projector, id: &str, how: Try) -> Vec<Retried> {
        let mut all = Vec::new();
        loop {
            let retried = projector.retry(&account(id), how).await.unwrap();
            let more = retried.more;
            all.push(retried);
            if !more {
                return all;
            }
        }
    }
}

#[tokio::test]
async fn what_is_parked_is_tried_again_in_parts_while_the_rest_stays_parked() {
    let world = World::new().await;
    world
        .commit::<Account>("a", &[AccountEvent::Refused {}])
        .await;
    for _ in 0..10 {
        world.commit::<Account>("a", &[deposited(1)]).await;
    }
    let mut projector = world.projector();
    world.drain(&mut projector).await;
    let first = projector.retry(&account("a"), Try::WithoutFirst).await;
    let first = first.unwrap();
    assert_eq!((first.applied, first.more), (4, true));
    assert_eq!(world.total("a").await, (3, 3));
    assert_eq!(world.status.borrow().parked, 1);
    // What comes meanwhile waits for its turn, for a projector that comes later, too.
    world.commit::<Account>("a", &[deposited(100)]).await;
    drop(projector);
    let mut next = world.projector();
    let heads = world.store.parked(&world.tables()).await.unwrap();
    let head = &heads[&account("a")];
    assert_eq!((head.position, head.unknown), (5, true));
    world.commit::<Account>("b", &[deposited(1)]).await;
    // Nobody has to ask: it was begun.
    world.drain(&mut next).await;
    assert_eq!(world.total("a").await, (110, 11));
    assert_eq!(world.total("b").await, (1, 1));
    assert_eq!(world.status.borrow().parked, 0);
    world.commit::<Account>("a", &[deposited(1)]).await;
    world.drain(&mut next).await;
    assert_eq!(world.total("a").await, (111, 12));
}

#[tokio::test]
async fn every_event_that_cannot_be_applied_can_be_left_out_at_once() {
    let world = World::new().await;
    for _ in 0..6 {
        let events = [deposited(1), AccountEvent::Refused {}, deposited(2)];
        world.commit::<Account>("a", &events).await;
        world.garbage("evt.account.a").await;
    }
    let mut projector = world.projector();
    world.drain(&mut projector).await;
    let tried = world.retry_all(&mut projector, "a", Try::WithoutAny).await;
    assert!(tried.len() > 1, "{tried:?}");
    assert_eq!(tried.iter().map(|tried| tried.applied).sum::<usize>(), 12);
    assert_eq!(world.total("a").await, (18, 12));
    assert_eq!(world.status.borrow().parked, 0);
    // It holds for whoever folds the view later: of a commit that could not be read, for all of it.
    let skipped = world.store.skipped(&world.tables()).await.unwrap();
    assert_eq!(skipped.len(), 12);
    assert_eq!(
        skipped.iter().filter(|place| place.event.is_none()).count(),
        6
    );
}

#[tokio::test]
async fn what_an_earlier_program_did_not_know_is_applied_by_the_first_that_does() {
    let world = World::new().await;
    for id in ["a", "b"] {
        let events = [
            LaterEvent::Deposited { amount: 1 },
            LaterEvent::Tipped { amount: 10 },
        ];
        world.commit::<LaterAccount>(id, &events).await;
    }
    world
        .commit::<LaterAccount>("a", &[LaterEvent::Deposited { amount: 100 }])
        .await;
    world
        .commit::<Account>("c", &[AccountEvent::Refused {}])
        .await;
    let mut earlier = world.projector();
    world.drain(&mut earlier).await;
    assert_eq!(world.status.borrow().parked, 3);
    let parked = world.store.parked_commits(&world.tables()).await.unwrap();
    let shown: Vec<_> = parked
        .iter()
        .filter(|parked| parked.first)
        .map(|parked| (parked.aggregate.1.as_str(), parked.unknown))
        .collect();
    assert_eq!(shown, [("a", true), ("b", true), ("c", false)]);
    assert_eq!(parked[0].reason, "the type of the event is unknown");
    drop(earlier);
    // The same program again does not know it either, and writes nothing.
    let before = world.store.checkpoint(&world.tables()).await.unwrap();
    let mut again = world.projector();
    world.drain(&mut again).await;
    assert_eq!(
        world.store.checkpoint(&world.tables()).await.unwrap(),
        before
    );
    drop(again);

    let mut later = world.projector_of(world.options_of::<LaterStatements>());
    world.drain(&mut later).await;
    assert_eq!(world.total("a").await, (111, 3));
    assert_eq!(world.total("b").await, (11, 2));
    assert_eq!(world.status.borrow().parked, 1);
}

#[tokio::test]
async fn a_batch_reads_nothing_of_what_is_parked() {
    let world = World::new().await;
    for _ in 0..700 {
        world
            .commit::<Account>("a", &[AccountEvent::Noted {}])
            .await;
    }
    world.garbage("evt.account.a").await;
    let mut projector = world.projector_of(world.options_of::<Nowhere>());
    let client = world.log.client().clone();
    let mut asked = client.subscribe("$JS.API.DIRECT.GET.EVENTS").await.unwrap();
    world.drain(&mut projector).await;
    assert_eq!(world.status.borrow().parked, 1);
    client.flush().await.unwrap();
    let mut count = async || {
        let mut count = 0;
        client
            .publish("$JS.API.DIRECT.GET.EVENTS", "end".into())
            .await
            .unwrap();
        while let Some(message) = asked.next().await
            && message.payload != "end"
        {
            count += 1;
        }
        count
    };
    // The end of the history is read, not all of it.
    let first = count().await;
    assert!((1..=4).contains(&first), "{first}");
    for _ in 0..20 {
        world
            .commit::<Account>("a", &[AccountEvent::Noted {}])
            .await;
        let batch = projector.fetch(super::WAIT).await.unwrap();
        projector.apply(&batch).await.unwrap();
    }
    assert_eq!(count().await, 0);
}

#[tokio::test]
async fn readers_are_told_of_what_is_parked_only_when_it_is_news() {
    let world = World::new().await;
    world
        .commit::<Account>("a", &[AccountEvent::Refused {}])
        .await;
    let mut projector = world.projector();
    world.drain(&mut projector).await;
    let serving = world.watermark.serving();
    let at = serving.parked_at();
    assert!(serving.is_parked("a") && serving.may_miss("a") && !serving.may_miss("b"));
    for _ in 0..10 {
        world.commit::<Account>("a", &[deposited(1)]).await;
        world.drain(&mut projector).await;
    }
    assert_eq!(serving.parked_at(), at);
    world
        .commit::<Account>("b", &[AccountEvent::Refused {}])
        .await;
    world.drain(&mut projector).await;
    assert!(serving.parked_at() > at && serving.is_parked("b"));
    world.retry_all(&mut projector, "a", Try::WithoutAny).await;
    assert!(!serving.is_parked("a") && serving.is_parked("b"));
    assert!(serving.has_parked());
    world.retry_all(&mut projector, "b", Try::WithoutAny).await;
    assert!(!serving.has_parked());
}

#[tokio::test]
async fn what_may_be_missing_is_told_where_nothing_is_known_of_what_is_parked() {
    let world = World::new().await;
    world.garbage("evt.account.a").await;
    let mut projector = world.projector();
    world.drain(&mut projector).await;
    let serving = world.watermark.serving();
    assert!(serving.may_miss("anything") && !serving.is_parked("anything"));
    world.retry_all(&mut projector, "a", Try::WithoutAny).await;
    assert!(!serving.may_miss("anything"));
}

#[tokio::test]
async fn a_document_that_is_made_with_a_part_of_what_is_parked_is_behind() {
    let world = World::new().await;
    world.commit::<Owner>("o", &[named("before")]).await;
    world.garbage("evt.owner.o").await;
    world.commit::<Owner>("o", &[named("after")]).await;
    let mut projector = world.projector();
    world.drain(&mut projector).await;
    world.commit::<Account>("a", &[opened("o")]).await;
    world.commit::<Account>("b", &[opened("other")]).await;
    world.drain(&mut projector).await;
    let serving = world.watermark.serving();
    assert!(serving.is_parked("a") && !serving.is_parked("b"));
    drop(projector);
    let mut next = world.projector();
    world.drain(&mut next).await;
    assert!(serving.is_parked("a"));
    let owner = ("owner".to_owned(), "o".to_owned());
    next.retry(&owner, Try::WithoutFirst).await.unwrap();
    assert!(!serving.is_parked("a"));
    let document = world.document("a").await.unwrap();
    assert_eq!(document.owner_name.as_deref(), Some("after"));
}

#[tokio::test]
async fn what_no_aggregate_can_be_named_by_stays_parked_until_it_is_left_out() {
    let world = World::new().await;
    world.garbage("evt.account.a!b").await;
    let mut projector = world.projector();
    world.drain(&mut projector).await;
    let again = projector.retry(&account("a!b"), Try::Again).await.unwrap();
    assert_eq!((again.applied, again.parked), (0, 1));
    let of = account("a!b");
    let tables = world.tables();
    let page = world.store.parked_page(&tables, Of::one(&of), None, 10);
    assert_eq!(page.await.unwrap().len(), 1);
    let skipped = projector.retry(&account("a!b"), Try::WithoutFirst).await;
    assert_eq!(skipped.unwrap().parked, 0);
    assert_eq!(world.status.borrow().parked, 0);
}
