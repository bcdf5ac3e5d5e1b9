//! Giving commands: the one way in, for the NATS endpoint, the HTTP gateway and embedding programs.

use super::{
    admission::Admission,
    age::Arrival,
    answer::{Reply, Respond},
    describe::AggregateDescription,
    local::Local,
    many::unknown_aggregate,
    measure::CommandMeasures,
    pass_on::Passing,
    placement::Placement,
    registry::{Kind, KindOf},
    request::{CommandHeaders, CommandRequest, MAX_BODY, MAX_INTERNAL_BODY, Outcome},
    threads::{CommandThread, CommandThreads},
    traces::{self, Came},
    waits::ProcessWaits,
};
use crate::{
    aggregate::Aggregate,
    event_log::subject::{self, Id},
    membership::Home,
    problem::Problem,
};
use bytes::Bytes;
use serde::Serialize;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// The aggregates that a program has, in the order in which they were added.
#[derive(Clone, Default)]
pub struct Aggregates {
    kinds: Vec<Arc<dyn Kind>>,
    descriptions: Vec<AggregateDescription>,
    /// Those that take commands from within the program only, described as the others.
    internal: (Vec<Arc<dyn Kind>>, Vec<AggregateDescription>),
}

impl Aggregates {
    /// Adds aggregate `A`.
    ///
    /// # Panics
    ///
    /// Panics when its name is not `[a-z][a-z0-9_]*` or taken: a defect of the program.
    #[must_use]
    pub fn with<A: Aggregate>(mut self) -> Self {
        self.check::<A>();
        self.kinds.push(Arc::new(KindOf::<A>::default()));
        self.descriptions.push(AggregateDescription::of::<A>());
        self
    }

    /// Adds aggregate `A`, which nobody outside of the program can give commands to.
    ///
    /// # Panics
    ///
    /// As [`Aggregates::with`].
    #[must_use]
    pub fn with_internal<A: Aggregate>(mut self) -> Self {
        self.check::<A>();
        let (kinds, descriptions) = &mut self.internal;
        kinds.push(Arc::new(KindOf::<A>::default()));
        descriptions.push(AggregateDescription::of::<A>());
        self
    }

    fn check<A: Aggregate>(&self) {
        assert!(subject::is_name(A::NAME), "{} is not a name", A::NAME);
        let others = self.descriptions.iter().chain(&self.internal.1);
        let taken = others.map(|other| other.name).any(|name| name == A::NAME);
        assert!(!taken, "there are two aggregates {}", A::NAME);
    }

    /// Returns what there is, and after it those of within.
    pub fn all_descriptions(&self) -> impl Iterator<Item = &AggregateDescription> {
        self.descriptions.iter().chain(&self.internal.1)
    }

    /// Returns what there is, without those of within.
    #[must_use]
    pub fn descriptions(&self) -> &[AggregateDescription] {
        &self.descriptions
    }
}

/// The sizes of the command side of one replica.
#[derive(Debug, Clone, Copy)]
pub struct CommandOptions {
    /// Threads that run aggregate actors.
    pub threads: usize,
    /// The most commands under way or waiting on this replica; the next is answered `overloaded`.
    pub max_commands: u32,
    /// The most live actors of this replica; past it the least recently used idle ones go first.
    pub max_actors: usize,
    /// An actor that was not used for so long is passivated.
    pub idle: Duration,
}

impl Default for CommandOptions {
    /// One thread for each two cores up to four, since what a thread decides keeps as much of a core
    /// busy in NATS; 16,384 commands, which at 64 KiB each is a bounded 1 GiB;
    /// 100,000 actors, some 400 MB at the usual size of a state; a minute, long enough that a
    /// shopper's next click finds the actor warm.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            threads: (cores / 2).clamp(1, 4),
            max_commands: 16_384,
            max_actors: 100_000,
            idle: Duration::from_secs(60),
        }
    }
}

/// A handle to the command side. Cheap to clone.
#[derive(Clone)]
pub struct CommandClient(Arc<Inner>);

struct Inner {
    descriptions: Vec<AggregateDescription>,
    /// Aggregate name to its commands.
    names: HashMap<&'static str, Vec<Arc<Endpoint>>>,
    admission: Admission,
    /// The actors of this process, when it has the command role.
    local: Option<Local>,
    /// The way to other replicas, when there may be any.
    placement: Option<Placement>,
    /// The commands that wait for processes.
    waits: ProcessWaits,
}

/// One command of one aggregate.
pub(super) struct Endpoint {
    /// The aggregate's name.
    pub aggregate: &'static str,
    /// Its name.
    pub command: Arc<str>,
    /// Its number among all commands, in the order in which they are described.
    pub number: usize,
    /// The number of its aggregate.
    pub kind: usize,
    /// The end of it.
    pub measures: CommandMeasures,
    /// True if it is for the program itself only.
    pub internal: bool,
}

impl Endpoint {
    /// The longest body, in bytes.
    pub(super) fn max_body(&self) -> usize {
        match self.internal {
            true => MAX_INTERNAL_BODY,
            false => MAX_BODY,
        }
    }
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
        let kinds = aggregates.kinds.iter().chain(&aggregates.internal.0);
        let kinds = kinds.cloned().collect();
        let local = Local::start(kinds, threads, options, placement.as_ref());
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
        let mut numbers = 0..;
        let mut named = |(kind, description): (usize, &AggregateDescription)| {
            let commands = description.commands.iter().zip(&mut numbers);
            let measured = CommandMeasures::of(description).into_iter();
            let endpoints = measured.zip(commands).map(|(measures, (command, number))| {
                Arc::new(Endpoint {
                    aggregate: description.name,
                    command: command.name.as_str().into(),
                    number,
                    kind,
                    measures,
                    internal: kind >= aggregates.descriptions.len(),
                })
            });
            (description.name, endpoints.collect())
        };
        let described = aggregates.descriptions.iter();
        let described = described.chain(&aggregates.internal.1).enumerate();
        Self(Arc::new(Inner {
            names: described.map(&mut named).collect(),
            descriptions: aggregates.descriptions.clone(),
            admission: Admission::new(options.max_commands),
            local,
            waits: ProcessWaits::new(
                aggregates.internal.1.iter().map(|it| it.name).collect(),
                placement.as_ref(),
            ),
            placement,
        }))
    }

    /// The aggregates and their commands.
    #[must_use]
    pub fn aggregates(&self) -> &[AggregateDescription] {
        &self.0.descriptions
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
    pub(super) fn endpoint(
        &self,
        aggregate: &str,
        command: &str,
    ) -> Result<&Arc<Endpoint>, Problem> {
        let commands = self.0.names.get(aggregate);
        let commands = commands.ok_or_else(|| unknown_aggregate(aggregate))?;
        let found = commands.iter().find(|one| &*one.command == command);
        found.ok_or_else(|| {
            Problem::not_found(
                "unknown_command",
                format!("there is no command named {command:?}"),
            )
        })
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
        let endpoint = self.endpoint(&request.aggregate, &request.command)?.clone();
        let (sender, answer) = oneshot::channel();
        let respond: Respond = Box::new(move |answered| {
            let _ = sender.send(answered);
        });
        let arrival = Arrival::within();
        if let Some(passing_on) = self.give(endpoint, request, came, arrival, respond) {
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
        endpoint: Arc<Endpoint>,
        request: CommandRequest,
        came: Came,
        arrival: Arrival,
        respond: Respond,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let kind = endpoint.kind;
        let reply = self.admit(endpoint, &request, arrival, respond)?;
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
        endpoint: Arc<Endpoint>,
        request: &CommandRequest,
        arrival: Arrival,
        respond: Respond,
    ) -> Option<Reply> {
        if request.body.len() > endpoint.max_body() {
            respond(Err(Problem::too_large(endpoint.max_body())));
            return None;
        }
        let expired = arrival.is_expired().then(Problem::expired);
        match expired.map_or_else(|| self.0.admission.enter(), Err) {
            Ok(place) => Some(Reply::new(respond, endpoint, arrival, place)),
            Err(problem) => {
                let refused = Err(problem.clone());
                let took = arrival.read().elapsed();
                endpoint.measures.answered(&refused, took);
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
