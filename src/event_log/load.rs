//! Reading one aggregate's history.
//!
//! The bulk comes by batch direct get, which any replica of the stream may answer and which may
//! therefore be behind; what is not there yet is read through the stream leader. So a load is
//! complete up to the leader's last commit at the time of asking.

mod stored;

pub use stored::{LoadError, StoredMessage};

use super::{EventLog, subject::STREAM};
use async_nats::{
    StatusCode,
    client::RequestErrorKind,
    jetstream::{ErrorCode, message::StreamMessage},
};
use base64::Engine;
use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;
use serde::Deserialize;

/// The number of messages one batch direct get asks for.
const BATCH: usize = 256;
/// The number of bytes one batch direct get asks for.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// The header that says which trace a commit belongs to.
const TRACEPARENT: &str = "traceparent";
/// The number of looks further back for messages that came before others.
const LOOKS_BACK: usize = 16;

/// The number of histories that are read at once. The server looks through all that lies between the messages
/// of one: were those of a thousand aggregates asked for together, all answers would be late, and
/// be asked for again.
pub(super) const AT_ONCE: usize = 16;

#[derive(Deserialize)]
struct Got {
    message: Option<GotMessage>,
    error: Option<async_nats::jetstream::Error>,
}

#[derive(Deserialize)]
struct GotMessage {
    subject: String,
    seq: u64,
    time: Timestamp,
    #[serde(default)]
    data: String,
    /// The headers as they stand on the wire, in Base64.
    #[serde(default)]
    hdrs: String,
}

/// A message with its headers as they stand on the wire.
pub(super) type WithHeaders = (StoredMessage, Vec<u8>);

impl EventLog {
    /// Reads the last message of a subject through the stream leader.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn last_message(&self, subject: &str) -> Result<Option<StoredMessage>, LoadError> {
        self.message_from_leader(&serde_json::json!({ "last_by_subj": subject }))
            .await
    }

    /// Reads the last message of a subject from whichever server has the stream at hand, which may
    /// be behind the leader. Much cheaper than [`EventLog::last_message`].
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn last_message_at_hand(
        &self,
        subject: &str,
    ) -> Result<Option<StoredMessage>, LoadError> {
        let request = async_nats::Request::new().payload(Bytes::new());
        let direct = self
            .0
            .api
            .subject(&format!("DIRECT.GET.{STREAM}.{subject}"));
        let reply = self.ask(direct, request, self.0.timeouts.load).await;
        let reply = reply.map_err(|error| LoadError::Unavailable(error.to_string()))?;
        match reply.status {
            Some(StatusCode::NOT_FOUND) => return Ok(None),
            Some(status) => return Err(LoadError::Unavailable(status.to_string())),
            None => {}
        }
        stored(reply).map(Some)
    }

    /// Reads the message at a position through the stream leader; `None` when there is none.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn message_at(&self, position: u64) -> Result<Option<StoredMessage>, LoadError> {
        self.message_from_leader(&serde_json::json!({ "seq": position }))
            .await
    }

    /// Reads the first message of a subject after a position, through the stream leader.
    ///
    /// With the position that an append expected, this settles an append in doubt: what stands
    /// there is either that commit, or somebody else's, or nothing.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn commit_after(
        &self,
        subject: &str,
        position: u64,
    ) -> Result<Option<StoredMessage>, LoadError> {
        self.message_from_leader(
            &serde_json::json!({ "next_by_subj": subject, "seq": position + 1 }),
        )
        .await
    }

    /// Reads the next messages of a subject after `after` and up to `last`, in order: at least one
    /// when there are any, and no more than a batch of them.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn next_messages(
        &self,
        subject: &str,
        after: u64,
        last: u64,
    ) -> Result<Vec<StoredMessage>, LoadError> {
        if after >= last {
            return Ok(Vec::new());
        }
        let _turn = self.0.loads.acquire().await;
        let mut messages = Vec::new();
        self.direct_batch(subject, after, &mut messages).await?;
        if messages.is_empty() {
            messages.extend(self.commit_after(subject, after).await?);
        }
        messages.retain(|message: &StoredMessage| message.position <= last);
        Ok(messages)
    }

    /// Reads all messages of a subject after `after` and up to `last`, in order.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn messages(
        &self,
        subject: &str,
        after: u64,
        last: u64,
    ) -> Result<Vec<StoredMessage>, LoadError> {
        let mut messages: Vec<StoredMessage> = Vec::new();
        loop {
            let position = messages.last().map_or(after, |last| last.position);
            let next = self.next_messages(subject, position, last).await?;
            if next.is_empty() {
                return Ok(messages);
            }
            messages.extend(next);
        }
    }

    /// Returns the position of the first message of a subject that was stored at a time or after; `None` when
    /// there is none.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn first_since(
        &self,
        subject: &str,
        time: Timestamp,
    ) -> Result<Option<u64>, LoadError> {
        let query = serde_json::json!({
            "batch": 1,
            "next_by_subj": subject,
            "start_time": time.to_string(),
        });
        let mut found = Vec::new();
        let _turn = self.0.loads.acquire().await;
        self.direct(&query, stored, &mut found).await?;
        Ok(found.first().map(|first: &StoredMessage| first.position))
    }

    /// Reads some messages of a subject before a position, in order: those that come last, as many as
    /// asked for where they stand close together, and at least a few of them where they do not. However
    /// long the history is, it is not read from its beginning.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn messages_before(
        &self,
        subject: &str,
        position: u64,
        limit: usize,
    ) -> Result<Vec<StoredMessage>, LoadError> {
        let mut found: Vec<StoredMessage> = Vec::new();
        let mut before = position;
        for _ in 0..LOOKS_BACK {
            let last = before.saturating_sub(1);
            if last == 0 || found.len() >= limit {
                break;
            }
            let mut latest = Vec::new();
            let query = serde_json::json!({ "multi_last": [subject], "up_to_seq": last });
            let turn = self.0.loads.acquire().await;
            self.direct(&query, stored, &mut latest).await?;
            drop(turn);
            let Some(latest) = latest.pop().filter(|latest| latest.position <= last) else {
                break;
            };
            before = latest.position.saturating_sub(BATCH as u64) + 1;
            let mut earlier = self
                .messages(subject, before - 1, latest.position - 1)
                .await?;
            earlier.push(latest);
            found.splice(..0, earlier);
        }
        Ok(found.split_off(found.len().saturating_sub(limit)))
    }

    async fn message_from_leader(
        &self,
        query: &serde_json::Value,
    ) -> Result<Option<StoredMessage>, LoadError> {
        let found = self.with_headers_from_leader(query).await?;
        Ok(found.map(|(message, _)| message))
    }

    /// Reads a message with its headers through the stream leader.
    pub(super) async fn with_headers_from_leader(
        &self,
        query: &serde_json::Value,
    ) -> Result<Option<WithHeaders>, LoadError> {
        let got: Got = self.api(&format!("STREAM.MSG.GET.{STREAM}"), query).await?;
        if let Some(error) = got.error {
            // By its own code: a stream that is not there is a 404 as well, and no empty one.
            return match error.error_code() {
                ErrorCode::NO_MESSAGE_FOUND => Ok(None),
                _ => {
                    self.suspect("the stream cannot be read");
                    Err(LoadError::Unavailable(error.to_string()))
                }
            };
        }
        let message = got
            .message
            .ok_or_else(|| LoadError::Corrupt("an answer without a message".to_owned()))?;
        let decode = |text: String| {
            let decoded = base64::engine::general_purpose::STANDARD.decode(text);
            decoded.map_err(|error| LoadError::Corrupt(error.to_string()))
        };
        let headers = decode(message.hdrs)?;
        let stored = StoredMessage {
            subject: message.subject,
            position: message.seq,
            time: message.time.as_second(),
            stored: message.time,
            traceparent: traceparent_in(&headers),
            payload: decode(message.data)?.into(),
        };
        Ok(Some((stored, headers)))
    }

    /// Asks for the next messages of a subject by batch direct get (ADR-31), and appends what comes.
    async fn direct_batch(
        &self,
        subject: &str,
        after: u64,
        into: &mut Vec<StoredMessage>,
    ) -> Result<(), LoadError> {
        let query = serde_json::json!({
            "batch": BATCH,
            "max_bytes": BATCH_BYTES,
            "next_by_subj": subject,
            "seq": after + 1,
        });
        self.direct(&query, stored, into).await
    }

    /// Asks by a direct get that is answered with several messages, reads each, and appends what comes.
    pub(super) async fn direct<M>(
        &self,
        query: &serde_json::Value,
        read: fn(async_nats::Message) -> Result<M, LoadError>,
        into: &mut Vec<M>,
    ) -> Result<(), LoadError> {
        let unavailable = |error: &dyn std::fmt::Display| LoadError::Unavailable(error.to_string());
        let inbox = self.client().new_inbox();
        let asking = async {
            let replies = self.client().subscribe(inbox.clone()).await;
            let replies = replies.map_err(|error| unavailable(&error))?;
            let direct = self.0.api.subject(&format!("DIRECT.GET.{STREAM}"));
            let query = query.to_string().into();
            let asked = self.client().publish_with_reply(direct, inbox, query).await;
            asked.map_err(|error| unavailable(&error))?;
            Ok::<_, LoadError>(replies)
        };
        // The connection takes nothing while it is away.
        let mut replies = tokio::time::timeout(self.0.timeouts.load, asking)
            .await
            .map_err(|_| unavailable(&"the connection takes nothing"))??;
        loop {
            let reply = tokio::time::timeout(self.0.timeouts.load, replies.next())
                .await
                .map_err(|_| unavailable(&"no answer in time"))?
                .ok_or_else(|| unavailable(&"the connection was closed"))?;
            match reply.status {
                // 204 ends a batch, 404 says that there is nothing.
                Some(status) if status.as_u16() == 204 || status == StatusCode::NOT_FOUND => {
                    return Ok(());
                }
                Some(status) => return Err(unavailable(&status)),
                None => {}
            }
            into.push(read(reply)?);
        }
    }

    pub(super) async fn api<T: serde::de::DeserializeOwned>(
        &self,
        verb: &str,
        query: &serde_json::Value,
    ) -> Result<T, LoadError> {
        let request = async_nats::Request::new().payload(query.to_string().into());
        let within = self.0.timeouts.load;
        let reply = self.ask(self.0.api.subject(verb), request, within).await;
        let reply = reply.map_err(|error| match error {
            RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                LoadError::Corrupt(error.to_string())
            }
            _ => LoadError::Unavailable(error.to_string()),
        })?;
        serde_json::from_slice(&reply.payload)
            .map_err(|error| LoadError::Corrupt(error.to_string()))
    }
}

/// Reads the answer to a direct get.
pub(super) fn stored(reply: async_nats::Message) -> Result<StoredMessage, LoadError> {
    let message =
        StreamMessage::try_from(reply).map_err(|error| LoadError::Corrupt(error.to_string()))?;
    let stored = Timestamp::from_nanosecond(message.time.unix_timestamp_nanos());
    let traceparent = message.headers.get(TRACEPARENT);
    Ok(StoredMessage {
        subject: message.subject.to_string(),
        position: message.sequence,
        time: message.time.unix_timestamp(),
        stored: stored.unwrap_or_default(),
        traceparent: traceparent.map(|value| value.as_str().into()),
        payload: message.payload,
    })
}

/// Finds the trace in headers as they stand on the wire.
fn traceparent_in(headers: &[u8]) -> Option<Box<str>> {
    let headers = std::str::from_utf8(headers).ok()?;
    let mut lines = headers.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(name, _)| *name == TRACEPARENT);
    found.map(|(_, value)| value.trim().into())
}
