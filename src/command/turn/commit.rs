//! Appending what a turn has decided: the claims, the headers, and the settling of a doubt.

use super::Desk;
use crate::{
    aggregate::{Aggregate, Claim, Decision},
    command::{measure::MEASURES, traces::Appending},
    event_log::{
        Append, AppendError, LoadError, Mark,
        claim::{ClaimSubject, Holder, Intent},
        codec::{self, CommandEvents},
        subject,
    },
    problem::Problem,
};
use async_nats::HeaderMap;
use bytes::Bytes;
use std::time::Instant;

/// How often a claim is written again because another was first.
const RACES: u32 = 8;

/// Why claims were not written.
pub(super) enum ClaimFault {
    /// A key belongs to another aggregate.
    Taken(Problem),
    /// Surely not now, or not known.
    Unavailable(String),
}

impl From<LoadError> for ClaimFault {
    fn from(error: LoadError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// A claim that was written: where, and at which position.
struct Written<'a> {
    subject: ClaimSubject,
    position: u64,
    claim: &'a Claim,
}

/// Writes what the next commit after `after` is about to do with each key, and returns the positions by
/// which it is to name that.
///
/// A key that is both taken and released is kept; one that is named twice counts once.
pub(super) async fn write_claims<A: Aggregate>(
    desk: &Desk,
    decision: &Decision<A::Event>,
    after: u64,
) -> Result<Vec<u64>, ClaimFault> {
    let own = (A::NAME, desk.id.as_str());
    let mut written: Vec<Written<'_>> = Vec::new();
    let mut taking: Vec<&Claim> = Vec::new();
    for claim in &decision.claims {
        if taking.contains(&claim) {
            continue;
        }
        taking.push(claim);
        match write_claim(desk, own, claim, Intent::Take, after).await {
            Ok(one) => written.extend(one),
            Err(fault) => {
                void(desk, own, written, after).await;
                return Err(fault);
            }
        }
    }
    let mut releasing: Vec<&Claim> = Vec::new();
    for claim in &decision.releases {
        if taking.contains(&claim) || releasing.contains(&claim) {
            continue;
        }
        releasing.push(claim);
        match write_claim(desk, own, claim, Intent::Release, after).await {
            Ok(one) => written.extend(one),
            Err(fault) => return Err(fault),
        }
    }
    Ok(written.iter().map(|one| one.position).collect())
}

/// Writes one claim; none where there is nothing to take or to release.
async fn write_claim<'a>(
    desk: &Desk,
    own: (&str, &str),
    claim: &'a Claim,
    intent: Intent,
    after: u64,
) -> Result<Option<Written<'a>>, ClaimFault> {
    let subject = desk.log.claim_subject(claim).await?;
    for _ in 0..RACES {
        let state = desk.log.key_state(&subject, own).await?;
        let is_own = |aggregate: &str, id: &str| (aggregate, id) == own;
        match (&state.holder, intent) {
            (Holder::Of(aggregate, id), Intent::Take) if is_own(aggregate, id) => return Ok(None),
            (Holder::Of(..), Intent::Take) => {
                return Err(ClaimFault::Taken(Problem::claim_taken(claim.scope)));
            }
            (Holder::Of(aggregate, id), _) if !is_own(aggregate, id) => return Ok(None),
            (Holder::Nobody | Holder::Undecided(..), Intent::Release) => return Ok(None),
            _ => {}
        }
        let log = &desk.log;
        let writing = log.write_claim(&subject, state.position, intent, own, after);
        match writing.await {
            Ok(position) => {
                return Ok(Some(Written {
                    subject,
                    position,
                    claim,
                }));
            }
            // Another claim was first, or this one is stored without it being known: then it is this
            // aggregate's own, undecided, and is written once more.
            Err(AppendError::LostRace | AppendError::InDoubt(_)) => {}
            Err(error) => return Err(ClaimFault::Unavailable(error.to_string())),
        }
    }
    Err(ClaimFault::Unavailable(format!(
        "{} is contended",
        claim.scope
    )))
}

/// Takes back what was written before another key turned out to be taken, so that nobody waits for it. It
/// does no harm where that fails: no commit names it.
async fn void(desk: &Desk, own: (&str, &str), written: Vec<Written<'_>>, after: u64) {
    for Written {
        subject,
        position,
        claim,
    } in written
    {
        let log = &desk.log;
        let voiding = log.write_claim(&subject, position, Intent::Void, own, after);
        if let Err(error) = voiding.await {
            tracing::debug!(scope = claim.scope, %error, "claim not taken back");
        }
    }
}

/// The place of a commit in a trace.
pub(super) fn commit_headers(appending: &Appending<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let traces = [
        ("traceparent", appending.traceparent.as_deref()),
        ("tracestate", appending.tracestate),
    ];
    for (name, value) in traces {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    headers
}

/// Appends a commit and returns its position, and the mark of what stands there.
pub(super) async fn append<A: Aggregate>(
    desk: &Desk,
    expected: u64,
    headers: HeaderMap,
    commit: &[CommandEvents],
) -> Result<(u64, Mark), AppendError> {
    let payload: Bytes = codec::encode(A::NAME, desk.id.as_str(), commit)
        .map_err(|error| AppendError::Refused(error.to_string()))?
        .into();
    let append = Append {
        subject: subject::events_of(A::NAME, &desk.id),
        expected,
        payload: payload.clone(),
        headers,
    };
    MEASURES.commands_per_commit.record(commit.len() as f64);
    let begun = Instant::now();
    let appended = match desk.log.append(append).await {
        Err(AppendError::InDoubt(reason)) => {
            let subject = subject::events_of(A::NAME, &desk.id);
            let settling = settle(desk, subject, expected, &payload, reason);
            let settled = Box::pin(settling).await;
            match &settled {
                Ok(_) => MEASURES.doubts_stored.increment(1),
                Err(AppendError::LostRace) => MEASURES.doubts_lost.increment(1),
                Err(_) => MEASURES.doubts_open.increment(1),
            }
            settled
        }
        appended => appended,
    };
    MEASURES.append.record(begun.elapsed().as_secs_f64());
    appended.map(|position| (position, Mark::of(&payload)))
}

/// Settles an append in doubt: what stands first after the expected position is this very commit,
/// or somebody else's, or nothing yet.
async fn settle(
    desk: &Desk,
    subject: String,
    expected: u64,
    payload: &Bytes,
    reason: String,
) -> Result<u64, AppendError> {
    let found = desk
        .log
        .commit_after(&subject, expected)
        .await
        .map_err(|error| AppendError::InDoubt(format!("{reason}; {error}")))?;
    let Some(message) = found else {
        return Err(AppendError::InDoubt(reason));
    };
    // Another commit may begin with the same command, decided again at another time.
    if message.payload == payload {
        tracing::info!(
            event.position = message.position,
            reason,
            "append in doubt was stored"
        );
        Ok(message.position)
    } else {
        Err(AppendError::LostRace)
    }
}
