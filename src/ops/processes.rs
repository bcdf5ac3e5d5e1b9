//! Processes, and what operators do to one instance of them.

use super::Operations;
use crate::{
    problem::Problem,
    processes::{self, ProcessQueries},
};
use serde::Serialize;
use utoipa::ToSchema;

/// The processes of the program.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ListedProcesses {
    /// Each of them.
    pub items: Vec<ListedProcess>,
}

/// A process.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ListedProcess {
    /// Its name.
    pub process: String,
    /// The replica that follows the log for it; null where none lives that would.
    pub home: Option<String>,
    /// The aggregates whose events it reacts to.
    pub aggregates: Vec<String>,
    /// The aggregates that it sends commands to.
    pub targets: Vec<String>,
}

impl Operations {
    /// The processes of the program.
    #[must_use]
    pub fn processes(&self) -> ListedProcesses {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let all = self.options().processes.iter();
        let items = all.map(|process| ListedProcess {
            process: process.name.to_owned(),
            home: processes::home_of(&self.options().membership, process.name),
            aggregates: owned(process.aggregates),
            targets: owned(process.targets),
        });
        ListedProcesses {
            items: items.collect(),
        }
    }

    /// Finds a process.
    ///
    /// # Errors
    ///
    /// Returns `unknown_process`.
    pub fn known_process(&self, name: &str) -> Result<&'static str, Problem> {
        let mut known = self.options().processes.iter().map(|process| process.name);
        known.find(|known| *known == name).ok_or_else(|| {
            let detail = format!("there is no process named {name:?}");
            Problem::not_found("unknown_process", detail)
        })
    }

    /// Asks about the instances of processes, and has them changed.
    #[must_use]
    pub fn instances(&self) -> &ProcessQueries {
        &self.options().instances
    }
}
