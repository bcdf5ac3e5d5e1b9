//! The files in `nats/` are what a real server has after `apply`, and `verify` tells when not.

use crate::harness::{
    cluster::NatsCluster,
    nats::Nats,
    poll::eventually,
    service::{headwater, run},
    streams::{ask, change_stream, stream_config},
};
use futures::StreamExt;
use headwater::event_log::topology::{Change, Topology, TopologyError, Whose};
use serde_json::json;

fn changes(applied: &[(String, Change)]) -> Vec<(&str, Change)> {
    applied
        .iter()
        .map(|(name, change)| (name.as_str(), *change))
        .collect()
}

#[tokio::test]
async fn a_server_is_set_up_from_the_files_and_then_verifies() {
    let nats = Nats::start();
    let client = nats.client().await;
    let topology = Topology::embedded();

    let missing = topology.verify(&client).await.unwrap();
    let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
    assert_eq!(
        missing,
        [
            "EVENTS: the stream does not exist",
            "KV_snapshots: the stream does not exist"
        ]
    );

    let applied = topology.apply(&client).await.unwrap();
    assert_eq!(
        changes(&applied),
        [
            ("EVENTS", Change::Created),
            ("KV_snapshots", Change::Created)
        ]
    );
    assert_eq!(topology.verify(&client).await.unwrap(), []);

    let applied = topology.apply(&client).await.unwrap();
    assert_eq!(
        changes(&applied),
        [
            ("EVENTS", Change::Unchanged),
            ("KV_snapshots", Change::Unchanged)
        ]
    );
    // The bucket is one that clients know as such.
    let bucket = nats
        .jetstream()
        .await
        .get_key_value("snapshots")
        .await
        .unwrap();
    bucket.put("order.o-1", "{}".into()).await.unwrap();
    assert!(bucket.get("order.o-1").await.unwrap().is_some());
}

#[tokio::test]
async fn a_setting_changed_by_hand_is_reported_and_put_right() {
    let nats = Nats::start();
    let client = nats.client().await;
    let topology = Topology::embedded();
    topology.apply(&client).await.unwrap();

    change_stream(
        &client,
        "EVENTS",
        json!({"max_msg_size": 65536, "allow_direct": false, "metadata": {"owner": "ops"}}),
    )
    .await;
    let differences = topology.verify(&client).await.unwrap();
    let told: Vec<_> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "EVENTS: allow_direct should be true, is false",
            "EVENTS: max_msg_size should be 1048576, is 65536",
            r#"EVENTS: metadata should be {"headwater.topology":"2"}, is {}"#,
        ]
    );

    let applied = topology.apply(&client).await.unwrap();
    assert_eq!(
        changes(&applied),
        [
            ("EVENTS", Change::Updated),
            ("KV_snapshots", Change::Unchanged)
        ]
    );
    assert_eq!(topology.verify(&client).await.unwrap(), []);
    // What the file does not mention is the operator's.
    let stream = nats.jetstream().await.get_stream("EVENTS").await.unwrap();
    let metadata = &stream.cached_info().config.metadata;
    assert_eq!(metadata.get("owner").map(String::as_str), Some("ops"));
}

#[tokio::test]
async fn a_change_that_the_server_refuses_is_an_error_in_its_words() {
    let nats = Nats::start();
    let client = nats.client().await;
    nats.jetstream()
        .await
        .create_stream(async_nats::jetstream::stream::Config {
            name: "EVENTS".to_owned(),
            subjects: vec!["evt.>".to_owned(), "claim.>".to_owned()],
            storage: async_nats::jetstream::stream::StorageType::Memory,
            ..Default::default()
        })
        .await
        .unwrap();

    let error = Topology::embedded().apply(&client).await.unwrap_err();
    assert!(
        matches!(&error, TopologyError::Refused { verb: "UPDATE", stream, .. } if stream == "EVENTS"),
        "{error:?}"
    );
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("storage"), "{error}");
}

#[tokio::test]
async fn more_replicas_than_servers_are_refused() {
    let nats = Nats::start();
    let client = nats.client().await;
    let error = Topology::embedded()
        .with_replicas(3)
        .apply(&client)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("replicas"), "{error}");
}

#[tokio::test]
async fn a_cluster_keeps_its_replicas_when_nobody_asks_for_a_number() {
    let cluster = NatsCluster::start().await;
    let client = cluster.client().await;
    let asked = Topology::embedded().with_replicas(3);
    // A cluster that has just formed may not know all of its members yet, and says so.
    eventually("the streams are created", || async {
        match asked.apply(&client).await {
            Ok(_) => Some(()),
            Err(error) if error.is_retryable() => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await;
    let replicas = async || {
        let stream = async_nats::jetstream::new(client.clone())
            .get_stream("EVENTS")
            .await
            .unwrap();
        stream.cached_info().config.num_replicas
    };
    assert_eq!(replicas().await, 3);

    let applied = Topology::embedded().apply(&client).await.unwrap();
    assert_eq!(
        changes(&applied),
        [
            ("EVENTS", Change::Unchanged),
            ("KV_snapshots", Change::Unchanged)
        ]
    );
    assert_eq!(asked.verify(&client).await.unwrap(), []);

    change_stream(&client, "EVENTS", json!({"max_msg_size": 65536})).await;
    let applied = Topology::embedded().apply(&client).await.unwrap();
    assert_eq!(applied[0].1, Change::Updated);
    assert_eq!(replicas().await, 3);
}

#[tokio::test]
async fn replicas_that_race_to_set_up_a_server_all_succeed() {
    let nats = Nats::start();
    let client = nats.client().await;
    let topology = Topology::embedded();
    let applied = futures::future::join_all((0..8).map(|_| topology.apply(&client))).await;
    for applied in applied {
        applied.unwrap();
    }
    assert_eq!(topology.verify(&client).await.unwrap(), []);
}

#[tokio::test]
async fn a_server_without_jetstream_is_a_retryable_error() {
    let nats = Nats::start_with("max_payload: 1048576");
    let client = nats.client().await;
    let error = Topology::embedded().verify(&client).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains("JetStream"), "{error}");
}

#[tokio::test]
async fn an_operators_own_bounds_are_left_and_told() {
    let nats = Nats::start();
    let client = nats.client().await;
    let topology = Topology::embedded();
    topology.apply(&client).await.unwrap();
    let bounds = json!({"max_bytes": 1_000_000_000, "max_msgs": 5_000, "max_age": 3_600_000_000_000_u64,
        "compression": "s2", "description": "ours"});
    change_stream(&client, "EVENTS", bounds.clone()).await;

    let applied = topology.apply(&client).await.unwrap();
    assert_eq!(applied[0].1, Change::Unchanged);
    // Beside what must be put right, too.
    change_stream(&client, "EVENTS", json!({"allow_direct": false})).await;
    let applied = topology.apply(&client).await.unwrap();
    assert_eq!(applied[0].1, Change::Updated);
    let config = stream_config(&client, "EVENTS").await;
    for (field, value) in bounds.as_object().unwrap() {
        assert_eq!(config[field], *value, "{field}");
    }
    let differences = topology.verify(&client).await.unwrap();
    assert_eq!(differences.len(), 5, "{differences:?}");
    assert!(differences.iter().all(|it| it.whose == Whose::Operator));
    let told = differences.iter().find(|it| it.field == "max_age").unwrap();
    assert!(told.to_string().contains("COMMITS ARE LOST"), "{told}");
}

#[tokio::test]
async fn an_older_program_leaves_what_a_newer_one_has_set() {
    let nats = Nats::start();
    let client = nats.client().await;
    let topology = Topology::embedded();
    topology.apply(&client).await.unwrap();
    let newer = json!({"max_msg_size": 2_097_152, "subjects": ["evt.>", "claim.>", "log.>", "new.>"],
        "metadata": {"headwater.topology": "1000"}});
    change_stream(&client, "EVENTS", newer).await;

    let applied = topology.apply(&client).await.unwrap();
    assert_eq!(applied[0].1, Change::Newer);
    let config = stream_config(&client, "EVENTS").await;
    assert_eq!(config["max_msg_size"], 2_097_152);
    let differences = topology.verify(&client).await.unwrap();
    assert!(!differences.is_empty());
    assert!(
        differences.iter().all(|it| !it.matters()),
        "{differences:?}"
    );

    change_stream(&client, "EVENTS", json!({"allow_atomic": false})).await;
    topology.apply(&client).await.unwrap();
    let differences = topology.verify(&client).await.unwrap();
    let matters: Vec<_> = differences.iter().filter(|it| it.matters()).collect();
    assert_eq!(matters.len(), 1, "{differences:?}");
    assert_eq!(matters[0].field, "allow_atomic");
}

#[tokio::test]
async fn a_sealed_log_is_named() {
    let nats = Nats::start();
    let client = nats.client().await;
    // A stream that cannot be purged cannot be sealed either.
    let config = json!({"name": "EVENTS", "subjects": ["evt.>"], "storage": "file"});
    ask(&client, "STREAM.CREATE.EVENTS", config).await;
    change_stream(&client, "EVENTS", json!({"sealed": true})).await;
    let topology = Topology::embedded();
    let error = topology.apply(&client).await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert!(error.to_string().contains("EVENTS"), "{error}");
    let differences = topology.verify(&client).await.unwrap();
    let sealed = "EVENTS: sealed should be false, is true";
    assert!(differences.iter().any(|it| it.to_string() == sealed));
}

#[tokio::test]
async fn consumers_that_nobody_reads_are_told() {
    let nats = Nats::start();
    let client = nats.client().await;
    let topology = Topology::embedded().with_deadlines();
    topology.apply(&client).await.unwrap();
    let stream = nats.jetstream().await.get_stream("EVENTS").await.unwrap();
    let make = async |name: &str| {
        let config = async_nats::jetstream::consumer::pull::Config {
            durable_name: Some(name.to_owned()),
            ..Default::default()
        };
        stream.create_consumer(config).await.unwrap()
    };
    make("view-product-v1-gone").await;
    make("somebody-elses").await;
    let read = make("view-product-v1-here").await;
    let mut messages = read.messages().await.unwrap();
    // It asks once it is waited for.
    let reading = tokio::spawn(async move { messages.next().await.is_some() });
    let shown = eventually("both are known", || async {
        let mut command = headwater(["topology", "verify", "--nats", &nats.url()]);
        let output = tokio::task::spawn_blocking(move || run(&mut command));
        let output = output.await.unwrap();
        assert_eq!(output.status.code(), Some(0));
        let shown = String::from_utf8(output.stdout).unwrap();
        (shown.contains("gone") && !shown.contains("here")).then_some(shown)
    })
    .await;
    assert!(!shown.contains("somebody"), "{shown}");
    reading.abort();
}
