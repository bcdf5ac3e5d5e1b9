//! Appending what a turn has decided: the headers, and the settling of a doubt.

use super::Desk;
use crate::{
    aggregate::Aggregate,
    command::{measure::MEASURES, traces::Appending},
    event_log::{
        Append, AppendError, Mark,
        codec::{self, CommandEvents},
        subject,
    },
};
use async_nats::HeaderMap;
use bytes::Bytes;
use std::time::{Duration, Instant};

/// A doubt that comes within this time after its append came early: sooner than an acknowledgement is late.
const EARLY: Duration = Duration::from_secs(2);
/// The pauses between looks for a commit that is in doubt early.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];

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

/// Appends a commit, begun at this moment, and returns its position, and the mark of what stands there.
pub(super) async fn append<A: Aggregate>(
    desk: &Desk,
    expected: u64,
    headers: HeaderMap,
    commit: &[CommandEvents],
    begun: Instant,
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
    let appended = match desk.log.append(append).await {
        Err(AppendError::InDoubt(reason)) => {
            let subject = subject::events_of(A::NAME, &desk.id);
            let settling = settle(desk, subject, expected, &payload, reason, begun);
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
/// or somebody else's, or nothing yet. Where the doubt came early, since the connection or the leader was lost, the commit
/// may be on its way still: it is looked for more than once.
async fn settle(
    desk: &Desk,
    subject: String,
    expected: u64,
    payload: &Bytes,
    reason: String,
    begun: Instant,
) -> Result<u64, AppendError> {
    let mut pauses = PAUSES.iter();
    loop {
        let doubt = match desk.log.commit_after(&subject, expected).await {
            // Another commit may begin with the same command, decided again at another time.
            Ok(Some(message)) if message.payload == payload => {
                tracing::info!(
                    event.position = message.position,
                    reason,
                    "append in doubt was stored"
                );
                return Ok(message.position);
            }
            Ok(Some(_)) => return Err(AppendError::LostRace),
            Ok(None) => reason.clone(),
            Err(error) => format!("{reason}; {error}"),
        };
        match pauses.next() {
            Some(pause) if begun.elapsed() < EARLY => tokio::time::sleep(*pause).await,
            _ => return Err(AppendError::InDoubt(doubt)),
        }
    }
}
