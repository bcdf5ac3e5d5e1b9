//! Writers that never give up, and the proof that none of them was lied to.
//!
//! The commands of every other writer have idempotency keys, and are given again with them until they
//! are answered for good. Answered commands are given again at once, later, twice at the same time, and
//! at the end: the answer must always be the first one. The other writers give each command once; what
//! it leaves is known by what it says. [`Answers::verify`] then holds all answers against the log.

use super::{
    api::{NatsApi, Reply},
    log::{self, Log, Logged},
    poll::eventually_within,
    seed::Seed,
};
use async_nats::ServerAddr;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// How long a command is given again and again: longer than anything is ever away in a test.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an answer is waited for where replicas are killed. Shorter than an append in doubt takes
/// to settle, so that some commands are given again while they are under way elsewhere.
pub const WHILE: Duration = Duration::from_secs(2);
/// Younger outcomes are surely remembered: the promise is two minutes.
const REMEMBERED: Duration = Duration::from_secs(90);
/// Many times more than this many commands for one aggregate would be remembered too.
const AT_THE_END: usize = 2_000;

/// A command, with or without an idempotency key.
#[derive(Debug, Clone)]
pub struct Given {
    pub aggregate: &'static str,
    pub id: String,
    pub command: &'static str,
    pub body: Value,
    /// Without one it is given once only: given again it would be another command.
    pub key: Option<String>,
}

impl Given {
    /// By which the log's reader finds a command without a key again; see [`log::mark`].
    pub fn mark(&self) -> String {
        let done = match self.command {
            "ship" => "shipped".to_owned(),
            "cancel" => "cancelled".to_owned(),
            "withdraw" => "withdrawn".to_owned(),
            "pay" => "paid".to_owned(),
            ends_in_e if ends_in_e.ends_with('e') => format!("{ends_in_e}d"),
            other => format!("{other}ed"),
        };
        let event = format!("{}.{done}.v1", self.aggregate);
        let aggregate = format!("{}.{}", self.aggregate, self.id);
        log::mark(&aggregate, &event, &self.body)
            .unwrap_or_else(|| panic!("{self:?} leaves nothing by which it is known"))
    }
}

/// Its final answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The outcome but for `replayed`.
    Accepted(Value),
    Refused(u16, String),
    /// Refused too, but the same command had been given before, and nobody knows what became of
    /// that: a replica that hung in between may even accept it later. Refusals are not remembered.
    RefusedInDoubt(String),
    /// Nobody knows what became of a command without a key: it was carried out once at most.
    Unknown,
    /// A command without a key was not carried out, says its answer.
    NotDone,
}

/// Commands with their answers.
#[derive(Debug, Default)]
pub struct Answers {
    of: Vec<(Given, Answer, Instant)>,
    /// How often a command was given and nobody said anything.
    unanswered: u64,
}

/// Running writers.
pub struct Writers {
    stop: Arc<AtomicBool>,
    running: JoinSet<Answers>,
}

/// A client that knows all these servers and does not mind when they are away.
pub async fn client(urls: &[String]) -> NatsApi {
    let addresses: Vec<ServerAddr> = urls.iter().map(|url| url.parse().unwrap()).collect();
    let client = async_nats::ConnectOptions::new()
        .reconnect_delay_callback(|_| Duration::from_millis(50))
        .connect(addresses)
        .await
        .unwrap();
    NatsApi { client }
}

impl Writers {
    /// Starts so many writers over so many aggregates.
    pub async fn start(
        urls: &[String],
        seed: &Seed,
        writers: u64,
        aggregates: u64,
        patience: Duration,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut running = JoinSet::new();
        for number in 0..writers {
            let mut writer = Writer {
                number,
                api: Giver {
                    patience,
                    ..Giver::connect(urls).await
                },
                seed: seed.part(1_000 + number),
                aggregates,
                reserved: Vec::new(),
                keyed: number.is_multiple_of(2),
                answers: Answers::default(),
                given: 0,
            };
            let stop = stop.clone();
            running.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    writer.work().await;
                }
                writer.answers.unanswered = writer.api.unanswered.into_inner();
                writer.answers
            });
        }
        Self { stop, running }
    }

    /// Waits until every command under way is answered for good.
    pub async fn stop(mut self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        let mut answers = Answers::default();
        while let Some(writer) = self.running.join_next().await {
            match writer {
                Ok(of_one) => answers.extend(of_one),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        answers
    }
}

struct Writer {
    number: u64,
    api: Giver,
    seed: Seed,
    aggregates: u64,
    /// Accepted reservations that were not settled yet, as aggregate and order.
    reserved: Vec<(String, String)>,
    /// Whether its commands have keys.
    keyed: bool,
    answers: Answers,
    given: u64,
}

impl Writer {
    async fn work(&mut self) {
        let given = self.choose();
        let answer = if self.keyed && self.seed.once_in(16) {
            let (one, other) = tokio::join!(self.api.settle(&given), self.api.settle(&given));
            match (one, other) {
                (one, other) if one == other => one,
                // The stock came in between.
                (accepted @ Answer::Accepted(_), refused)
                | (refused, accepted @ Answer::Accepted(_))
                    if !matches!(refused, Answer::Accepted(_)) =>
                {
                    accepted
                }
                (_, Answer::RefusedInDoubt(code)) | (Answer::RefusedInDoubt(code), _) => {
                    Answer::RefusedInDoubt(code)
                }
                // Refused by different rules: some stock came in between, but not enough.
                (one @ Answer::Refused(..), Answer::Refused(..)) => one,
                differ => panic!("two givings of {given:?} at the same time: {differ:?}"),
            }
        } else {
            self.api.settle(&given).await
        };
        match (&answer, given.command) {
            (Answer::Accepted(_), "reserve") => {
                let order = given.body["order"].as_str().unwrap().to_owned();
                self.reserved.push((given.id.clone(), order));
            }
            (Answer::Refused(..) | Answer::RefusedInDoubt(_), "release" | "ship") => {
                panic!("{given:?} settles an accepted reservation, and was refused: {answer:?}")
            }
            (Answer::Refused(_, code) | Answer::RefusedInDoubt(code), _) => {
                let expected = ["not_found", "out_of_stock"].contains(&code.as_str());
                assert!(expected, "{given:?}: {answer:?}");
            }
            (Answer::Accepted(_) | Answer::Unknown | Answer::NotDone, _) => {}
        }
        if self.seed.once_in(8) {
            self.api.again(&given, &answer).await;
        }
        self.answers.add(given, answer);
        if self.seed.once_in(8) {
            let (given, answer, at) = self.seed.one_of(&self.answers.of).clone();
            if at.elapsed() < REMEMBERED {
                self.api.again(&given, &answer).await;
            }
        }
    }

    fn choose(&mut self) -> Given {
        self.given += 1;
        let unique = format!("w{}-{}", self.number, self.given);
        let key = self.keyed.then(|| unique.clone());
        let seed = &mut self.seed;
        if !self.reserved.is_empty() && seed.once_in(4) {
            let which = seed.within(0..self.reserved.len() as u64) as usize;
            let (id, order) = self.reserved.swap_remove(which);
            let command = *seed.one_of(&["release", "ship"]);
            return Given {
                aggregate: "stock",
                id,
                command,
                body: json!({"order": order}),
                key,
            };
        }
        let number = if seed.once_in(4) {
            seed.within(0..2)
        } else {
            seed.within(0..self.aggregates)
        };
        let quantity = seed.within(1..4);
        let (command, body) = if seed.once_in(3) {
            ("reserve", json!({"order": unique, "quantity": quantity}))
        } else if key.is_some() || seed.once_in(4) {
            ("receive", json!({"quantity": quantity}))
        } else {
            ("adjust", json!({"delta": quantity, "reason": unique}))
        };
        // What a receipt leaves is like what another leaves.
        let key = key.or_else(|| (command == "receive").then_some(unique));
        Given {
            aggregate: "stock",
            id: format!("b_{number}"),
            command,
            body,
            key,
        }
    }
}

/// Gives commands over one connection.
pub struct Giver {
    pub api: NatsApi,
    unanswered: AtomicU64,
    patience: Duration,
}

impl Giver {
    pub async fn connect(urls: &[String]) -> Self {
        Self {
            api: client(urls).await,
            unanswered: AtomicU64::new(0),
            patience: WHILE,
        }
    }

    /// Gives a command until it is answered for good; once only where it has no key.
    pub async fn settle(&self, given: &Given) -> Answer {
        if given.key.is_none() {
            return self.give_once(given).await;
        }
        let what = format!("an answer to {given:?}");
        let in_doubt = AtomicBool::new(false);
        eventually_within(PATIENCE, &what, || async {
            let Some(reply) = self.give(given).await else {
                self.unanswered.fetch_add(1, Ordering::Relaxed);
                in_doubt.store(true, Ordering::Relaxed);
                return None;
            };
            match reply.status {
                200 => Some(Answer::Accepted(without_replayed(&reply))),
                429 => None,
                503 => {
                    in_doubt.store(true, Ordering::Relaxed);
                    None
                }
                400..500 => {
                    let code = reply.json()["code"].as_str().unwrap().to_owned();
                    Some(if in_doubt.load(Ordering::Relaxed) {
                        Answer::RefusedInDoubt(code)
                    } else {
                        Answer::Refused(reply.status, code)
                    })
                }
                _ => panic!("{given:?}: {} {}", reply.status, reply.json()),
            }
        })
        .await
    }

    async fn give_once(&self, given: &Given) -> Answer {
        let Some(reply) = self.give(given).await else {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            return Answer::Unknown;
        };
        let answer = reply.json();
        match reply.status {
            200 => {
                assert_eq!(answer["replayed"], false, "{given:?}: {answer}");
                Answer::Accepted(without_replayed(&reply))
            }
            429 => Answer::NotDone,
            503 if answer["detail"].to_string().contains("nothing was") => Answer::NotDone,
            503 => Answer::Unknown,
            400..500 => Answer::Refused(reply.status, answer["code"].as_str().unwrap().to_owned()),
            _ => panic!("{given:?}: {} {answer}", reply.status),
        }
    }

    async fn give(&self, given: &Given) -> Option<Reply> {
        let subject = format!("cmd.{}.{}.{}", given.aggregate, given.id, given.command);
        let body = serde_json::to_vec(&given.body).unwrap();
        let key = given.key.as_deref().map(|key| ("Idempotency-Key", key));
        let headers: Vec<_> = key.into_iter().collect();
        let asked = self.api.request(subject, body, &headers);
        // No answer within a while: the replica may have been killed.
        tokio::time::timeout(self.patience, asked).await.ok()?.ok()
    }

    /// Gives an answered command again. An accepted one must get the same outcome; a refused one
    /// was never appended and may be decided otherwise now, so it is left alone.
    async fn again(&self, given: &Given, answer: &Answer) {
        if given.key.is_some() && matches!(answer, Answer::Accepted(_)) {
            let once_more = self.settle(given).await;
            assert_eq!(&once_more, answer, "the outcome of a retry of {given:?}");
        }
    }
}

fn without_replayed(reply: &Reply) -> Value {
    let mut outcome = reply.json();
    let replayed = outcome.as_object_mut().unwrap().remove("replayed");
    assert!(replayed.is_some_and(|replayed| replayed.is_boolean()));
    outcome
}

impl Answers {
    /// Adds an answer that has just come.
    pub fn add(&mut self, given: Given, answer: Answer) {
        self.of.push((given, answer, Instant::now()));
    }

    /// Adds the answers that another had.
    pub fn extend(&mut self, others: Self) {
        self.of.extend(others.of);
        self.unanswered += others.unanswered;
    }

    /// The latest answered command.
    pub fn last(&self) -> Option<&Given> {
        self.of.last().map(|(given, ..)| given)
    }

    /// How many commands were accepted.
    pub fn accepted(&self) -> usize {
        let accepted =
            |(_, answer, _): &&(Given, Answer, Instant)| matches!(answer, Answer::Accepted(_));
        self.of.iter().filter(accepted).count()
    }

    /// How often a command was given and nobody said anything.
    pub fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// Proves that every answer is true: retries still get the same one, every accepted outcome is
    /// in the log exactly once and as it was told, nothing else is, and every command was decided
    /// on the state that the log has before it.
    pub async fn verify(&self, urls: &[String]) {
        let api = Giver::connect(urls).await;
        let step = self.of.len().div_ceil(AT_THE_END).max(1);
        for (given, answer, at) in self.of.iter().step_by(step) {
            if at.elapsed() < REMEMBERED {
                api.again(given, answer).await;
            }
        }

        let log = Log::read(&api.api.client).await;
        let mut missing: BTreeMap<_, _> = log.commands.iter().collect();
        let (mut late, mut unknown) = (0, 0);
        for (given, answer, _) in &self.of {
            let id = match &given.key {
                Some(key) => Some(key),
                None => log.marked.get(&given.mark()),
            };
            let logged = id.and_then(|id| missing.remove(id));
            match answer {
                Answer::Unknown => unknown += u64::from(logged.is_some()),
                Answer::Refused(..) | Answer::NotDone => {
                    assert_eq!(logged, None, "{given:?} was refused with {answer:?}");
                }
                Answer::RefusedInDoubt(_) => late += u64::from(logged.is_some()),
                Answer::Accepted(outcome) => {
                    let told = told(outcome);
                    assert_eq!(logged, Some(&told), "the log's and the told of {given:?}");
                }
            }
        }
        eprintln!(
            "{late} commands were accepted after a retry had been refused, \
             {unknown} without a key whose givers were not told"
        );
        assert!(
            missing.is_empty(),
            "nobody was told of what is in the log: {missing:?}"
        );
        log.assert_stocks();
    }
}

/// What the log must have for this outcome.
fn told(outcome: &Value) -> Logged {
    let text = |name: &str| outcome[name].as_str().unwrap().to_owned();
    let events = outcome["events"].as_array().unwrap();
    let types = events.iter().map(|event| event["type"].as_str().unwrap());
    Logged {
        aggregate: format!("{}.{}", text("aggregate"), text("id")),
        position: outcome["position"].as_u64().unwrap(),
        version: outcome["version"].as_u64().unwrap(),
        types: types.map(str::to_owned).collect(),
    }
}
