//! What operators do about processes, and what a process does about what it cannot make sense of.

use crate::{
    harness::{log::Log, poll::eventually, service::headwater},
    processes::{Mart, at_rest, has_ended, instances, operate, types},
};
use async_nats::jetstream;
use serde_json::{Value, json};

/// Publishes a commit of one event past the command side.
async fn publish(
    client: &async_nats::Client,
    aggregate: &str,
    id: &str,
    version: u64,
    kind: &str,
    data: Value,
) -> u64 {
    let commit = json!([{
        "specversion": "1.0", "source": format!("/{aggregate}/{id}"), "id": version.to_string(), "type": kind,
        "time": "2027-01-01T00:00:00Z", "commandid": format!("test-{id}-{version}"), "data": data,
    }]);
    let stored = jetstream::new(client.clone())
        .publish(format!("evt.{aggregate}.{id}"), commit.to_string().into())
        .await;
    stored.unwrap().await.unwrap().sequence
}

fn placed(quantity: i64) -> Value {
    json!({
        "member": "m-1", "branch": "gangnam",
        "lines": [{ "sku": "apple", "quantity": quantity, "unit_price": 4_900 }],
        "total": quantity * 4_900,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_consequence_of_a_command_has_its_correlation_and_names_its_cause() {
    let mart = Mart::open(&["--payment-deadline", "1s"]).await;
    let body = json!({
        "member": "m-1", "branch": "gangnam",
        "lines": [{ "sku": "apple", "quantity": 1, "unit_price": 4_900 }],
    });
    let headers = [("Idempotency-Key", "the-first-cause")];
    mart.api
        .command_with("order", "o-1", "place", body, &headers)
        .await
        .expect(200);
    let client = mart.client().await;
    let log = at_rest(&client, 1, |log| instances(log).all(|one| has_ended(one))).await;
    let caused = |aggregate: &str, kind: &str| {
        let events = log.aggregates[aggregate].iter();
        let mut found = events.filter(|event| event["type"] == kind);
        let event = found
            .next()
            .unwrap_or_else(|| panic!("{aggregate} has no {kind}"));
        assert_eq!(event["correlationid"], "the-first-cause", "{event}");
        event["causationid"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        caused("fulfilment.o-1", "fulfilment.began.v1"),
        "order/o-1/1"
    );
    let first = &log.aggregates["order.o-1"][0];
    assert!(first.get("correlationid").is_none(), "{first}");
    for (aggregate, kind) in [
        ("stock.gangnam_apple", "stock.reserved.v1"),
        ("order.o-1", "order.confirmed.v1"),
        // By the deadline, which its alarm has carried.
        ("order.o-1", "order.cancelled.v1"),
        ("stock.gangnam_apple", "stock.released.v1"),
    ] {
        let cause = caused(aggregate, kind);
        assert!(
            cause.starts_with("fulfilment/o-1/"),
            "{aggregate} {kind}: {cause}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_cannot_be_placed_is_held_with_what_follows_and_all_others_go_on() {
    let mut mart = Mart::open(&[]).await;
    let client = mart.client().await;
    let jetstream = jetstream::new(client.clone());
    // No commit at all.
    let stored = jetstream.publish("evt.order.odd", "nonsense".into()).await;
    let odd = stored.unwrap().await.unwrap().sequence;
    publish(&client, "order", "odd", 1, "order.placed.v1", placed(1)).await;
    mart.place("o-1", &[("apple", 1, 4_900)]).await;
    mart.becomes("o-1", "confirmed").await;
    let listed = eventually("it is told", async || {
        let (listed, _) = operate(&mart, &["list", "fulfilment", "--status", "parked"]).await;
        listed.contains("order odd").then_some(listed)
    })
    .await;
    assert!(
        listed.contains(&format!("from position {odd} on")),
        "{listed}"
    );
    let http = mart.replica.service().http();
    let page = http
        .get("/processes/fulfilment?status=parked", &[])
        .await
        .expect(200)
        .json();
    assert_eq!(page["unplaced"][0]["id"], "odd", "{page}");
    assert_eq!(page["unplaced"][0]["from"], odd);
    let log = Log::read_of(&client, "evt.fulfilment.>").await;
    assert!(!log.aggregates.contains_key("fulfilment.odd"));

    // As it is, trying again changes nothing; it survives a start as well.
    let (_, retried) = operate(
        &mart,
        &["retry", "fulfilment", "odd", "--unplaced", "order"],
    )
    .await;
    assert!(retried);
    mart.replica.kill();
    mart.replica.start_again();
    mart.place("o-2", &[("apple", 1, 4_900)]).await;
    mart.becomes("o-2", "confirmed").await;
    let log = Log::read_of(&client, "evt.fulfilment.>").await;
    assert!(!log.aggregates.contains_key("fulfilment.odd"));

    // Without the first, what has followed is given to its instance, in order.
    let skip = [
        "skip",
        "fulfilment",
        "odd",
        "--unplaced",
        "order",
        "--reason",
        "made by a test",
    ];
    assert!(operate(&mart, &skip).await.1);
    eventually("what was held is placed", async || {
        let log = Log::read_of(&client, "evt.fulfilment.>").await;
        let records = log.aggregates.get("fulfilment.odd")?;
        let began = |record: &Value| record["type"] == "fulfilment.began.v1";
        records.iter().any(began).then_some(())
    })
    .await;
    let (listed, _) = operate(&mart, &["list", "fulfilment", "--status", "parked"]).await;
    assert!(!listed.contains("order odd"), "{listed}");
    let (refused, again) = operate(&mart, &skip).await;
    assert!(!again && refused.contains("not_found"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_an_operator_has_excluded_is_not_given_to_a_process() {
    let mut mart = Mart::open(&[]).await;
    let client = mart.client().await;
    mart.replica.kill();
    let position = publish(&client, "order", "wrong", 1, "order.placed.v1", placed(1)).await;
    let nats = mart.nats.url();
    let mut exclude = headwater(["events", "exclude", "order", "wrong"]);
    exclude.arg(position.to_string()).args([
        "--reason",
        "made by a test",
        "--force",
        "--nats",
        &nats,
    ]);
    let ran = tokio::task::spawn_blocking(move || crate::harness::service::run(&mut exclude));
    let ran = ran.await.unwrap();
    assert!(ran.status.success(), "{ran:?}");
    mart.replica.start_again();
    mart.place("o-1", &[("apple", 1, 4_900)]).await;
    mart.becomes("o-1", "confirmed").await;
    let log = mart.rest().await;
    assert!(!log.aggregates.contains_key("fulfilment.wrong"));
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_that_an_older_backup_lacks_are_armed_again() {
    let mut mart = Mart::open(&["--payment-deadline", "12s"]).await;
    let client = mart.client().await;
    let jetstream = jetstream::new(client.clone());
    let stream = jetstream.get_stream("DEADLINES").await.unwrap();
    let note = async || {
        let last = stream.get_last_raw_message_by_subject("armed.fulfilment");
        last.await.ok().map(|last| last.payload)
    };
    // What the note says in the backup.
    let backup = eventually("the stream says whose alarms it has", note).await;
    for number in 0..3 {
        let id = format!("o-{number}");
        mart.place(&id, &[("apple", 1, 4_900)]).await;
        mart.becomes(&id, "confirmed").await;
    }
    mart.rest().await;
    eventually("the stream says that it has their alarms", async || {
        note().await.filter(|note| *note != backup)
    })
    .await;
    mart.replica.kill();
    stream.purge().filter("sched.fulfilment.>").await.unwrap();
    let restored = jetstream.publish("armed.fulfilment", backup).await;
    restored.unwrap().await.unwrap();
    mart.replica.start_again();
    for number in 0..3 {
        mart.becomes(&format!("o-{number}"), "cancelled").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_tried_on_all_instances_and_the_log_verified() {
    let mart = Mart::open(&[]).await;
    let client = mart.client().await;
    for number in 0..4 {
        let id = format!("o-{number}");
        mart.place(&id, &[("apple", 1, 4_900)]).await;
        mart.becomes(&id, "confirmed").await;
    }
    mart.place("o-8", &[("tofu", 9, 1_800)]).await;
    mart.becomes("o-8", "rejected").await;
    mart.rest().await;
    let end = async || {
        let stream = jetstream::new(client.clone()).get_stream("EVENTS").await;
        stream.unwrap().info().await.unwrap().state.last_sequence
    };
    let before = end().await;
    let (tried, same) = operate(&mart, &["try", "fulfilment"]).await;
    assert!(same, "{tried}");
    assert!(tried.contains("0 of 4 instances"), "{tried}");
    let (verified, right) = operate(&mart, &["verify", "fulfilment"]).await;
    assert!(right, "{verified}");
    assert!(
        verified.contains("5 instances") && verified.contains("4 deadlines: 0 faults"),
        "{verified}"
    );
    assert_eq!(end().await, before, "something was written");

    // Steps as no build of this kind makes them, and an answer to what was never sent.
    let step = json!({
        "step": 1, "send": [],
        "input": { "accepted": { "step": 9, "number": 0, "version": 1, "position": 1 } },
    });
    publish(
        &client,
        "fulfilment",
        "o-77",
        1,
        "fulfilment.stepped.v1",
        step,
    )
    .await;
    let other = json!({ "step": 1, "input": { "due": { "name": "payment", "armed": 9 } }, "send": [
        { "aggregate": "order", "id": "o-78", "command": "confirm", "body": {} }
    ] });
    publish(
        &client,
        "fulfilment",
        "o-78",
        1,
        "fulfilment.stepped.v1",
        other,
    )
    .await;
    let (tried, same) = operate(&mart, &["try", "fulfilment", "--json"]).await;
    assert!(!same && tried.contains("o-78"), "{tried}");
    let (verified, right) = operate(&mart, &["verify", "fulfilment"]).await;
    assert!(
        !right && verified.contains("fulfilment/o-77/9/0 was answered, and never sent"),
        "{verified}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_instances_are_settled_at_once_by_what_they_have_in_common() {
    let mart = Mart::open(&[]).await;
    let client = mart.client().await;
    for (id, kind) in [
        ("p-1", "order.placed.v1"),
        ("p-2", "order.placed.v1"),
        ("p-3", "order.surprised.v1"),
    ] {
        publish(&client, "order", id, 1, kind, json!({ "odd": true })).await;
    }
    let count = async |more: &[&str]| {
        let arguments = [&["list", "fulfilment"][..], more].concat();
        operate(&mart, &arguments)
            .await
            .0
            .matches("fulfilment p-")
            .count()
    };
    eventually("all are parked", async || {
        (count(&["--status", "parked"]).await == 3).then_some(())
    })
    .await;
    let (refused, retried) = operate(&mart, &["retry", "fulfilment", "o-404"]).await;
    assert!(!retried && refused.contains("not_found"), "{refused}");
    let (told, _) = operate(
        &mart,
        &["retry", "fulfilment", "--all", "--status", "parked"],
    )
    .await;
    assert!(told.contains("retry of 3 instances"), "{told}");
    assert_eq!(count(&["--status", "parked"]).await, 3);
    let skip = [
        "skip",
        "fulfilment",
        "--all",
        "--because",
        "missing field",
        "--reason",
        "made by a test",
    ];
    let (told, _) = operate(&mart, &skip).await;
    assert!(told.contains("skip of 2 instances"), "{told}");
    assert_eq!(count(&["--status", "parked"]).await, 1);
    let (refused, retried) = operate(&mart, &["retry", "fulfilment", "p-1"]).await;
    assert!(!retried && refused.contains("not_parked"), "{refused}");
    let (told, _) = operate(&mart, &["end", "fulfilment", "--all", "--reason", "x"]).await;
    assert!(told.contains("end of 0 instances"), "{told}");
    let end = [
        "end",
        "fulfilment",
        "--all",
        "--status",
        "waiting",
        "--reason",
        "x",
    ];
    let (told, _) = operate(&mart, &end).await;
    assert!(told.contains("end of 2 instances"), "{told}");
    let log = Log::read(&client).await;
    assert!(types(&log, "fulfilment.p-1").contains(&"fulfilment.ended.v1".to_owned()));
}
