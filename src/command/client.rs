//! Giving commands: the one way in, for the NATS endpoint, the HTTP gateway and embedding programs.

use super::{
    actor::{Execute, Reply},
    describe::AggregateDescription,
    registry::{Dispatch, Kind, KindOf, Registry, RegistryOptions},
    remote,
    request::{CommandHeaders, CommandRequest, MAX_BODY, Outcome},
};
use crate::{
    aggregate::Aggregate,
    event_log::{
        EventLog,
        subject::{self, Id},
    },
    problem::Problem,
};
use actix::{Actor, Addr, Arbiter};
use bytes::Bytes;
use serde::Serialize;
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};
use tokio::sync::{Semaphore, TryAcquireError, oneshot};

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
    /// When actors are passivated.
    pub registry: RegistryOptions,
}

impl Default for CommandOptions {
    /// One thread a core up to four; 16,384 commands, which at 64 KiB each is a bounded 1 GiB.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            threads: cores.clamp(1, 4),
            max_commands: 16_384,
            registry: RegistryOptions::default(),
        }
    }
}

/// A handle to the command side. Cheap to clone.
#[derive(Clone)]
pub struct CommandClient(Arc<Inner>);

struct Inner {
    descriptions: Vec<AggregateDescription>,
    /// Aggregate name to its kind's index and the names of its commands.
    names: HashMap<&'static str, (usize, Vec<String>)>,
    way: Way,
}

/// How a command gets to its aggregate.
enum Way {
    /// To an actor of this process.
    Local(Local),
    /// By NATS, to whichever replica has the command role.
    Remote(async_nats::Client),
}

struct Local {
    registries: Vec<Addr<Registry>>,
    arbiters: Vec<Arbiter>,
    hasher: RandomState,
    room: Arc<Semaphore>,
    max_commands: u32,
}

impl CommandClient {
    /// Starts the command side in this process: its threads and an empty registry on each.
    #[must_use]
    pub fn start(aggregates: &Aggregates, log: &EventLog, options: CommandOptions) -> Self {
        Self::new(
            aggregates,
            Way::Local(Local::start(aggregates, log, options)),
        )
    }

    /// A handle in a process without the command role: commands go out by NATS.
    #[must_use]
    pub fn remote(aggregates: &Aggregates, nats: async_nats::Client) -> Self {
        Self::new(aggregates, Way::Remote(nats))
    }

    fn new(aggregates: &Aggregates, way: Way) -> Self {
        let names = aggregates
            .descriptions
            .iter()
            .enumerate()
            .map(|(kind, description)| {
                let commands = description.commands.iter();
                let commands = commands.map(|command| command.name.clone()).collect();
                (description.name, (kind, commands))
            })
            .collect();
        Self(Arc::new(Inner {
            descriptions: aggregates.descriptions.clone(),
            names,
            way,
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
        self.kind_of(aggregate, command).map(|_| ())
    }

    fn kind_of(&self, aggregate: &str, command: &str) -> Result<usize, Problem> {
        let (kind, commands) = self.0.names.get(aggregate).ok_or_else(|| {
            Problem::not_found(
                "unknown_aggregate",
                format!("there is no aggregate named {aggregate:?}"),
            )
        })?;
        if commands.iter().any(|name| name == command) {
            Ok(*kind)
        } else {
            Err(Problem::not_found(
                "unknown_command",
                format!("there is no command named {command:?}"),
            ))
        }
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
        let kind = self.kind_of(&request.aggregate, &request.command)?;
        if request.body.len() > MAX_BODY {
            return Err(Problem::too_large(MAX_BODY));
        }
        match &self.0.way {
            Way::Local(local) => local.execute(kind, request).await,
            Way::Remote(nats) => remote::execute(nats, request).await,
        }
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
    /// are refused meanwhile.
    pub async fn stop(&self) {
        if let Way::Local(local) = &self.0.way {
            local.stop().await;
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

impl Local {
    fn start(aggregates: &Aggregates, log: &EventLog, options: CommandOptions) -> Self {
        let kinds: Arc<[Arc<dyn Kind>]> = aggregates.kinds.clone().into();
        let arbiters: Vec<Arbiter> = (0..options.threads.max(1))
            .map(|_| Arbiter::new())
            .collect();
        let registries = arbiters
            .iter()
            .map(|arbiter| {
                let kinds = kinds.clone();
                let log = log.clone();
                Registry::start_in_arbiter(&arbiter.handle(), move |_| {
                    Registry::new(log, kinds, options.registry)
                })
            })
            .collect();
        Self {
            registries,
            arbiters,
            hasher: RandomState::new(),
            room: Arc::new(Semaphore::new(options.max_commands as usize)),
            max_commands: options.max_commands,
        }
    }

    async fn execute(&self, kind: usize, request: CommandRequest) -> Result<Outcome, Problem> {
        // The command keeps its room until it is answered, even when its caller stops waiting.
        let room = self.room.clone().try_acquire_owned();
        let room = room.map_err(|error| match error {
            TryAcquireError::NoPermits => Problem::overloaded(),
            TryAcquireError::Closed => Problem::unavailable("the replica is stopping"),
        })?;
        let hash = self.hasher.hash_one((kind, &request.id));
        let shard = (hash % self.registries.len() as u64) as usize;
        let (reply, outcome) = oneshot::channel();
        self.registries[shard].do_send(Dispatch {
            kind,
            id: request.id,
            execute: Execute {
                command: request.command,
                body: request.body,
                headers: request.headers,
                reply: Reply::new(reply, room),
            },
        });
        outcome
            .await
            .unwrap_or_else(|_| Err(Problem::unavailable("the replica is stopping")))
    }

    async fn stop(&self) {
        if let Ok(room) = self.room.acquire_many(self.max_commands).await {
            room.forget();
        }
        self.room.close();
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
    }
}
