//! The program's commands: each reads its configuration, does its work, and says how it ended.
//!
//! Exit codes: 0 for done, 1 for failed (or, of a check, "something differs"), 2 for a
//! configuration that cannot work.

mod bench;
mod control;
mod dev;
mod events;
mod parked;
mod progress;
mod serve;
mod signals;
mod topology;
mod views;

use crate::{
    config::{Cli, Command, NatsConfig, TraceConfig},
    platform::{self, StartError},
    telemetry::{self, trace},
};
use std::{fmt, process::ExitCode};

/// Runs the program.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let done = telemetry::init(&cli.log)
        .map_err(Failure::configuration)
        .and_then(|()| {
            crate::run(async {
                match cli.command {
                    Command::Dev(config) => dev::run(*config).await,
                    Command::Serve(config) => serve::run(*config).await,
                    Command::Views { action } => views::run(action).await,
                    Command::Parked { action } => parked::run(action).await,
                    Command::Events { action } => events::run(action).await,
                    Command::Topology { action } => topology::run(action).await,
                    Command::Bench { action } => bench::run(action).await,
                }
            })
        });
    match done {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("headwater: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// Begins to export the spans of this replica, where it is said where to.
fn export_traces(config: &TraceConfig, replica: &str) -> Result<Option<trace::Exporter>, Failure> {
    let options = config.options(replica, |name| std::env::var(name).ok());
    let Some(options) = options.map_err(Failure::configuration)? else {
        return Ok(None);
    };
    trace::install(&options)
        .map(Some)
        .map_err(Failure::operation)
}

/// Connects to NATS, as `name`.
async fn connect(nats: &NatsConfig, name: &str) -> Result<async_nats::Client, Failure> {
    let address = nats.address().map_err(Failure::configuration)?;
    let connected = platform::connect(&address, name).await;
    connected.map_err(Failure::connection)
}

/// Why a command did not do its work.
#[derive(Debug)]
struct Failure {
    code: u8,
    reason: String,
}

impl Failure {
    /// The configuration cannot work: nothing was begun.
    fn configuration(reason: impl fmt::Display) -> Self {
        Self {
            code: 2,
            reason: reason.to_string(),
        }
    }

    /// NATS cannot be connected to.
    fn connection(error: StartError) -> Self {
        match error {
            StartError::Servers(_) | StartError::Unauthorized { .. } => Self::configuration(error),
            _ => Self::operation(error),
        }
    }

    /// Something went wrong on the way.
    fn operation(reason: impl fmt::Display) -> Self {
        Self {
            code: 1,
            reason: reason.to_string(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}
