//! Many commands in one request: each is read, decided and answered as if it had come alone.
//!
//! It is no transaction. What is wrong with one command refuses that one; only what is wrong with the list itself
//! refuses all of it.

mod read;
mod written;

pub(crate) use read::{List, empty_list, read, shared_headers};
pub(crate) use written::{LEAST_ANSWER, array, positions, written};

use super::{
    age::Arrival,
    answer::{Answered, Respond},
    client::{CommandClient, Passing},
    request::{CommandHeaders, CommandRequest, Outcome},
    traces::Came,
};
use crate::{aggregate::Aggregate, event_log::subject::Id, problem::Problem};
use futures::future::join_all;
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::oneshot;

/// The most commands of one request.
pub const MAX_COMMANDS: usize = 1_000;
/// The most bytes of one request with many commands.
pub const MAX_MANY: usize = 1024 * 1024;

/// The receiver of the answers, in the order of the commands. It must not block.
pub(super) type RespondToAll = Box<dyn FnOnce(Vec<Result<Answered, Problem>>) + Send>;

/// Gathers the answers of one request.
struct Answers(Mutex<Gathered>);

struct Gathered {
    answers: Vec<Option<Result<Answered, Problem>>>,
    missing: usize,
    respond: Option<RespondToAll>,
}

impl Answers {
    fn new(count: usize, respond: RespondToAll) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Gathered {
            answers: std::iter::repeat_with(|| None).take(count).collect(),
            missing: count,
            respond: Some(respond),
        })))
    }

    /// The way back of the command with this number.
    fn of(self: &Arc<Self>, number: usize) -> Respond {
        let answers = self.clone();
        Box::new(move |answered| answers.put(number, answered))
    }

    fn put(&self, number: usize, answered: Result<Answered, Problem>) {
        let whole = {
            let mut gathered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            gathered.answers[number] = Some(answered);
            gathered.missing -= 1;
            match gathered.missing {
                0 => Some((
                    std::mem::take(&mut gathered.answers),
                    gathered.respond.take(),
                )),
                _ => None,
            }
        };
        if let Some((answers, Some(respond))) = whole {
            respond(answers.into_iter().flatten().collect());
        }
    }
}

impl CommandClient {
    /// Has each of these decided as if it had come alone, those of one aggregate in their order.
    ///
    /// Returns what is to be awaited of those that are passed on, each for itself.
    pub(super) fn give_many(
        &self,
        requests: Vec<Result<CommandRequest, Problem>>,
        came: Came,
        arrival: Arrival,
        respond: RespondToAll,
    ) -> Vec<impl Future<Output = ()> + Send + use<>> {
        if requests.is_empty() {
            respond(Vec::new());
            return Vec::new();
        }
        let answers = Answers::new(requests.len(), respond);
        // An aggregate's commands go the same way, wherever its home moves meanwhile: `None` for here.
        let mut ways = HashMap::new();
        let mut runs = Vec::new();
        for (number, request) in requests.into_iter().enumerate() {
            let respond = answers.of(number);
            let found = request.and_then(|request| {
                let entry = self.entry(&request.aggregate, &request.command)?;
                Ok((entry.clone(), request))
            });
            let (entry, request) = match found {
                Ok(found) => found,
                Err(problem) => {
                    respond(Err(problem));
                    continue;
                }
            };
            let kind = entry.kind;
            let Some(reply) = self.admit(entry, &request, arrival, respond) else {
                continue;
            };
            let run = match ways.entry((kind, request.id.clone())) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => *new.insert(self.elsewhere(&request, came).map(|way| {
                    runs.push((way, Vec::new()));
                    runs.len() - 1
                })),
            };
            match run.and_then(|run| runs.get_mut(run)) {
                Some((_, run)) => run.push(Passing {
                    kind,
                    request,
                    reply,
                    came,
                }),
                None => self.decide(kind, request, reply, came),
            }
        }
        let runs = runs.into_iter();
        runs.map(|((placement, home), run)| self.clone().pass_on(placement, home, run))
            .collect()
    }

    /// Gives many commands and waits for all of their outcomes, which come in the same order.
    ///
    /// Each is decided as [`CommandClient::execute`] would, those of one aggregate in their order. It is no
    /// transaction: some may be accepted and others refused. Commands that are passed on go on only as long as the
    /// caller waits.
    pub async fn execute_many(
        &self,
        requests: impl IntoIterator<Item = CommandRequest>,
    ) -> Vec<Result<Outcome, Problem>> {
        self.execute_read(requests.into_iter().map(Ok).collect())
            .await
    }

    /// As [`CommandClient::execute_many`], with some that are refused already.
    pub(crate) async fn execute_read(
        &self,
        requests: Vec<Result<CommandRequest, Problem>>,
    ) -> Vec<Result<Outcome, Problem>> {
        let count = requests.len();
        let (sender, answers) = oneshot::channel();
        let respond: RespondToAll = Box::new(move |answers| {
            let _ = sender.send(answers);
        });
        join_all(self.give_many(requests, Came::Within, Arrival::within(), respond)).await;
        match answers.await {
            Ok(answers) => answers
                .into_iter()
                .map(|answered| answered.and_then(Answered::outcome))
                .collect(),
            Err(_) => {
                let stopping = || Err(Problem::unavailable("the replica is stopping"));
                std::iter::repeat_with(stopping).take(count).collect()
            }
        }
    }

    /// Gives many typed commands of one kind of aggregate, each with the aggregate's id and its headers, and waits for
    /// all of their outcomes, which come in the same order.
    ///
    /// As [`CommandClient::execute_many`].
    pub async fn send_many<A: Aggregate>(
        &self,
        commands: impl IntoIterator<Item = (impl AsRef<str>, A::Command, CommandHeaders)>,
    ) -> Vec<Result<Outcome, Problem>> {
        let request = |(id, command, headers): (_, A::Command, _)| {
            let id = Id::new(AsRef::<str>::as_ref(&id));
            let id = id.map_err(|error| Problem::malformed("id".to_owned(), error.to_string()))?;
            let (command, body) = super::client::untag(&command)?;
            Ok(CommandRequest {
                aggregate: A::NAME.into(),
                id,
                command: command.into(),
                body,
                headers,
            })
        };
        self.execute_read(commands.into_iter().map(request).collect())
            .await
    }
}
