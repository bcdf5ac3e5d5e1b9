//! Queries over NATS: `qry.<view>.<id>` for a document, `qry.<view>` for a list.
//!
//! One endpoint of a NATS service (ADR-32) that takes all of `qry.>`, so that a query of a wrong form
//! is answered too. The bodies and the headers are those of HTTP.

use super::{Answer, Freshness, ReadModel};
use crate::{
    problem::Problem,
    request_reply::{
        ReplyGuard,
        discovery::{self, Discovery},
        refusal_headers,
    },
    unique_fields,
};
use async_nats::{Client, HeaderMap, Message, SubscribeError, Subscriber};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::Arc, time::Instant};
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// How many queries are worked on at once. Those that wait for a position count.
const CONCURRENT: usize = 256;
/// The largest body of a query, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// The service's name, and the queue group that its replicas share.
const SERVICE: &str = "headwater-queries";
/// What is taken.
const SUBJECT: &str = "qry.>";

/// Serves queries over NATS.
pub struct QueryEndpoint {
    requests: Subscriber,
    discovered: JoinHandle<()>,
    guard: ReplyGuard,
    desk: Arc<Desk>,
}

/// What answers the queries.
struct Desk {
    client: Client,
    discovery: Arc<Discovery>,
    model: ReadModel,
    /// The largest reply that the connection takes, in bytes.
    max_reply: usize,
}

impl QueryEndpoint {
    /// Subscribes. Queries wait until [`QueryEndpoint::run`] takes them.
    ///
    /// # Errors
    ///
    /// Returns a retryable error when the connection is closed.
    pub async fn open(
        client: &Client,
        model: ReadModel,
        guard: ReplyGuard,
    ) -> Result<Self, EndpointError> {
        let endpoint = discovery::Endpoint::new("query".to_owned(), SUBJECT.to_owned(), SERVICE);
        let discovery = Discovery::new(SERVICE, "answers queries about views", vec![endpoint]);
        let requests = client.queue_subscribe(SUBJECT, SERVICE.to_owned()).await?;
        let serving = discovery.clone().serve(client.clone(), guard.clone());
        Ok(Self {
            requests,
            discovered: serving.await?,
            guard,
            desk: Arc::new(Desk {
                client: client.clone(),
                discovery,
                model,
                max_reply: client.server_info().max_payload,
            }),
        })
    }

    /// Answers until told to stop, then finishes what has been taken.
    pub async fn run(mut self, stopping: CancellationToken) {
        let permits = Arc::new(Semaphore::new(CONCURRENT));
        let mut tasks = JoinSet::new();
        loop {
            let request = tokio::select! {
                request = self.requests.next() => request,
                () = stopping.cancelled() => None,
            };
            let Some(request) = request else { break };
            while tasks.try_join_next().is_some() {}
            // A query that nobody wants answered changes nothing either.
            if request.reply.is_none() || !self.guard.admits(&request) {
                continue;
            }
            let (desk, arrived) = (Arc::clone(&self.desk), Instant::now());
            match Arc::clone(&permits).try_acquire_owned() {
                Ok(permit) => {
                    tasks.spawn(async move {
                        let answered = answer(&desk.model, &request).await;
                        desk.send(request, answered, arrived).await;
                        drop(permit);
                    });
                }
                Err(_) => desk.send(request, Err(overloaded()), arrived).await,
            }
        }
        drop(self.requests);
        self.discovered.abort();
        while tasks.join_next().await.is_some() {}
    }
}

impl Desk {
    async fn send(&self, request: Message, answered: Result<Reply, Problem>, arrived: Instant) {
        let Some(to) = request.reply else { return };
        let answered = answered.and_then(|reply| match reply.1.len() > self.max_reply {
            true => Err(too_long()),
            false => Ok(reply),
        });
        self.discovery
            .count(0, arrived.elapsed(), answered.is_err());
        let (headers, body) = answered
            .unwrap_or_else(|problem| (refusal_headers(&problem), problem.to_json().into()));
        if let Err(error) = self.client.publish_with_headers(to, headers, body).await {
            tracing::debug!(%error, "an answer could not be sent");
        }
    }
}

type Reply = (HeaderMap, Bytes);

async fn answer(model: &ReadModel, request: &Message) -> Result<Reply, Problem> {
    let freshness = Freshness::read(&request.headers)?;
    let tokens: Vec<_> = request.subject.split('.').collect();
    match tokens[..] {
        [_, view] => {
            let parameters = parameters(&request.payload)?;
            let page = model.list(view, &parameters, &freshness).await?;
            let body = serde_json::to_vec(&page.value)
                .map_err(|_| Problem::unavailable("the view cannot be read now"))?;
            Ok((success(&page, &tag_of(&body)), body.into()))
        }
        [_, view, id] => {
            let answer = model.document(view, id, &freshness).await?;
            let tag = String::from_utf8_lossy(&answer.value.tag);
            Ok((success(&answer, &tag), answer.value.body.clone()))
        }
        _ => Err(Problem::malformed(
            "id".to_owned(),
            "ask qry.<view>.<id> for a document, qry.<view> for a list",
        )),
    }
}

/// The parameters as JSON: an object of strings, numbers and booleans. No body is no parameter.
fn parameters(body: &[u8]) -> Result<BTreeMap<String, String>, Problem> {
    if body.len() > MAX_BODY {
        return Err(Problem::too_large(MAX_BODY));
    }
    if body.is_empty() {
        return Ok(BTreeMap::new());
    }
    let parameters: BTreeMap<String, Value> = serde_json::from_slice(body).map_err(|error| {
        Problem::malformed(
            None,
            format!("the body is a JSON object of parameters: {error}"),
        )
    })?;
    if let Some(name) = unique_fields::given_twice(body) {
        let detail = format!("{name} is given more than once");
        return Err(Problem::malformed(name, detail));
    }
    parameters
        .into_iter()
        .map(|(name, value)| match value {
            Value::String(text) => Ok((name, text)),
            Value::Number(number) => Ok((name, number.to_string())),
            Value::Bool(truth) => Ok((name, truth.to_string())),
            Value::Null | Value::Array(_) | Value::Object(_) => Err(Problem::malformed(
                name,
                "a parameter is a string, a number or a boolean",
            )),
        })
        .collect()
}

/// The headers that the answer has on HTTP, the same entity tag among them.
fn success<T>(answer: &Answer<T>, tag: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", "application/json");
    headers.insert("ETag", tag);
    headers.insert("Headwater-Applied", answer.applied.to_string());
    headers.insert("Headwater-Lag-Ms", answer.lag_ms.to_string());
    if answer.parked {
        headers.insert("Headwater-Parked", "true");
    }
    headers
}

/// A page's entity tag: half of the SHA-256 of its body.
fn tag_of(body: &[u8]) -> String {
    format!(
        "\"{}\"",
        URL_SAFE_NO_PAD.encode(&Sha256::digest(body)[..16])
    )
}

fn overloaded() -> Problem {
    Problem {
        detail: "too many queries are waiting".to_owned(),
        ..Problem::overloaded()
    }
}

fn too_long() -> Problem {
    Problem::malformed(
        "limit".to_owned(),
        "the page is larger than a message can be: ask for fewer documents",
    )
}

/// The queries cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("queries cannot be served over nats: {0}")]
pub struct EndpointError(#[from] SubscribeError);
