//! The way back: what a command is answered, and where the answer goes.

use super::{
    admission::{Place, Turn},
    age::Arrival,
    client::Endpoint,
    placement,
    request::Outcome,
    traces,
};
use crate::{problem::Problem, telemetry::trace::Span};
use async_nats::Message;
use std::{sync::Arc, time::Instant};

/// The answer to an accepted command, from here or from another replica as it came.
pub enum Answered {
    /// Decided in this process.
    Here(Outcome),
    /// Another replica's answer, which may be a refusal.
    There(Message),
}

/// What is done with the answer. It must not block: it is called where commands are decided.
pub type Respond = Box<dyn FnOnce(Result<Answered, Problem>) + Send>;

/// Where the answer to one command goes, and the place that the command takes up until then. A
/// command whose reply is dropped is answered `unavailable`.
pub struct Reply {
    respond: Option<Respond>,
    endpoint: Arc<Endpoint>,
    arrival: Arrival,
    /// That of the command, where it is decided here.
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
        endpoint: Arc<Endpoint>,
        arrival: Arrival,
        place: Place,
    ) -> Self {
        Self {
            respond: Some(respond),
            endpoint,
            arrival,
            span: Span::none(),
            turn: None,
            asked_again: false,
            _place: place,
        }
    }

    /// When the command came.
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
    pub(super) fn relay(mut self, answer: Message) {
        let answered = match placement::read_refusal(&answer) {
            Some(problem) if self.is_open(&problem) => Err(Problem::not_settled()),
            _ => Ok(Answered::There(answer)),
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
            let took = self.arrival.read().elapsed();
            if let Some(turn) = self.turn.take() {
                turn.ended(took);
            }
            self.endpoint.measures.answered(&outcome, took);
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
