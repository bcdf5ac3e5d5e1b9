//! The parts of a story.

use crate::{
    ops::{ToldEvent, ToldRefusal, commits::trace_of},
    process::Deadline,
    processes::ToldStatus,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use std::sync::Arc;
use utoipa::ToSchema;

/// The step of a process that sent a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct StoryOrigin {
    /// The process.
    pub process: String,
    /// Its instance.
    pub id: String,
    /// The instance's version with the step.
    pub step: u64,
    /// Which of the step's commands it is.
    pub number: u32,
}

/// A command, with what it caused.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[schema(no_recursion)]
pub struct StoryCommand {
    /// Its id.
    pub command_id: String,
    /// The aggregate's name.
    pub aggregate: String,
    /// The aggregate's id.
    pub id: String,
    /// The command's name, where that is known: the log has only its events.
    pub command: Option<String>,
    /// `accepted`, `refused`, or `pending` where a process waits for its answer.
    pub outcome: String,
    /// The position of its commit.
    pub position: Option<u64>,
    /// The aggregate's version after it.
    pub version: Option<u64>,
    /// The time when it was decided.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub time: Option<Timestamp>,
    /// The caller, where that is known.
    pub caller_id: Option<String>,
    /// The id that all consequences of one original command share.
    pub correlation_id: Option<String>,
    /// The id of what caused it.
    pub causation_id: Option<String>,
    /// The trace that it belongs to.
    pub trace_id: Option<String>,
    /// The refusal: `code` and `detail`.
    #[schema(value_type = Option<Object>)]
    pub problem: Option<Value>,
    /// Its events.
    pub events: Vec<ToldEvent>,
    /// The views that read these.
    pub views: Vec<String>,
    /// The process instances that have reacted to them.
    pub processes: Vec<StoryInstance>,
}

/// A process instance that has reacted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StoryInstance {
    /// The process.
    pub process: String,
    /// The instance.
    pub id: String,
    /// The status that it has now.
    #[schema(value_type = String)]
    pub status: ToldStatus,
    /// The steps that followed from the command, those too that followed from answers and deadlines of these steps.
    #[schema(no_recursion)]
    pub steps: Vec<StoryStep>,
}

/// A step of a process instance.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StoryStep {
    /// Its number: the instance's version with it.
    pub step: u64,
    /// The position of its commit.
    pub position: u64,
    /// The time when it was decided.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// The input that it reacted to.
    #[schema(value_type = Object)]
    pub input: Value,
    /// The facts of the process.
    pub facts: Vec<StoryFact>,
    /// The commands that it sent.
    #[schema(no_recursion)]
    pub commands: Vec<StoryCommand>,
    /// The deadlines that it set.
    pub deadlines: Vec<StoryDeadline>,
    /// True if the instance has ended with it.
    pub ended: bool,
}

/// A fact of a process.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StoryFact {
    /// Its full storage name.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Its fields.
    #[schema(value_type = Object)]
    pub data: Arc<RawValue>,
}

/// A deadline.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StoryDeadline {
    /// Its name.
    pub name: String,
    /// The time when it comes.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

impl From<&Deadline> for StoryDeadline {
    fn from(deadline: &Deadline) -> Self {
        Self {
            name: deadline.name.clone(),
            at: deadline.at,
        }
    }
}

impl StoryCommand {
    /// A command of which a replica remembers that it was refused.
    pub(super) fn refused(told: ToldRefusal) -> Self {
        let refused = told.refusal;
        Self {
            command_id: refused.command_id.to_string(),
            aggregate: refused.aggregate,
            id: refused.id.to_string(),
            command: Some(refused.command.to_string()),
            outcome: "refused".to_owned(),
            time: Some(refused.time),
            caller_id: refused.caller_id.map(|caller| caller.to_string()),
            problem: Some(serde_json::json!({
                "status": refused.status, "code": refused.code, "detail": refused.detail,
            })),
            ..Self::default()
        }
    }

    /// Takes what the events of the command say of it.
    pub(super) fn take(
        &mut self,
        events: Vec<ToldEvent>,
        position: u64,
        traceparent: Option<&str>,
    ) {
        if let (Some(first), Some(last)) = (events.first(), events.last()) {
            self.version = Some(last.version);
            self.time = Some(first.time);
            self.caller_id.clone_from(&first.caller_id);
            self.correlation_id = Some(first.correlation_id.clone());
            self.causation_id = Some(first.causation_id.clone());
        }
        self.outcome = "accepted".to_owned();
        self.position = Some(position);
        self.trace_id = traceparent.and_then(trace_of);
        self.events = events;
    }
}
