//! Runs processes: gives their instances what happens, and carries out what their steps say.
//!
//! A process instance is stored as an aggregate is ([`crate::process::Instance`]), so it is the command side
//! that decides its steps, wherever its home is. Here is what surrounds it, on the replicas with the role
//! `process`:
//!
//! - [`follower`] reads the events of the aggregates that a process follows, on one replica at a time, and
//!   gives each to its instance, in the order of the log. That two replicas do it for a moment does no harm:
//!   each gives an instance its events in order, and an instance passes over what it has had. What cannot be
//!   placed is held for itself ([`waitlist`]).
//! - [`outbox`] reads the steps of all instances, shared by all replicas, and sends their commands and arms
//!   their alarms. A step is acknowledged when all of its commands have answers that the instance has stored.
//!   So the log is the outbox, and the durable consumer its cursor.
//! - [`alarms`] gives an instance what has fired, and arms all alarms again where they were lost.
//! - [`service`] answers what is asked: [`control`] does what operators ask for, [`index`] lists the instances
//!   as they are [`told`] of, [`shown`] shows one, and [`rest`] tells when one has come to rest. [`queries`] is
//!   how others ask.
//!
//! Whatever is done here is done at least once, and takes effect once: an input that comes again changes
//! nothing, and a command has an id that says which step sent it.

mod alarms;
mod control;
mod desk;
mod failpoint;
mod follower;
mod home;
mod index;
mod lanes;
mod outbox;
mod queries;
mod registered;
mod rehearsal;
mod rest;
mod service;
mod shown;
mod told;
mod verify;
mod waitlist;

pub use control::{Operators, ProcessAsk};
pub use home::home_of;
pub use index::{Index, ListAsk, ListPage};
pub use queries::{ProcessQueries, VERBS};
pub use registered::RegisteredProcess;
pub use rehearsal::rehearse;
pub use shown::{ShowAsk, show};
pub use told::{ToldCommand, ToldInstance, ToldInstances, ToldStatus};
pub use verify::{Finding, Verified, VerifyError, verify};

use crate::{command::client::CommandClient, event_log::EventLog, membership::Membership};
use desk::Desk;
use std::{sync::Arc, time::Duration};
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// The settings of processes.
#[derive(Debug, Clone, Copy)]
pub struct ProcessOptions {
    /// After how long without a sign of life a step, or an alarm, is taken over from another replica; 10 s:
    /// longer than a home that hangs is waited for.
    pub take_over: Duration,
}

impl Default for ProcessOptions {
    fn default() -> Self {
        Self {
            take_over: failpoint::take_over(Duration::from_secs(10)),
        }
    }
}

/// The running processes of one replica.
pub struct Processes {
    stopping: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Processes {
    /// Starts these on `runtime`.
    #[must_use]
    pub fn start(
        processes: &[RegisteredProcess],
        log: &EventLog,
        commands: &CommandClient,
        membership: &Membership,
        operators: &Operators,
        options: ProcessOptions,
        runtime: &Handle,
    ) -> Self {
        let stopping = CancellationToken::new();
        let mut tasks = Vec::with_capacity(4 * processes.len());
        for process in processes {
            let desk = Arc::new(Desk {
                process: process.clone(),
                log: log.clone(),
                commands: commands.clone(),
                membership: membership.clone(),
                options,
            });
            let stopping = || stopping.child_token();
            tasks.push(runtime.spawn(follower::run(desk.clone(), stopping())));
            tasks.push(runtime.spawn(outbox::run(desk.clone(), stopping())));
            tasks.push(runtime.spawn(alarms::run(desk.clone(), stopping())));
            tasks.push(runtime.spawn(service::run(desk, operators.clone(), stopping())));
        }
        Self { stopping, tasks }
    }

    /// Takes nothing more and stops. What is under way comes again elsewhere.
    pub async fn stop(self) {
        self.stopping.cancel();
        futures::future::join_all(self.tasks).await;
    }
}
