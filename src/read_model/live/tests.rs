use super::{
    client::{MAX_BEHIND, MAX_PENDING, MAX_PENDING_BYTES},
    hub::{ViewLive, Work},
    *,
};
use crate::{
    read_model::{
        ServedDocument,
        announcement::Applied,
        parameters::{ListQuery, Order},
        watermark::Observer,
    },
    view::{Compare, Filter, Kind},
};
use futures::{FutureExt, StreamExt};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};

/// A list of all documents.
pub(super) fn everything() -> Arc<ListQuery> {
    list(Vec::new())
}

fn list(filters: Vec<(Filter, serde_json::Value)>) -> Arc<ListQuery> {
    Arc::new(ListQuery {
        filters,
        search: None,
        order: Order::Id,
        limit: 200,
        count: false,
        facets: Vec::new(),
        after: None,
        log: None,
        fingerprint: String::new(),
        visible: crate::read_model::visible::Visibility::All,
    })
}

fn category(value: &str) -> (Filter, serde_json::Value) {
    let filter = Filter {
        name: "category",
        field: "category",
        compare: Compare::Equal,
        kind: Kind::Text,
    };
    (filter, json!(value))
}

fn id(position: u64) -> EventId {
    EventId::new("v1".into(), position)
}

fn document(id: &str, version: u64, category: &str) -> ServedDocument {
    let document = json!({"category": category}).to_string();
    ServedDocument::new("v", id, version, &document)
}

fn change(id: &str, version: u64, category: &str) -> (Arc<str>, Option<ServedDocument>) {
    (id.into(), Some(document(id, version, category)))
}

fn gone(id: &str) -> (Arc<str>, Option<ServedDocument>) {
    (id.into(), None)
}

fn applied(previous: u64, position: u64, ids: &[&str]) -> Applied {
    Applied {
        view: "v".to_owned(),
        previous,
        position,
        behind_since: None,
        ids: ids.iter().map(|&id| id.to_owned()).collect(),
        ..Applied::default()
    }
}

/// Returns what is there to be sent: kind, id, and where to go on from, if the client may from there.
fn sent(subscription: &mut Subscription) -> Vec<(LiveKind, String, Option<u64>)> {
    let mut events = Vec::new();
    while let Some(Some(Delivery { event, resumes })) = subscription.next().now_or_never() {
        let from = resumes.then_some(event.from.position);
        events.push((event.kind, event.id.to_string(), from));
    }
    events
}

fn has_ended(subscription: &mut Subscription) -> bool {
    matches!(subscription.next().now_or_never(), Some(None))
}

fn put(id: &str, from: u64) -> (LiveKind, String, Option<u64>) {
    (LiveKind::Put, id.to_owned(), Some(from))
}

fn event(kind: LiveKind, id: &str, from: u64) -> (LiveKind, String, Option<u64>) {
    (kind, id.to_owned(), Some(from))
}

fn join_list(live: &Arc<ViewLive>, value: &str) -> Subscription {
    let filter = category(value);
    let conditions = Vec::from_iter(Condition::new(filter.0, filter.1.clone()));
    live.follow_list(&list(vec![filter]), conditions).unwrap()
}

/// Follows the fruit, none of which is there yet.
fn follow_list(live: &Arc<ViewLive>) -> Subscription {
    let following = join_list(live, "fruit");
    assert!(following.start(Vec::new(), &[], id(0)));
    following
}

fn follow_document(live: &Arc<ViewLive>, name: &str) -> Subscription {
    let following = live.follow_document(name).unwrap();
    assert!(following.start(Vec::new(), &[], id(0)));
    following
}

/// A document as a client has it.
fn has(name: &str, version: u64) -> Arc<LiveEvent> {
    let body = document(name, version, "fruit").body;
    Arc::new(LiveEvent::put(name, id(version), version, body))
}

#[test]
fn changes_during_the_start_come_after_it_and_only_if_they_are_newer() {
    let live = ViewLive::new(0);
    let mut following = live.follow_document("a").unwrap();
    live.offer(vec![change("a", 4, "fruit")], 4);
    assert_eq!(sent(&mut following), []);
    assert!(following.start(vec![has("a", 5)], &[has("a", 5)], id(5)));
    live.offer(vec![change("a", 5, "fruit")], 5);
    live.offer(vec![change("a", 6, "fruit")], 6);
    assert_eq!(sent(&mut following), [put("a", 5), put("a", 6)]);
}

#[test]
fn a_list_is_entered_and_left_and_what_never_was_in_it_is_not_told() {
    let live = ViewLive::new(0);
    let mut following = follow_list(&live);
    live.offer(vec![change("a", 1, "dairy")], 1);
    live.offer(vec![gone("b")], 2);
    assert_eq!(sent(&mut following), []);
    live.offer(vec![change("a", 3, "fruit")], 3);
    assert_eq!(sent(&mut following), [put("a", 3)]);
    live.offer(vec![change("a", 4, "dairy")], 4);
    assert_eq!(sent(&mut following), [event(LiveKind::Leave, "a", 4)]);
    live.offer(vec![change("a", 5, "fruit")], 5);
    live.offer(vec![gone("a")], 6);
    // The newer state of a document takes the place of the one that has not been sent.
    assert_eq!(sent(&mut following), [event(LiveKind::Delete, "a", 6)]);
}

#[test]
fn what_is_newer_than_its_transaction_is_gone_on_from_the_transaction() {
    let live = ViewLive::new(0);
    let mut list = follow_list(&live);
    let mut one = follow_document(&live, "a");
    live.offer(vec![change("a", 9, "fruit")], 7);
    live.offer(vec![change("a", 9, "fruit")], 9);
    assert_eq!(sent(&mut list), [put("a", 7)]);
    assert_eq!(sent(&mut one), [put("a", 9)]);
}

#[test]
fn of_changes_of_one_position_the_last_one_alone_says_where_to_go_on_from() {
    let live = ViewLive::new(0);
    let mut following = follow_list(&live);
    let changes = ["a", "b", "c"].map(|id| change(id, 101, "fruit"));
    live.offer(
        [changes.as_slice(), &[change("d", 99, "fruit")]].concat(),
        102,
    );
    let silent = |id: &str| (LiveKind::Put, id.to_owned(), None);
    assert_eq!(
        sent(&mut following),
        [put("d", 99), silent("a"), silent("b"), put("c", 101)]
    );
    // Documents that were there at the start, too.
    let mut late = join_list(&live, "fruit");
    let there = [has("d", 99), has("a", 101), has("b", 101)];
    assert!(late.start(there.to_vec(), &there, id(102)));
    assert_eq!(sent(&mut late), [put("d", 99), silent("a"), put("b", 101)]);
    assert_eq!(late.reached(), Some(id(102)));
}

#[test]
fn where_to_go_on_from_follows_what_concerns_nobody_and_never_what_waits() {
    let live = ViewLive::new(0);
    let mut following = follow_list(&live);
    assert_eq!(following.reached(), Some(id(0)));
    live.offer(vec![change("a", 5, "dairy")], 5);
    assert_eq!(following.reached(), Some(id(5)));
    live.offer(vec![change("b", 6, "fruit")], 6);
    assert_eq!(following.reached(), None);
    assert_eq!(sent(&mut following), [put("b", 6)]);
    assert_eq!(following.reached(), Some(id(6)));
}

#[test]
fn a_burst_of_as_many_documents_as_a_list_has_cuts_nobody() {
    let live = ViewLive::new(0);
    let mut following = follow_list(&live);
    let names: Vec<_> = (0..MAX_LIVE_DOCUMENTS).map(|n| format!("d-{n}")).collect();
    let changes = |version| {
        let changes = names.iter().map(|name| change(name, version, "fruit"));
        changes.collect::<Vec<_>>()
    };
    for version in 1..=3 {
        live.offer(changes(version), version);
    }
    let gone = names.iter().map(|name| gone(name)).collect();
    live.offer(gone, 4);
    let events = sent(&mut following);
    assert_eq!(events.len(), MAX_LIVE_DOCUMENTS);
    let said = events.iter().filter(|(_, _, from)| from.is_some());
    assert_eq!(said.count(), 1);
    assert!(!has_ended(&mut following));
}

#[test]
fn who_does_not_keep_up_is_cut_off_and_others_are_not() {
    let live = ViewLive::new(0);
    let (mut slow, mut quick) = (follow_list(&live), follow_list(&live));
    let cut = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&cut);
    slow.on_cut(move || told.store(true, Ordering::Relaxed));
    let large = "x".repeat(MAX_PENDING_BYTES / 100);
    let mut received = 0;
    for number in 1..=100 {
        assert!(!cut.load(Ordering::Relaxed));
        let name = format!("d-{number}");
        let document = json!({"category": "fruit", "text": large}).to_string();
        let document = ServedDocument::new("v", &name, number, &document);
        live.offer(vec![(name.into(), Some(document))], number);
        received += sent(&mut quick).len();
    }
    assert!(cut.load(Ordering::Relaxed));
    assert!(has_ended(&mut slow));
    assert_eq!(received, 100);
    assert!(!has_ended(&mut quick));
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_cut_off_after_a_while_however_little_waits() {
    let live = ViewLive::new(0);
    let (mut slow, mut quick) = (follow_document(&live, "a"), follow_document(&live, "a"));
    for version in 1..=5 {
        live.offer(vec![change("a", version, "fruit")], version);
        assert_eq!(sent(&mut quick), [put("a", version)]);
        tokio::time::advance(MAX_BEHIND / 4).await;
    }
    live.offer(vec![change("a", 6, "fruit")], 6);
    assert!(has_ended(&mut slow));
    assert!(!has_ended(&mut quick));
}

#[test]
fn so_many_documents_may_wait_and_no_more() {
    let live = ViewLive::new(0);
    let following = join_list(&live, "fruit");
    let cut = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&cut);
    following.on_cut(move || told.store(true, Ordering::Relaxed));
    // What is there at the start is still being read: it may have any of these.
    for number in 0..=MAX_PENDING as u64 {
        assert!(!cut.load(Ordering::Relaxed));
        let name = format!("d-{number}");
        live.offer(vec![change(&name, number, "dairy")], number);
    }
    assert!(cut.load(Ordering::Relaxed));
}

#[test]
fn a_list_that_grows_too_large_is_told_so_and_ends() {
    let live = ViewLive::new(0);
    let mut following = follow_list(&live);
    let mut dairy = join_list(&live, "dairy");
    assert!(dairy.start(Vec::new(), &[], id(0)));
    for number in 1..=MAX_GROWN as u64 {
        let name = format!("d-{number}");
        live.offer(vec![change(&name, number, "fruit")], number);
        assert_eq!(sent(&mut following).len(), 1);
    }
    live.offer(vec![change("one-more", 9_999, "fruit")], 9_999);
    let end = following.next().now_or_never().flatten().unwrap();
    assert_eq!(end.event.kind, LiveKind::Problem);
    assert!(has_ended(&mut following));
    assert!(!has_ended(&mut dairy));
}

#[test]
fn a_change_comes_to_the_lists_that_it_concerns_whatever_they_are_found_by() {
    let live = ViewLive::new(0);
    let mut all = live.follow_list(&everything(), Vec::new()).unwrap();
    assert!(all.start(Vec::new(), &[], id(0)));
    let mut others: Vec<_> = (0..100)
        .map(|n| join_list(&live, &format!("c-{n}")))
        .collect();
    for other in &others {
        assert!(other.start(Vec::new(), &[], id(0)));
    }
    let mut fruit = follow_list(&live);
    live.offer(vec![change("a", 1, "fruit")], 1);
    live.offer(vec![change("a", 2, "c-7")], 2);
    assert_eq!(sent(&mut all), [put("a", 2)]);
    // It came and went unsent.
    assert_eq!(sent(&mut fruit), [event(LiveKind::Leave, "a", 2)]);
    for (number, other) in others.iter_mut().enumerate() {
        let expected = Vec::from_iter((number == 7).then(|| put("a", 2)));
        assert_eq!(sent(other), expected, "{number}");
    }
    drop(others);
    live.offer(vec![gone("a")], 3);
    assert_eq!(sent(&mut all), [event(LiveKind::Delete, "a", 3)]);
    assert_eq!(sent(&mut fruit), []);
}

#[test]
fn what_leaves_a_list_while_it_is_read_for_a_client_is_told_to_it() {
    let live = ViewLive::new(0);
    let mut following = join_list(&live, "fruit");
    live.offer(vec![change("a", 6, "dairy")], 6);
    assert!(following.start(vec![has("a", 5)], &[has("a", 5)], id(5)));
    assert_eq!(
        sent(&mut following),
        [put("a", 5), event(LiveKind::Leave, "a", 6)]
    );
}

#[tokio::test]
async fn only_what_is_followed_is_read() {
    let live = ViewLive::new(0);
    assert!(!live.is_followed());
    let one = follow_document(&live, "a");
    assert!(live.is_followed());
    live.changed(&applied(0, 1, &["b"]), &[]);
    live.changed(&applied(1, 2, &["a", "b"]), &[]);
    let Work::Changed { ids, position } = live.next().await else {
        panic!("there is something to read")
    };
    assert_eq!((ids, position), (vec!["a".to_owned()], 2));
    let _list = follow_list(&live);
    live.changed(&applied(2, 3, &["b"]), &[]);
    assert!(matches!(live.next().await, Work::Changed { ids, .. } if ids == ["b"]));
    drop(one);
    live.lost(9);
    let Work::Again(again) = live.next().await else {
        panic!("the list is to be read again")
    };
    assert_eq!((again.ids.len(), again.lists.len()), (0, 1));
}

#[tokio::test]
async fn a_gap_has_each_list_read_once_and_ends_nobody() {
    let live = ViewLive::new(0);
    let mut lists = [follow_list(&live), follow_list(&live)];
    let mut one = follow_document(&live, "a");
    for name in ["a", "b"] {
        live.offer(vec![change(name, 5, "fruit")], 5);
    }
    for list in &mut lists {
        sent(list);
    }
    sent(&mut one);
    live.lost(9);
    let Work::Again(again) = live.next().await else {
        panic!("anything may have changed")
    };
    assert_eq!((again.position, &*again.ids), (9, &["a".to_owned()][..]));
    let [(list, _)] = again.lists[..] else {
        panic!("both follow the same list")
    };
    let from = EventId::new("v2".into(), 9);
    // One as before, one in an older state, one gone, one that has come: whatever the versions say.
    live.offer_again(&[change("a", 3, "fruit")], &from, again.epoch);
    let read = vec![change("a", 3, "fruit"), change("c", 2, "fruit")];
    live.offer_list_again(list, read, &from, again.epoch);
    // Who comes after the gap has read all this.
    let mut late = join_list(&live, "fruit");
    assert!(late.start(Vec::new(), &[], from.clone()));
    live.made_up(from.clone(), again.epoch);
    for list in &mut lists {
        assert_eq!(
            sent(list),
            [put("c", 2), put("a", 3), event(LiveKind::Leave, "b", 9)]
        );
        assert_eq!(list.reached(), Some(from.clone()));
    }
    assert_eq!(sent(&mut one), [put("a", 3)]);
    assert_eq!(sent(&mut late), []);
    // From then on, the versions tell again.
    live.offer(vec![change("a", 10, "fruit")], 10);
    for list in &mut lists {
        assert_eq!(sent(list), [put("a", 10)]);
        assert_eq!(list.reached(), Some(from.at(10)));
    }
}

#[test]
fn what_is_the_same_after_a_gap_is_not_sent_again() {
    let live = ViewLive::new(0);
    let mut list = follow_list(&live);
    live.offer(vec![change("a", 5, "fruit")], 5);
    sent(&mut list);
    live.lost(9);
    let Some(Work::Again(again)) = live.next().now_or_never() else {
        panic!("anything may have changed")
    };
    let read = vec![change("a", 5, "fruit")];
    live.offer_list_again(again.lists[0].0, read, &id(9), again.epoch);
    assert_eq!(sent(&mut list), []);
}

#[test]
fn what_a_client_says_that_it_has_is_sent_again_after_a_gap() {
    let live = ViewLive::new(5);
    let mut following = live.follow_document("a").unwrap();
    // It comes again: what has not changed for it is not sent, but may have been exchanged in place.
    assert!(following.start(Vec::new(), &[has("a", 5)], id(5)));
    live.lost(5);
    let Some(Work::Again(again)) = live.next().now_or_never() else {
        panic!("anything may have changed")
    };
    live.offer_again(&[change("a", 5, "fruit")], &id(5), again.epoch);
    assert_eq!(sent(&mut following), [put("a", 5)]);
}

#[test]
fn what_was_read_for_a_client_during_a_gap_is_read_again() {
    let live = ViewLive::new(0);
    let following = live.follow_document("a").unwrap();
    live.lost(9);
    assert!(!following.start(vec![has("a", 5)], &[has("a", 5)], id(5)));
    drop(following);
    let following = live.follow_document("a").unwrap();
    assert!(following.start(vec![has("a", 5)], &[has("a", 5)], id(9)));
}

#[test]
fn what_changed_is_known_back_to_a_gap() {
    let live = ViewLive::new(5);
    live.changed(&applied(5, 6, &["a"]), &[]);
    live.changed(&applied(6, 8, &["b", "c"]), &[]);
    let since = |position| {
        let changed = live.changed_since(position)?;
        let mut ids: Vec<_> = changed.iter().flat_map(|a| a.ids.clone()).collect();
        ids.sort();
        Some(ids.concat())
    };
    assert_eq!(since(4), None);
    assert_eq!(since(5).as_deref(), Some("abc"));
    assert_eq!(since(6).as_deref(), Some("bc"));
    assert_eq!(since(8).as_deref(), Some(""));
    live.lost(9);
    assert_eq!(since(8), None);
    assert_eq!(since(9).as_deref(), Some(""));
    // What changes where the view is already is not known by its position.
    live.lost(9);
    assert_eq!(since(9), None);
    assert_eq!(since(10).as_deref(), Some(""));
}

#[test]
fn a_view_that_is_closed_ends_all_and_takes_nobody() {
    let live = ViewLive::new(0);
    let mut following = follow_list(&live);
    live.close();
    assert!(has_ended(&mut following));
    assert!(live.follow_document("a").is_err());
}
