//! The floors of the command side: what NATS alone does on the same server with the same bytes.

use super::{BenchError, processes::Process};
use crate::platform::NatsAddress;
use async_nats::{Client, HeaderMap, Request};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The subject on which the trivial responder answers.
const ECHO: &str = "bench.echo";

/// NATS request-reply alone: a process in the replica's place that answers at once.
pub struct RequestReply {
    responder: Process,
    clients: Arc<[Client]>,
    request: (HeaderMap, Bytes),
}

impl RequestReply {
    /// Starts the responder. Its answers have `reply_bytes`.
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] when it does not start.
    pub async fn start(
        nats: &NatsAddress,
        clients: Arc<[Client]>,
        request: (HeaderMap, Bytes),
        reply_bytes: usize,
    ) -> Result<Self, BenchError> {
        let reply_bytes = reply_bytes.to_string();
        let arguments = ["bench", "responder"];
        let arguments = arguments.into_iter().chain(["--reply-bytes", &reply_bytes]);
        let (responder, _) = Process::start_at(nats, arguments, "answers").await?;
        Ok(Self {
            responder,
            clients,
            request,
        })
    }

    /// One request.
    pub fn operation(
        &self,
    ) -> impl Fn(usize, u64) -> futures::future::BoxFuture<'static, Result<(), BenchError>>
    + Clone
    + Send
    + 'static {
        let (clients, request) = (self.clients.clone(), self.request.clone());
        move |worker, _| {
            let client = clients[worker % clients.len()].clone();
            let (headers, body) = request.clone();
            Box::pin(async move {
                let request = Request::new().headers(headers).payload(body);
                client
                    .send_request(ECHO, request)
                    .await
                    .map_err(BenchError::new)?;
                Ok(())
            })
        }
    }

    /// Ends the responder.
    pub async fn stop(self) {
        self.responder.kill().await;
    }
}

/// Answers every request with so many bytes until the connection ends. What `headwater bench
/// responder` runs.
///
/// # Errors
///
/// Returns [`BenchError`] when NATS is not there.
pub async fn respond(nats: &NatsAddress, reply_bytes: usize) -> Result<(), BenchError> {
    let client = crate::platform::connect(nats, "bench responder")
        .await
        .map_err(BenchError::new)?;
    let mut requests = client.subscribe(ECHO).await.map_err(BenchError::new)?;
    client.flush().await.map_err(BenchError::new)?;
    println!("answers on {ECHO}");
    let reply = Bytes::from(vec![b' '; reply_bytes]);
    while let Some(request) = requests.next().await {
        if let Some(to) = request.reply {
            client
                .publish(to, reply.clone())
                .await
                .map_err(BenchError::new)?;
        }
    }
    Ok(())
}

/// Publishing alone, each message with the last sequence of its subject that it expects, to a
/// stream of its own with the configuration of the log.
pub struct Publish {
    clients: Arc<[Client]>,
    stream: String,
    subjects: usize,
    /// The last sequence of each subject.
    last: Arc<[AtomicU64]>,
    payload: Bytes,
}

impl Publish {
    /// Creates the stream, with so many subjects, for messages with this body.
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] when the server refuses it.
    pub async fn create(
        clients: Arc<[Client]>,
        subjects: usize,
        payload: Bytes,
    ) -> Result<Self, BenchError> {
        let stream = format!("BENCH{}", uuid::Uuid::now_v7().simple());
        let log = api(&clients[0], "STREAM.INFO.EVENTS", &Value::Null).await?;
        let mut config = log["config"].clone();
        config["name"] = json!(stream);
        config["subjects"] = json!([format!("{stream}.>")]);
        config["description"] = json!("what a bench measures the log against");
        // Or it could not be deleted from a server that stays.
        config["deny_delete"] = json!(false);
        config["deny_purge"] = json!(false);
        api(&clients[0], &format!("STREAM.CREATE.{stream}"), &config).await?;
        Ok(Self {
            clients,
            stream,
            subjects,
            last: (0..subjects).map(|_| AtomicU64::new(0)).collect(),
            payload,
        })
    }

    /// One message. A subject has one worker: with fewer subjects than `workers` only so many may
    /// run.
    pub fn operation(
        &self,
        workers: usize,
    ) -> impl Fn(usize, u64) -> futures::future::BoxFuture<'static, Result<(), BenchError>>
    + Clone
    + Send
    + 'static {
        let (clients, last) = (self.clients.clone(), self.last.clone());
        let payload = self.payload.clone();
        let (stream, subjects) = (self.stream.clone(), self.subjects);
        move |worker, done| {
            let subject = own(worker, workers, subjects, done);
            let client = clients[worker % clients.len()].clone();
            let last = last.clone();
            let payload = payload.clone();
            let to = format!("{stream}.{subject}");
            Box::pin(async move {
                let expected = last[subject].load(Ordering::Relaxed);
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
                let request = Request::new().headers(headers).payload(payload);
                let reply = client
                    .send_request(to, request)
                    .await
                    .map_err(BenchError::new)?;
                let ack: Value = serde_json::from_slice(&reply.payload).map_err(BenchError::new)?;
                let sequence = ack["seq"]
                    .as_u64()
                    .ok_or_else(|| BenchError::new(format!("a publish was refused: {ack}")))?;
                last[subject].store(sequence, Ordering::Relaxed);
                Ok(())
            })
        }
    }

    /// Deletes the stream.
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] when the server refuses.
    pub async fn delete(self) -> Result<(), BenchError> {
        let delete = format!("STREAM.DELETE.{}", self.stream);
        api(&self.clients[0], &delete, &Value::Null).await?;
        Ok(())
    }
}

/// Spreads `count` things over workers so that each has one worker, and each worker goes round its
/// own.
#[must_use]
pub fn own(worker: usize, workers: usize, count: usize, done: u64) -> usize {
    let others = workers.min(count);
    let worker = worker % others;
    let mine = (count - worker).div_ceil(others);
    worker + others * (done % mine as u64) as usize
}

async fn api(client: &Client, what: &str, body: &Value) -> Result<Value, BenchError> {
    let body = match body {
        Value::Null => Bytes::new(),
        body => body.to_string().into(),
    };
    let reply = client
        .request(format!("$JS.API.{what}"), body)
        .await
        .map_err(|error| BenchError::new(format!("{what}: {error}")))?;
    let answer: Value = serde_json::from_slice(&reply.payload).map_err(BenchError::new)?;
    match answer.get("error") {
        Some(error) => Err(BenchError::new(format!("{what}: {error}"))),
        None => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::own;
    use std::collections::HashMap;

    #[test]
    fn each_subject_has_one_worker_and_each_worker_goes_round_its_own() {
        for (workers, count) in [(3, 10), (4, 4), (256, 1000), (5, 2)] {
            let mut owners = HashMap::new();
            for worker in 0..workers.min(count) {
                for done in 0..(2 * count as u64) {
                    let subject = own(worker, workers, count, done);
                    assert_eq!(*owners.entry(subject).or_insert(worker), worker);
                }
            }
            assert_eq!(owners.len(), count);
        }
    }
}
