//! The sorted lists beside the store against the store's own: random documents, random changes, every list.

use super::{
    ordered::{change, documents, fill, filtered, read, view},
    *,
};
use crate::{
    read_model::{ServedDocument, list_index::Walked, store::Text},
    stable_hash::mixed,
};
use serde_json::Value as Json;
use std::time::{Duration, Instant};

/// The longest that they may take to be ready.
const WAIT: Duration = Duration::from_secs(60);

fn sorted_tables() -> ViewTables {
    ViewTables::of(&view()).unwrap()
}

/// Waits until lists are answered by the sorted ones.
async fn until_sorted(store: &Store) {
    let (tables, begun) = (sorted_tables(), Instant::now());
    while !store.is_sorted(&tables) {
        store.sorted(&tables, &read(&[]));
        assert!(begun.elapsed() < WAIT, "they are not made");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Has each page of a list be what the store itself says, in every byte of what is served.
async fn assert_same(store: &Store, mut query: ListQuery, shown: &str) {
    let tables = sorted_tables();
    loop {
        let own = store.list(&tables, None, &query).await.unwrap();
        let Some(Walked { hits, count, .. }) = store.sorted(&tables, &query) else {
            // Only what is to be compared one by one is not counted here.
            assert!(query.count && !query.filters.is_empty(), "{shown}");
            return;
        };
        assert_eq!(count, own.count, "{shown}");
        let found: Vec<_> = hits.iter().map(|hit| hit.id.as_str()).collect();
        let expected: Vec<_> = own.rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(found, expected, "{shown}");
        let texts = store.texts(&tables, None, found.iter().copied()).await;
        let fingerprint = |text: &Text| {
            ServedDocument::new("product", &text.id, text.position, &text.document).fingerprint
        };
        let texts = texts.unwrap();
        let texts: BTreeMap<_, _> = texts.iter().map(|it| (&*it.id, fingerprint(it))).collect();
        for hit in &hits {
            assert_eq!(texts[hit.id.as_str()], hit.fingerprint, "{shown}");
        }
        match own.rows.get(query.limit.wrapping_sub(1)) {
            Some(last) if own.rows.len() > query.limit => {
                query.after = Some((last.key(query.order), last.id.clone()));
            }
            _ => return,
        }
    }
}

async fn assert_all_same(store: &Store, random: u64) {
    for (number, filters) in filtered().into_iter().enumerate() {
        for sort in ["price", "-price", "name", "-name"] {
            let mut parameters = filters.clone();
            parameters.push(("sort", sort));
            let random = mixed(random + number as u64);
            let counted = if random.is_multiple_of(3) {
                "true"
            } else {
                "false"
            };
            parameters.push(("count", counted));
            let mut query = read(&parameters);
            query.limit = [9, 30, 200][(random >> 8) as usize % 3];
            assert_same(store, query, &format!("{parameters:?}, {random}")).await;
        }
    }
}

/// Some changes of what there is, and what there is then.
fn changes(known: &mut BTreeMap<String, Json>, random: u64) -> Vec<DocumentChange> {
    let made = documents(2_000);
    let mut changed = BTreeMap::new();
    for number in 0..25 {
        let random = mixed(random ^ (number << 40));
        let (_, document) = &made[(random >> 20) as usize % made.len()];
        let id = format!("p-{}", random % 120);
        let document = (!(random >> 50).is_multiple_of(4)).then(|| document.clone());
        changed.insert(id, document);
    }
    let changes = changed.into_iter().map(|(id, document)| {
        let before = match &document {
            Some(document) => known.insert(id.clone(), document.clone()),
            None => known.remove(&id),
        };
        DocumentChange {
            id,
            position: random % 1_000,
            exists: before.is_some(),
            before,
            document,
        }
    });
    changes.collect()
}

/// A store with some documents; none where it is a server's, which has no sorted lists beside it.
async fn filled() -> Option<(Store, Checkpoint, BTreeMap<String, Json>)> {
    let store = store("mem://").await;
    store.inner.lists.as_ref()?;
    let documents = documents(90);
    let fence = fill(&store, &documents).await;
    Some((store, fence, documents.into_iter().collect()))
}

#[tokio::test]
async fn a_page_is_the_one_that_the_store_itself_has_whatever_changes() {
    let Some((store, mut fence, mut known)) = filled().await else {
        return;
    };
    until_sorted(&store).await;
    for round in 0..6 {
        assert_all_same(&store, round).await;
        let changes = changes(&mut known, mixed(round));
        fence = change(&store, &fence, changes).await;
        assert!(store.is_sorted(&sorted_tables()));
    }
}

#[tokio::test]
async fn what_changes_while_the_lists_are_made_is_in_them() {
    for round in 0..4 {
        let Some((store, mut fence, mut known)) = filled().await else {
            return;
        };
        until_sorted_or(&store, &mut fence, &mut known, round).await;
        until_sorted(&store).await;
        assert_all_same(&store, round).await;
    }
}

fn begin(store: &Store) -> impl Drop + use<> {
    let lists = store.inner.lists.as_ref().unwrap();
    lists.begin(&sorted_tables(), &[])
}

/// Has documents change until the lists are ready.
async fn until_sorted_or(
    store: &Store,
    fence: &mut Checkpoint,
    known: &mut BTreeMap<String, Json>,
    round: u64,
) {
    let (tables, begun) = (sorted_tables(), Instant::now());
    for step in 0.. {
        store.sorted(&tables, &read(&[]));
        if store.is_sorted(&tables) {
            return;
        }
        assert!(begun.elapsed() < WAIT, "they are not made");
        let changes = changes(known, mixed(round * 1_000 + step));
        *fence = change(store, fence, changes).await;
    }
}

#[tokio::test]
async fn a_transaction_that_may_have_been_written_or_comes_out_of_turn_has_the_lists_made_anew() {
    let Some((store, fence, _)) = filled().await else {
        return;
    };
    let tables = sorted_tables();
    until_sorted(&store).await;
    drop(begin(&store));
    assert!(!store.is_sorted(&tables));
    assert_eq!(store.sorted(&tables, &read(&[])), None);
    until_sorted(&store).await;
    let lists = store.inner.lists.as_ref().unwrap();
    lists.begin(&tables, &[]).refused();
    assert!(store.is_sorted(&tables));
    lists
        .begin(&tables, &[])
        .written(fence.revision, fence.revision + 1);
    assert!(store.is_sorted(&tables));
    lists
        .begin(&tables, &[])
        .written(fence.revision + 2, fence.revision + 3);
    assert!(!store.is_sorted(&tables));
    until_sorted(&store).await;
    assert_all_same(&store, 0).await;
}

#[tokio::test]
async fn while_a_transaction_is_under_way_that_began_before_they_were_made_they_are_not_asked() {
    let Some((store, fence, _)) = filled().await else {
        return;
    };
    let tables = sorted_tables();
    let lists = store.inner.lists.as_ref().unwrap();
    let under_way = lists.begin(&tables, &[]);
    let begun = Instant::now();
    while !lists.is_filled(&tables) {
        assert_eq!(store.sorted(&tables, &read(&[])), None);
        assert!(begun.elapsed() < WAIT);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(!store.is_sorted(&tables));
    // What it has changed is not known here, as nobody had asked for lists when it began.
    under_way.written(fence.revision, fence.revision + 1);
    assert!(!store.is_sorted(&tables));
    until_sorted(&store).await;
    let under_way = lists.begin(&tables, &[]);
    assert!(store.is_sorted(&tables));
    under_way.refused();
    assert!(store.is_sorted(&tables));
}

#[tokio::test]
async fn lists_for_which_there_is_no_room_are_the_stores() {
    let mut options = StoreOptions::new("mem://", RUNTIME.handle().clone());
    options.list_index = 10_000;
    let store = Store::open(options).await.unwrap();
    fill(&store, &documents(90)).await;
    let tables = sorted_tables();
    let lists = store.inner.lists.as_ref().unwrap();
    let begun = Instant::now();
    while !lists.is_full(&tables) {
        assert_eq!(store.sorted(&tables, &read(&[])), None);
        assert!(begun.elapsed() < WAIT);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(lists.taken(), 0);
    assert_eq!(store.sorted(&tables, &read(&[])), None);
}

#[tokio::test]
async fn a_list_that_compares_too_many_documents_is_the_stores() {
    let Some((store, mut fence, known)) = filled().await else {
        return;
    };
    until_sorted(&store).await;
    let query = read(&[("price_min", "99"), ("sort", "name")]);
    assert!(store.sorted(&sorted_tables(), &query).is_some());
    for some in 0..6 {
        let ids = some * 1_000..(some + 1) * 1_000;
        let more =
            ids.map(|number| put(&format!("q-{number}"), 1, json!({"name": "a", "price": 1})));
        fence = change(&store, &fence, more.collect()).await;
    }
    assert_eq!(store.sorted(&sorted_tables(), &query), None);
    let page = read(&[("price_max", "2"), ("sort", "name")]);
    let found = store.sorted(&sorted_tables(), &page).unwrap();
    assert!(found.looks < 200 + known.len());
    assert_eq!(found.hits.len(), 21);
    let counted = store.sorted(&sorted_tables(), &read(&[("count", "true")]));
    assert_eq!(counted.unwrap().count, Some(6_000 + known.len() as u64));
}
