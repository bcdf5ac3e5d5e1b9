//! Appending to real servers: of those that expect the same position exactly one is stored, whatever
//! code the server refuses the others with.

use crate::harness::{cluster::NatsCluster, nats::Nats, poll::eventually, proxy::Proxy};
use async_nats::HeaderMap;
use futures::{FutureExt, StreamExt, future::join_all, stream::FuturesUnordered};
use headwater::event_log::{
    Append, AppendError, EventLog, LoadError, Timeouts, topology::Topology,
};
use tokio::task::JoinHandle;

/// How many append at once.
const RIVALS: usize = 16;

fn append(subject: &str, expected: u64) -> Append {
    Append {
        subject: subject.to_owned(),
        expected,
        payload: "[]".into(),
        headers: HeaderMap::new(),
    }
}

/// Appends all at once; returns the position of the one that was stored.
async fn race(log: &EventLog, rivals: impl IntoIterator<Item = Append>) -> u64 {
    let results = join_all(rivals.into_iter().map(|rival| log.append(rival))).await;
    let mut stored = Vec::new();
    for result in results {
        match result {
            Ok(position) => stored.push(position),
            Err(AppendError::LostRace) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(stored.len(), 1, "{stored:?}");
    stored[0]
}

async fn one_rival_wins(log: &EventLog) {
    let mut position = 0;
    for _ in 0..5 {
        let rivals = (0..RIVALS).map(|_| append("evt.test.a", position));
        let next = race(log, rivals).await;
        assert!(next > position);
        let stale = log.append(append("evt.test.a", 0)).await;
        assert!(matches!(stale, Err(AppendError::LostRace)), "{stale:?}");
        let stored = log.commit_after("evt.test.a", position).await.unwrap();
        assert_eq!(stored.unwrap().position, next);
        position = next;
    }
}

async fn log(client: async_nats::Client) -> EventLog {
    EventLog::new(client, Timeouts::default())
}

#[tokio::test]
async fn one_of_many_that_expect_the_same_position_wins_on_one_server() {
    let nats = Nats::start();
    let client = nats.client().await;
    Topology::embedded().apply(&client).await.unwrap();
    one_rival_wins(&log(client).await).await;
}

#[tokio::test]
async fn one_of_many_that_expect_the_same_position_wins_on_three_replicas() {
    let cluster = NatsCluster::start().await;
    let client = cluster.client().await;
    let topology = Topology::embedded().with_replicas(3);
    eventually("the streams are created", || async {
        match topology.apply(&client).await {
            Ok(_) => Some(()),
            Err(error) if error.is_retryable() => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await;
    one_rival_wins(&log(client).await).await;
}

#[tokio::test]
async fn appends_go_on_when_the_runtime_that_received_acknowledgements_has_ended() {
    let nats = Nats::start();
    let client = nats.client().await;
    Topology::embedded().apply(&client).await.unwrap();
    let log = log(client).await;
    let elsewhere = log.clone();
    let first = tokio::task::spawn_blocking(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(elsewhere.append(append("evt.test.a", 0)))
    });
    let first = first.await.unwrap().unwrap();
    let next = log.append(append("evt.test.a", first)).await;
    assert!(next.unwrap() > first);
}

/// The connection is served by the test's own thread, so that nothing leaves it between two awaits.
#[tokio::test(flavor = "current_thread")]
async fn appends_that_the_connection_has_no_room_for_wait_for_it() {
    let nats = Nats::start();
    let small = async_nats::ConnectOptions::new().client_capacity(1);
    let client = small.connect(nats.url()).await.unwrap();
    Topology::embedded().apply(&client).await.unwrap();
    let log = log(client).await;
    let first = log.append(append("evt.test.first", 0)).await;
    first.unwrap();
    let others = (0..RIVALS).map(|number| format!("evt.test.{number}"));
    let appends = others.map(|subject| log.append(append(&subject, 0)));
    for appended in join_all(appends).await {
        appended.unwrap();
    }
}

#[tokio::test]
async fn no_more_than_sixteen_histories_are_read_at_once() {
    let nats = Nats::start();
    let client = nats.client().await;
    Topology::embedded().apply(&client).await.unwrap();
    let mut requests = client.subscribe("$JS.API.DIRECT.GET.EVENTS").await.unwrap();
    client.request("$JS.API.INFO", "".into()).await.unwrap();

    let proxy = Proxy::start(nats.port());
    let through = async_nats::connect(proxy.nats_url()).await.unwrap();
    let log = EventLog::new(through, Timeouts::default());
    proxy.mute();
    let subjects: Vec<_> = (0..40).map(|n| format!("evt.test.{n}")).collect();
    let histories = subjects
        .iter()
        .map(|subject| log.messages(subject, 0, u64::MAX));
    let mut histories: FuturesUnordered<_> = histories.collect();
    // None can be answered, so all that are let in are asked for before the first gives up.
    let first = histories.next().await.unwrap();
    assert!(matches!(first, Err(LoadError::Unavailable(_))), "{first:?}");
    let mut asked = 0;
    while let Some(Some(_)) = requests.next().now_or_never() {
        asked += 1;
    }
    assert_eq!(asked, 16);
}

/// What a server that was cut off answers when it is back.
const LATE_REFUSAL: &str = r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 1"},"stream":"EVENTS","seq":0}"#;

/// Sends everything that comes to an inbox once more to where it came, and then a refusal.
async fn repeat_answers(nats: &Nats) -> JoinHandle<()> {
    let deaf = async_nats::ConnectOptions::new().no_echo();
    let client = deaf.connect(nats.url()).await.unwrap();
    let mut answers = client.subscribe("_INBOX.>").await.unwrap();
    client.request("$JS.API.INFO", "".into()).await.unwrap();
    tokio::spawn(async move {
        while let Some(answer) = answers.next().await {
            let subject = answer.subject.clone();
            client
                .publish(subject.clone(), answer.payload)
                .await
                .unwrap();
            client.publish(subject, LATE_REFUSAL.into()).await.unwrap();
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_late_or_twice_is_never_taken_for_that_of_another() {
    let nats = Nats::start();
    let client = nats.client().await;
    Topology::embedded().apply(&client).await.unwrap();
    let log = log(client).await;
    let repeating = repeat_answers(&nats).await;
    let writers = (0..RIVALS).map(async |writer| {
        let subject = format!("evt.test.{writer}");
        let mut positions = Vec::new();
        for _ in 0..300 {
            let last = positions.last().copied().unwrap_or(0);
            let appended = log.append(append(&subject, last)).await;
            positions.push(appended.unwrap_or_else(|error| panic!("{error:?} after {last}")));
        }
        (subject, positions)
    });
    let written = join_all(writers).await;
    repeating.abort();
    for (subject, positions) in written {
        let stored = log.messages(&subject, 0, u64::MAX).await.unwrap();
        let stored: Vec<_> = stored.iter().map(|message| message.position).collect();
        assert_eq!(stored, positions, "{subject}");
    }
}
