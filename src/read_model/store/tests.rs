//! The store against the embedded engine: what is written is found again, in order, by an index.

use super::*;
use crate::{
    event_log::{LogName, Mark},
    read_model::{
        ViewDescription,
        exchange::{Changes, Checkpoint, DocumentChange, Led, Needs, PageKey},
        generation::Generation,
        parameters::ListQuery,
        schema::TEXT_INDEX,
        tests::{filters, sorts},
    },
    view::{Compare, Filter, Kind, Query},
};
use jiff::Timestamp;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};
use utoipa::PartialSchema;

mod compared;
mod ordered;
mod sorted;

/// Queries need a deeper stack than a test's thread has.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(10 << 20)
        .enable_all()
        .build()
        .expect("a runtime can be built")
});

impl Store {
    /// As tables of a version that was not searched are.
    pub(crate) async fn remove_search(&self, tables: &ViewTables) {
        let sql = format!("REMOVE INDEX {TEXT_INDEX} ON {}", tables.documents);
        self.query(sql, Variables::new()).await.unwrap();
    }
}

pub(crate) async fn store(url: &str) -> Store {
    Store::for_tests(url, RUNTIME.handle().clone())
        .await
        .expect("a store opens")
}

fn description() -> ViewDescription {
    ViewDescription {
        name: "product",
        version: 1,
        aggregates: &["product"],
        query: Query {
            filters: filters(),
            sorts: sorts(),
            combined: Vec::new(),
            counted: Vec::new(),
            search: vec!["name", "name_en"],
            routes: vec![vec!["lines[].sku", "category"], vec!["lines[].sku"]],
        },
        document: String::schema(),
        schemas: Vec::new(),
        visible: |_| crate::view::Rows::All,
    }
}

fn tables() -> ViewTables {
    ViewTables::of(&description()).expect("the view is well declared")
}

fn put(id: &str, position: u64, document: serde_json::Value) -> DocumentChange {
    DocumentChange {
        id: id.to_owned(),
        position,
        exists: false,
        before: None,
        document: Some(document),
    }
}

async fn write(
    store: &Store,
    fence: &Checkpoint,
    documents: Vec<DocumentChange>,
) -> Result<Checkpoint, StoreError> {
    let next = Checkpoint {
        position: fence.position + 10,
        mark: Mark::of(b"what stands there"),
        log: LogName::default(),
        exchanges: 0,
        revision: fence.revision + 1,
        writer: "test".to_owned(),
        at: Timestamp::now(),
        within: None,
    };
    let changes = Changes {
        documents,
        ..Changes::default()
    };
    store.write(&tables(), fence, next, changes).await
}

/// Some products: prices repeat, so that ids break ties; one is null and one is missing.
async fn products(url: &str) -> (Store, Checkpoint) {
    let store = store(url).await;
    store.define(&tables()).await.unwrap();
    let fence = store.checkpoint(&tables()).await.unwrap();
    let names = [
        "사과 1kg",
        "풋사과",
        "배",
        "바나나",
        "사과주스",
        "Green apple",
    ];
    let documents = (0..60_usize)
        .map(|number| {
            let price = (number != 7).then_some(number % 5 * 100);
            let mut document = json!({
                "name": names[number % names.len()],
                "name_en": if number % 6 == 0 { json!("Apple") } else { json!(null) },
                "category": if number % 2 == 0 { "fruit" } else { "other" },
                "price": price,
                "in_stock": number % 3 == 0,
                "lines": [{"sku": format!("s-{}", number % 4)}, {"sku": "s-9"}],
            });
            if number == 13 {
                document.as_object_mut().unwrap().remove("price");
            }
            put(&format!("p-{number:02}"), 1, document)
        })
        .collect();
    let fence = write(&store, &fence, documents).await.unwrap();
    (store, fence)
}

fn ask(parameters: &[(&str, &str)]) -> ListQuery {
    let parameters: BTreeMap<String, String> = parameters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    ListQuery::read(("product", 1), &description().query, &parameters).unwrap()
}

/// Walks a list page by page, doing something between the pages.
async fn walk(
    store: &Store,
    parameters: &[(&str, &str)],
    limit: usize,
    mut between: impl AsyncFnMut(),
) -> Vec<String> {
    let mut ids = Vec::new();
    let mut query = ask(parameters);
    query.limit = limit;
    loop {
        let mut rows = store.list(&tables(), None, &query).await.unwrap().rows;
        let more = rows.len() > limit;
        rows.truncate(limit);
        ids.extend(rows.iter().map(|row| row.id.clone()));
        match rows.last() {
            Some(last) if more => {
                query.after = Some((last.key(query.order), last.id.clone()));
            }
            _ => return ids,
        }
        between().await;
    }
}

const ORDERS: [&[(&str, &str)]; 8] = [
    &[],
    &[("sort", "-price")],
    &[("sort", "name")],
    &[("category", "fruit"), ("sort", "-price")],
    &[("category", "fruit"), ("in_stock", "true")],
    &[
        ("price_min", "100"),
        ("price_max", "300"),
        ("sort", "-name"),
    ],
    &[("q", "사과")],
    &[("q", "사과"), ("sort", "-price")],
];

#[tokio::test]
async fn pages_of_any_size_are_the_whole_list_in_its_order() {
    let (store, _) = products("mem://").await;
    for parameters in ORDERS {
        let whole = walk(&store, parameters, 200, async || {}).await;
        assert!(whole.len() > 8, "{parameters:?}");
        for limit in [1, 3, 7] {
            let paged = walk(&store, parameters, limit, async || {}).await;
            assert_eq!(paged, whole, "{parameters:?} by {limit}");
        }
    }
    // Nothing was left out: documents without the field, or with null in it, have their place too.
    let mut all = walk(&store, &[], 7, async || {}).await;
    all.sort();
    let expected: Vec<_> = (0..60).map(|number| format!("p-{number:02}")).collect();
    assert_eq!(all, expected);
}

#[tokio::test]
async fn documents_that_stay_are_neither_skipped_nor_repeated_while_others_change() {
    for parameters in ORDERS {
        let (store, mut fence) = products("mem://").await;
        let before = walk(&store, parameters, 200, async || {}).await;
        let mut victims = before.iter().step_by(4).cloned();
        let mut gone = Vec::new();
        let mut number = 0;
        let walked = walk(&store, parameters, 3, async || {
            number += 1;
            let mut changes = vec![put(
                &format!("new-{number}"),
                2,
                json!({"name": "사과", "category": "fruit", "price": 200, "in_stock": true}),
            )];
            if let Some(id) = victims.next() {
                gone.push(id.clone());
                changes.push(DocumentChange {
                    id,
                    position: 2,
                    exists: true,
                    before: None,
                    document: None,
                });
            }
            fence = write(&store, &fence, changes).await.unwrap();
        })
        .await;
        let stayed = |id: &&String| !gone.contains(id) && !id.starts_with("new");
        let expected: Vec<_> = before.iter().filter(stayed).collect();
        let seen: Vec<_> = walked.iter().filter(stayed).collect();
        assert_eq!(seen, expected, "{parameters:?}");
        let mut once = walked.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), walked.len(), "{parameters:?}");
    }
}

#[tokio::test]
async fn filters_keep_what_they_say_and_nothing_without_the_field() {
    let (store, _) = products("mem://").await;
    let ids = walk(
        &store,
        &[
            ("category", "other"),
            ("price_max", "100"),
            ("in_stock", "false"),
        ],
        200,
        async || {},
    )
    .await;
    // Number 7 would be one, but it has no price; neither has 13.
    assert_eq!(
        ids,
        [
            "p-05", "p-25", "p-35", "p-55", "p-01", "p-11", "p-31", "p-41"
        ]
    );
}

#[tokio::test]
async fn a_list_is_served_in_order_by_an_index() {
    let (store, _) = products("mem://").await;
    for parameters in ORDERS {
        let mut query = ask(parameters);
        for _ in 0..2 {
            let plan = store.explain(&tables(), &query).await.unwrap();
            let searched = query.search.is_some();
            assert!(!plan.contains("TableScan"), "{parameters:?}\n{plan}");
            assert!(
                plan.contains(if searched {
                    "FullTextScan"
                } else {
                    "IndexScan"
                }),
                "{plan}"
            );
            assert!(searched || !plan.contains("Sort"), "{parameters:?}\n{plan}");
            let rows = store.list(&tables(), None, &query).await.unwrap().rows;
            query.after = rows
                .get(3)
                .map(|row| (row.key(query.order), row.id.clone()));
        }
    }
}

/// A filter by what an array holds, and how its list is explained.
#[tokio::test]
async fn a_list_of_what_an_array_holds_is_served_by_an_index() {
    let (store, _) = products("mem://").await;
    let mut view = description();
    view.query.filters = vec![Filter {
        name: "sku",
        field: "lines[].sku",
        compare: Compare::Equal,
        kind: Kind::Text,
    }];
    let tables = ViewTables::of(&view).unwrap();
    store.define(&tables).await.unwrap();
    let number_of = |id: &str| id[2..].parse::<usize>().unwrap();
    for (sku, expected) in [("s-2", 15), ("s-9", 60), ("s-7", 0)] {
        for sort in ["price", "-price", "name"] {
            let parameters = [("sku", sku), ("sort", sort)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
            let parameters = BTreeMap::from(parameters);
            let mut query = ListQuery::read(("product", 1), &view.query, &parameters).unwrap();
            query.limit = 7;
            let mut seen = Vec::new();
            loop {
                let plan = store.explain(&tables, &query).await.unwrap();
                let shown = format!("{parameters:?}\n{plan}");
                assert!(plan.contains("IndexScan"), "{shown}");
                assert!(
                    !plan.contains("TableScan") && !plan.contains("Sort"),
                    "{shown}"
                );
                let mut rows = store.list(&tables, None, &query).await.unwrap().rows;
                let more = rows.len() > query.limit;
                rows.truncate(query.limit);
                seen.extend(rows.iter().map(|row| row.id.clone()));
                let Some(last) = rows.last().filter(|_| more) else {
                    break;
                };
                query.after = Some((last.key(query.order), last.id.clone()));
            }
            let held = |id: &String| sku == "s-9" || format!("s-{}", number_of(id) % 4) == sku;
            assert!(seen.iter().all(held), "{parameters:?} {seen:?}");
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), expected, "{parameters:?}");
        }
    }
}

#[tokio::test]
async fn text_is_found_inside_words_and_the_nearest_match_comes_first() {
    let store = store("mem://").await;
    store.define(&tables()).await.unwrap();
    let fence = store.checkpoint(&tables()).await.unwrap();
    let names = [
        ("juice", "사과주스 1L", "Apple Juice"),
        ("unripe", "풋사과", "Green apple"),
        ("apple", "사과", "Apple"),
        ("kilo", "사과 1kg", "Apples, 1kg"),
        ("pear", "배", "Pear"),
        ("split", "사 과", "Not an ap ple"),
    ];
    let documents = names
        .map(|(id, name, name_en)| put(id, 1, json!({"name": name, "name_en": name_en})))
        .to_vec();
    write(&store, &fence, documents).await.unwrap();
    let found = async |q: &str| walk(&store, &[("q", q)], 2, async || {}).await;
    assert_eq!(found("사과").await, ["apple", "kilo", "juice", "unripe"]);
    assert_eq!(found("배").await, ["pear"]);
    assert_eq!(found("APPLE").await, ["apple", "juice", "kilo", "unripe"]);
    assert_eq!(found("1kg 사과").await, ["kilo"]);
    assert_eq!(found("apple 풋").await, ["unripe"]);
    for nothing in ["포도", "!!", "' OR true", "appleapple"] {
        assert!(found(nothing).await.is_empty(), "{nothing}");
    }
}

#[tokio::test]
async fn a_route_finds_documents_by_an_index_also_inside_arrays() {
    let (store, _) = products("mem://").await;
    let route = |category: &str, sku: &str| {
        vec![
            ("category", category.to_owned()),
            ("lines[].sku", sku.to_owned()),
        ]
    };
    let needs = Needs {
        documents: ["p-01".to_owned(), "none".to_owned()].into(),
        parts: [("a".to_owned(), "b".to_owned())].into(),
        routes: [
            route("fruit", "s-2"),
            route("fruit", "s-1"),
            route("other", "s-9"),
        ]
        .into(),
        ..Needs::default()
    };
    let found = store.load(&tables(), &needs, 100).await.unwrap();
    assert_eq!(found.documents.len(), 1);
    assert!(found.parts.is_empty());
    let counts: Vec<_> = found
        .routes
        .iter()
        .map(|(key, led)| (key.clone(), ids(led).len()))
        .collect();
    assert_eq!(
        counts,
        [
            (route("fruit", "s-1"), 0),
            (route("fruit", "s-2"), 15),
            (route("other", "s-9"), 30),
        ]
    );
    let sql = "EXPLAIN SELECT id FROM product_v1_f2 WHERE doc.`category` = 'fruit' \
               AND doc.`lines`.*.`sku` CONTAINS 's-2'";
    let mut results = store.query(sql, Variables::new()).await.unwrap();
    let plan = format!("{:?}", take(&mut results, 0).unwrap());
    assert!(plan.contains("IndexScan"), "{plan}");
}

/// The documents that a route leads to, where they are few enough.
fn ids(led: &Led) -> Vec<&str> {
    match led {
        Led::To(documents) => documents.iter().map(|(id, _)| id.as_str()).collect(),
        Led::Crowd => vec!["a crowd"],
        Led::Many => vec!["many"],
    }
}

#[tokio::test]
async fn of_a_route_no_more_is_read_at_once_than_was_asked_for() {
    let (store, _) = products("mem://").await;
    let by = |field: &'static str, value: &str| vec![(field, value.to_owned())];
    let (few, many) = (by("lines[].sku", "s-1"), by("lines[].sku", "s-9"));
    // Together they are a crowd, whichever of them it is that leads to many.
    let needs = Needs {
        routes: [few.clone(), many.clone()].into(),
        ..Needs::default()
    };
    let found = store.load(&tables(), &needs, 20).await.unwrap();
    assert!(found.routes.iter().all(|(_, led)| ids(led) == ["a crowd"]));
    let needs = Needs {
        alone: [few.clone(), many.clone()].into(),
        ..Needs::default()
    };
    let found = store.load(&tables(), &needs, 20).await.unwrap();
    let found: Vec<_> = found
        .routes
        .iter()
        .map(|(key, led)| (key.clone(), ids(led).len()))
        .collect();
    assert_eq!(found, [(few, 15), (many.clone(), 1)]);
    // What is many is walked in the order of ids.
    let (mut after, mut walked) = (None, Vec::new());
    loop {
        let needs = Needs {
            page: Some(PageKey {
                route: many.clone(),
                after: after.clone(),
            }),
            ..Needs::default()
        };
        let page = store
            .load(&tables(), &needs, 7)
            .await
            .unwrap()
            .page
            .unwrap();
        assert!(page.documents.len() <= 7);
        walked.extend(page.documents.into_iter().map(|(id, _)| id));
        after = page.through;
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<_> = (0..60).map(|number| format!("p-{number:02}")).collect();
    assert_eq!(walked, expected);
}

#[tokio::test]
async fn a_page_begins_where_the_last_one_ended_and_not_at_the_first_document() {
    let (store, _) = products("mem://").await;
    let table = tables().documents;
    let sql = format!(
        "EXPLAIN SELECT id, seq, doc FROM {table} WITH INDEX by_lines_sku \
         WHERE doc.`lines`.*.`sku` CONTAINS 's-9' AND id > {table}:`p-30` ORDER BY id LIMIT 8"
    );
    let mut results = store.query(sql, Variables::new()).await.unwrap();
    let plan = format!("{:?}", take(&mut results, 0).unwrap());
    assert!(plan.contains(&format!("MoreThan {table}:`p-30`")), "{plan}");
}

#[tokio::test]
async fn what_is_no_document_is_told_from_those_that_are() {
    let (store, _) = products("mem://").await;
    let table = tables().documents;
    let foreign = format!(
        "CREATE {table}:`p-99` SET note = 'by hand', doc = {{ category: 'fruit' }}; \
         CREATE {table}:7 SET doc = {{ category: 'fruit' }};"
    );
    store.query(foreign, Variables::new()).await.unwrap();
    let needs = Needs {
        documents: ["p-01".to_owned(), "p-99".to_owned()].into(),
        routes: [vec![("category", "fruit".to_owned())]].into(),
        ..Needs::default()
    };
    let found = store.load(&tables(), &needs, 100).await.unwrap();
    assert_eq!(found.documents.len(), 1);
    assert_eq!(ids(&found.routes[0].1).len(), 30);
    assert!(found.foreign.iter().all(|id| id == "p-99"));
    assert!(!found.foreign.is_empty());
}

#[tokio::test]
async fn a_change_of_a_document_that_is_gone_is_refused() {
    let (store, fence) = products("mem://").await;
    let delete = format!("DELETE {}:`p-07`", tables().documents);
    store.query(delete, Variables::new()).await.unwrap();
    let mut changed = put("p-07", 2, json!({"name": "a"}));
    changed.exists = true;
    let refused = write(&store, &fence, vec![changed]).await.unwrap_err();
    assert!(refused.may_be_the_contents(), "{refused}");
    let now = store.checkpoint(&tables()).await.unwrap();
    assert_eq!(now.revision, fence.revision);
}

#[tokio::test]
async fn routes_by_one_field_are_followed_together_by_an_index() {
    let (store, _) = products("mem://").await;
    let by = |field: &'static str, value: &str| vec![(field, value.to_owned())];
    let routes = [
        (by("category", "fruit"), 30),
        (by("category", "none"), 0),
        (by("category", "other"), 30),
        (by("lines[].sku", "s-1"), 15),
        (by("lines[].sku", "s-7"), 0),
        (by("lines[].sku", "s-9"), 60),
    ];
    let needs = Needs {
        routes: routes.iter().map(|(route, _)| route.clone()).collect(),
        ..Needs::default()
    };
    let found = store.load(&tables(), &needs, 100).await.unwrap();
    let counts: Vec<_> = found
        .routes
        .iter()
        .map(|(key, led)| {
            let (found, once) = (ids(led), BTreeSet::from_iter(ids(led)));
            assert_eq!(found.len(), once.len(), "{key:?}");
            (key.clone(), found.len())
        })
        .collect();
    assert_eq!(counts, routes);
    for condition in [
        "doc.`category` IN ['fruit', 'none']",
        "doc.`lines`.*.`sku` CONTAINSANY ['s-1', 's-9']",
    ] {
        let sql = format!("EXPLAIN SELECT id FROM product_v1_f2 WHERE {condition}");
        let mut results = store.query(sql, Variables::new()).await.unwrap();
        let plan = format!("{:?}", take(&mut results, 0).unwrap());
        assert!(plan.contains("IndexScan"), "{plan}");
        assert!(!plan.contains("TableScan"), "{plan}");
    }
}

#[tokio::test]
async fn a_document_comes_back_as_it_was_written() {
    let store = store("mem://").await;
    store.define(&tables()).await.unwrap();
    let fence = store.checkpoint(&tables()).await.unwrap();
    let document = json!({
        "text": "따옴표 ' \" ` \\ \n $x {y}", "null": null, "truth": false,
        "numbers": [0, -1, i64::MAX, 1.5], "nested": {"empty": {}, "list": []},
        "looks_like_an_id": "product_v1:a", "looks_like_a_time": "2026-11-23T00:00:00Z",
    });
    let written = put("a", 41, document.clone());
    let fence = write(&store, &fence, vec![written]).await.unwrap();
    let row = store.get(&tables(), "a").await.unwrap().unwrap();
    assert_eq!((row.position, row.document), (41, document));
    assert!(store.get(&tables(), "b").await.unwrap().is_none());
    let checkpoint = store.checkpoint(&tables()).await.unwrap();
    assert_eq!(checkpoint.position, fence.position);
    assert_eq!(checkpoint.revision, fence.revision);
}

#[tokio::test]
async fn a_write_behind_the_checkpoint_is_fenced_and_changes_nothing() {
    let (store, fence) = products("mem://").await;
    write(&store, &fence, vec![put("a", 2, json!({}))])
        .await
        .unwrap();
    let refused = write(&store, &fence, vec![put("b", 2, json!({}))]).await;
    assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    assert!(store.get(&tables(), "b").await.unwrap().is_none());
}

#[tokio::test]
async fn a_write_that_fails_in_the_middle_changes_nothing() {
    let (store, fence) = products("mem://").await;
    // The second exists, although the writer believes it does not.
    let documents = vec![put("a", 2, json!({})), put("p-01", 2, json!({}))];
    let failed = write(&store, &fence, documents).await.unwrap_err();
    assert!(failed.is_retryable(), "{failed}");
    assert!(store.get(&tables(), "a").await.unwrap().is_none());
    let checkpoint = store.checkpoint(&tables()).await.unwrap();
    assert_eq!(checkpoint.revision, fence.revision);
}

/// Keeps the engine at work for longer than a reader may take.
const SLOW: &str = "SELECT sleep(1s) AS done FROM 1..100";

#[tokio::test]
async fn a_statement_of_a_reader_ends_after_its_time() {
    let store = store("mem://").await;
    let sql = format!("{SLOW} TIMEOUT 10ms");
    let error = store.read(sql, Variables::new()).await.err();
    assert!(matches!(error, Some(StoreError::TooSlow)), "{error:?}");
    assert!(error.is_some_and(|error| error.is_retryable()));
}

#[tokio::test]
async fn a_statement_of_a_reader_ends_when_nobody_waits_for_it() {
    let store = store("mem://").await;
    let holders = || Arc::strong_count(&store.inner.session.client());
    let before = holders();
    let mut read = Box::pin(store.read(SLOW, Variables::new()));
    assert!(futures::poll!(read.as_mut()).is_pending());
    assert_eq!(holders(), before + 1);
    drop(read);
    let started = std::time::Instant::now();
    while holders() > before {
        assert!(started.elapsed() < std::time::Duration::from_secs(20));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_page_and_the_count_of_all_pages_are_of_one_moment() {
    let (store, mut fence) = products("mem://").await;
    let mut query = ask(&[("count", "true"), ("limit", "200")]);
    query.count = true;
    let Listed { rows, count, .. } = store.list(&tables(), None, &query).await.unwrap();
    let before = rows.len();
    assert_eq!(count, Some(before as u64));
    let writing = async {
        for number in 0..60_u64 {
            let document = json!({"name": "n", "price": 1, "category": "new", "in_stock": true});
            let id = format!("new-{number}");
            let change = put(&id, fence.position + 1, document);
            fence = write(&store, &fence, vec![change]).await.unwrap();
        }
    };
    let reading = async {
        loop {
            let Listed { rows, count, .. } = store.list(&tables(), None, &query).await.unwrap();
            assert_eq!(count, Some(rows.len() as u64));
            if rows.len() == before + 60 {
                return;
            }
        }
    };
    tokio::join!(writing, reading);
}
