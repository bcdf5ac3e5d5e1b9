//! The log as it stands, read by a raw client and understood without the program's own code.

use async_nats::jetstream::{self, consumer::pull::OrderedConfig};
use futures::StreamExt;
use serde_json::Value;
use std::collections::BTreeMap;

/// What one command left in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// `<aggregate>.<id>`.
    pub aggregate: String,
    pub position: u64,
    /// The version after its last event.
    pub version: u64,
    /// The storage names of its events.
    pub types: Vec<String>,
}

/// A whole log.
#[derive(Debug, Default)]
pub struct Log {
    /// By `<aggregate>.<id>`: the events, in order.
    pub aggregates: BTreeMap<String, Vec<Value>>,
    /// By command id.
    pub commands: BTreeMap<String, Logged>,
}

impl Log {
    /// Reads it, and asserts what must hold of any log: no aggregate's versions have a gap or
    /// repeat, and no command is there twice.
    pub async fn read(client: &async_nats::Client) -> Self {
        let stream = jetstream::new(client.clone())
            .get_stream("EVENTS")
            .await
            .unwrap();
        let mut log = Self::default();
        if stream.get_info().await.unwrap().state.messages == 0 {
            return log;
        }
        let config = OrderedConfig {
            filter_subject: "evt.>".to_owned(),
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.unwrap();
        let mut messages = consumer.messages().await.unwrap();
        loop {
            let message = messages.next().await.unwrap().unwrap();
            let info = message.info().unwrap();
            let batch: Vec<Value> = serde_json::from_slice(&message.payload).unwrap();
            let aggregate = message.subject.strip_prefix("evt.").unwrap();
            log.add(aggregate, info.stream_sequence, batch);
            if info.pending == 0 {
                return log;
            }
        }
    }

    fn add(&mut self, aggregate: &str, position: u64, batch: Vec<Value>) {
        let events = self.aggregates.entry(aggregate.to_owned()).or_default();
        for commands in batch.chunk_by(|a, b| a["commandid"] == b["commandid"]) {
            let mut types = Vec::new();
            for event in commands {
                events.push(event.clone());
                assert_eq!(
                    event["id"].as_str().unwrap(),
                    events.len().to_string(),
                    "{aggregate} at {position}: versions have no gap and none is there twice"
                );
                types.push(event["type"].as_str().unwrap().to_owned());
            }
            let id = commands[0]["commandid"].as_str().unwrap().to_owned();
            let logged = Logged {
                aggregate: aggregate.to_owned(),
                position,
                version: events.len() as u64,
                types,
            };
            if let Some(before) = self.commands.insert(id.clone(), logged.clone()) {
                panic!("command {id} is in the log twice: {before:?} and {logged:?}");
            }
        }
    }
}
