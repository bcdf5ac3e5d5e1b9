//! A process instance as the aggregate that it is stored as.
//!
//! It is decided, appended, loaded and placed as every aggregate is. Its commands are inputs, and what
//! operators do; they come from within the program only. An input that comes again changes nothing.

use super::{
    Answer, Arrived, Cause, Deadline, Process, Record, Sent,
    step::{MAX_HELD, Work},
};
use crate::aggregate::{Aggregate, Context, Decision, Rejection};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
};
use utoipa::ToSchema;

/// The revision of the shape of [`Instance`] itself.
const FORM: u32 = 2;
/// The most late events that are remembered.
const MAX_LATE: usize = 4_096;

/// A process instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Instance<P: Process> {
    /// The state of the process.
    pub(super) process: P,
    pub(super) status: Status,
    /// The last event that came, as its position and its version there.
    pub(super) seen: Option<(u64, u64)>,
    /// The events that came late, each of which is taken once.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) late: BTreeSet<(u64, u64)>,
    /// The commands without an answer, in the order in which they were sent.
    pub(super) open: Vec<Sent>,
    pub(super) deadlines: BTreeMap<String, Deadline>,
    /// The inputs that wait, in order.
    pub(super) held: VecDeque<Arrived>,
    /// The number of steps that answers have led to since the last event or deadline.
    pub(super) steps: u32,
}

/// The status of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It reacts to what comes.
    #[default]
    Running,
    /// An input could not be reacted to: it waits with all that come after.
    Parked(Parked),
    /// An operator has stopped it.
    Suspended,
    /// It has ended.
    Ended,
}

/// The reason why an instance is parked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The reason, for a person.
    pub reason: String,
}

// Derived, it would ask for more of `P` than it needs.
impl<P: Process> Default for Instance<P> {
    fn default() -> Self {
        Self {
            process: P::default(),
            status: Status::default(),
            seen: None,
            late: BTreeSet::new(),
            open: Vec::new(),
            deadlines: BTreeMap::new(),
            held: VecDeque::new(),
            steps: 0,
        }
    }
}

impl<P: Process> Instance<P> {
    /// The state of the process.
    #[must_use]
    pub fn process(&self) -> &P {
        &self.process
    }

    /// Returns how it is.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The commands that wait for their answers.
    #[must_use]
    pub fn open(&self) -> &[Sent] {
        &self.open
    }

    /// The deadlines that are set, by name.
    #[must_use]
    pub fn deadlines(&self) -> &BTreeMap<String, Deadline> {
        &self.deadlines
    }

    /// The inputs that wait, in order.
    pub fn held(&self) -> impl ExactSizeIterator<Item = &Arrived> {
        self.held.iter()
    }

    /// The open command of a step.
    pub(super) fn sent(&self, step: u64, number: u32) -> Option<&Sent> {
        let mut open = self.open.iter();
        open.find(|sent| (sent.step, sent.number) == (step, number))
    }

    /// The deadline that an alarm is of; `None` when the alarm is out of date.
    pub(super) fn due(&self, name: &str, armed: u64) -> Option<&Deadline> {
        let deadline = self.deadlines.get(name);
        deadline.filter(|deadline| deadline.armed == armed)
    }

    /// Returns whether an input has not come before, and is not out of date.
    fn is_new(&self, input: &Arrived) -> bool {
        match input {
            Arrived::Event(event) => self
                .seen
                .is_none_or(|seen| (event.position, event.version) > seen),
            Arrived::Late(event) => !self.late.contains(&(event.position, event.version)),
            Arrived::Answered { step, number, .. } => {
                self.sent(*step, *number).is_some() && !self.holds(input)
            }
            Arrived::Due { name, armed } => self.due(name, *armed).is_some() && !self.holds(input),
        }
    }

    fn holds(&self, input: &Arrived) -> bool {
        let cause = input.cause();
        let mut held = self.held.iter();
        held.any(|held| held.cause().is_same_input(&cause))
    }

    fn see(&mut self, cause: &Cause) {
        if let Cause::Event {
            position,
            version,
            late,
            ..
        } = cause
        {
            let place = (*position, *version);
            if *late {
                self.late.insert(place);
                if self.late.len() > MAX_LATE {
                    self.late.pop_first();
                }
            }
            self.seen = self.seen.max(Some(place));
        }
    }

    /// Forgets the first input that waits, if it is this one.
    fn pass(&mut self, cause: &Cause) {
        let first = self.held.front().map(Arrived::cause);
        if first.is_some_and(|first| first.is_same_input(cause)) {
            self.held.pop_front();
        }
        if let Some(answered) = cause.answered() {
            self.open
                .retain(|sent| (sent.step, sent.number) != answered);
        }
        if let Cause::Due { name, armed } = cause
            && self.due(name, *armed).is_some()
        {
            self.deadlines.remove(name);
        }
    }

    fn cancel(&mut self, cancelled: &[Deadline]) {
        for deadline in cancelled {
            if self.due(&deadline.name, deadline.armed).is_some() {
                self.deadlines.remove(&deadline.name);
            }
        }
    }
}

/// The commands of a process instance.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum InstanceCommand {
    /// Gives it an input.
    Handle {
        /// The input.
        #[schema(value_type = Object)]
        input: Arrived,
        /// The settings of the process.
        #[schema(value_type = Object)]
        settings: Value,
    },
    /// Asks whether a command still waits for its answer. Changes nothing.
    Await {
        /// The step that sent it.
        step: u64,
        /// Which of the step's commands it is.
        number: u32,
    },
    /// Lets a parked or suspended instance go on with what waits.
    Resume {
        /// The settings of the process.
        #[schema(value_type = Object)]
        settings: Value,
    },
    /// Drops the first input that waits, and goes on with the next.
    Skip {
        /// The reason.
        reason: String,
        /// The settings of the process.
        #[schema(value_type = Object)]
        settings: Value,
    },
    /// Stops it: what comes waits.
    Suspend {
        /// The reason.
        reason: String,
    },
    /// Ends it, whatever waits.
    End {
        /// The reason.
        reason: String,
    },
}

impl InstanceCommand {
    /// Returns whether an operator gives it, and not the process itself.
    fn is_of_an_operator(&self) -> bool {
        !matches!(self, Self::Handle { .. } | Self::Await { .. })
    }
}

/// The reason why a process instance refuses a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstanceRejection {
    /// Nothing has come to it yet.
    #[error("there is no such process instance")]
    NotFound,
    /// The command that was asked about has been answered, or was never sent.
    #[error("the command waits for no answer")]
    NotAwaited,
    /// Too many inputs wait.
    #[error("{MAX_HELD} inputs wait for the instance to go on; it takes no more until then")]
    Full,
    /// Nothing waits that could be dropped.
    #[error("no input waits")]
    NothingHeld,
    /// It has ended already.
    #[error("the process instance has ended")]
    HasEnded,
    /// The settings are not those of the process.
    #[error("the settings cannot be read: {0}")]
    Settings(String),
}

impl Rejection for InstanceRejection {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::NotAwaited => "not_awaited",
            Self::Full => "full",
            Self::NothingHeld => "nothing_held",
            Self::HasEnded => "has_ended",
            Self::Settings(_) => "invalid_settings",
        }
    }

    fn codes(command: &str) -> &'static [&'static str] {
        match command {
            "handle" => &["full", "invalid_settings"],
            "await" => &["not_awaited"],
            "resume" => &["not_found", "has_ended", "invalid_settings"],
            "skip" => &["not_found", "has_ended", "nothing_held", "invalid_settings"],
            "suspend" | "end" => &["not_found", "has_ended"],
            _ => &[],
        }
    }
}

impl<P: Process> Aggregate for Instance<P> {
    const NAME: &'static str = P::NAME;
    const STATE_VERSION: u32 = P::STATE_VERSION * 64 + FORM;

    type Command = InstanceCommand;
    type Event = Record<P>;
    type Rejection = InstanceRejection;

    fn decide(
        &self,
        command: InstanceCommand,
        at: &Context,
    ) -> Result<Decision<Record<P>>, InstanceRejection> {
        let read = |settings: Value| {
            let read = serde_json::from_value::<P::Settings>(settings);
            read.map_err(|error| InstanceRejection::Settings(error.to_string()))
        };
        if command.is_of_an_operator() {
            match self.status {
                _ if at.version == 0 => return Err(InstanceRejection::NotFound),
                Status::Ended => return Err(InstanceRejection::HasEnded),
                _ => {}
            }
        }
        match command {
            InstanceCommand::Handle { input, settings } => {
                if !self.is_new(&input) {
                    return Ok(Decision::nothing());
                }
                let waits = !matches!(self.status, Status::Running | Status::Ended);
                if waits && self.held.len() >= MAX_HELD {
                    return Err(InstanceRejection::Full);
                }
                let settings = read(settings)?;
                let mut work = Work::begin(self, &settings, at);
                if waits {
                    work.note(Record::Held { input });
                } else if self.held.is_empty() {
                    work.handle(input);
                } else {
                    work.note(Record::Held { input });
                    work.go_on();
                }
                Ok(work.decided())
            }
            InstanceCommand::Await { step, number } => match self.sent(step, number) {
                Some(_) => Ok(Decision::nothing()),
                None => Err(InstanceRejection::NotAwaited),
            },
            InstanceCommand::Resume { settings } => {
                let settings = read(settings)?;
                let mut work = Work::begin(self, &settings, at);
                if self.status != Status::Running {
                    work.note(Record::Resumed {});
                }
                work.go_on();
                Ok(work.decided())
            }
            InstanceCommand::Skip { reason, settings } => {
                let settings = read(settings)?;
                let Some(first) = self.held.front().map(Arrived::cause) else {
                    return Err(InstanceRejection::NothingHeld);
                };
                let mut work = Work::begin(self, &settings, at);
                work.note(Record::Skipped {
                    input: first,
                    reason,
                });
                if matches!(self.status, Status::Parked(_)) {
                    work.note(Record::Resumed {});
                }
                work.go_on();
                Ok(work.decided())
            }
            InstanceCommand::Suspend { reason } => Ok(match self.status {
                Status::Suspended => Decision::nothing(),
                _ => Decision::event(Record::Suspended { reason }),
            }),
            InstanceCommand::End { reason } => {
                let cancel = self.deadlines.values().cloned().collect();
                Ok(Decision::event(Record::Ended { reason, cancel }))
            }
        }
    }

    fn evolve(&mut self, record: &Record<P>) {
        match record {
            Record::Stepped(step) => {
                self.see(&step.input);
                self.pass(&step.input);
                match step.input.answered() {
                    Some(_) => self.steps += 1,
                    None => self.steps = 0,
                }
                self.cancel(&step.cancel);
                let set = step.set.iter().cloned();
                self.deadlines
                    .extend(set.map(|deadline| (deadline.name.clone(), deadline)));
                let sent = (0..).zip(&step.send).map(|(number, sending)| Sent {
                    step: step.step,
                    number,
                    aggregate: sending.aggregate.clone(),
                    id: sending.id.clone(),
                    command: sending.command.clone(),
                    body: sending.body.clone(),
                    expected: sending.expected,
                });
                self.open.extend(sent);
                if step.ended {
                    self.status = Status::Ended;
                }
            }
            Record::Held { input } => {
                self.see(&input.cause());
                self.held.push_back(input.clone());
            }
            Record::Parked { reason, input } => {
                if let Some(input) = input {
                    self.see(&input.cause());
                    self.held.push_front(input.clone());
                }
                self.status = Status::Parked(Parked {
                    reason: reason.clone(),
                });
            }
            Record::Skipped { input, .. } => self.pass(input),
            Record::Suspended { .. } => self.status = Status::Suspended,
            Record::Resumed {} => {
                self.status = Status::Running;
                self.steps = 0;
            }
            Record::Ended { cancel, .. } => {
                self.cancel(cancel);
                self.held.clear();
                self.status = Status::Ended;
            }
            Record::Fact(fact) => self.process.evolve(fact),
        }
    }

    fn upcast(
        event_type: &str,
        data: &serde_json::value::RawValue,
    ) -> Option<(&'static str, Value)> {
        P::upcast(event_type, data)
    }
}

impl<P: Process> Instance<P> {
    /// The input as the process sees it; `None` when it is out of date.
    pub(super) fn input(&self, arrived: &Arrived) -> Option<super::Input> {
        use super::Input;
        Some(match arrived {
            Arrived::Event(event) | Arrived::Late(event) => Input::Event(event.clone()),
            Arrived::Answered {
                step,
                number,
                answer,
            } => {
                let sent = self.sent(*step, *number)?.clone();
                match answer {
                    Answer::Accepted(outcome) => Input::Accepted(sent, outcome.clone()),
                    Answer::Refused(problem) => Input::Refused(sent, problem.clone()),
                }
            }
            Arrived::Due { name, armed } => Input::Due(self.due(name, *armed)?.clone()),
        })
    }

    /// Folds a record in; `false` when the process cannot.
    pub(super) fn try_evolve(&mut self, record: &Record<P>) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.evolve(record))).is_ok()
    }
}
