//! Requests with one command, on `cmd.<aggregate>.<id>.<command>` and `own.<replica>.…`.

use super::{Desk, Source, answers::Sender};
use crate::{
    access::Identified,
    caller::{Action, Caller},
    command::{
        age::Arrival,
        answer::Respond,
        request::{
            ASKED_AGAIN, CommandHeaders, CommandRequest, GIVEN_ID, Lineage, MAX_KEY, is_json,
        },
        table::{CommandEntry, unknown_aggregate},
        traces::Came,
        waits::ProcessWait,
    },
    event_log::subject::Id,
    problem::Problem,
    request_headers::RequestHeaders,
};
use async_nats::Message;
use bytes::Bytes;
use std::sync::Arc;

impl Desk {
    pub(super) fn decide(
        &self,
        message: &Message,
        who: Identified,
        mut caller: Sender,
        arrival: Arrival,
    ) {
        let passed_on = self.source == Source::Replicas;
        let Some((aggregate, id, command)) = names(&message.subject, passed_on) else {
            return caller.answer(Err(who.refused(Problem::malformed(
                "id".to_owned(),
                "a command's subject is cmd.<aggregate>.<id>.<command>, and an id is 1 to 64 of A-Z a-z 0-9 _ -",
            ))));
        };
        let entry = match self.client.entry(aggregate, command) {
            Ok(entry) if entry.internal && !passed_on => {
                return caller.answer(Err(unknown_aggregate(aggregate)));
            }
            Ok(entry) => entry.clone(),
            Err(problem) => return caller.answer(Err(who.refused(problem))),
        };
        caller.entry = Some(entry.clone());
        let read = who.may(Action::Command { aggregate, command });
        let read = read.and_then(|who| {
            let headers = message.headers.surveyed();
            let request = self.read((&message.payload, &headers), &entry, id, who.caller)?;
            // Who has passed it on waits.
            let wait = match passed_on {
                true => None,
                false => self.client.waits().begin(&headers)?,
            };
            Ok((request, wait))
        });
        match read {
            Ok((request, wait)) => self.give(entry, request, (caller, wait), arrival),
            Err(problem) => caller.answer(Err(problem)),
        }
    }

    /// Has a command decided.
    pub(super) fn give(
        &self,
        entry: Arc<CommandEntry>,
        request: CommandRequest,
        (sender, wait): (Sender, Option<ProcessWait>),
        arrival: Arrival,
    ) {
        let respond: Respond = match wait {
            None => Box::new(move |answered| sender.answer(answered)),
            Some(wait) => Box::new(move |answered| sender.answer_after(wait, answered)),
        };
        let came = match self.source {
            Source::Replicas => Came::PassedOn,
            Source::Anybody | Source::AnybodyMany => Came::ToAny,
        };
        let given = (self.client).give(entry, request, came, arrival, respond);
        if let Some(passing_on) = given {
            tokio::spawn(passing_on);
        }
    }

    fn read(
        &self,
        (body, given): (&Bytes, &impl RequestHeaders),
        entry: &CommandEntry,
        id: &str,
        caller: Caller,
    ) -> Result<CommandRequest, Problem> {
        let id =
            Id::new(id).map_err(|error| Problem::malformed("id".to_owned(), error.to_string()))?;
        if body.len() > entry.max_body() {
            return Err(Problem::too_large(entry.max_body()));
        }
        // On NATS a body need not say what it is, but when it does it is taken at its word.
        let content_type = given.single("Content-Type")?;
        if content_type.is_some_and(|value| !is_json(value)) {
            return Err(Problem::unsupported_media_type());
        }
        let mut headers = CommandHeaders::read(given, caller)?;
        if self.source == Source::Replicas {
            let id = given
                .single(GIVEN_ID)?
                .filter(|id| (1..=MAX_KEY).contains(&id.len()));
            headers.given_id = id.map(Arc::from);
            headers.lineage = Lineage::read(given);
            let asked_again = given.single(ASKED_AGAIN)?;
            headers.asked_again = asked_again.and_then(|position| position.parse().ok());
        }
        Ok(CommandRequest {
            aggregate: entry.aggregate.into(),
            id,
            command: entry.command.clone(),
            body: body.clone(),
            headers,
        })
    }
}

/// Takes a command's subject apart into the aggregate's name and id and the command's name.
fn names(subject: &str, passed_on: bool) -> Option<(&str, &str, &str)> {
    let mut tokens = subject.splitn(if passed_on { 5 } else { 4 }, '.').skip(1);
    if passed_on {
        tokens.next();
    }
    let names = (tokens.next()?, tokens.next()?, tokens.next()?);
    (!names.2.contains('.')).then_some(names)
}
