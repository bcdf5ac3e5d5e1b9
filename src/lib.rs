//! CQRS on NATS: actors that decide commands, views that people drink from.
//!
//! Headwater separates commands from queries and joins them with events alone. The modules below
//! stand in the order in which data flows:
//!
//! 1. **The pure vocabulary.** A service developer writes [`aggregate`]s, which decide commands and
//!    evolve by events, [`view`]s, which fold events into documents, and [`process`]es, which react to
//!    events with commands and deadlines. [`recorded`] is an event as both sides see it, [`caller`] who
//!    asks, [`text`] how text is compared, [`problem`] the one form of every refusal. The [`mart`] is a
//!    whole domain written so, and [`testkit`] tests one without any server.
//! 2. **The command side.** [`command`] takes a command from NATS or from within the process to the
//!    actor of its aggregate, which decides it and appends the events to the [`event_log`]. Which
//!    replica that actor lives on is told by the [`membership`]. [`replay`] folds a whole log to see whether
//!    this build can, [`log_file`] writes one to a file and makes one of it.
//!    The [`processes`] follow the log and give commands for what happens there.
//! 3. **The query side.** [`projection`] follows the log and keeps each view's documents in the
//!    [`read_model`], which answers queries.
//! 4. **The surfaces.** [`ops`] gathers what operators see and does what they ask for. [`http`] is the
//!    gateway before both sides; each side has an endpoint of its own on NATS. [`access`] tells who asks and
//!    what they may, [`permissions`] what each part may do at NATS. [`request_headers`] is how all of them
//!    read headers, [`request_reply`] what those on NATS have in common.
//! 5. **Running it.** [`platform`] is the composition root, [`dev`] runs everything on one machine,
//!    [`bench`] measures it, [`cli`] is the program, [`config`] and [`telemetry`] what it reads and
//!    writes.
//!
//! The dependency rule: the pure vocabulary with its test kit, and the mart, are crates of their own,
//! `headwater-core` and `headwater-mart`, which know nothing of the runtime; of the modules here only
//! `event_log` speaks JetStream, only `read_model` SurrealQL, only `http` HTTP.

pub use headwater_core::{
    aggregate, caller, json, outcome, pages, problem, process, recorded, sample, testkit, text,
    view,
};
pub use headwater_mart as mart;

pub mod access;
pub mod permissions;
pub mod request_headers;
pub mod request_reply;

pub mod command;
pub mod event_log;
pub mod log_file;
pub mod membership;
pub mod replay;

pub mod processes;
pub mod projection;
pub mod read_model;

pub mod ops;

pub mod http;

pub mod config;
mod connection;
pub mod data_dir;
pub mod telemetry;

pub mod bench;
pub mod cli;
pub mod dev;
pub mod platform;

mod percent;
mod stable_hash;
mod unique_fields;

#[cfg(test)]
mod dependency_rule;
#[cfg(test)]
mod docs;

/// All that a service developer's own domain needs.
pub mod prelude {
    pub use crate::{
        aggregate::{Aggregate, Claim, Context, Decision, Rejection},
        caller::Caller,
        cli::Program,
        command::request::{CommandHeaders, Outcome},
        dev::{Dev, DevOptions},
        pages::{PageFile, Pages},
        platform::{Domain, Platform, PlatformOptions},
        problem::Problem,
        process::{Input, Process, ReactError, Reaction},
        read_model::Freshness,
        recorded::Recorded,
        sample::SampleCommand,
        view::{ApplyError, Change, Compare, Filter, Kind, Parts, Query, Route, Sort, View},
    };
    pub use utoipa::ToSchema;
}

/// Runs a program to its end on an actix system, which aggregates and projectors need.
pub fn run<F: Future>(program: F) -> F::Output {
    actix::System::new().block_on(program)
}
