use super::*;

fn open(connections: &Connections) -> Place {
    connections.admit(None).unwrap()
}

#[test]
fn the_connection_that_was_idle_the_longest_gives_way() {
    let connections = Connections::new(3);
    let places = [0; 3].map(|_| open(&connections));
    // The first has been used since.
    drop(places[0].0.occupy());
    let busy = places[1].0.occupy();
    let fourth = open(&connections);
    assert!(!fourth.0.spare);
    let cut = places.each_ref().map(|place| place.0.cut.load(Relaxed));
    assert_eq!(cut, [false, false, true]);
    drop(busy);
    drop(places);
    let open = connections.0.open();
    assert_eq!((open.regular.len(), open.spare.len()), (1, 0));
}

#[test]
fn where_none_is_idle_a_few_more_may_ask_how_the_replica_is() {
    let connections = Connections::new(2);
    let places = [0; 2].map(|_| open(&connections));
    let _busy = places.each_ref().map(|place| place.0.occupy());
    let spare: Vec<_> = (0..SPARE).map(|_| open(&connections)).collect();
    assert!(spare.iter().all(|place| place.0.spare));
    assert!(spare.iter().all(|place| place.0.occupy().is_to_close()));
    // One that says nothing makes room for the next.
    let next = open(&connections);
    assert!(next.0.spare && spare[0].0.cut.load(Relaxed));
    let asking: Vec<_> = spare[1..].iter().map(|place| place.0.occupy()).collect();
    let last = next.0.occupy();
    let refused = connections.admit(None).unwrap_err();
    assert_eq!(refused.status, 503);
    drop((asking, last));
    assert!(connections.admit(None).is_ok());
    assert!(!places[0].0.cut.load(Relaxed));
}

#[test]
fn a_client_that_does_not_take_its_answer_is_not_idle() {
    let connections = Connections::new(1);
    let place = open(&connections);
    place.0.blocked.store(true, Relaxed);
    assert!(open(&connections).0.spare);
    assert!(!place.0.occupy().is_to_close());
    connections.drain();
    assert!(place.0.occupy().is_to_close());
}

#[test]
fn one_address_has_so_many_and_others_have_theirs() {
    let connections = Connections::bounded(10, NonZeroU32::new(2));
    let from = |address: &str| connections.admit(Some(address.parse().unwrap()));
    let first = from("192.0.2.1").unwrap();
    let _second = from("::ffff:192.0.2.1").unwrap();
    let refused = from("192.0.2.1").unwrap_err();
    assert_eq!((refused.status, refused.retry_after), (429, Some(1)));
    let _other = from("192.0.2.2").unwrap();
    drop(first);
    let again = from("192.0.2.1");
    assert!(again.is_ok(), "one is free again");
    let networks = [from("2001:db8::1"), from("2001:db8::2")];
    assert!(networks.iter().all(Result::is_ok));
    assert!(from("2001:db8::3").is_err(), "of the same network");
    drop((networks, again, _other, _second));
    assert!(connections.0.open().networks.is_empty());
}
