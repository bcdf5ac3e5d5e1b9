//! The alarm clocks of processes: schedules of the stream `DEADLINES` (ADR-51).
//!
//! `sched.<process>.<id>.<deadline>.<step>` fires `due.<process>.<id>.<deadline>.<step>`. The step that armed
//! an alarm is part of its subject, so that one that is armed late, or again, is never taken for a newer one.
//! An alarm is no truth: whether a deadline still stands is known from the log. All alarms can be armed again
//! from there. The stream's message `armed.<process>` names the log whose alarms it has, and the position up to
//! which it has those of all steps: what was armed later is armed again whenever the process begins to be
//! followed, so that a stream that was made anew, or restored from an older backup, is made whole.

use super::{EventLog, LogName, queue::Delivery};
use async_nats::{HeaderMap, jetstream::response::Response};
use futures::StreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{error::Error as StdError, time::Duration};

/// The stream that the alarms are in.
pub const STREAM: &str = "DEADLINES";
/// The time an answer is waited for.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// The process.
    pub process: String,
    /// The instance.
    pub id: String,
    /// The deadline's name.
    pub name: String,
    /// The step that armed it.
    pub armed: u64,
    /// The correlation id of that step, which what follows from the alarm has too.
    pub correlation: Option<String>,
}

/// The alarms cannot be reached now.
#[derive(Debug, thiserror::Error)]
#[error("the stream {STREAM} does not answer: {0}")]
pub struct AlarmError(#[source] Box<dyn StdError + Send + Sync>);

impl AlarmError {
    fn of(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

/// The log that a stream has all alarms of.
#[derive(Serialize, Deserialize)]
struct Armed {
    log: String,
    /// The position of the log up to which it has the alarms of all steps.
    #[serde(default)]
    up_to: u64,
}

impl Alarm {
    fn subject(&self, first: &str) -> String {
        let Self {
            process,
            id,
            name,
            armed,
            ..
        } = self;
        format!("{first}.{process}.{id}.{name}.{armed}")
    }

    /// The subjects of all alarms of a process that have fired.
    #[must_use]
    pub fn all_due(process: &str) -> String {
        format!("due.{process}.>")
    }

    /// Reads the alarm that has fired; `None` when the message is none.
    #[must_use]
    pub fn read(delivery: &Delivery) -> Option<Self> {
        let tokens: Vec<_> = delivery.subject.split('.').collect();
        let ["due", process, id, name, armed] = tokens[..] else {
            return None;
        };
        Some(Self {
            process: process.to_owned(),
            id: id.to_owned(),
            name: name.to_owned(),
            armed: armed.parse().ok()?,
            correlation: String::from_utf8(delivery.payload.to_vec())
                .ok()
                .filter(|id| !id.is_empty()),
        })
    }
}

impl EventLog {
    /// Has an alarm fire at a time. One whose time has come fires at once.
    ///
    /// # Errors
    ///
    /// Returns [`AlarmError`]; it may have been armed, and arming it again is right.
    pub async fn arm(&self, alarm: &Alarm, at: Timestamp) -> Result<(), AlarmError> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Schedule", format!("@at {at}"));
        headers.insert("Nats-Schedule-Target", alarm.subject("due"));
        let body = alarm.correlation.clone().unwrap_or_default().into_bytes();
        self.store(alarm.subject("sched"), headers, body).await
    }

    /// Takes an alarm away. One that fires all the same is out of date.
    ///
    /// # Errors
    ///
    /// Returns [`AlarmError`].
    pub async fn disarm(&self, alarm: &Alarm) -> Result<(), AlarmError> {
        let removing = async {
            let stream = self.jetstream().get_stream_no_info(STREAM).await;
            let stream = stream.map_err(AlarmError::of)?;
            let purging = stream.purge().filter(alarm.subject("sched"));
            purging.await.map(drop).map_err(AlarmError::of)
        };
        within(removing).await
    }

    /// Forgets an alarm that has fired and was acted on.
    ///
    /// # Errors
    ///
    /// Returns [`AlarmError`].
    pub async fn forget_alarm(&self, delivery: &Delivery) -> Result<(), AlarmError> {
        let removing = async {
            let jetstream = self.jetstream();
            // Erased, each would cost the server a rewriting of its whole block on disk.
            let which = json!({ "seq": delivery.position, "no_erase": true });
            let answered = jetstream.request(format!("STREAM.MSG.DELETE.{STREAM}"), &which);
            match answered.await.map_err(AlarmError::of)? {
                Response::Ok(Deleted { .. }) => Ok(()),
                Response::Err { error } => Err(AlarmError::of(error)),
            }
        };
        within(removing).await
    }

    /// The position of the log up to which the stream has the alarms of all steps of a process; 0 when it has those
    /// of another log, or of none.
    ///
    /// # Errors
    ///
    /// Returns [`AlarmError`].
    pub async fn alarms_up_to(&self, process: &str, log: LogName) -> Result<u64, AlarmError> {
        use async_nats::jetstream::stream::LastRawMessageErrorKind::NoMessageFound;
        let reading = async {
            let stream = self.jetstream().get_stream_no_info(STREAM).await;
            let stream = stream.map_err(AlarmError::of)?;
            let subject = format!("armed.{process}");
            match stream.get_last_raw_message_by_subject(&subject).await {
                Ok(message) => {
                    let armed = serde_json::from_slice::<Armed>(&message.payload);
                    let armed = armed.ok().filter(|armed| armed.log == log.to_string());
                    Ok(armed.map_or(0, |armed| armed.up_to))
                }
                Err(error) if error.kind() == NoMessageFound => Ok(0),
                Err(error) => Err(AlarmError::of(error)),
            }
        };
        within(reading).await
    }

    /// Reads which alarms of a process are armed or have fired, as `<process>.<id>.<deadline>.<step>`.
    ///
    /// # Errors
    ///
    /// Returns [`AlarmError`].
    pub async fn armed_alarms(&self, process: &str) -> Result<Vec<String>, AlarmError> {
        let mut armed = Vec::new();
        for first in ["sched", "due"] {
            let stream = self.jetstream().get_stream_no_info(STREAM).await;
            let stream = stream.map_err(AlarmError::of)?;
            let subjects = stream
                .info_with_subjects(format!("{first}.{process}.>"))
                .await;
            let mut subjects = subjects.map_err(AlarmError::of)?;
            while let Some(page) = subjects.next().await {
                let (subject, _) = page.map_err(AlarmError::of)?;
                let alarm = subject
                    .strip_prefix(first)
                    .and_then(|it| it.strip_prefix('.'));
                armed.extend(alarm.map(str::to_owned));
            }
        }
        Ok(armed)
    }

    /// Notes that the stream has the alarms of all steps of a process up to this position of this log.
    ///
    /// # Errors
    ///
    /// Returns [`AlarmError`].
    pub async fn note_alarms(
        &self,
        process: &str,
        log: LogName,
        up_to: u64,
    ) -> Result<(), AlarmError> {
        let log = log.to_string();
        let body = serde_json::to_vec(&Armed { log, up_to }).map_err(AlarmError::of)?;
        self.store(format!("armed.{process}"), HeaderMap::new(), body)
            .await
    }

    async fn store(
        &self,
        subject: String,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<(), AlarmError> {
        let storing = async {
            let jetstream = self.jetstream();
            let sent = jetstream.publish_with_headers(subject, headers, body.into());
            let stored = sent.await.map_err(AlarmError::of)?;
            stored.await.map(drop).map_err(AlarmError::of)
        };
        within(storing).await
    }
}

/// The server's answer to a deletion.
#[derive(Deserialize)]
struct Deleted {
    #[serde(rename = "success")]
    _success: bool,
}

async fn within<T>(work: impl Future<Output = Result<T, AlarmError>>) -> Result<T, AlarmError> {
    match tokio::time::timeout(TIMEOUT, work).await {
        Ok(done) => done,
        Err(_) => Err(AlarmError::of("no answer in time")),
    }
}
