//! Appending what a turn has decided: the claims, the headers, and the settling of a doubt.

use super::Desk;
use crate::{
    aggregate::{Aggregate, Claim},
    command::{measure::MEASURES, traces::Appending},
    event_log::{
        Append, AppendError, LoadError,
        claim::ClaimWrite,
        codec::{self, CommandEvents},
        subject,
    },
    problem::Problem,
};
use async_nats::{HeaderMap, HeaderName};
use bytes::Bytes;
use std::time::Instant;

// Made once: a name that is made anew is checked and copied.
const CONTENT_TYPE: HeaderName = HeaderName::from_static("Content-Type");

/// Looks up who holds each key and prepares the messages that take and give them up.
pub(super) async fn resolve_claims<A: Aggregate>(
    desk: &Desk,
    claims: &[Claim],
    releases: &[Claim],
) -> Result<Result<Vec<ClaimWrite>, Problem>, LoadError> {
    let mut writes = Vec::new();
    let own = |holder: &(String, String)| holder.0 == A::NAME && holder.1 == desk.id.as_str();
    for claim in claims {
        let record = desk.log.claim(claim).await?;
        match &record.holder {
            None => writes.push(ClaimWrite::take(claim, &record, A::NAME, desk.id.as_str())),
            Some(holder) if own(holder) => {}
            Some(_) => return Ok(Err(Problem::claim_taken(claim.scope))),
        }
    }
    for claim in releases {
        let record = desk.log.claim(claim).await?;
        if record.holder.as_ref().is_some_and(own) {
            writes.push(ClaimWrite::release(
                claim,
                &record,
                A::NAME,
                desk.id.as_str(),
            ));
        }
    }
    Ok(Ok(writes))
}

/// `Nats-Msg-Id` where one command makes the commit, and its place in a trace.
pub(super) fn commit_headers<A: Aggregate>(
    desk: &Desk,
    commit: &[CommandEvents],
    appending: &Appending<'_>,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, codec::CONTENT_TYPE);
    if let [single] = commit {
        // The stream's ids are of all aggregates, a command's only of its own.
        headers.insert(
            async_nats::header::NATS_MESSAGE_ID,
            subject::dotted([A::NAME, desk.id.as_str(), &single.command_id]),
        );
    }
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

pub(super) async fn append<A: Aggregate>(
    desk: &Desk,
    expected: u64,
    headers: HeaderMap,
    commit: &[CommandEvents],
    claims: Vec<ClaimWrite>,
) -> Result<u64, AppendError> {
    let payload: Bytes = codec::encode(A::NAME, desk.id.as_str(), commit)
        .map_err(|error| AppendError::Refused(error.to_string()))?
        .into();
    let append = Append {
        subject: subject::events_of(A::NAME, &desk.id),
        expected,
        payload: payload.clone(),
        headers,
        claims,
    };
    MEASURES.commands_per_commit.record(commit.len() as f64);
    let begun = Instant::now();
    let appended = match desk.log.append(append).await {
        Err(AppendError::InDoubt(reason) | AppendError::Known(reason)) => {
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
    appended
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
