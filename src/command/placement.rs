//! The place where a command is decided: in this process, or at the replica that is its aggregate's home.
//!
//! A command is passed on at most once, by a request of this replica's own, so that a home that has
//! gone is noticed at once (a message passed on with somebody else's reply address would be lost
//! with it). Every command that leaves the process carries its id, so that it can never be appended
//! twice whoever decides it in the end.

pub use super::asks::Unanswered;

use super::{
    age::{AGE, Arrival},
    answer::PeerAnswer,
    asks::Asks,
    groups::Groups,
    request::CommandRequest,
    traces,
};
use crate::{
    config::Role,
    event_log::subject::Id,
    membership::{Home, Key, Membership},
    telemetry::trace::Span,
};
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
    groups: Arc<Groups>,
    membership: Membership,
    under_way: Arc<UnderWay>,
}

/// The number of commands that each home has been asked and has not answered.
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

impl Placement {
    /// Homes by this membership, asked over this connection.
    #[must_use]
    pub fn new(nats: async_nats::Client, membership: Membership) -> Self {
        let asks = Arc::new(Asks::new(nats));
        Self {
            groups: Arc::new(Groups::new(asks.clone(), membership.clone())),
            asks,
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

    /// Gives a command to the replica that is its home, with what else goes there at this moment. What is given first
    /// gets there first.
    pub(super) fn ask_home(
        &self,
        replica: &Arc<str>,
        request: &CommandRequest,
        arrival: Arrival,
        until: Instant,
    ) -> impl Future<Output = Result<PeerAnswer, Unanswered>> + Send + use<> {
        let (mut span, headers) = traces::passing_on(request, Some(replica));
        let request = CommandRequest {
            aggregate: request.aggregate.clone(),
            id: request.id.clone(),
            command: request.command.clone(),
            body: request.body.clone(),
            headers: headers.into_owned(),
        };
        let asked = self.groups.give(replica, request, arrival);
        async move {
            let answer = asked.answer(until).await;
            failed(&mut span, &answer);
            answer
        }
    }

    /// Gives a command to any replica that takes commands.
    ///
    /// # Errors
    ///
    /// Returns [`Unanswered`].
    pub(super) async fn ask_any(
        &self,
        request: &CommandRequest,
        age: Duration,
    ) -> Result<PeerAnswer, Unanswered> {
        let (mut span, headers) = traces::passing_on(request, None);
        let mut headers = headers.written(false);
        headers.insert(AGE, age.as_millis().to_string());
        let CommandRequest {
            aggregate,
            id,
            command,
            ..
        } = request;
        let subject = format!("cmd.{aggregate}.{id}.{command}");
        let until = Instant::now() + TIMEOUT;
        let (asked, awaited) = self.asks.begin();
        let sending = self
            .asks
            .send(subject, headers, request.body.clone(), asked, until);
        sending.await;
        let answer = awaited.answer(until).await;
        failed(&mut span, &answer);
        answer
    }
}

fn failed(span: &mut Span, answer: &Result<PeerAnswer, Unanswered>) {
    match answer {
        Ok(_) => {}
        Err(Unanswered::Nobody) => span.fail("nobody took it"),
        Err(Unanswered::NotSent) => span.fail("not sent"),
        Err(Unanswered::InDoubt) => span.fail("no answer"),
    }
}
