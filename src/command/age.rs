//! The age of a command: nothing is carried out that its caller has given up long ago.
//!
//! A command carries the earliest moment at which it can have been sent to this process, which is before
//! the moment at which it was read: it may have waited in a socket. Commands that are passed on carry
//! their age along, so the home counts from the first arrival. An age only ever makes older, so
//! it is believed from anybody.
//!
//! What one replica has passed on and another has not answered may be asked of a third. So a home that was
//! not running for a while decides nothing of what had been passed on to it before.

use crate::request_headers::RequestHeaders;
use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A command that was not decided so long after its arrival is not carried out any more. With the second
/// that sending takes at the most it is ten.
pub const DECIDED_WITHIN: Duration = Duration::from_secs(9);
/// The same for what may have waited in the socket of a home. It is shorter than the silence after which
/// a replica is gone for the others, who may then ask another home.
pub const TAKEN_WITHIN: Duration = Duration::from_millis(2_500);
/// A process that did not run for so long was stopped.
const STALL: Duration = Duration::from_secs(2);
/// So long after a stop, what is read by HTTP may have waited in a socket.
const WAKING: Duration = Duration::from_secs(1);
/// The pause between two notes that the process runs.
const TICK: Duration = Duration::from_millis(250);

/// The header in which a command carries its age in milliseconds from one replica to another.
pub const AGE: &str = "Headwater-Age-Ms";

/// The time when a command came, and its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    read: Instant,
    /// The earliest moment at which it can have been sent to the first replica.
    earliest: Option<Instant>,
    passed_on: bool,
}

impl Arrival {
    /// A command from within this process, or from its HTTP gateway.
    pub fn within() -> Self {
        let now = Instant::now();
        Self {
            read: now,
            earliest: (!AWAKE.was_stopped(now)).then_some(now),
            passed_on: false,
        }
    }

    /// A message that cannot have been sent to this process before `earliest`.
    pub fn by_message(earliest: Instant, headers: &impl RequestHeaders, passed_on: bool) -> Self {
        Self::aged(earliest, told(headers), passed_on)
    }

    /// The same, of this age when it was sent.
    pub fn aged(earliest: Instant, age: Duration, passed_on: bool) -> Self {
        let now = Instant::now();
        let known = !passed_on || now.saturating_duration_since(earliest) < TAKEN_WITHIN;
        Self {
            read: now,
            earliest: known.then(|| earliest.checked_sub(age)).flatten(),
            passed_on,
        }
    }

    /// Returns when it was read.
    pub fn read(&self) -> Instant {
        self.read
    }

    /// Returns how old it may be; `None` when it cannot be told.
    pub fn age(&self) -> Option<Duration> {
        self.earliest.map(|earliest| earliest.elapsed())
    }

    /// Returns when it is too old to be decided; `None` when it is already.
    pub fn deadline(&self) -> Option<Instant> {
        self.earliest.map(|earliest| earliest + DECIDED_WITHIN)
    }

    /// Returns whether it is too old to be decided.
    pub fn is_expired(&self) -> bool {
        self.is_expired_at(Instant::now())
    }

    /// As [`Arrival::is_expired`], for who asks for many.
    pub fn is_expired_at(&self, now: Instant) -> bool {
        self.deadline().is_none_or(|deadline| now >= deadline)
            || (self.passed_on && AWAKE.stalled_after(self.read, now))
    }
}

/// Reads the age that a message says it has.
fn told(headers: &impl RequestHeaders) -> Duration {
    let value = headers.all(AGE).next();
    let value = value.and_then(|value| str::from_utf8(value).ok()?.parse().ok());
    Duration::from_millis(value.unwrap_or(0))
}

/// A watch on whether this process runs, kept by a thread that does nothing else. The clock of [`Instant`] goes on while
/// the process is stopped.
struct Awake {
    begun: Instant,
    /// The time when it ran last, in milliseconds since it began.
    ran: AtomicU64,
    /// The end of the last stop.
    resumed: AtomicU64,
    /// The end of the last stop that was as long as a command is carried out.
    resumed_late: AtomicU64,
}

static AWAKE: LazyLock<Awake> = LazyLock::new(|| {
    let noting = || {
        loop {
            std::thread::sleep(TICK);
            AWAKE.note(Instant::now());
        }
    };
    let named = std::thread::Builder::new().name("headwater-awake".to_owned());
    let spawned = named.spawn(noting);
    if let Err(error) = &spawned {
        tracing::error!(%error, "that this process is stopped would not be noticed");
    }
    Awake {
        begun: Instant::now(),
        // Without the thread it always runs.
        ran: AtomicU64::new(if spawned.is_ok() { 0 } else { u64::MAX }),
        resumed: AtomicU64::new(0),
        resumed_late: AtomicU64::new(0),
    }
});

impl Awake {
    fn since_begun(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.begun).as_millis() as u64
    }

    fn note(&self, at: Instant) {
        let now = self.since_begun(at);
        let gap = now.saturating_sub(self.ran.load(Ordering::Acquire));
        // The end of a stop is told before that it runs: who sees the one sees the other.
        if gap >= STALL.as_millis() as u64 {
            self.resumed.store(now, Ordering::Release);
        }
        if gap >= DECIDED_WITHIN.as_millis() as u64 {
            self.resumed_late.store(now, Ordering::Release);
        }
        self.ran.store(now, Ordering::Release);
    }

    fn gap(&self, now: u64) -> u64 {
        now.saturating_sub(self.ran.load(Ordering::Acquire))
    }

    /// Returns whether the process was stopped for a while after this moment.
    fn stalled_after(&self, moment: Instant, now: Instant) -> bool {
        let now = self.since_begun(now);
        self.gap(now) >= STALL.as_millis() as u64
            || self.resumed.load(Ordering::Acquire) > self.since_begun(moment)
    }

    /// Returns whether the process was stopped until just now, for longer than a command is carried out.
    fn was_stopped(&self, now: Instant) -> bool {
        let now = self.since_begun(now);
        let late = self.resumed_late.load(Ordering::Acquire);
        self.gap(now) >= DECIDED_WITHIN.as_millis() as u64
            || (late > 0 && now.saturating_sub(late) < WAKING.as_millis() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_nats::HeaderMap;

    const NONE: Option<HeaderMap> = None;

    fn awake(begun: Instant) -> Awake {
        Awake {
            begun,
            ran: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            resumed_late: AtomicU64::new(0),
        }
    }

    #[test]
    fn a_command_grows_as_old_as_it_says_and_never_younger() {
        let mut headers = HeaderMap::new();
        headers.insert("headwater-age-ms", "8999");
        let now = Instant::now();
        let fresh = Arrival::by_message(now, &NONE, true);
        assert!(!fresh.is_expired());
        let aged = Arrival::by_message(now, &Some(headers.clone()), true);
        assert!(aged.deadline().unwrap() <= now + Duration::from_millis(1));
        headers.insert("headwater-age-ms", "9000");
        assert!(Arrival::by_message(now, &Some(headers.clone()), false).is_expired());
        headers.insert("headwater-age-ms", "-9000");
        assert!(!Arrival::by_message(now, &Some(headers.clone()), false).is_expired());
        headers.insert("headwater-age-ms", u64::MAX.to_string());
        assert!(Arrival::by_message(now, &Some(headers.clone()), false).is_expired());
    }

    #[test]
    fn what_may_have_waited_at_a_hung_home_is_not_decided_there() {
        let long_ago = Instant::now() - Duration::from_secs(3);
        assert!(Arrival::by_message(long_ago, &NONE, true).is_expired());
        assert!(!Arrival::by_message(long_ago, &NONE, false).is_expired());
    }

    #[test]
    fn a_stop_is_known_before_and_after_it_is_noted() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let awake = awake(begun);
        awake.note(at(250));
        assert!(!awake.stalled_after(at(250), at(500)));
        // Stopped at 300, resumed at 10,300.
        assert!(awake.stalled_after(at(300), at(10_300)));
        assert!(awake.was_stopped(at(10_300)));
        awake.note(at(10_310));
        assert!(awake.stalled_after(at(300), at(10_320)));
        assert!(!awake.stalled_after(at(10_320), at(10_330)));
        assert!(awake.was_stopped(at(10_400)));
        assert!(!awake.was_stopped(at(11_400)));
    }
}
