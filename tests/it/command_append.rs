//! Appends, grouped and single, against a server that syncs before it acknowledges.

use crate::{
    command_support::{TallyCommand, add, alone, give, log, logged, options, over},
    harness::nats::{DURABLE, Nats},
};
use futures::future::join_all;
use headwater::event_log::{Append, AppendError, AppendMode, EventLog};

fn append(id: &str, expected: u64, body: &str) -> Append {
    Append {
        subject: format!("evt.tally.{id}"),
        expected,
        payload: body.to_owned().into(),
        headers: async_nats::HeaderMap::new(),
    }
}

async fn body_of(log: &EventLog, id: &str) -> (u64, String) {
    let subject = format!("evt.tally.{id}");
    let message = log.last_message(&subject).await.unwrap().unwrap();
    let body = String::from_utf8(message.payload.to_vec()).unwrap();
    (message.position, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_that_wait_together_are_stored_at_the_positions_that_are_told() {
    let nats = Nats::start_with(DURABLE);
    let log = log(&nats, AppendMode::Grouped).await;
    for round in 0..3_u64 {
        let mut expected = Vec::new();
        for number in 0..300 {
            let id = format!("t-{number}");
            let last = log.last_message(&format!("evt.tally.{id}")).await.unwrap();
            expected.push((id, last.map_or(0, |message| message.position)));
        }
        let body = |id: &str| format!("{id} in round {round}");
        let appended = expected
            .iter()
            .map(|(id, expected)| log.append(append(id, *expected, &body(id))));
        let positions = join_all(appended).await;
        for ((id, _), position) in expected.iter().zip(positions) {
            assert_eq!(body_of(&log, id).await, (position.unwrap(), body(id)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_in_a_group_costs_only_its_owner() {
    let nats = Nats::start_with(DURABLE);
    let log = log(&nats, AppendMode::Grouped).await;
    log.append(append("t-7", 0, "first")).await.unwrap();
    let ids: Vec<String> = (0..100).map(|number| format!("t-{number}")).collect();
    let appended = ids.iter().map(|id| log.append(append(id, 0, "second")));
    let results = join_all(appended).await;
    for (id, result) in ids.iter().zip(results) {
        if id == "t-7" {
            assert!(matches!(result, Err(AppendError::LostRace)), "{result:?}");
            assert_eq!(body_of(&log, id).await.1, "first");
        } else {
            assert_eq!(
                body_of(&log, id).await,
                (result.unwrap(), "second".to_owned())
            );
        }
    }
}

/// Whether the last commit of a tally was sent as a part of a batch.
async fn was_in_a_batch(log: &EventLog, id: &str) -> bool {
    let stream = log.jetstream().get_stream("EVENTS").await.unwrap();
    let subject = format!("evt.tally.{id}");
    let last = stream.get_last_raw_message_by_subject(&subject).await;
    last.unwrap().headers.get("Nats-Batch-Id").is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_that_wait_together_are_one_batch_and_one_alone_is_none() {
    let nats = Nats::start_with(DURABLE);
    let log = log(&nats, AppendMode::Grouped).await;
    log.append(append("alone", 0, "alone")).await.unwrap();
    assert!(!was_in_a_batch(&log, "alone").await);
    let ids: Vec<String> = (0..100).map(|number| format!("t-{number}")).collect();
    join_all(ids.iter().map(|id| log.append(append(id, 0, "together")))).await;
    let mut together = 0;
    for id in &ids {
        together += usize::from(was_in_a_batch(&log, id).await);
    }
    // The first was on its way before any other came.
    assert!(together >= 90, "{together}");
}

#[actix::test]
async fn commands_are_whole_in_a_grouped_log() {
    let nats = Nats::start_with(DURABLE);
    let log = log(&nats, AppendMode::Grouped).await;
    let client = over(&log, options());
    let given = (0..2_000).map(|number| {
        let client = &client;
        async move {
            let id = format!("t-{}", number % 100);
            if number % 10 == 9 {
                let key = format!("key-{}", number % 40);
                let taken = give(client, &id, TallyCommand::Take { key }, None).await;
                return (id, taken.is_ok().then_some(0));
            }
            let added = add(client, &id, number, None).await;
            (id, added.is_ok().then_some(number))
        }
    });
    let accepted = join_all(given).await;
    for number in 0..100 {
        let id = format!("t-{number}");
        let mut told: Vec<i64> = accepted
            .iter()
            .filter(|(of, _)| *of == id)
            .filter_map(|(_, amount)| *amount)
            .collect();
        let mut stored: Vec<i64> = logged(&log, &id)
            .await
            .iter()
            .map(|one| one.amount)
            .collect();
        told.sort_unstable();
        stored.sort_unstable();
        assert_eq!(told, stored);
    }
}

#[actix::test]
async fn one_hot_aggregate_commits_many_commands_at_once() {
    let nats = Nats::start_with(DURABLE);
    let client = alone(&nats, options()).await;
    let outcomes = join_all((0..1_000).map(|_| add(&client, "hot", 1, None))).await;
    let mut positions: Vec<u64> = outcomes
        .iter()
        .map(|one| one.as_ref().unwrap().position)
        .collect();
    let mut versions: Vec<u64> = outcomes
        .into_iter()
        .map(|one| one.unwrap().version)
        .collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=1_000).collect::<Vec<_>>());
    positions.sort_unstable();
    positions.dedup();
    assert!(positions.len() < 200, "{} commits", positions.len());
}
