//! Commands and answers that go from one replica to another in groups: what each of them says beside its body.

use super::{
    age::Arrival,
    answer::{Accepted, Answered, PeerAnswer},
    passed_on::Told,
    request::{CommandHeaders, CommandRequest, Lineage, checked_key},
};
use crate::{caller::Caller, event_log::subject::Id, problem::Problem};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, sync::Arc, time::Duration};

/// The last token of the subject on which a replica takes groups. No command has so short a subject.
pub(super) const GROUP: &str = "group";
/// The last token of the subject on which answers to groups are taken, within the inbox of who asks.
pub(super) const ANSWERS: &str = "a";
/// The most bytes of a message with a group, unless it is one thing alone: few enough that nothing behind it waits long.
pub(super) const MOST_BYTES: usize = 256 * 1024;
/// The most commands of a group.
pub(super) const MOST_COMMANDS: usize = 256;

/// The head of a command. Its body is the command's fields.
#[derive(Serialize, Deserialize)]
pub(super) struct CommandHead<'a> {
    /// Tells its answer from others.
    pub number: u64,
    #[serde(rename = "age")]
    age_ms: u64,
    pub aggregate: &'a str,
    pub id: &'a str,
    pub command: &'a str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    if_match: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracestate: Option<Cow<'a, str>>,
    /// As `Headwater-Command-Id` on a message of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    given_id: Option<Arc<str>>,
    /// As `Headwater-Asked-Again`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked_again: Option<u64>,
    /// As `Headwater-Correlation-Id` and `Headwater-Causation-Id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lineage: Option<(Arc<str>, Arc<str>)>,
    /// As `Headwater-Caller`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    caller: Option<Told>,
}

impl<'a> CommandHead<'a> {
    /// Says of a command what its home has to know.
    pub(super) fn of(number: u64, request: &'a CommandRequest, arrival: &Arrival) -> Self {
        let headers = &request.headers;
        // One whose age cannot be told is too old.
        let age = arrival.age().map_or(u64::MAX, |age| age.as_millis() as u64);
        Self {
            number,
            age_ms: age,
            aggregate: &request.aggregate,
            id: request.id.as_str(),
            command: &request.command,
            key: headers.idempotency_key.clone(),
            if_match: headers.if_match,
            traceparent: headers.traceparent.as_deref().map(Cow::from),
            tracestate: headers.tracestate.as_deref().map(Cow::from),
            given_id: headers.given_id.clone(),
            asked_again: headers.asked_again,
            lineage: headers.lineage.as_ref().map(|lineage| {
                let Lineage {
                    correlation_id,
                    causation_id,
                } = lineage;
                (correlation_id.clone(), causation_id.clone())
            }),
            caller: headers.tells_caller().then(|| Told::of(&headers.caller)),
        }
    }

    /// Returns who gives the command; `None` when that is not said.
    pub(super) fn caller(&self) -> Option<Caller> {
        self.caller.as_ref().and_then(Told::caller)
    }

    /// Returns the age that it says the command has.
    pub(super) fn age(&self) -> Duration {
        Duration::from_millis(self.age_ms)
    }

    /// Makes the command of it, as if it had come alone.
    pub(super) fn request(
        self,
        (aggregate, command): (&'static str, Arc<str>),
        caller: Caller,
        body: Bytes,
    ) -> Result<CommandRequest, Problem> {
        let id = Id::new(self.id);
        let id = id.map_err(|error| Problem::malformed("id".to_owned(), error.to_string()))?;
        let checked = |key: Option<Arc<str>>| match key {
            Some(key) => checked_key(&key, "Idempotency-Key").map(|()| Some(key)),
            None => Ok(None),
        };
        let headers = CommandHeaders {
            idempotency_key: checked(self.key)?,
            if_match: self.if_match,
            traceparent: self.traceparent.map(Cow::into_owned),
            tracestate: self.tracestate.map(Cow::into_owned),
            given_id: checked(self.given_id)?,
            asked_again: self.asked_again,
            lineage: self.lineage.map(|(correlation_id, causation_id)| Lineage {
                correlation_id,
                causation_id,
            }),
            caller,
            from_outside: true,
            authorization: None,
        };
        Ok(CommandRequest {
            aggregate: aggregate.into(),
            id,
            command,
            body,
            headers,
        })
    }
}

/// Knowledge of a command whose head is of another form.
#[derive(Deserialize)]
pub(super) struct Numbered {
    pub number: u64,
}

/// The head of an answer. The body is the outcome, or the problem where there is no version.
#[derive(Serialize, Deserialize)]
pub(super) struct AnswerHead {
    pub number: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
}

impl AnswerHead {
    /// The head of an answer to the command of this number, and its body.
    pub(super) fn of(number: u64, answered: &Result<Answered, Problem>) -> (Self, Bytes) {
        let (accepted, body) = match answered {
            Ok(Answered::Here(outcome)) => {
                let accepted = Some((outcome.version, outcome.position));
                (accepted, outcome.to_json().into())
            }
            Ok(Answered::Among(accepted)) => (
                Some((accepted.version, accepted.position)),
                accepted.body.clone(),
            ),
            // What was passed on to this replica is decided here.
            Ok(Answered::There(message)) => (None, message.payload.clone()),
            Err(problem) => (None, problem.to_json().into()),
        };
        let (version, position) = accepted.unzip();
        let head = Self {
            number,
            version,
            position,
        };
        (head, body)
    }

    /// Makes the answer of it.
    pub(super) fn answer(self, body: Bytes) -> PeerAnswer {
        match self.version.zip(self.position) {
            Some((version, position)) => PeerAnswer::Accepted(Accepted {
                version,
                position,
                body,
            }),
            None => PeerAnswer::Refused(
                serde_json::from_slice(&body).unwrap_or_else(|_| PeerAnswer::unreadable()),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> CommandRequest {
        CommandRequest {
            aggregate: "order".into(),
            id: Id::new("o-1").unwrap(),
            command: "place".into(),
            body: Bytes::from_static(b"{\"a\":"),
            headers: CommandHeaders {
                idempotency_key: Some("k\"\\1".into()),
                if_match: Some(3),
                traceparent: Some("00-a".to_owned()),
                tracestate: Some("a=\"1\"".to_owned()),
                given_id: Some("g-1".into()),
                asked_again: Some(u64::MAX),
                lineage: Some(Lineage {
                    correlation_id: "first".into(),
                    causation_id: "order/o-1/1".into(),
                }),
                caller: Caller::new(Some("회원 \"1\""), ["cmd:order:*", "staff"]),
                from_outside: true,
                authorization: None,
            },
        }
    }

    fn through(request: &CommandRequest) -> Result<CommandRequest, Problem> {
        let head = serde_json::to_vec(&CommandHead::of(7, request, &Arrival::within())).unwrap();
        let head: CommandHead<'_> = serde_json::from_slice(&head).unwrap();
        assert_eq!(head.number, 7);
        let caller = head.caller().unwrap_or_default();
        head.request(("order", "place".into()), caller, request.body.clone())
    }

    #[test]
    fn a_command_arrives_in_a_group_as_it_was_given() {
        let mut given = request();
        let same = |given: &CommandRequest| {
            let read = through(given).unwrap();
            assert_eq!((&read.id, &read.body), (&given.id, &given.body));
            assert_eq!(read.headers, given.headers);
        };
        same(&given);
        given.headers = CommandHeaders {
            from_outside: true,
            ..CommandHeaders::default()
        };
        same(&given);
    }

    #[test]
    fn a_key_of_another_form_is_refused_in_a_group_too() {
        let mut given = request();
        given.headers.idempotency_key = Some("a b".into());
        let problem = through(&given).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("Idempotency-Key"));
    }

    #[test]
    fn who_does_not_say_who_gives_a_command_is_nobody() {
        let mut given = request();
        // Whoever may everything because nobody is asked is not the program.
        given.headers.caller = Caller::default();
        let head = CommandHead::of(7, &given, &Arrival::within());
        assert!(head.caller().is_none());
        given.headers.from_outside = false;
        let head = CommandHead::of(7, &given, &Arrival::within());
        assert_eq!(head.caller(), Some(Caller::default()));
    }

    #[test]
    fn an_answer_arrives_as_it_was_told() {
        let refused = Err(Problem::version_mismatch(4));
        let (head, body) = AnswerHead::of(9, &refused);
        let head = serde_json::to_vec(&head).unwrap();
        let head: AnswerHead = serde_json::from_slice(&head).unwrap();
        assert_eq!(head.number, 9);
        let refusal = head.answer(body).refusal();
        assert_eq!(refusal, Some(Problem::version_mismatch(4)));
        let (head, _) = AnswerHead::of(9, &refused);
        let refusal = head.answer(Bytes::from_static(b"?")).refusal();
        assert_eq!(refusal.map(|problem| problem.status), Some(503));
    }
}
