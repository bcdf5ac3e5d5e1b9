//! Watches the instances that a command's events belong to, until they are at rest.
//!
//! An instance is at rest when it has had the events, no command of its own waits for an answer, and it has
//! also had what its answered commands have brought about in aggregates that the process follows: so a caller
//! is told what has come of it, and not what it is between two steps. An event that nothing follows from leaves
//! no trace with the instance. That it was given to it is known from the follower's place in the log.

use super::{ToldInstance, ToldStatus, desk::Desk, follower};
use crate::{
    command::waits::{RestAnswer, RestAsk, RestInstance},
    event_log::{
        LoadError, codec,
        reader::{Commit, ReadError, Reader},
        subject::{self, Id, STREAM},
    },
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The first pause between two looks.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// The longest time that may be asked for.
const LONGEST: Duration = Duration::from_secs(5);
/// The most instances that are watched for one command.
const MOST: usize = 16;

/// The reason why it cannot be told now.
#[derive(Debug, thiserror::Error)]
enum RestError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// One instance that is watched.
struct Watched {
    id: Id,
    /// The last of the command's events that belongs to it, as its position and its version.
    event: (u64, u64),
    told: ToldInstance,
    read_to: u64,
}

/// Waits until all is at rest, or the time is over.
pub(super) async fn rest(desk: &Desk, ask: &RestAsk) -> RestAnswer {
    let wait = Duration::from_millis(ask.wait_ms).min(LONGEST);
    let end = Instant::now() + wait;
    let mut watched = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let looked = look(desk, ask, &mut watched).await;
        let at_rest = looked.unwrap_or_else(|error| {
            tracing::debug!(process.name = desk.process.name, %error, "an instance cannot be watched");
            false
        });
        let left = end.saturating_duration_since(Instant::now());
        if at_rest || left.is_zero() {
            return told(at_rest, watched.as_deref().unwrap_or_default());
        }
        tokio::time::sleep(pause.min(left)).await;
        // Grows with what has passed, so that looking costs a part of the time, and no more.
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

fn told(at_rest: bool, watched: &[Watched]) -> RestAnswer {
    // One that has no trace when all has settled was never begun.
    let there = watched.iter();
    let there = there.filter(|one| !at_rest || one.told.last.is_some());
    let instances = there.map(|one| RestInstance {
        id: one.id.to_string(),
        status: one.told.status.to_string(),
    });
    RestAnswer {
        at_rest,
        instances: instances.collect(),
    }
}

/// Returns whether all are at rest.
async fn look(
    desk: &Desk,
    ask: &RestAsk,
    watched: &mut Option<Vec<Watched>>,
) -> Result<bool, RestError> {
    let watched = match watched {
        Some(watched) => watched,
        None => watched.insert(begin(desk, ask).await?),
    };
    for one in watched {
        one.read_on(desk).await?;
        if !one.is_at_rest(desk).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Finds the instances that the events of a command belong to.
async fn begin(desk: &Desk, ask: &RestAsk) -> Result<Vec<Watched>, RestError> {
    if !desk.process.aggregates.contains(&&*ask.aggregate) {
        return Ok(Vec::new());
    }
    let Some(message) = desk.log.message_at(ask.position).await? else {
        return Ok(Vec::new());
    };
    let commit = subject::parse_events(&message.subject);
    if commit != Some((&*ask.aggregate, &*ask.id)) {
        return Ok(Vec::new());
    }
    let events = codec::decode(&message.subject, message.position, &message.payload);
    let mut events_of = BTreeMap::new();
    for event in events.unwrap_or_default() {
        let event = event.recorded;
        if (ask.first..=ask.last).contains(&event.version)
            && let Ok(Some(id)) = desk.process.correlate(&event)
        {
            events_of.insert(id, (event.position, event.version));
        }
    }
    let watched = events_of.into_iter().take(MOST).filter_map(|(id, event)| {
        Some(Watched {
            id: Id::new(id).ok()?,
            event,
            told: ToldInstance::default(),
            read_to: 0,
        })
    });
    Ok(watched.collect())
}

impl Watched {
    /// Takes in what its records tell, up to the last.
    async fn read_on(&mut self, desk: &Desk) -> Result<(), RestError> {
        let process = desk.process.name;
        let subject = subject::events_of(process, &self.id);
        if self.read_to == 0 {
            let messages = desk.log.messages(&subject, 0, u64::MAX).await?;
            for message in &messages {
                self.take(process, Commit::of(message));
            }
        }
        // Through the leader: it must not be taken for at rest since a copy is behind.
        while let Some(message) = desk.log.commit_after(&subject, self.read_to).await? {
            self.take(process, Commit::of(&message));
        }
        Ok(())
    }

    fn take(&mut self, process: &str, commit: Commit) {
        self.read_to = commit.position;
        for event in commit.events.iter().flatten() {
            self.told.take(process, event);
        }
    }

    async fn is_at_rest(&mut self, desk: &Desk) -> Result<bool, RestError> {
        if self.told.status == ToldStatus::Ended {
            return Ok(true);
        }
        let Some(missing) = self.missing(desk) else {
            return Ok(self.waits_for_nothing());
        };
        if !self.waits_for_nothing() && self.told.last.is_some() {
            return Ok(false);
        }
        // Read before the records, so that what the follower has stored by then is among them.
        let name = follower::consumer(desk.process.name);
        let given = Reader::acknowledged(&desk.log, STREAM, &name).await?;
        if given.is_none_or(|given| given < missing) {
            return Ok(false);
        }
        self.read_on(desk).await?;
        let settled = self.missing(desk).is_none_or(|still| still == missing);
        Ok(settled && (self.waits_for_nothing() || self.told.last.is_none()))
    }

    /// Returns whether no command of it waits for an answer, or it cannot go on.
    fn waits_for_nothing(&self) -> bool {
        self.told.status != ToldStatus::Running
    }

    /// The position of an event that it has, or may have, not had yet.
    fn missing(&self, desk: &Desk) -> Option<u64> {
        let followed = desk.process.aggregates.iter();
        let answered = followed.filter_map(|name| self.told.answered.get(*name));
        let answered = answered.copied().max().unwrap_or(0);
        let seen = self.told.seen.unwrap_or_default();
        match () {
            () if seen < self.event => Some(self.event.0.max(answered)),
            () if seen.0 < answered => Some(answered),
            () => None,
        }
    }
}
