use super::*;

fn open(connections: &Connections) -> Place {
    connections.admit().unwrap()
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
    assert!(connections.admit().is_none());
    drop((asking, last));
    assert!(connections.admit().is_some());
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
