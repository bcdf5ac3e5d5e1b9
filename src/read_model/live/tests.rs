use super::{hub::Work, *};
use crate::{
    read_model::{ServedDocument, announcement::Applied, watermark::Observer},
    view::{Compare, Filter, Kind},
};
use futures::{FutureExt, StreamExt};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};

fn fruit() -> Vec<Condition> {
    let filter = Filter {
        name: "category",
        field: "category",
        compare: Compare::Equal,
        kind: Kind::Text,
    };
    Vec::from_iter(Condition::new(filter, json!("fruit")))
}

fn document(id: &str, version: u64, category: &str) -> ServedDocument {
    let document = json!({"category": category}).to_string();
    ServedDocument::new("v", id, version, &document)
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

/// What is there to be sent: kind, id and position of each.
fn sent(subscription: &mut Subscription) -> Vec<(LiveKind, String, u64)> {
    let mut events = Vec::new();
    while let Some(Some(event)) = subscription.next().now_or_never() {
        events.push((event.kind, event.id.to_string(), event.position));
    }
    events
}

fn has_ended(subscription: &mut Subscription) -> bool {
    matches!(subscription.next().now_or_never(), Some(None))
}

fn event(kind: LiveKind, id: &str, position: u64) -> (LiveKind, String, u64) {
    (kind, id.to_owned(), position)
}

fn follow_list(live: &Arc<ViewLive>) -> Subscription {
    live.follow_list(fruit()).ok().unwrap()
}

fn follow_document(live: &Arc<ViewLive>, id: &str) -> Subscription {
    live.follow_document(id).ok().unwrap()
}

#[test]
fn changes_during_the_start_come_after_it_and_only_if_they_are_newer() {
    let live = ViewLive::new(0);
    let mut following = follow_document(&live, "a");
    live.offer("a", Some(&document("a", 4, "fruit")), 4);
    assert_eq!(sent(&mut following), []);
    let initial = LiveEvent::put("a", 5, 5, Bytes::new());
    following.start(vec![initial], &[("a".to_owned(), 5)]);
    live.offer("a", Some(&document("a", 5, "fruit")), 5);
    live.offer("a", Some(&document("a", 6, "fruit")), 6);
    assert_eq!(
        sent(&mut following),
        [event(LiveKind::Put, "a", 5), event(LiveKind::Put, "a", 6)]
    );
}

#[test]
fn a_list_is_entered_and_left_and_what_never_was_in_it_is_not_told() {
    let live = ViewLive::new(0);
    let mut following = follow_list(&live);
    following.start(Vec::new(), &[]);
    live.offer("a", Some(&document("a", 1, "dairy")), 1);
    live.offer("b", None, 2);
    assert_eq!(sent(&mut following), []);
    live.offer("a", Some(&document("a", 3, "fruit")), 3);
    assert_eq!(sent(&mut following), [event(LiveKind::Put, "a", 3)]);
    live.offer("a", Some(&document("a", 4, "dairy")), 4);
    assert_eq!(sent(&mut following), [event(LiveKind::Leave, "a", 4)]);
    live.offer("a", Some(&document("a", 5, "fruit")), 5);
    live.offer("a", None, 6);
    // The newer state of a document takes the place of the one that has not been sent.
    assert_eq!(sent(&mut following), [event(LiveKind::Delete, "a", 6)]);
}

#[test]
fn what_is_newer_than_its_transaction_is_gone_on_from_the_transaction() {
    let live = ViewLive::new(0);
    let mut list = follow_list(&live);
    list.start(Vec::new(), &[]);
    let mut one = follow_document(&live, "a");
    one.start(Vec::new(), &[]);
    live.offer("a", Some(&document("a", 9, "fruit")), 7);
    live.offer("a", Some(&document("a", 9, "fruit")), 9);
    assert_eq!(sent(&mut list), [event(LiveKind::Put, "a", 7)]);
    assert_eq!(sent(&mut one), [event(LiveKind::Put, "a", 9)]);
}

#[test]
fn who_does_not_keep_up_is_cut_off_and_others_are_not() {
    let live = ViewLive::new(0);
    let (mut slow, mut quick) = (follow_list(&live), follow_list(&live));
    let cut = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&cut);
    slow.on_cut(move || told.store(true, Ordering::Relaxed));
    for following in [&slow, &quick] {
        following.start(Vec::new(), &[]);
    }
    let mut received = 0;
    for number in 0..=MAX_PENDING as u64 {
        assert!(!cut.load(Ordering::Relaxed));
        let id = format!("d-{number}");
        live.offer(&id, Some(&document(&id, number + 1, "fruit")), number + 1);
        received += sent(&mut quick).len();
    }
    assert!(cut.load(Ordering::Relaxed));
    assert!(has_ended(&mut slow));
    assert_eq!(received, MAX_PENDING + 1);
    assert!(!has_ended(&mut quick));
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
    assert!(matches!(live.next().await, Work::Lost { ids } if ids.is_empty()));
}

#[tokio::test]
async fn a_gap_ends_lists_and_has_documents_read_again() {
    let live = ViewLive::new(0);
    let mut list = follow_list(&live);
    list.start(Vec::new(), &[]);
    let mut one = follow_document(&live, "a");
    one.start(Vec::new(), &[]);
    live.lost(9);
    assert!(matches!(live.next().await, Work::Lost { ids } if ids == ["a"]));
    assert!(has_ended(&mut list));
    assert!(!has_ended(&mut one));
}

#[test]
fn what_changed_is_known_back_to_a_gap() {
    let live = ViewLive::new(5);
    live.changed(&applied(5, 6, &["a"]), &[]);
    live.changed(&applied(6, 8, &["b", "c"]), &[]);
    let since = |position| {
        let mut ids: Vec<_> = live.changed_since(position)?.into_iter().collect();
        ids.sort();
        Some(ids.concat())
    };
    assert_eq!(since(4), None);
    assert_eq!(since(5).as_deref(), Some("abc"));
    assert_eq!(since(6).as_deref(), Some("bc"));
    assert_eq!(since(8).as_deref(), Some(""));
    live.lost(9);
    assert_eq!(live.changed_since(8), None);
    assert_eq!(live.changed_since(9).map(|ids| ids.len()), Some(0));
}

#[test]
fn a_view_that_is_closed_ends_all_and_takes_nobody() {
    let live = ViewLive::new(0);
    let mut following = follow_list(&live);
    following.start(Vec::new(), &[]);
    live.close();
    assert!(has_ended(&mut following));
    assert!(live.follow_document("a").is_err());
}
