//! Whatever an aggregate goes through between two commands (a snapshot, a passivation, a reload, a
//! rival on another replica), it decides on the fold of its log.

use crate::harness::{nats, unique};
use async_nats::Client;
use bytes::Bytes;
use headwater::{
    aggregate::{Aggregate, Context},
    command::{
        client::{Aggregates, CommandClient, CommandOptions},
        request::{CommandHeaders, CommandRequest, Outcome},
    },
    event_log::{EventLog, Timeouts, subject::Id, topology::Topology},
    mart::stock::{Command, Stock},
    problem::Problem,
};
use jiff::Timestamp;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use std::time::Duration;

/// One step, on one of two stocks and by one of two replicas that do not know of each other.
#[derive(Debug, Clone)]
struct Step {
    stock: usize,
    replica: usize,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Give(Command),
    /// A command that was given before, counted back from the latest.
    Again(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let order = || (0..6).prop_map(|number| format!("o-{number}"));
    let command = prop_oneof![
        4 => (1..5_i64).prop_map(|quantity| Command::Receive { quantity }),
        4 => (order(), 1..4_i64).prop_map(|(order, quantity)| Command::Reserve { order, quantity }),
        1 => order().prop_map(|order| Command::Release { order }),
        1 => order().prop_map(|order| Command::Ship { order }),
    ];
    let what = prop_oneof![
        5 => command.prop_map(What::Give),
        1 => any::<prop::sample::Index>().prop_map(What::Again),
    ];
    let step = (prop_oneof![5 => Just(0), 1 => Just(1)], 0..2_usize, what).prop_map(
        |(stock, replica, what)| Step {
            stock,
            replica,
            what,
        },
    );
    // Past a hundred events an actor writes a snapshot even while it lives.
    prop_oneof![
        4 => prop::collection::vec(step.clone(), 1..60),
        1 => prop::collection::vec(step, 200..300),
    ]
}

/// A stock as the log should have it.
#[derive(Default)]
struct Model {
    state: Stock,
    version: u64,
    /// Accepted commands with events, with their bodies and outcomes.
    given: Vec<(CommandRequest, Outcome)>,
}

#[test]
fn any_interleaving_yields_what_folding_the_log_yields() {
    headwater::run(async {
        let url = tokio::task::spawn_blocking(|| nats::shared().url());
        let nats = async_nats::connect(url.await.unwrap()).await.unwrap();
        Topology::embedded().apply(&nats).await.unwrap();
        let runtime = tokio::runtime::Handle::current();
        let replicas = [replica(&nats), replica(&nats)];
        let clients = replicas.clone();
        // The runner blocks, so that it can shrink what fails.
        let run = tokio::task::spawn_blocking(move || {
            let config = Config {
                cases: 12,
                failure_persistence: None,
                ..Config::default()
            };
            TestRunner::new(config)
                .run(&steps(), |steps| {
                    runtime.block_on(check(&clients, steps));
                    Ok(())
                })
                .unwrap_or_else(|error| panic!("{error}"));
        });
        run.await.unwrap();
        for replica in replicas {
            replica.stop().await;
        }
    });
}

/// One that keeps only one actor live: the next aggregate passivates the last.
fn replica(nats: &Client) -> CommandClient {
    let log = EventLog::new(nats.clone(), Timeouts::default());
    let options = CommandOptions {
        threads: 1,
        max_actors: 1,
        idle: Duration::from_secs(60),
        ..CommandOptions::default()
    };
    CommandClient::start(&Aggregates::default().with::<Stock>(), &log, options, None)
}

async fn check(replicas: &[CommandClient; 2], steps: Vec<Step>) {
    let ids = [0, 1].map(|_| format!("b_{}", unique("stock")));
    let mut models = [Model::default(), Model::default()];
    for (number, step) in steps.into_iter().enumerate() {
        let model = &mut models[step.stock];
        let client = &replicas[step.replica];
        match step.what {
            What::Give(command) => {
                let request = request(&ids[step.stock], &command, number);
                let answer = client.execute(request.clone()).await;
                model.expect(command, request, answer);
            }
            What::Again(index) if !model.given.is_empty() => {
                let (request, outcome) = index.get(&model.given);
                let answer = client.execute(request.clone()).await.unwrap();
                let replayed = Outcome {
                    replayed: true,
                    ..outcome.clone()
                };
                assert_eq!(answer, replayed);
            }
            What::Again(_) => {}
        }
    }
}

fn request(id: &str, command: &Command, number: usize) -> CommandRequest {
    let tagged = serde_json::to_value(command).unwrap();
    let (name, body) = tagged.as_object().unwrap().iter().next().unwrap();
    CommandRequest {
        aggregate: Stock::NAME.to_owned(),
        id: Id::new(id).unwrap(),
        command: name.clone(),
        body: Bytes::from(body.to_string()),
        headers: CommandHeaders {
            idempotency_key: Some(format!("k-{number}")),
            ..CommandHeaders::default()
        },
    }
}

impl Model {
    fn expect(
        &mut self,
        command: Command,
        request: CommandRequest,
        answer: Result<Outcome, Problem>,
    ) {
        let at = Context {
            id: request.id.as_str().to_owned(),
            version: self.version,
            command_id: String::new(),
            now: Timestamp::UNIX_EPOCH,
        };
        match (self.state.decide(command, &at), answer) {
            (Ok(decision), Ok(outcome)) => {
                for event in &decision.events {
                    self.state.evolve(event);
                }
                self.version += decision.events.len() as u64;
                assert_eq!(outcome.version, self.version);
                assert_eq!(outcome.events.len(), decision.events.len());
                let last = self.given.last().map_or(0, |(_, last)| last.position);
                if decision.events.is_empty() {
                    assert_eq!(outcome.position, last);
                } else {
                    assert!(outcome.position > last);
                    self.given.push((request, outcome));
                }
            }
            (Err(rejection), Err(problem)) => {
                let code = headwater::aggregate::Rejection::code(&rejection);
                assert_eq!(problem.code, code);
            }
            (expected, got) => panic!("{request:?}: {expected:?}, but {got:?}"),
        }
    }
}
