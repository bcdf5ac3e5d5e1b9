//! A copy of the stream as the server itself makes it, and a stream from one.
//!
//! It is what `nats stream backup` writes too: the configuration and the state of the stream as JSON, and its
//! files as one archive, which only a server reads. The server sends it in chunks and waits for each to be
//! acknowledged, so nothing is held in memory.

use super::{ApiPrefix, EventLog, LoadError, secret, subject::STREAM};
use async_nats::Subscriber;
use bytes::Bytes;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{io, time::Duration};

/// The bytes of one chunk.
const CHUNK: usize = 128 << 10;
/// The time the next chunk, or the answer to one, is waited for.
const WAIT: Duration = Duration::from_secs(30);
/// The time the server has to make a stream of what it was sent.
const RESTORING: Duration = Duration::from_secs(600);

/// A copy that is being received.
pub struct Copying {
    /// The configuration of the stream.
    pub config: Map<String, Value>,
    /// Its state when the copy was begun.
    pub state: Map<String, Value>,
    log: EventLog,
    chunks: Subscriber,
}

/// The way the unique keys of a log are hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeysHidden {
    /// Nobody has had one so far.
    NotYet,
    /// Under the log's own salt, which is in it.
    LogSalt,
    /// Under a secret of the deployment, which is not in it.
    SecretFile,
}

/// A log cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is one.
    #[error("the stream {STREAM} is there already: delete it first, or restore into another NATS")]
    There,
    /// The input of a restore is no copy of a log.
    #[error("it is no copy of the stream {STREAM}")]
    NoCopy,
    /// The copy cannot be read.
    #[error("the copy cannot be read: {0}")]
    File(#[from] io::Error),
    /// The server does not answer, or does not take it.
    #[error("the server does not restore it: {0}")]
    Server(String),
}

#[derive(Deserialize)]
struct Answer {
    error: Option<async_nats::jetstream::Error>,
    config: Option<Map<String, Value>>,
    state: Option<Map<String, Value>>,
    deliver_subject: Option<String>,
}

impl EventLog {
    /// Has the server make a copy of the log, which it checks for damage before.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when it cannot.
    pub async fn copy(&self) -> Result<Copying, LoadError> {
        let away = |error: &dyn std::fmt::Display| LoadError::Unavailable(error.to_string());
        let inbox = self.client().new_inbox();
        let chunks = self.client().subscribe(inbox.clone()).await;
        let chunks = chunks.map_err(|error| away(&error))?;
        let asked = json!({
            "deliver_subject": inbox, "no_consumers": true, "jsck": true, "chunk_size": CHUNK,
        });
        let verb = format!("STREAM.SNAPSHOT.{STREAM}");
        // The server looks through all of the stream before it answers.
        let answer = request(self, &verb, &asked, RESTORING).await;
        let answer = answer.map_err(|error| away(&error))?;
        if let Some(error) = answer.error {
            return Err(away(&error));
        }
        let no_state = || LoadError::Corrupt("a copy without a state".to_owned());
        Ok(Copying {
            config: answer.config.ok_or_else(no_state)?,
            state: answer.state.ok_or_else(no_state)?,
            log: self.clone(),
            chunks,
        })
    }

    /// Makes the log of a copy. `next` gives its chunks, and `None` after the last.
    ///
    /// # Errors
    ///
    /// Returns [`RestoreError`]. What was sent of it is thrown away by the server.
    pub async fn restore_copy(
        &self,
        config: &Map<String, Value>,
        state: &Map<String, Value>,
        mut next: impl FnMut(usize) -> io::Result<Option<Bytes>>,
    ) -> Result<(), RestoreError> {
        if config.get("name").and_then(Value::as_str) != Some(STREAM) {
            return Err(RestoreError::NoCopy);
        }
        let asked = json!({ "config": config, "state": state });
        let verb = format!("STREAM.RESTORE.{STREAM}");
        let answer = request(self, &verb, &asked, WAIT).await;
        let answer = refused(answer.map_err(RestoreError::Server)?)?;
        let to = answer.deliver_subject;
        let to = to.ok_or_else(|| RestoreError::Server("it does not say where to".to_owned()))?;
        while let Some(chunk) = next(CHUNK)? {
            let taken = self.sent(&to, chunk, WAIT).await?;
            // An answer that says something is a refusal.
            if !taken.is_empty() {
                let answer = serde_json::from_slice(&taken);
                let answer = answer.map_err(|error| RestoreError::Server(error.to_string()))?;
                refused(answer)?;
            }
        }
        let done = self.sent(&to, Bytes::new(), RESTORING).await?;
        let done = serde_json::from_slice(&done);
        refused(done.map_err(|error| RestoreError::Server(error.to_string()))?)?;
        self.suspect("a copy was restored");
        Ok(())
    }

    async fn sent(&self, to: &str, chunk: Bytes, within: Duration) -> Result<Bytes, RestoreError> {
        let request = async_nats::Request::new().payload(chunk);
        let answer = self.ask(to.to_owned(), request, within).await;
        let answer = answer.map_err(|error| RestoreError::Server(error.to_string()))?;
        Ok(answer.payload)
    }

    /// Returns how the unique keys of the log are hidden.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn keys_hidden(&self) -> Result<KeysHidden, LoadError> {
        let stored = self.last_message(secret::SUBJECT).await?;
        Ok(
            match stored.map(|stored| secret::is_salt(&stored.payload)) {
                None => KeysHidden::NotYet,
                Some(true) => KeysHidden::LogSalt,
                Some(false) => KeysHidden::SecretFile,
            },
        )
    }

    /// Returns whether there is a log.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the server cannot be asked.
    pub async fn is_there(&self) -> Result<bool, LoadError> {
        use async_nats::jetstream::ErrorCode;
        let answer = request(self, &format!("STREAM.INFO.{STREAM}"), &json!({}), WAIT).await;
        match answer.map_err(LoadError::Unavailable)?.error {
            None => Ok(true),
            Some(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(false),
            Some(error) => Err(LoadError::Unavailable(error.to_string())),
        }
    }
}

impl Copying {
    /// Receives the next chunk; `None` after the last.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the server stops in between: the copy is of no use then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LoadError> {
        let away = |reason: &dyn std::fmt::Display| LoadError::Unavailable(reason.to_string());
        let next = tokio::time::timeout(WAIT, self.chunks.next()).await;
        let next = next.map_err(|_| away(&"the server does not go on with the copy"))?;
        let chunk = next.ok_or_else(|| away(&"the connection was closed"))?;
        if let Some(status) = chunk.status.filter(|status| status.as_u16() >= 400) {
            let said = chunk.description.unwrap_or_default();
            return Err(away(&format!("the server ends the copy: {status} {said}")));
        }
        if chunk.payload.is_empty() {
            return Ok(None);
        }
        if let Some(reply) = chunk.reply {
            let acknowledged = self.log.client().publish(reply, Bytes::new()).await;
            acknowledged.map_err(|error| away(&error))?;
        }
        Ok(Some(chunk.payload))
    }
}

fn refused(answer: Answer) -> Result<Answer, RestoreError> {
    match &answer.error {
        None => Ok(answer),
        // The name is in use.
        Some(error) if error.error_code().0 == 10_058 || error.error_code().0 == 10_130 => {
            Err(RestoreError::There)
        }
        Some(error) => Err(RestoreError::Server(error.to_string())),
    }
}

async fn request(
    log: &EventLog,
    verb: &str,
    body: &Value,
    within: Duration,
) -> Result<Answer, String> {
    let api: &ApiPrefix = log.api_prefix();
    let request = async_nats::Request::new().payload(body.to_string().into());
    let answer = log.ask(api.subject(verb), request, within).await;
    let answer = answer.map_err(|error| error.to_string())?;
    serde_json::from_slice(&answer.payload).map_err(|error| error.to_string())
}
