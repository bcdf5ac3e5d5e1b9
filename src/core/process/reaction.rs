//! Consequences of an input.

use crate::{aggregate::Aggregate, recorded::DecodeError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Display;

/// The consequences of an input: facts, commands, deadlines, and perhaps the end. Stored as one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction<F> {
    /// The facts that are noted down, in order.
    pub facts: Vec<F>,
    /// The commands to send. They go out at the same time: one that has to wait for another is sent by the
    /// step that the other's answer leads to.
    pub sends: Vec<Sending>,
    /// The deadlines to set, or to move.
    pub sets: Vec<(String, Timestamp)>,
    /// The deadlines to cancel.
    pub cancels: Vec<String>,
    /// True if the instance has ended: no event and no deadline reaches it any more.
    pub ends: bool,
}

/// A command that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sending {
    /// The aggregate that it goes to.
    pub aggregate: String,
    /// The aggregate's id.
    pub id: String,
    /// The command's name.
    pub command: String,
    /// The command's fields.
    pub body: Value,
    /// The version that the aggregate must have: another one refuses the command with `version_mismatch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
}

impl Sending {
    /// A command of aggregate `A`.
    ///
    /// # Panics
    ///
    /// Panics when the command does not serialise as `{name: {fields}}`: a defect of the program.
    #[must_use]
    pub fn of<A: Aggregate>(id: impl Into<String>, command: &A::Command) -> Self {
        let named = match serde_json::to_value(command) {
            Ok(Value::Object(named)) if named.len() == 1 => named.into_iter().next(),
            _ => None,
        };
        let Some((command, body)) = named else {
            panic!("a command of {} is not {{name: {{fields}}}}", A::NAME);
        };
        Self {
            aggregate: A::NAME.to_owned(),
            id: id.into(),
            command,
            body,
            expected: None,
        }
    }
}

impl<F> Default for Reaction<F> {
    fn default() -> Self {
        Self::nothing()
    }
}

impl<F> Reaction<F> {
    /// Nothing follows.
    #[must_use]
    pub fn nothing() -> Self {
        Self::facts([])
    }

    /// One fact.
    #[must_use]
    pub fn fact(fact: F) -> Self {
        Self::facts([fact])
    }

    /// Several facts, in order.
    #[must_use]
    pub fn facts(facts: impl IntoIterator<Item = F>) -> Self {
        Self {
            facts: facts.into_iter().collect(),
            sends: Vec::new(),
            sets: Vec::new(),
            cancels: Vec::new(),
            ends: false,
        }
    }

    /// One more fact.
    #[must_use]
    pub fn and(mut self, fact: F) -> Self {
        self.facts.push(fact);
        self
    }

    /// Sends a command to the aggregate `A` with this id. Its answer is an input of the instance.
    #[must_use]
    pub fn send<A: Aggregate>(mut self, id: impl Into<String>, command: A::Command) -> Self {
        self.sends.push(Sending::of::<A>(id, &command));
        self
    }

    /// As [`Reaction::send`], to be refused with `version_mismatch` unless the aggregate is at this
    /// version: for what is right only as long as nothing else has happened to it.
    #[must_use]
    pub fn send_at<A: Aggregate>(
        mut self,
        id: impl Into<String>,
        version: u64,
        command: A::Command,
    ) -> Self {
        let mut sending = Sending::of::<A>(id, &command);
        sending.expected = Some(version);
        self.sends.push(sending);
        self
    }

    /// Sets a deadline, or moves the one of this name.
    #[must_use]
    pub fn deadline(mut self, name: impl Into<String>, at: Timestamp) -> Self {
        self.sets.push((name.into(), at));
        self
    }

    /// Cancels a deadline. Where there is none of this name, nothing happens.
    #[must_use]
    pub fn cancel(mut self, name: impl Into<String>) -> Self {
        self.cancels.push(name.into());
        self
    }

    /// Ends the instance. The commands of this step are still sent.
    #[must_use]
    pub fn end(mut self) -> Self {
        self.ends = true;
        self
    }

    /// Returns whether nothing at all follows.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.facts.is_empty()
            && self.sends.is_empty()
            && self.sets.is_empty()
            && self.cancels.is_empty()
            && !self.ends
    }
}

/// The reason why a process cannot make sense of an input. It parks the instance.
#[derive(Debug, thiserror::Error)]
pub enum ReactError {
    /// The stored event cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The process refuses the input.
    #[error("{0}")]
    Failed(String),
}

impl ReactError {
    /// The process cannot go on from here, for this reason.
    pub fn failed(reason: impl Display) -> Self {
        Self::Failed(reason.to_string())
    }
}
