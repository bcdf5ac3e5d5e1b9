//! Asks the replicas that run a process about its instances.

use super::{ListAsk, ProcessAsk, ShowAsk};
use crate::{access::AUTHORIZATION, event_log::subject::Id, problem::Problem};
use async_nats::{Client, HeaderMap, StatusCode};
use bytes::Bytes;
use serde::Serialize;
use std::time::Duration;

/// The changes of an instance that operators ask for.
pub const VERBS: [&str; 5] = ["retry", "resume", "skip", "suspend", "end"];

/// The time an answer is waited for.
const ANSWER: Duration = Duration::from_secs(10);

/// Asks about the instances of processes. Cheap to clone.
#[derive(Clone)]
pub struct ProcessQueries {
    nats: Client,
    names: Vec<&'static str>,
}

impl ProcessQueries {
    /// Asks about these processes over this connection.
    #[must_use]
    pub fn new(nats: Client, names: Vec<&'static str>) -> Self {
        Self { nats, names }
    }

    /// Returns the processes that there are.
    #[must_use]
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// Asks for a page of the instances of a process, as JSON. `authorization` is the header of who asks.
    ///
    /// # Errors
    ///
    /// Returns the refusal, or `unavailable` when no replica that runs the process answers.
    pub async fn list(
        &self,
        process: &str,
        ask: &ListAsk,
        authorization: Option<&str>,
    ) -> Result<Bytes, Problem> {
        let subject = format!("prc.{process}.list");
        self.ask(subject, ask, authorization).await
    }

    /// Asks for one instance with its steps, as JSON.
    ///
    /// # Errors
    ///
    /// As [`ProcessQueries::list`]; `not_found` when there is no such instance.
    pub async fn show(
        &self,
        process: &str,
        id: &Id,
        ask: &ShowAsk,
        authorization: Option<&str>,
    ) -> Result<Bytes, Problem> {
        let subject = format!("prc.{process}.show.{id}");
        self.ask(subject, ask, authorization).await
    }

    /// Has an instance changed by an operator: `verb` is one of [`VERBS`]. Answers with the outcome, as JSON.
    ///
    /// # Errors
    ///
    /// Returns the refusal, or `unavailable` when no replica that runs the process answers; it may be done then.
    pub async fn act(
        &self,
        (process, id): (&str, &Id),
        verb: &str,
        ask: &ProcessAsk,
        authorization: Option<&str>,
    ) -> Result<Bytes, Problem> {
        let subject = format!("ctl.process.{process}.{id}.{verb}");
        self.ask(subject, ask, authorization).await
    }

    async fn ask(
        &self,
        subject: String,
        ask: &(impl Serialize + Sync),
        authorization: Option<&str>,
    ) -> Result<Bytes, Problem> {
        let nobody = || Problem::unavailable("no replica that runs the process answers");
        let body = serde_json::to_vec(ask).map_err(|_| Problem::internal())?;
        let mut headers = HeaderMap::new();
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        let request = async_nats::Request::new()
            .payload(body.into())
            .headers(headers)
            .timeout(Some(ANSWER));
        let asking = self.nats.send_request(subject, request);
        // The channel of the connection has no bound of its own.
        let answer = tokio::time::timeout(ANSWER, asking).await;
        let answer = answer.map_err(|_| nobody())?.map_err(|_| nobody())?;
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(nobody());
        }
        let refused = answer.headers.as_ref();
        let refused = refused.is_some_and(|it| it.get("Nats-Service-Error-Code").is_some());
        match refused {
            true => Err(serde_json::from_slice(&answer.payload).unwrap_or_else(|_| nobody())),
            false => Ok(answer.payload),
        }
    }
}
