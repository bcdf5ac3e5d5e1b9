//! A guard of what a replica publishes at a caller's wish.

use super::Inboxes;
use async_nats::Message;
use metrics::{Counter, counter};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The pause between two lines that tell that requests were refused.
const LOGGED_EVERY: Duration = Duration::from_secs(60);

/// Lets no request through whose answer would go elsewhere than to an inbox.
///
/// An answer is published with the rights of the replica. Were it to go to whatever subject a caller
/// names, whoever may send one command could write to the log, to the snapshots, or as a replica. Such a
/// request is not carried out: there is nowhere to say what is wrong with it, and one who cannot be
/// answered must not find out by its effect.
#[derive(Clone)]
pub struct ReplyGuard(Arc<Inner>);

struct Inner {
    inboxes: Inboxes,
    refused: Counter,
    /// The time when it was logged last, and how many have been refused since.
    logged: Mutex<(Option<Instant>, u64)>,
}

impl ReplyGuard {
    /// A guard that knows these inboxes.
    #[must_use]
    pub fn new(inboxes: Inboxes) -> Self {
        Self(Arc::new(Inner {
            inboxes,
            refused: counter!("headwater_replies_refused_total"),
            logged: Mutex::default(),
        }))
    }

    /// Returns whether a request may be carried out: it is to be answered in an inbox, or not at all.
    /// One that may not is counted, and now and then logged.
    #[must_use]
    pub fn admits(&self, request: &Message) -> bool {
        let reply = request.reply.as_deref();
        let Some(reply) = reply.filter(|reply| !self.0.inboxes.have(reply)) else {
            return true;
        };
        self.0.refused.increment(1);
        if let Some(refused) = self.to_log(Instant::now()) {
            tracing::warn!(
                request.subject = ?shown(&request.subject),
                request.reply = ?shown(reply),
                refused,
                "requests were not carried out: their answers would go elsewhere than to an inbox; if clients \
                 have inboxes of their own, name them with --inbox-prefix"
            );
        }
        false
    }

    /// Returns how many to log as refused, if it is time to.
    fn to_log(&self, now: Instant) -> Option<u64> {
        let mut logged = self.0.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, refused) = &mut *logged;
        *refused += 1;
        let due = last.is_none_or(|last| now.saturating_duration_since(last) >= LOGGED_EVERY);
        due.then(|| {
            *last = Some(now);
            std::mem::take(refused)
        })
    }
}

/// The beginning of a subject: a caller may make it as long as a line of NATS.
fn shown(subject: &str) -> &str {
    subject
        .split_at_checked(64)
        .map_or(subject, |(start, _)| start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_logged_once_a_minute_at_most() {
        let guard = ReplyGuard::new(Inboxes::default());
        let start = Instant::now();
        let at = |seconds| guard.to_log(start + Duration::from_secs(seconds));
        assert_eq!(at(0), Some(1));
        assert_eq!(at(1), None);
        assert_eq!(at(59), None);
        assert_eq!(at(60), Some(3));
        assert_eq!(at(61), None);
    }
}
