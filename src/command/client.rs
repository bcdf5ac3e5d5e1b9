//! Giving commands: the one way in, for the NATS endpoint, the HTTP gateway and embedding programs.

use super::{
    describe::AggregateDescription,
    local::Local,
    measure::{CommandMeasures, MEASURES},
    placement::{self, Placement, Unanswered},
    registry::{Kind, KindOf},
    request::{CommandHeaders, CommandRequest, MAX_BODY, Outcome},
    room::Room,
    traces::{self, Came},
};
use crate::{
    aggregate::Aggregate,
    event_log::{
        EventLog,
        subject::{self, Id},
    },
    membership::Home,
    problem::Problem,
};
use async_nats::Message;
use bytes::Bytes;
use serde::Serialize;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// The aggregates that a program has, in the order in which they were added.
#[derive(Clone, Default)]
pub struct Aggregates {
    kinds: Vec<Arc<dyn Kind>>,
    descriptions: Vec<AggregateDescription>,
}

impl Aggregates {
    /// Adds aggregate `A`.
    ///
    /// # Panics
    ///
    /// Panics when its name is not `[a-z][a-z0-9_]*` or taken: a defect of the program.
    #[must_use]
    pub fn with<A: Aggregate>(mut self) -> Self {
        assert!(subject::is_name(A::NAME), "{} is not a name", A::NAME);
        let taken = self.descriptions.iter().any(|other| other.name == A::NAME);
        assert!(!taken, "there are two aggregates {}", A::NAME);
        self.kinds.push(Arc::new(KindOf::<A>::default()));
        self.descriptions.push(AggregateDescription::of::<A>());
        self
    }

    /// What there is.
    #[must_use]
    pub fn descriptions(&self) -> &[AggregateDescription] {
        &self.descriptions
    }
}

/// How the command side of one replica is sized.
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
    /// One thread a core up to four; 16,384 commands, which at 64 KiB each is a bounded 1 GiB;
    /// 100,000 actors, some 400 MB at the usual size of a state; a minute, long enough that a
    /// shopper's next click finds the actor warm.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            threads: cores.clamp(1, 4),
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
    /// Aggregate name to what is known of it.
    names: HashMap<&'static str, Known>,
    room: Room,
    /// The actors of this process, when it has the command role.
    local: Option<Local>,
    /// How other replicas are reached, when there may be any.
    placement: Option<Placement>,
}

struct Known {
    kind: usize,
    commands: Vec<(String, CommandMeasures)>,
}

/// The answer to a command, from here or from another replica as it came.
pub(super) enum Answered {
    Here(Outcome),
    There(Message),
}

impl CommandClient {
    /// Starts the command side in this process: its threads and an empty registry on each. Without
    /// a placement every aggregate's home is here.
    #[must_use]
    pub fn start(
        aggregates: &Aggregates,
        log: &EventLog,
        options: CommandOptions,
        placement: Option<Placement>,
    ) -> Self {
        let kinds = aggregates.kinds.clone().into();
        let local = Local::start(kinds, log, options, placement.as_ref());
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
        let known = |(kind, description): (usize, &AggregateDescription)| {
            let names = description.commands.iter().map(|one| one.name.clone());
            let commands = names.zip(CommandMeasures::of(description)).collect();
            (description.name, Known { kind, commands })
        };
        Self(Arc::new(Inner {
            names: aggregates
                .descriptions
                .iter()
                .enumerate()
                .map(known)
                .collect(),
            descriptions: aggregates.descriptions.clone(),
            room: Room::new(options.max_commands),
            local,
            placement,
        }))
    }

    /// The aggregates and their commands.
    #[must_use]
    pub fn aggregates(&self) -> &[AggregateDescription] {
        &self.0.descriptions
    }

    /// Checks that there is such an aggregate and such a command of it.
    ///
    /// # Errors
    ///
    /// Returns the problem `unknown_aggregate` or `unknown_command`.
    pub fn check_name(&self, aggregate: &str, command: &str) -> Result<(), Problem> {
        self.known(aggregate, command).map(|_| ())
    }

    fn known(&self, aggregate: &str, command: &str) -> Result<(usize, &CommandMeasures), Problem> {
        let known = self.0.names.get(aggregate).ok_or_else(|| {
            Problem::not_found(
                "unknown_aggregate",
                format!("there is no aggregate named {aggregate:?}"),
            )
        })?;
        let found = known.commands.iter().find(|(name, _)| name == command);
        let (_, measures) = found.ok_or_else(|| {
            Problem::not_found(
                "unknown_command",
                format!("there is no command named {command:?}"),
            )
        })?;
        Ok((known.kind, measures))
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
        match self.answer(request, Came::Within).await? {
            Answered::Here(outcome) => Ok(outcome),
            Answered::There(answer) => placement::read(&answer),
        }
    }

    /// Has a command decided where its home is, or here when it was passed on to this replica.
    pub(super) async fn answer(
        &self,
        mut request: CommandRequest,
        came: Came,
    ) -> Result<Answered, Problem> {
        let arrived = Instant::now();
        let (kind, measures) = self.known(&request.aggregate, &request.command)?;
        if request.body.len() > MAX_BODY {
            return Err(Problem::too_large(MAX_BODY));
        }
        let place = match self.0.room.enter() {
            Ok(place) => place,
            Err(problem) => {
                let refused = Err(problem);
                measures.answered(&refused, arrived.elapsed().as_secs_f64());
                return refused.map(Answered::Here);
            }
        };
        if came != Came::PassedOn
            && let Some(placement) = &self.0.placement
        {
            let home = placement.home(&request.aggregate, &request.id);
            if let Some(answer) = self.elsewhere(placement, home, &mut request).await? {
                return Ok(Answered::There(answer));
            }
        }
        let Some(local) = &self.0.local else {
            return Err(Problem::unavailable("this replica serves no commands"));
        };
        let span = traces::command(&mut request, came);
        let outcome = local.execute(kind, request, place, arrived).await;
        measures.answered(&outcome, arrived.elapsed().as_secs_f64());
        traces::answered(span, &outcome);
        outcome.map(Answered::Here)
    }

    /// Has a command decided by another replica. `None` when it is to be decided here: its home is
    /// here, or has gone and nobody got the command.
    async fn elsewhere(
        &self,
        placement: &Placement,
        home: Home,
        request: &mut CommandRequest,
    ) -> Result<Option<Message>, Problem> {
        let here = self.0.local.is_some();
        if here && !matches!(home, Home::At(_)) {
            return Ok(None);
        }
        // With its id the command is the same wherever it is decided.
        if request.headers.idempotency_key.is_none() && request.headers.given_id.is_none() {
            request.headers.given_id = Some(uuid::Uuid::now_v7().to_string());
        }
        if let Home::At(replica) = home {
            match placement.ask_home(&replica, request).await {
                Ok(answer) => {
                    MEASURES.passed_on.increment(1);
                    return Ok(Some(answer));
                }
                Err(Unanswered::InDoubt) => return Err(Unanswered::InDoubt.into()),
                Err(Unanswered::Nobody) => MEASURES.homeless.increment(1),
            }
        }
        if here {
            return Ok(None);
        }
        Ok(Some(placement.ask_any(request).await?))
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
            aggregate: A::NAME.to_owned(),
            id,
            command,
            body,
            headers,
        })
        .await
    }

    /// Waits until no command is under way in this process, then stops its threads. New commands
    /// are answered `unavailable` meanwhile.
    pub async fn stop(&self) {
        self.0.room.close().await;
        if let Some(local) = &self.0.local {
            local.stop();
        }
    }
}

/// Takes an externally tagged command apart into its name and its body.
fn untag(command: &impl Serialize) -> Result<(String, Bytes), Problem> {
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
