//! Aggregates whose events a process cannot place: they are held there, in order, and all others go on.
//!
//! An event is placed when it can be read and [`crate::process::Process::correlate`] names its instance. One that
//! cannot be is noted in the log with its reason, and from there on nothing of its aggregate is given to anybody.
//! What is held is placed again when a replica begins to follow, since its program may be a repaired one, and when
//! an operator asks for it. It is given as *late* then: the instance may have had later events of others.

use super::{desk::Desk, follower::FollowError};
use crate::{
    event_log::{
        reader::Commit,
        subject::{self, Id},
        unplaced::{Unplaced, Wanted},
    },
    process::Arrived,
};
use jiff::Timestamp;
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// The most aggregates that are held for one process. Past it the process stands still.
const MOST: usize = 1_024;

/// The time an instance may take to take what is late.
const PATIENCE: Duration = Duration::from_secs(10);

/// The events that are held, and those that are excluded.
pub(super) struct Waitlist {
    held: HashMap<(String, String), Unplaced>,
    /// The positions of what operators have excluded from the log.
    excluded: HashSet<u64>,
}

impl Waitlist {
    /// Reads what is held and what is excluded, and places again what can be, up to a position.
    pub(super) async fn open(desk: &Desk, up_to: u64) -> Result<Self, FollowError> {
        let process = &desk.process;
        let excluded = desk.log.excluded_positions(process.aggregates).await?;
        let mut waitlist = Self {
            held: HashMap::new(),
            excluded,
        };
        for unplaced in desk.log.unplaced(process.name).await? {
            let key = (unplaced.aggregate.clone(), unplaced.id.clone());
            waitlist.held.insert(key, unplaced);
        }
        let all: Vec<_> = waitlist.held.values().cloned().collect();
        for unplaced in all {
            waitlist.place(desk, unplaced, up_to).await?;
        }
        Ok(waitlist)
    }

    /// Returns whether anything is held.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Does what operators want to be done, up to the position that has been read.
    pub(super) async fn follow_operators(
        &mut self,
        desk: &Desk,
        read_to: u64,
    ) -> Result<(), FollowError> {
        for unplaced in desk.log.unplaced(desk.process.name).await? {
            if unplaced.wanted.is_some() {
                self.place(desk, unplaced, read_to).await?;
            }
        }
        Ok(())
    }

    /// The inputs that a commit brings, with their instances. A commit that cannot be placed as a whole is held
    /// as a whole.
    pub(super) async fn inputs(
        &mut self,
        desk: &Desk,
        commit: Commit,
    ) -> Result<Vec<(Id, Arrived)>, FollowError> {
        let key = (commit.aggregate.clone(), commit.id.clone());
        // One without events says that something is excluded; one that cannot be read may be.
        if commit
            .events
            .as_ref()
            .map_or(true, |events| events.is_empty())
        {
            let newly = desk.log.excluded_positions_of(&key.0, &key.1).await?;
            self.excluded.extend(newly);
        }
        if self.excluded.contains(&commit.position) || self.held.contains_key(&key) {
            return Ok(Vec::new());
        }
        let position = commit.position;
        match inputs(desk, commit) {
            Ok(inputs) => Ok(inputs),
            Err(reason) => {
                self.hold(desk, key, position, reason).await?;
                Ok(Vec::new())
            }
        }
    }

    async fn hold(
        &mut self,
        desk: &Desk,
        (aggregate, id): (String, String),
        position: u64,
        reason: String,
    ) -> Result<(), FollowError> {
        if self.held.len() >= MOST {
            return Err(FollowError::Stuck { position, reason });
        }
        tracing::error!(process.name = desk.process.name, aggregate.name = aggregate, aggregate.id = id, event.position = position, %reason, "an event cannot be placed; it is held with all that come after it of its aggregate");
        let unplaced = Unplaced {
            aggregate: aggregate.clone(),
            id: id.clone(),
            from: position,
            reason,
            at: Timestamp::now(),
            wanted: None,
        };
        // Noted before it counts as given.
        desk.log.note_unplaced(desk.process.name, &unplaced).await?;
        self.held.insert((aggregate, id), unplaced);
        Ok(())
    }

    /// Gives what is held of an aggregate to its instances, up to a position or to what cannot be placed.
    async fn place(
        &mut self,
        desk: &Desk,
        unplaced: Unplaced,
        up_to: u64,
    ) -> Result<(), FollowError> {
        let key = (unplaced.aggregate.clone(), unplaced.id.clone());
        let Ok(id) = Id::new(unplaced.id.as_str()) else {
            return Ok(());
        };
        let newly = desk.log.excluded_positions_of(&key.0, &key.1).await?;
        self.excluded.extend(newly);
        let subject = subject::events_of(&unplaced.aggregate, &id);
        let mut after = unplaced.from - 1;
        let mut skips = unplaced.wanted == Some(Wanted::Skip);
        loop {
            let messages = desk.log.next_messages(&subject, after, up_to).await?;
            if messages.is_empty() {
                break;
            }
            for message in &messages {
                let passed_over = std::mem::take(&mut skips);
                after = message.position;
                if passed_over || self.excluded.contains(&message.position) {
                    continue;
                }
                let placed = match inputs(desk, Commit::of(message)) {
                    Ok(inputs) => give_all(desk, inputs).await,
                    Err(reason) => Err(reason),
                };
                match placed {
                    Ok(()) => {}
                    Err(reason) => {
                        let (from, wanted) = (message.position, unplaced.wanted);
                        let same = from == unplaced.from && reason == unplaced.reason;
                        let still = Unplaced {
                            from,
                            reason,
                            wanted: None,
                            ..unplaced
                        };
                        if !same || wanted.is_some() {
                            desk.log.note_unplaced(desk.process.name, &still).await?;
                        }
                        self.held.insert(key, still);
                        return Ok(());
                    }
                }
            }
        }
        let settled = Unplaced {
            from: 0,
            reason: "placed".to_owned(),
            at: Timestamp::now(),
            wanted: None,
            ..unplaced
        };
        desk.log.note_unplaced(desk.process.name, &settled).await?;
        tracing::info!(
            process.name = desk.process.name,
            aggregate.name = key.0,
            aggregate.id = key.1,
            "what was held is placed"
        );
        self.held.remove(&key);
        Ok(())
    }
}

/// The inputs that a commit brings; why not, when it cannot be read or one of its events not be placed.
fn inputs(desk: &Desk, commit: Commit) -> Result<Vec<(Id, Arrived)>, String> {
    let mut inputs = Vec::new();
    for event in commit.events? {
        if let Some(instance) = desk.process.correlate(&event)? {
            let id = Id::new(instance.as_str());
            let id = id.map_err(|error| format!("{instance:?}: {error}"))?;
            inputs.push((id, Arrived::Event(event)));
        }
    }
    Ok(inputs)
}

/// Gives what is late to its instances; an error when one does not take it in time, so that all others go on.
async fn give_all(desk: &Desk, inputs: Vec<(Id, Arrived)>) -> Result<(), String> {
    for (instance, input) in inputs {
        let giving = desk.give_event(&instance, late(input));
        let given = tokio::time::timeout(PATIENCE, giving).await;
        given.map_err(|_| format!("the instance {instance} does not take it"))?;
    }
    Ok(())
}

/// An event as it is given after its time.
fn late(input: Arrived) -> Arrived {
    match input {
        Arrived::Event(event) => Arrived::Late(event),
        other => other,
    }
}
