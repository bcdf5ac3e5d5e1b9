//! One attempt of a turn: decides commands one after another on one state, and appends their events as
//! one commit.

use super::{
    Desk, Pending, Queue,
    claims::{ClaimFault, write_claims},
    commit::{append, commit_headers},
    headers,
    state::{Loaded, last_place},
};
use crate::{
    access::refused_by_rule,
    aggregate::{Aggregate, Context, Decision, Rejection},
    command::{
        author::Author,
        measure::MEASURES,
        memory::{Name, Remembered},
        request::Lineage,
        traces::{self, Appending},
    },
    event_log::{
        AppendError, Mark,
        codec::{CommandEvents, ENVELOPE, EncodedEvent},
        subject::is_scope,
    },
    problem::Problem,
};
use jiff::Timestamp;
use rustc_hash::FxHashMap;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

/// Past this many bytes no further command joins the commit.
const MAX_COMMIT_BYTES: usize = 256 * 1024;

/// The result of one command in the attempt under way.
pub(super) enum Decided {
    /// Accepted with events that the append under way carries.
    Appending {
        remembered: Remembered,
    },
    /// Accepted; nothing to append.
    Nothing {
        remembered: Remembered,
    },
    /// It repeats an earlier command, remembered or of this very turn.
    Replayed {
        remembered: Remembered,
    },
    /// An attempt that was taken for lost has stored it.
    Found {
        remembered: Remembered,
    },
    Refused(Problem),
}

pub(super) enum Attempt {
    /// All are decided and, where there were events, appended.
    Done(Vec<Decided>),
    /// The state was stale, or the log refused: load and decide again.
    Again,
    /// Surely not stored now: try again, for a while.
    NotStored {
        reason: String,
        /// So many commands were in it.
        count: usize,
    },
    /// It can't be said now whether it is stored.
    Unknown {
        reason: String,
        /// So many commands were in it.
        count: usize,
    },
    /// The command at this index panicked, or the log will never take what it decided.
    Failed(usize),
    /// The log will never take all of it at once: fewer commands may do.
    TooMuch,
}

/// True if further commands may join the commit.
#[derive(PartialEq, Eq)]
enum Room {
    Left,
    None,
}

/// The author of a command, where a repeated one has to be theirs: where it has a key.
fn author<A: Aggregate>(pending: &Pending<A>) -> Option<Author> {
    pending.hash.and(Author::giving(&pending.headers.caller))
}

/// An attempt under way.
pub(super) struct Deciding<'a, A: Aggregate> {
    desk: &'a Desk,
    loaded: &'a mut Loaded<A>,
    /// Commands of earlier attempts that were found in the log.
    found: &'a FxHashMap<Arc<str>, Remembered>,
    /// True if the state is known to be the log's latest.
    fresh: bool,
    now: Timestamp,
    version_before: u64,
    decided: Vec<Decided>,
    commit: Vec<CommandEvents>,
    bytes: usize,
    /// True if the commit names claims.
    claimed: bool,
    /// True if keys are claimed that the commit will not name.
    abandoned: bool,
}

impl<'a, A: Aggregate> Deciding<'a, A> {
    /// Begins an attempt on a state; `fresh` says that it is known to be the log's latest.
    pub(super) fn begin(
        desk: &'a Desk,
        loaded: &'a mut Loaded<A>,
        fresh: bool,
        found: &'a FxHashMap<Arc<str>, Remembered>,
    ) -> Self {
        Self {
            version_before: loaded.version,
            desk,
            loaded,
            found,
            fresh,
            now: now(),
            decided: Vec::new(),
            commit: Vec::new(),
            bytes: 0,
            claimed: false,
            abandoned: false,
        }
    }

    /// Decides up to `taken` commands and appends their events as one commit.
    pub(super) async fn run(mut self, queue: &Queue<A>, taken: usize) -> Attempt {
        let begun = Instant::now();
        self.decided.reserve(taken);
        self.commit.reserve_exact(taken);
        for (index, pending) in queue.iter().take(taken).enumerate() {
            match self.take(index, pending).await {
                Ok(Room::Left) => {}
                Ok(Room::None) => break,
                Err(attempt) => return attempt,
            }
        }
        let ended = Instant::now();
        MEASURES.decide.record((ended - begun).as_secs_f64());
        traces::took("decide", headers(queue, self.decided.len()), begun);
        // A commit without events lets go of what was claimed for nothing, at once.
        if self.commit.is_empty() && !self.abandoned {
            return self.prove().await;
        }
        if self.claimed && self.desk.log.epoch() != self.loaded.epoch {
            // The claims may be of another log, and their positions somebody else's in this one.
            return Attempt::Again;
        }
        self.append(queue, ended).await
    }

    /// Decides one command on the state that those before it have made.
    async fn take(&mut self, index: usize, pending: &Pending<A>) -> Result<Room, Attempt> {
        if let Some(repeated) = self.repeat_of(pending) {
            return Ok(self.is(repeated));
        }
        if let Some(expected) = pending.headers.if_match
            && expected != self.loaded.version
        {
            // Who may not know that there is such a thing is not told its version.
            let hidden = match pending.headers.caller.is_unrestricted() {
                true => None,
                false => self.decide(pending).and_then(Result::err),
            };
            let hidden = hidden.filter(|problem| matches!(problem.status, 403 | 404));
            let mismatch = || Problem::version_mismatch(self.loaded.version);
            let problem = hidden.unwrap_or_else(mismatch);
            return Ok(self.is(Decided::Refused(problem)));
        }
        let decision = match self.decide(pending) {
            None => return Err(self.panicked(index)),
            Some(Err(problem)) => {
                refused_by_rule(&pending.headers.caller, A::NAME, &problem);
                return Ok(self.is(Decided::Refused(problem)));
            }
            Some(Ok(decision)) => decision,
        };
        if decision.events.is_empty() {
            let remembered = Remembered {
                key: pending.command_id.clone(),
                hash: pending.hash,
                by: author(pending),
                version: self.loaded.version,
                position: self.loaded.place.position,
                at: self.loaded.clock.now(),
                events: Box::new([]),
            };
            return Ok(self.is(Decided::Nothing { remembered }));
        }
        let mut claims = Vec::new();
        if !decision.claims.is_empty() || !decision.releases.is_empty() {
            // What an earlier command of the commit does with a key is decided only with the commit.
            if self.claimed {
                return Ok(Room::None);
            }
            match Box::pin(self.claim(index, &decision)).await? {
                Ok(positions) => claims = positions,
                Err(problem) => return Ok(self.is(Decided::Refused(problem))),
            }
        }
        self.join(index, pending, &decision, claims)
    }

    /// Notes what became of a command that adds nothing to the commit.
    fn is(&mut self, decided: Decided) -> Room {
        self.decided.push(decided);
        Room::Left
    }

    /// Asks the aggregate; `None` when it panics.
    fn decide(&self, pending: &Pending<A>) -> Option<Result<Decision<A::Event>, Problem>> {
        let context = Context {
            id: self.desk.id.shared(),
            version: self.loaded.version,
            command_id: pending.command_id.clone(),
            now: self.now,
            caller: pending.headers.caller.clone(),
        };
        let state = &self.loaded.state;
        let deciding = AssertUnwindSafe(|| {
            let decision = state.decide(pending.command.clone(), &context);
            decision.map_err(|rejection| refusal(&rejection))
        });
        catch_unwind(deciding).ok()
    }

    /// Claims the keys of a decision. Returns the positions that the commit is to name, or the problem
    /// that a key is somebody else's.
    async fn claim(
        &mut self,
        index: usize,
        decision: &Decision<A::Event>,
    ) -> Result<Result<Vec<u64>, Problem>, Attempt> {
        let all = decision.claims.iter().chain(&decision.releases);
        if let Some(wrong) = all.map(|claim| claim.scope).find(|it| !is_scope(it)) {
            tracing::error!(
                aggregate.name = A::NAME,
                scope = wrong,
                "not the scope of a claim"
            );
            return Err(Attempt::Failed(index));
        }
        // The keys are read after the state.
        self.fresh = false;
        match write_claims::<A>(self.desk, decision, self.loaded.place.position).await {
            Ok(positions) => {
                self.claimed = true;
                Ok(Ok(positions))
            }
            Err(ClaimFault::Taken { problem, claimed }) => {
                self.abandoned |= claimed;
                Ok(Err(problem))
            }
            Err(ClaimFault::Stale) => Err(Attempt::Again),
            Err(ClaimFault::Unavailable(reason)) => Err(Attempt::NotStored {
                reason,
                count: index + 1,
            }),
        }
    }

    /// Folds the events of a decision in, and adds them to the commit.
    fn join(
        &mut self,
        index: usize,
        pending: &Pending<A>,
        decision: &Decision<A::Event>,
        claims: Vec<u64>,
    ) -> Result<Room, Attempt> {
        let mut events = Vec::with_capacity(decision.events.len());
        let caller_id = pending.headers.caller.shared_subject().cloned();
        for event in &decision.events {
            let state = &mut self.loaded.state;
            if catch_unwind(AssertUnwindSafe(|| state.evolve(event))).is_err() {
                return Err(self.panicked(index));
            }
            let encoded = EncodedEvent::of::<A>(event).map_err(|error| {
                tracing::error!(aggregate.name = A::NAME, %error, "event not encoded");
                Attempt::Failed(index)
            })?;
            // A name may be in any script, and be escaped.
            let caller = caller_id.as_ref().map_or(0, |name| 16 + 2 * name.len());
            let lineage = pending.headers.lineage.as_ref();
            let caller = caller + lineage.map_or(0, Lineage::size);
            self.bytes += encoded.data().len() + ENVELOPE + pending.command_id.len() + caller;
            events.push(encoded);
        }
        let version_before = self.loaded.version;
        self.loaded.version += events.len() as u64;
        let names = events.iter().map(|event| Name::of(event.event_type()));
        self.decided.push(Decided::Appending {
            remembered: Remembered {
                key: pending.command_id.clone(),
                hash: pending.hash,
                by: author(pending),
                version: self.loaded.version,
                position: 0,
                at: 0,
                events: names.collect(),
            },
        });
        self.commit.push(CommandEvents {
            command_id: pending.command_id.clone(),
            command_hash: pending.hash,
            caller_id,
            lineage: pending.headers.lineage.as_ref().map(|lineage| {
                let Lineage {
                    correlation_id,
                    causation_id,
                } = lineage;
                (correlation_id.clone(), causation_id.clone())
            }),
            time: self.now,
            version_before,
            claims,
            events,
        });
        Ok(match self.bytes > MAX_COMMIT_BYTES {
            true => Room::None,
            false => Room::Left,
        })
    }

    /// The answer to a command whose id is remembered, or that is decided in this very turn.
    fn repeat_of(&self, pending: &Pending<A>) -> Option<Decided> {
        let found = self.found.get(&pending.command_id);
        let known = match found {
            Some(found) => found,
            None if !pending.repeatable => return None,
            None => {
                let in_this_turn = self.decided.iter().find_map(|decided| match decided {
                    Decided::Appending { remembered } | Decided::Nothing { remembered }
                        if remembered.key == pending.command_id =>
                    {
                        Some(remembered)
                    }
                    _ => None,
                });
                in_this_turn.or_else(|| self.loaded.memory.find(&pending.command_id))?
            }
        };
        let is_told = Author::tells(known.by, &pending.headers.caller);
        if !is_told || (known.hash.is_some() && known.hash != pending.hash) {
            return Some(Decided::Refused(Problem::key_reused()));
        }
        let remembered = known.clone();
        Some(match found {
            Some(_) => Decided::Found { remembered },
            None => Decided::Replayed { remembered },
        })
    }

    /// Proves that the state is the log's latest where nothing is appended that would prove it, by asking
    /// the leader: for what is remembered too, since it may be of another log.
    async fn prove(self) -> Attempt {
        let found = |decided: &Decided| matches!(decided, Decided::Found { .. });
        if self.fresh || self.decided.iter().all(found) {
            return Attempt::Done(self.decided);
        }
        match Box::pin(last_place(self.desk, A::NAME)).await {
            Ok(last) if last == self.loaded.place => Attempt::Done(self.decided),
            Ok(_) => Attempt::Again,
            Err(error) => Attempt::NotStored {
                reason: error.to_string(),
                count: self.decided.len(),
            },
        }
    }

    /// Appends the commit, which was decided at this moment.
    async fn append(self, queue: &Queue<A>, begun: Instant) -> Attempt {
        let commands = queue.iter().zip(&self.decided);
        let commands = commands.filter(|(_, decided)| appends(decided));
        let appending = Appending::begin(commands.map(|(pending, _)| &pending.headers));
        let headers = commit_headers(&appending);
        let expected = self.loaded.place.position;
        let appended = append::<A>(self.desk, expected, headers, &self.commit, begun).await;
        let position = appended.as_ref().map(|(position, _)| *position);
        appending.end(self.commit.len(), position);
        let count = self.decided.len();
        match appended {
            Ok((position, mark)) => self.stored(position, mark),
            Err(AppendError::LostRace) => {
                MEASURES.lost_races.increment(1);
                Attempt::Again
            }
            Err(AppendError::InDoubt(reason)) => Attempt::Unknown { reason, count },
            Err(error @ (AppendError::Unavailable(_) | AppendError::NoStream)) => {
                Attempt::NotStored {
                    reason: error.to_string(),
                    count,
                }
            }
            Err(AppendError::Refused(reason)) => {
                tracing::error!(aggregate.name = A::NAME, aggregate.id = %self.desk.id, reason, "commit refused");
                match self.decided.iter().position(appends) {
                    Some(index) if self.commit.len() == 1 => Attempt::Failed(index),
                    _ => Attempt::TooMuch,
                }
            }
        }
    }

    /// The commit stands in the log: only now its position is known.
    fn stored(mut self, position: u64, mark: Mark) -> Attempt {
        self.loaded.stored(position, mark);
        let at = self.loaded.clock.now();
        for decided in &mut self.decided {
            if let Decided::Appending { remembered } = decided {
                remembered.at = at;
            }
            if let Decided::Appending { remembered }
            | Decided::Nothing { remembered }
            | Decided::Replayed { remembered } = decided
                && remembered.version > self.version_before
            {
                remembered.position = position;
            }
        }
        Attempt::Done(self.decided)
    }

    /// The command at this index panicked.
    fn panicked(&self, index: usize) -> Attempt {
        MEASURES.panics.increment(1);
        tracing::error!(aggregate.name = A::NAME, aggregate.id = %self.desk.id, "command panicked");
        Attempt::Failed(index)
    }
}

fn appends(decided: &Decided) -> bool {
    matches!(decided, Decided::Appending { .. })
}

fn refusal(rejection: &impl Rejection) -> Problem {
    if let Some(scope) = rejection.missing_scope() {
        Problem::forbidden(scope.to_owned())
    } else if rejection.is_not_found() {
        Problem::not_found(rejection.code(), rejection.to_string())
    } else {
        Problem::refused(rejection.code(), rejection.to_string())
    }
}

/// The time of a decision, to the microsecond, as events have it.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}
