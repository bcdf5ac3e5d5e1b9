//! Unique keys: who holds which, as messages of the same stream.
//!
//! The last message of `claim.<scope>.<HMAC of the key>` says what an aggregate *is about to do* with a
//! key: take it, or give it up, with the commit that comes first after a position of its own. Whether it
//! did stands in the log: only if that commit names the claim by its position. So a claim and its commit
//! are one step for all who look, whatever fails between them, and no batch is needed:
//!
//! | the claim | the commit names it | another commit came | none came yet |
//! |---|---|---|---|
//! | take | held | free | undecided |
//! | release | free | held | held |
//! | void | free | free | free |
//!
//! Whoever wants a key that is undecided waits a little, and then decides it: a commit without events
//! in the other aggregate's place makes the awaited one impossible.

use super::{Append, AppendError, EventLog, LoadError, codec, secret::Hider};
use crate::aggregate::Claim;
use async_nats::HeaderMap;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, time::Duration};

/// How often an undecided claim is looked at before it is decided for its owner, and the pause between:
/// together a little less than a commit is waited for.
const LOOKS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(50);
/// A commit without events.
const NO_EVENTS: &[u8] = b"[]";

/// What an aggregate is about to do with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intent {
    /// To take it.
    Take,
    /// To give up what it holds.
    Release,
    /// Nothing: it was refused after all.
    Void,
}

/// The stored form of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stored<'a> {
    /// Who claims: `/<aggregate>/<id>`.
    #[serde(borrow)]
    source: Cow<'a, str>,
    intent: Intent,
    /// The commit that counts is the first of that aggregate after this position.
    after: u64,
}

/// Who has a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// This aggregate, by name and id.
    Of(String, String),
    /// This aggregate is about to take it, with its first commit after the position, which has not come.
    Undecided(String, String, u64),
}

/// The last word on a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyState {
    /// The position of the last claim; 0 when there is none.
    pub position: u64,
    /// Who has the key.
    pub holder: Holder,
}

/// Where the claims of a key stand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimSubject(String);

impl ClaimSubject {
    fn new(claim: &Claim, hider: &Hider) -> Self {
        let key = hider.hide(claim.key.as_bytes());
        Self(format!("claim.{}.{key}", claim.scope))
    }
}

impl EventLog {
    /// Returns where the claims of a key stand, under the log's secret.
    ///
    /// # Errors
    ///
    /// Returns a retryable error when the secret cannot be looked up.
    pub async fn claim_subject(&self, claim: &Claim) -> Result<ClaimSubject, LoadError> {
        Ok(ClaimSubject::new(claim, &self.hider().await?))
    }

    /// Reads who has a key, through the stream leader. What another aggregate has left undecided is
    /// decided first; for `own`, the aggregate that asks, by name and id, it is told as it is.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read, or the key cannot be decided now.
    pub async fn key_state(
        &self,
        subject: &ClaimSubject,
        own: (&str, &str),
    ) -> Result<KeyState, LoadError> {
        let mut look = 0;
        loop {
            let state = self.look_at(subject).await?;
            let Holder::Undecided(aggregate, id, after) = &state.holder else {
                return Ok(state);
            };
            if (aggregate.as_str(), id.as_str()) == own {
                return Ok(state);
            }
            look += 1;
            if look < LOOKS {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            tracing::info!(
                aggregate.name = aggregate,
                aggregate.id = id,
                "a claim that nobody finished is decided"
            );
            let appended = self.append(Append {
                subject: super::subject::dotted(["evt", aggregate, id]),
                expected: *after,
                payload: NO_EVENTS.into(),
                headers: HeaderMap::new(),
            });
            match appended.await {
                // Either is a commit after the position.
                Ok(_) | Err(AppendError::LostRace) => {}
                Err(error) => return Err(LoadError::Unavailable(error.to_string())),
            }
        }
    }

    async fn look_at(&self, ClaimSubject(subject): &ClaimSubject) -> Result<KeyState, LoadError> {
        let nobody = |position| KeyState {
            position,
            holder: Holder::Nobody,
        };
        let Some(message) = self.last_message(subject).await? else {
            return Ok(nobody(0));
        };
        let position = message.position;
        let unreadable = |reason: String| LoadError::Unreadable { position, reason };
        let stored: Stored<'_> = serde_json::from_slice(&message.payload)
            .map_err(|error| unreadable(error.to_string()))?;
        if stored.intent == Intent::Void {
            return Ok(nobody(position));
        }
        let source = stored.source.strip_prefix('/');
        let (aggregate, id) = source
            .and_then(|source| source.split_once('/'))
            .ok_or_else(|| unreadable(format!("{} is no aggregate", stored.source)))?;
        let commits = super::subject::dotted(["evt", aggregate, id]);
        let commit = self.commit_after(&commits, stored.after).await?;
        let named = match &commit {
            None => None,
            Some(commit) => {
                let events = codec::decode(&commit.subject, commit.position, &commit.payload);
                let events = events.map_err(|error| unreadable(error.to_string()))?;
                Some(events.iter().any(|event| event.claims.contains(&position)))
            }
        };
        let (aggregate, id) = (aggregate.to_owned(), id.to_owned());
        let holder = match (stored.intent, named) {
            (Intent::Take, Some(true)) | (Intent::Release, Some(false) | None) => {
                Holder::Of(aggregate, id)
            }
            (Intent::Take, None) => Holder::Undecided(aggregate, id, stored.after),
            _ => Holder::Nobody,
        };
        Ok(KeyState { position, holder })
    }

    /// Writes what the aggregate `own`, by name and id, is about to do with a key, with its first commit
    /// after `after`. Returns the position by which that commit is to name it.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]; a lost race means that `state` is not the last word any more.
    pub async fn write_claim(
        &self,
        ClaimSubject(subject): &ClaimSubject,
        last: u64,
        intent: Intent,
        own: (&str, &str),
        after: u64,
    ) -> Result<u64, AppendError> {
        let stored = Stored {
            source: format!("/{}/{}", own.0, own.1).into(),
            intent,
            after,
        };
        let payload = serde_json::to_vec(&stored);
        let payload = payload.map_err(|error| AppendError::Refused(error.to_string()))?;
        self.append(Append {
            subject: subject.clone(),
            expected: last,
            payload: payload.into(),
            headers: HeaderMap::new(),
        })
        .await
    }
}
