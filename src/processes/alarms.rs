//! Acts on alarms that have fired, and arms all again that the log tells of where they were lost.

use super::{
    desk::{Desk, Tries},
    home,
    outbox::alarm,
};
use crate::{
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
            let Alarm { name, armed, .. } = alarm;
            desk.give(&instance, Arrived::Due { name, armed }).await;
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

/// Arms all alarms again that the log tells of, unless the stream is known to have them.
pub(super) async fn restore(desk: &Desk) -> Result<(), RestoreError> {
    let process = desk.process.name;
    let log = desk.log.name().await?;
    if desk.log.has_alarms(process, log).await? {
        return Ok(());
    }
    let open = open_deadlines(desk).await?;
    let count = open.len();
    let arming = open.into_iter().map(|((id, _), deadline)| async move {
        match Id::new(id) {
            Ok(id) => {
                desk.log
                    .arm(&alarm(desk, &id, &deadline), deadline.at)
                    .await
            }
            Err(_) => Ok(()),
        }
    });
    let mut arming = futures::stream::iter(arming).buffer_unordered(ARMING);
    while let Some(armed) = arming.next().await {
        armed?;
    }
    desk.log.note_alarms(process, log).await?;
    if count > 0 {
        tracing::info!(process.name = process, alarms = count, "armed again");
    }
    Ok(())
}

type Open = BTreeMap<(String, String), Deadline>;

/// Reads all steps of the process, and returns the deadlines that still stand.
async fn open_deadlines(desk: &Desk) -> Result<Open, RestoreError> {
    let name = desk.process.name;
    let end = desk.log.end().await?;
    let options = ReaderOptions {
        stream: STREAM.to_owned(),
        name: format!("process-{name}-alarms"),
        aggregates: vec![name.to_owned()],
        prefetch: ReaderOptions::PREFETCH,
        inactive: ReaderOptions::PASSING,
    };
    let beginning = desk.log.beginning_of(name).await?;
    let mut reader = Reader::open(&desk.log, &options, beginning.min(end)).await?;
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
                open.insert((id(), deadline.name.clone()), deadline);
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
