//! The actors of this process: their threads, and a registry on each.

use super::{
    actor::{Execute, Reply},
    client::CommandOptions,
    placement::Placement,
    registry::{Dispatch, Kind, Registry, RegistryOptions, Sweep},
    request::{CommandRequest, Outcome},
    room::Place,
};
use crate::{event_log::EventLog, problem::Problem};
use actix::{Actor, Addr, Arbiter};
use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Instant,
};
use tokio::sync::oneshot;

/// The actors of this process.
pub struct Local {
    registries: Vec<Addr<Registry>>,
    arbiters: Vec<Arbiter>,
    hasher: RandomState,
    watching: Option<actix::Addr<Watcher>>,
}

impl Local {
    /// Starts the threads, each with an empty registry.
    pub fn start(
        kinds: Arc<[Arc<dyn Kind>]>,
        log: &EventLog,
        options: CommandOptions,
        placement: Option<&Placement>,
    ) -> Self {
        let threads = options.threads.max(1);
        let arbiters: Vec<Arbiter> = (0..threads).map(|_| Arbiter::new()).collect();
        let sized = RegistryOptions {
            idle: options.idle,
            max_actors: options.max_actors.div_ceil(threads).max(1),
        };
        let registries: Vec<Addr<Registry>> = arbiters
            .iter()
            .map(|arbiter| {
                let (kinds, log, placement) = (kinds.clone(), log.clone(), placement.cloned());
                Registry::start_in_arbiter(&arbiter.handle(), move |_| {
                    Registry::new(log, kinds, sized, placement)
                })
            })
            .collect();
        let watching = placement.map(|placement| {
            let (registries, placement) = (registries.clone(), placement.clone());
            Watcher::start_in_arbiter(&arbiters[0].handle(), move |_| Watcher {
                registries,
                placement,
            })
        });
        Self {
            registries,
            arbiters,
            hasher: RandomState::new(),
            watching,
        }
    }

    /// Gives a command to its aggregate's actor and waits for the outcome. The command goes on when
    /// the caller stops waiting.
    pub async fn execute(
        &self,
        kind: usize,
        request: CommandRequest,
        place: Place,
        arrived: Instant,
    ) -> Result<Outcome, Problem> {
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
                arrived,
                reply: Reply::new(reply, place),
            },
        });
        outcome
            .await
            .unwrap_or_else(|_| Err(Problem::unavailable("the replica is stopping")))
    }

    /// Ends the threads. Nothing may be under way.
    pub fn stop(&self) {
        drop(self.watching.clone());
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
    }
}

/// Has the registries let go of what is no longer at home here whenever the members change: the
/// states they hold of it go stale.
struct Watcher {
    registries: Vec<Addr<Registry>>,
    placement: Placement,
}

impl Actor for Watcher {
    type Context = actix::Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        use actix::AsyncContext;
        let members = self.placement.membership().watch();
        context.add_stream(tokio_stream::wrappers::WatchStream::from_changes(members));
    }
}

impl actix::StreamHandler<Arc<crate::membership::Members>> for Watcher {
    fn handle(&mut self, _: Arc<crate::membership::Members>, _: &mut Self::Context) {
        for registry in &self.registries {
            registry.do_send(Sweep);
        }
    }
}
