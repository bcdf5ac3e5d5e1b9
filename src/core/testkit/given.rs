//! Given, when, then: one decision of an aggregate.

use crate::{
    aggregate::{Aggregate, Claim, Context, Decision, Rejection},
    caller::Caller,
    recorded::decode_event,
};
use jiff::Timestamp;
use serde_json::Value;
use std::{fmt::Debug, sync::Arc};

/// The history that an aggregate has before a command comes.
///
/// Whatever passes through is also written as JSON and read back, since that is what happens to
/// it in the log, in a snapshot and on the wire.
#[derive(Debug, Clone)]
pub struct Given<A> {
    state: A,
    context: Context,
}

/// An aggregate's answer to a command.
#[derive(Debug)]
pub struct When<A: Aggregate> {
    command: String,
    answer: Result<Decision<A::Event>, A::Rejection>,
}

impl<A> Given<A>
where
    A: Aggregate,
    A::Event: PartialEq + Debug,
{
    /// An aggregate that has no events yet.
    #[must_use]
    #[track_caller]
    pub fn nothing() -> Self {
        Self::events([])
    }

    /// An aggregate that has had these events. Its id is `id-1`, and it is 2027-01-01T00:00:00Z.
    #[must_use]
    #[track_caller]
    pub fn events(events: impl IntoIterator<Item = A::Event>) -> Self {
        let mut given = Self {
            state: A::default(),
            context: Context {
                id: "id-1".into(),
                version: 0,
                command_id: "command-1".into(),
                now: "2027-01-01T00:00:00Z".parse().expect("a timestamp"),
                caller: Caller::default(),
            },
        };
        for event in events {
            given.context.version += 1;
            given.state.evolve(&through_log::<A>(event));
        }
        given.state = through_json("state", &given.state);
        given
    }

    /// The aggregate has this id.
    #[must_use]
    pub fn id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.context.id = id.into();
        self
    }

    /// The command is given by this caller. Who may everything does unless it is said.
    #[must_use]
    pub fn by(mut self, caller: Caller) -> Self {
        self.context.caller = caller;
        self
    }

    /// The command is decided at this time.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        self.context.now = now;
        self
    }

    /// A command comes.
    #[must_use]
    #[track_caller]
    pub fn when(&self, command: A::Command) -> When<A> {
        let name = command_name::<A>(&command);
        let command = through_json("command", &command);
        let answer = self.state.decide(command, &self.context);
        if let Ok(decision) = &answer {
            // What was decided has to fold, or the aggregate could not be loaded again.
            let mut state = self.state.clone();
            for event in &decision.events {
                state.evolve(&through_log::<A>(event.clone()));
            }
        }
        When {
            command: name,
            answer,
        }
    }
}

impl<A> When<A>
where
    A: Aggregate,
    A::Event: PartialEq + Debug,
{
    /// The command is accepted, with whatever events.
    #[track_caller]
    pub fn then_accepted(self) -> Self {
        self.accepted();
        self
    }

    /// The command is accepted with exactly these events.
    #[track_caller]
    pub fn then_events(self, expected: impl IntoIterator<Item = A::Event>) -> Self {
        let expected: Vec<_> = expected.into_iter().collect();
        let decision = self.accepted();
        assert_eq!(decision.events, expected, "events of {}", self.command);
        self
    }

    /// The command is accepted and changes nothing: no events, no keys taken or given up.
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        self.then_events([]).then_claims([]).then_releases([])
    }

    /// The command is accepted and takes exactly these unique keys.
    #[track_caller]
    pub fn then_claims<'a>(self, expected: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let expected: Vec<_> = expected.into_iter().collect();
        assert_eq!(pairs(&self.accepted().claims), expected, "claims");
        self
    }

    /// The command is accepted and gives up exactly these unique keys.
    #[track_caller]
    pub fn then_releases<'a>(self, expected: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let expected: Vec<_> = expected.into_iter().collect();
        assert_eq!(pairs(&self.accepted().releases), expected, "releases");
        self
    }

    /// The command is refused with this code, which is one that the aggregate publishes for it.
    #[track_caller]
    pub fn then_rejected(self, code: &str) -> Self {
        let Err(rejection) = &self.answer else {
            let events = &self.accepted().events;
            panic!(
                "expected {code}, but {} was accepted: {events:?}",
                self.command
            );
        };
        assert_eq!(rejection.code(), code, "{rejection}");
        let published = A::Rejection::codes(&self.command);
        assert!(
            published.contains(&code),
            "{code} is not among the published codes of {}: {published:?}",
            self.command
        );
        self
    }

    /// The command is refused because its caller lacks this scope.
    #[track_caller]
    pub fn then_forbidden(self, scope: &str) -> Self {
        match &self.answer {
            Ok(decision) => panic!("{} was accepted: {:?}", self.command, decision.events),
            Err(rejection) => assert_eq!(
                rejection.missing_scope(),
                Some(scope),
                "{} was refused: {rejection}",
                self.command
            ),
        }
        self
    }

    /// The events of an accepted command.
    #[must_use]
    #[track_caller]
    pub fn into_events(self) -> Vec<A::Event> {
        self.accepted();
        self.answer
            .map_or_else(|_| Vec::new(), |decision| decision.events)
    }

    #[track_caller]
    fn accepted(&self) -> &Decision<A::Event> {
        match &self.answer {
            Ok(decision) => decision,
            Err(rejection) => panic!(
                "{} was refused with {}: {rejection}",
                self.command,
                rejection.code()
            ),
        }
    }
}

fn pairs(claims: &[Claim]) -> Vec<(&str, &str)> {
    claims
        .iter()
        .map(|claim| (claim.scope, claim.key.as_str()))
        .collect()
}

#[track_caller]
fn command_name<A: Aggregate>(command: &A::Command) -> String {
    match serde_json::to_value(command) {
        Ok(Value::Object(fields)) if fields.len() == 1 && fields.values().all(Value::is_object) => {
            fields.into_iter().map(|(name, _)| name).collect()
        }
        other => panic!("a command of {} is not {{name: {{…}}}}: {other:?}", A::NAME),
    }
}

#[track_caller]
pub(super) fn through_json<T: serde::Serialize + serde::de::DeserializeOwned>(
    what: &str,
    value: &T,
) -> T {
    serde_json::to_string(value)
        .and_then(|json| serde_json::from_str(&json))
        .unwrap_or_else(|error| panic!("the {what} does not survive JSON: {error}"))
}

#[track_caller]
fn through_log<A: Aggregate>(event: A::Event) -> A::Event
where
    A::Event: PartialEq + Debug,
{
    let (event_type, data) = super::log::stored::<A>(&event);
    let read = decode_event::<A>(&event_type, &data);
    let read = read.unwrap_or_else(|error| panic!("{event:?} cannot be read back: {error}"));
    assert_eq!(read, event, "an event is read back as it was written");
    read
}
