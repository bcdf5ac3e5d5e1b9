//! Pages of lists kept in memory are never older than what a reader asked for, nor than what they say of
//! themselves, whichever announcements arrive; and each is of one moment.

use super::{
    WAIT,
    cache::{at_least, beside_a_projector, lossy, model},
    editions::Reader,
    rebuild::{ask, kept, live},
    world::{Account, AccountEvent, Statement, World, deposited, opened},
};
use crate::{
    projection::{Try, Verb},
    read_model::{Answer, Freshness, Page, ReadModel, ServedPage, Watermarks},
};
use actix::Arbiter;
use futures::future::join_all;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const ROUNDS: u64 = 20;

/// The lists that are asked for; each has all that it is of on one page.
const LISTS: [&[(&str, &str)]; 6] = [
    &[("limit", "200")],
    &[("limit", "200"), ("sort", "-total")],
    &[("limit", "200"), ("owner", "o-0")],
    &[("limit", "200"), ("count", "true")],
    &[("limit", "200"), ("count", "true"), ("owner", "o-1")],
    &[("limit", "200"), ("count", "true"), ("facets", "owner")],
];

fn parameters(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    let parameters = list.iter();
    let parameters = parameters.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    parameters.collect()
}

async fn list(model: &ReadModel, list: &[(&str, &str)], freshness: &Freshness) -> Answer<Page> {
    let answer = model.list("statement", &parameters(list), freshness).await;
    answer.unwrap()
}

/// What writers know to be in the log: the owner of each account, and where its last event stands.
type Known = BTreeMap<String, (String, u64)>;

/// A page has each document that it is of as new as it says that all are, and is of one moment.
fn check(list: &[(&str, &str)], known: &Known, at_least: u64, answer: &Answer<Page>) {
    assert!(
        answer.applied >= at_least,
        "{} of {at_least}",
        answer.applied
    );
    let through = answer.applied.max(at_least);
    let owner = list.iter().find(|(name, _)| *name == "owner");
    let owner = owner.map(|(_, owner)| *owner);
    let page = &answer.value;
    let items: BTreeMap<_, _> = page
        .items
        .iter()
        .map(|item| (&*item.id, item.version))
        .collect();
    for (id, (of, position)) in known {
        if *position <= through && owner.is_none_or(|owner| owner == of) {
            let version = items.get(&**id);
            assert!(
                version.is_some_and(|version| version >= position),
                "{id} is {version:?}, not {position}, as of {through} in {list:?}"
            );
        }
    }
    if let Some(count) = page.count {
        assert_eq!(count, items.len() as u64, "{list:?}");
    }
    if let Some(facet) = page.facets.get("owner") {
        let told: BTreeMap<String, u64> = facet
            .values
            .iter()
            .map(|value| (value.value.as_str().unwrap().to_owned(), value.count))
            .collect();
        let mut owned = BTreeMap::<String, u64>::new();
        for item in &page.items {
            let statement: Statement = serde_json::from_str(item.document.get()).unwrap();
            if let Some(owner) = statement.owner {
                *owned.entry(owner).or_default() += 1;
            }
        }
        assert_eq!(told, owned);
    }
}

/// Deposits again and again, and asks every model for lists as of each deposit, while others read the same
/// lists all the time. Most of the other commits change no document.
async fn hammer(world: &Arc<World>, models: &[ReadModel]) {
    let models: Arc<[ReadModel]> = models.into();
    let known = Arc::new(Mutex::new(Known::new()));
    let tick = |number: u64| match number % 8 {
        0 => deposited(1),
        _ => AccountEvent::Noted {},
    };
    let read = {
        let (models, known) = (Arc::clone(&models), Arc::clone(&known));
        move |number: usize, reads: usize| {
            let (model, known) = (models[number % models.len()].clone(), Arc::clone(&known));
            async move {
                let asked = LISTS[(number + reads) % LISTS.len()];
                let known = known.lock().unwrap().clone();
                let answer = list(&model, asked, &Freshness::default()).await;
                check(asked, &known, 0, &answer);
            }
        }
    };
    let write = |number| {
        let (world, models) = (Arc::clone(world), Arc::clone(&models));
        let known = Arc::clone(&known);
        async move {
            let (id, owner) = (format!("a-{number}"), format!("o-{}", number % 2));
            world.commit::<Account>(&id, &[opened(&owner)]).await;
            for round in 0..ROUNDS {
                let position = world.commit::<Account>(&id, &[deposited(1)]).await;
                let known = {
                    let mut known = known.lock().unwrap();
                    known.insert(id.clone(), (owner.clone(), position));
                    known.clone()
                };
                let asked = LISTS[(number + round as usize) % LISTS.len()];
                let freshness = at_least(position);
                let answers = models.iter().map(|model| list(model, asked, &freshness));
                for answer in join_all(answers).await {
                    check(asked, &known, position, &answer);
                }
            }
        }
    };
    beside_a_projector(world, tick, read, write).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_with_a_position_never_meets_an_older_list() {
    let mut world = World::new().await;
    let watermarks = Watermarks::new(["statement"]);
    world.watermark = watermarks.view("statement").unwrap().clone();
    let model = model(&world, &watermarks).await;
    hammer(&Arc::new(world), &[model]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lost_announcements_never_have_an_older_list_served() {
    let world = Arc::new(World::new().await);
    let (models, relay) = lossy(&world).await;
    hammer(&world, &models).await;
    relay.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_list_that_nothing_has_changed_is_the_same_bytes_and_what_changed_it_shows_at_once() {
    let mut world = World::new().await;
    let watermarks = Watermarks::new(["statement"]);
    world.watermark = watermarks.view("statement").unwrap().clone();
    let mut projector = world.projector();
    world.commit::<Account>("a", &[opened("o")]).await;
    world.drain(&mut projector).await;
    let model = model(&world, &watermarks).await;
    let page = async || {
        let all = parameters(&[("limit", "7")]);
        let freshness = Freshness::default();
        model.page("statement", &all, &freshness).await.unwrap()
    };
    let same = |one: &ServedPage, other: &ServedPage| one.body.as_ptr() == other.body.as_ptr();
    let first = page().await;
    assert!(same(&first.value, &page().await.value));
    // What changes no document moves only what the page says it has applied.
    let noted = world
        .commit::<Account>("a", &[AccountEvent::Noted {}])
        .await;
    world.drain(&mut projector).await;
    let noted_page = page().await;
    assert!(same(&first.value, &noted_page.value));
    assert!(first.applied < noted && noted_page.applied == noted);
    let last = world.commit::<Account>("b", &[deposited(1)]).await;
    world.drain(&mut projector).await;
    let other = page().await;
    assert_ne!(other.value.tag, first.value.tag);
    assert_eq!(other.applied, last);
    let closed = world
        .commit::<Account>("b", &[AccountEvent::Closed {}])
        .await;
    world.drain(&mut projector).await;
    let back = page().await;
    assert_eq!(back.value.tag, first.value.tag);
    assert_eq!(back.value.body, first.value.body);
    assert_eq!(back.applied, closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_document_that_is_exchanged_where_the_view_is_shows_in_lists_of_who_hears_nothing_of_it()
{
    let (world, elsewhere) = (World::new().await, World::new().await);
    let events = [deposited(1), AccountEvent::Refused {}, deposited(2)];
    world.commit::<Account>("a", &events).await;
    let mut projector = world.projector();
    world.drain(&mut projector).await;
    let reader = Reader::start(&world, &elsewhere).await;
    let page = async |reader: &Reader| {
        let freshness = Freshness::default();
        let all = BTreeMap::new();
        let page = reader.model.page("statement", &all, &freshness);
        page.await.unwrap()
    };
    let before = page(&reader).await;
    assert!(before.parked);
    let account = ("account".to_owned(), "a".to_owned());
    projector.retry(&account, Try::WithoutFirst).await.unwrap();
    let other = async |reader: &Reader| page(reader).await.value.tag != before.value.tag;
    reader.until("the list is another", other).await;
    let after = page(&reader).await;
    assert_eq!(after.applied, before.applied);
    assert!(!after.parked);
}

/// The lists of some pages each.
const PAGED: [&[(&str, &str)]; 5] = [
    &[("limit", "3")],
    &[("limit", "4"), ("sort", "-total")],
    &[("limit", "2"), ("owner", "o-0")],
    &[("limit", "2"), ("count", "true"), ("owner", "o-1")],
    &[("limit", "200"), ("count", "true")],
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_page_is_the_same_bytes_whether_the_store_or_the_sorted_lists_beside_it_have_it() {
    let mut world = World::new().await;
    let watermarks = Watermarks::new(["statement"]);
    world.watermark = watermarks.view("statement").unwrap().clone();
    let mut projector = world.projector();
    let model = model(&world, &watermarks).await;
    if !model.sorts() {
        return;
    }
    for round in 0..4 {
        for number in 0..12_u64 {
            let (id, owner) = (format!("a-{number}"), format!("o-{}", number % 3));
            let sum = (number * 7 + round) as i64 % 5;
            let events = [opened(&owner), deposited(sum)];
            let closed = (number + round) % 5 == 0;
            let events = match closed {
                true => &[AccountEvent::Closed {}][..],
                false => &events[..],
            };
            world.commit::<Account>(&id, events).await;
        }
        world.drain(&mut projector).await;
        for list in PAGED {
            assert_same_bytes(&model, list).await;
        }
    }
}

/// Has each page of a list be the same from the store and as it is answered.
async fn assert_same_bytes(model: &ReadModel, list: &[(&str, &str)]) {
    let (mut parameters, started) = (parameters(list), Instant::now());
    loop {
        let freshness = Freshness::default();
        let page = model.page("statement", &parameters, &freshness).await;
        let page = page.unwrap().value;
        let Some(stored) = model.stored_page("statement", &parameters).await else {
            assert!(started.elapsed() < WAIT, "the lists are not sorted");
            // Not from memory: what was read of the store before is no news.
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        assert_eq!(page.body, stored.body, "{parameters:?}");
        assert_eq!(page.tag, stored.tag);
        let page: Page = serde_json::from_slice(&page.body).unwrap();
        match page.next {
            Some(next) => parameters.insert("cursor".to_owned(), next),
            None => return,
        };
    }
}

#[actix::test]
async fn a_list_is_read_anew_when_another_generation_takes_over() {
    let mut world = World::new().await;
    let watermarks = Watermarks::new(["statement"]);
    world.watermark = watermarks.view("statement").unwrap().clone();
    let arbiter = Arbiter::new();
    let view = kept(world.options(), &arbiter);
    let position = world.commit::<Account>("a", &[deposited(1)]).await;
    world.wait_for(position).await;
    world.tamper("a", |_| None).await;
    let model = model(&world, &watermarks).await;
    let items = async || {
        let page = list(&model, &[], &Freshness::default()).await;
        page.value.items.len()
    };
    assert_eq!(items().await, 0);
    ask(&view, Verb::Rebuild).await;
    world.until("another", |all| live(all) == "v1.1").await;
    let started = Instant::now();
    while items().await == 0 {
        assert!(started.elapsed() < WAIT);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.progress().position, position);
    view.stop().await;
    arbiter.stop();
}
