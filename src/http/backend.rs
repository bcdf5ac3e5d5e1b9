//! The gateway's needs of the rest of the system, and no more.

use crate::{
    command::{
        client::CommandClient,
        describe::AggregateDescription,
        request::{CommandRequest, Outcome},
        waits::ProcessWaits,
    },
    event_log::subject::Id,
    ops::Operations,
    pages::Pages,
    problem::{Age, Problem},
    processes::{ListAsk, ProcessQueries, ShowAsk},
    read_model::{
        Answer, EventId, Freshness, ReadModel, ServedDocument, ServedPage, Subscription,
        ViewDescription,
    },
};
use bytes::Bytes;
use futures::future::{BoxFuture, Either, Ready, ready};
use serde::Serialize;
use std::{collections::BTreeMap, fmt, sync::Arc};

/// Takes commands to where they are decided.
pub trait Commands: Send + Sync {
    /// Returns what can be commanded.
    fn aggregates(&self) -> &[AggregateDescription];

    /// Executes one command. Its body has been bounded, not decoded.
    ///
    /// The caller may stop waiting at any time; the command is then decided or not, never half.
    fn execute(&self, request: CommandRequest) -> BoxFuture<'_, Result<Outcome, Problem>>;

    /// Executes many commands, each as if it had come alone, and answers in their order. Some may be refused already.
    fn execute_many(
        &self,
        requests: Vec<Result<CommandRequest, Problem>>,
    ) -> BoxFuture<'_, Vec<Result<Outcome, Problem>>>;

    /// Returns what has commands wait for the process that they have started.
    fn waits(&self) -> &ProcessWaits;
}

/// Tells of the instances of processes.
pub trait Processes: Send + Sync {
    /// Returns the processes that there are.
    fn names(&self) -> &[&'static str];

    /// Reads a page of the instances of a process, as JSON. `authorization` is the header of who asks.
    fn list<'a>(
        &'a self,
        process: &'a str,
        ask: &'a ListAsk,
        authorization: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Bytes, Problem>>;

    /// Reads one instance with its steps, as JSON.
    fn show<'a>(
        &'a self,
        process: &'a str,
        id: &'a Id,
        ask: &'a ShowAsk,
        authorization: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Bytes, Problem>>;
}

/// A document that is being read, or was there already.
pub type Reading<'a> = Either<
    Ready<Result<Answer<ServedDocument>, Problem>>,
    BoxFuture<'a, Result<Answer<ServedDocument>, Problem>>,
>;

/// Answers queries.
pub trait Views: Send + Sync {
    /// Returns what can be queried.
    fn views(&self) -> &[ViewDescription];

    /// Returns how fresh a view is now.
    fn age(&self, view: &str) -> Option<Age>;

    /// Reads one document.
    fn get<'a>(&'a self, view: &'a str, id: &'a Id, freshness: &'a Freshness) -> Reading<'a>;

    /// Reads a page of a list. The parameters have been decoded, not checked.
    fn list<'a>(
        &'a self,
        view: &'a str,
        parameters: &'a BTreeMap<String, String>,
        freshness: &'a Freshness,
    ) -> BoxFuture<'a, Result<Answer<ServedPage>, Problem>>;

    /// Follows one document. `last` is the id of the last event that the client has had.
    fn follow_document<'a>(
        &'a self,
        view: &'a str,
        id: &'a Id,
        last: Option<&'a EventId>,
        freshness: &'a Freshness,
    ) -> BoxFuture<'a, Result<Subscription, Problem>>;

    /// Follows a list. The filters have been decoded, not checked.
    fn follow_list<'a>(
        &'a self,
        view: &'a str,
        filters: &'a BTreeMap<String, String>,
        last: Option<&'a EventId>,
        freshness: &'a Freshness,
    ) -> BoxFuture<'a, Result<Subscription, Problem>>;
}

impl Commands for CommandClient {
    fn aggregates(&self) -> &[AggregateDescription] {
        self.aggregates()
    }

    fn execute(&self, request: CommandRequest) -> BoxFuture<'_, Result<Outcome, Problem>> {
        Box::pin(self.execute(request))
    }

    fn execute_many(
        &self,
        requests: Vec<Result<CommandRequest, Problem>>,
    ) -> BoxFuture<'_, Vec<Result<Outcome, Problem>>> {
        Box::pin(self.execute_read(requests))
    }

    fn waits(&self) -> &ProcessWaits {
        self.waits()
    }
}

impl Processes for ProcessQueries {
    fn names(&self) -> &[&'static str] {
        self.names()
    }

    fn list<'a>(
        &'a self,
        process: &'a str,
        ask: &'a ListAsk,
        authorization: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Bytes, Problem>> {
        Box::pin(self.list(process, ask, authorization))
    }

    fn show<'a>(
        &'a self,
        process: &'a str,
        id: &'a Id,
        ask: &'a ShowAsk,
        authorization: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Bytes, Problem>> {
        Box::pin(self.show(process, id, ask, authorization))
    }
}

impl Views for ReadModel {
    fn views(&self) -> &[ViewDescription] {
        self.views()
    }

    fn age(&self, view: &str) -> Option<Age> {
        self.age(view)
    }

    fn get<'a>(&'a self, view: &'a str, id: &'a Id, freshness: &'a Freshness) -> Reading<'a> {
        match self.remembered(view, id.as_str(), freshness) {
            Some(answer) => Either::Left(ready(answer)),
            None => Either::Right(Box::pin(self.document(view, id.as_str(), freshness))),
        }
    }

    fn list<'a>(
        &'a self,
        view: &'a str,
        parameters: &'a BTreeMap<String, String>,
        freshness: &'a Freshness,
    ) -> BoxFuture<'a, Result<Answer<ServedPage>, Problem>> {
        Box::pin(self.page(view, parameters, freshness))
    }

    fn follow_document<'a>(
        &'a self,
        view: &'a str,
        id: &'a Id,
        last: Option<&'a EventId>,
        freshness: &'a Freshness,
    ) -> BoxFuture<'a, Result<Subscription, Problem>> {
        Box::pin(self.follow_document(view, id.as_str(), last, freshness))
    }

    fn follow_list<'a>(
        &'a self,
        view: &'a str,
        filters: &'a BTreeMap<String, String>,
        last: Option<&'a EventId>,
        freshness: &'a Freshness,
    ) -> BoxFuture<'a, Result<Subscription, Problem>> {
        Box::pin(self.follow_list(view, filters, last, freshness))
    }
}

/// The checks that say whether the replica can do its work now, and why not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// True if every check holds.
    pub ready: bool,
    /// The checks that were made.
    pub checks: Vec<ReadinessCheck>,
}

impl Readiness {
    /// Ready when every one of these is.
    #[must_use]
    pub fn of(checks: Vec<ReadinessCheck>) -> Self {
        Self {
            ready: checks.iter().all(|check| check.ready),
            checks,
        }
    }
}

/// One condition of being ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadinessCheck {
    /// The subject of the check, for example `nats`.
    pub name: String,
    /// True if it holds.
    pub ready: bool,
    /// In a few words, for a person.
    pub detail: String,
}

impl ReadinessCheck {
    /// A check by its name, what was found, and what to say of it.
    pub fn new(name: impl Into<String>, ready: bool, detail: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ready,
            detail: detail.into(),
        }
    }
}

/// Tells whether the replica is ready, asked on each `GET /readyz`. It must not block.
pub type ReadinessProbe = Arc<dyn Fn() -> Readiness + Send + Sync>;

/// The back ends that the gateway stands in front of.
#[derive(Clone)]
pub struct Backends {
    /// The command side.
    pub commands: Arc<dyn Commands>,
    /// The query side.
    pub views: Arc<dyn Views>,
    /// The processes.
    pub processes: Arc<dyn Processes>,
    /// True if the replica is ready.
    pub readiness: ReadinessProbe,
    /// The domain's own pages for people.
    pub pages: Vec<Pages>,
    /// The operations, where operators are served.
    pub operations: Option<Operations>,
}

impl fmt::Debug for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backends").finish_non_exhaustive()
    }
}
