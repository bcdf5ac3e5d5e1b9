//! The trouble of the log, if there is one: which, not merely that there is one.
//!
//! Three learn of troubles: the monitor ([`monitor`]), which asks for the stream twice a second; the
//! connections, whose server refuses what is not permitted; and the appends, which alone meet a limit
//! of the account or of the disk. [`LogHealth`] holds what they report, logs each change once, and
//! answers `/readyz`.

mod monitor;
mod trouble;

pub use monitor::Monitor;
pub use trouble::Trouble;

use super::identity::Known;
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// The time a trouble that an append reported is taken to last while none succeeds and none fails.
const REPORT_LASTS: Duration = Duration::from_secs(10);

/// The health of the log as one process sees it. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct LogHealth(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Knowledge of the log, which is to be verified whenever it may have become another one.
    known: Arc<Known>,
    /// True if there is a report: what an append that went well looks at, and mostly nothing else.
    reported: AtomicBool,
    state: Mutex<State>,
    /// The number of times that the server has refused to take a message of the log.
    denials: watch::Sender<u64>,
    /// The number of times that one of the connections was lost or made anew.
    connections: watch::Sender<u64>,
    /// The number of times that the stream got a leader.
    elections: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// By the monitor.
    watched: Option<Trouble>,
    /// By an append or a connection, and when last.
    reported: Option<(Trouble, Instant)>,
    /// A subscription that the server refuses, until the next connection.
    deaf: Option<Trouble>,
    /// The trouble that the log's last line told.
    told: Option<Trouble>,
}

impl LogHealth {
    /// Takes note of a trouble that an append met. It lasts until an append succeeds, or none was
    /// tried for ten seconds.
    pub fn report(&self, trouble: Trouble) {
        let mut state = self.state();
        state.reported = Some((trouble, Instant::now()));
        self.0.reported.store(true, Ordering::Release);
        tell(&mut state);
    }

    /// Takes note of a refusal by JetStream, by the code and the words of its error. Returns whether
    /// it was a trouble of the log; a lost race, for example, is none.
    pub fn refused(&self, err_code: u64, description: &str) -> bool {
        let trouble = Trouble::of_error(err_code, description);
        let is_trouble = trouble.is_some();
        if let Some(trouble) = trouble {
            self.report(trouble);
        }
        is_trouble
    }

    /// Takes note that an append succeeded. Costs one load of an atomic while nothing is reported.
    pub fn well(&self) {
        if self.0.reported.load(Ordering::Acquire) {
            let mut state = self.state();
            state.reported = None;
            self.0.reported.store(false, Ordering::Release);
            tell(&mut state);
        }
    }

    /// The trouble that there is now.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        current(&mut self.state())
    }

    /// Tells that the log may be another one than the one that is remembered: it was away, or was
    /// changed by an operator. See [`EventLog::suspect`](super::EventLog::suspect).
    pub fn suspect(&self, reason: &str) {
        self.0.known.suspect(reason);
    }

    pub(super) fn known(&self) -> &Arc<Known> {
        &self.0.known
    }

    /// Takes note of what the monitor saw.
    fn watched(&self, trouble: Option<Trouble>) {
        let mut state = self.state();
        state.watched = trouble;
        tell(&mut state);
    }

    /// Takes note of what a connection's server refuses, by the server's own words.
    pub fn denied(&self, words: &str) {
        match Denied::read(words) {
            Some(Denied::Publish(subject)) if is_of_the_log(subject) => {
                self.report(Trouble::Forbidden(words.to_owned()));
                self.0.denials.send_modify(|denials| *denials += 1);
            }
            Some(Denied::Subscribe(subject)) if is_needed(subject) => {
                let mut state = self.state();
                state.deaf = Some(Trouble::Forbidden(words.to_owned()));
                tell(&mut state);
            }
            _ => tracing::warn!(nats.error = words, "the server refuses"),
        }
    }

    /// Changes whenever the server refuses to take a message of the log: no acknowledgement comes then.
    pub(super) fn denials(&self) -> watch::Receiver<u64> {
        self.0.denials.subscribe()
    }

    /// Takes note that the stream has got a leader.
    fn elected(&self) {
        self.0.elections.send_modify(|elections| *elections += 1);
    }

    /// Changes whenever the stream gets a leader: what the one before has not acknowledged, it may never do.
    pub(super) fn elections(&self) -> watch::Receiver<u64> {
        self.0.elections.subscribe()
    }

    /// Changes whenever one of the connections is lost or made anew: what was to come by it may be lost.
    pub(super) fn connections(&self) -> watch::Receiver<u64> {
        self.0.connections.subscribe()
    }

    /// Takes note of a new connection: what was refused on the one before is tried again.
    pub fn connected(&self) {
        self.state().deaf = None;
        self.suspect("the connection was made anew");
        self.0.connections.send_modify(|changes| *changes += 1);
    }

    /// Takes note of a connection that is lost.
    pub fn disconnected(&self) {
        self.suspect("the connection was lost");
        self.0.connections.send_modify(|changes| *changes += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LogHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogHealth").field(&self.trouble()).finish()
    }
}

/// Returns what is found out by looking weighs more than what was reported: it is newer.
fn current(state: &mut State) -> Option<Trouble> {
    if let Some((_, at)) = &state.reported
        && at.elapsed() > REPORT_LASTS
    {
        state.reported = None;
    }
    let reported = state.reported.as_ref().map(|(trouble, _)| trouble);
    state
        .watched
        .as_ref()
        .or(reported)
        .or(state.deaf.as_ref())
        .cloned()
}

/// Logs a change, once.
fn tell(state: &mut State) {
    let now = current(state);
    if now == state.told {
        return;
    }
    match (&now, &state.told) {
        (Some(trouble), Some(told)) if trouble.kind() == told.kind() => {}
        (Some(trouble), _) => {
            tracing::error!(trouble.kind = trouble.kind(), reason = %trouble, "the log is not available");
        }
        (None, _) => tracing::warn!("the log is available again"),
    }
    state.told = now;
}

/// The permissions that a server refuses to a connection.
enum Denied<'a> {
    Publish(&'a str),
    Subscribe(&'a str),
}

impl<'a> Denied<'a> {
    /// Reads `Permissions Violation for Publish to "evt.order.o-1"`, in whatever case the server writes.
    fn read(words: &'a str) -> Option<Self> {
        let lower = words.to_ascii_lowercase();
        if !lower.starts_with("permissions violation") {
            return None;
        }
        let subject = words.split('"').nth(1)?;
        if lower.contains("for publish") {
            Some(Self::Publish(subject))
        } else {
            Some(Self::Subscribe(subject))
        }
    }
}

/// Of other subjects, such as one to reply to, a caller decides: those say nothing of the log.
fn is_of_the_log(subject: &str) -> bool {
    ["evt.", "claim.", "log.", "$JS."]
        .iter()
        .any(|prefix| subject.starts_with(prefix))
}

/// Advisories are only looked at; without them the monitor notices a little later. Lists of commands are not taken, and
/// other replicas not told what this one remembers, where the permissions are of before there was that.
fn is_needed(subject: &str) -> bool {
    let optional = ["$JS.EVENT.", "cmds.", "ctl.replica."];
    !optional.iter().any(|prefix| subject.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reported_trouble_lasts_until_an_append_succeeds() {
        let health = LogHealth::default();
        assert_eq!(health.trouble(), None);
        assert!(health.refused(10002, "resource limits exceeded for account"));
        assert!(matches!(health.trouble(), Some(Trouble::Limit(_))));
        health.clone().well();
        assert_eq!(health.trouble(), None);
    }

    #[test]
    fn a_lost_race_is_no_trouble() {
        let health = LogHealth::default();
        assert!(!health.refused(10071, "wrong last sequence: 4"));
        assert!(!health.refused(10164, "wrong last sequence"));
        assert_eq!(health.trouble(), None);
    }

    #[test]
    fn a_report_is_forgotten_when_no_append_was_tried_for_long() {
        let health = LogHealth::default();
        health.report(Trouble::Sealed);
        let long_ago = Instant::now().checked_sub(REPORT_LASTS * 2);
        health.state().reported = long_ago.map(|at| (Trouble::Sealed, at));
        assert_eq!(health.trouble(), None);
    }

    #[test]
    fn looking_weighs_more_than_a_report_and_does_not_end_it() {
        let health = LogHealth::default();
        health.report(Trouble::Limit("no space".to_owned()));
        health.watched(Some(Trouble::Missing));
        assert_eq!(health.trouble(), Some(Trouble::Missing));
        health.watched(None);
        assert!(matches!(health.trouble(), Some(Trouble::Limit(_))));
    }

    #[test]
    fn only_a_refusal_on_the_logs_own_subjects_is_its_trouble() {
        let health = LogHealth::default();
        health.denied("permissions violation for publish to \"some.callers.reply\"");
        health.denied("maximum connections exceeded");
        health.denied(
            "Permissions Violation for Subscription to \"$JS.EVENT.ADVISORY.STREAM.*.EVENTS\"",
        );
        health.denied("Permissions Violation for Subscription to \"cmds.*\" using queue \"q\"");
        health.denied("Permissions Violation for Subscription to \"ctl.replica.r1.*\"");
        assert_eq!(health.trouble(), None);

        health.denied("Permissions Violation for Publish to \"evt.order.o-1\"");
        let told = health.trouble().unwrap().to_string();
        assert!(told.contains("evt.order.o-1"), "{told}");
        health.well();
        assert_eq!(health.trouble(), None);
    }

    #[test]
    fn a_refused_subscription_is_told_until_the_next_connection() {
        let health = LogHealth::default();
        health
            .denied("Permissions Violation for Subscription to \"cmd.order.>\" using queue \"q\"");
        health.well();
        assert!(matches!(health.trouble(), Some(Trouble::Forbidden(_))));
        health.connected();
        assert_eq!(health.trouble(), None);
    }
}
