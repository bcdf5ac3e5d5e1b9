//! One turn of an aggregate: decide what has queued, append it as one commit, answer.
//!
//! The turn owns the state while it runs, so there is at most one per actor. Events are folded in
//! as they are decided; when their append does not surely succeed the state is thrown away and
//! folded from the log again. A refusal is answered only when the state it was decided on is known
//! to be the log's latest: by an append that succeeded, or by asking the stream leader.

mod commit;
mod state;

pub use state::{Loaded, write_snapshot};

use super::{
    answer::Reply,
    decode,
    measure::MEASURES,
    memory::{Name, Remembered},
    request::{CommandHeaders, Outcome},
    traces::{self, Appending},
};
use crate::{
    aggregate::{Aggregate, Context, Rejection},
    event_log::{
        AppendError, EventLog, LoadError,
        claim::ClaimWrite,
        codec::{CommandEvents, EncodedEvent, Fingerprint},
        subject::{Id, is_scope},
    },
    problem::Problem,
};
use commit::{append, commit_headers, resolve_claims};
use jiff::Timestamp;
use state::{last_position, load, snapshot_when_due};
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
/// What an event takes in a commit beside its data and its command's id, in bytes, at the most.
const ENVELOPE: usize = 512;
/// How often the command's id stands in an event.
const IDS: usize = 4;

/// A decoded command with its caller.
pub struct Pending<A: Aggregate> {
    /// The decoded command.
    pub command: A::Command,
    /// Its id: the idempotency key, or a generated one.
    pub command_id: Arc<str>,
    /// Whether the id may come again: the client chose it, or another replica gave it.
    pub repeatable: bool,
    /// The fingerprint of its name and body, when the client chose the id.
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
        let hash = chosen.then(|| decode::fingerprint(name, body));
        let id = headers.idempotency_key.take().or(headers.given_id.take());
        Ok(Box::new(Self {
            command,
            repeatable: id.is_some(),
            command_id: id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string().into()),
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
    Refused(Problem),
}

enum Attempt {
    /// All are decided and, where there were events, appended.
    Done(Vec<Decided>),
    /// The state was stale, or the log refused: load and decide again.
    Again,
    /// It can't be said now.
    Unavailable(String),
    /// The command at this index panicked, or the log will never take what it decided.
    Failed(usize),
    /// The log will never take all of it at once: fewer commands may do.
    TooMuch,
}

/// Runs one turn over the commands at the front of the queue. Returns the state to keep, if it is
/// known to be the log's. Where it is not, `carried` has what the log does not have of it.
pub async fn run<A: Aggregate>(
    desk: Desk,
    mut loaded: Option<Box<Loaded<A>>>,
    queue: &mut Queue<A>,
    carried: &mut Vec<Remembered>,
) -> Option<Box<Loaded<A>>> {
    let mut attempt = 0;
    let mut most = MAX_GROUP;
    let mut lost = false;
    while !queue.is_empty() {
        attempt += 1;
        if attempt > ATTEMPTS {
            answer_contended(queue);
            return None;
        }
        // What was read through the leader is the latest; what is at hand may be behind it.
        let fresh = loaded.is_none() && lost;
        let mut state = match loaded.take() {
            Some(state) => state,
            None => match Box::pin(load_measured::<A>(&desk, queue, lost)).await {
                Ok(mut state) => {
                    state.remember_again(std::mem::take(carried));
                    state
                }
                Err(error) => {
                    tracing::warn!(aggregate.name = A::NAME, aggregate.id = %desk.id, %error, "aggregate not loaded");
                    let problem = if error.is_retryable() {
                        Problem::unavailable("the log cannot be read now")
                    } else {
                        Problem::internal()
                    };
                    answer_all(queue, queue.len(), &problem);
                    return None;
                }
            },
        };
        let taken = queue.len().min(most);
        match decide_and_append(&desk, &mut state, fresh, queue, taken).await {
            Attempt::Done(decided) => {
                (attempt, most) = (0, MAX_GROUP);
                answer(&desk, &mut state, queue, decided);
                snapshot_when_due(&desk, &mut state);
                loaded = Some(state);
                lost = false;
                continue;
            }
            Attempt::Again if oldest(queue) >= PATIENCE => answer_contended(queue),
            Attempt::Again => back_off(attempt).await,
            Attempt::TooMuch => (attempt, most) = (0, taken.div_ceil(2)),
            Attempt::Unavailable(reason) => {
                tracing::warn!(aggregate.name = A::NAME, aggregate.id = %desk.id, reason, "append not settled");
                let problem = Problem::unavailable(
                    "the log did not acknowledge in time; retry with the same Idempotency-Key",
                );
                answer_all(queue, taken, &problem);
            }
            Attempt::Failed(index) => {
                attempt = 0;
                if let Some(pending) = queue.remove(index) {
                    pending.reply.send(Err(Problem::internal()));
                }
            }
        }
        // The log does not have it, so it would be forgotten with the state.
        carried.extend(state.memory.unlogged().cloned());
        lost = true;
    }
    loaded
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
) -> Result<Box<Loaded<A>>, LoadError> {
    let begun = Instant::now();
    let loaded = load(desk, again).await.map(Box::new);
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
) -> Attempt {
    let now = Timestamp::now();
    let begun = Instant::now();
    let mut decided: Vec<Decided> = Vec::with_capacity(taken);
    let mut commit: Vec<CommandEvents> = Vec::new();
    let mut claims: Vec<ClaimWrite> = Vec::new();
    let mut bytes = 0;
    let version_before = loaded.version;

    for (index, pending) in queue.iter().take(taken).enumerate() {
        if let Some(repeated) = repeat_of(loaded, &decided, pending) {
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
                    position: loaded.position,
                    at: now.as_second(),
                    events: Box::new([]),
                },
            });
            continue;
        }
        let claiming = !decision.claims.is_empty() || !decision.releases.is_empty();
        if claiming {
            let all = decision.claims.iter().chain(&decision.releases);
            if let Some(wrong) = all.map(|claim| claim.scope).find(|it| !is_scope(it)) {
                tracing::error!(
                    aggregate.name = A::NAME,
                    scope = wrong,
                    "not the scope of a claim"
                );
                return Attempt::Failed(index);
            }
            // A claim may still be refused by the log, and that must not touch other commands: such
            // a command has a commit of its own.
            if !commit.is_empty() {
                break;
            }
            let resolving = resolve_claims::<A>(desk, &decision.claims, &decision.releases);
            match Box::pin(resolving).await {
                Ok(Ok(writes)) => claims = writes,
                Ok(Err(problem)) => {
                    decided.push(Decided::Refused(problem));
                    continue;
                }
                Err(error) => return Attempt::Unavailable(error.to_string()),
            }
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
                    bytes += ENVELOPE + IDS * pending.command_id.len();
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
                at: now.as_second(),
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
            events,
        });
        loaded.version = version;
        if claiming || bytes > MAX_COMMIT_BYTES {
            break;
        }
    }

    MEASURES.decide.record(begun.elapsed().as_secs_f64());
    traces::took("decide", headers(queue, decided.len()), begun);
    if commit.is_empty() {
        // Nothing is appended that would prove the state to be the latest, so the leader is asked.
        let replays = |decided: &Decided| matches!(decided, Decided::Replayed { .. });
        if fresh || decided.iter().all(replays) {
            return Attempt::Done(decided);
        }
        return match Box::pin(last_position(desk, A::NAME)).await {
            Ok(last) if last == loaded.position => Attempt::Done(decided),
            Ok(_) => Attempt::Again,
            Err(error) => Attempt::Unavailable(error.to_string()),
        };
    }
    let appends = |decided: &Decided| matches!(decided, Decided::Appending { .. });
    let commands = queue.iter().zip(&decided);
    let commands = commands.filter(|(_, decided)| appends(decided));
    let appending = Appending::begin(commands.map(|(pending, _)| &pending.headers));
    let headers = commit_headers::<A>(desk, &commit, &appending);
    let appended = append::<A>(desk, loaded.position, headers, &commit, claims).await;
    appending.end(commit.len(), &appended);
    match appended {
        Ok(position) => {
            loaded.position = position;
            for decided in &mut decided {
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
        Err(
            AppendError::InDoubt(reason)
            | AppendError::Known(reason)
            | AppendError::Unavailable(reason),
        ) => Attempt::Unavailable(reason),
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
) -> Option<Decided> {
    if !pending.repeatable {
        return None;
    }
    let in_this_turn = decided.iter().find_map(|decided| match decided {
        Decided::Appending { remembered } | Decided::Nothing { remembered }
            if remembered.key == pending.command_id =>
        {
            Some(remembered)
        }
        _ => None,
    });
    let remembered = in_this_turn.or_else(|| loaded.memory.find(&pending.command_id))?;
    if remembered.hash.is_some() && remembered.hash != pending.hash {
        return Some(Decided::Refused(Problem::key_reused()));
    }
    Some(Decided::Replayed {
        remembered: remembered.clone(),
    })
}

fn refusal(rejection: &impl Rejection) -> Problem {
    if rejection.is_not_found() {
        Problem::not_found(rejection.code(), rejection.to_string())
    } else {
        Problem::refused(rejection.code(), rejection.to_string())
    }
}

/// Answers the commands that were decided and remembers their outcomes.
fn answer<A: Aggregate>(
    desk: &Desk,
    loaded: &mut Loaded<A>,
    queue: &mut Queue<A>,
    decided: Vec<Decided>,
) {
    let now = Timestamp::now();
    for decided in decided {
        let Some(pending) = queue.pop_front() else {
            break;
        };
        let id = desk.id.shared();
        let reply = match decided {
            Decided::Refused(problem) => Err(problem),
            Decided::Replayed { remembered } => Ok(remembered.outcome(A::NAME, id)),
            Decided::Appending { remembered } | Decided::Nothing { remembered } => {
                let outcome = Outcome {
                    replayed: false,
                    ..remembered.outcome(A::NAME, id)
                };
                loaded.remember(remembered, now);
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
