//! A process instance as its records tell of it, for operators: whatever its facts mean.

use crate::{
    process::{Arrived, Cause, Deadline, Sending, Step},
    recorded::Recorded,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

/// The status of an instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum ToldStatus {
    /// It waits for answers to what it has sent.
    #[default]
    Running,
    /// It waits for an event or a deadline.
    Waiting,
    /// It cannot go on.
    Parked,
    /// An operator has stopped it.
    Suspended,
    /// It has ended.
    Ended,
}

impl fmt::Display for ToldStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
            Self::Suspended => "suspended",
            Self::Ended => "ended",
        })
    }
}

impl ToldStatus {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Running,
        Self::Waiting,
        Self::Parked,
        Self::Suspended,
        Self::Ended,
    ];

    /// Reads a status by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|status| status.to_string() == name)
    }
}

/// Knowledge of an instance from its records.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ToldInstance {
    /// The status.
    pub status: ToldStatus,
    /// The reason why it is parked, suspended, or was ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The time when something came to it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// The number of steps that it has made.
    #[serde(rename = "steps_made")]
    pub steps: u64,
    /// The commands that wait for their answers.
    pub open: Vec<ToldCommand>,
    /// The deadlines that are set.
    pub deadlines: Vec<Deadline>,
    /// The inputs that wait, in order.
    pub held: VecDeque<Cause>,
    /// The last event that has come, as its position and its version.
    #[serde(skip)]
    pub seen: Option<(u64, u64)>,
    /// The highest position that its commands were answered with, by the aggregate that they went to.
    #[serde(skip)]
    pub answered: BTreeMap<String, u64>,
}

/// A command that waits for its answer.
#[derive(Debug, Clone, Serialize)]
pub struct ToldCommand {
    /// The step that sent it.
    pub step: u64,
    /// Which of the step's commands it is.
    pub number: u32,
    /// The command.
    #[serde(flatten)]
    pub command: Sending,
}

#[derive(Deserialize)]
struct Held {
    input: Arrived,
}

#[derive(Deserialize)]
struct Parked {
    reason: String,
    input: Option<Arrived>,
}

#[derive(Deserialize)]
struct Skipped {
    input: Cause,
}

#[derive(Deserialize)]
struct Reason {
    reason: String,
}

impl ToldInstance {
    /// Takes the next record of the instance in. What it does not know it passes over.
    pub fn take(&mut self, process: &str, event: &Recorded) {
        let rest = event.event_type.strip_prefix(process);
        let name = rest.and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".v1"));
        self.last = Some(event.time);
        let data = event.data.get();
        match name {
            Some("stepped") => {
                if let Ok(step) = serde_json::from_str::<Step>(data) {
                    self.step(step);
                }
            }
            Some("held") => {
                if let Ok(held) = serde_json::from_str::<Held>(data) {
                    let cause = held.input.cause();
                    self.see(&cause);
                    self.held.push_back(cause);
                }
            }
            Some("parked") => {
                if let Ok(parked) = serde_json::from_str::<Parked>(data) {
                    self.status = ToldStatus::Parked;
                    self.reason = Some(parked.reason);
                    if let Some(input) = parked.input {
                        let cause = input.cause();
                        self.see(&cause);
                        self.held.push_front(cause);
                    }
                }
            }
            Some("skipped") => {
                if let Ok(skipped) = serde_json::from_str::<Skipped>(data) {
                    self.pass(&skipped.input);
                }
            }
            Some("resumed") => (self.status, self.reason) = (ToldStatus::Running, None),
            Some(name @ ("suspended" | "ended")) => {
                let reason = serde_json::from_str::<Reason>(data).ok();
                self.reason = reason.map(|reason| reason.reason);
                self.status = match name {
                    "ended" => ToldStatus::Ended,
                    _ => ToldStatus::Suspended,
                };
                if name == "ended" {
                    self.held.clear();
                    self.deadlines.clear();
                }
            }
            _ => {}
        }
        if matches!(self.status, ToldStatus::Running | ToldStatus::Waiting) {
            self.status = match self.open.is_empty() {
                true => ToldStatus::Waiting,
                false => ToldStatus::Running,
            };
        }
    }

    fn step(&mut self, step: Step) {
        self.steps += 1;
        self.see(&step.input);
        self.pass(&step.input);
        self.deadlines.retain(|one| {
            !step.cancel.contains(one) && step.set.iter().all(|set| set.name != one.name)
        });
        self.deadlines.extend(step.set);
        let sent = (0..).zip(step.send).map(|(number, command)| ToldCommand {
            step: step.step,
            number,
            command,
        });
        self.open.extend(sent);
        if step.ended {
            self.status = ToldStatus::Ended;
        }
    }

    fn see(&mut self, cause: &Cause) {
        if let Cause::Event {
            position, version, ..
        } = cause
        {
            self.seen = self.seen.max(Some((*position, *version)));
        }
    }

    /// Notes what one of its commands was answered with.
    fn note_answer(&mut self, cause: &Cause) {
        if let Cause::Accepted {
            step,
            number,
            position,
            ..
        } = cause
        {
            let mut open = self.open.iter();
            let sent = open.find(|sent| (sent.step, sent.number) == (*step, *number));
            if let Some(sent) = sent {
                let known = self.answered.entry(sent.command.aggregate.clone());
                let known = known.or_default();
                *known = (*known).max(*position);
            }
        }
    }

    /// Forgets what an instance that has ended need not be known for.
    pub(super) fn shorten(&mut self) {
        self.open = Vec::new();
        self.deadlines = Vec::new();
        self.held = VecDeque::new();
        self.answered = BTreeMap::new();
    }

    fn pass(&mut self, cause: &Cause) {
        self.note_answer(cause);
        if self
            .held
            .front()
            .is_some_and(|first| first.is_same_input(cause))
        {
            self.held.pop_front();
        }
        if let Some(answered) = cause.answered() {
            self.open
                .retain(|sent| (sent.step, sent.number) != answered);
        }
        if let Cause::Due { name, armed } = cause {
            self.deadlines
                .retain(|one| (&one.name, one.armed) != (name, *armed));
        }
    }
}

/// The instances of a process, by id.
pub type ToldInstances = BTreeMap<String, ToldInstance>;
