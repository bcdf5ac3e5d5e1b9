//! Where a command is decided: in this process, or at the replica that is its aggregate's home.
//!
//! A command is passed on at most once, by a request of this replica's own, so that a home that has
//! gone is noticed at once (a message passed on with somebody else's reply address would be lost
//! with it). Every command that leaves the process carries its id, so that it can never be appended
//! twice whoever decides it in the end.

use super::{
    request::{CommandRequest, Outcome},
    traces,
};
use crate::{
    config::Role,
    event_log::subject::Id,
    membership::{Home, Key, Membership},
    problem::Problem,
};
use async_nats::{Message, client::RequestErrorKind};
use std::time::Duration;

/// How long a home's answer is waited for: an append in doubt is settled within six seconds.
const HOME_TIMEOUT: Duration = Duration::from_secs(8);
/// How long an answer on `cmd` is waited for: whoever takes it may pass it on once.
const TIMEOUT: Duration = Duration::from_secs(12);

/// Finds the homes of aggregates and asks them.
#[derive(Debug, Clone)]
pub struct Placement {
    nats: async_nats::Client,
    membership: Membership,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// Nobody got the command: it can be given to another replica.
    Nobody,
    /// It was sent and no answer came: it may have been accepted.
    InDoubt,
}

impl Placement {
    /// Homes by this membership, asked over this connection.
    #[must_use]
    pub fn new(nats: async_nats::Client, membership: Membership) -> Self {
        Self { nats, membership }
    }

    /// The membership.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Where the home of an aggregate is.
    #[must_use]
    pub fn home(&self, aggregate: &str, id: &Id) -> Home {
        let key = Key::of(&[aggregate, id.as_str()]);
        self.membership.home(Role::Command, key)
    }

    /// Gives a command to the replica that is its home.
    ///
    /// # Errors
    ///
    /// Returns [`Unanswered`].
    pub async fn ask_home(
        &self,
        replica: &str,
        request: &CommandRequest,
    ) -> Result<Message, Unanswered> {
        let CommandRequest {
            aggregate,
            id,
            command,
            ..
        } = request;
        let subject = format!("own.{replica}.{aggregate}.{id}.{command}");
        self.ask(subject, Some(replica), request, HOME_TIMEOUT)
            .await
    }

    /// Gives a command to any replica that takes commands.
    ///
    /// # Errors
    ///
    /// Returns [`Unanswered`].
    pub async fn ask_any(&self, request: &CommandRequest) -> Result<Message, Unanswered> {
        let CommandRequest {
            aggregate,
            id,
            command,
            ..
        } = request;
        let subject = format!("cmd.{aggregate}.{id}.{command}");
        self.ask(subject, None, request, TIMEOUT).await
    }

    async fn ask(
        &self,
        subject: String,
        home: Option<&str>,
        request: &CommandRequest,
        timeout: Duration,
    ) -> Result<Message, Unanswered> {
        let (mut span, headers) = traces::passing_on(request, home);
        let asked = async_nats::Request::new()
            .headers(headers)
            .payload(request.body.clone())
            .timeout(Some(timeout));
        let answer = self.nats.send_request(subject, asked).await;
        answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders
            | RequestErrorKind::InvalidSubject
            | RequestErrorKind::MaxPayloadExceeded => {
                span.fail("nobody took it");
                Unanswered::Nobody
            }
            RequestErrorKind::TimedOut | RequestErrorKind::Other => {
                span.fail("no answer");
                Unanswered::InDoubt
            }
        })
    }
}

impl From<Unanswered> for Problem {
    fn from(unanswered: Unanswered) -> Self {
        Self::unavailable(match unanswered {
            Unanswered::Nobody => "no replica serves commands now; nothing was done",
            Unanswered::InDoubt => {
                "no replica answered in time; retry with the same Idempotency-Key"
            }
        })
    }
}

/// Reads another replica's answer.
///
/// # Errors
///
/// Returns the problem that was answered.
pub fn read(answer: &Message) -> Result<Outcome, Problem> {
    let refused = answer
        .headers
        .as_ref()
        .is_some_and(|headers| headers.get("Nats-Service-Error-Code").is_some());
    let unreadable = |_| Problem::unavailable("a replica answered in a form that is not known");
    if refused {
        Err(serde_json::from_slice(&answer.payload).unwrap_or_else(unreadable))
    } else {
        serde_json::from_slice(&answer.payload).map_err(unreadable)
    }
}
