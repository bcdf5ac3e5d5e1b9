//! The actors of this process: their threads, and a registry on each.

use super::{
    actor::Execute,
    answer::Reply,
    options::CommandOptions,
    placement::Placement,
    registry::{Dispatch, Kind, Registry, RegistryHandle, RegistryOptions},
    request::CommandRequest,
    threads::{CommandThread, CommandThreads},
};
use actix::{Actor, Addr};
use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

/// The most actors that save what they hold at once: few enough to leave the connection to appends.
const SAVING: usize = 64;
/// The time a replica that stops waits for actors to be saved.
const PATIENCE: Duration = Duration::from_secs(5);

/// The actors of this process.
pub struct Local {
    registries: Vec<RegistryHandle>,
    threads: Vec<CommandThread>,
    hasher: RandomState,
    _watching: Option<Addr<Watcher>>,
}

impl Local {
    /// Starts an empty registry on each thread.
    pub fn start(
        kinds: Arc<[Arc<dyn Kind>]>,
        CommandThreads(threads): CommandThreads,
        options: CommandOptions,
        placement: Option<&Placement>,
    ) -> Self {
        let sized = RegistryOptions {
            idle: options.idle,
            max_actors: options.max_actors.div_ceil(threads.len()).max(1),
            saving: SAVING.div_ceil(threads.len()),
        };
        let registries: Vec<RegistryHandle> = threads
            .iter()
            .map(|CommandThread { arbiter, log }| {
                let (kinds, log, placement) = (kinds.clone(), log.clone(), placement.cloned());
                Registry::start(&arbiter.handle(), log, kinds, sized, placement)
            })
            .collect();
        let watching = placement.map(|placement| {
            let (registries, placement) = (registries.clone(), placement.clone());
            Watcher::start_in_arbiter(&threads[0].arbiter.handle(), move |_| Watcher {
                registries,
                placement,
            })
        });
        Self {
            registries,
            threads,
            hasher: RandomState::new(),
            _watching: watching,
        }
    }

    /// Gives a command to its aggregate's actor.
    pub fn execute(&self, kind: usize, request: CommandRequest, reply: Reply) {
        let shard = match self.registries.len() {
            1 => 0,
            several => (self.hasher.hash_one((kind, &request.id)) % several as u64) as usize,
        };
        self.registries[shard].dispatch(Dispatch {
            aggregate: (kind, request.id),
            execute: Execute {
                command: request.command,
                body: request.body,
                headers: request.headers,
                reply,
            },
        });
    }

    /// The threads.
    pub fn threads(&self) -> &[CommandThread] {
        &self.threads
    }

    /// Waits a while for the actors to be saved that others are the homes of now.
    pub async fn save(&self) {
        let until = Instant::now() + PATIENCE;
        for registry in &self.registries {
            while Instant::now() < until && registry.parting().await > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Ends the threads. Nothing may be under way.
    pub fn stop(&self) {
        for thread in &self.threads {
            thread.arbiter.stop();
        }
    }
}

/// Has the registries let go of what is no longer at home here whenever the members change: the
/// states they hold of it go stale.
struct Watcher {
    registries: Vec<RegistryHandle>,
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
            registry.sweep();
        }
    }
}
