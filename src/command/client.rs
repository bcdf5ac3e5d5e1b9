//! Giving commands: the one way in, for the NATS endpoint, the HTTP gateway and embedding programs.

use super::{
    actor::Execute,
    describe::AggregateDescription,
    registry::{Dispatch, Kind, KindOf, Registry, RegistryOptions},
    request::{CommandRequest, MAX_BODY, Outcome},
};
use crate::{
    aggregate::Aggregate,
    event_log::{EventLog, subject},
    problem::Problem,
};
use actix::{Actor, Addr, Arbiter};
use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::Arc,
};
use tokio::sync::{Semaphore, oneshot};

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
    pub max_commands: usize,
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
    registries: Vec<Addr<Registry>>,
    arbiters: Vec<Arbiter>,
    hasher: RandomState,
    room: Semaphore,
    max_commands: usize,
}

impl CommandClient {
    /// Starts the command side: its threads and an empty registry on each.
    #[must_use]
    pub fn start(aggregates: &Aggregates, log: &EventLog, options: CommandOptions) -> Self {
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
            registries,
            arbiters,
            hasher: RandomState::new(),
            room: Semaphore::new(options.max_commands),
            max_commands: options.max_commands,
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
                format!("there is no aggregate {aggregate:?}"),
            )
        })?;
        if commands.iter().any(|name| name == command) {
            Ok(*kind)
        } else {
            Err(Problem::not_found(
                "unknown_command",
                format!("{aggregate} has no command {command:?}"),
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
        let inner = &self.0;
        let Ok(_room) = inner.room.try_acquire() else {
            return Err(Problem::overloaded());
        };
        let mut hasher = inner.hasher.build_hasher();
        (kind, &request.id).hash(&mut hasher);
        let shard = (hasher.finish() % inner.registries.len() as u64) as usize;
        let (reply, outcome) = oneshot::channel();
        inner.registries[shard].do_send(Dispatch {
            kind,
            id: request.id,
            execute: Execute {
                command: request.command,
                body: request.body,
                headers: request.headers,
                reply,
            },
        });
        outcome
            .await
            .unwrap_or_else(|_| Err(Problem::unavailable("the replica is stopping")))
    }

    /// Waits until no command is under way, then stops the threads. New commands are refused.
    pub async fn stop(&self) {
        let all = u32::try_from(self.0.max_commands).unwrap_or(u32::MAX);
        if let Ok(permits) = self.0.room.acquire_many(all).await {
            permits.forget();
        }
        for arbiter in &self.0.arbiters {
            arbiter.stop();
        }
    }
}
