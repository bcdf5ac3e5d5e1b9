//! The way back: what a command is answered, and where the answer goes.

use super::{client::Endpoint, request::Outcome, room::Place, traces};
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
    arrived: Instant,
    /// That of the command, where it is decided here.
    pub(super) span: Span,
    _place: Place,
}

impl Reply {
    /// Pairs the way back with the command's place.
    #[must_use]
    pub(super) fn new(
        respond: Respond,
        endpoint: Arc<Endpoint>,
        arrived: Instant,
        place: Place,
    ) -> Self {
        Self {
            respond: Some(respond),
            endpoint,
            arrived,
            span: Span::none(),
            _place: place,
        }
    }

    /// When the command came.
    #[must_use]
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// Answers. The caller may have gone; what was appended stands all the same.
    pub fn send(mut self, outcome: Result<Outcome, Problem>) {
        self.answer(outcome);
    }

    /// Answers with what another replica answered, which has measured it.
    pub(super) fn relay(mut self, answer: Message) {
        if let Some(respond) = self.respond.take() {
            respond(Ok(Answered::There(answer)));
        }
    }

    fn answer(&mut self, outcome: Result<Outcome, Problem>) {
        if let Some(respond) = self.respond.take() {
            self.endpoint
                .measures
                .answered(&outcome, self.arrived.elapsed());
            traces::answered(std::mem::take(&mut self.span), &outcome);
            respond(outcome.map(Answered::Here));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.respond.is_some() {
            self.answer(Err(Problem::unavailable("the replica is stopping")));
        }
    }
}
