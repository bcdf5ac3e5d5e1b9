//! The store against the embedded engine: what is written is found again, in order, by an index.

use super::*;
use crate::{
    read_model::{
        ViewDescription,
        exchange::{Changes, Checkpoint, DocumentChange, Needs},
        parameters::ListQuery,
        tests::{filters, sorts},
    },
    view::Query,
};
use jiff::Timestamp;
use serde_json::json;
use std::{collections::BTreeMap, sync::LazyLock};
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

pub(crate) async fn store(url: &str) -> Store {
    Store::open(StoreOptions::new(url, RUNTIME.handle().clone()))
        .await
        .expect("an embedded store opens")
}

fn description() -> ViewDescription {
    ViewDescription {
        name: "product",
        version: 1,
        aggregates: &["product"],
        query: Query {
            filters: filters(),
            sorts: sorts(),
            search: vec!["name", "name_en"],
            routes: vec![vec!["lines[].sku", "category"]],
        },
        document: String::schema(),
        schemas: Vec::new(),
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
        revision: fence.revision + 1,
        writer: "test".to_owned(),
        at: Timestamp::now(),
    };
    let changes = Changes {
        documents,
        ..Changes::default()
    };
    store.write(&tables(), fence, next, changes).await
}

/// Some products: prices repeat and one is missing, so that ids break ties.
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
            put(
                &format!("p-{number:02}"),
                1,
                json!({
                    "name": names[number % names.len()],
                    "name_en": if number % 6 == 0 { json!("Apple") } else { json!(null) },
                    "category": if number % 2 == 0 { "fruit" } else { "other" },
                    "price": price,
                    "in_stock": number % 3 == 0,
                    "lines": [{"sku": format!("s-{}", number % 4)}, {"sku": "s-9"}],
                }),
            )
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

#[tokio::test]
async fn explore() {
    let (store, _) = products("mem://").await;
    for parameters in [
        vec![],
        vec![("sort", "-price")],
        vec![("sort", "-name")],
        vec![("category", "fruit")],
        vec![("category", "fruit"), ("sort", "-price")],
        vec![
            ("category", "fruit"),
            ("in_stock", "true"),
            ("price_min", "100"),
            ("price_max", "300"),
        ],
        vec![("price_min", "100"), ("price_max", "300"), ("sort", "name")],
        vec![("q", "사과")],
        vec![("q", "사과"), ("sort", "price")],
        vec![("q", "사과"), ("category", "fruit")],
    ] {
        let mut query = ask(&parameters);
        println!(
            "== {parameters:?}\n{}",
            store.explain(&tables(), &query).await.unwrap()
        );
        match store.list(&tables(), &query).await {
            Ok(rows) => {
                println!(
                    "{:?}",
                    rows.iter()
                        .map(|r| (r.id.as_str(), r.key(query.order)))
                        .take(6)
                        .collect::<Vec<_>>()
                );
                query.after = rows
                    .get(3)
                    .map(|row| (row.key(query.order), row.id.clone()));
                println!(
                    "-- after\n{}",
                    store.explain(&tables(), &query).await.unwrap()
                );
                let rows = store.list(&tables(), &query).await.unwrap();
                println!(
                    "{:?}",
                    rows.iter()
                        .map(|r| (r.id.as_str(), r.key(query.order)))
                        .take(6)
                        .collect::<Vec<_>>()
                );
            }
            Err(error) => println!("{error}"),
        }
    }
    let needs = Needs {
        documents: ["p-01".to_owned(), "none".to_owned()].into(),
        parts: [("a".to_owned(), "b".to_owned())].into(),
        routes: [vec![
            ("category", "fruit".to_owned()),
            ("lines[].sku", "s-2".to_owned()),
        ]]
        .into(),
    };
    println!(
        "{:?}",
        store.load(&tables(), &needs).await.map(|f| (
            f.documents,
            f.routes.len(),
            f.routes[0].1.len()
        ))
    );
    let mut r = store.query("EXPLAIN SELECT id FROM product_v1 WHERE doc.`category` = 'fruit' AND doc.`lines`.*.`sku` CONTAINS 's-2'", Variables::new()).await.unwrap();
    println!("{:?}", take(&mut r, 0).unwrap());
    println!("parked {:?}", store.parked(&tables()).await);
    println!("get {:?}", store.get(&tables(), "p-07").await);
    println!("get {:?}", store.get(&tables(), "p-none").await.map(|_| ()));
    for q in [
        "배",
        "apple",
        "사과주스",
        "사",
        "App",
        "사과 apple",
        "kg",
        "!!",
        "1",
    ] {
        let mut query = ask(&[("q", q)]);
        query.limit = 100;
        println!(
            "{q}: {:?}",
            store
                .list(&tables(), &query)
                .await
                .map(|rows| rows.iter().map(|r| r.id.clone()).collect::<Vec<_>>())
        );
    }
}
