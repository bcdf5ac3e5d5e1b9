//! One turn of an aggregate: decide what has queued, append it as one commit, answer.
//!
//! The turn owns the state while it runs, so there is at most one per actor. Events are folded in
//! as they are decided; when their append does not surely succeed the state is thrown away and
//! folded from the log again. A refusal is answered only when the state it was decided on is known
//! to be the log's latest: by an append that succeeded, or by asking the stream leader.

mod claims;
mod commit;
mod state;

pub use state::{Loaded, write_snapshot};

use super::{
    answer::Reply,
    decode, generated_id,
    measure::MEASURES,
    memory::{Name, Remembered},
    request::CommandHeaders,
    traces::{self, Appending},
};
use crate::{
    aggregate::{Aggregate, Context, Rejection},
    event_log::{
        AppendError, Epoch, EventLog, LoadError, Place,
        codec::{CommandEvents, ENVELOPE, EncodedEvent, Fingerprint},
        subject::{self, Id, is_scope},
    },
    problem::Problem,
};
use claims::{ClaimFault, write_claims};
use commit::{append, commit_headers};
use jiff::Timestamp;
use rustc_hash::FxHashMap;
use state::{Sought, is_of_this_log, last_place, load, snapshot_when_due};
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

/// How often a turn decides again after lost races and lost connections before it gives up.
const ATTEMPTS: u32 = 8;
/// After a lost race no command that has waited so long is decided again. Whoever wins all races is the
/// new home, most likely, of what came here just before this replica left; and who passed the command on
/// does not wait much longer.
const PATIENCE: Duration = Duration::from_secs(4);
/// The most commands that one commit carries.
pub const MAX_GROUP: usize = 256;
/// Past this many bytes no further command joins the commit.
const MAX_COMMIT_BYTES: usize = 256 * 1024;
/// How long appends that were surely not stored are tried again: what a new leader needs, and not so long
/// that nobody is told of a log that is gone or full.
const RETRY_FOR: Duration = Duration::from_millis(700);
/// How long a snapshot is waited for that has an outcome which nothing else has.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long what could not be read is remembered instead of being read again.
const UNREADABLE_FOR: Duration = Duration::from_secs(1);

/// A decoded command with its caller.
pub struct Pending<A: Aggregate> {
    /// The decoded command.
    pub command: A::Command,
    /// Its id: the idempotency key, or a generated one.
    pub command_id: Arc<str>,
    /// Whether the id may come again: the client chose it, or another replica gave it.
    pub repeatable: bool,
    /// The fingerprint of the command, when the client chose the id.
    pub hash: Option<Fingerprint>,
    /// The headers it came with.
    pub headers: CommandHeaders,
    /// Where the answer goes.
    pub reply: Reply,
}

/// Commands that wait for their turn. They are large, and move.
pub type Queue<A> = VecDeque<Box<Pending<A>>>;

impl<A: Aggregate> Pending<A> {
    /// Decodes a command's body.
    ///
    /// # Errors
    ///
    /// Returns the `malformed` problem, to be answered, with the way to answer it.
    #[allow(
        clippy::type_complexity,
        clippy::result_large_err,
        reason = "the error hands the caller's reply back"
    )]
    pub fn decode(
        name: &str,
        body: &[u8],
        mut headers: CommandHeaders,
        reply: Reply,
    ) -> Result<Box<Self>, (Problem, Reply)> {
        let command = match decode::decode::<A>(name, body) {
            Ok(command) => command,
            Err(problem) => return Err((problem, reply)),
        };
        // Only a key can be used again for another command, so only with one there is a need to tell.
        let chosen = headers.idempotency_key.is_some();
        let hash = chosen.then(|| decode::fingerprint::<A>(name, &command, body));
        let id = headers.idempotency_key.take().or(headers.given_id.take());
        Ok(Box::new(Self {
            command,
            repeatable: id.is_some(),
            command_id: id.unwrap_or_else(generated_id),
            hash,
            headers,
            reply,
        }))
    }
}

/// What a turn works with.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The log.
    pub log: EventLog,
    /// The aggregate's id.
    pub id: Id,
}

/// What an actor keeps of a state that it has thrown away.
#[derive(Default)]
pub struct Kept {
    /// What the log does not have of it.
    unlogged: Vec<Remembered>,
    /// The last commit that it was folded up to, and when that stood in the log.
    of: Option<(Place, Epoch)>,
    /// What could not be read, and when that was seen.
    unreadable: Option<(Instant, Problem)>,
}

impl Kept {
    /// Returns whether it has outcomes that would be lost with it.
    #[must_use]
    pub fn is_worth_saving(&self) -> bool {
        !self.unlogged.is_empty()
    }
}

/// What became of one command in the attempt under way.
enum Decided {
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

enum Attempt {
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

/// Runs one turn over the commands at the front of the queue. Returns the state to keep, if it is
/// known to be the log's. Where it is not, `kept` has what the log does not have of it.
pub async fn run<A: Aggregate>(
    desk: Desk,
    loaded: Option<Box<Loaded<A>>>,
    queue: &mut Queue<A>,
    kept: &mut Kept,
) -> Option<Box<Loaded<A>>> {
    let turn = Turn {
        desk,
        queue,
        kept,
        attempt: 0,
        most: MAX_GROUP,
        lost: false,
        refused_since: None,
        sought: Sought::default(),
    };
    turn.run(loaded).await
}

/// A turn under way.
struct Turn<'a, A: Aggregate> {
    desk: Desk,
    queue: &'a mut Queue<A>,
    kept: &'a mut Kept,
    attempt: u32,
    /// So many commands are decided at once, at the most.
    most: usize,
    /// Whether the last attempt has not been stored.
    lost: bool,
    /// Since when nothing was stored that surely was not.
    refused_since: Option<Instant>,
    sought: Sought,
}

impl<A: Aggregate> Turn<'_, A> {
    async fn run(mut self, mut loaded: Option<Box<Loaded<A>>>) -> Option<Box<Loaded<A>>> {
        loop {
            answer_late(self.queue);
            if self.queue.is_empty() {
                return loaded;
            }
            self.attempt += 1;
            if self.attempt > ATTEMPTS {
                answer_contended(self.queue);
                return None;
            }
            let seeks = self.seek_asked_again();
            if let Some(state) = &mut loaded {
                match is_of_this_log(&self.desk, state).await {
                    Ok(true) if !seeks => {}
                    Ok(true) => self.keep(loaded.take()),
                    // What is remembered is of another log.
                    Ok(false) => loaded = None,
                    Err(error) => {
                        self.answer_unloaded(&error);
                        self.keep(loaded.take());
                        return None;
                    }
                }
            }
            // What was read through the leader is the latest; what is at hand may be behind it.
            let fresh = loaded.is_none() && self.lost;
            let mut state = match loaded.take() {
                Some(state) => state,
                None => match self.load().await {
                    Some(state) => state,
                    None => return None,
                },
            };
            let taken = self.queue.len().min(self.most);
            let expected = state.place.position;
            let found = &self.sought.found;
            let attempt =
                decide_and_append(&self.desk, &mut state, fresh, self.queue, taken, found).await;
            if let Attempt::Done(decided) = attempt {
                (self.attempt, self.most, self.lost) = (0, MAX_GROUP, false);
                self.refused_since = None;
                self.sought = Sought::default();
                answer(&self.desk, &mut state, self.queue, decided).await;
                snapshot_when_due(&self.desk, &mut state);
                loaded = Some(state);
                continue;
            }
            // A commit of these commands may stand after it all the same.
            self.seek(expected);
            self.lose(attempt, taken).await;
            self.keep(Some(state));
            self.lost = true;
        }
    }

    /// Draws the consequence of an attempt that was not stored, or not surely.
    async fn lose(&mut self, attempt: Attempt, taken: usize) {
        match attempt {
            Attempt::Done(_) => {}
            Attempt::Again if oldest(self.queue) >= PATIENCE => answer_contended(self.queue),
            Attempt::Again => back_off(self.attempt).await,
            Attempt::TooMuch => (self.attempt, self.most) = (0, taken.div_ceil(2)),
            Attempt::NotStored { reason, count } => {
                let since = *self.refused_since.get_or_insert_with(Instant::now);
                if since.elapsed() < RETRY_FOR && self.attempt < ATTEMPTS {
                    return back_off(self.attempt + 3).await;
                }
                self.tell(&reason);
                let detail = format!("the log takes nothing now, so nothing was done: {reason}");
                answer_all(self.queue, count, &Problem::unavailable(detail));
            }
            Attempt::Unknown { reason, count } => {
                self.tell(&reason);
                let detail = format!(
                    "it is not known whether the command is stored; retry with the same Idempotency-Key: {reason}"
                );
                answer_all(self.queue, count, &Problem::unavailable(detail));
            }
            Attempt::Failed(index) => {
                self.attempt = 0;
                if let Some(pending) = self.queue.remove(index) {
                    pending.reply.send(Err(Problem::internal()));
                }
            }
        }
    }

    fn tell(&self, reason: &str) {
        tracing::warn!(aggregate.name = A::NAME, aggregate.id = %self.desk.id, reason, "not appended");
    }

    /// Keeps what the log does not have of a state: it would be forgotten with it.
    fn keep(&mut self, state: Option<Box<Loaded<A>>>) {
        let Some(state) = state else { return };
        let mut unlogged = state.memory.unlogged().peekable();
        if unlogged.peek().is_some() {
            self.kept.of = Some((state.place, state.epoch));
            self.kept.unlogged.extend(unlogged.cloned());
        }
    }

    /// What was kept, if it is of this log.
    async fn take_kept(&mut self) -> Result<Vec<Remembered>, LoadError> {
        let Some((place, epoch)) = self.kept.of else {
            return Ok(Vec::new());
        };
        let same = match place.position {
            0 => epoch == self.desk.log.epoch(),
            _ => {
                let subject = subject::events_of(A::NAME, &self.desk.id);
                self.desk.log.still_has(&subject, place).await?
            }
        };
        self.kept.of = None;
        let unlogged = std::mem::take(&mut self.kept.unlogged);
        Ok(if same { unlogged } else { Vec::new() })
    }

    /// Commits of the commands that wait may stand after this position.
    fn seek(&mut self, after: u64) {
        let earliest = self.sought.after.map_or(after, |other| other.min(after));
        self.sought.after = Some(earliest);
        let ids = self.queue.iter().map(|pending| pending.command_id.clone());
        self.sought.ids.extend(ids);
    }

    /// Seeks the commands that another replica was asked for before. Returns whether there are new ones.
    fn seek_asked_again(&mut self) -> bool {
        let asked = self.queue.iter().filter_map(|pending| {
            let after = pending.headers.asked_again?;
            let new = !self.sought.ids.contains(&pending.command_id);
            new.then_some(after)
        });
        match asked.min() {
            Some(after) => {
                self.seek(after);
                true
            }
            None => false,
        }
    }

    /// Loads the state; answers all that wait where it cannot be loaded.
    async fn load(&mut self) -> Option<Box<Loaded<A>>> {
        if let Some((seen, problem)) = &self.kept.unreadable
            && seen.elapsed() < UNREADABLE_FOR
        {
            let problem = problem.clone();
            answer_all(self.queue, self.queue.len(), &problem);
            return None;
        }
        let loading = load_measured::<A>(&self.desk, self.queue, self.lost, &mut self.sought);
        let loaded = match Box::pin(loading).await {
            Ok(state) => Box::pin(self.take_kept()).await.map(|kept| (state, kept)),
            Err(error) => Err(error),
        };
        match loaded {
            Ok((mut state, kept)) => {
                self.kept.unreadable = None;
                state.remember_again(kept);
                // What was read may be worth keeping, whatever becomes of the commands.
                snapshot_when_due(&self.desk, &mut state);
                Some(state)
            }
            Err(error) => {
                self.answer_unloaded(&error);
                None
            }
        }
    }

    fn answer_unloaded(&mut self, error: &LoadError) {
        tracing::warn!(aggregate.name = A::NAME, aggregate.id = %self.desk.id, %error, "aggregate not loaded");
        let problem = match error {
            LoadError::Unavailable(reason) => {
                Problem::unavailable(format!("the log cannot be read now: {reason}"))
            }
            LoadError::Unreadable { position, reason } => {
                let problem = Problem::unreadable(*position, reason);
                self.kept.unreadable = Some((Instant::now(), problem.clone()));
                problem
            }
            LoadError::Corrupt(_) => Problem::internal(),
        };
        answer_all(self.queue, self.queue.len(), &problem);
    }
}

/// The command at this index panicked.
fn panicked<A: Aggregate>(desk: &Desk, index: usize) -> Attempt {
    MEASURES.panics.increment(1);
    tracing::error!(aggregate.name = A::NAME, aggregate.id = %desk.id, "command panicked");
    Attempt::Failed(index)
}

async fn load_measured<A: Aggregate>(
    desk: &Desk,
    queue: &Queue<A>,
    again: bool,
    sought: &mut Sought,
) -> Result<Box<Loaded<A>>, LoadError> {
    let begun = Instant::now();
    let loaded = load(desk, again, sought).await.map(Box::new);
    MEASURES.load.record(begun.elapsed().as_secs_f64());
    traces::took("load", headers(queue, MAX_GROUP), begun);
    if again {
        MEASURES.reloads.increment(1);
    }
    loaded
}

/// The headers of the first commands of the queue.
fn headers<A: Aggregate>(queue: &Queue<A>, count: usize) -> impl Iterator<Item = &CommandHeaders> {
    queue.iter().take(count).map(|pending| &pending.headers)
}

/// Decides up to `taken` commands and appends their events as one commit.
async fn decide_and_append<A: Aggregate>(
    desk: &Desk,
    loaded: &mut Loaded<A>,
    fresh: bool,
    queue: &Queue<A>,
    taken: usize,
    found: &FxHashMap<Arc<str>, Remembered>,
) -> Attempt {
    let now = now();
    let begun = Instant::now();
    let mut decided: Vec<Decided> = Vec::with_capacity(taken);
    let mut commit: Vec<CommandEvents> = Vec::new();
    let mut claimed = false;
    // Whether keys are claimed that the commit will not name.
    let mut abandoned = false;
    let mut fresh = fresh;
    let mut bytes = 0;
    let version_before = loaded.version;

    for (index, pending) in queue.iter().take(taken).enumerate() {
        if let Some(repeated) = repeat_of(loaded, &decided, pending, found) {
            decided.push(repeated);
            continue;
        }
        if let Some(expected) = pending.headers.if_match
            && expected != loaded.version
        {
            decided.push(Decided::Refused(Problem::version_mismatch(loaded.version)));
            continue;
        }
        let context = Context {
            id: desk.id.shared(),
            version: loaded.version,
            command_id: pending.command_id.clone(),
            now,
        };
        let decision = catch_unwind(AssertUnwindSafe(|| {
            let decision = loaded.state.decide(pending.command.clone(), &context);
            decision.map_err(|rejection| refusal(&rejection))
        }));
        let decision = match decision {
            Err(_) => return panicked::<A>(desk, index),
            Ok(Err(problem)) => {
                decided.push(Decided::Refused(problem));
                continue;
            }
            Ok(Ok(decision)) => decision,
        };
        if decision.events.is_empty() {
            decided.push(Decided::Nothing {
                remembered: Remembered {
                    key: pending.command_id.clone(),
                    hash: pending.hash,
                    version: loaded.version,
                    position: loaded.place.position,
                    at: loaded.clock.now(),
                    events: Box::new([]),
                },
            });
            continue;
        }
        let mut claims = Vec::new();
        if !decision.claims.is_empty() || !decision.releases.is_empty() {
            let all = decision.claims.iter().chain(&decision.releases);
            if let Some(wrong) = all.map(|claim| claim.scope).find(|it| !is_scope(it)) {
                tracing::error!(
                    aggregate.name = A::NAME,
                    scope = wrong,
                    "not the scope of a claim"
                );
                return Attempt::Failed(index);
            }
            // What an earlier command of the commit does with a key is decided only with the commit.
            if claimed {
                break;
            }
            // The keys were read after the state.
            fresh = false;
            let writing = write_claims::<A>(desk, &decision, loaded.place.position);
            match Box::pin(writing).await {
                Ok(positions) => claims = positions,
                Err(ClaimFault::Taken { problem, claimed }) => {
                    abandoned |= claimed;
                    decided.push(Decided::Refused(problem));
                    continue;
                }
                Err(ClaimFault::Stale) => return Attempt::Again,
                Err(ClaimFault::Unavailable(reason)) => {
                    return Attempt::NotStored {
                        reason,
                        count: index + 1,
                    };
                }
            }
            claimed = true;
        }
        let mut events = Vec::with_capacity(decision.events.len());
        for event in &decision.events {
            let evolved = catch_unwind(AssertUnwindSafe(|| loaded.state.evolve(event)));
            if evolved.is_err() {
                return panicked::<A>(desk, index);
            }
            match EncodedEvent::of::<A>(event) {
                Ok(encoded) => {
                    bytes += encoded.data().len();
                    bytes += ENVELOPE + pending.command_id.len();
                    events.push(encoded);
                }
                Err(error) => {
                    tracing::error!(aggregate.name = A::NAME, %error, "event not encoded");
                    return Attempt::Failed(index);
                }
            }
        }
        let version = loaded.version + events.len() as u64;
        decided.push(Decided::Appending {
            remembered: Remembered {
                key: pending.command_id.clone(),
                hash: pending.hash,
                version,
                position: 0,
                at: 0,
                events: events
                    .iter()
                    .map(|event| Name::of(event.event_type()))
                    .collect(),
            },
        });
        commit.push(CommandEvents {
            command_id: pending.command_id.clone(),
            command_hash: pending.hash,
            time: now,
            version_before: loaded.version,
            claims,
            events,
        });
        loaded.version = version;
        if bytes > MAX_COMMIT_BYTES {
            break;
        }
    }

    MEASURES.decide.record(begun.elapsed().as_secs_f64());
    traces::took("decide", headers(queue, decided.len()), begun);
    // A commit without events lets go of what was claimed for nothing, at once.
    if commit.is_empty() && !abandoned {
        // Nothing is appended that would prove the state to be the latest, so the leader is asked: for
        // what is remembered too, since it may be of another log.
        let found = |decided: &Decided| matches!(decided, Decided::Found { .. });
        if fresh || decided.iter().all(found) {
            return Attempt::Done(decided);
        }
        return match Box::pin(last_place(desk, A::NAME)).await {
            Ok(last) if last == loaded.place => Attempt::Done(decided),
            Ok(_) => Attempt::Again,
            Err(error) => Attempt::NotStored {
                reason: error.to_string(),
                count: decided.len(),
            },
        };
    }
    if claimed && desk.log.epoch() != loaded.epoch {
        // The claims may be of another log, and their positions somebody else's in this one.
        return Attempt::Again;
    }
    let appends = |decided: &Decided| matches!(decided, Decided::Appending { .. });
    let commands = queue.iter().zip(&decided);
    let commands = commands.filter(|(_, decided)| appends(decided));
    let appending = Appending::begin(commands.map(|(pending, _)| &pending.headers));
    let headers = commit_headers(&appending);
    let appended = append::<A>(desk, loaded.place.position, headers, &commit).await;
    appending.end(
        commit.len(),
        appended.as_ref().map(|(position, _)| *position),
    );
    let count = decided.len();
    match appended {
        Ok((position, mark)) => {
            loaded.stored(position, mark);
            let at = loaded.clock.now();
            for decided in &mut decided {
                if let Decided::Appending { remembered } = decided {
                    remembered.at = at;
                }
                if let Decided::Appending { remembered }
                | Decided::Nothing { remembered }
                | Decided::Replayed { remembered } = decided
                    && remembered.version > version_before
                {
                    remembered.position = position;
                }
            }
            Attempt::Done(decided)
        }
        Err(AppendError::LostRace) => {
            MEASURES.lost_races.increment(1);
            Attempt::Again
        }
        Err(AppendError::InDoubt(reason)) => Attempt::Unknown { reason, count },
        Err(error @ (AppendError::Unavailable(_) | AppendError::NoStream)) => Attempt::NotStored {
            reason: error.to_string(),
            count,
        },
        Err(AppendError::Refused(reason)) => {
            tracing::error!(aggregate.name = A::NAME, aggregate.id = %desk.id, reason, "commit refused");
            match decided.iter().position(appends) {
                Some(index) if commit.len() == 1 => Attempt::Failed(index),
                _ => Attempt::TooMuch,
            }
        }
    }
}

/// The answer to a command whose id is remembered, or that is decided in this very turn.
fn repeat_of<A: Aggregate>(
    loaded: &Loaded<A>,
    decided: &[Decided],
    pending: &Pending<A>,
    found: &FxHashMap<Arc<str>, Remembered>,
) -> Option<Decided> {
    let of_another =
        |remembered: &Remembered| remembered.hash.is_some() && remembered.hash != pending.hash;
    let found = found.get(&pending.command_id);
    let known = match found {
        Some(found) => found,
        None if !pending.repeatable => return None,
        None => {
            let in_this_turn = decided.iter().find_map(|decided| match decided {
                Decided::Appending { remembered } | Decided::Nothing { remembered }
                    if remembered.key == pending.command_id =>
                {
                    Some(remembered)
                }
                _ => None,
            });
            in_this_turn.or_else(|| loaded.memory.find(&pending.command_id))?
        }
    };
    if of_another(known) {
        return Some(Decided::Refused(Problem::key_reused()));
    }
    let remembered = known.clone();
    Some(match found {
        Some(_) => Decided::Found { remembered },
        None => Decided::Replayed { remembered },
    })
}

fn refusal(rejection: &impl Rejection) -> Problem {
    if rejection.is_not_found() {
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

/// Answers the commands that were decided and remembers their outcomes.
///
/// The outcome of a command without events stands in no commit. Where its client may ask for it again it
/// is answered only once a snapshot has it, or once that has failed.
async fn answer<A: Aggregate>(
    desk: &Desk,
    loaded: &mut Loaded<A>,
    queue: &mut Queue<A>,
    decided: Vec<Decided>,
) {
    let nothing = |decided: &Decided| match decided {
        Decided::Nothing { remembered } if remembered.hash.is_some() => Some(remembered.clone()),
        _ => None,
    };
    let unlogged: Vec<_> = decided.iter().filter_map(nothing).collect();
    let worth_writing = !unlogged.is_empty() && loaded.place.position > 0;
    for remembered in unlogged {
        loaded.remember(remembered);
    }
    if worth_writing {
        let writing = write_snapshot(desk, loaded);
        match tokio::time::timeout(SNAPSHOT_TIMEOUT, writing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(aggregate.name = A::NAME, aggregate.id = %desk.id, %error, "snapshot not written");
            }
            Err(_) => {
                tracing::warn!(aggregate.name = A::NAME, aggregate.id = %desk.id, "snapshot not written in time");
            }
        }
    }
    for decided in decided {
        let Some(pending) = queue.pop_front() else {
            break;
        };
        let id = desk.id.shared();
        let reply = match decided {
            Decided::Refused(problem) => Err(problem),
            Decided::Replayed { remembered } => Ok(remembered.outcome(A::NAME, id)),
            Decided::Found { remembered } | Decided::Nothing { remembered } => {
                Ok(remembered.first_outcome(A::NAME, id))
            }
            Decided::Appending { remembered } => {
                let outcome = remembered.first_outcome(A::NAME, id);
                loaded.remember(remembered);
                Ok(outcome)
            }
        };
        pending.reply.send(reply);
    }
}

fn answer_all<A: Aggregate>(queue: &mut Queue<A>, count: usize, problem: &Problem) {
    for pending in queue.drain(..count) {
        pending.reply.send(Err(problem.clone()));
    }
}

/// Answers what has waited too long to be decided. Nothing was done for it, unless an attempt was already
/// made: then it is not known.
fn answer_late<A: Aggregate>(queue: &mut Queue<A>) {
    while queue.front().is_some_and(|first| first.reply.is_expired()) {
        answer_all(
            queue,
            1,
            &Problem::unavailable(
                "the command has waited too long to be carried out; retry with the same Idempotency-Key",
            ),
        );
    }
}

fn answer_contended<A: Aggregate>(queue: &mut Queue<A>) {
    let problem = Problem::unavailable("the aggregate is contended; nothing was appended");
    answer_all(queue, queue.len(), &problem);
}

/// How long the first of the queue has waited.
fn oldest<A: Aggregate>(queue: &Queue<A>) -> Duration {
    let first = queue.front().map(|first| first.reply.arrived().elapsed());
    first.unwrap_or_default()
}

/// Waits a little longer, and a little differently, each time.
async fn back_off(attempt: u32) {
    if attempt > 1 {
        let bound = 1_u64 << attempt.min(7);
        let random = uuid::Uuid::now_v7().as_u128() as u64;
        tokio::time::sleep(Duration::from_millis(random % bound)).await;
    }
}
