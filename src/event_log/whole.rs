//! Reading the whole log once, from one position to another, as fast as it goes.
//!
//! It is read by batch direct get, several batches at once, and handed out in order. It leaves nothing behind
//! in the server: there is no consumer. Direct gets may be answered by a server that is behind, so where
//! nothing comes the stream leader is asked.

use super::{EventLog, LoadError, StoredMessage, load};
use async_nats::{HeaderMap, Message};
use futures::{StreamExt, stream, stream::BoxStream};
use std::time::Duration;

/// The number of messages that one batch asks for.
const BATCH: u64 = 1_000;
/// The number of bytes that one batch asks for.
const BATCH_BYTES: usize = 4 << 20;
/// The number of batches that are asked for at once.
const AT_ONCE: usize = 6;
/// The number of times that a batch is asked for again where no answer comes.
const ATTEMPTS: u32 = 6;
/// The pause before the first of these, twice as long before each further one.
const PAUSE: Duration = Duration::from_millis(200);

/// A message of the log as it was stored.
#[derive(Debug, Clone)]
pub struct LoggedMessage {
    /// The message.
    pub message: StoredMessage,
    /// The trace that it belongs to.
    pub trace: Option<Trace>,
}

/// The headers of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// `traceparent`.
    pub parent: String,
    /// `tracestate`.
    pub state: Option<String>,
}

/// The messages of a log between two positions.
pub struct WholeLog {
    log: EventLog,
    batches: BoxStream<'static, Result<Batch, LoadError>>,
    /// The rest that a batch was too large for: from after one position to another.
    rest: Option<(u64, u64)>,
}

struct Batch {
    messages: Vec<LoggedMessage>,
    /// The part that was asked for and is not in it.
    rest: Option<(u64, u64)>,
}

impl EventLog {
    /// Begins to read all messages after one position and up to another.
    #[must_use]
    pub fn whole(&self, after: u64, last: u64) -> WholeLog {
        let log = self.clone();
        let mut next = after;
        let starts = std::iter::from_fn(move || {
            let start = next;
            next = (next + BATCH).min(last);
            (start < last).then_some((start, next))
        });
        let batches = stream::iter(starts).map(move |(after, last)| {
            let log = log.clone();
            async move { log.batch_between(after, last).await }
        });
        WholeLog {
            log: self.clone(),
            batches: batches.buffered(AT_ONCE).boxed(),
            rest: None,
        }
    }

    async fn batch_between(&self, after: u64, last: u64) -> Result<Batch, LoadError> {
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS {
            match self.try_batch_between(after, last).await {
                Err(error) if error.is_retryable() => {
                    tracing::debug!(%error, event.position = after, "the log is asked again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                done => return done,
            }
        }
        self.try_batch_between(after, last).await
    }

    async fn try_batch_between(&self, after: u64, last: u64) -> Result<Batch, LoadError> {
        let query = serde_json::json!({
            "batch": last - after,
            "max_bytes": BATCH_BYTES,
            "next_by_subj": ">",
            "seq": after + 1,
        });
        let mut messages = Vec::new();
        self.direct(&query, read, &mut messages).await?;
        if messages.is_empty() {
            let query = serde_json::json!({ "next_by_subj": ">", "seq": after + 1 });
            let found = self.with_headers_from_leader(&query).await?;
            messages.extend(found.map(from_leader));
        }
        let end = messages.last().map(|it| it.message.position);
        messages.retain(|it| it.message.position <= last);
        let rest = end.filter(|end| *end < last).map(|end| (end, last));
        Ok(Batch { messages, rest })
    }
}

impl WholeLog {
    /// Returns the next messages, in order; `None` after the last. What is missing in the log is passed over.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read, for longer than a moment.
    pub async fn next(&mut self) -> Result<Option<Vec<LoggedMessage>>, LoadError> {
        loop {
            let batch = match self.rest.take() {
                Some((after, last)) => self.log.batch_between(after, last).await?,
                None => match self.batches.next().await {
                    Some(batch) => batch?,
                    None => return Ok(None),
                },
            };
            self.rest = batch.rest;
            if !batch.messages.is_empty() {
                return Ok(Some(batch.messages));
            }
        }
    }
}

fn read(reply: Message) -> Result<LoggedMessage, LoadError> {
    let trace = reply.headers.as_ref().and_then(trace);
    let message = load::stored(reply)?;
    Ok(LoggedMessage { message, trace })
}

fn trace(headers: &HeaderMap) -> Option<Trace> {
    let value = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    Some(Trace {
        parent: value("traceparent")?,
        state: value("tracestate"),
    })
}

fn from_leader((message, headers): load::WithHeaders) -> LoggedMessage {
    let headers = String::from_utf8_lossy(&headers);
    let value = |name: &str| {
        let mut lines = headers.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(found, _)| *found == name);
        found.map(|(_, value)| value.trim().to_owned())
    };
    let trace = value("traceparent").map(|parent| Trace {
        parent,
        state: value("tracestate"),
    });
    LoggedMessage { message, trace }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_from_the_leader_are_those_of_a_direct_get() {
        let message = StoredMessage {
            subject: "evt.order.o-1".to_owned(),
            position: 1,
            time: 0,
            stored: jiff::Timestamp::UNIX_EPOCH,
            traceparent: None,
            payload: "[]".into(),
        };
        let wire =
            b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 0\r\ntraceparent: 00-a-b-01\r\n\r\n";
        let read = from_leader((message.clone(), wire.to_vec()));
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", "00-a-b-01");
        assert_eq!(read.trace, trace(&headers));
        assert_eq!(from_leader((message, Vec::new())).trace, None);
    }
}
