//! Carries out what the steps of a process say: sends their commands, and arms their alarms.
//!
//! The steps are shared by all replicas with the role. One is acknowledged when the instance has stored the
//! answers to all of its commands; until then it comes again, to whoever asks next, when nothing is heard
//! of it.

use super::{
    desk::{Delivered, Desk, Sent, Tries},
    failpoint,
};
use crate::{
    command::request::Lineage,
    event_log::{
        Epoch, EventLog,
        alarms::Alarm,
        codec,
        queue::{Delivery, Queue, QueueOptions},
        reader::ReadError,
        subject::{self, Id, STREAM},
    },
    process::{Arrived, Deadline, Sending, Step, command_id},
};
use futures::future::{join, join_all};
use std::{sync::Arc, time::Duration};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// The most steps that one replica carries out at once.
const MOST: usize = 512;
/// So long after it has begun, a step is given back, to make room for others.
const PATIENCE: Duration = Duration::from_secs(120);
/// A step that was stored so long ago may have been delivered by a leader that is gone: less than electing
/// another one takes.
const ELECTION: Duration = Duration::from_secs(2);
/// After so long it comes again.
const LATER: Duration = Duration::from_secs(10);

/// Carries out steps until it is told to stop.
pub(super) async fn run(desk: Arc<Desk>, stopping: CancellationToken) {
    let mut tries = Tries::begin();
    loop {
        let carried_out = tokio::select! {
            carried_out = carry_out_all(&desk) => carried_out,
            () = stopping.cancelled() => return,
        };
        if let Err(error) = carried_out {
            let what = format!("reading the steps of the process {}", desk.process.name);
            tokio::select! {
                () = tries.failed(&what, &error) => {}
                () = stopping.cancelled() => return,
            }
        }
    }
}

/// The name of the consumer whose place tells which steps are carried out.
pub(super) fn consumer(process: &str) -> String {
    format!("process-{process}-steps")
}

async fn carry_out_all(desk: &Arc<Desk>) -> Result<(), ReadError> {
    let name = desk.process.name;
    let beginning = desk.log.beginning_of(name).await;
    let options = QueueOptions {
        stream: STREAM,
        name: consumer(name),
        subject: subject::events_of_all(name),
        after: beginning.map_err(ReadError::unavailable)?,
        ack_wait: desk.options.take_over,
    };
    let queue = Queue::open(&desk.log, &options).await?;
    let before = Mutex::new(Before::now(&desk.log).await?);
    queue
        .for_each(MOST, |delivery| carry_out(desk, delivery, &before))
        .await
}

/// The part of the log that may have been delivered before, whatever the server says: the consumer may have
/// been lost, and a server that was killed forgets its latest deliveries.
struct Before {
    /// The epoch of the log. Each new connection begins another one, before anything comes by it.
    epoch: Epoch,
    /// The end of the log in it.
    end: u64,
}

impl Before {
    async fn now(log: &EventLog) -> Result<Self, ReadError> {
        let epoch = log.epoch();
        let end = log.end().await.map_err(ReadError::unavailable)?;
        Ok(Self { epoch, end })
    }

    /// Returns whether the steps of a delivery may be, or have been, carried out by others.
    async fn has(this: &Mutex<Self>, desk: &Desk, delivery: &Delivery) -> bool {
        if delivery.repeated {
            return true;
        }
        let mut before = this.lock().await;
        let mut tries = Tries::begin();
        while before.epoch != desk.log.epoch() {
            match Self::now(&desk.log).await {
                Ok(now) => *before = now,
                Err(error) => {
                    let what = format!("reading the end of the log for {}", desk.process.name);
                    tries.failed(&what, &error).await;
                }
            }
        }
        delivery.position <= before.end
    }
}

/// Carries out the steps of one commit, and acknowledges it. Where it may have been carried out before, what was
/// sent is looked for first.
async fn carry_out(desk: &Desk, delivery: Delivery, before: &Mutex<Before>) {
    let (steps, ended) = match read(desk, &delivery) {
        Ok(read) => read,
        Err((position, reason)) => {
            // It stays where it is, and comes again: another build may read it, and its instance is not
            // loaded either.
            tracing::error!(process.name = desk.process.name, event.position = position, %reason, "a step cannot be read");
            return delivery.later(LATER).await;
        }
    };
    let Some(instance) = instance_of(&delivery) else {
        return delivery.done().await;
    };
    let epoch = desk.log.epoch();
    let copies = Before::has(before, desk, &delivery).await;
    let delivered = Delivered {
        position: delivery.position,
        // A new leader may have been elected without this connection being lost.
        again: copies || delivery.age > ELECTION,
        copies,
        epoch,
    };
    let disarm_ended = join_all(ended.iter().map(|one| disarm(desk, &instance, one)));
    let steps = steps
        .iter()
        .map(|(step, correlation)| take(desk, &instance, step, correlation, delivered));
    let work = join(join_all(steps), disarm_ended);
    let work = delivery.while_working(desk.options.take_over / 3, work);
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(_) => {
            failpoint::pass("carried_out");
            delivery.done().await;
        }
        Err(_) => delivery.later(LATER).await,
    }
}

/// Takes one step: all that it says, at the same time.
async fn take(desk: &Desk, instance: &Id, step: &Step, correlation: &str, delivered: Delivered) {
    let armed = step.set.iter();
    let armed = armed.map(|one| arm(desk, instance, one, correlation));
    let disarmed = step.cancel.iter().map(|one| disarm(desk, instance, one));
    let sends = (0..).zip(&step.send);
    let sends = sends.map(|(number, sending)| {
        let sent = Sent {
            instance,
            step: step.step,
            number,
            delivered,
        };
        async move { send(desk, &sent, sending, correlation).await }
    });
    join(join(join_all(armed), join_all(disarmed)), join_all(sends)).await;
}

/// Sends one command, and gives its answer to the instance.
async fn send(desk: &Desk, sent: &Sent<'_>, sending: &Sending, correlation: &str) {
    let (name, instance) = (desk.process.name, sent.instance);
    let command_id = command_id(name, instance.as_str(), sent.step, sent.number);
    let caused_by = |cause: String| Lineage {
        correlation_id: correlation.into(),
        causation_id: cause.into(),
    };
    let lineage = caused_by(format!("{name}/{instance}/{}", sent.step));
    let answer = desk.send(sending, &command_id, lineage, sent).await;
    // What was answered is not sent again, however long ago that was.
    let Some(answer) = answer else { return };
    let answered = Arrived::Answered {
        step: sent.step,
        number: sent.number,
        answer,
    };
    failpoint::pass("sent");
    let lineage = caused_by(command_id);
    desk.give(instance, answered, Some(lineage)).await;
}

async fn arm(desk: &Desk, instance: &Id, deadline: &Deadline, correlation: &str) {
    let alarm = alarm(desk, instance, deadline, correlation.to_owned());
    let mut tries = Tries::begin();
    while let Err(error) = desk.log.arm(&alarm, deadline.at).await {
        let what = format!("arming a deadline of {} {instance}", desk.process.name);
        tries.failed(&what, &error).await;
    }
    failpoint::pass("armed");
}

/// Takes an alarm away, if that works: it would be out of date when it fires.
async fn disarm(desk: &Desk, instance: &Id, deadline: &Deadline) {
    let alarm = alarm(desk, instance, deadline, String::new());
    if let Err(error) = desk.log.disarm(&alarm).await {
        tracing::debug!(process.name = desk.process.name, process.instance = %instance, %error, "an alarm is not taken away");
    }
}

pub(super) fn alarm(desk: &Desk, instance: &Id, deadline: &Deadline, correlation: String) -> Alarm {
    Alarm {
        process: desk.process.name.to_owned(),
        id: instance.to_string(),
        name: deadline.name.clone(),
        armed: deadline.armed,
        correlation: Some(correlation).filter(|id| !id.is_empty()),
    }
}

fn instance_of(delivery: &Delivery) -> Option<Id> {
    let (_, id) = subject::parse_events(&delivery.subject)?;
    Id::new(id).ok()
}

/// Reads the steps of a commit, each with its correlation id, and the deadlines that ended with an instance.
#[allow(clippy::type_complexity, reason = "each part is told by its name")]
fn read(
    desk: &Desk,
    delivery: &Delivery,
) -> Result<(Vec<(Step, String)>, Vec<Deadline>), (u64, String)> {
    let Delivery {
        subject,
        position,
        payload,
        ..
    } = delivery;
    let fault = |reason: String| (*position, reason);
    let events = codec::decode(subject, *position, payload);
    let events = events.map_err(|error| fault(error.to_string()))?;
    let mut steps = Vec::new();
    let mut ended = Vec::new();
    for event in events {
        let (event_type, data) = (&event.recorded.event_type, &event.recorded.data);
        if let Some(step) = desk.process.step(event_type, data) {
            steps.push((step.map_err(fault)?, event.recorded.correlation_id));
        } else if desk.process.record(event_type) == Some("ended") {
            ended.extend(super::alarms::cancelled(data));
        }
    }
    Ok((steps, ended))
}
