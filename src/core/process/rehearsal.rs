//! Rehearses the recorded steps of an instance: would this build have reacted as the one that stored them?
//!
//! Nothing is stored or sent. The state is folded from the records as they stand, so that each step is looked at
//! by itself, and one difference does not bring about others.

use super::{Arrived, Instance, Process, Record, Status, step::Work};
use crate::{
    aggregate::Context,
    caller::Caller,
    recorded::{Recorded, decode_event},
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// The result of a rehearsal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rehearsed {
    /// The number of steps that were compared.
    pub compared: u64,
    /// The reason why this build cannot go on with the instance: a record that it cannot read or fold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// The last step that this build would make otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<Otherwise>,
    /// Inputs that may come next and would park the instance, each with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub would_park: Vec<String>,
    /// True if the instance is parked, and would go on with this build.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub would_go_on: bool,
}

/// A step that this build would make otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Otherwise {
    /// Its number: the version that the instance had with it.
    pub step: u64,
    /// The input.
    pub input: Value,
    /// The stored step.
    pub recorded: Value,
    /// The step that this build would store.
    pub now: Value,
}

impl Rehearsed {
    /// Returns whether this build does with the instance as the one before.
    #[must_use]
    pub fn is_the_same(&self) -> bool {
        self.unreadable.is_none()
            && self.otherwise.is_none()
            && self.would_park.is_empty()
            && !self.would_go_on
    }
}

/// Folds an instance record by record, as this build knows it.
pub trait InstanceFold: Send {
    /// Takes the next record in.
    ///
    /// # Errors
    ///
    /// Returns why this build cannot.
    fn take(&mut self, record: &Recorded) -> Result<(), String>;

    /// Returns how the instance is.
    fn account(&self) -> Account;
}

/// The state of a folded instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// `running`, `parked`, `suspended` or `ended`.
    pub status: &'static str,
    /// The commands without an answer, by step and number.
    pub open: Vec<(u64, u32)>,
    /// The deadlines, with the steps that set them.
    pub deadlines: Vec<(String, u64)>,
    /// The number of inputs that wait.
    pub held: usize,
}

/// An instance of process `P` as far as its records have been taken in.
pub struct Folding<P: Process> {
    instance: Instance<P>,
    version: u64,
}

impl<P: Process> Default for Folding<P> {
    fn default() -> Self {
        Self {
            instance: Instance::default(),
            version: 0,
        }
    }
}

impl<P: Process> Folding<P> {
    fn read(&self, event: &Recorded) -> Result<Record<P>, String> {
        if event.version != self.version + 1 {
            let (before, version) = (self.version, event.version);
            return Err(format!("version {version} follows on {before}"));
        }
        let record = decode_event::<Instance<P>>(&event.event_type, &event.data);
        record.map_err(|error| format!("version {}: {error}", event.version))
    }

    fn fold(&mut self, record: &Record<P>) -> Result<(), String> {
        self.version += 1;
        match self.instance.try_evolve(record) {
            true => Ok(()),
            false => Err(format!("version {}: evolve panicked", self.version)),
        }
    }
}

impl<P: Process> InstanceFold for Folding<P> {
    fn take(&mut self, record: &Recorded) -> Result<(), String> {
        let record = self.read(record)?;
        self.fold(&record)
    }

    fn account(&self) -> Account {
        let mut open: Vec<_> = self
            .instance
            .open
            .iter()
            .map(|it| (it.step, it.number))
            .collect();
        open.sort_unstable();
        let deadlines = self.instance.deadlines.values();
        Account {
            status: match self.instance.status {
                Status::Running => "running",
                Status::Parked(_) => "parked",
                Status::Suspended => "suspended",
                Status::Ended => "ended",
            },
            open,
            deadlines: deadlines.map(|it| (it.name.clone(), it.armed)).collect(),
            held: self.instance.held.len(),
        }
    }
}

/// Rehearses an instance with these settings. `inputs` has what led to its steps, by their numbers; a step whose
/// input is not among them is folded, and not compared. The times of deadlines are not compared, since the settings
/// of the deployment are in them.
#[must_use]
pub fn rehearse<P: Process>(
    id: &str,
    settings: &P::Settings,
    records: &[Recorded],
    inputs: &BTreeMap<u64, Arrived>,
) -> Rehearsed {
    let mut rehearsed = Rehearsed::default();
    let mut folding = Folding::<P>::default();
    let is_fact = |event: &Recorded| super::record::own::<P>(&event.event_type).is_none();
    for group in records.chunk_by(|_, next| is_fact(next)) {
        if let Err(reason) = step::<P>(&mut folding, id, settings, group, inputs, &mut rehearsed) {
            rehearsed.unreadable = Some(reason);
            return rehearsed;
        }
    }
    let now = records
        .last()
        .map_or(Timestamp::UNIX_EPOCH, |last| last.time);
    look_ahead(&folding, id, settings, now, &mut rehearsed);
    rehearsed
}

/// Compares one step with its facts, and folds it.
fn step<P: Process>(
    folding: &mut Folding<P>,
    id: &str,
    settings: &P::Settings,
    group: &[Recorded],
    inputs: &BTreeMap<u64, Arrived>,
    rehearsed: &mut Rehearsed,
) -> Result<(), String> {
    let first = folding.read(&group[0])?;
    let mut reacted = None;
    if let Record::Stepped(step) = &first
        && let Some(input) = inputs.get(&step.step)
    {
        let at = context(id, folding.version, group[0].time);
        reacted = Some((step.clone(), react(&folding.instance, settings, &at, input)));
    }
    let mut stored = vec![first];
    folding.fold(&stored[0])?;
    for event in &group[1..] {
        let fact = folding.read(event)?;
        folding.fold(&fact)?;
        stored.push(fact);
    }
    if let Some((step, now)) = reacted {
        rehearsed.compared += 1;
        let (recorded, now) = (told(&stored), told(&now));
        if recorded != now {
            rehearsed.otherwise = Some(Otherwise {
                step: step.step,
                input: json!(step.input),
                recorded,
                now,
            });
        }
    }
    Ok(())
}

fn context(id: &str, version: u64, now: Timestamp) -> Context {
    Context {
        id: Arc::from(id),
        version,
        command_id: Arc::from("rehearsal"),
        now,
        caller: Caller::default(),
    }
}

fn react<P: Process>(
    instance: &Instance<P>,
    settings: &P::Settings,
    at: &Context,
    input: &Arrived,
) -> Vec<Record<P>> {
    let cause = input.cause();
    let waits = instance.held.front();
    let waits = waits.is_some_and(|held| held.cause().is_same_input(&cause));
    let mut instance = instance.clone();
    if instance.status != Status::Ended {
        instance.status = Status::Running;
    }
    let mut work = Work::begin(&instance, settings, at);
    work.react(input, waits);
    work.decided().events
}

/// Looks at the inputs that are known to come next.
fn look_ahead<P: Process>(
    folding: &Folding<P>,
    id: &str,
    settings: &P::Settings,
    now: Timestamp,
    rehearsed: &mut Rehearsed,
) {
    let instance = &folding.instance;
    let parks = |input: &Arrived, now: Timestamp| {
        let at = context(id, folding.version, now);
        let reacted = react(instance, settings, &at, input);
        reacted.into_iter().find_map(|record| match record {
            Record::Parked { reason, .. } => Some(reason),
            _ => None,
        })
    };
    if matches!(instance.status, Status::Parked(_))
        && let Some(first) = instance.held.front()
    {
        rehearsed.would_go_on = parks(first, now).is_none();
        return;
    }
    if instance.status != Status::Running {
        return;
    }
    for deadline in instance.deadlines.values() {
        let due = Arrived::Due {
            name: deadline.name.clone(),
            armed: deadline.armed,
        };
        if let Some(reason) = parks(&due, deadline.at) {
            let would = format!("the deadline {}: {reason}", deadline.name);
            rehearsed.would_park.push(would);
        }
    }
}

/// The contents of a step, without the times of its deadlines.
fn told<P: Process>(records: &[Record<P>]) -> Value {
    let mut told = json!({ "send": [], "set": [], "cancel": [], "facts": [], "ended": false });
    for record in records {
        match record {
            Record::Stepped(step) => {
                let names = |those: &[super::Deadline]| {
                    let names = those.iter().map(|one| one.name.clone());
                    names.collect::<Vec<_>>()
                };
                told["send"] = json!(step.send);
                told["set"] = json!(names(&step.set));
                told["cancel"] = json!(names(&step.cancel));
                told["ended"] = json!(step.ended);
            }
            Record::Parked { reason, .. } => told["parked"] = json!(reason),
            Record::Fact(fact) => {
                if let Value::Array(facts) = &mut told["facts"] {
                    facts.push(json!(fact));
                }
            }
            _ => {}
        }
    }
    told
}
