//! One turn of an aggregate: decide what has queued, append it as one commit, answer.
//!
//! The turn owns the state while it runs, so there is at most one per actor. Events are folded in
//! as they are decided; when their append does not surely succeed the state is thrown away and
//! folded from the log again. A refusal is answered only when the state it was decided on is known
//! to be the log's latest: by an append that succeeded, or by asking the stream leader.

mod claims;
mod commit;
mod decide;
mod state;

pub use state::{Loaded, write_snapshot};

use super::{
    answer::Reply, decode, generated_id, measure::MEASURES, memory::Remembered, refusals,
    request::CommandHeaders, traces,
};
use crate::{
    aggregate::Aggregate,
    event_log::{
        Epoch, EventLog, LoadError, Place,
        codec::Fingerprint,
        subject::{self, Id},
    },
    problem::Problem,
};
use decide::{Attempt, Decided, Deciding};
use state::{Sought, is_of_this_log, load, snapshot_when_due};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// The number of times that a turn decides again after lost races and lost connections before it gives up.
const ATTEMPTS: u32 = 8;
/// After a lost race no command that has waited so long is decided again. Whoever wins all races is the
/// new home, most likely, of what came here just before this replica left; and who passed the command on
/// does not wait much longer.
const PATIENCE: Duration = Duration::from_secs(4);
/// The most commands that one commit carries.
pub const MAX_GROUP: usize = 256;
/// The time appends that were surely not stored are tried again: what a new leader needs, and not so long
/// that nobody is told of a log that is gone or full.
const RETRY_FOR: Duration = Duration::from_millis(700);
/// The time a snapshot is waited for that has an outcome which nothing else has.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(1);
/// The time what could not be read is remembered instead of being read again.
const UNREADABLE_FOR: Duration = Duration::from_secs(1);

/// A decoded command with its caller.
pub struct Pending<A: Aggregate> {
    /// The decoded command.
    pub command: A::Command,
    /// Its id: the idempotency key, or a generated one.
    pub command_id: Arc<str>,
    /// True if the id may come again: the client chose it, or another replica gave it.
    pub repeatable: bool,
    /// The fingerprint of the command, when the client chose the id.
    pub hash: Option<Fingerprint>,
    /// The headers it came with.
    pub headers: CommandHeaders,
    /// The place where the answer goes.
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

/// Everything that a turn works with.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The log.
    pub log: EventLog,
    /// The aggregate's id.
    pub id: Id,
}

/// The part that an actor keeps of a state that it has thrown away.
#[derive(Default)]
pub struct Kept {
    /// The part that the log does not have of it.
    unlogged: Vec<Remembered>,
    /// The last commit that it was folded up to, and when that stood in the log.
    of: Option<(Place, Epoch)>,
    /// The reason why it could not be read, and the time.
    unreadable: Option<(Instant, Problem)>,
}

impl Kept {
    /// Returns whether it has outcomes that would be lost with it.
    #[must_use]
    pub fn is_worth_saving(&self) -> bool {
        !self.unlogged.is_empty()
    }
}

/// Runs one turn over the commands at the front of the queue. Returns the state to keep, if it is
/// known to be the log's. Where it is not, `kept` has what the log does not have of it.
pub fn run<'a, A: Aggregate>(
    desk: Desk,
    loaded: Option<Box<Loaded<A>>>,
    queue: &'a mut Queue<A>,
    kept: &'a mut Kept,
) -> impl Future<Output = Option<Box<Loaded<A>>>> + 'a {
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
    turn.run(loaded)
}

/// A turn under way.
struct Turn<'a, A: Aggregate> {
    desk: Desk,
    queue: &'a mut Queue<A>,
    kept: &'a mut Kept,
    attempt: u32,
    /// So many commands are decided at once, at the most.
    most: usize,
    /// True if the last attempt has not been stored.
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
            let deciding = Deciding::begin(&self.desk, &mut state, fresh, found);
            let attempt = deciding.run(self.queue, taken).await;
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

    /// Returns what was kept, if it is of this log.
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
            Decided::Refused(problem) => {
                note_refusal(A::NAME, &id, &pending, &problem);
                Err(problem)
            }
            // Who chose no key has asked once, whatever became of the copies of the command.
            Decided::Replayed { remembered } if pending.hash.is_none() => {
                Ok(remembered.first_outcome(A::NAME, id))
            }
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

fn note_refusal<A: Aggregate>(
    aggregate: &str,
    id: &Arc<str>,
    pending: &Pending<A>,
    problem: &Problem,
) {
    let command = (&pending.command_id, pending.reply.command());
    let caller = pending.headers.caller.shared_subject();
    refusals::note((aggregate, id), command, caller, problem);
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

/// Returns how long the first of the queue has waited.
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
