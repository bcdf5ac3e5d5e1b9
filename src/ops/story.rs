//! The story of a command: its outcome, and all that it caused.
//!
//! The log has the ids of commands, and no index of them. The id of a command that a process has sent says where
//! it stands. Any other is looked for, in the history of its aggregate where that is known, and else backwards
//! from the end of the log, so many commits a request. From the command's events on nothing is searched: a
//! process says which of its instances an event belongs to, the instance's steps say what they have sent, and
//! each of these commands stands in the history of its target, after the step.

mod caused;
mod nodes;
mod search;

pub use nodes::{StoryCommand, StoryDeadline, StoryFact, StoryInstance, StoryOrigin, StoryStep};
pub use search::Searched;

use super::{Operations, unread};
use crate::{event_log::subject::Id, problem::Problem};
use caused::Teller;
use search::Found;
use serde::Serialize;
use utoipa::ToSchema;

/// The number of commands that a story tells of.
const COMMANDS: usize = 200;

/// The story of a command.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CommandStory {
    /// The command's id.
    pub command_id: String,
    /// The command, with all that it caused; null where it was not found in what was searched.
    #[schema(value_type = Option<StoryCommand>)]
    pub command: Option<StoryCommand>,
    /// The process that sent it, where one did.
    pub origin: Option<StoryOrigin>,
    /// The place where it was looked for.
    pub searched: Searched,
    /// True if it caused more commands than are told of.
    pub truncated: bool,
}

/// The place at which a command is looked for.
#[derive(Debug, Clone, Default)]
pub struct StoryPlace {
    /// The aggregate that it was given to, where that is known.
    pub aggregate: Option<(String, Id)>,
    /// The position before which it stands; the end of the log unless given.
    pub before: Option<u64>,
}

impl Operations {
    /// Tells what became of a command.
    ///
    /// # Errors
    ///
    /// Returns `not_found` where the log has none of this id, `unavailable` where the log cannot be read.
    pub async fn story(
        &self,
        id: &str,
        place: &StoryPlace,
        authorization: Option<&str>,
    ) -> Result<CommandStory, Problem> {
        let mut teller = Teller::new(self, COMMANDS);
        let origin = self.origin_of(id);
        let told = match &origin {
            Some(origin) => teller.sent(origin).await,
            None => Ok(None),
        };
        let told = told.map_err(|error| unread(&error))?;
        if let Some(command) = told {
            return Ok(CommandStory {
                command_id: id.to_owned(),
                command: Some(command),
                origin,
                searched: Searched::default(),
                truncated: teller.is_full(),
            });
        }
        let Found { events, searched } = self
            .search(id, place)
            .await
            .map_err(|error| unread(&error))?;
        let (command, missing) = match events {
            Some(commit) => {
                let command = teller.accepted(id, &commit).await;
                (Some(command.map_err(|error| unread(&error))?), Vec::new())
            }
            None => {
                let (refusal, missing) = self.refusal_of(id, authorization).await;
                (refusal.map(StoryCommand::refused), missing)
            }
        };
        if command.is_none() && searched.complete {
            let mut detail = format!(
                "the log has no command {id:?} in what was searched; one that was refused, or changed nothing, \
                 leaves nothing there"
            );
            if !missing.is_empty() {
                let missing = missing.join(", ");
                detail.push_str(&format!("; not asked for their refusals: {missing}"));
            }
            return Err(Problem::not_found("not_found", detail));
        }
        Ok(CommandStory {
            command_id: id.to_owned(),
            command,
            origin: None,
            searched,
            truncated: teller.is_full(),
        })
    }

    /// The process, instance and step that a command's id names.
    fn origin_of(&self, id: &str) -> Option<StoryOrigin> {
        let mut parts = id.split('/');
        let mut next = || parts.next();
        let (process, instance, step, number) = (next()?, next()?, next()?, next()?);
        let known = self
            .options()
            .processes
            .iter()
            .any(|known| known.name == process);
        (known && parts.next().is_none()).then_some(())?;
        Some(StoryOrigin {
            process: process.to_owned(),
            id: instance.to_owned(),
            step: step.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}
