//! Giving commands: the one way in, for the NATS endpoint, the HTTP gateway and embedding programs.

mod pass_on;

pub use super::{aggregates::Aggregates, options::CommandOptions};
pub(super) use pass_on::Passing;

use super::{
    admission::Admission,
    age::Arrival,
    answer::{Reply, Respond},
    describe::AggregateDescription,
    local::Local,
    placement::Placement,
    request::{CommandHeaders, CommandRequest, Outcome},
    table::{CommandEntry, CommandTable},
    threads::{CommandThread, CommandThreads},
    traces::{self, Came},
    waits::ProcessWaits,
};
use crate::{aggregate::Aggregate, event_log::subject::Id, membership::Home, problem::Problem};
use bytes::Bytes;
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A handle to the command side. Cheap to clone.
#[derive(Clone)]
pub struct CommandClient(Arc<Inner>);

struct Inner {
    table: CommandTable,
    admission: Admission,
    /// The actors of this process, when it has the command role.
    local: Option<Local>,
    /// The way to other replicas, when there may be any.
    placement: Option<Placement>,
    /// The commands that wait for processes.
    waits: ProcessWaits,
}

impl CommandClient {
    /// Starts the command side in this process, on these threads. Without a placement every
    /// aggregate's home is here.
    #[must_use]
    pub fn start(
        aggregates: &Aggregates,
        threads: CommandThreads,
        options: CommandOptions,
        placement: Option<Placement>,
    ) -> Self {
        let local = Local::start(aggregates.kinds(), threads, options, placement.as_ref());
        Self::new(aggregates, options, Some(local), placement)
    }

    /// A handle in a process without the command role: commands go out by NATS.
    #[must_use]
    pub fn remote(aggregates: &Aggregates, options: CommandOptions, placement: Placement) -> Self {
        Self::new(aggregates, options, None, Some(placement))
    }

    fn new(
        aggregates: &Aggregates,
        options: CommandOptions,
        local: Option<Local>,
        placement: Option<Placement>,
    ) -> Self {
        let internal = aggregates.internal_descriptions();
        Self(Arc::new(Inner {
            table: CommandTable::of(aggregates.descriptions(), internal),
            admission: Admission::new(options.max_commands),
            local,
            waits: ProcessWaits::new(
                internal.iter().map(|it| it.name).collect(),
                placement.as_ref(),
            ),
            placement,
        }))
    }

    /// The aggregates and their commands.
    #[must_use]
    pub fn aggregates(&self) -> &[AggregateDescription] {
        self.0.table.descriptions()
    }

    /// The commands that wait for the process that they have started.
    #[must_use]
    pub fn waits(&self) -> &ProcessWaits {
        &self.0.waits
    }

    /// Finds a command by its aggregate's name and its own.
    ///
    /// # Errors
    ///
    /// Returns the problem `unknown_aggregate` or `unknown_command`.
    pub(super) fn entry(
        &self,
        aggregate: &str,
        command: &str,
    ) -> Result<&Arc<CommandEntry>, Problem> {
        self.0.table.find(aggregate, command)
    }

    /// Gives a command and waits for its outcome.
    ///
    /// The command goes on when the caller stops waiting.
    ///
    /// # Errors
    ///
    /// Returns a [`Problem`] with the code of what refused it. With `unavailable` it may have been
    /// accepted: give it again with the same idempotency key.
    pub async fn execute(&self, request: CommandRequest) -> Result<Outcome, Problem> {
        self.execute_as(request, Came::Within).await
    }

    /// As [`CommandClient::execute`], for a process: only the home decides the command, so that it is found
    /// in the log where the process asks for that.
    pub(crate) async fn execute_for_process(
        &self,
        request: CommandRequest,
    ) -> Result<Outcome, Problem> {
        self.execute_as(request, Came::OfProcess).await
    }

    async fn execute_as(&self, request: CommandRequest, came: Came) -> Result<Outcome, Problem> {
        let entry = self.entry(&request.aggregate, &request.command)?.clone();
        let (sender, answer) = oneshot::channel();
        let respond: Respond = Box::new(move |answered| {
            let _ = sender.send(answered);
        });
        let arrival = Arrival::within();
        if let Some(passing_on) = self.give(entry, request, came, arrival, respond) {
            passing_on.await;
        }
        let stopping = |_| Problem::unavailable("the replica is stopping");
        answer.await.map_err(stopping)??.outcome()
    }

    /// Has a command decided where its home is, or here when it was passed on to this replica.
    ///
    /// Returns what is to be awaited when it is passed on; a command that is decided here goes on by
    /// itself.
    pub(super) fn give(
        &self,
        entry: Arc<CommandEntry>,
        request: CommandRequest,
        came: Came,
        arrival: Arrival,
        respond: Respond,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let kind = entry.kind;
        let reply = self.admit(entry, &request, arrival, respond)?;
        let Some((placement, home)) = self.elsewhere(&request, came) else {
            self.decide(kind, request, reply, came);
            return None;
        };
        let passing = Passing {
            kind,
            request,
            reply,
            came,
        };
        Some(self.clone().pass_on(placement, home, vec![passing]))
    }

    /// Lets a command in, or answers why not.
    pub(super) fn admit(
        &self,
        entry: Arc<CommandEntry>,
        request: &CommandRequest,
        arrival: Arrival,
        respond: Respond,
    ) -> Option<Reply> {
        if request.body.len() > entry.max_body() {
            respond(Err(Problem::too_large(entry.max_body())));
            return None;
        }
        let expired = arrival.is_expired().then(Problem::expired);
        match expired.map_or_else(|| self.0.admission.enter(), Err) {
            Ok(place) => Some(Reply::new(respond, entry, arrival, place)),
            Err(problem) => {
                let refused = Err(problem.clone());
                let took = arrival.read().elapsed();
                entry.measures.answered(&refused, took);
                respond(Err(problem));
                None
            }
        }
    }

    /// Returns where a command is decided; `None` for here.
    pub(super) fn elsewhere(
        &self,
        request: &CommandRequest,
        came: Came,
    ) -> Option<(Placement, Home)> {
        let placement = self.0.placement.as_ref();
        let placement = placement.filter(|_| came != Came::PassedOn)?;
        let home = placement.home(&request.aggregate, &request.id);
        let elsewhere = self.0.local.is_none() || matches!(home, Home::At(_));
        elsewhere.then(|| (placement.clone(), home))
    }

    /// Has a command decided here.
    pub(super) fn decide(
        &self,
        kind: usize,
        mut request: CommandRequest,
        mut reply: Reply,
        came: Came,
    ) {
        let Some(local) = &self.0.local else {
            return reply.send(Err(Problem::unavailable("this replica serves no commands")));
        };
        let Some(turn) = self.0.admission.turn() else {
            return reply.send(Err(Problem::overloaded()));
        };
        reply.turn = Some(turn);
        reply.span = traces::command(&mut request, came);
        local.execute(kind, request, reply);
    }

    /// Returns whether commands are decided in this process.
    pub(super) fn decides(&self) -> bool {
        self.0.local.is_some()
    }

    /// Returns how many commands may be under way to one other replica.
    pub(super) fn share(&self) -> u32 {
        self.0.admission.share()
    }

    /// Returns a position of the log that this replica knows of. What is asked later is appended after it.
    pub(super) fn known_position(&self) -> u64 {
        let first = self.threads().first();
        first.map_or(0, |thread| thread.log.known_position())
    }

    /// The threads of this process; none without the command role.
    pub(super) fn threads(&self) -> &[CommandThread] {
        self.0.local.as_ref().map_or(&[], Local::threads)
    }

    /// The connections by which the command side of this process takes commands and appends.
    pub fn connections(&self) -> impl Iterator<Item = &async_nats::Client> {
        self.threads().iter().map(|thread| thread.log.client())
    }

    /// Gives a typed command and waits for its outcome.
    ///
    /// # Errors
    ///
    /// As [`CommandClient::execute`]; `malformed` with the field `id` when the id is of another form.
    pub async fn send<A: Aggregate>(
        &self,
        id: &str,
        command: &A::Command,
        headers: CommandHeaders,
    ) -> Result<Outcome, Problem> {
        let id =
            Id::new(id).map_err(|error| Problem::malformed("id".to_owned(), error.to_string()))?;
        let (command, body) = untag(command)?;
        self.execute(CommandRequest {
            aggregate: A::NAME.into(),
            id,
            command: command.into(),
            body,
            headers,
        })
        .await
    }

    /// Waits until no command is under way in this process, then stops its threads. New commands
    /// are answered `unavailable` meanwhile.
    pub async fn stop(&self) {
        self.0.admission.close().await;
        if let Some(local) = &self.0.local {
            local.save().await;
            local.stop();
        }
    }
}

/// Takes an externally tagged command apart into its name and its body.
pub(crate) fn untag(command: &impl Serialize) -> Result<(String, Bytes), Problem> {
    let defect = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "command does not serialise as an externally tagged enum");
        Problem::internal()
    };
    let tagged = serde_json::to_value(command).map_err(|error| defect(&error))?;
    let fields = match tagged {
        serde_json::Value::Object(fields) => fields.into_iter().next(),
        _ => None,
    };
    let (name, body) = fields.ok_or_else(|| defect(&"it is not an object"))?;
    Ok((name, body.to_string().into()))
}
