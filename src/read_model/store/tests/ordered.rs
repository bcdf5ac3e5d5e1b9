//! Lists against a list made by hand: every combination of filters, in every order, page by page, with
//! counts and facets; and how much of the store a page reads.

use super::*;
use crate::read_model::live::Condition;
use serde_json::Value as Json;
use std::cmp::Ordering;

pub(super) fn view() -> ViewDescription {
    let mut view = description();
    view.query.search.clear();
    view.query.routes.clear();
    view.query.combined = vec![vec!["category", "in_stock"]];
    view.query.counted = vec![vec!["category", "in_stock"]];
    view
}

/// Documents of which many share a value, some have none, and some have one of another type.
pub(super) fn documents(count: u64) -> Vec<(String, Json)> {
    let documents = (0..count).map(|number| {
        let random = crate::stable_hash::mixed(number);
        let pick = |shift: u32, of: u64| (random >> shift) % of;
        let name = ["사과", "배", "배나무", "", "a", "A"][pick(0, 6) as usize];
        let mut document = json!({"name": name});
        match pick(8, 10) {
            0 => {}
            1 => document["price"] = Json::Null,
            2 => document["price"] = json!(2.5),
            3 => document["price"] = json!("dear"),
            _ => document["price"] = json!(pick(16, 5) as i64 - 1),
        }
        match pick(24, 5) {
            0 => {}
            1 => document["category"] = Json::Null,
            of => document["category"] = ["fruit", "bread", "fish"][of as usize - 2].into(),
        }
        if pick(32, 3) > 0 {
            document["in_stock"] = json!(pick(40, 2) == 0);
        }
        (format!("p-{number}"), document)
    });
    documents.collect()
}

pub(super) async fn fill(store: &Store, documents: &[(String, Json)]) -> Checkpoint {
    let tables = ViewTables::of(&view()).unwrap();
    store.define(&tables).await.unwrap();
    let mut fence = store.checkpoint(&tables).await.unwrap();
    for some in documents.chunks(1_000) {
        let changes = some
            .iter()
            .map(|(id, document)| put(id, 1, document.clone()));
        fence = change(store, &fence, changes.collect()).await;
    }
    fence
}

pub(super) async fn change(
    store: &Store,
    fence: &Checkpoint,
    documents: Vec<DocumentChange>,
) -> Checkpoint {
    let tables = ViewTables::of(&view()).unwrap();
    let next = Checkpoint {
        revision: fence.revision + 1,
        ..fence.clone()
    };
    let changes = Changes {
        documents,
        ..Changes::default()
    };
    store.write(&tables, fence, next, changes).await.unwrap()
}

pub(super) fn read(parameters: &[(&str, &str)]) -> ListQuery {
    let parameters = parameters.iter();
    let parameters = parameters.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    ListQuery::read(("product", 1), &view().query, &parameters.collect()).unwrap()
}

/// Every combination of filters.
pub(super) fn filtered() -> Vec<Vec<(&'static str, &'static str)>> {
    let filters = [
        ("category", "fruit"),
        ("in_stock", "true"),
        ("price_min", "0"),
        ("price_max", "2"),
    ];
    let chosen = (0..1_u32 << filters.len()).map(|chosen| {
        let filters = filters.iter().enumerate();
        let filters = filters.filter(|(number, _)| chosen & (1 << number) != 0);
        filters.map(|(_, filter)| *filter).collect()
    });
    chosen.collect()
}

fn matching<'a>(query: &ListQuery, documents: &'a [(String, Json)]) -> Vec<&'a (String, Json)> {
    let conditions = query.filters.iter().cloned();
    let conditions: Vec<_> = conditions
        .filter_map(|(filter, value)| Condition::new(filter, value))
        .collect();
    let holds = |(_, document): &&(String, Json)| conditions.iter().all(|it| it.holds(document));
    documents.iter().filter(holds).collect()
}

/// The order of the engine, which is that of lists.
fn compare(one: Option<&Json>, other: Option<&Json>) -> Ordering {
    let rank = |value: Option<&Json>| match value {
        None => 0,
        Some(Json::Null) => 1,
        Some(Json::Bool(_)) => 2,
        Some(Json::Number(_)) => 3,
        Some(_) => 4,
    };
    let float = |value: Option<&Json>| value.and_then(Json::as_f64);
    let text = |value: Option<&Json>| value.and_then(Json::as_str).map(ToOwned::to_owned);
    rank(one)
        .cmp(&rank(other))
        .then_with(|| float(one).partial_cmp(&float(other)).unwrap())
        .then_with(|| text(one).cmp(&text(other)))
}

async fn pages(store: &Store, mut query: ListQuery, limit: usize) -> Vec<String> {
    let tables = ViewTables::of(&view()).unwrap();
    query.limit = limit;
    let mut ids = Vec::new();
    loop {
        let mut rows = store.list(&tables, None, &query).await.unwrap().rows;
        let more = rows.len() > limit;
        rows.truncate(limit);
        ids.extend(rows.iter().map(|row| row.id.clone()));
        match rows.last() {
            Some(last) if more => query.after = Some((last.key(query.order), last.id.clone())),
            _ => return ids,
        }
    }
}

#[tokio::test]
async fn every_list_is_what_it_would_be_by_hand() {
    let store = store("mem://").await;
    let documents = documents(90);
    fill(&store, &documents).await;
    for filters in filtered() {
        for sort in ["price", "-price", "name", "-name"] {
            let mut parameters = filters.clone();
            parameters.push(("sort", sort));
            let query = read(&parameters);
            let field = sort.trim_start_matches('-');
            let mut expected = matching(&query, &documents);
            expected.sort_by(|(a, one), (b, other)| {
                compare(one.get(field), other.get(field)).then_with(|| a.cmp(b))
            });
            if sort.starts_with('-') {
                expected.reverse();
            }
            let expected: Vec<_> = expected.into_iter().map(|(id, _)| id.clone()).collect();
            for limit in [4, 200] {
                let listed = pages(&store, query.clone(), limit).await;
                assert_eq!(listed, expected, "{parameters:?} by {limit}");
            }
        }
    }
}

/// By the value of a field, as a list without filters by that field counts them.
fn by_value(query: &ListQuery, documents: &[(String, Json)], field: &str) -> BTreeMap<String, u64> {
    let mut query = query.clone();
    query.filters.retain(|(filter, _)| filter.field != field);
    let mut counts = BTreeMap::new();
    for (_, document) in matching(&query, documents) {
        if let Some(value) = document.get(field).filter(|value| !value.is_null()) {
            *counts.entry(value.to_string()).or_default() += 1;
        }
    }
    counts
}

async fn assert_counted(store: &Store, documents: &[(String, Json)]) {
    let tables = ViewTables::of(&view()).unwrap();
    for filters in filtered() {
        for sort in ["price", "-price", "name"] {
            let mut parameters = filters.clone();
            parameters.extend([
                ("sort", sort),
                ("count", "true"),
                ("facets", "in_stock,category"),
            ]);
            let query = read(&parameters);
            let listed = store.list(&tables, None, &query).await.unwrap();
            let matching = matching(&query, documents).len() as u64;
            assert_eq!(listed.count, Some(matching), "{parameters:?}");
            let facets: Vec<_> = listed.facets.iter().map(|facet| &facet.counts).collect();
            let expected = ["in_stock", "category"].map(|field| by_value(&query, documents, field));
            assert_eq!(
                facets,
                expected.iter().collect::<Vec<_>>(),
                "{parameters:?}"
            );
        }
    }
}

#[tokio::test]
async fn counts_and_facets_are_what_they_would_be_by_hand_while_documents_come_change_and_go() {
    let store = store("mem://").await;
    let mut documents = documents(60);
    let mut fence = fill(&store, &documents).await;
    assert_counted(&store, &documents).await;
    let other = self::documents(120).split_off(60);
    let mut changes = Vec::new();
    // A third changes, a third goes, and as many come.
    for (number, (_, new)) in other.into_iter().enumerate() {
        let (id, before) = documents[number].clone();
        let (exists, document) = match number % 3 {
            0 => (true, Some(new)),
            1 => (true, None),
            _ => {
                documents.push((format!("new-{number}"), new.clone()));
                changes.push(put(&format!("new-{number}"), 2, new));
                continue;
            }
        };
        documents[number].1 = document.clone().unwrap_or_default();
        let before = Some(before);
        changes.push(DocumentChange {
            id,
            position: 2,
            exists,
            before,
            document,
        });
    }
    documents.retain(|(_, document)| !document.is_null());
    fence = change(&store, &fence, changes).await;
    assert_counted(&store, &documents).await;
    let changes = documents.iter().map(|(id, before)| DocumentChange {
        id: id.clone(),
        position: 3,
        exists: true,
        before: Some(before.clone()),
        document: None,
    });
    change(&store, &fence, changes.collect()).await;
    assert_counted(&store, &[]).await;
}

#[tokio::test]
async fn counts_that_are_not_those_of_the_documents_are_told() {
    let store = store("mem://").await;
    let documents = documents(60);
    fill(&store, &documents).await;
    let tables = ViewTables::of(&view()).unwrap();
    let compared = store.compare_counts(&tables).await.unwrap();
    let combinations = documents.iter().map(|(_, document)| {
        let values = ["category", "in_stock"].map(|name| document.get(name).cloned());
        json!(values).to_string()
    });
    let combinations: BTreeSet<_> = combinations.collect();
    let expected = (combinations.len() as u64, 0);
    assert_eq!((compared.checked, compared.different), expected);
    // A document that is removed past the counts, and a count of documents that never were.
    let of_fruit = |(_, document): &&(String, Json)| {
        document["category"] == "fruit" && document["in_stock"] == true
    };
    let fruit: Vec<_> = documents.iter().filter(of_fruit).collect();
    let many = fruit.len() as i64;
    let removed = DocumentChange {
        document: None,
        ..put(&fruit[0].0, 1, Json::Null)
    };
    store.tamper(&tables, removed).await.unwrap();
    let tea = format!(
        "UPSERT {}:['category,in_stock', 'tea', NULL] SET n = 3;",
        tables.counts
    );
    store.by_hand(&tea).await.unwrap();
    let compared = store.compare_counts(&tables).await.unwrap();
    let told = compared.differences.iter().map(|difference| {
        let values = Json::Array(difference.values.clone());
        (values, difference.stored, difference.documents)
    });
    let expected = [
        (json!(["fruit", true]), many, many - 1),
        (json!(["tea", null]), 3, 0),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_eq!(compared.different, 2);
    assert_eq!(compared.differences[0].fields, "category,in_stock");
}

/// Returns how many rows the plan says that were read from the index.
fn rows_read(plan: &str) -> usize {
    let scan = plan.lines().find(|line| line.contains("IndexScan"));
    let scan = scan.unwrap_or_else(|| panic!("no index is walked: {plan}"));
    let (_, rows) = scan.split_once("{rows: ").unwrap();
    rows.split_once(',').unwrap().0.parse().unwrap()
}

/// A page by equalities reads what it answers and one more, of however many documents.
async fn assert_rows_read(count: u64) {
    let store = store("mem://").await;
    fill(&store, &documents(count)).await;
    let tables = ViewTables::of(&view()).unwrap();
    for filters in filtered() {
        for sort in ["price", "-price", "name", "-name"] {
            let ranged = filters.iter().any(|(name, _)| name.starts_with("price"));
            if ranged && !sort.ends_with("price") {
                continue;
            }
            let mut parameters = filters.clone();
            parameters.push(("sort", sort));
            let mut query = read(&parameters);
            for page in 0..3 {
                let plan = store.analyze(&tables, &query).await.unwrap();
                let shown = format!("{parameters:?} page {page} of {count}\n{plan}");
                assert!(plan.contains("direction: Forward"), "{shown}");
                assert!(plan.contains("limit: 21"), "{shown}");
                assert!(rows_read(&plan) <= 21, "{shown}");
                // Within the documents that share a value, too.
                let rows = store.list(&tables, None, &query).await.unwrap().rows;
                query.after = rows
                    .get(19)
                    .map(|row| (row.key(query.order), row.id.clone()));
            }
        }
    }
}

#[tokio::test]
async fn a_page_reads_what_it_answers_however_many_documents_there_are() {
    assert_rows_read(200).await;
    assert_rows_read(10_000).await;
}

#[tokio::test]
async fn a_view_without_orders_is_listed_by_id() {
    let store = store("mem://").await;
    let mut view = view();
    view.query.sorts.clear();
    let tables = ViewTables::of(&view).unwrap();
    store.define(&tables).await.unwrap();
    let fence = store.checkpoint(&tables).await.unwrap();
    let documents = documents(30);
    let changes = Changes {
        documents: documents
            .iter()
            .map(|(id, it)| put(id, 1, it.clone()))
            .collect(),
        ..Changes::default()
    };
    let next = Checkpoint {
        revision: fence.revision + 1,
        ..fence.clone()
    };
    store.write(&tables, &fence, next, changes).await.unwrap();
    for filters in [vec![], vec![("category", "fruit")]] {
        let parameters = filters.into_iter();
        let parameters = parameters.map(|(name, value): (&str, &str)| (name.into(), value.into()));
        let mut query =
            ListQuery::read(("product", 1), &view.query, &parameters.collect()).unwrap();
        query.limit = 4;
        let mut expected: Vec<_> = matching(&query, &documents)
            .iter()
            .map(|it| &it.0)
            .collect();
        expected.sort();
        let mut ids = Vec::new();
        loop {
            let plan = store.analyze(&tables, &query).await.unwrap();
            assert!(rows_read(&plan) <= 5, "{plan}");
            let mut rows = store.list(&tables, None, &query).await.unwrap().rows;
            let more = rows.len() > query.limit;
            rows.truncate(query.limit);
            query.after = rows.last().map(|last| (None, last.id.clone()));
            ids.extend(rows.into_iter().map(|row| row.id));
            if !more {
                break;
            }
        }
        assert_eq!(ids.iter().collect::<Vec<_>>(), expected);
    }
}
