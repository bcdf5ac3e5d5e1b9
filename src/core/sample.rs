//! Sample data for a first look: commands, in an order in which each is accepted.

use crate::aggregate::Aggregate;
use serde_json::Value;
use std::collections::BTreeMap;

/// One command of the sample data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleCommand {
    /// The aggregate's name.
    pub aggregate: &'static str,
    /// The aggregate's id.
    pub id: String,
    /// The command's name.
    pub command: String,
    /// The command's fields.
    pub body: Value,
}

impl SampleCommand {
    /// A command of one aggregate.
    ///
    /// # Panics
    ///
    /// Panics when the aggregate's commands are not an externally tagged enum, as every aggregate's are.
    pub fn new<A: Aggregate>(id: impl Into<String>, command: &A::Command) -> Self {
        let tagged = serde_json::to_value(command).expect("a command is plain data");
        let Value::Object(tagged) = tagged else {
            unreachable!("a command is an externally tagged enum");
        };
        let (command, body) = tagged.into_iter().next().expect("a command has a name");
        Self {
            aggregate: A::NAME,
            id: id.into(),
            command,
            body,
        }
    }
}

/// The commands in phases: within a phase each is for another aggregate, so that a phase can be sent all
/// at once when the one before it has been answered.
#[must_use]
pub fn phases(commands: Vec<SampleCommand>) -> Vec<Vec<SampleCommand>> {
    let mut counts = BTreeMap::<(&str, String), usize>::new();
    let mut phases = Vec::<Vec<_>>::new();
    for command in commands {
        let count = counts
            .entry((command.aggregate, command.id.clone()))
            .or_default();
        if *count == phases.len() {
            phases.push(Vec::new());
        }
        phases[*count].push(command);
        *count += 1;
    }
    phases
}
