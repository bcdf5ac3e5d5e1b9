//! The log as it stands, read by a raw client and understood without the program's own code.

use super::poll::eventually;
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
    /// Command ids by [`mark`].
    pub marked: BTreeMap<String, String>,
}

/// By which an event is known whose command had no key: no two commands of a test leave the same.
/// Nothing where another may leave the same.
pub fn mark(aggregate: &str, event: &str, data: &Value) -> Option<String> {
    let own = match event {
        "stock.reserved.v1" | "stock.released.v1" | "stock.shipped.v1" => data["order"].as_str()?,
        "stock.adjusted.v1" => data["reason"].as_str()?,
        // Each happens once to an aggregate.
        _ if event.starts_with("order.") || event.starts_with("member.") => "",
        _ => return None,
    };
    Some(format!("{aggregate} {event} {own}"))
}

impl Log {
    /// Reads it, and asserts what must hold of any log: no aggregate's versions have a gap or
    /// repeat, and no command is there twice.
    pub async fn read(client: &async_nats::Client) -> Self {
        Self::read_of(client, "evt.>").await
    }

    /// Reads the part of it that is on these subjects, as [`Log::read`] reads all of it.
    pub async fn read_of(client: &async_nats::Client, subjects: &str) -> Self {
        let jetstream = jetstream::new(client.clone());
        // A server that is busy answers late.
        let stream = eventually("the log answers", async || {
            jetstream.get_stream("EVENTS").await.ok()
        });
        let stream = stream.await;
        let mut log = Self::default();
        let config = OrderedConfig {
            filter_subject: subjects.to_owned(),
            ..OrderedConfig::default()
        };
        let consumer = eventually("the log can be read", async || {
            stream.create_consumer(config.clone()).await.ok()
        });
        let consumer = consumer.await;
        let name = consumer.cached_info().name.clone();
        if consumer.cached_info().num_pending == 0 {
            // A log may have records alone, which are none of these. Those that ask again and again would
            // leave too many consumers.
            let _ = stream.delete_consumer(&name).await;
            return log;
        }
        let mut messages = consumer.messages().await.unwrap();
        loop {
            let message = messages.next().await.unwrap().unwrap();
            let info = message.info().unwrap();
            let batch: Vec<Value> = serde_json::from_slice(&message.payload).unwrap();
            let aggregate = message.subject.strip_prefix("evt.").unwrap();
            log.add(aggregate, info.stream_sequence, batch);
            if info.pending == 0 {
                break;
            }
        }
        drop(messages);
        let _ = stream.delete_consumer(&name).await;
        log
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
                let event_type = event["type"].as_str().unwrap();
                types.push(event_type.to_owned());
                if let Some(mark) = mark(aggregate, event_type, &event["data"]) {
                    let id = event["commandid"].as_str().unwrap().to_owned();
                    let before = self.marked.insert(mark.clone(), id);
                    assert_eq!(
                        before, None,
                        "{mark:?} is in the log twice, at {position} too"
                    );
                }
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

    /// Asserts that every stock was decided on the state that the log has before: each of its events
    /// tells what was available after it, as its command saw it.
    pub fn assert_stocks(&self) {
        let stocks = self.aggregates.iter();
        for (aggregate, events) in stocks.filter(|(name, _)| name.starts_with("stock.")) {
            let mut available = 0;
            for event in events {
                available += moved(event);
                assert!(available >= 0, "{aggregate}: {event}");
                assert_eq!(
                    event["data"]["available"], available,
                    "{aggregate}: {event}"
                );
            }
        }
    }
}

/// How much more is available of a stock after this event.
pub fn moved(event: &Value) -> i64 {
    let data = &event["data"];
    match event["type"].as_str().unwrap() {
        "stock.received.v1" | "stock.released.v1" => data["quantity"].as_i64().unwrap(),
        "stock.reserved.v1" => -data["quantity"].as_i64().unwrap(),
        "stock.shipped.v1" => 0,
        "stock.adjusted.v1" => data["delta"].as_i64().unwrap(),
        other => panic!("{other}"),
    }
}
