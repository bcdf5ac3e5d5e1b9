//! The projector's description of itself.

use jiff::Timestamp;

/// The activity of a projector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProjectorState {
    /// It has not read anything yet.
    #[default]
    Starting,
    /// It follows the log.
    Following,
    /// Something that it needs is away, or its view is defective; it tries again.
    Stalled,
    /// Another program keeps the view.
    StandingBy,
    /// Another projector wrote the view; it looks again later.
    SteppedDown,
    /// It was stopped.
    Stopped,
}

/// The state of a view's projector.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProjectorStatus {
    /// The activity.
    pub state: ProjectorState,
    /// The stream sequence of the last commit applied.
    pub applied: u64,
    /// The number of commits the log is ahead, as far as is known.
    pub lag_commits: u64,
    /// The time of the first commit that is not applied; `None` when all are, as far as is known.
    pub behind_since: Option<Timestamp>,
    /// Since when it has been stalled, and why.
    pub stalled: Option<Stalled>,
    /// The number of aggregates that are parked.
    pub parked: usize,
    /// True if it has read the log to its end once since it was started.
    pub ready: bool,
    /// The number of commits that it has applied since it was started.
    pub commits: u64,
}

/// The reason why a projector does not get on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stalled {
    /// The time when it stalled.
    pub since: Timestamp,
    /// The last failure.
    pub reason: String,
}

impl Stalled {
    /// For how long, at time `now`, in milliseconds.
    #[must_use]
    pub fn age_ms(&self, now: Timestamp) -> u64 {
        let age = now.duration_since(self.since).as_millis();
        u64::try_from(age).unwrap_or(0)
    }
}

impl ProjectorStatus {
    /// Returns how far behind the log the view is at time `now`, in milliseconds.
    #[must_use]
    pub fn lag_ms(&self, now: Timestamp) -> u64 {
        crate::read_model::Progress {
            position: self.applied,
            behind_since: self.behind_since,
        }
        .lag_ms(now)
    }
}
