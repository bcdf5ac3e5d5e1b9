//! The latest commands that this process has refused, for operators: a refusal leaves nothing in the log.

use crate::problem::Problem;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};
use utoipa::ToSchema;

/// The number of refusals that are remembered.
const MOST: usize = 200;
/// The longest detail that is remembered, in bytes.
const LONGEST: usize = 512;

/// A command that was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// The time.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// The command's id.
    #[schema(value_type = String)]
    pub command_id: Arc<str>,
    /// The aggregate's name.
    pub aggregate: String,
    /// Its id.
    #[schema(value_type = String)]
    pub id: Arc<str>,
    /// The command's name.
    #[schema(value_type = String)]
    pub command: Arc<str>,
    /// The HTTP status of the refusal.
    pub status: u16,
    /// Its code.
    pub code: String,
    /// The fault.
    pub detail: String,
    /// The caller of the command, where that is known.
    #[schema(value_type = Option<String>)]
    pub caller_id: Option<Arc<str>>,
}

static LATEST: Mutex<VecDeque<Refusal>> = Mutex::new(VecDeque::new());

/// Notes one. `command` is its id and its name.
pub(super) fn note(
    (aggregate, id): (&str, &Arc<str>),
    (command_id, command): (&Arc<str>, &Arc<str>),
    caller_id: Option<&Arc<str>>,
    problem: &Problem,
) {
    let end = problem.detail.floor_char_boundary(LONGEST);
    let refusal = Refusal {
        time: Timestamp::now(),
        command_id: command_id.clone(),
        aggregate: aggregate.to_owned(),
        id: id.clone(),
        command: command.clone(),
        status: problem.status,
        code: problem.code.clone(),
        detail: problem.detail[..end].to_owned(),
        caller_id: caller_id.cloned(),
    };
    let mut latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
    if latest.len() == MOST {
        latest.pop_front();
    }
    latest.push_back(refusal);
}

/// Returns the latest refusals, the last one first.
pub fn latest() -> Vec<Refusal> {
    let latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
    latest.iter().rev().cloned().collect()
}
