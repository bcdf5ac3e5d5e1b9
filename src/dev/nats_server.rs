//! A nats-server as a supervised child of this process.
//!
//! The child ends however this process ends, SIGKILL included: a guardian (`sh`) holds the reading
//! end of a pipe whose writing end only this process has, and stops the server when it reads the
//! end. Stopping on purpose takes the same way, so there is only one. Guardian and server are a
//! process group of their own, which a terminal's Ctrl-C does not reach: whoever drains does so
//! with NATS still there.
//!
//! Two servers never run on one store: the server's log file is locked, the lock is inherited by
//! all that writes to it, and a start waits until it is free.

mod find;
mod process;

pub use find::{Found, find};
pub(crate) use process::wait_until_unused;

use crate::event_log::{
    topology::Durability,
    version::{OLDEST, ServerVersion},
};
use backon::{BackoffBuilder, ExponentialBuilder};
use process::{Launch, Running};
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};

const CONFIG_DEV: &str = include_str!("../../nats/server/dev.conf");
const CONFIG_DURABLE: &str = include_str!("../../nats/server/durable.conf");

/// A server that ended unasked is started again at once, then after this, then after twice this …
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The pauses before the server is started again, but for the first time.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(100))
    .with_max_delay(LONGEST_PAUSE)
    .without_max_times();
/// A server that lived this long was well: the next restart is at once again.
const WELL_AFTER: Duration = Duration::from_secs(30);
/// A restarted server may have to recover a large store first.
const RESTART_TIMEOUT: Duration = Duration::from_secs(600);

/// The settings of a server. Every field has a default but the folder.
#[derive(Debug, Clone)]
pub struct NatsServerOptions {
    /// The place where the store, the configuration and the log are. Created if need be.
    pub folder: PathBuf,
    /// The server's file; found by [`find`] when `None`, the default.
    pub binary: Option<PathBuf>,
    /// The port on 127.0.0.1; a free one when `None`, the default. A restart keeps it.
    pub port: Option<u16>,
    /// The users that may connect, and the one that asks whether it is ready; anybody when `None`, the default.
    pub users: Option<ServerUsers>,
    /// [`Durability::Dev`], the default, or [`Durability::SingleDurable`].
    pub durability: Durability,
    /// The time the first start may take, recovery of the store included; 60 s.
    pub start_timeout: Duration,
}

impl NatsServerOptions {
    /// The defaults, in this folder.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            binary: None,
            port: None,
            users: None,
            durability: Durability::Dev,
            start_timeout: Duration::from_secs(60),
        }
    }
}

/// The users of a server.
#[derive(Debug, Clone)]
pub struct ServerUsers {
    /// The configuration that says who they are, which the server's includes.
    pub config: PathBuf,
    /// The file with the seed of one that may ask JetStream how it is.
    pub seed: PathBuf,
}

/// The state of the child as it was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NatsServerState {
    /// The server's process id; `None` while it is being restarted and after it was stopped.
    pub pid: Option<u32>,
    /// The number of restarts.
    pub restarts: u32,
}

/// A running server. Dropping it stops the server too, without waiting for it.
#[derive(Debug)]
pub struct NatsServer {
    port: u16,
    version: ServerVersion,
    durability: Durability,
    log: PathBuf,
    state: watch::Receiver<NatsServerState>,
    stop: oneshot::Sender<()>,
    supervisor: JoinHandle<()>,
}

impl NatsServer {
    /// Finds a server, starts it, and waits until its JetStream answers. From then on it is
    /// restarted, on the same port, whenever it ends unasked.
    ///
    /// Needs a tokio runtime with I/O and time; an actix system is one.
    ///
    /// # Errors
    ///
    /// Returns [`NatsServerError`]; nothing is left running then.
    pub async fn start(options: NatsServerOptions) -> Result<Self, NatsServerError> {
        let found = find(options.binary.as_deref()).await?;
        let config = match options.durability {
            Durability::Dev => CONFIG_DEV,
            Durability::SingleDurable | Durability::Cluster => CONFIG_DURABLE,
        };
        let mut launch = Launch::prepare(
            found.path,
            &options.folder,
            config,
            options.port,
            options.users,
        )?;
        let running = launch.start(options.start_timeout).await?;
        launch.port = Some(running.port);
        tracing::info!(
            nats.pid = running.pid,
            nats.port = running.port,
            nats.version = %found.version,
            "nats-server started"
        );
        let (stop, stopped) = oneshot::channel();
        let (publish, state) = watch::channel(NatsServerState {
            pid: Some(running.pid),
            restarts: 0,
        });
        Ok(Self {
            port: running.port,
            version: found.version,
            durability: options.durability,
            log: launch.log(),
            state,
            stop,
            supervisor: tokio::spawn(supervise(launch, running, stopped, publish)),
        })
    }

    /// Returns where clients connect: `nats://127.0.0.1:<port>`.
    #[must_use]
    pub fn client_url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's version.
    #[must_use]
    pub fn version(&self) -> ServerVersion {
        self.version
    }

    /// Returns what the server promises of an acknowledged append.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Returns where the server logs to.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The server's process id and restarts, as they change.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<NatsServerState> {
        self.state.clone()
    }

    /// Stops the server, by SIGTERM and after a grace of ten seconds by SIGKILL, and waits until it
    /// has ended.
    pub async fn stop(self) {
        // The supervisor may have ended before, with a panic; there is nothing to stop then.
        let _ = self.stop.send(());
        if let Err(error) = self.supervisor.await {
            tracing::error!(%error, "the supervisor of nats-server failed");
        }
    }
}

async fn supervise(
    launch: Launch,
    first: Running,
    mut stopped: oneshot::Receiver<()>,
    state: watch::Sender<NatsServerState>,
) {
    let mut running = first;
    let (mut pause, mut pauses) = (Duration::ZERO, PAUSES.build());
    loop {
        let started = Instant::now();
        let status = tokio::select! {
            status = running.ended() => status,
            // Sent by `stop`, or dropped with the `NatsServer`.
            _ = &mut stopped => {
                running.stop().await;
                state.send_modify(|state| state.pid = None);
                tracing::info!("nats-server stopped");
                return;
            }
        };
        state.send_modify(|state| state.pid = None);
        tracing::warn!(nats.status = %status, nats.log = %launch.log().display(),
            "nats-server ended unasked; starting it again");
        // It may be the guardian that was killed, and the server that lives on.
        running.kill().await;
        if started.elapsed() > WELL_AFTER {
            (pause, pauses) = (Duration::ZERO, PAUSES.build());
        }
        running = loop {
            let attempt = async {
                sleep(pause).await;
                launch.start(RESTART_TIMEOUT).await
            };
            let result = tokio::select! {
                result = attempt => result,
                _ = &mut stopped => return,
            };
            pause = pauses.next().unwrap_or(LONGEST_PAUSE);
            match result {
                Ok(running) => break running,
                Err(error) => tracing::error!(%error, "nats-server cannot be started again"),
            }
        };
        state.send_modify(|state| {
            state.pid = Some(running.pid);
            state.restarts += 1;
        });
        tracing::info!(nats.pid = running.pid, "nats-server is back");
    }
}

/// The reason why no server is running. All are terminal: what is wrong needs a person.
#[derive(Debug, thiserror::Error)]
pub enum NatsServerError {
    /// No place has a server that will do.
    #[error(
        "no nats-server of version {OLDEST} or later on PATH or in .tools/{seen}: \
         run `make tools`, or name one with --nats-server"
    )]
    NotFound {
        /// Servers that were found and would not do, each with `; ` before it.
        seen: String,
    },
    /// The server that was named will not do.
    #[error(
        "{} {reason}: name a nats-server of version {OLDEST} or later; `make tools` installs one \
         at .tools/nats-server", path.display()
    )]
    Unsuitable {
        /// The file.
        path: PathBuf,
        /// The reason, to complete "the file …".
        reason: String,
    },
    /// The folder cannot be used, or the processes cannot be started.
    #[error("nats-server cannot be started in {}: {source}", folder.display())]
    Io {
        /// The server's folder.
        folder: PathBuf,
        /// The fault.
        source: io::Error,
    },
    /// It ended by itself, for example because the port is taken.
    #[error("nats-server did not start ({status}); its log, {}, ends with:\n{tail}", log.display())]
    Ended {
        /// The exit status.
        status: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of this start.
        tail: String,
    },
    /// It runs, but did not answer in time. It was stopped.
    #[error(
        "nats-server was not ready after {} s; its log, {}, ends with:\n{tail}",
        after.as_secs(), log.display()
    )]
    NotReady {
        /// The time that it was given.
        after: Duration,
        /// Its log file.
        log: PathBuf,
        /// The last lines of this start.
        tail: String,
    },
}
