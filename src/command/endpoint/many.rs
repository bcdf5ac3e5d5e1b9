//! Requests with many commands, on `cmds.<aggregate>`.

use super::{
    CONTENT_TYPE, Desk, POSITION,
    answers::{Sender, Way},
};
use crate::{
    access::Identified,
    caller::Action,
    command::{
        age::Arrival,
        answer::Answered,
        describe::AggregateDescription,
        many::{self, LEAST_ANSWER, List, RespondToAll},
        request::is_json,
        table::unknown_aggregate,
        traces::Came,
    },
    problem::Problem,
    request_headers::RequestHeaders,
    request_reply::refusal_headers,
};
use async_nats::{HeaderMap, Message};
use bytes::Bytes;

type Answers = Vec<Result<Answered, Problem>>;

impl Desk {
    pub(super) fn decide_many(
        &self,
        message: &Message,
        who: Identified,
        sender: Sender,
        arrival: Arrival,
    ) {
        let name = message.subject.split('.').nth(1).unwrap_or_default();
        let aggregates = self.client.aggregates();
        let known = aggregates.iter().position(|one| one.name == name);
        let Some((number, of)) = known.map(|number| (number, &aggregates[number])) else {
            return sender.answer(Err(who.refused(unknown_aggregate(name))));
        };
        let name = of.name;
        match self.read_many(message, &who, of) {
            Ok(List {
                commands,
                under_way,
            }) => {
                let respond: RespondToAll = Box::new(move |answers| {
                    drop(under_way);
                    sender.answer_many(number, Ok((name, answers)));
                });
                let passing = (self.client).give_many(commands, Came::ToAny, arrival, respond);
                for passing_on in passing {
                    tokio::spawn(passing_on);
                }
            }
            Err(problem) => sender.answer_many(number, Err(problem)),
        }
    }

    fn read_many(
        &self,
        message: &Message,
        who: &Identified,
        of: &AggregateDescription,
    ) -> Result<List, Problem> {
        who.check(Action::SomeCommand)?;
        let given = &message.headers;
        let content_type = given.single("Content-Type")?;
        if content_type.is_some_and(|value| !is_json(value)) {
            return Err(Problem::unsupported_media_type());
        }
        let shared = many::shared_headers(given, who.caller.clone())?;
        let aggregates = self.client.aggregates();
        let as_who = (&self.access, who);
        let list = many::read(&message.payload, Some(of), aggregates, as_who, &shared)?;
        // Or the answers would not fit into a message.
        let most = self.max_answer();
        match list.commands.len() * LEAST_ANSWER <= most {
            true => Ok(list),
            false => Err(Problem {
                detail: format!(
                    "a message has room for the answers of {} commands",
                    most / LEAST_ANSWER
                ),
                ..Problem::too_large(most)
            }),
        }
    }

    /// The most bytes of an answer, beside its headers.
    fn max_answer(&self) -> usize {
        self.nats.server_info().max_payload.saturating_sub(4 * 1024)
    }
}

impl Sender {
    fn answer_many(self, number: usize, answered: Result<(&'static str, Answers), Problem>) {
        let desk = self.desk;
        let commands = desk.client.aggregates().iter();
        let number = number + commands.map(|one| one.commands.len()).sum::<usize>();
        let took = self.arrived.elapsed();
        desk.discovery.count(number, took, answered.is_err());
        let Way::Alone(to) = self.way else { return };
        let most = desk.max_answer();
        let (headers, body) = match &answered {
            Ok((aggregate, answers)) => written(aggregate, answers, most),
            Err(problem) => (refusal_headers(problem), problem.to_json().into()),
        };
        desk.send(to, self.under_way, move || (headers.clone(), body.clone()));
    }
}

fn written(aggregate: &str, answers: &Answers, most: usize) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, "application/json");
    let accepted = answers.iter().flatten().filter_map(Answered::position);
    if let Some(positions) = many::positions(accepted.map(|position| (aggregate, position))) {
        headers.insert(POSITION, positions);
    }
    (headers, many::written(answers, most).into())
}
