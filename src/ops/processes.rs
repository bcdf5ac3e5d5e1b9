//! Processes, and what operators do to one instance of them.

use super::Operations;
use crate::{
    event_log::subject::Id,
    problem::Problem,
    processes::{self, ListAsk, ProcessAsk, ShowAsk},
};
use bytes::Bytes;
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

    /// Reads a page of the instances of a process, as JSON.
    ///
    /// # Errors
    ///
    /// Returns the refusal, or `unavailable` where no replica that runs the process answers.
    pub async fn instances(
        &self,
        process: &str,
        ask: &ListAsk,
        authorization: Option<&str>,
    ) -> Result<Bytes, Problem> {
        let instances = &self.options().instances;
        instances.list(process, ask, authorization).await
    }

    /// Reads one instance with its steps, as JSON.
    ///
    /// # Errors
    ///
    /// As [`Operations::instances`]; `not_found` where there is no such instance.
    pub async fn instance(
        &self,
        process: &str,
        id: &Id,
        ask: &ShowAsk,
        authorization: Option<&str>,
    ) -> Result<Bytes, Problem> {
        let instances = &self.options().instances;
        instances.show(process, id, ask, authorization).await
    }

    /// Changes one instance, as [`processes::VERBS`] has it, and answers with the outcome as JSON.
    ///
    /// # Errors
    ///
    /// Returns the refusal, or `unavailable` where no replica that runs the process answers.
    pub async fn change_instance(
        &self,
        of: (&str, &Id),
        verb: &str,
        ask: &ProcessAsk,
        authorization: Option<&str>,
    ) -> Result<Bytes, Problem> {
        let instances = &self.options().instances;
        instances.act(of, verb, ask, authorization).await
    }
}
