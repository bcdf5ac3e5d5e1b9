//! Appending one commit, with the position it expects: the only write path to the log.
//!
//! An append is all or nothing, and its answer is one of four: stored at a position, refused
//! because someone else was first, surely not stored, or *in doubt*. The last is never reported as
//! either of the others; [`super::EventLog::commit_after`] settles it from the log.

use super::{EventLog, acks::Sending, claim::ClaimWrite, subject::STREAM};
use async_nats::{HeaderMap, HeaderName, Message, jetstream::ErrorCode};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use serde::Deserialize;

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
    /// `Nats-Msg-Id` and the trace headers.
    pub headers: HeaderMap,
    /// Unique keys taken or given up in the same atomic append.
    pub claims: Vec<ClaimWrite>,
}

/// Why a commit was not, or may not have been, appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The aggregate, or one of the claims, has moved on. Nothing was stored: reload and decide again.
    #[error("another commit was first")]
    LostRace,
    /// The request was sent and no answer came: it may be stored. Settle it from the log.
    #[error("the append is in doubt: {0}")]
    InDoubt(String),
    /// The log has one of the message ids: an earlier sending of that commit is stored, or being
    /// stored, and this one was not. Settle it from the log.
    #[error("the log knows the commit: {0}")]
    Known(String),
    /// Surely not stored; a retry may work.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// Surely not stored; a retry of the same commit won't work either.
    #[error("the log refuses the commit: {0}")]
    Refused(String),
}

impl Append {
    /// How many messages it is.
    pub(super) fn messages(&self) -> usize {
        self.claims.len() + 1
    }
}

#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    /// The messages of a batch.
    count: Option<u64>,
    error: Option<async_nats::jetstream::Error>,
}

/// What the server acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Published {
    /// The position of the message, or of a batch's last.
    pub position: u64,
    /// How many messages a batch had.
    pub count: Option<u64>,
}

impl EventLog {
    /// Appends a commit and returns its position.
    ///
    /// A commit of one message is sent on its way before the future is polled, so that it is not held
    /// for as long as the acknowledgement takes.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]: each case says what is known of the log afterwards.
    pub fn append(
        &self,
        append: Append,
    ) -> impl Future<Output = Result<u64, AppendError>> + Send + '_ {
        let sent = match &self.0.grouping {
            Some(grouping) => Sent::Otherwise(grouping.append(append).boxed()),
            None => self.send_alone(append),
        };
        async move {
            match sent {
                Sent::Plain(sending) => Ok(published(&sending?.acked().await?)?.position),
                Sent::Otherwise(sending) => sending.await,
            }
        }
    }

    fn send_alone(&self, mut append: Append) -> Sent<'_> {
        if !append.claims.is_empty() || !self.0.acks.is_open() {
            return Sent::Otherwise(self.append_alone(append).boxed());
        }
        expect(&mut append.headers, append.expected);
        let acks = &self.0.acks;
        Sent::Plain(acks.send(append.subject, append.headers, append.payload))
    }

    pub(super) async fn append_alone(&self, mut append: Append) -> Result<u64, AppendError> {
        let published = if append.claims.is_empty() {
            expect(&mut append.headers, append.expected);
            let publish = self.publish(append.subject, append.headers, append.payload);
            publish.await
        } else {
            self.batch().commit(append).await
        };
        published.map(|published| published.position)
    }

    /// Begins an atomic batch (ADR-50). Nothing is stored unless it is committed.
    pub(super) fn batch(&self) -> Batch<'_> {
        Batch {
            log: self,
            id: uuid::Uuid::now_v7().simple().to_string(),
            messages: 0,
        }
    }

    async fn publish(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Published, AppendError> {
        published(&self.0.acks.publish(subject, headers, payload).await?)
    }
}

/// An append that has been sent on its way.
enum Sent<'a> {
    /// As one message, which the server acknowledges.
    Plain(Result<Sending<'a>, AppendError>),
    /// With others, with claims, or once acknowledgements are received.
    Otherwise(BoxFuture<'a, Result<u64, AppendError>>),
}

/// Reads an acknowledgement.
fn published(answer: &Message) -> Result<Published, AppendError> {
    if let Some(position) = plainly_stored(&answer.payload) {
        return Ok(Published {
            position,
            count: None,
        });
    }
    let ack: Ack = serde_json::from_slice(&answer.payload)
        .map_err(|error| AppendError::InDoubt(error.to_string()))?;
    match ack.error {
        None if ack.duplicate => Err(AppendError::Known(
            "the server has seen the message id".to_owned(),
        )),
        None => Ok(Published {
            position: ack.seq,
            count: ack.count,
        }),
        Some(error) => Err(refusal(&error)),
    }
}

/// The position in an acknowledgement that says nothing else, as almost all do; `None` for any other.
fn plainly_stored(ack: &[u8]) -> Option<u64> {
    let rest = ack.strip_prefix(br#"{"stream":""#)?;
    let rest = rest.strip_prefix(STREAM.as_bytes())?;
    let digits = rest.strip_prefix(br#"","seq":"#)?.strip_suffix(b"}")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
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

    /// The claims come first and the commit last, so that the position of the last message is the
    /// commit's.
    async fn send_claims(&mut self, claims: Vec<ClaimWrite>) -> Result<(), AppendError> {
        for claim in claims {
            let mut headers = HeaderMap::new();
            expect(&mut headers, claim.expected);
            self.send(claim.subject, headers, claim.payload).await?;
        }
        Ok(())
    }

    /// Sends one append as a part of the batch.
    pub(super) async fn add(&mut self, append: Append) -> Result<(), AppendError> {
        self.send_claims(append.claims).await?;
        let mut headers = append.headers;
        expect(&mut headers, append.expected);
        self.send(append.subject, headers, append.payload).await
    }

    /// Sends the last append and has the batch stored.
    pub(super) async fn commit(mut self, append: Append) -> Result<Published, AppendError> {
        self.send_claims(append.claims).await?;
        let mut headers = append.headers;
        expect(&mut headers, append.expected);
        self.number(&mut headers);
        headers.insert(BATCH_COMMIT, "1");
        self.log
            .publish(append.subject, headers, append.payload)
            .await
    }
}

fn refusal(error: &async_nats::jetstream::Error) -> AppendError {
    match error.error_code() {
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
            AppendError::LostRace
        }
        // The first sending of the same commit is being stored, or is stored already.
        ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT
        | ErrorCode::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE => {
            AppendError::Known(error.to_string())
        }
        ErrorCode::ATOMIC_PUBLISH_INCOMPLETE_BATCH => AppendError::Unavailable(error.to_string()),
        // 429 and 5xx say that the server cannot now; any other code, that it never will.
        _ if error.code() == 429 || error.code() >= 500 => {
            AppendError::Unavailable(error.to_string())
        }
        _ => AppendError::Refused(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, err_code: u64) -> AppendError {
        let error = serde_json::json!({
            "code": code, "err_code": err_code, "description": "in the server's words"
        });
        refusal(&serde_json::from_value(error).unwrap())
    }

    #[test]
    fn an_acknowledgement_that_says_more_than_a_position_is_read_as_a_whole() {
        let plain = |ack: &str| plainly_stored(ack.as_bytes());
        assert_eq!(plain(r#"{"stream":"EVENTS","seq":417}"#), Some(417));
        for other in [
            r#"{"stream":"EVENTS","seq":417,"duplicate":true}"#,
            r#"{"stream":"EVENTS","seq":417,"batch":"b","count":2}"#,
            r#"{"stream":"EVENTS","domain":"hub","seq":417}"#,
            r#"{"error":{"code":503,"err_code":10008},"stream":"EVENTS","seq":0}"#,
            r#"{"stream":"EVENTS","seq":}"#,
        ] {
            assert_eq!(plain(other), None, "{other}");
        }
    }

    #[test]
    fn both_codes_of_a_lost_race_are_one() {
        for code in [10071, 10164] {
            let error = refused(400, code);
            assert!(matches!(error, AppendError::LostRace), "{code}: {error}");
        }
    }

    #[test]
    fn a_message_id_that_is_known_is_told_apart() {
        for code in [10158, 10201] {
            let error = refused(400, code);
            assert!(matches!(error, AppendError::Known(_)), "{code}: {error}");
        }
    }

    #[test]
    fn what_the_server_cannot_do_now_is_no_refusal() {
        for (status, code) in [(503, 10008), (429, 10210), (500, 10077), (400, 10176)] {
            let error = refused(status, code);
            assert!(
                matches!(error, AppendError::Unavailable(_)),
                "{code}: {error}"
            );
        }
        let error = refused(400, 10054);
        assert!(matches!(error, AppendError::Refused(_)), "{error}");
    }
}
