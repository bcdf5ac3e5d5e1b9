//! Replicas that can be killed, paused and started again.

use super::{
    nats,
    service::{Service, headwater},
};
use std::path::PathBuf;
use tempfile::TempDir;

/// One replica on a folder of its own.
pub struct Replica {
    folder: TempDir,
    arguments: Vec<String>,
    service: Option<Service>,
}

impl Replica {
    /// Starts one with the command role, and waits until it answers commands.
    pub fn start(nats_url: &str, more: &[&str]) -> Self {
        Self::of(nats_url, &[&["--roles", "command"], more].concat())
    }

    /// Starts one with every role unless `more` says otherwise, and waits until it answers.
    pub fn of(nats_url: &str, more: &[&str]) -> Self {
        let mut replica = Self::prepared(nats_url, more);
        replica.start_again();
        replica
    }

    /// Starts a killed one again, on the same folder.
    pub fn start_again(&mut self) {
        let folder = self.folder.path().join("data");
        let mut command = headwater(&self.arguments);
        command.arg("--data-dir").arg(&folder);
        let temp = tempfile::tempdir().unwrap();
        self.service = Some(Service::start_until(command, folder, temp, " runs"));
    }

    /// One that is not started yet.
    pub fn prepared(nats_url: &str, more: &[&str]) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            arguments: arguments(nats_url, more),
            service: None,
        }
    }

    /// Begins to start it with these variables alone, and waits for nothing: it may end at any time.
    pub fn begin_again_with(&mut self, environment: &[(&str, &str)]) {
        self.service = None;
        let folder = self.folder.path().join("data");
        let mut command = headwater(&self.arguments);
        command.arg("--data-dir").arg(&folder);
        command.envs(environment.iter().copied());
        let temp = tempfile::tempdir().unwrap();
        self.service = Some(Service::spawn(command, folder, temp));
    }

    /// Waits until it answers.
    pub fn is_ready(&mut self) {
        self.service().tells(" runs");
    }

    /// Returns whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.service.as_mut().is_none_or(Service::has_ended)
    }

    /// Returns whether it is stopped, as by [`Replica::pause`].
    pub fn is_stopped(&mut self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.service().pid()));
        status.is_ok_and(|status| status.contains("State:\tT"))
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.service = None;
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn is_running(&self) -> bool {
        self.service.is_some()
    }

    /// The running process.
    pub fn service(&mut self) -> &mut Service {
        self.service.as_mut().expect("the replica runs")
    }

    /// Its lasting name, by which others know it.
    pub fn name(&self) -> String {
        let name = std::fs::read_to_string(self.folder.path().join("data/replica"));
        name.unwrap().trim().to_owned()
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn pause(&self) {
        if let Some(service) = &self.service {
            nats::signal(service.pid(), "STOP");
        }
    }

    /// SIGCONT.
    pub fn resume(&self) {
        if let Some(service) = &self.service {
            nats::signal(service.pid(), "CONT");
        }
    }
}

fn arguments(nats_url: &str, more: &[&str]) -> Vec<String> {
    let fixed = [
        "serve",
        "--http-addr",
        "127.0.0.1:0",
        "--nats",
        nats_url,
        // More than the default on a small machine: commands come in by one connection and are
        // decided on the thread of another.
        "--command-threads",
        "2",
    ];
    let arguments = fixed.iter().chain(more);
    arguments.map(|argument| (*argument).to_owned()).collect()
}
