//! Inputs of a process instance, as its code sees them and as they are stored.

use crate::{aggregate::Aggregate, outcome::Outcome, problem::Problem, recorded::Recorded};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One input of a process.
#[derive(Debug, Clone)]
pub enum Input {
    /// An event that [`super::Process::correlate`] gave to the instance.
    Event(Recorded),
    /// A command that it sent was accepted. Without events in the outcome it changed nothing.
    Accepted(Sent, Outcome),
    /// A command that it sent was refused: what starts a compensation.
    Refused(Sent, Problem),
    /// A deadline that it set has come.
    Due(Deadline),
}

/// A command that a step has sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The step that sent it: the instance's version with that step.
    pub step: u64,
    /// Which of the step's commands it is, from 0.
    pub number: u32,
    /// The aggregate that it went to.
    pub aggregate: String,
    /// The aggregate's id.
    pub id: String,
    /// The command's name.
    pub command: String,
    /// The command's fields.
    pub body: Value,
    /// The version that the aggregate must have, where the process asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
}

impl Sent {
    /// Returns whether it went to aggregate `A`.
    #[must_use]
    pub fn is<A: Aggregate>(&self) -> bool {
        self.aggregate == A::NAME
    }

    /// Decodes the command as one of aggregate `A`; `None` when it is none.
    #[must_use]
    pub fn command<A: Aggregate>(&self) -> Option<A::Command> {
        if !self.is::<A>() {
            return None;
        }
        let tagged = Map::from_iter([(self.command.clone(), self.body.clone())]);
        serde_json::from_value(Value::Object(tagged)).ok()
    }

    /// The command's id, by which it takes effect once: the same however often it is sent.
    #[must_use]
    pub fn command_id(&self, process: &str, instance: &str) -> String {
        command_id(process, instance, self.step, self.number)
    }
}

/// The id of the command that a step of an instance sends under this number.
///
/// It is a storage format: by it a repeat is known for as long as the log lives.
#[must_use]
pub fn command_id(process: &str, instance: &str, step: u64, number: u32) -> String {
    format!("{process}/{instance}/{step}/{number}")
}

/// A deadline of a process instance. It is a fact; what wakes the instance is only an alarm clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// The name, unique within the instance: setting it again moves it.
    pub name: String,
    /// The time when it comes.
    pub at: Timestamp,
    /// The step that set it. An alarm of another step is out of date.
    pub armed: u64,
}

/// An input on its way to the instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrived {
    /// An event of an aggregate that the process follows.
    Event(Recorded),
    /// An event that could not be placed in its time: the instance may have had later ones of other aggregates.
    Late(Recorded),
    /// The answer to a command.
    Answered {
        /// The step that sent it.
        step: u64,
        /// Which of the step's commands it is.
        number: u32,
        /// The answer.
        answer: Answer,
    },
    /// An alarm.
    Due {
        /// The deadline's name.
        name: String,
        /// The step that armed it.
        armed: u64,
    },
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was accepted.
    Accepted(Outcome),
    /// It was refused.
    Refused(Problem),
}

impl Arrived {
    /// Returns what is stored of it with the step.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Event(event) | Self::Late(event) => Cause::Event {
                aggregate: event.aggregate.clone(),
                id: event.id.clone(),
                r#type: event.event_type.clone(),
                version: event.version,
                position: event.position,
                late: matches!(self, Self::Late(_)),
            },
            Self::Answered {
                step,
                number,
                answer: Answer::Accepted(outcome),
            } => Cause::Accepted {
                step: *step,
                number: *number,
                version: outcome.version,
                position: outcome.position,
            },
            Self::Answered {
                step,
                number,
                answer: Answer::Refused(problem),
            } => Cause::Refused {
                step: *step,
                number: *number,
                code: problem.code.clone(),
                detail: problem.detail.clone(),
            },
            Self::Due { name, armed } => Cause::Due {
                name: name.clone(),
                armed: *armed,
            },
        }
    }
}

/// The cause of a step, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// An event.
    Event {
        /// Its aggregate.
        aggregate: String,
        /// The aggregate's id.
        id: String,
        /// Its full storage name.
        r#type: String,
        /// The aggregate's version after it.
        version: u64,
        /// The position in the log.
        position: u64,
        /// True if it could not be placed in its time.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        late: bool,
    },
    /// A command of the instance was accepted.
    Accepted {
        /// The step that sent it.
        step: u64,
        /// Which of the step's commands it is.
        number: u32,
        /// The version of the command's aggregate after it.
        version: u64,
        /// The position of the last commit of the command's aggregate.
        position: u64,
    },
    /// A command of the instance was refused.
    Refused {
        /// The step that sent it.
        step: u64,
        /// Which of the step's commands it is.
        number: u32,
        /// With which code.
        code: String,
        /// The reason, for a person.
        detail: String,
    },
    /// A deadline came.
    Due {
        /// Its name.
        name: String,
        /// The step that set it.
        armed: u64,
    },
}

impl Cause {
    /// Returns the command that it answers, as its step and its number there.
    #[must_use]
    pub fn answered(&self) -> Option<(u64, u32)> {
        match self {
            Self::Accepted { step, number, .. } | Self::Refused { step, number, .. } => {
                Some((*step, *number))
            }
            Self::Event { .. } | Self::Due { .. } => None,
        }
    }

    /// Returns whether both are the same input, whatever the answer was.
    #[must_use]
    pub fn is_same_input(&self, other: &Self) -> bool {
        match (self.answered(), other.answered()) {
            (None, None) => self == other,
            (one, another) => one == another,
        }
    }
}
