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
//! | release | free | held | held, undecided |
//!
//! What is decided stays so, since the first commit after a position is always the same one. Only a claim
//! that is decided may be written over: the commit that would name an undecided one may be on its way.
//! Its own aggregate names it instead of writing another; whoever else wants the key waits a little, and
//! then decides it: a commit without events in the other aggregate's place makes the awaited one
//! impossible.

use super::{
    Append, AppendError, EventLog, LoadError, StoredMessage, codec, secret::Hider, subject::dotted,
};
use crate::aggregate::Claim;
use async_nats::HeaderMap;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A commit without events.
const NO_EVENTS: &[u8] = b"[]";

/// A change that an aggregate is about to make to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intent {
    /// To take it.
    Take,
    /// To give up what it holds.
    Release,
}

/// The stored form of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stored<'a> {
    /// The claimant: `/<aggregate>/<id>`.
    #[serde(borrow)]
    source: Cow<'a, str>,
    intent: Intent,
    /// The commit that counts is the first of that aggregate after this position.
    after: u64,
}

/// An aggregate at the position of a commit of its own: its next commit decides what it claims there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimant {
    /// Its name.
    pub aggregate: String,
    /// Its id.
    pub id: String,
    /// The position of its last commit; 0 when it has none.
    pub after: u64,
}

impl Claimant {
    /// Returns whether both are one aggregate, wherever it stands.
    #[must_use]
    pub fn is_same_aggregate(&self, other: &Self) -> bool {
        self.aggregate == other.aggregate && self.id == other.id
    }

    fn source(&self) -> String {
        format!("/{}/{}", self.aggregate, self.id)
    }

    fn commits(&self) -> String {
        dotted(["evt", &self.aggregate, &self.id])
    }
}

/// The holder of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// This aggregate.
    Of(Claimant),
    /// Nobody, but this aggregate takes it with its next commit, if that names the claim.
    Taking(Claimant),
    /// This aggregate, which gives it up with its next commit, if that names the claim.
    Releasing(Claimant),
}

/// The last word on a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyState {
    /// The position of the last claim; 0 when there is none.
    pub position: u64,
    /// The holder of the key.
    pub holder: Holder,
}

impl KeyState {
    /// Nobody has ever claimed the key.
    const UNCLAIMED: Self = Self {
        position: 0,
        holder: Holder::Nobody,
    };
}

/// The subject on which the claims of a key stand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimSubject(String);

impl ClaimSubject {
    fn new(claim: &Claim, hider: &Hider) -> Self {
        let key = hider.hide(&claim.key);
        Self(format!("claim.{}.{key}", claim.scope))
    }

    /// The subject.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl EventLog {
    /// Returns the subject on which the claims of a key stand, under the log's secret.
    ///
    /// # Errors
    ///
    /// Returns a retryable error when the secret cannot be looked up.
    pub async fn claim_subject(&self, claim: &Claim) -> Result<ClaimSubject, LoadError> {
        Ok(ClaimSubject::new(claim, &self.hider().await?))
    }

    /// Reads who has a key, through the stream leader.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn key_state(
        &self,
        ClaimSubject(subject): &ClaimSubject,
    ) -> Result<KeyState, LoadError> {
        let Some(message) = self.last_message(subject).await? else {
            return Ok(KeyState::UNCLAIMED);
        };
        let position = message.position;
        let (intent, claimant) = read(&message)?;
        let commit = self
            .commit_after(&claimant.commits(), claimant.after)
            .await?;
        let named = match &commit {
            Some(commit) => Some(self.names(&claimant, commit, position).await?),
            None => None,
        };
        let holder = match (intent, named) {
            (Intent::Take, Some(true)) | (Intent::Release, Some(false)) => Holder::Of(claimant),
            (Intent::Take, Some(false)) | (Intent::Release, Some(true)) => Holder::Nobody,
            (Intent::Take, None) => Holder::Taking(claimant),
            (Intent::Release, None) => Holder::Releasing(claimant),
        };
        Ok(KeyState { position, holder })
    }

    /// Returns whether a commit names the claim at a position. One that is excluded names none.
    async fn names(
        &self,
        claimant: &Claimant,
        commit: &StoredMessage,
        position: u64,
    ) -> Result<bool, LoadError> {
        let named = names(commit, position);
        if matches!(named, Ok(false)) {
            return named;
        }
        let exclusions = self.exclusions(&claimant.aggregate, &claimant.id).await?;
        match exclusions.of(commit) {
            Some(_) => Ok(false),
            None => named,
        }
    }

    /// Guesses that a key was never claimed, which is right for most that are taken, and costs less than
    /// to read it. Where it is wrong nothing can be written on it. `None` where there is no such guess.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn guess_key(
        &self,
        ClaimSubject(subject): &ClaimSubject,
    ) -> Result<Option<KeyState>, LoadError> {
        // A claim that is refused costs its group more than a look at the key does.
        let unclaimed =
            self.0.grouping.is_none() || self.last_message_at_hand(subject).await?.is_none();
        Ok(unclaimed.then_some(KeyState::UNCLAIMED))
    }

    /// Makes sure that the claims of an aggregate at a position are decided: unless its next commit has
    /// come, it is one without events.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when that cannot be written now.
    pub async fn decide_claims_of(&self, claimant: &Claimant) -> Result<(), LoadError> {
        tracing::info!(
            aggregate.name = claimant.aggregate,
            aggregate.id = claimant.id,
            aggregate.position = claimant.after,
            "a claim that its aggregate has not finished is decided"
        );
        let appended = self.append(Append {
            subject: claimant.commits(),
            expected: claimant.after,
            payload: NO_EVENTS.into(),
            headers: HeaderMap::new(),
        });
        match appended.await {
            // Either is a commit after the position.
            Ok(_) | Err(AppendError::LostRace) => Ok(()),
            Err(error) => Err(LoadError::Unavailable(error.to_string())),
        }
    }

    /// Writes what an aggregate is about to do with a key, over the claim at `last`, which is decided.
    /// Returns the position by which its next commit is to name that.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]; a lost race means that the claim at `last` is not the last one any more.
    pub async fn write_claim(
        &self,
        ClaimSubject(subject): &ClaimSubject,
        last: u64,
        intent: Intent,
        claimant: &Claimant,
    ) -> Result<u64, AppendError> {
        let stored = Stored {
            source: claimant.source().into(),
            intent,
            after: claimant.after,
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

/// Makes sure that a message is a claim.
///
/// # Errors
///
/// Returns [`LoadError::Unreadable`] when it is none.
pub fn check(message: &StoredMessage) -> Result<(), LoadError> {
    read(message).map(|_| ())
}

/// Reads a claim.
fn read(message: &StoredMessage) -> Result<(Intent, Claimant), LoadError> {
    let unreadable = |reason: String| LoadError::Unreadable {
        position: message.position,
        reason,
    };
    let stored: Stored<'_> =
        serde_json::from_slice(&message.payload).map_err(|error| unreadable(error.to_string()))?;
    let source = stored.source.strip_prefix('/');
    let (aggregate, id) = source
        .and_then(|source| source.split_once('/'))
        .ok_or_else(|| unreadable(format!("{} is no aggregate", stored.source)))?;
    let claimant = Claimant {
        aggregate: aggregate.to_owned(),
        id: id.to_owned(),
        after: stored.after,
    };
    Ok((stored.intent, claimant))
}

/// Returns whether a commit names the claim at a position.
fn names(commit: &StoredMessage, position: u64) -> Result<bool, LoadError> {
    let events = codec::decode(&commit.subject, commit.position, &commit.payload);
    let events = events.map_err(|error| LoadError::Unreadable {
        position: commit.position,
        reason: error.to_string(),
    })?;
    Ok(events.iter().any(|event| event.claims.contains(&position)))
}
