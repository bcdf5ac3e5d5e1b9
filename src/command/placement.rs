//! Where a command is decided: in this process, or at the replica that is its aggregate's home.
//!
//! A command is passed on at most once, by a request of this replica's own, so that a home that has
//! gone is noticed at once (a message passed on with somebody else's reply address would be lost
//! with it). Every command that leaves the process carries its id, so that it can never be appended
//! twice whoever decides it in the end.

use super::{
    age::AGE,
    asks::Asks,
    request::{CommandRequest, Outcome},
    traces,
};
use crate::{
    config::Role,
    event_log::subject::Id,
    membership::{Home, Key, Membership},
    problem::Problem,
};
use async_nats::Message;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The time a home's answer is waited for: an append in doubt is settled within six seconds.
pub(super) const HOME_TIMEOUT: Duration = Duration::from_secs(8);
/// The time an answer on `cmd` is waited for: whoever takes it may pass it on.
pub(super) const TIMEOUT: Duration = Duration::from_secs(12);

/// Finds the homes of aggregates and asks them.
#[derive(Debug, Clone)]
pub struct Placement {
    asks: Arc<Asks>,
    membership: Membership,
    under_way: Arc<UnderWay>,
}

/// How many commands each home has been asked that it has not answered.
#[derive(Debug, Default)]
struct UnderWay(Mutex<HashMap<Arc<str>, u32>>);

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One command that is under way to a home. It counts until it is dropped.
#[derive(Debug)]
pub(super) struct Under {
    counted: Arc<UnderWay>,
    home: Arc<str>,
}

impl Drop for Under {
    fn drop(&mut self) {
        let mut counted = self.counted.lock();
        if let Some(count) = counted.get_mut(&self.home) {
            *count -= 1;
            if *count == 0 {
                counted.remove(&self.home);
            }
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// Nobody got the command: it can be given to another replica.
    Nobody,
    /// The connection is away or does not take it: nobody will ever get it.
    NotSent,
    /// It was sent and no answer came: it may have been accepted.
    InDoubt,
}

impl Placement {
    /// Homes by this membership, asked over this connection.
    #[must_use]
    pub fn new(nats: async_nats::Client, membership: Membership) -> Self {
        Self {
            asks: Arc::new(Asks::new(nats)),
            membership,
            under_way: Arc::default(),
        }
    }

    /// The connection.
    pub(super) fn nats(&self) -> &async_nats::Client {
        self.asks.nats()
    }

    /// The membership.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Returns where the home of an aggregate is.
    #[must_use]
    pub fn home(&self, aggregate: &str, id: &Id) -> Home {
        let key = Key::of(&[aggregate, id.as_str()]);
        self.membership.home(Role::Command, key)
    }

    /// Counts a command that is about to be given to a home; `None` when so many are under way to it that
    /// it must be hanging or overloaded.
    pub(super) fn begin(&self, home: &Arc<str>, most: u32) -> Option<Under> {
        let mut counted = self.under_way.lock();
        let count = counted.entry(home.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Under {
            counted: self.under_way.clone(),
            home: home.clone(),
        })
    }

    /// Gives a command of this age to the replica that is its home.
    ///
    /// # Errors
    ///
    /// Returns [`Unanswered`].
    pub async fn ask_home(
        &self,
        replica: &str,
        request: &CommandRequest,
        age: Duration,
        until: Instant,
    ) -> Result<Message, Unanswered> {
        let CommandRequest {
            aggregate,
            id,
            command,
            ..
        } = request;
        let subject = format!("own.{replica}.{aggregate}.{id}.{command}");
        self.ask(subject, Some(replica), request, age, until).await
    }

    /// Gives a command to any replica that takes commands.
    ///
    /// # Errors
    ///
    /// Returns [`Unanswered`].
    pub async fn ask_any(
        &self,
        request: &CommandRequest,
        age: Duration,
    ) -> Result<Message, Unanswered> {
        let CommandRequest {
            aggregate,
            id,
            command,
            ..
        } = request;
        let subject = format!("cmd.{aggregate}.{id}.{command}");
        let until = Instant::now() + TIMEOUT;
        self.ask(subject, None, request, age, until).await
    }

    async fn ask(
        &self,
        subject: String,
        home: Option<&str>,
        request: &CommandRequest,
        age: Duration,
        until: Instant,
    ) -> Result<Message, Unanswered> {
        let (mut span, mut headers) = traces::passing_on(request, home);
        headers.insert(AGE, age.as_millis().to_string());
        let asking = self.asks.ask(subject, headers, request.body.clone(), until);
        let answer = asking.await;
        match answer {
            Ok(_) => {}
            Err(Unanswered::Nobody) => span.fail("nobody took it"),
            Err(Unanswered::NotSent) => span.fail("not sent"),
            Err(Unanswered::InDoubt) => span.fail("no answer"),
        }
        answer
    }
}

impl From<Unanswered> for Problem {
    fn from(unanswered: Unanswered) -> Self {
        Self::unavailable(match unanswered {
            Unanswered::Nobody => "no replica serves commands now; nothing was done",
            Unanswered::NotSent => "NATS is away; nothing was done",
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
    match read_refusal(answer) {
        Some(problem) => Err(problem),
        None => serde_json::from_slice(&answer.payload).map_err(unreadable),
    }
}

/// Reads the problem that another replica answered; `None` when it accepted.
pub(super) fn read_refusal(answer: &Message) -> Option<Problem> {
    let headers = answer.headers.as_ref()?;
    headers.get("Nats-Service-Error-Code")?;
    Some(serde_json::from_slice(&answer.payload).unwrap_or_else(unreadable))
}

/// Returns whether another replica has answered that who asks is not known, or may not.
pub(super) fn is_refused_access(answer: &Message) -> bool {
    read_refusal(answer).is_some_and(|problem| matches!(problem.status, 401 | 403))
}

fn unreadable(_: serde_json::Error) -> Problem {
    Problem::unavailable("a replica answered in a form that is not known")
}
