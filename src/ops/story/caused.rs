//! The consequences of a command: through the instances of processes, from step to step and command to command.

use super::{
    StoryCommand, StoryFact, StoryInstance, StoryOrigin, StoryStep,
    search::{CommandCommit, Seeker},
};
use crate::{
    event_log::{
        LoadError, StoredMessage, codec,
        subject::{self, Id},
    },
    ops::Operations,
    process::{Cause, Sending, Step, command_id},
    processes::{RegisteredProcess, ToldInstance},
    recorded::Recorded,
};
use futures::future::{BoxFuture, FutureExt};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// The number of commits of an instance that are read.
const OF_INSTANCE: usize = 2_000;
/// The number of commits after a step that are looked through for a command of it.
const AFTER_STEP: usize = 2_000;

/// Tells what followed, up to so many commands.
pub(super) struct Teller<'a> {
    operations: &'a Operations,
    left: usize,
    /// The instances that were read, by process and id.
    instances: HashMap<(String, String), Arc<Told>>,
}

/// An instance as it was read.
struct Told {
    instance: ToldInstance,
    steps: Vec<(Step, Recorded, Vec<Recorded>)>,
}

impl<'a> Teller<'a> {
    pub(super) fn new(operations: &'a Operations, most: usize) -> Self {
        Self {
            operations,
            left: most,
            instances: HashMap::new(),
        }
    }

    /// Returns whether there was more to tell than it may.
    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Tells of a command that is in the log.
    pub(super) fn accepted<'b>(
        &'b mut self,
        id: &'b str,
        commit: &'b CommandCommit,
    ) -> BoxFuture<'b, Result<StoryCommand, LoadError>> {
        self.left = self.left.saturating_sub(1);
        let (aggregate, instance) =
            subject::parse_events(&commit.message.subject).unwrap_or_default();
        let mut command = StoryCommand {
            command_id: id.to_owned(),
            aggregate: aggregate.to_owned(),
            id: instance.to_owned(),
            ..StoryCommand::default()
        };
        let events = commit.events.iter().map(Into::into).collect();
        let message = &commit.message;
        command.take(events, message.position, message.traceparent.as_deref());
        let views = self.operations.known_views().iter();
        let readers = views.filter(|view| view.aggregates.contains(&aggregate));
        command.views = readers.map(|view| view.name.to_owned()).collect();
        async move {
            command.processes = self.reactions(&commit.events).await?;
            Ok(command)
        }
        .boxed()
    }

    /// Tells of the command that a step has sent; `None` where there is no such step.
    pub(super) async fn sent(
        &mut self,
        origin: &StoryOrigin,
    ) -> Result<Option<StoryCommand>, LoadError> {
        let Ok(id) = Id::new(origin.id.as_str()) else {
            return Ok(None);
        };
        let told = self.instance(&origin.process, &id).await?;
        let mut steps = told.steps.iter();
        let Some((step, record, _)) = steps.find(|(step, ..)| step.step == origin.step) else {
            return Ok(None);
        };
        let Some(sending) = step.send.get(origin.number as usize) else {
            return Ok(None);
        };
        let command = self
            .command(origin, sending, record.position, &told)
            .await?;
        Ok(Some(command))
    }

    /// Tells of one command of a step that stands at a position.
    fn command<'b>(
        &'b mut self,
        origin: &'b StoryOrigin,
        sending: &'b Sending,
        position: u64,
        told: &'b Told,
    ) -> BoxFuture<'b, Result<StoryCommand, LoadError>> {
        async move {
            let id = command_id(&origin.process, &origin.id, origin.step, origin.number);
            let mut command = match self.committed(&id, sending, position).await? {
                Some(commit) => self.accepted(&id, &commit).await?,
                None => {
                    self.left = self.left.saturating_sub(1);
                    unstored(&id, sending, told, origin)
                }
            };
            command.command = Some(sending.command.clone());
            Ok(command)
        }
        .boxed()
    }

    /// Finds the events of a command in the history of its target, after the step that sent it.
    async fn committed(
        &self,
        id: &str,
        sending: &Sending,
        position: u64,
    ) -> Result<Option<CommandCommit>, LoadError> {
        let Ok(target) = Id::new(sending.id.as_str()) else {
            return Ok(None);
        };
        let subject = subject::events_of(&sending.aggregate, &target);
        let seeker = Seeker::new(id);
        let (mut after, mut read) = (position, 0);
        while read < AFTER_STEP {
            let log = &self.operations.options().log;
            let messages = log.next_messages(&subject, after, u64::MAX).await?;
            let Some(last) = messages.last() else {
                return Ok(None);
            };
            (after, read) = (last.position, read + messages.len());
            if let Some(found) = messages.iter().find_map(|message| seeker.find(message)) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Tells which instances have reacted to events, and how.
    async fn reactions(&mut self, events: &[Recorded]) -> Result<Vec<StoryInstance>, LoadError> {
        let operations = self.operations;
        let mut reactions = Vec::new();
        for process in &operations.options().processes {
            let followed: Vec<_> = events
                .iter()
                .filter(|event| process.aggregates.contains(&event.aggregate.as_str()))
                .collect();
            let instances: BTreeSet<String> = followed
                .iter()
                .filter_map(|event| process.correlate(event).ok().flatten())
                .collect();
            for id in instances {
                let Ok(id) = Id::new(id.as_str()) else {
                    continue;
                };
                let reaction = self.reaction(process, &id, &followed).await?;
                reactions.extend(reaction);
            }
        }
        Ok(reactions)
    }

    /// Tells of the steps of one instance that followed from events.
    async fn reaction(
        &mut self,
        process: &RegisteredProcess,
        id: &Id,
        events: &[&Recorded],
    ) -> Result<Option<StoryInstance>, LoadError> {
        let told = self.instance(process.name, id).await?;
        let mut followed = BTreeSet::new();
        let mut steps = Vec::new();
        for (step, record, facts) in &told.steps {
            if !follows(&step.input, events, &followed) {
                continue;
            }
            followed.insert(step.step);
            let mut commands = Vec::new();
            for (number, sending) in (0..).zip(&step.send) {
                if self.is_full() {
                    break;
                }
                let origin = StoryOrigin {
                    process: process.name.to_owned(),
                    id: id.to_string(),
                    step: step.step,
                    number,
                };
                commands.push(
                    self.command(&origin, sending, record.position, &told)
                        .await?,
                );
            }
            steps.push(StoryStep {
                step: step.step,
                position: record.position,
                time: record.time,
                input: serde_json::to_value(&step.input).unwrap_or_default(),
                facts: facts.iter().map(fact).collect(),
                commands,
                deadlines: step.set.iter().map(Into::into).collect(),
                ended: step.ended,
            });
        }
        Ok((!steps.is_empty()).then(|| StoryInstance {
            process: process.name.to_owned(),
            id: id.to_string(),
            status: told.instance.status,
            steps,
        }))
    }

    /// Reads an instance, once.
    async fn instance(&mut self, process: &str, id: &Id) -> Result<Arc<Told>, LoadError> {
        let key = (process.to_owned(), id.to_string());
        if let Some(told) = self.instances.get(&key) {
            return Ok(Arc::clone(told));
        }
        let subject = subject::events_of(process, id);
        let log = &self.operations.options().log;
        let mut messages: Vec<StoredMessage> = Vec::new();
        while messages.len() < OF_INSTANCE {
            let after = messages.last().map_or(0, |last| last.position);
            let next = log.next_messages(&subject, after, u64::MAX).await?;
            if next.is_empty() {
                break;
            }
            messages.extend(next);
        }
        let told = Arc::new(Told::of(process, &messages));
        self.instances.insert(key, Arc::clone(&told));
        Ok(told)
    }
}

impl Told {
    fn of(process: &str, messages: &[StoredMessage]) -> Self {
        let mut told = Self {
            instance: ToldInstance::default(),
            steps: Vec::new(),
        };
        let stepped = format!("{process}.stepped.v1");
        for message in messages {
            let events = codec::decode(&message.subject, message.position, &message.payload);
            // What cannot be read is told of in the instance's history.
            for event in events.into_iter().flatten().map(|event| event.recorded) {
                told.instance.take(process, &event);
                if event.event_type == stepped {
                    if let Ok(step) = serde_json::from_str(event.data.get()) {
                        told.steps.push((step, event, Vec::new()));
                    }
                } else if let Some((_, record, facts)) = told.steps.last_mut()
                    && record.position == event.position
                {
                    facts.push(event);
                }
            }
        }
        told
    }
}

/// Returns whether a step followed from one of these events, or from one of these steps.
fn follows(input: &Cause, events: &[&Recorded], steps: &BTreeSet<u64>) -> bool {
    match input {
        Cause::Event {
            aggregate,
            id,
            version,
            position,
            ..
        } => events.iter().any(|event| {
            event.position == *position
                && event.version == *version
                && event.aggregate == *aggregate
                && event.id == *id
        }),
        Cause::Accepted { step, .. } | Cause::Refused { step, .. } => steps.contains(step),
        Cause::Due { armed, .. } => steps.contains(armed),
    }
}

fn fact(event: &Recorded) -> StoryFact {
    StoryFact {
        event_type: event.event_type.clone(),
        data: Arc::clone(&event.data),
    }
}

/// A command that left nothing in the log: the instance knows what it was answered.
fn unstored(id: &str, sending: &Sending, told: &Told, origin: &StoryOrigin) -> StoryCommand {
    let asked = (origin.step, origin.number);
    let mut answers = told.steps.iter().map(|(step, ..)| &step.input);
    let answer = answers.find(|input| input.answered() == Some(asked));
    let mut command = StoryCommand {
        command_id: id.to_owned(),
        aggregate: sending.aggregate.to_string(),
        id: sending.id.clone(),
        outcome: "pending".to_owned(),
        ..StoryCommand::default()
    };
    match answer {
        Some(Cause::Accepted { version, .. }) => {
            command.outcome = "accepted".to_owned();
            command.version = Some(*version);
        }
        Some(Cause::Refused { code, detail, .. }) => {
            command.outcome = "refused".to_owned();
            command.problem = Some(serde_json::json!({ "code": code, "detail": detail }));
        }
        _ => {}
    }
    command
}
