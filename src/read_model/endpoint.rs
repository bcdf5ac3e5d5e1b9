//! Queries over NATS: `qry.<view>.<id>` for a document, `qry.<view>` for a list.
//!
//! One endpoint of a NATS service (ADR-32) that takes all of `qry.>`, so that a query of a wrong form
//! is answered too. The bodies and the headers are those of HTTP.

use super::{Answer, Freshness, ReadModel};
use crate::{problem::Problem, request_reply::refusal_headers, unique_fields};
use async_nats::{
    Client, HeaderMap,
    service::{Request, Service, ServiceExt, endpoint::Endpoint},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::Arc};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// How many queries are worked on at once. Those that wait for a position count.
const CONCURRENT: usize = 256;
/// The largest body of a query, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// The service's name, and the queue group that its replicas share.
const SERVICE: &str = "headwater-queries";

/// Serves queries over NATS.
pub struct QueryEndpoint {
    service: Service,
    endpoint: Endpoint,
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
    pub async fn open(client: &Client, model: ReadModel) -> Result<Self, EndpointError> {
        let service = client
            .service_builder()
            .description("answers queries about views")
            .queue_group(SERVICE)
            .start(SERVICE, env!("CARGO_PKG_VERSION"))
            .await
            .map_err(EndpointError)?;
        let endpoint = service
            .endpoint_builder()
            .name("query")
            .add("qry.>")
            .await
            .map_err(EndpointError)?;
        Ok(Self {
            service,
            endpoint,
            model,
            max_reply: client.server_info().max_payload,
        })
    }

    /// Answers until told to stop, then finishes what has been taken.
    pub async fn run(mut self, stopping: CancellationToken) {
        let permits = Arc::new(Semaphore::new(CONCURRENT));
        let mut tasks = JoinSet::new();
        loop {
            let request = tokio::select! {
                request = self.endpoint.next() => request,
                () = stopping.cancelled() => None,
            };
            let Some(request) = request else { break };
            while tasks.try_join_next().is_some() {}
            match Arc::clone(&permits).try_acquire_owned() {
                Ok(permit) => {
                    let (model, max_reply) = (self.model.clone(), self.max_reply);
                    tasks.spawn(async move {
                        let reply = match answer(&model, &request).await {
                            Ok((_, body)) if body.len() > max_reply => refusal(&too_long()),
                            Ok(reply) => reply,
                            Err(problem) => refusal(&problem),
                        };
                        send(&request, reply).await;
                        drop(permit);
                    });
                }
                Err(_) => send(&request, refusal(&overloaded())).await,
            }
        }
        while tasks.join_next().await.is_some() {}
        if let Err(error) = self.service.stop().await {
            tracing::debug!(%error, "the query service was already gone");
        }
    }
}

type Reply = (HeaderMap, Bytes);

async fn answer(model: &ReadModel, request: &Request) -> Result<Reply, Problem> {
    let freshness = Freshness::read(&request.message.headers)?;
    let tokens: Vec<_> = request.message.subject.split('.').collect();
    match tokens[..] {
        [_, view] => {
            let parameters = parameters(&request.message.payload)?;
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
            Value::Null | Value::Array(_) | Value::Object(_) => {
                Err(Problem::malformed(
                    name,
                    "a parameter is a string, a number or a boolean",
                ))
            }
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

fn refusal(problem: &Problem) -> Reply {
    (refusal_headers(problem), problem.to_json().into())
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

async fn send(request: &Request, (headers, body): Reply) {
    if request.message.reply.is_none() {
        return;
    }
    if let Err(error) = request.respond_with_headers(Ok(body), headers).await {
        tracing::debug!(%error, "an answer could not be sent");
    }
}

/// The queries cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("queries cannot be served over nats: {0}")]
pub struct EndpointError(#[source] async_nats::Error);
