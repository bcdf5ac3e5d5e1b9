//! The way back: what a command is answered, and where the answer goes.

use super::{
    admission::{Place, Turn},
    age::Arrival,
    request::Outcome,
    table::CommandEntry,
    traces,
};
use crate::{problem::Problem, telemetry::trace::Span};
use async_nats::Message;
use bytes::Bytes;
use std::{sync::Arc, time::Instant};

/// The answer to an accepted command, from here or from another replica as it came.
pub enum Answered {
    /// Decided in this process.
    Here(Outcome),
    /// Another replica's answer, which may be a refusal.
    There(Message),
    /// Accepted by another replica, which told it among other answers.
    Among(Accepted),
}

/// An outcome as another replica wrote it.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The aggregate's version.
    pub version: u64,
    /// The position of the aggregate's last commit.
    pub position: u64,
    /// The outcome as JSON.
    pub body: Bytes,
}

/// The answer of another replica.
#[derive(Debug)]
pub(super) enum PeerAnswer {
    /// In a message of its own.
    Alone(Message),
    /// Among others: accepted.
    Accepted(Accepted),
    /// Among others: refused.
    Refused(Problem),
}

impl PeerAnswer {
    /// Reads the problem; `None` when the command was accepted.
    pub(super) fn refusal(&self) -> Option<Problem> {
        match self {
            Self::Alone(message) => refusal_in(message),
            Self::Accepted(_) => None,
            Self::Refused(problem) => Some(problem.clone()),
        }
    }

    /// Returns whether it is answered that who asks is not known, or may not.
    pub(super) fn is_refused_access(&self) -> bool {
        let refusal = self.refusal();
        refusal.is_some_and(|problem| matches!(problem.status, 401 | 403))
    }

    /// The answer in the place of one that cannot be read.
    pub(super) fn unreadable() -> Problem {
        Problem::unavailable("a replica answered in a form that is not known")
    }
}

fn refusal_in(message: &Message) -> Option<Problem> {
    let headers = message.headers.as_ref()?;
    headers.get("Nats-Service-Error-Code")?;
    let problem = serde_json::from_slice(&message.payload);
    Some(problem.unwrap_or_else(|_| PeerAnswer::unreadable()))
}

impl Answered {
    /// Returns the position of an outcome; `None` of a refusal.
    pub(super) fn position(&self) -> Option<u64> {
        match self {
            Self::Here(outcome) => Some(outcome.position),
            Self::Among(accepted) => Some(accepted.position),
            Self::There(message) => {
                let token = message.headers.as_ref()?.get("Headwater-Position")?;
                token.as_str().rsplit_once('@')?.1.parse().ok()
            }
        }
    }

    /// Reads the outcome, where there is one.
    pub(super) fn to_outcome(&self) -> Option<Outcome> {
        let body = match self {
            Self::Here(outcome) => return Some(outcome.clone()),
            Self::There(message) if refusal_in(message).is_some() => return None,
            Self::There(message) => &message.payload,
            Self::Among(accepted) => &accepted.body,
        };
        serde_json::from_slice(body).ok()
    }

    /// Reads the outcome.
    ///
    /// # Errors
    ///
    /// Returns the problem that another replica answered.
    pub(super) fn outcome(self) -> Result<Outcome, Problem> {
        let body = match self {
            Self::Here(outcome) => return Ok(outcome),
            Self::There(message) => match refusal_in(&message) {
                Some(problem) => return Err(problem),
                None => message.payload,
            },
            Self::Among(accepted) => accepted.body,
        };
        serde_json::from_slice(&body).map_err(|_| PeerAnswer::unreadable())
    }
}

/// The use of the answer. It must not block: it is called where commands are decided.
pub type Respond = Box<dyn FnOnce(Result<Answered, Problem>) + Send>;

/// The destination of the answer to one command, and the place that the command takes up until then. A
/// command whose reply is dropped is answered `unavailable`.
pub struct Reply {
    respond: Option<Respond>,
    entry: Arc<CommandEntry>,
    arrival: Arrival,
    /// The answer of the command, where it is decided here.
    pub(super) span: Span,
    /// The command's turn, where it is decided here.
    pub(super) turn: Option<Turn>,
    /// True if another home was asked before, which may still carry it out.
    pub(super) asked_again: bool,
    _place: Place,
}

impl Reply {
    /// Pairs the way back with the command's place.
    #[must_use]
    pub(super) fn new(
        respond: Respond,
        entry: Arc<CommandEntry>,
        arrival: Arrival,
        place: Place,
    ) -> Self {
        Self {
            respond: Some(respond),
            entry,
            arrival,
            span: Span::none(),
            turn: None,
            asked_again: false,
            _place: place,
        }
    }

    /// The command's name.
    pub(super) fn command(&self) -> &Arc<str> {
        &self.entry.command
    }

    /// The time when the command came.
    #[must_use]
    pub fn arrived(&self) -> Instant {
        self.arrival.read()
    }

    /// Returns when the command is too old to be decided: at once when it is already.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let read = self.arrival.read();
        self.arrival.deadline().unwrap_or(read)
    }

    /// Returns whether the command is too old to be decided. To be asked before each decision: what is
    /// decided later may have been asked of another replica, or given up by its caller.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.arrival.is_expired()
    }

    pub(super) fn arrival(&self) -> &Arrival {
        &self.arrival
    }

    /// Answers. The caller may have gone; what was appended stands all the same.
    pub fn send(mut self, outcome: Result<Outcome, Problem>) {
        self.answer(outcome);
    }

    /// Answers with what another replica answered, which has measured it.
    pub(super) fn relay(mut self, answer: PeerAnswer) {
        let open = answer.refusal().filter(|problem| self.is_open(problem));
        let answered = match (open, answer) {
            (Some(_), _) => Err(Problem::not_settled()),
            (None, PeerAnswer::Alone(message)) => Ok(Answered::There(message)),
            (None, PeerAnswer::Accepted(accepted)) => Ok(Answered::Among(accepted)),
            (None, PeerAnswer::Refused(problem)) => Err(problem),
        };
        if let Some(respond) = self.respond.take() {
            respond(answered);
        }
    }

    fn answer(&mut self, outcome: Result<Outcome, Problem>) {
        let outcome = outcome.map_err(|problem| match self.is_open(&problem) {
            true => Problem::not_settled(),
            false => problem,
        });
        if let Some(respond) = self.respond.take() {
            let now = Instant::now();
            let took = now.saturating_duration_since(self.arrival.read());
            if let Some(turn) = self.turn.take() {
                turn.ended(took, now);
            }
            self.entry.measures.answered(&outcome, took);
            traces::answered(std::mem::take(&mut self.span), &outcome);
            respond(outcome.map(Answered::Here));
        }
    }

    /// Returns whether a refusal leaves open what becomes of the command: another home has been asked, which
    /// may decide otherwise unless the command is wrong in itself.
    fn is_open(&self, problem: &Problem) -> bool {
        self.asked_again && !matches!(problem.status, 400 | 401 | 403 | 413 | 415)
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.respond.is_some() {
            self.answer(Err(Problem::unavailable("the replica is stopping")));
        }
    }
}
