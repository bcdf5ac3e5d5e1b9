//! Carried out once, also without a key; and remembered, also where nothing was stored.

use crate::{
    command_support::{TallyCommand, add, alone, give, log, logged, options, over},
    harness::{nats::Nats, poll::eventually},
};
use futures::{StreamExt, future::join_all};
use headwater::{
    command::client::CommandOptions,
    event_log::{AppendMode, EventLog, snapshot::SnapshotError},
};
use std::time::Duration;
use tokio::task::JoinHandle;

const DURABLE: &str = "jetstream { sync_interval: always }";
/// What the leader of a cluster answers that was cut off and is back.
const SPURIOUS: &str = r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 1"},"stream":"EVENTS","seq":0}"#;

/// Tells whoever appends that somebody else was first, mostly before the server tells the truth.
async fn refuse_what_is_stored(nats: &Nats) -> JoinHandle<()> {
    let client = nats.client().await;
    let mut commits = client.subscribe("evt.tally.*").await.unwrap();
    client.request("$JS.API.INFO", "".into()).await.unwrap();
    tokio::spawn(async move {
        while let Some(commit) = commits.next().await {
            if let Some(reply) = commit.reply {
                client.publish(reply, SPURIOUS.into()).await.unwrap();
            }
        }
    })
}

#[actix::test]
async fn a_command_without_a_key_is_carried_out_once_however_its_append_is_refused() {
    let nats = Nats::start_with(DURABLE);
    let log = log(&nats, AppendMode::Pipelined).await;
    let client = over(&log, options());
    let refusing = refuse_what_is_stored(&nats).await;
    let mut accepted = 0;
    for _ in 0..10 {
        let given = (0..16).map(|_| add(&client, "counted", 1, None));
        let outcomes = join_all(given).await;
        for outcome in &outcomes {
            match outcome {
                Ok(outcome) => assert!(!outcome.replayed, "nobody asked twice"),
                Err(problem) => assert_eq!(problem.status, 503, "{problem}"),
            }
        }
        accepted += outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    }
    refusing.abort();
    let stored = logged(&log, "counted").await;
    assert!(accepted > 0);
    assert_eq!(accepted, stored.len());
}

/// The bucket takes so many bytes at the most.
async fn bound_snapshots(nats: &Nats, max_bytes: i64) {
    let stream = nats.jetstream().await.get_stream("KV_snapshots").await;
    let mut stream = stream.unwrap();
    let mut config = stream.info().await.unwrap().config.clone();
    config.max_bytes = max_bytes;
    nats.jetstream().await.update_stream(&config).await.unwrap();
}

#[actix::test]
async fn an_outcome_without_events_survives_the_process() {
    let nats = Nats::start();
    let client = alone(&nats, options()).await;
    add(&client, "looked-at", 1, None).await.unwrap();
    let first = give(&client, "looked-at", TallyCommand::Look {}, Some("look"));
    assert!(!first.await.unwrap().replayed);
    // Nothing is told to it: as if it had been killed.
    std::mem::drop(client);
    let next = alone(&nats, options()).await;
    let again = give(&next, "looked-at", TallyCommand::Look {}, Some("look"));
    assert!(again.await.unwrap().replayed);
}

#[actix::test]
async fn an_outcome_without_events_is_kept_where_no_snapshot_can_be_written() {
    let nats = Nats::start();
    let short = CommandOptions {
        idle: Duration::from_millis(100),
        ..options()
    };
    let client = alone(&nats, short).await;
    add(&client, "looked-at", 1, None).await.unwrap();
    bound_snapshots(&nats, 10).await;
    let first = give(&client, "looked-at", TallyCommand::Look {}, Some("look"));
    assert!(!first.await.unwrap().replayed);
    let idle_since = std::time::Instant::now();
    eventually("it has been idle for many times as long", || async {
        (idle_since.elapsed() > 8 * short.idle).then_some(())
    })
    .await;
    let again = give(&client, "looked-at", TallyCommand::Look {}, Some("look"));
    assert!(again.await.unwrap().replayed);
}

/// A commit as it was written before form 1.
const UNRELEASED: &str = r#"[{"specversion":"1.0","id":"k/1","type":"tally.added.v1","source":"/headwater/tally","subject":"old","time":"2026-11-27T09:00:00Z","datacontenttype":"application/json","commandid":"k","correlationid":"k","causationid":"k","version":1,"data":{"amount":1}}]"#;

#[tokio::test]
async fn a_log_of_the_form_that_was_never_released_is_refused_with_what_to_do() {
    let nats = Nats::start();
    let log = log(&nats, AppendMode::Pipelined).await;
    log.check_form().await.unwrap();
    let jetstream = nats.jetstream().await;
    let published = jetstream.publish("evt.tally.old", UNRELEASED.into()).await;
    published.unwrap().await.unwrap();
    let refused = log.check_form().await.unwrap_err().to_string();
    assert!(refused.contains("never released"), "{refused}");
    assert!(refused.contains("--reset"), "{refused}");
}

/// Bytes that cannot be compressed.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(length)
    .collect()
}

async fn parts(log: &EventLog) -> u64 {
    let bucket = log.jetstream().get_stream("KV_snapshots").await.unwrap();
    bucket.get_info().await.unwrap().state.messages
}

#[tokio::test]
async fn a_snapshot_of_any_size_is_read_as_it_was_written_or_not_at_all() {
    let nats = Nats::start();
    let log = log(&nats, AppendMode::Pipelined).await;
    assert_eq!(log.snapshot("tally", "a").await, None);
    let (small, large) = (b"{}".to_vec(), noise(3 << 20));
    log.write_snapshot("tally", "a", &small).await.unwrap();
    assert_eq!(parts(&log).await, 1);
    assert_eq!(log.snapshot("tally", "a").await, Some(small.clone()));
    log.write_snapshot("tally", "a", &large).await.unwrap();
    assert_eq!(parts(&log).await, 7);
    assert_eq!(log.snapshot("tally", "a").await.unwrap(), large);
    // A part of another one.
    let other = noise((3 << 20) + 1);
    log.write_snapshot("tally", "b", &other).await.unwrap();
    let bucket = log.jetstream().get_key_value("snapshots").await.unwrap();
    let part = bucket.get("tally.b.3").await.unwrap().unwrap();
    bucket.put("tally.a.3", part).await.unwrap();
    assert_eq!(log.snapshot("tally", "a").await, None);
    assert_eq!(log.snapshot("tally", "b").await.unwrap(), other);
    bucket.put("tally.a", "damage".into()).await.unwrap();
    assert_eq!(log.snapshot("tally", "a").await, None);
}

#[tokio::test]
async fn a_snapshot_that_the_bucket_does_not_take_is_told() {
    let nats = Nats::start();
    let log = log(&nats, AppendMode::Pipelined).await;
    log.write_snapshot("tally", "a", b"first").await.unwrap();
    bound_snapshots(&nats, 200).await;
    let refused = log.write_snapshot("tally", "a", &noise(1000)).await;
    assert!(
        matches!(refused, Err(SnapshotError::Refused(_))),
        "{refused:?}"
    );
    assert_eq!(log.snapshot("tally", "a").await.unwrap(), b"first");
    let huge = vec![0; (256 << 20) + 1];
    let refused = log.write_snapshot("tally", "a", &huge).await;
    assert!(
        matches!(refused, Err(SnapshotError::TooLarge { .. })),
        "{refused:?}"
    );
}
