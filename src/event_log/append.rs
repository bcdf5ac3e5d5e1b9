//! Appending one commit, with the position it expects: the only write path to the log.
//!
//! An append is all or nothing, and its answer is one of four: stored at a position, refused
//! because someone else was first, surely not stored, or *in doubt*. The last is never reported as
//! either of the others; [`super::EventLog::commit_after`] settles it from the log.

use super::{EventLog, claim::ClaimWrite};
use async_nats::{HeaderMap, client::RequestErrorKind, jetstream::ErrorCode};
use bytes::Bytes;
use serde::Deserialize;

/// One commit to append.
#[derive(Debug)]
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
    /// Surely not stored; a retry may work.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// Surely not stored; a retry of the same commit won't work either.
    #[error("the log refuses the commit: {0}")]
    Refused(String),
}

#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<async_nats::jetstream::Error>,
}

impl EventLog {
    /// Appends a commit and returns its position.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]: each case says what is known of the log afterwards.
    pub async fn append(&self, append: Append) -> Result<u64, AppendError> {
        let Append {
            subject,
            expected,
            payload,
            mut headers,
            claims,
        } = append;
        headers.insert(
            async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
            expected.to_string(),
        );
        if claims.is_empty() {
            return self.publish(subject, headers, payload).await;
        }

        // The claims come first and the commit last, so that the acknowledged sequence, which is
        // the last message's, is the commit's position.
        let batch_id = uuid::Uuid::now_v7().simple().to_string();
        let mut number = 0_u32;
        let mut in_batch = |headers: &mut HeaderMap| {
            number += 1;
            headers.insert("Nats-Batch-Id", batch_id.as_str());
            headers.insert("Nats-Batch-Sequence", number.to_string());
        };
        for claim in claims {
            let mut headers = HeaderMap::new();
            in_batch(&mut headers);
            headers.insert(
                async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
                claim.expected.to_string(),
            );
            self.client
                .publish_with_headers(claim.subject, headers, claim.payload)
                .await
                .map_err(|error| AppendError::Unavailable(error.to_string()))?;
        }
        in_batch(&mut headers);
        headers.insert("Nats-Batch-Commit", "1");
        self.publish(subject, headers, payload).await
    }

    async fn publish(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<u64, AppendError> {
        let request = async_nats::Request::new()
            .headers(headers)
            .payload(payload)
            .timeout(Some(self.timeouts.append));
        let reply =
            self.client
                .send_request(subject, request)
                .await
                .map_err(|error| match error.kind() {
                    RequestErrorKind::NoResponders => {
                        AppendError::Unavailable("no stream takes the subject".to_owned())
                    }
                    RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                        AppendError::Refused(error.to_string())
                    }
                    RequestErrorKind::TimedOut | RequestErrorKind::Other => {
                        AppendError::InDoubt(error.to_string())
                    }
                })?;
        let ack: Ack = serde_json::from_slice(&reply.payload)
            .map_err(|error| AppendError::InDoubt(error.to_string()))?;
        match ack.error {
            None if ack.duplicate => Err(AppendError::InDoubt(
                "the server has seen the message id".to_owned(),
            )),
            None => Ok(ack.seq),
            Some(error) => Err(refusal(&error)),
        }
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
            AppendError::InDoubt(error.to_string())
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
    fn both_codes_of_a_lost_race_are_one() {
        for code in [10071, 10164] {
            let error = refused(400, code);
            assert!(matches!(error, AppendError::LostRace), "{code}: {error}");
        }
    }

    #[test]
    fn a_message_id_that_is_known_leaves_the_append_in_doubt() {
        for code in [10158, 10201] {
            let error = refused(400, code);
            assert!(matches!(error, AppendError::InDoubt(_)), "{code}: {error}");
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
