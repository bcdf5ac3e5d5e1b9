//! Acts on alarms that have fired, and arms all again that the log tells of where they were lost.

use super::{
    desk::{Desk, Tries},
    home,
    outbox::{self, alarm},
};
use crate::{
    command::request::Lineage,
    event_log::{
        LoadError,
        alarms::{self, Alarm, AlarmError},
        queue::{Delivery, Queue, QueueOptions},
        reader::{ReadError, Reader, ReaderOptions},
        subject::{Id, STREAM},
        topology::{self, Topology, TopologyError},
    },
    process::{Arrived, Cause, Deadline},
    recorded::Recorded,
};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// The most alarms that one replica acts on at once.
const MOST: usize = 512;
/// The number that are armed at once where all are armed again.
const ARMING: usize = 256;
/// The number of commits that are read at once where all are armed again.
const BATCH: usize = 4_000;
/// The time a commit is waited for that the log has.
const WAIT: Duration = Duration::from_secs(2);

/// Acts on alarms until it is told to stop.
pub(super) async fn run(desk: Arc<Desk>, stopping: CancellationToken) {
    let mut tries = Tries::begin();
    let mut lost = false;
    loop {
        let acted = async {
            if lost {
                set_up(&desk).await?;
            }
            act_on_all(&desk).await
        };
        let acted: Result<(), RestoreError> = tokio::select! {
            acted = acted => acted,
            () = stopping.cancelled() => return,
        };
        lost = true;
        if let Err(error) = acted {
            let what = format!("reading the alarms of the process {}", desk.process.name);
            tokio::select! {
                () = tries.failed(&what, &error) => {}
                () = stopping.cancelled() => return,
            }
        }
    }
}

/// Brings the stream back where it is gone, with the alarms in it.
async fn set_up(desk: &Desk) -> Result<(), RestoreError> {
    let api = desk.log.api_prefix();
    let replicas = topology::replicas(desk.log.client(), api).await?;
    let topology = Topology::deadlines().with_api(api.clone());
    let topology = topology.with_replicas(u8::try_from(replicas).unwrap_or(1));
    topology.apply(desk.log.client()).await?;
    if home::is_here(&desk.membership, desk.process.name) {
        restore(desk).await?;
    }
    Ok(())
}

async fn act_on_all(desk: &Desk) -> Result<(), RestoreError> {
    let name = desk.process.name;
    let options = QueueOptions {
        stream: alarms::STREAM,
        name: format!("process-{name}"),
        subject: Alarm::all_due(name),
        after: 0,
        ack_wait: desk.options.take_over,
    };
    let queue = Queue::open(&desk.log, &options).await?;
    queue
        .for_each(MOST, |delivery| act_on(desk, delivery))
        .await?;
    Ok(())
}

/// Gives one alarm to its instance. It is forgotten before it is acknowledged, so that none is left over.
async fn act_on(desk: &Desk, delivery: Delivery) {
    let alarm = Alarm::read(&delivery);
    let instance = alarm.as_ref().and_then(|alarm| Id::new(&*alarm.id).ok());
    let work = async {
        if let (Some(alarm), Some(instance)) = (alarm, instance) {
            let Alarm {
                name,
                armed,
                correlation,
                ..
            } = alarm;
            let lineage = correlation.map(|correlation| Lineage {
                correlation_id: correlation.into(),
                causation_id: format!("{}/{instance}/{armed}", desk.process.name).into(),
            });
            let due = Arrived::Due { name, armed };
            desk.give(&instance, due, lineage).await;
        }
        if let Err(error) = desk.log.forget_alarm(&delivery).await {
            tracing::debug!(process.name = desk.process.name, %error, "an alarm is not forgotten");
        }
    };
    delivery
        .while_working(desk.options.take_over / 3, work)
        .await;
    delivery.done().await;
}

/// The reason why the alarms cannot be armed again.
#[derive(Debug, thiserror::Error)]
pub(super) enum RestoreError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Alarms(#[from] AlarmError),
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

/// Arms the alarms again that the stream is not known to have: those of the steps after the position that it names,
/// or all. Returns the position up to which it has them then.
pub(super) async fn restore(desk: &Desk) -> Result<u64, RestoreError> {
    let process = desk.process.name;
    let log = desk.log.name().await?;
    let has = desk.log.alarms_up_to(process, log).await?;
    let end = desk.log.end().await?;
    if has == end {
        return Ok(end);
    }
    // A position that this log does not reach is of what it was before it was restored.
    let beginning = desk.log.beginning_of(process).await?;
    let after = if has > end {
        beginning
    } else {
        has.max(beginning)
    };
    let open = open_deadlines(desk, after, end).await?;
    let count = open.len();
    let arming = open
        .into_iter()
        .map(|((id, _), (deadline, correlation))| async move {
            match Id::new(id) {
                Ok(id) => {
                    desk.log
                        .arm(&alarm(desk, &id, &deadline, correlation), deadline.at)
                        .await
                }
                Err(_) => Ok(()),
            }
        });
    let mut arming = futures::stream::iter(arming).buffer_unordered(ARMING);
    while let Some(armed) = arming.next().await {
        armed?;
    }
    desk.log.note_alarms(process, log, end).await?;
    if count > 0 {
        tracing::info!(process.name = process, alarms = count, after, "armed again");
    }
    Ok(end)
}

/// Notes how far the stream has the alarms of all steps, if that is further than `noted`. Where the stream says less
/// than that it is another one, or was restored, and is made whole. Returns how far it has them.
pub(super) async fn keep(desk: &Desk, noted: u64) -> Result<u64, RestoreError> {
    let process = desk.process.name;
    let log = desk.log.name().await?;
    if desk.log.alarms_up_to(process, log).await? < noted {
        return restore(desk).await;
    }
    // A step is acknowledged after its alarms are armed.
    let steps = Reader::acknowledged(&desk.log, STREAM, &outbox::consumer(process)).await?;
    match steps.filter(|steps| *steps > noted) {
        Some(steps) => {
            desk.log.note_alarms(process, log, steps).await?;
            Ok(steps)
        }
        None => Ok(noted),
    }
}

/// The deadlines that stand, by instance and name, each with the correlation id of its step.
type Open = BTreeMap<(String, String), (Deadline, String)>;

/// Reads the steps of the process after one position and up to another, and returns the deadlines of them that still
/// stand.
async fn open_deadlines(desk: &Desk, after: u64, end: u64) -> Result<Open, RestoreError> {
    let name = desk.process.name;
    let options = ReaderOptions {
        stream: STREAM.to_owned(),
        name: format!("process-{name}-alarms"),
        aggregates: vec![name.to_owned()],
        prefetch: ReaderOptions::PREFETCH,
        inactive: ReaderOptions::PASSING,
    };
    let mut reader = Reader::open(&desk.log, &options, after.min(end)).await?;
    let mut open = Open::new();
    let mut pending = reader.pending();
    while pending > 0 {
        for commit in reader.next_batch(BATCH, WAIT).await? {
            pending = commit.pending;
            if commit.position > end {
                // What comes later is armed by its step.
                pending = 0;
                break;
            }
            for event in commit.events.unwrap_or_default() {
                fold(desk, &mut open, &event);
            }
            let last = commit.position;
            reader.ack(last).await?;
        }
    }
    drop(reader);
    Reader::forget(&desk.log, STREAM, &options.name).await?;
    Ok(open)
}

fn fold(desk: &Desk, open: &mut Open, event: &Recorded) {
    let id = || event.id.clone();
    match desk.process.record(&event.event_type) {
        Some("stepped") => {
            let Some(Ok(step)) = desk.process.step(&event.event_type, &event.data) else {
                return;
            };
            if let Cause::Due { name, .. } = step.input {
                open.remove(&(id(), name));
            }
            for deadline in step.cancel {
                open.remove(&(id(), deadline.name));
            }
            for deadline in step.set {
                let correlation = event.correlation_id.clone();
                open.insert((id(), deadline.name.clone()), (deadline, correlation));
            }
        }
        Some("skipped") => {
            if let Ok(skipped) = serde_json::from_str::<Skipped>(event.data.get())
                && let Cause::Due { name, .. } = skipped.input
            {
                open.remove(&(id(), name));
            }
        }
        Some("ended") => {
            for deadline in cancelled(&event.data) {
                open.remove(&(id(), deadline.name));
            }
        }
        _ => {}
    }
}

#[derive(Deserialize)]
struct Skipped {
    input: Cause,
}

/// The deadlines that an operator's end has cancelled.
pub(super) fn cancelled(data: &RawValue) -> Vec<Deadline> {
    #[derive(Deserialize)]
    struct Ended {
        #[serde(default)]
        cancel: Vec<Deadline>,
    }
    let ended = serde_json::from_str::<Ended>(data.get());
    ended.map(|ended| ended.cancel).unwrap_or_default()
}
