//! The commands of a program, as they are looked up by name.

use super::{
    describe::AggregateDescription,
    measure::CommandMeasures,
    request::{MAX_BODY, MAX_INTERNAL_BODY},
};
use crate::{event_log::subject::MAX_ID, problem::Problem};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// All commands of all aggregates.
pub(super) struct CommandTable {
    descriptions: Vec<AggregateDescription>,
    /// Aggregate name to its commands. The names are ours, so none is chosen to share a hash.
    names: FxHashMap<&'static str, Vec<Arc<CommandEntry>>>,
}

/// One command of one aggregate.
pub(super) struct CommandEntry {
    /// The aggregate's name.
    pub aggregate: &'static str,
    /// Its name.
    pub command: Arc<str>,
    /// Its number among all commands, in the order in which they are described.
    pub number: usize,
    /// The number of its aggregate.
    pub kind: usize,
    /// The end of it.
    pub measures: CommandMeasures,
    /// True if it is for the program itself only.
    pub internal: bool,
}

impl CommandEntry {
    /// The longest body, in bytes.
    pub(super) fn max_body(&self) -> usize {
        match self.internal {
            true => MAX_INTERNAL_BODY,
            false => MAX_BODY,
        }
    }
}

impl CommandTable {
    /// Numbers the commands of these aggregates, and after them those that are for the program itself only.
    pub(super) fn of(
        descriptions: &[AggregateDescription],
        internal: &[AggregateDescription],
    ) -> Self {
        let mut numbers = 0..;
        let mut named = |(kind, description): (usize, &AggregateDescription)| {
            let commands = description.commands.iter().zip(&mut numbers);
            let measured = CommandMeasures::of(description).into_iter();
            let entries = measured.zip(commands).map(|(measures, (command, number))| {
                Arc::new(CommandEntry {
                    aggregate: description.name,
                    command: command.name.as_str().into(),
                    number,
                    kind,
                    measures,
                    internal: kind >= descriptions.len(),
                })
            });
            (description.name, entries.collect())
        };
        let described = descriptions.iter().chain(internal).enumerate();
        Self {
            names: described.map(&mut named).collect(),
            descriptions: descriptions.to_vec(),
        }
    }

    /// The aggregates and their commands, without those of within.
    pub(super) fn descriptions(&self) -> &[AggregateDescription] {
        &self.descriptions
    }

    /// Finds a command by its aggregate's name and its own.
    ///
    /// # Errors
    ///
    /// Returns the problem `unknown_aggregate` or `unknown_command`.
    pub(super) fn find(
        &self,
        aggregate: &str,
        command: &str,
    ) -> Result<&Arc<CommandEntry>, Problem> {
        let commands = self.names.get(aggregate);
        let commands = commands.ok_or_else(|| unknown_aggregate(aggregate))?;
        let found = commands.iter().find(|one| &*one.command == command);
        found.ok_or_else(|| {
            Problem::not_found(
                "unknown_command",
                format!("there is no command named {command:?}"),
            )
        })
    }
}

/// The refusal of an aggregate that there is not.
pub(crate) fn unknown_aggregate(name: &str) -> Problem {
    let detail = format!("there is no aggregate named {:?}", shown(name));
    Problem::not_found("unknown_aggregate", detail)
}

/// A name, or its beginning: in a list it may be as long as the list.
pub(super) fn shown(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_ID)]
}
