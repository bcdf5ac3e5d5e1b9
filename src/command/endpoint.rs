//! Commands over NATS: one endpoint of a NATS service (ADR-32) for each command.
//!
//! `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS` discover them. What matches no endpoint (an unknown
//! aggregate or command, an id with dots in it) is answered by a subscription of its own, so that a
//! client always gets a problem and never a silence.

use super::{
    client::CommandClient,
    request::{CommandHeaders, CommandRequest, MAX_BODY, Outcome, is_json},
};
use crate::{event_log::subject::Id, problem::Problem};
use async_nats::{HeaderMap, Message, service::ServiceExt};
use bytes::Bytes;
use futures::{StreamExt, stream::SelectAll};
use tokio::{sync::watch, task::JoinSet};

/// The name of the service, as `$SRV` shows it.
pub const SERVICE: &str = "headwater";
/// The queue group of the subscription that answers what matches no endpoint.
const STRAY: &str = "headwater-stray";

/// The endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the command endpoint cannot be opened: {0}")]
pub struct EndpointError(String);

/// The running endpoint.
pub struct CommandEndpoint {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl CommandEndpoint {
    /// Subscribes to every command and begins to answer.
    ///
    /// # Errors
    ///
    /// Returns [`EndpointError`] when a subscription is refused.
    pub async fn open(
        nats: async_nats::Client,
        client: CommandClient,
    ) -> Result<Self, EndpointError> {
        let fault = |error: &dyn std::fmt::Display| EndpointError(error.to_string());
        let service = nats
            .service_builder()
            .description("commands of the write side")
            .start(SERVICE, env!("CARGO_PKG_VERSION"))
            .await
            .map_err(|error| fault(&error))?;
        let mut requests = SelectAll::new();
        for aggregate in client.aggregates() {
            for command in &aggregate.commands {
                let endpoint = service
                    .endpoint_builder()
                    .name(format!("{}_{}", aggregate.name, command.name))
                    .add(format!("cmd.{}.*.{}", aggregate.name, command.name))
                    .await
                    .map_err(|error| fault(&error))?;
                requests.push(endpoint);
            }
        }
        let strays = nats
            .queue_subscribe("cmd.>", STRAY.to_owned())
            .await
            .map_err(|error| fault(&error))?;
        // The subscriptions are in force before the first command can be answered.
        nats.flush().await.map_err(|error| fault(&error))?;

        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut strays = strays;
            let mut answering = JoinSet::new();
            loop {
                tokio::select! {
                    biased;
                    _ = stopped.changed() => break,
                    Some(_) = answering.join_next() => {}
                    Some(request) = requests.next() => {
                        let client = client.clone();
                        answering.spawn(async move {
                            let message = &request.message;
                            let outcome = answer(&client, message).await;
                            let (body, headers) = encode(&outcome);
                            // A caller that has gone does not matter: the commit stands.
                            let _ = request.respond_with_headers(Ok(body), headers).await;
                        });
                    }
                    Some(stray) = strays.next() => {
                        let Err(problem) = parse(&client, &stray) else { continue };
                        let Some(reply) = stray.reply else { continue };
                        let (body, headers) = encode(&Err(problem));
                        let _ = nats.publish_with_headers(reply, headers, body).await;
                    }
                    else => break,
                }
            }
            if let Err(error) = service.stop().await {
                tracing::warn!(%error, "command service not stopped cleanly");
            }
            while answering.join_next().await.is_some() {}
            let _ = nats.flush().await;
        });
        Ok(Self { stop, task })
    }

    /// Takes no more commands, answers those under way, and returns.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

async fn answer(client: &CommandClient, message: &Message) -> Result<Outcome, Problem> {
    let request = parse(client, message)?;
    client.execute(request).await
}

/// Reads a command from a message on `cmd.>`.
fn parse(client: &CommandClient, message: &Message) -> Result<CommandRequest, Problem> {
    let tokens: Vec<&str> = message.subject.split('.').collect();
    let [_, aggregate, id, command] = tokens[..] else {
        return Err(Problem::malformed(
            "id".to_owned(),
            "a command's subject is cmd.<aggregate>.<id>.<command>, and an id is 1 to 64 of A-Z a-z 0-9 _ -",
        ));
    };
    client.check_name(aggregate, command)?;
    let id = Id::new(id).map_err(|error| Problem::malformed("id".to_owned(), error.to_string()))?;
    if message.payload.len() > MAX_BODY {
        return Err(Problem::too_large(MAX_BODY));
    }
    let header = |name: &str| {
        let value = message.headers.as_ref()?.get(name)?;
        Some(value.as_str())
    };
    // On NATS a body need not say what it is, but when it does it is taken at its word.
    if header("Content-Type").is_some_and(|value| !is_json(value)) {
        return Err(Problem::unsupported_media_type());
    }
    let headers = CommandHeaders::read(header)?;
    Ok(CommandRequest {
        aggregate: aggregate.to_owned(),
        id,
        command: command.to_owned(),
        body: message.payload.clone(),
        headers,
    })
}

/// The reply's body and headers.
fn encode(outcome: &Result<Outcome, Problem>) -> (Bytes, HeaderMap) {
    let mut headers = HeaderMap::new();
    match outcome {
        Ok(outcome) => {
            headers.insert("Content-Type", "application/json");
            headers.insert("ETag", format!("\"{}\"", outcome.version));
            headers.insert("Headwater-Position", outcome.position_token());
            let body = serde_json::to_vec(outcome).expect("an outcome is plain data");
            (body.into(), headers)
        }
        Err(problem) => {
            problem_headers(problem, &mut headers);
            (problem.to_json().into(), headers)
        }
    }
}

/// The headers that a problem has on NATS (ADR-32), beside its body.
pub fn problem_headers(problem: &Problem, headers: &mut HeaderMap) {
    headers.insert("Content-Type", "application/problem+json");
    headers.insert("Nats-Service-Error-Code", problem.status.to_string());
    headers.insert(
        "Nats-Service-Error",
        problem.to_string().replace(['\r', '\n'], " "),
    );
    if let Some(seconds) = problem.retry_after {
        headers.insert("Retry-After", seconds.to_string());
    }
}
