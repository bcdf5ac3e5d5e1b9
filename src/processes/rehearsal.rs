//! Rehearses an instance with this build: gathers what led to its steps from the log, and compares.

use super::{RegisteredProcess, shown};
use crate::{
    event_log::{EventLog, LoadError, codec, subject::Id},
    outcome::{Outcome, OutcomeEvent},
    problem::Problem,
    process::{Answer, Arrived, Cause, Rehearsed, Sending, Step, command_id},
    recorded::Recorded,
};
use std::collections::{BTreeMap, HashMap};

/// The commands of an instance, by step and number.
type Sent = HashMap<(u64, u32), Sending>;

/// Rehearses one instance. Nothing is written.
///
/// # Errors
///
/// Returns `unavailable` when the log cannot be read, `not_found` when there is no such instance.
pub async fn rehearse(
    log: &EventLog,
    process: &RegisteredProcess,
    id: &Id,
) -> Result<Rehearsed, Problem> {
    let (_, records) = shown::read(log, process.name, id).await?;
    let (mut inputs, mut sent) = (BTreeMap::new(), Sent::new());
    for record in &records {
        let Some(Ok(step)) = process.step(&record.event_type, &record.data) else {
            continue;
        };
        let input = input(log, process, id, &step, &sent).await;
        let input = input.map_err(|error| Problem::unavailable(error.to_string()))?;
        inputs.extend(input.map(|input| (step.step, input)));
        let sends = (0..).zip(step.send);
        sent.extend(sends.map(|(number, sending)| ((step.step, number), sending)));
    }
    process
        .rehearse(id.as_str(), &records, &inputs)
        .map_err(|error| Problem::unavailable(format!("the settings cannot be read: {error}")))
}

/// Returns the input that led to a step, as it stands in the log; `None` when it is not there any more.
async fn input(
    log: &EventLog,
    process: &RegisteredProcess,
    id: &Id,
    step: &Step,
    sent: &Sent,
) -> Result<Option<Arrived>, LoadError> {
    Ok(match &step.input {
        Cause::Event {
            version, position, ..
        } => {
            let events = events_at(log, *position).await?;
            let event = events.into_iter().find(|event| event.version == *version);
            event.map(Arrived::Event)
        }
        Cause::Accepted {
            step,
            number,
            version,
            position,
        } => {
            let Some(sending) = sent.get(&(*step, *number)) else {
                return Ok(None);
            };
            let command = command_id(process.name, id.as_str(), *step, *number);
            let events = events_at(log, *position).await?;
            let events = events.into_iter().filter(|it| it.command_id == command);
            let events = events.map(|event| OutcomeEvent {
                r#type: event.event_type.into(),
                version: event.version,
            });
            let outcome = Outcome {
                aggregate: sending.aggregate.clone().into(),
                id: sending.id.as_str().into(),
                version: *version,
                position: *position,
                events: events.collect(),
                replayed: false,
            };
            Some(answered(*step, *number, Answer::Accepted(outcome)))
        }
        Cause::Refused {
            step,
            number,
            code,
            detail,
        } => {
            let problem = match code.as_str() {
                "not_found" => Problem::not_found(code, detail.clone()),
                _ => Problem::refused(code, detail.clone()),
            };
            Some(answered(*step, *number, Answer::Refused(problem)))
        }
        Cause::Due { name, armed } => Some(Arrived::Due {
            name: name.clone(),
            armed: *armed,
        }),
    })
}

fn answered(step: u64, number: u32, answer: Answer) -> Arrived {
    Arrived::Answered {
        step,
        number,
        answer,
    }
}

/// The events of the commit at a position; none where it is none, or cannot be read.
async fn events_at(log: &EventLog, position: u64) -> Result<Vec<Recorded>, LoadError> {
    let Some(message) = log.message_at(position).await? else {
        return Ok(Vec::new());
    };
    let events = codec::decode(&message.subject, message.position, &message.payload);
    let events = events.unwrap_or_default().into_iter();
    Ok(events.map(|event| event.recorded).collect())
}
