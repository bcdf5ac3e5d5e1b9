//! Unique keys: who holds which, as messages of the same stream.
//!
//! `claim.<scope>.<sha256 of the key>` holds the last word on a key: its holder, or a tombstone
//! after a release. It is written only in one atomic batch with the commit that takes or gives up
//! the key, so that both stand or neither does.

use super::{EventLog, LoadError};
use crate::aggregate::Claim;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One claim message of an atomic append.
#[derive(Debug, Clone)]
pub struct ClaimWrite {
    /// `claim.<scope>.<sha256 of the key>`.
    pub subject: String,
    /// The position of the last word on the key; 0 when there is none.
    pub expected: u64,
    /// The new last word.
    pub payload: Bytes,
}

/// The last word on a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRecord {
    /// The position of the message; 0 when there is none.
    pub position: u64,
    /// Who holds the key, as aggregate name and id; `None` when it is free.
    pub holder: Option<(String, String)>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    aggregate: String,
    id: String,
    released: bool,
}

/// `claim.<scope>.<sha256 of the key>`: the key itself, which may be personal data, is not stored.
#[must_use]
pub fn subject_of(claim: &Claim) -> String {
    use std::fmt::Write;
    let digest = Sha256::digest(claim.key.as_bytes());
    let mut subject = format!("claim.{}.", claim.scope);
    for byte in digest {
        write!(subject, "{byte:02x}").expect("writing to a string does not fail");
    }
    subject
}

impl ClaimWrite {
    /// The aggregate takes the key that `record` describes.
    #[must_use]
    pub fn take(claim: &Claim, record: &ClaimRecord, aggregate: &str, id: &str) -> Self {
        Self::new(claim, record, aggregate, id, false)
    }

    /// The aggregate gives the key up: a tombstone.
    #[must_use]
    pub fn release(claim: &Claim, record: &ClaimRecord, aggregate: &str, id: &str) -> Self {
        Self::new(claim, record, aggregate, id, true)
    }

    fn new(claim: &Claim, record: &ClaimRecord, aggregate: &str, id: &str, released: bool) -> Self {
        let stored = Stored {
            aggregate: aggregate.to_owned(),
            id: id.to_owned(),
            released,
        };
        Self {
            subject: subject_of(claim),
            expected: record.position,
            payload: serde_json::to_vec(&stored)
                .expect("a claim is plain data")
                .into(),
        }
    }
}

impl EventLog {
    /// Reads the last word on a key, through the stream leader.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn claim(&self, claim: &Claim) -> Result<ClaimRecord, LoadError> {
        let Some(message) = self.last_message(&subject_of(claim)).await? else {
            return Ok(ClaimRecord {
                position: 0,
                holder: None,
            });
        };
        let stored: Stored = serde_json::from_slice(&message.payload)
            .map_err(|error| LoadError::Corrupt(format!("claim {}: {error}", message.subject)))?;
        Ok(ClaimRecord {
            position: message.position,
            holder: (!stored.released).then_some((stored.aggregate, stored.id)),
        })
    }
}
