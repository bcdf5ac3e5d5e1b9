//! Queries over NATS: `qry.<view>.<id>` for a document, `qry.<view>` for a list.
//!
//! One endpoint of a NATS service (ADR-32) that takes all of `qry.>`, so that a query of a wrong form
//! is answered too. The bodies and the headers are those of HTTP.

use super::{Answer, Freshness, ReadModel};
use crate::{
    access::{Access, Identity},
    caller::Action,
    problem::Problem,
    request_reply::{
        AnswerPlace, AnswerPlaces, AnswerTasks, ReplyGuard, age_headers,
        discovery::{self, Discovery},
        refusal_headers,
    },
    unique_fields,
};
use async_nats::{
    Client, HeaderMap, Message, PublishError, Subject, SubscribeError, Subscriber,
    client::PublishErrorKind,
};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Number, Value};
use std::{collections::BTreeMap, sync::Arc, time::Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The number of queries that are worked on at once. Those that wait for a position do not count.
const CONCURRENT: usize = 256;
/// The largest body of a query, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// The service's name, and the queue group that its replicas share.
const SERVICE: &str = "headwater-queries";
/// The requests that are taken.
const SUBJECT: &str = "qry.>";

/// Serves queries over NATS.
pub struct QueryEndpoint {
    requests: Subscriber,
    discovered: JoinHandle<()>,
    guard: ReplyGuard,
    desk: Arc<Desk>,
}

/// The part that answers the queries.
struct Desk {
    client: Client,
    discovery: Arc<Discovery>,
    model: ReadModel,
    access: Access,
    /// The places of those that are worked on.
    places: AnswerPlaces,
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
        access: Access,
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
                access,
                places: AnswerPlaces::new(CONCURRENT),
            }),
        })
    }

    /// Answers until told to stop, then finishes what has been taken.
    pub async fn run(mut self, stopping: CancellationToken) {
        let mut tasks = AnswerTasks::new(self.desk.places.clone());
        loop {
            let request = tokio::select! {
                request = self.requests.next() => request,
                () = stopping.cancelled() => None,
            };
            let Some(request) = request else { break };
            // A query that nobody wants answered changes nothing either.
            if request.reply.is_none() || !self.guard.admits(&request) {
                continue;
            }
            let (desk, arrived) = (Arc::clone(&self.desk), Instant::now());
            match tasks.place() {
                Some(place) => {
                    tasks.spawn(async move {
                        let answered = desk.answer(&request, place).await;
                        desk.send(request, answered, arrived).await;
                    });
                }
                None => desk.send(request, Err(overloaded()), arrived).await,
            }
        }
        drop(self.requests);
        self.discovered.abort();
        tasks.finish().await;
    }
}

impl Desk {
    /// Answers a query. Where it has to wait first, the place is given back meanwhile.
    async fn answer(&self, request: &Message, mut place: AnswerPlace) -> Result<Reply, Problem> {
        let who = match self.access.identify(&request.headers, None) {
            Identity::Known(who) => who?,
            Identity::Unknown(pending) => {
                drop(place);
                let who = pending.settle().await?;
                place = self.places.next().await;
                who
            }
        };
        let tokens: Vec<_> = request.subject.split('.').collect();
        let mut views = self.model.views().iter();
        let who = match tokens[..] {
            [_, view, ..] if views.any(|known| known.name == view) => {
                who.may(Action::Query { view })?
            }
            _ if !who.is_known() => return Err(who.refused(Problem::unauthenticated())),
            _ => who,
        };
        let freshness = Freshness::read(&request.headers, who.caller)?;
        if let [_, view, ..] = tokens[..]
            && !self.model.is_fresh(view, &freshness)
        {
            drop(place);
            self.model.until_fresh(view, &freshness).await?;
            place = self.places.next().await;
        }
        let answered = answer(&self.model, &tokens, request, &freshness).await;
        drop(place);
        answered
    }

    async fn send(&self, request: Message, answered: Result<Reply, Problem>, arrived: Instant) {
        let Some(to) = request.reply else { return };
        self.discovery
            .count(0, arrived.elapsed(), answered.is_err());
        let sent = match answered {
            Ok(reply) => self.reply(to.clone(), reply).await,
            Err(problem) => self.refuse(to.clone(), &problem).await,
        };
        let sent = match sent {
            // Headers count, and only the connection knows how much it takes.
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                let is_list = request.subject.split('.').count() == 2;
                self.refuse(to, &too_long(is_list)).await
            }
            sent => sent,
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "an answer could not be sent");
        }
    }

    async fn reply(&self, to: Subject, (headers, body): Reply) -> Result<(), PublishError> {
        self.client.publish_with_headers(to, headers, body).await
    }

    async fn refuse(&self, to: Subject, problem: &Problem) -> Result<(), PublishError> {
        let reply = (refusal_headers(problem), problem.to_json().into());
        self.reply(to, reply).await
    }
}

type Reply = (HeaderMap, Bytes);

async fn answer(
    model: &ReadModel,
    tokens: &[&str],
    request: &Message,
    freshness: &Freshness,
) -> Result<Reply, Problem> {
    match tokens {
        [_, view] => {
            let parameters = parameters(&request.payload)?;
            let answer = model.page(view, &parameters, freshness).await?;
            Ok((success(&answer, &answer.value.tag), answer.value.body))
        }
        [_, view, id] => {
            let answer = model.document(view, id, freshness).await?;
            Ok((success(&answer, &answer.value.tag), answer.value.body))
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
            Value::Number(number) => Ok((name, written(&number))),
            Value::Bool(truth) => Ok((name, truth.to_string())),
            Value::Null | Value::Array(_) | Value::Object(_) => Err(Problem::malformed(
                name,
                "a parameter is a string, a number or a boolean",
            )),
        })
        .collect()
}

/// A number as a parameter has it. A whole one is the same however it is written.
fn written(number: &Number) -> String {
    let text = number.to_string();
    let digits = text
        .strip_suffix(".0")
        .filter(|digits| digits.parse::<i64>().is_ok());
    digits.map_or_else(|| text.clone(), str::to_owned)
}

/// The headers that the answer has on HTTP, the same entity tag among them.
fn success<T>(answer: &Answer<T>, tag: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", "application/json");
    headers.insert("ETag", &*String::from_utf8_lossy(tag));
    age_headers(&mut headers, answer.age());
    headers
}

fn overloaded() -> Problem {
    Problem {
        detail: "too many queries are waiting".to_owned(),
        ..Problem::overloaded()
    }
}

/// A list is asked for again with a smaller page. A document can only be read elsewhere.
fn too_long(is_list: bool) -> Problem {
    match is_list {
        true => Problem::malformed(
            "limit".to_owned(),
            "the page is larger than a message can be: ask for fewer documents",
        ),
        false => Problem {
            detail: "the document is larger than a message can be: read it over HTTP".to_owned(),
            ..Problem::too_large(0)
        },
    }
}

/// The queries cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("queries cannot be served over nats: {0}")]
pub struct EndpointError(#[from] SubscribeError);
