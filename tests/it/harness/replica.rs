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
        let mut replica = Self {
            folder: tempfile::tempdir().unwrap(),
            arguments: arguments.map(|argument| (*argument).to_owned()).collect(),
            service: None,
        };
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
