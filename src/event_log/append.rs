//! Appending one commit, with the position it expects: the only write path to the log.
//!
//! An append is all or nothing, and its answer is one of four: stored at a position, refused
//! because someone else was first, surely not stored, or *in doubt*. The last is never reported as
//! either of the others; [`super::EventLog::commit_after`] settles it from the log.

use super::{
    EventLog, StoredMessage,
    ack::{AppendError, Published},
    acks::Sending,
};
use crate::connection::is_up;
use async_nats::{HeaderMap, HeaderName};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};

// The headers of an atomic batch (ADR-50).
const BATCH_ID: HeaderName = HeaderName::from_static("Nats-Batch-Id");
const BATCH_SEQUENCE: HeaderName = HeaderName::from_static("Nats-Batch-Sequence");
const BATCH_COMMIT: HeaderName = HeaderName::from_static("Nats-Batch-Commit");

/// One commit to append.
#[derive(Debug, Clone)]
pub struct Append {
    /// `evt.<aggregate>.<id>`.
    pub subject: String,
    /// The position of the aggregate's last commit; 0 when it has none.
    pub expected: u64,
    /// The encoded commit.
    pub payload: Bytes,
    /// The trace headers.
    pub headers: HeaderMap,
}

impl EventLog {
    /// Appends a commit and returns its position.
    ///
    /// One that is not grouped is sent on its way before the future is polled, so that it is not held for
    /// as long as the acknowledgement takes.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]: each case says what is known of the log afterwards.
    pub fn append(
        &self,
        append: Append,
    ) -> impl Future<Output = Result<u64, AppendError>> + Send + '_ {
        let before = self.known_position();
        let sent = match &self.0.grouping {
            Some(grouping) => Sent::Otherwise(grouping.append(append).boxed()),
            None => self.send_alone(append),
        };
        async move {
            let appended = match sent {
                Sent::Plain(Ok(sending)) => sending.acked().await.map(|stored| stored.position),
                Sent::Plain(Err(error)) => Err(error),
                Sent::Otherwise(sending) => sending.await,
            };
            match &appended {
                Ok(position) => {
                    self.appended(*position, before);
                    self.0.health.well();
                }
                // What comes back may be another log.
                Err(AppendError::NoStream) => self.suspect("no stream takes commits"),
                Err(_) => {}
            }
            appended
        }
    }

    fn send_alone(&self, mut append: Append) -> Sent<'_> {
        if let Err(away) = self.connected() {
            return Sent::Plain(Err(away));
        }
        if !self.0.acks.is_open() {
            return Sent::Otherwise(self.append_alone(append).boxed());
        }
        expect(&mut append.headers, append.expected);
        let acks = &self.0.acks;
        Sent::Plain(acks.send(append.subject, append.headers, append.payload))
    }

    pub(super) async fn append_alone(&self, mut append: Append) -> Result<u64, AppendError> {
        self.connected()?;
        expect(&mut append.headers, append.expected);
        let acks = &self.0.acks;
        let publish = acks.publish(append.subject, append.headers, append.payload);
        publish.await.map(|published| published.position)
    }

    /// Refuses an append while the connection is away, which keeps what it is given and sends it however
    /// late.
    fn connected(&self) -> Result<(), AppendError> {
        match is_up(self.client()) {
            true => Ok(()),
            false => Err(AppendError::Unavailable("not connected to NATS".to_owned())),
        }
    }

    /// Begins an atomic batch (ADR-50). Nothing is stored unless it is committed.
    pub(super) fn batch(&self) -> Batch<'_> {
        Batch {
            log: self,
            id: uuid::Uuid::now_v7().simple().to_string(),
            messages: 0,
        }
    }
}

/// An append that has been sent on its way.
enum Sent<'a> {
    /// As one message, which the server acknowledges.
    Plain(Result<Sending<'a>, AppendError>),
    /// With others, or once acknowledgements are received.
    Otherwise(BoxFuture<'a, Result<u64, AppendError>>),
}

/// Every message says what it expects of its subject.
fn expect(headers: &mut HeaderMap, expected: u64) {
    headers.insert(
        async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
        itoa::Buffer::new().format(expected),
    );
}

/// An atomic batch that is being sent.
pub(super) struct Batch<'a> {
    log: &'a EventLog,
    id: String,
    messages: u32,
}

impl Batch<'_> {
    fn number(&mut self, headers: &mut HeaderMap) {
        self.messages += 1;
        headers.insert(BATCH_ID, self.id.as_str());
        headers.insert(BATCH_SEQUENCE, self.messages.to_string());
    }

    async fn send(
        &mut self,
        subject: String,
        mut headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), AppendError> {
        self.number(&mut headers);
        self.log
            .client()
            .publish_with_headers(subject, headers, payload)
            .await
            // Without its last message a batch is never stored.
            .map_err(|error| AppendError::Unavailable(error.to_string()))
    }

    /// Sends one append as a part of the batch.
    pub(super) async fn add(&mut self, append: Append) -> Result<(), AppendError> {
        let mut headers = append.headers;
        expect(&mut headers, append.expected);
        self.send(append.subject, headers, append.payload).await
    }

    /// Sends a message as a part of the batch, whatever stands on its subject.
    pub(super) async fn add_as_it_is(
        &mut self,
        message: &StoredMessage,
        headers: HeaderMap,
    ) -> Result<(), AppendError> {
        let (subject, payload) = (message.subject.clone(), message.payload.clone());
        self.send(subject, headers, payload).await
    }

    /// Sends the last message, whatever stands on its subject, and has the batch stored.
    pub(super) async fn commit_as_it_is(
        mut self,
        message: &StoredMessage,
        mut headers: HeaderMap,
    ) -> Result<Published, AppendError> {
        self.number(&mut headers);
        headers.insert(BATCH_COMMIT, "1");
        let (subject, payload) = (message.subject.clone(), message.payload.clone());
        self.log.0.acks.publish(subject, headers, payload).await
    }

    /// Sends the last append and has the batch stored.
    pub(super) async fn commit(mut self, append: Append) -> Result<Published, AppendError> {
        let mut headers = append.headers;
        expect(&mut headers, append.expected);
        self.number(&mut headers);
        headers.insert(BATCH_COMMIT, "1");
        let acks = &self.log.0.acks;
        acks.publish(append.subject, headers, append.payload).await
    }
}
