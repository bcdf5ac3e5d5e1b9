//! Text that reads the same is the same to filters, sort orders and searches; what is of another type than
//! declared has its place.

use super::*;
use crate::{
    read_model::{live::Condition, parameters::cursor::Cursor},
    view::Sort,
};
use serde_json::Value as Json;

/// `사과` and `바나나` letter by letter, as some systems type them.
const APPLE: &str = "\u{1109}\u{1161}\u{1100}\u{116a}";
const BANANA: &str = "\u{1107}\u{1161}\u{1102}\u{1161}\u{1102}\u{1161}";

async fn stored(documents: Vec<(&str, Json)>) -> Store {
    stored_of(&description(), documents).await
}

async fn stored_of(view: &ViewDescription, documents: Vec<(&str, Json)>) -> Store {
    let tables = ViewTables::of(view).unwrap();
    let store = store("mem://").await;
    store.define(&tables).await.unwrap();
    let fence = store.checkpoint(&tables).await.unwrap();
    let documents = documents.into_iter();
    let changes = Changes {
        documents: documents
            .map(|(id, document)| put(id, 1, document))
            .collect(),
        ..Changes::default()
    };
    let next = Checkpoint {
        revision: fence.revision + 1,
        ..fence.clone()
    };
    store.write(&tables, &fence, next, changes).await.unwrap();
    store
}

/// Walks a list by the cursors that its pages answer.
async fn pages(store: &Store, view: &ViewDescription, parameters: &[(&str, &str)]) -> Vec<String> {
    let tables = ViewTables::of(view).unwrap();
    let mut parameters: BTreeMap<String, String> = parameters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut ids = Vec::new();
    loop {
        let query = ListQuery::read(("product", 1), &view.query, &parameters).unwrap();
        let mut rows = store.list(&tables, None, &query).await.unwrap().rows;
        let more = rows.len() > query.limit;
        rows.truncate(query.limit);
        ids.extend(rows.iter().map(|row| row.id.clone()));
        let Some(last) = rows.last().filter(|_| more) else {
            return ids;
        };
        let key = last.key(query.order);
        let next = Cursor::new(("product", 1), "log", &query, key, last.id.clone()).to_text();
        assert!(next.len() < 7_000, "{} is too long", next.len());
        parameters.insert("cursor".to_owned(), next);
    }
}

#[tokio::test]
async fn a_search_finds_what_reads_the_same() {
    let names = [
        ("composed", "햇사과 1kg".to_owned()),
        ("decomposed", format!("풋{APPLE} 2㎏")),
        ("wide", "ＡＰＰＬＥ　Ｊｕｉｃｅ".to_owned()),
        ("ligature", "ﬁg".to_owned()),
        ("kana", "ｶﾞﾑ".to_owned()),
        ("accents", "cafe\u{301} au lait".to_owned()),
        ("sharp", "Straßenkäse".to_owned()),
        ("emoji", "🍎 선물세트".to_owned()),
        ("family", "👨\u{200d}👩\u{200d}👧 도시락".to_owned()),
        ("heart", "하트❤\u{fe0f}초콜릿".to_owned()),
        ("loud", "매운맛!!".to_owned()),
        ("dash", "co-op 100% @home".to_owned()),
        ("circled", "①번 소스".to_owned()),
    ];
    let documents = names
        .iter()
        .map(|(id, name)| (*id, json!({"name": name})))
        .collect();
    let store = stored(documents).await;
    let found = async |q: &str| {
        let mut found = pages(&store, &description(), &[("q", q)]).await;
        found.sort();
        found
    };
    for q in ["사과", APPLE] {
        assert_eq!(found(q).await, ["composed", "decomposed"], "{q}");
    }
    for (q, id) in [
        ("2kg", "decomposed"),
        ("２ＫＧ", "decomposed"),
        ("1㎏", "composed"),
        ("apple", "wide"),
        ("Apple JUICE", "wide"),
        ("FIG", "ligature"),
        ("ガム", "kana"),
        ("ｶﾞ", "kana"),
        ("café", "accents"),
        ("CAFE\u{301}", "accents"),
        ("STRASSEN", "sharp"),
        ("KA\u{308}SE", "sharp"),
        ("🍎", "emoji"),
        ("🍎 세트", "emoji"),
        ("👩", "family"),
        ("👨\u{200d}👩\u{200d}👧", "family"),
        ("❤", "heart"),
        ("❤\u{fe0f}", "heart"),
        ("트❤초", "heart"),
        ("!!", "loud"),
        ("맛!", "loud"),
        ("%", "dash"),
        ("-", "dash"),
        ("co-op", "dash"),
        ("@", "dash"),
        ("1번", "circled"),
    ] {
        assert_eq!(found(q).await, [id], "{q}");
    }
    for q in ["🍏", "!!!", "❤🔥", "과사", "-%"] {
        assert!(found(q).await.is_empty(), "{q}");
    }
}

#[tokio::test]
async fn filters_and_orders_compare_what_reads_the_same_and_what_was_given_is_served() {
    let documents = [
        ("a", json!({"name": APPLE, "category": "사과", "price": 1})),
        (
            "b",
            json!({"name": "바나나", "category": APPLE, "price": 2}),
        ),
        ("c", json!({"name": "사과", "category": BANANA, "price": 3})),
        ("d", json!({"name": BANANA, "category": "사과", "price": 4})),
        (
            "e",
            json!({"name": "cafe\u{301}", "category": "K", "price": 5}),
        ),
        (
            "f",
            json!({"name": "caf\u{e9}", "category": "\u{212a}", "price": 6}),
        ),
    ];
    let store = stored(documents.to_vec()).await;
    let list = async |parameters: &[(&str, &str)]| pages(&store, &description(), parameters).await;
    for q in ["사과", APPLE] {
        assert_eq!(list(&[("category", q)]).await, ["a", "b", "d"], "{q}");
    }
    assert_eq!(list(&[("category", "\u{212a}")]).await, ["e", "f"]);
    for limit in ["1", "2", "200"] {
        let by_name = list(&[("sort", "name"), ("limit", limit)]).await;
        assert_eq!(by_name, ["e", "f", "b", "d", "a", "c"], "by {limit}");
        let back = list(&[("sort", "-name"), ("limit", limit)]).await;
        assert_eq!(back, ["c", "a", "d", "b", "f", "e"], "by {limit}");
    }
    for (id, document) in documents {
        let row = store.get(&tables(), id).await.unwrap().unwrap();
        assert_eq!(row.document, document);
        let text = store.texts(&tables(), None, [id]).await.unwrap().remove(0);
        assert_eq!(
            serde_json::from_str::<Json>(&text.document).unwrap(),
            document
        );
    }
    // A cursor of one form goes on in the other.
    let first = ask(&[("category", APPLE), ("limit", "1")]);
    let cursor = Cursor::new(
        ("product", 1),
        "log",
        &first,
        Some(json!(1)),
        "a".to_owned(),
    )
    .to_text();
    let rest = list(&[("category", "사과"), ("limit", "1"), ("cursor", &cursor)]).await;
    assert_eq!(rest, ["b", "d"]);
}

/// Fields of every type, by which filters of every kind ask.
fn every_type() -> Vec<Json> {
    vec![
        json!(null),
        json!(true),
        json!(false),
        json!(-7),
        json!(5),
        json!(5.0),
        json!(5.5),
        json!(i64::MAX),
        json!(1e300),
        json!(""),
        json!("5"),
        json!("사과"),
        json!(APPLE),
        json!("true"),
        json!([5, "사과"]),
        json!({"a": 5}),
    ]
}

#[tokio::test]
async fn a_list_and_a_live_list_have_the_same_documents() {
    let every = every_type();
    let mut documents: Vec<_> = every
        .iter()
        .enumerate()
        .map(|(number, value)| {
            (
                format!("d-{number:02}"),
                json!({"field": value, "order": number}),
            )
        })
        .collect();
    documents.push(("none".to_owned(), json!({"order": 99})));
    let sort = |field| Sort {
        field,
        kind: Kind::Integer,
    };
    for (compare, kind, values) in [
        (Compare::Equal, Kind::Boolean, &["true", "false"][..]),
        (
            Compare::Equal,
            Kind::Integer,
            &["5", "0", "9223372036854775807"],
        ),
        (
            Compare::AtLeast,
            Kind::Integer,
            &["5", "-9223372036854775808"],
        ),
        (
            Compare::AtMost,
            Kind::Integer,
            &["5", "9223372036854775807"],
        ),
        (Compare::Equal, Kind::Text, &["5", "사과", APPLE, ""]),
        (Compare::AtLeast, Kind::Text, &["", "5", APPLE]),
        (Compare::AtMost, Kind::Text, &["", "5", APPLE, "\u{10ffff}"]),
    ] {
        for sorts in [vec![], vec![sort("order")], vec![sort("field")]] {
            let mut view = description();
            let filter = Filter {
                name: "f",
                field: "field",
                compare,
                kind,
            };
            view.query.filters = vec![filter];
            view.query.sorts = sorts;
            let borrowed = documents.iter();
            let borrowed = borrowed.map(|(id, document)| (id.as_str(), document.clone()));
            let store = stored_of(&view, borrowed.collect()).await;
            for value in values {
                let mut listed = pages(&store, &view, &[("f", value), ("limit", "3")]).await;
                listed.sort();
                let asked = BTreeMap::from([("f".to_owned(), (*value).to_owned())]);
                let query = ListQuery::read(("product", 1), &view.query, &asked).unwrap();
                let condition = Condition::new(filter, query.filters[0].1.clone()).unwrap();
                let live = documents
                    .iter()
                    .filter(|(_, document)| condition.holds(document));
                let live: Vec<_> = live.map(|(id, _)| id.clone()).collect();
                assert_eq!(
                    listed, live,
                    "{compare:?} {kind:?} {value:?} {:?}",
                    view.query.sorts
                );
            }
        }
    }
}

#[tokio::test]
async fn every_page_has_a_cursor_that_is_taken_again() {
    let long = |first: char| format!("{first}{}", "\u{1}사".repeat(20_000));
    let mut names = vec![
        json!(long('a')),
        json!(long('b')),
        json!(long('b')),
        json!("b"),
    ];
    names.extend(every_type());
    let documents: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(number, name)| {
            (
                format!("d-{number:02}"),
                json!({"name": name, "price": name}),
            )
        })
        .collect();
    let borrowed = documents.iter();
    let borrowed = borrowed.map(|(id, document)| (id.as_str(), document.clone()));
    let store = stored(borrowed.collect()).await;
    for sort in ["name", "-name", "price", "-price"] {
        let whole = pages(&store, &description(), &[("sort", sort), ("limit", "200")]).await;
        assert_eq!(whole.iter().collect::<BTreeSet<_>>().len(), documents.len());
        for limit in ["1", "3"] {
            let paged = pages(&store, &description(), &[("sort", sort), ("limit", limit)]).await;
            assert_eq!(paged, whole, "{sort} by {limit}");
        }
    }
}

#[tokio::test]
async fn a_route_leads_to_the_documents_with_its_very_value() {
    let store = stored(vec![
        (
            "composed",
            json!({"category": "사과", "lines": [{"sku": "s"}]}),
        ),
        (
            "decomposed",
            json!({"category": APPLE, "lines": [{"sku": "s"}]}),
        ),
        (
            "other",
            json!({"category": "배", "lines": [{"sku": APPLE}]}),
        ),
    ])
    .await;
    let mut view = description();
    view.query.routes.push(vec!["category"]);
    let tables = ViewTables::of(&view).unwrap();
    store.define(&tables).await.unwrap();
    let by = |category: &str| vec![("category", category.to_owned())];
    let both = |category: &str| {
        vec![
            ("category", category.to_owned()),
            ("lines[].sku", "s".to_owned()),
        ]
    };
    for routes in [
        vec![(by("사과"), "composed"), (by(APPLE), "decomposed")],
        vec![(by(APPLE), "decomposed")],
        vec![(both("사과"), "composed"), (both(APPLE), "decomposed")],
        vec![(vec![("lines[].sku", APPLE.to_owned())], "other")],
    ] {
        let needs = Needs {
            routes: routes.iter().map(|(route, _)| route.clone()).collect(),
            ..Needs::default()
        };
        let found = store.load(&tables, &needs, 100).await.unwrap();
        assert_eq!(found.routes.len(), routes.len());
        for (route, expected) in routes {
            let (_, led) = found.routes.iter().find(|(key, _)| *key == route).unwrap();
            let ids = super::ids(led);
            assert_eq!(ids, [expected], "{route:?}");
        }
    }
}

#[tokio::test]
async fn a_search_in_tables_without_its_index_is_refused_and_never_empty() {
    let store = stored(vec![("a", json!({"name": "사과"}))]).await;
    assert!(store.has_index(&tables(), TEXT_INDEX).await.unwrap());
    let mut view = description();
    view.query.search.clear();
    view.name = "unsearched";
    let tables = ViewTables::of(&view).unwrap();
    assert!(!store.has_index(&tables, TEXT_INDEX).await.unwrap());
    store.define(&tables).await.unwrap();
    assert!(!store.has_index(&tables, TEXT_INDEX).await.unwrap());
    // The same tables to a program whose version is searched.
    view.query.search.push("name");
    view.version = 2;
    let tables = ViewTables::generation(&view, Generation::first(1)).unwrap();
    let refused = store.list(&tables, None, &ask(&[("q", "사과")])).await;
    assert!(matches!(refused, Err(StoreError::NotSearchable)));
}
