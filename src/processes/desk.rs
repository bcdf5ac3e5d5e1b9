//! Common parts of a running process: giving inputs and commands until they are answered.

use super::{ProcessOptions, RegisteredProcess, failpoint};
use crate::{
    command::{
        client::{CommandClient, untag},
        memory::LATE,
        request::{CommandHeaders, CommandRequest, Lineage},
    },
    event_log::{Epoch, EventLog, subject::Id},
    membership::Membership,
    outcome::Outcome,
    problem::Problem,
    process::{Answer, Arrived, InstanceCommand, Sending},
};
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use metrics::counter;
use std::time::Duration;
use tokio::time::Instant;

/// The pauses between tries of what passes by itself.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(50))
    .with_max_delay(Duration::from_secs(10))
    .without_max_times()
    .with_jitter();
/// After so many tries it is told that something does not work.
const TELL_AFTER: u32 = 6;

/// The common parts of one process.
pub(super) struct Desk {
    pub process: RegisteredProcess,
    pub log: EventLog,
    pub commands: CommandClient,
    pub membership: Membership,
    pub options: ProcessOptions,
}

/// Tries of one thing.
pub(super) struct Tries {
    pauses: ExponentialBackoff,
    count: u32,
}

impl Tries {
    pub fn begin() -> Self {
        Self {
            pauses: PAUSES.build(),
            count: 0,
        }
    }

    /// Pauses after a failure, and tells of it when there were many.
    pub async fn failed(&mut self, what: &str, why: &(dyn std::fmt::Display + Sync)) {
        self.count += 1;
        if self.count.is_multiple_of(TELL_AFTER) {
            tracing::warn!(tries = self.count, error = %why, "{what} does not work; it is tried again");
        }
        let pause = self.pauses.next().unwrap_or(Duration::from_secs(10));
        tokio::time::sleep(pause).await;
    }
}

impl Desk {
    /// Gives an event to an instance until it is stored.
    pub async fn give_event(&self, instance: &Id, input: Arrived) {
        let lineage = lineage(&input);
        self.give(instance, input, lineage).await;
    }

    /// Gives an input to an instance until it is stored. `lineage` says what it follows from.
    pub async fn give(&self, instance: &Id, input: Arrived, lineage: Option<Lineage>) {
        let kind = match &input {
            Arrived::Event(_) | Arrived::Late(_) => "event",
            Arrived::Answered { .. } => "answer",
            Arrived::Due { .. } => "deadline",
        };
        let command = InstanceCommand::Handle {
            input,
            settings: self.process.settings.clone(),
        };
        let mut tries = Tries::begin();
        while let Err(problem) = self.ask_as(instance, &command, lineage.clone()).await {
            let what = format!("giving an {kind} to {} {instance}", self.process.name);
            tries.failed(&what, &problem).await;
        }
        failpoint::pass(kind);
        counter!("headwater_process_inputs_total", "process" => self.process.name, "input" => kind)
            .increment(1);
    }

    /// Returns whether a command waits for its answer, as the instance knows it.
    pub async fn is_awaited(&self, instance: &Id, step: u64, number: u32) -> bool {
        let command = InstanceCommand::Await { step, number };
        let mut tries = Tries::begin();
        loop {
            match self.ask(instance, &command).await {
                Ok(_) => return true,
                Err(problem) if problem.code == "not_awaited" => return false,
                Err(problem) => {
                    let what = format!("asking {} {instance}", self.process.name);
                    tries.failed(&what, &problem).await;
                }
            }
        }
    }

    /// Gives a command to a process instance, once.
    pub async fn ask(&self, instance: &Id, command: &InstanceCommand) -> Result<Outcome, Problem> {
        self.ask_as(instance, command, None).await
    }

    async fn ask_as(
        &self,
        instance: &Id,
        command: &InstanceCommand,
        lineage: Option<Lineage>,
    ) -> Result<Outcome, Problem> {
        let (command, body) = untag(command)?;
        let request = CommandRequest {
            aggregate: self.process.name.into(),
            id: instance.clone(),
            command: command.into(),
            body,
            headers: CommandHeaders {
                lineage,
                ..CommandHeaders::default()
            },
        };
        self.commands.execute_for_process(request).await
    }

    /// Sends a command under this id until it is answered; `None` when another replica has had the answer
    /// meanwhile. Where it was sent before, or may have been, it is looked for in the log of the aggregate from
    /// its step's position on, and its outcome is that of the first time.
    pub async fn send(
        &self,
        sending: &Sending,
        command_id: &str,
        lineage: Lineage,
        step: &Sent<'_>,
    ) -> Option<Answer> {
        let Ok(id) = Id::new(sending.id.as_str()) else {
            let detail = format!("{:?} is no id", sending.id);
            return Some(Answer::Refused(Problem::malformed("id".to_owned(), detail)));
        };
        let mut before = step.delivered.again;
        let mut copies = Copies::of(&step.delivered);
        let mut tries = Tries::begin();
        loop {
            // Who was stopped, or cut off, for a while may no longer be the one to send it: what an answer has
            // led to must not be overtaken.
            if before && !self.is_awaited(step.instance, step.step, step.number).await {
                return None;
            }
            failpoint::pass("before_sending");
            let request = CommandRequest {
                aggregate: sending.aggregate.clone().into(),
                id: id.clone(),
                command: sending.command.as_str().into(),
                body: sending.body.to_string().into(),
                headers: CommandHeaders {
                    idempotency_key: Some(command_id.into()),
                    if_match: sending.expected,
                    asked_again: before.then_some(step.delivered.position),
                    lineage: Some(lineage.clone()),
                    ..CommandHeaders::default()
                },
            };
            let answered = self.commands.execute_for_process(request).await;
            let result = match &answered {
                Ok(_) => "accepted",
                Err(problem) if is_answer(problem) => "refused",
                Err(_) => "tried_again",
            };
            counter!("headwater_process_commands_total", "process" => self.process.name, "result" => result)
                .increment(1);
            match answered {
                Ok(outcome) => return Some(Answer::Accepted(outcome)),
                Err(problem) if is_answer(&problem) => match copies.rest(self.log.epoch()) {
                    // Asked once more then, the outcome of one that was carried out is found in the log.
                    Some(until) => {
                        before = true;
                        tokio::time::sleep_until(until).await;
                    }
                    None => return Some(Answer::Refused(problem)),
                },
                Err(problem) => {
                    let what = format!("{} {} {id}", sending.command, sending.aggregate);
                    before = true;
                    // Of what was refused as too much nothing is under way.
                    if problem.status != 429 {
                        copies.may_come();
                    }
                    tries.failed(&what, &problem).await;
                }
            }
        }
    }
}

/// A command of a step, by its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent<'a> {
    /// The instance whose step it is.
    pub instance: &'a Id,
    /// The number of the step.
    pub step: u64,
    /// The number of the command in its step.
    pub number: u32,
    /// The delivery of the step.
    pub delivered: Delivered,
}

/// The delivery of a step to be carried out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivered {
    /// The position of the step's commit.
    pub position: u64,
    /// True if it may have been carried out before.
    pub again: bool,
    /// True if others may be carrying it out.
    pub copies: bool,
    /// The epoch of the log in which it came.
    pub epoch: Epoch,
}

/// Copies of a command that may be carried out yet, so that a refusal of this one decides nothing.
struct Copies {
    /// When each has been carried out or never will be.
    until: Option<Instant>,
    epoch: Epoch,
}

impl Copies {
    fn of(delivered: &Delivered) -> Self {
        let mut copies = Self {
            until: None,
            epoch: delivered.epoch,
        };
        if delivered.copies {
            copies.may_come();
        }
        copies
    }

    fn may_come(&mut self) {
        self.until = Some(Instant::now() + LATE);
    }

    /// Returns until when nothing is decided, once for each reason there is.
    fn rest(&mut self, now: Epoch) -> Option<Instant> {
        if self.epoch != now {
            // The step may have been delivered anew, to somebody who sends a copy.
            self.epoch = now;
            self.may_come();
        }
        self.until.take().filter(|until| Instant::now() < *until)
    }
}

/// The meaning of an event for what follows from it.
fn lineage(input: &Arrived) -> Option<Lineage> {
    let (Arrived::Event(event) | Arrived::Late(event)) = input else {
        return None;
    };
    Some(Lineage {
        correlation_id: event.correlation_id.as_str().into(),
        causation_id: format!("{}/{}/{}", event.aggregate, event.id, event.version).into(),
    })
}

/// Returns whether a problem is what the aggregate answers, and not that there is no answer yet. A replica of
/// an older build may not know the command: another one will.
fn is_answer(problem: &Problem) -> bool {
    let unknown = ["unknown_aggregate", "unknown_command"].contains(&problem.code.as_str());
    matches!(problem.status, 400 | 404 | 409 | 412 | 413) && !unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_aggregate_answers_is_an_answer() {
        for answer in [
            Problem::refused("out_of_stock", ""),
            Problem::not_found("not_found", ""),
            Problem::version_mismatch(3),
            Problem::malformed("x".to_owned(), ""),
        ] {
            assert!(is_answer(&answer), "{answer}");
        }
        for none in [
            Problem::overloaded(),
            Problem::internal(),
            Problem::unavailable(""),
            Problem::expired(),
            Problem::unreadable(1, ""),
            Problem::not_found("unknown_command", ""),
        ] {
            assert!(!is_answer(&none), "{none}");
        }
    }
}
