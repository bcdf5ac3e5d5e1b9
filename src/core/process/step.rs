//! One step of an instance, or several where inputs have waited.

use super::{
    Arrived, Cause, Deadline, Instance, Process, ReactError, Reaction, Record, Status, Step, record,
};
use crate::aggregate::{Context, Decision};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The most commands that one step sends.
pub const MAX_SENDS: usize = 100;
/// The most deadlines that an instance has at a time.
pub const MAX_DEADLINES: usize = 100;
/// The most steps that answers lead to, one after another, without an event or a deadline between them.
pub const MAX_STEPS: u32 = 1_000;
/// The most inputs that wait while an instance is parked or suspended.
pub const MAX_HELD: usize = 1_000;
/// So many inputs that have waited are reacted to with one commit.
const AT_ONCE: usize = 16;
/// The longest body of a command, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// The longest reason that is stored, in bytes.
const MAX_REASON: usize = 1_000;

/// The steps of one decision.
pub(super) struct Work<'a, P: Process> {
    instance: Instance<P>,
    settings: &'a P::Settings,
    at: &'a Context,
    records: Vec<Record<P>>,
}

impl<'a, P: Process> Work<'a, P> {
    /// Begins with the instance as it is.
    pub fn begin(instance: &Instance<P>, settings: &'a P::Settings, at: &'a Context) -> Self {
        Self {
            instance: instance.clone(),
            settings,
            at,
            records: Vec::new(),
        }
    }

    /// Returns what has been decided.
    pub fn decided(self) -> Decision<Record<P>> {
        Decision::events(self.records)
    }

    /// Notes a record of the runtime's own.
    pub fn note(&mut self, record: Record<P>) {
        use crate::aggregate::Aggregate;
        self.instance.evolve(&record);
        self.records.push(record);
    }

    /// Reacts to the inputs that wait, in order, as long as the instance goes on.
    pub fn go_on(&mut self) {
        for _ in 0..AT_ONCE {
            let goes_on = matches!(self.instance.status, Status::Running | Status::Ended);
            let Some(first) = self.instance.held.front().filter(|_| goes_on) else {
                return;
            };
            let first = first.clone();
            self.react(&first, true);
        }
    }

    /// Reacts to an input that does not wait.
    pub fn handle(&mut self, input: Arrived) {
        self.react(&input, false);
    }

    /// Reacts to one input, which is the first of those that wait or none of them.
    pub(super) fn react(&mut self, arrived: &Arrived, waits: bool) {
        let cause = arrived.cause();
        let reaction = match self.reaction(arrived) {
            Ok(reaction) => reaction,
            Err(reason) => return self.park(reason, arrived, waits),
        };
        // An event that nothing follows from leaves no trace. Whatever else came is settled by it.
        if reaction.is_nothing() && !waits && matches!(cause, Cause::Event { .. }) {
            return;
        }
        if let Err(reason) = self.store(cause, reaction) {
            self.park(reason, arrived, waits);
        }
    }

    fn reaction(&self, arrived: &Arrived) -> Result<Reaction<P::Fact>, String> {
        if self.instance.status == Status::Ended {
            return Ok(Reaction::nothing());
        }
        let Some(input) = self.instance.input(arrived) else {
            return Ok(Reaction::nothing());
        };
        if matches!(arrived, Arrived::Answered { .. }) && self.instance.steps >= MAX_STEPS {
            return Err(format!(
                "{MAX_STEPS} steps have led from one to the next, without an event or a deadline between them"
            ));
        }
        let react = || self.instance.process.react(&input, self.settings, self.at);
        match catch_unwind(AssertUnwindSafe(react)) {
            Ok(Ok(reaction)) => Ok(reaction),
            Ok(Err(error)) => Err(error.to_string()),
            Err(panic) => Err(format!("react panicked: {}", message(panic.as_ref()))),
        }
    }

    /// Stores a step, unless it cannot be stored or folded.
    fn store(&mut self, input: Cause, reaction: Reaction<P::Fact>) -> Result<(), String> {
        let step = self.step(input, &reaction)?;
        let mut records = vec![Record::Stepped(step)];
        records.extend(reaction.facts.into_iter().map(Record::Fact));
        let mut instance = self.instance.clone();
        for record in &records {
            if let Record::Fact(fact) = record {
                check_fact::<P>(fact)?;
            }
            if !instance.try_evolve(record) {
                return Err("evolve panicked at a fact of this step".to_owned());
            }
        }
        self.instance = instance;
        self.records.extend(records);
        Ok(())
    }

    fn step(&self, input: Cause, reaction: &Reaction<P::Fact>) -> Result<Step, String> {
        let number = self.at.version + self.records.len() as u64 + 1;
        let sends = reaction.sends.len();
        if sends > MAX_SENDS {
            return Err(format!(
                "a step sends at most {MAX_SENDS} commands, and this one would send {sends}"
            ));
        }
        for sending in &reaction.sends {
            let (aggregate, id) = (&*sending.aggregate, &sending.id);
            if !P::TARGETS.contains(&aggregate) {
                return Err(format!("{aggregate} is not among the process's TARGETS"));
            }
            if !is_id(id) {
                return Err(format!("{id:?} is not the id of an aggregate"));
            }
            if sending.body.to_string().len() > MAX_BODY {
                return Err(format!("a command to {aggregate} {id} is too large"));
            }
        }
        let deadlines = &self.instance.deadlines;
        let ended = reaction.ends || self.instance.status == Status::Ended;
        let goes = |name: &String| {
            ended
                || reaction.cancels.contains(name)
                || reaction.sets.iter().any(|(set, _)| set == name)
        };
        let due = match &input {
            Cause::Due { name, .. } => Some(name),
            _ => None,
        };
        let gone = deadlines.values();
        let gone = gone.filter(|one| goes(&one.name) && due != Some(&one.name));
        let cancel = gone.cloned().collect();
        let mut set: Vec<Deadline> = Vec::new();
        for (name, at) in reaction.sets.iter().filter(|_| !ended) {
            if !is_id(name) {
                return Err(format!("{name:?} is not the name of a deadline"));
            }
            set.retain(|earlier| earlier.name != *name);
            set.push(Deadline {
                name: name.clone(),
                at: *at,
                armed: number,
            });
        }
        if deadlines.len() + set.len() > MAX_DEADLINES {
            return Err(format!("an instance has at most {MAX_DEADLINES} deadlines"));
        }
        Ok(Step {
            step: number,
            input,
            send: reaction.sends.clone(),
            set,
            cancel,
            ended: reaction.ends,
        })
    }

    fn park(&mut self, mut reason: String, input: &Arrived, waits: bool) {
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        let input = (!waits).then(|| input.clone());
        self.note(Record::Parked { reason, input });
    }
}

/// Refuses a fact that could not be read again.
fn check_fact<P: Process>(fact: &P::Fact) -> Result<(), String> {
    let written = serde_json::to_value(fact);
    let written = written.map_err(|error| format!("a fact cannot be written: {error}"))?;
    let named = written["type"].as_str().unwrap_or_default();
    let of_this = named
        .strip_prefix(P::NAME)
        .is_some_and(|rest| rest.starts_with('.'));
    if !of_this || record::own::<P>(named).is_some() {
        return Err(format!("{named:?} is not the storage name of a fact"));
    }
    Ok(())
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

/// Returns whether a text is an id: 1 to 64 of `A-Z a-z 0-9 _ -`, and not `live`.
pub(super) fn is_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=64).contains(&text.len()) && text != "live" && text.bytes().all(allowed)
}

impl ReactError {
    /// Returns whether another build may know what could not be decoded.
    #[must_use]
    pub fn is_unknown_type(&self) -> bool {
        matches!(self, Self::Decode(error) if error.is_unknown_type())
    }
}
