use super::*;
use crate::{
    read_model::tests::{filters, sorts},
    view::{Kind, Query, Sort},
};
use futures::FutureExt;
use std::collections::BTreeMap;
use tokio::sync::oneshot;

fn lists(capacity: usize) -> Arc<ViewLists> {
    ViewLists::new(ListCache::new(capacity), 0, "v")
}

fn query(parameters: &[(&str, &str)]) -> ListQuery {
    let mut sorts = sorts();
    sorts.push(Sort {
        field: "rank",
        kind: Kind::Integer,
    });
    let declared = Query {
        filters: filters(),
        sorts,
        search: vec!["name"],
        routes: Vec::new(),
        combined: Vec::new(),
        counted: Vec::new(),
    };
    let parameters = parameters.iter();
    let parameters = parameters.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let parameters = BTreeMap::from_iter(parameters);
    ListQuery::read(("v", 1), &declared, &parameters).unwrap()
}

fn found(body: &str) -> FoundPage {
    let page = ServedPage {
        body: body.to_owned().into(),
        tag: "\"tag\"".into(),
    };
    FoundPage { page, newest: 7 }
}

fn changed(ids: &[&str]) -> Applied {
    Applied {
        ids: ids.iter().map(|&id| id.to_owned()).collect(),
        ..Applied::default()
    }
}

/// Asks for a list, which is found as `body` if it is read.
async fn ask(lists: &Arc<ViewLists>, query: &ListQuery, body: &str) -> String {
    let found = found(body);
    let read = |begin: Begin| async move {
        begin.now();
        Ok(found)
    };
    text(lists.find(&Edition::default(), query, read).await)
}

fn text(found: Found) -> String {
    String::from_utf8(found.unwrap().page.body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_page_is_found_until_a_document_changes() {
    let lists = lists(1 << 20);
    let all = query(&[]);
    assert_eq!(ask(&lists, &all, "first").await, "first");
    assert_eq!(ask(&lists, &all, "again").await, "first");
    assert_eq!(
        ask(&lists, &query(&[("limit", "3")]), "other").await,
        "other"
    );
    // The view has come further, and no document is another.
    lists.changed(&changed(&[]), &[]);
    assert_eq!(ask(&lists, &all, "again").await, "first");
    lists.changed(&changed(&["a"]), &[]);
    assert_eq!(ask(&lists, &all, "second").await, "second");
    lists.lost(9);
    assert_eq!(ask(&lists, &all, "third").await, "third");
    assert_eq!(ask(&lists, &all, "again").await, "third");
}

#[tokio::test]
async fn views_and_editions_do_not_meet() {
    let cache = ListCache::new(1 << 20);
    let one = ViewLists::new(Arc::clone(&cache), 0, "v");
    let other = ViewLists::new(cache, 1, "w");
    let all = query(&[]);
    assert_eq!(ask(&one, &all, "of one").await, "of one");
    assert_eq!(ask(&other, &all, "of the other").await, "of the other");
    other.lost(3);
    assert_eq!(ask(&one, &all, "again").await, "of one");
    let edition: Edition = serde_json::from_str("\"l.0-1-1-0\"").unwrap();
    let read = |_: Begin| async { Ok(found("of another edition")) };
    let found = one.find(&edition, &all, read).await;
    assert_eq!(text(found), "of another edition");
}

#[test]
fn what_asks_for_the_same_has_one_key_and_what_does_not_has_its_own() {
    let key = |parameters: &[(&str, &str)]| {
        ListKey::new(0, &Edition::default(), &query(parameters)).question
    };
    for (one, other) in [
        (vec![], vec![("sort", "price"), ("limit", "20")]),
        (vec![], vec![("count", "false")]),
        (
            vec![("category", "가")],
            vec![("category", "\u{1100}\u{1161}")],
        ),
        (vec![("price_min", "5")], vec![("price_min", "+005")]),
        (vec![("q", "Apple  pie")], vec![("q", "apple pie")]),
        (
            vec![("facets", "category,in_stock")],
            vec![("facets", "in_stock,category")],
        ),
    ] {
        assert_eq!(key(&one), key(&other), "{one:?} and {other:?}");
    }
    let all = [
        vec![],
        vec![("sort", "-price")],
        vec![("sort", "name")],
        vec![("limit", "3")],
        vec![("count", "true")],
        vec![("facets", "category")],
        vec![("facets", "in_stock")],
        vec![("category", "fruit")],
        vec![("category", "true")],
        vec![("in_stock", "true")],
        vec![("price_min", "5")],
        vec![("price_max", "5")],
        vec![("q", "fruit")],
        vec![("q", "fruit"), ("sort", "rank")],
        vec![("q", "fruit"), ("sort", "-rank")],
        vec![("q", "a b")],
        vec![("q", "b a")],
    ];
    for (number, one) in all.iter().enumerate() {
        for other in &all[number + 1..] {
            assert_ne!(key(one), key(other), "{one:?} and {other:?}");
        }
    }
    let page = |after: Option<&str>| {
        let mut query = query(&[]);
        query.after = after.map(|id| (Some(5.into()), id.to_owned()));
        ListKey::new(0, &Edition::default(), &query)
    };
    assert_ne!(page(None), page(Some("a")));
    assert_ne!(page(Some("a")), page(Some("b")));
}

/// A reading that goes on when it is told to.
struct Gate {
    begin: Option<oneshot::Sender<()>>,
    answer: Option<oneshot::Sender<Found>>,
    /// Gone when the reading is.
    alive: std::sync::Weak<()>,
}

impl Gate {
    fn open(&mut self, body: &str) {
        self.answer.take().unwrap().send(Ok(found(body))).unwrap();
    }
}

/// Asks for a list that is read as the gate says.
fn gated(lists: &Arc<ViewLists>, query: &ListQuery) -> (BoxFuture<'static, Found>, Gate) {
    let ((begin, begins), (answer, answers)) = (oneshot::channel(), oneshot::channel());
    let alive = Arc::new(());
    let gate = Gate {
        begin: Some(begin),
        answer: Some(answer),
        alive: Arc::downgrade(&alive),
    };
    let (lists, query) = (Arc::clone(lists), query.clone());
    let asking = async move {
        let read = move |begin: Begin| async move {
            let _alive = alive;
            let _ = begins.await;
            begin.now();
            answers
                .await
                .unwrap_or_else(|_| Err(Problem::overloaded().into()))
        };
        lists.find(&Edition::default(), &query, read).await
    };
    let mut asking = asking.boxed();
    assert!(asking.as_mut().now_or_never().is_none());
    (asking, gate)
}

#[tokio::test]
async fn a_page_that_was_read_while_something_changed_is_not_kept() {
    let lists = lists(1 << 20);
    let all = query(&[]);
    let (mut asking, mut gate) = gated(&lists, &all);
    drop(gate.begin.take());
    assert!(asking.as_mut().now_or_never().is_none());
    lists.changed(&changed(&["a"]), &[]);
    gate.open("old");
    assert_eq!(text(asking.await), "old");
    assert_eq!(ask(&lists, &all, "new").await, "new");
}

#[tokio::test]
async fn equal_lists_are_read_once_and_who_asks_after_a_change_does_not_join() {
    let lists = lists(1 << 20);
    let all = query(&[]);
    let (mut first, mut gate) = gated(&lists, &all);
    // The first waits for its turn: whatever changes by then, it will have.
    lists.changed(&changed(&["a"]), &[]);
    let (mut second, unused) = gated(&lists, &all);
    assert!(unused.alive.upgrade().is_none());
    drop(gate.begin.take());
    assert!(first.as_mut().now_or_never().is_none());
    let (third, unused) = gated(&lists, &all);
    assert!(unused.alive.upgrade().is_none());
    // Another list is not waited for.
    assert_eq!(
        ask(&lists, &query(&[("limit", "1")]), "other").await,
        "other"
    );

    lists.changed(&changed(&["a"]), &[]);
    let (fourth, mut newer) = gated(&lists, &all);
    drop(newer.begin.take());
    gate.open("old");
    assert_eq!(text(first.await), "old");
    assert!(
        second
            .as_mut()
            .now_or_never()
            .is_some_and(|it| text(it) == "old")
    );
    assert_eq!(text(third.await), "old");
    // The older reading has not put itself in the place of the newer one.
    let (fifth, unused) = gated(&lists, &all);
    assert!(unused.alive.upgrade().is_none());
    newer.open("new");
    assert_eq!(text(fourth.await), "new");
    assert_eq!(text(fifth.await), "new");
    assert_eq!(ask(&lists, &all, "newer").await, "new");
    assert!(lists.lock().is_empty());
}

#[tokio::test]
async fn a_reading_goes_on_for_whoever_waits_and_ends_with_the_last() {
    let lists = lists(1 << 20);
    let all = query(&[]);
    let (first, mut gate) = gated(&lists, &all);
    let (second, _) = gated(&lists, &all);
    drop(first);
    drop(gate.begin.take());
    assert!(gate.alive.upgrade().is_some());
    gate.open("read");
    assert_eq!(text(second.await), "read");

    lists.lost(1);
    let (first, gate) = gated(&lists, &all);
    let (second, _) = gated(&lists, &all);
    drop(second);
    assert!(gate.alive.upgrade().is_some());
    drop(first);
    assert!(gate.alive.upgrade().is_none());
    assert!(lists.lock().is_empty());
    assert_eq!(ask(&lists, &all, "anew").await, "anew");
}

#[tokio::test]
async fn what_fails_fails_for_all_who_wait_and_is_not_kept() {
    let lists = lists(1 << 20);
    let all = query(&[]);
    let (first, gate) = gated(&lists, &all);
    let (second, _) = gated(&lists, &all);
    drop(gate);
    for asking in [first, second] {
        assert_eq!(Problem::from(asking.await.unwrap_err()).status, 429);
    }
    assert_eq!(ask(&lists, &all, "read").await, "read");
}

#[tokio::test]
async fn so_many_join_and_no_more() {
    let lists = lists(1 << 20);
    let all = query(&[]);
    let (first, mut gate) = gated(&lists, &all);
    let mut joined: Vec<_> = (0..JOINED).map(|_| gated(&lists, &all).0).collect();
    let read = |_: Begin| async { Ok(found("not read")) };
    let refused = lists.find(&Edition::default(), &all, read).await;
    assert_eq!(Problem::from(refused.unwrap_err()).status, 429);
    drop(gate.begin.take());
    gate.open("read");
    assert_eq!(text(first.await), "read");
    assert_eq!(text(joined.pop().unwrap().await), "read");
}

#[tokio::test]
async fn it_holds_no_more_bytes_than_it_may() {
    let lists = lists(256 << 10);
    let body = "x".repeat(1_000);
    for number in 1..=2_000 {
        let query = query(&[("price_min", &number.to_string())]);
        ask(&lists, &query, &body).await;
    }
    // One that is larger than all.
    ask(&lists, &query(&[]), &"x".repeat(300 << 10)).await;
    let weight = lists.cache.pages.weight();
    assert!(weight > 0 && weight <= 256 << 10, "{weight}");
    assert!(lists.lock().is_empty());
}
