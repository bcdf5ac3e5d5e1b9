//! The index against the store that it is beside: both find the same, in the same order.

use super::*;
use crate::{
    event_log::{LogName, Mark},
    read_model::{
        ViewDescription,
        exchange::Changes,
        store::{Store, StoreOptions},
        tests::{filters, sorts},
    },
    view::{Compare, Filter, Kind, Query},
};
use jiff::Timestamp;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::LazyLock,
    time::{Duration, Instant},
};
use utoipa::PartialSchema;

/// Queries need a deeper stack than a test's thread has.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(10 << 20)
        .enable_all()
        .build()
        .expect("a runtime can be built")
});

fn description() -> ViewDescription {
    let mut filters = filters();
    filters.push(Filter {
        name: "sku",
        field: "lines[].sku",
        compare: Compare::Equal,
        kind: Kind::Text,
    });
    ViewDescription {
        name: "product",
        version: 1,
        aggregates: &["product"],
        query: Query {
            filters,
            sorts: sorts(),
            combined: Vec::new(),
            counted: Vec::new(),
            search: vec!["name", "name_en"],
            routes: Vec::new(),
        },
        visible: |_| crate::view::Rows::All,
        document: String::schema(),
        schemas: Vec::new(),
    }
}

fn tables() -> ViewTables {
    ViewTables::of(&description()).expect("the view is well declared")
}

/// A store, and what its documents are.
struct World {
    url: String,
    store: Store,
    at: Checkpoint,
    documents: BTreeMap<String, Value>,
}

async fn open(url: &str) -> Store {
    let begun = Instant::now();
    loop {
        match Store::open(StoreOptions::new(url, RUNTIME.handle().clone())).await {
            Ok(store) => return store,
            // The one before is being closed.
            Err(error) if begun.elapsed() > Duration::from_secs(20) => panic!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

impl World {
    async fn new(url: &str) -> Self {
        let store = open(url).await;
        store.define(&tables()).await.unwrap();
        let at = store.checkpoint(&tables()).await.unwrap();
        Self {
            url: url.to_owned(),
            store,
            at,
            documents: BTreeMap::new(),
        }
    }

    async fn write(&mut self, changes: Vec<(&str, Option<Value>)>) {
        let next = Checkpoint {
            position: self.at.position + 1,
            mark: Mark::of(b"what stands there"),
            log: LogName::default(),
            exchanges: 0,
            revision: self.at.revision + 1,
            writer: "test".to_owned(),
            at: Timestamp::now(),
            within: None,
        };
        let changes = changes.into_iter().map(|(id, document)| {
            let change = DocumentChange {
                id: id.to_owned(),
                position: next.position,
                exists: self.documents.contains_key(id),
                before: None,
                document: document.clone(),
            };
            match document {
                Some(document) => self.documents.insert(id.to_owned(), document),
                None => self.documents.remove(id),
            };
            change
        });
        let changes = Changes {
            documents: changes.collect(),
            ..Changes::default()
        };
        let written = self.store.write(&tables(), &self.at, next, changes).await;
        self.at = written.unwrap();
    }

    async fn ready(&self) {
        ready(&self.store).await;
    }

    async fn close(self) -> Closed {
        let Self {
            url,
            store,
            documents,
            ..
        } = self;
        drop(store);
        crate::read_model::closed(&url).await;
        Closed { url, documents }
    }

    /// Closes the store, and opens it again.
    async fn reopen(self) -> Self {
        self.close().await.open().await
    }
}

/// What is left of a world that is closed.
struct Closed {
    url: String,
    documents: BTreeMap<String, Value>,
}

impl Closed {
    async fn open(self) -> World {
        let world = World::new(&self.url).await;
        World {
            documents: self.documents,
            ..world
        }
    }
}

/// Looks until something is so.
async fn until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never is so");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn ready(store: &Store) {
    until(|| store.is_text_indexed(&tables())).await;
}

fn ask(parameters: &[(&str, &str)]) -> ListQuery {
    let parameters = parameters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    ListQuery::read(("product", 1), &description().query, &parameters).unwrap()
}

/// Of each page the ids and what the next one goes on after; how many there are, and with which values.
type Pages = (Vec<Vec<String>>, Option<u64>, Vec<BTreeMap<String, u64>>);

async fn pages(store: &Store, query: &ListQuery, by: &str) -> Pages {
    let (mut query, mut pages) = (query.clone(), Vec::new());
    let (mut count, mut facets) = (None, Vec::new());
    loop {
        let listed = match by {
            "text" => store.searched(&tables(), &query).await.unwrap().unwrap(),
            _ => store.unindexed(&tables(), &query).await.unwrap(),
        };
        assert_eq!(listed.by, by);
        if pages.is_empty() {
            count = listed.count;
            facets = listed
                .facets
                .into_iter()
                .map(|values| values.counts)
                .collect();
        }
        let mut rows = listed.rows;
        let more = rows.len() > query.limit;
        rows.truncate(query.limit);
        pages.push(rows.iter().map(|row| row.id.clone()).collect());
        let Some(last) = rows.last().filter(|_| more) else {
            return (pages, count, facets);
        };
        query.after = Some((last.key(query.order), last.id.clone()));
    }
}

async fn same(store: &Store, parameters: &[(&str, &str)]) -> Vec<String> {
    let query = ask(parameters);
    let texts = pages(store, &query, "text").await;
    let sorted = pages(store, &query, "sorted").await;
    assert_eq!(texts, sorted, "{parameters:?}");
    texts.0.concat()
}

fn document() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        3 => "(사과|배|사|제주|햇사과|사과주스|풋사과)",
        2 => "(apple|Apple|ap|pie|Jam-100g|1㎏|ＫＧ|!|🍎)",
        1 => "[ab가-갃]{1,4}",
    ];
    let name = proptest::collection::vec(word, 0..4).prop_map(|words| words.join(" "));
    let english = prop_oneof![Just(json!(null)), name.clone().prop_map(Value::from)];
    let price = prop_oneof![
        6 => (0..4_i64).prop_map(Value::from),
        1 => Just(json!(null)),
        1 => Just(json!(1.5)),
        1 => Just(json!("x")),
        1 => Just(json!([1])),
    ];
    let category = prop_oneof![
        Just(json!("fruit")),
        Just(json!("bread")),
        Just(json!(7)),
        Just(json!(null))
    ];
    let lines = proptest::collection::vec(prop_oneof![Just("s-1"), Just("s-2")], 0..3);
    (
        name,
        english,
        price,
        category,
        any::<bool>(),
        lines,
        any::<bool>(),
    )
        .prop_map(
            |(name, english, price, category, in_stock, lines, priced)| {
                let lines: Vec<_> = lines.into_iter().map(|sku| json!({"sku": sku})).collect();
                let mut document = json!({
                    "name": name, "name_en": english, "price": price, "category": category,
                    "in_stock": in_stock, "lines": lines,
                });
                if !priced && let Some(fields) = document.as_object_mut() {
                    fields.remove("price");
                }
                document
            },
        )
}

fn question() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let q = prop_oneof![
        3 => "(사과|사|배|제주 사과|사과 배|과주|햇사과|사과주스|주스 사과|풋 배)",
        3 => "(apple|APPLE|ap|a|le pie|apple pie|jam-1|100g|kg|1kg|!|🍎|apple pie ap)",
        1 => "[ab가-갃]{1,3}( [ab가-갃]{1,2})?",
    ];
    let filters = proptest::sample::subsequence(
        vec![
            ("category", "fruit"),
            ("in_stock", "true"),
            ("price_min", "1"),
            ("price_max", "2"),
            ("sku", "s-2"),
        ],
        0..=2,
    );
    let sort = prop_oneof![
        3 => Just(None),
        1 => Just(Some("price")),
        1 => Just(Some("-price")),
        1 => Just(Some("name")),
        1 => Just(Some("-name")),
    ];
    (q, filters, sort, 1..8_usize).prop_map(|(q, filters, sort, limit)| {
        let mut parameters = vec![
            ("q", q),
            ("limit", limit.to_string()),
            ("count", "true".to_owned()),
            ("facets", "category,in_stock".to_owned()),
        ];
        parameters.extend(
            filters
                .into_iter()
                .map(|(name, value)| (name, value.to_owned())),
        );
        parameters.extend(sort.map(|sort| ("sort", sort.to_owned())));
        parameters
    })
}

fn sample<S: Strategy>(runner: &mut TestRunner, strategy: &S) -> S::Value {
    strategy.new_tree(runner).unwrap().current()
}

#[tokio::test]
async fn the_index_and_the_store_find_the_same_in_the_same_order() {
    let mut runner = TestRunner::new(Config::default());
    let mut world = World::new("mem://").await;
    world.ready().await;
    let (documents, questions) = (document(), question());
    for round in 0..12 {
        let numbers = proptest::collection::vec((0..60_usize, any::<bool>()), 1..40);
        let mut changes = BTreeMap::new();
        for (number, removes) in sample(&mut runner, &numbers) {
            let removes = removes && round % 3 == 2;
            let document = (!removes).then(|| sample(&mut runner, &documents));
            changes.insert(format!("p-{number:02}"), document);
        }
        let changes = changes.iter();
        let changes = changes.map(|(id, document)| (id.as_str(), document.clone()));
        world.write(changes.collect()).await;
        // Beside the index, and in it.
        if round % 2 == 1 {
            world.store.flush_texts(&tables()).await;
        }
        for _ in 0..12 {
            let parameters = sample(&mut runner, &questions);
            let parameters: Vec<_> = parameters
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            same(&world.store, &parameters).await;
        }
    }
}

fn named(name: &str) -> Option<Value> {
    Some(json!({"name": name, "price": 1, "category": "fruit", "in_stock": true}))
}

#[tokio::test]
async fn a_change_is_found_as_soon_as_it_is_written() {
    let mut world = World::new("mem://").await;
    world.ready().await;
    for number in 0..200 {
        let (name, id) = (format!("사과 {number}"), format!("p-{}", number % 7));
        world.write(vec![(&id, named(&name))]).await;
        let found = same(&world.store, &[("q", &format!("과 {number}"))]).await;
        assert_eq!(found, [id.as_str()], "{number}");
        if number % 50 == 49 {
            world.write(vec![(&id, None)]).await;
            assert!(same(&world.store, &[("q", &name)]).await.is_empty());
        }
    }
    assert!(
        world.store.is_text_indexed(&tables()),
        "it was never given up"
    );
}

fn folder() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!(
        "surrealkv://{}?sync=every",
        folder.path().join("views").display()
    );
    (folder, url)
}

fn index_folder(folder: &tempfile::TempDir) -> PathBuf {
    folder
        .path()
        .join("views-texts")
        .join(tables().documents.as_str())
}

async fn three(url: &str) -> World {
    let mut world = World::new(url).await;
    world.ready().await;
    world
        .write(vec![
            ("a", named("사과")),
            ("b", named("풋사과")),
            ("c", named("배")),
        ])
        .await;
    world
}

#[tokio::test]
async fn what_is_closed_well_is_opened_as_it_is() {
    let (folder, url) = folder();
    let world = three(&url).await.reopen().await;
    world.ready().await;
    assert_eq!(same(&world.store, &[("q", "사과")]).await, ["a", "b"]);
    let meta = std::fs::read_to_string(index_folder(&folder).join("meta.json")).unwrap();
    assert!(
        meta.contains(&format!("\\\"revision\\\":{}", world.at.revision)),
        "{meta}"
    );
}

#[tokio::test]
async fn what_was_written_without_the_index_is_found_after_the_next_start() {
    let (folder, url) = folder();
    let mut world = three(&url).await.reopen().await;
    world.ready().await;
    // As if the program had ended between the store's transaction and the index's.
    let (kept, texts) = (
        folder.path().join("kept"),
        folder.path().join("views-texts"),
    );
    world.store.flush_texts(&tables()).await;
    copy(&texts, &kept);
    world
        .write(vec![
            ("a", None),
            ("b", named("배")),
            ("d", named("사과 d")),
        ])
        .await;
    let closed = world.close().await;
    // What writes the index may still tidy up there.
    until(|| std::fs::remove_dir_all(&texts).is_ok() && !texts.exists()).await;
    std::fs::rename(&kept, &texts).unwrap();
    let mut world = closed.open().await;
    world.ready().await;
    assert_eq!(same(&world.store, &[("q", "사과")]).await, ["d"]);
    assert_eq!(same(&world.store, &[("q", "배")]).await, ["b", "c"]);
    world.write(vec![("c", None)]).await;
    assert_eq!(same(&world.store, &[("q", "배")]).await, ["b"]);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn files_that_are_gone_damaged_or_of_others_are_made_anew() {
    let (folder, url) = folder();
    let mut world = three(&url).await;
    type Spoil = fn(&std::path::Path);
    let spoils: [Spoil; 5] = [
        |index| std::fs::remove_dir_all(index).unwrap(),
        |index| std::fs::write(index.join("meta.json"), "{").unwrap(),
        |index| {
            let meta = std::fs::read_to_string(index.join("meta.json")).unwrap();
            let meta = meta.replace("product_v1", "product_v9");
            std::fs::write(index.join("meta.json"), meta).unwrap();
        },
        |index| {
            for entry in std::fs::read_dir(index).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|end| end == "idx") {
                    let mut bytes = std::fs::read(&path).unwrap();
                    bytes.iter_mut().take(40).for_each(|byte| *byte ^= 0x55);
                    std::fs::write(&path, bytes).unwrap();
                }
            }
        },
        |index| {
            for entry in std::fs::read_dir(index).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|end| end == "term") {
                    std::fs::remove_file(path).unwrap();
                }
            }
        },
    ];
    for spoil in spoils {
        let closed = world.close().await;
        spoil(&index_folder(&folder));
        world = closed.open().await;
        world.ready().await;
        assert_eq!(same(&world.store, &[("q", "사과")]).await, ["a", "b"]);
    }
}

#[tokio::test]
async fn a_transaction_that_was_missed_has_the_index_compared() {
    let mut world = three("mem://").await;
    // Written by somebody who did not tell.
    world
        .store
        .by_hand(&format!(
            "DELETE {}:b; UPDATE checkpoint SET revision += 1",
            tables().documents
        ))
        .await
        .unwrap();
    world.documents.remove("b");
    world.at = world.store.checkpoint(&tables()).await.unwrap();
    world.write(vec![("d", named("사과 d"))]).await;
    world.ready().await;
    assert_eq!(same(&world.store, &[("q", "사과")]).await, ["a", "d"]);
}

#[tokio::test]
async fn a_write_that_is_given_up_midway_leaves_the_index_in_doubt() {
    let mut world = three("mem://").await;
    let texts = world.store.begin_text_transaction(&tables());
    assert!(world.store.is_text_indexed(&tables()));
    drop(texts);
    world.ready().await;
    world.write(vec![("a", named("배"))]).await;
    assert_eq!(same(&world.store, &[("q", "사과")]).await, ["b"]);
}

#[tokio::test]
async fn what_is_removed_has_no_index() {
    let (folder, url) = folder();
    let world = three(&url).await;
    world.store.remove(&tables()).await.unwrap();
    assert!(!world.store.is_text_indexed(&tables()));
    let closed = world.close().await;
    let begun = Instant::now();
    while index_folder(&folder).exists() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(closed);
}

#[tokio::test]
async fn more_changes_than_are_kept_beside_the_index_are_all_found() {
    let mut world = World::new("mem://").await;
    world.ready().await;
    let ids: Vec<_> = (0..recent::MOST + 2_000)
        .map(|number| format!("p-{number:05}"))
        .collect();
    for ids in ids.chunks(2_000) {
        let changes = ids.iter().map(|id| (id.as_str(), named("사과")));
        world.write(changes.collect()).await;
    }
    world.ready().await;
    let query = ask(&[("q", "사과"), ("count", "true")]);
    let listed = world.store.searched(&tables(), &query).await;
    let listed = listed.unwrap().unwrap();
    assert_eq!(listed.count, Some(MAX_COUNT as u64 + 1));
    let found: Vec<_> = listed.rows.into_iter().map(|row| row.id).collect();
    assert_eq!(found[..], ids[..21]);
}

#[tokio::test]
async fn a_store_that_has_gone_back_has_what_it_says() {
    let (folder, url) = folder();
    let closed = three(&url).await.close().await;
    let (views, kept) = (folder.path().join("views"), folder.path().join("kept"));
    copy(&views, &kept);
    let documents = closed.documents.clone();
    let mut world = closed.open().await;
    world.ready().await;
    world.write(vec![("a", None), ("d", named("사과 d"))]).await;
    world.store.flush_texts(&tables()).await;
    let closed = world.close().await;
    until(|| std::fs::remove_dir_all(&views).is_ok() && !views.exists()).await;
    std::fs::rename(&kept, &views).unwrap();
    let mut world = Closed {
        documents,
        ..closed
    }
    .open()
    .await;
    world.ready().await;
    assert_eq!(same(&world.store, &[("q", "사과")]).await, ["a", "b"]);
    // Of the same number as the one that is gone.
    world.write(vec![("e", named("사과 e"))]).await;
    assert_eq!(same(&world.store, &[("q", "사과")]).await, ["a", "e", "b"]);
}

#[tokio::test]
async fn facets_count_only_what_is_visible() {
    let mut world = World::new("mem://").await;
    world.ready().await;
    for (id, category) in [("a", "fruit"), ("b", "fruit"), ("c", "bread")] {
        let document = json!({"name": "사과", "category": category});
        world.write(vec![(id, Some(document))]).await;
    }
    let parameters = [("q", "사과"), ("facets", "category")];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let rows = crate::view::Rows::Where("category", "bread".to_owned());
    let declared = description().query;
    let query = ListQuery::read_of(
        ("product", 1),
        &declared,
        &BTreeMap::from(parameters),
        &rows,
    );
    let query = query.unwrap();
    for flushed in [false, true] {
        if flushed {
            world.store.flush_texts(&tables()).await;
        }
        let texts = pages(&world.store, &query, "text").await;
        assert_eq!(texts, pages(&world.store, &query, "sorted").await);
        assert_eq!(texts.0, [["c"]]);
        assert_eq!(texts.2, [BTreeMap::from([("\"bread\"".to_owned(), 1)])]);
    }
}
