//! The server's answer to an append.

use super::{health::LogHealth, subject::STREAM};
use async_nats::{Message, StatusCode, jetstream::ErrorCode};
use serde::Deserialize;

#[derive(Deserialize)]
struct Ack {
    /// The stream that stored it.
    #[serde(default)]
    stream: String,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    /// The messages of a batch.
    count: Option<u64>,
    error: Option<async_nats::jetstream::Error>,
}

/// The reason why a commit was not, or may not have been, appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The aggregate, or the key, has moved on. Nothing was stored: reload and decide again.
    #[error("another commit was first")]
    LostRace,
    /// The request was sent and no answer came: it may be stored. Settle it from the log.
    #[error("the append is in doubt: {0}")]
    InDoubt(String),
    /// No stream takes the subject: it has no leader now, or is gone. Surely not stored; a retry may work.
    #[error("the log is unavailable: no stream takes the commit")]
    NoStream,
    /// Surely not stored; a retry may work.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// Surely not stored; a retry of the same commit won't work either.
    #[error("the log refuses the commit: {0}")]
    Refused(String),
}

/// The append that the server acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Published {
    /// The position of the message, or of a batch's last.
    pub position: u64,
    /// The number of messages a batch had.
    pub count: Option<u64>,
}

/// Reads an acknowledgement, and tells what is wrong with the log where it is refused.
pub(super) fn read(answer: &Message, health: &LogHealth) -> Result<Published, AppendError> {
    if answer.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(AppendError::NoStream);
    }
    if let Some(position) = plainly_stored(&answer.payload) {
        return Ok(Published {
            position,
            count: None,
        });
    }
    let ack: Ack = serde_json::from_slice(&answer.payload)
        .map_err(|error| AppendError::InDoubt(error.to_string()))?;
    match ack.error {
        // This program sends no message ids, so it is not known what was stored.
        None if ack.duplicate => Err(AppendError::InDoubt(
            "the server takes the commit for another one".to_owned(),
        )),
        // Another stream takes the same subjects: its positions mean nothing here.
        None if ack.stream != STREAM => Err(AppendError::InDoubt(format!(
            "the stream {} acknowledged the commit, and not {STREAM}",
            ack.stream
        ))),
        None => Ok(Published {
            position: ack.seq,
            count: ack.count,
        }),
        Some(error) => {
            let words = error.to_string();
            health.refused(error.error_code().0, &words);
            Err(refusal(&error))
        }
    }
}

/// Reads whether a message stands in this stream now.
pub(super) fn stored_in(stream: &str, answer: &Message) -> Result<(), String> {
    if answer.status == Some(StatusCode::NO_RESPONDERS) {
        return Err("no stream takes it".to_owned());
    }
    let ack: Ack = serde_json::from_slice(&answer.payload).map_err(|error| error.to_string())?;
    match ack.error {
        Some(error) => Err(error.to_string()),
        None if ack.stream != stream => Err(format!("the stream {} took it", ack.stream)),
        None => Ok(()),
    }
}

/// The position in an acknowledgement that says nothing else, as almost all do; `None` for any other.
fn plainly_stored(ack: &[u8]) -> Option<u64> {
    let rest = ack.strip_prefix(br#"{"stream":""#)?;
    let rest = rest.strip_prefix(STREAM.as_bytes())?;
    let digits = rest.strip_prefix(br#"","seq":"#)?.strip_suffix(b"}")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns what a refusal means, by its code: the status beside it says "bad request" of a full disk as well.
fn refusal(error: &async_nats::jetstream::Error) -> AppendError {
    match error.error_code() {
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
            AppendError::LostRace
        }
        // Another message with the same id: this program sends none.
        ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT
        | ErrorCode::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE => {
            AppendError::InDoubt(error.to_string())
        }
        // Fewer commands may do.
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM
        | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM
        | ErrorCode::ATOMIC_PUBLISH_TOO_LARGE_BATCH => AppendError::Refused(error.to_string()),
        // Room can be made, a stream unsealed or made anew, a leader chosen. What this build does not
        // know is taken for such a thing too: a retry is then refused once more, and nothing is lost.
        ErrorCode::STREAM_NOT_FOUND => AppendError::NoStream,
        _ => AppendError::Unavailable(error.to_string()),
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
    fn what_may_be_stored_is_in_doubt() {
        for code in [10158, 10201] {
            let error = refused(400, code);
            assert!(matches!(error, AppendError::InDoubt(_)), "{code}: {error}");
        }
    }

    #[test]
    fn what_the_server_cannot_do_now_is_no_refusal() {
        for (status, code) in [
            (503, 10008),
            (429, 10210),
            (500, 10077),
            (400, 10176),
            // An account's limit, a sealed stream, and what no build knows yet.
            (400, 10002),
            (400, 10109),
            (400, 19999),
        ] {
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
