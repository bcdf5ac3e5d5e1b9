//! Crashes at any moment: no accepted command is lost, doubled or changed, and no retry is told
//! otherwise. `make chaos SECONDS=… SEED=…` runs these tests for longer.

use crate::harness::{
    cluster::NatsCluster,
    log::{self, Log},
    nats::{DURABLE, Nats},
    replica::Replica,
    seed::{Seed, chaos_length},
    writers::{Answer, Answers, Given, Giver, WHILE, Writers},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

const WRITERS: u64 = 48;
const AGGREGATES: u64 = 300;
/// Where no replica is killed an answer always comes, if late on a busy machine.
const LONG: Duration = Duration::from_secs(25);

/// Lets writers write while `chaos` is at work on a thread of its own, again and again, and then
/// proves that no answer was a lie. `chaos` leaves everything running.
async fn write_through<C, F>(
    urls: &[String],
    seed: &Seed,
    patience: Duration,
    mut world: C,
    chaos: F,
) -> Answers
where
    C: Send + 'static,
    F: Fn(&mut C, &mut Seed) + Send + 'static,
{
    let writers = Writers::start(urls, seed, WRITERS, AGGREGATES, patience).await;
    let mut chance = seed.part(1);
    let world = tokio::task::spawn_blocking(move || {
        let end = Instant::now() + chaos_length();
        while Instant::now() < end {
            chaos(&mut world, &mut chance);
        }
        world
    });
    let world = world.await.unwrap();
    let answers = writers.stop().await;
    let (accepted, unanswered) = (answers.accepted(), answers.unanswered());
    eprintln!("{accepted} commands were accepted, {unanswered} times nobody answered");
    assert!(accepted > 0);
    answers.verify(urls).await;
    drop(world);
    answers
}

/// Chance decides not only what happens but when.
pub(crate) fn pass_time(chance: &mut Seed, millis: std::ops::Range<u64>) {
    thread::sleep(chance.millis(millis));
}

/// Returns how many were killed.
pub(crate) fn kill_or_pause_nats(nats: &mut Nats, chance: &mut Seed) -> usize {
    pass_time(chance, 200..1_000);
    if chance.once_in(2) {
        nats.pause();
        // Often longer than an append is waited for.
        pass_time(chance, 500..4_000);
        nats.resume();
        return 0;
    }
    nats.kill();
    pass_time(chance, 0..1_000);
    nats.start_again();
    1
}

/// Returns how many were killed.
pub(crate) fn kill_or_pause_replicas(replicas: &mut [Replica], chance: &mut Seed) -> usize {
    pass_time(chance, 50..500);
    let first = chance.within(0..replicas.len() as u64) as usize;
    if chance.once_in(4) {
        // It comes back with a state that others have passed by.
        replicas[first].pause();
        pass_time(chance, 200..2_500);
        replicas[first].resume();
        return 0;
    }
    // Seldom all at once.
    let victims = if chance.once_in(6) { replicas.len() } else { 1 };
    for number in 0..victims {
        replicas[(first + number) % replicas.len()].kill();
    }
    pass_time(chance, 0..500);
    for replica in replicas.iter_mut().filter(|replica| !replica.is_running()) {
        replica.start_again();
    }
    victims
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_are_killed_lose_double_and_change_nothing() {
    let seed = Seed::of_this_run();
    let nats = Nats::start();
    let urls = [nats.url()];
    // Each its own way: one refuses whole groups of the other's appends.
    let replicas: Vec<_> = ["grouped", "grouped", "pipelined"]
        .iter()
        .map(|append| Replica::start(&nats.url(), &["--append", append]))
        .collect();
    write_through(&urls, &seed, WHILE, replicas, |replicas, chance| {
        kill_or_pause_replicas(replicas, chance);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_are_told_to_stop_leave_no_command_unanswered() {
    let seed = Seed::of_this_run();
    let nats = Nats::start();
    let urls = [nats.url()];
    let replicas: Vec<_> = (0..3).map(|_| Replica::start(&nats.url(), &[])).collect();
    let answers = write_through(&urls, &seed, LONG, replicas, |replicas, chance| {
        pass_time(chance, 50..500);
        let leaving = &mut replicas[chance.within(0..3) as usize];
        leaving.service().signal("TERM");
        let status = leaving.service().wait();
        assert_eq!(status.code(), Some(0), "{}", leaving.service().transcript());
        pass_time(chance, 0..500);
        leaving.start_again();
    })
    .await;
    assert_eq!(answers.unanswered(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_server_that_is_killed_or_paused_loses_doubles_and_changes_nothing() {
    let seed = Seed::of_this_run();
    let nats = Nats::start_with(DURABLE);
    let urls = [nats.url()];
    // Each its own way: one refuses whole groups of the other's appends.
    let replicas =
        ["grouped", "pipelined"].map(|append| Replica::start(&nats.url(), &["--append", append]));
    let world = (replicas, nats);
    write_through(&urls, &seed, WHILE, world, |(_, nats), chance| {
        kill_or_pause_nats(nats, chance);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_leader_is_killed_loses_doubles_and_changes_nothing() {
    let seed = Seed::of_this_run();
    let cluster = NatsCluster::start().await;
    let urls = cluster.urls();
    let runtime = tokio::runtime::Handle::current();
    let replicas: Vec<_> = urls
        .iter()
        .take(2)
        .map(|url| Replica::start(url, &["--stream-replicas", "3"]))
        .collect();
    let world = (replicas, cluster);
    write_through(&urls, &seed, WHILE, world, move |(_, cluster), chance| {
        pass_time(chance, 500..2_000);
        let leader = runtime.block_on(cluster.leader_of("EVENTS"));
        let paused = chance.once_in(3);
        if paused {
            cluster.nodes[leader].pause();
            pass_time(chance, 2_000..8_000);
            cluster.nodes[leader].resume();
        } else {
            cluster.nodes[leader].kill();
            pass_time(chance, 0..3_000);
            cluster.nodes[leader].start_again();
        }
        // A second failure while the copies of the first are behind would rightly stop the stream.
        runtime.block_on(cluster.all_current("EVENTS"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_key_has_one_holder_through_every_crash() {
    let seed = Seed::of_this_run();
    let nats = Nats::start();
    let urls = [nats.url()];
    let replicas: Vec<_> = (0..2).map(|_| Replica::start(&nats.url(), &[])).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let mut members = JoinSet::new();
    for number in 0..12 {
        let giver = Giver::connect(&urls).await;
        let (stop, chance) = (stop.clone(), seed.part(2_000 + number));
        members.spawn(async move { come_and_go(&giver, number, chance, &stop).await });
    }
    let mut chance = seed.part(1);
    let world = tokio::task::spawn_blocking(move || {
        let mut world = (replicas, nats);
        let end = Instant::now() + chaos_length();
        while Instant::now() < end {
            if chance.once_in(4) {
                kill_or_pause_nats(&mut world.1, &mut chance);
            } else {
                kill_or_pause_replicas(&mut world.0, &mut chance);
            }
        }
        world
    });
    let _world = world.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let (mut accepted, mut in_doubt) = (BTreeSet::new(), BTreeSet::new());
    while let Some(marks) = members.join_next().await {
        let marks = marks.unwrap();
        accepted.extend(marks.0);
        in_doubt.extend(marks.1);
    }
    eprintln!("{} commands were accepted", accepted.len());

    let giver = Giver::connect(&urls).await;
    let log = Log::read(&giver.api.client).await;
    let logged: BTreeSet<_> = log.marked.keys().cloned().collect();
    assert!(accepted.is_subset(&logged));
    let untold: BTreeSet<_> = logged.difference(&accepted).cloned().collect();
    assert!(untold.is_subset(&in_doubt), "{untold:?}");
    let mut events: Vec<_> = log
        .commands
        .values()
        .map(|logged| (logged.position, logged))
        .collect();
    events.sort_by_key(|(position, _)| *position);
    let mut holders = BTreeMap::new();
    for (position, logged) in events {
        let first = &log.aggregates[&logged.aggregate][0];
        let email = first["data"]["email"].as_str().unwrap().to_lowercase();
        if logged.types == ["member.registered.v1"] {
            let other = holders.insert(email, &logged.aggregate);
            assert_eq!(other, None, "two hold a key at {position}: {logged:?}");
        } else {
            assert_eq!(holders.remove(&email), Some(&logged.aggregate));
        }
    }
    for holder in holders.values() {
        let registered = log::mark(holder, "member.registered.v1", &Value::Null);
        let registered = registered.expect("a member is registered once");
        assert!(in_doubt.contains(&registered), "all others have withdrawn");
    }
    // No key is held by nobody.
    for number in (0..EMAILS).filter(|number| !holders.contains_key(&email(*number))) {
        let given = register(&format!("late-{number}"), &email(number));
        let answer = giver.settle(&given).await;
        assert!(matches!(answer, Answer::Accepted(_)), "{answer:?}");
    }
}

const EMAILS: u64 = 6;

fn email(number: u64) -> String {
    format!("someone-{number}@example.com")
}

fn register(id: &str, email: &str) -> Given {
    Given {
        aggregate: "member",
        id: id.to_owned(),
        command: "register",
        body: json!({"name": "someone", "email": email}),
        key: Some(format!("register-{id}")),
    }
}

/// Registers under emails that others want too, and withdraws again; every other one registers without a
/// key. Answers with the marks of what was accepted, and of what may have been.
async fn come_and_go(
    giver: &Giver,
    number: u64,
    mut chance: Seed,
    stop: &AtomicBool,
) -> (Vec<String>, Vec<String>) {
    let (mut accepted, mut in_doubt) = (Vec::new(), Vec::new());
    let mut came = 0;
    while !stop.load(Ordering::Relaxed) {
        came += 1;
        let id = format!("m-{number}-{came}");
        let mut email = email(chance.within(0..EMAILS));
        if chance.once_in(2) {
            email = email.to_uppercase();
        }
        let mut given = register(&id, &email);
        if number.is_multiple_of(2) {
            given.key = None;
        }
        let mark = given.mark();
        let known = match giver.settle(&given).await {
            Answer::Accepted(_) => true,
            Answer::Refused(_, code) if code == "claim_taken" => continue,
            Answer::RefusedInDoubt(code) if code == "claim_taken" => {
                in_doubt.push(mark);
                continue;
            }
            Answer::Unknown => false,
            Answer::NotDone => continue,
            refused => panic!("{given:?}: {refused:?}"),
        };
        let given = Given {
            command: "withdraw",
            body: json!({}),
            key: Some(format!("withdraw-{id}")),
            ..register(&id, &email)
        };
        match giver.settle(&given).await {
            Answer::Accepted(_) => accepted.extend([mark, given.mark()]),
            Answer::Refused(_, code) | Answer::RefusedInDoubt(code)
                if !known && code == "not_found" =>
            {
                in_doubt.extend([mark, given.mark()]);
            }
            refused => panic!("{given:?}: {refused:?}"),
        }
    }
    (accepted, in_doubt)
}
