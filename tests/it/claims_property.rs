//! Any interleaving of homes that take and give up keys, crash in between, and commit late, leaves every
//! key with one holder at most, as the events have it, and free where it has none.

use crate::{
    claims_support::{Keyed, claimant, key, late_commit, read_keys},
    command_support::{TallyCommand, give, log, logged, options, over},
    harness::nats::Nats,
};
use futures::future::join_all;
use headwater::{
    command::client::CommandClient,
    event_log::{
        AppendMode, EventLog,
        claim::{Claimant, Holder, Intent},
    },
};
use proptest::{
    collection::vec,
    prelude::{Strategy, prop_oneof},
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use std::sync::Mutex;

const TALLIES: u8 = 4;
const KEYS: u8 = 3;

#[derive(Debug, Clone)]
enum Step {
    /// A command through one of the homes, which do not know of each other.
    Command {
        home: usize,
        tally: u8,
        take: Vec<u8>,
        give_up: Vec<u8>,
    },
    /// A home writes a claim, and no commit yet.
    Crash { tally: u8, key: u8, intent: Intent },
    /// The commit of the earliest such claim comes after all.
    Late,
    /// The home is replaced, and loads what it needs again.
    Restart { home: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (tally, key) = (0..TALLIES, 0..KEYS);
    let keys = vec(key.clone(), 0..3);
    let command = (0..2_usize, tally.clone(), keys.clone(), keys);
    let intent = prop_oneof![2 => proptest::strategy::Just(Intent::Take), 1 => proptest::strategy::Just(Intent::Release)];
    prop_oneof![
        8 => command.prop_map(|(home, tally, take, give_up)| Step::Command { home, tally, take, give_up }),
        2 => (tally, key, intent).prop_map(|(tally, key, intent)| Step::Crash { tally, key, intent }),
        2 => proptest::strategy::Just(Step::Late),
        1 => (0..2_usize).prop_map(|home| Step::Restart { home }),
    ]
}

/// A claim that waits for its commit.
struct Pending {
    own: Claimant,
    version: u64,
    claim: u64,
    key: String,
    intent: Intent,
}

/// A command that was answered.
struct Answered {
    id: String,
    command: String,
    take: Vec<String>,
    /// The last position of the log before it was given, and after it was answered.
    between: (u64, u64),
    code: Option<String>,
}

struct World {
    nats: Nats,
    log: EventLog,
    homes: Vec<CommandClient>,
    pending: Mutex<Vec<Pending>>,
    answered: Mutex<Vec<Answered>>,
}

fn tally(number: u8) -> String {
    format!("t-{number}")
}

fn names(keys: &[u8]) -> Vec<String> {
    keys.iter().map(|key| format!("k-{key}")).collect()
}

impl World {
    async fn start() -> Self {
        let nats = Nats::start();
        let grouped = log(&nats, AppendMode::Grouped).await;
        let log = log(&nats, AppendMode::Pipelined).await;
        let homes = [&log, &grouped].map(|log| over(log, options()));
        Self {
            nats,
            log,
            homes: homes.into(),
            pending: Mutex::default(),
            answered: Mutex::default(),
        }
    }

    async fn last_position(&self) -> u64 {
        let last = self.log.last_message(">").await.unwrap();
        last.map_or(0, |last| last.position)
    }

    async fn carry_out(&self, number: usize, step: &Step) {
        match step {
            Step::Command {
                home,
                tally: number_of,
                take,
                give_up,
            } => {
                let (id, take) = (tally(*number_of), names(take));
                let command = format!("c-{number}");
                let given = TallyCommand::Key {
                    take: take.clone(),
                    give_up: names(give_up),
                };
                let before = self.last_position().await;
                let answer = give(&self.homes[*home], &id, given, Some(&command)).await;
                let between = (before, self.last_position().await);
                self.answered.lock().unwrap().push(Answered {
                    id,
                    command,
                    take,
                    between,
                    code: answer.err().map(|problem| problem.code),
                });
            }
            Step::Crash {
                tally: number,
                key: name,
                intent,
            } => {
                let name = names(&[*name]).remove(0);
                self.crash(tally(*number), name, *intent).await;
            }
            Step::Late => {
                let pending = self.pending.lock().unwrap().pop();
                let Some(it) = pending else { return };
                let own = [it.key.as_str()];
                let (take, give_up): (&[&str], &[&str]) = match it.intent {
                    Intent::Take => (&own, &[]),
                    Intent::Release => (&[], &own),
                };
                // Whether it is first or too late.
                let commit = late_commit(&self.log, &it.own, it.version, it.claim, take, give_up);
                let _ = commit.await;
            }
            Step::Restart { .. } => {}
        }
    }

    /// Writes a claim as a home does that dies then.
    async fn crash(&self, id: String, name: String, intent: Intent) {
        let own = claimant(&self.log, &id).await;
        let version = logged(&self.log, &id).await;
        let version = version.iter().filter(|it| it.position <= own.after).count() as u64;
        let subject = self.log.claim_subject(&key(&name)).await.unwrap();
        let state = self.log.key_state(&subject).await.unwrap();
        match (&state.holder, intent) {
            (Holder::Nobody, Intent::Take) => {}
            (Holder::Of(by), Intent::Release) if by.is_same_aggregate(&own) => {}
            _ => return,
        }
        let writing = self.log.write_claim(&subject, state.position, intent, &own);
        // Another may be first.
        let Ok(claim) = writing.await else { return };
        self.pending.lock().unwrap().push(Pending {
            own,
            version,
            claim,
            key: name,
            intent,
        });
    }

    async fn verify(&self) {
        let keyed = read_keys(&self.nats.client().await).await;
        self.verify_answers(&keyed);
        // As a new aggregate finds it, which waits for nobody in the end.
        let judge = over(&self.log, options());
        for number in 0..KEYS {
            let take = names(&[number]);
            let expected = keyed.holders.get(&take[0]).map(|_| "claim_taken");
            let given = TallyCommand::Key {
                take,
                give_up: Vec::new(),
            };
            let answer = give(&judge, "judge", given, None).await;
            let code = answer.err().map(|problem| problem.code);
            assert_eq!(code.as_deref(), expected, "k-{number}: {keyed:?}");
        }
        judge.stop().await;
        read_keys(&self.nats.client().await).await;
    }

    fn verify_answers(&self, keyed: &Keyed) {
        for answered in self.answered.lock().unwrap().iter() {
            let command = &answered.command;
            let logged = keyed.commands.contains(command);
            match answered.code.as_deref() {
                None => assert!(logged, "{command} was accepted"),
                Some("claim_taken") => {
                    assert!(!logged, "{command} was refused");
                    let (from, to) = answered.between;
                    let so = keyed.held_by_another(&answered.take, &answered.id, from, to);
                    assert!(so, "{command} was refused: {keyed:?}");
                }
                Some("unavailable") => {}
                Some(other) => panic!("{command}: {other}"),
            }
        }
    }
}

async fn run(rounds: Vec<Vec<Step>>) {
    let mut world = World::start().await;
    let mut number = 0;
    for round in rounds {
        // All of a round at once.
        let steps = round.iter().enumerate();
        join_all(steps.map(|(index, step)| world.carry_out(number + index, step))).await;
        number += round.len();
        for step in &round {
            if let Step::Restart { home } = step {
                let mode = [AppendMode::Pipelined, AppendMode::Grouped][*home];
                let new = over(&log(&world.nats, mode).await, options());
                let old = std::mem::replace(&mut world.homes[*home], new);
                old.stop().await;
            }
        }
    }
    world.verify().await;
    for home in world.homes {
        home.stop().await;
    }
}

#[actix::test]
async fn a_key_has_one_holder_in_any_interleaving() {
    // A seed of its own for every run of a case would be no use: the first failure is to be seen again.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for case in 0..cases() {
        let rounds = vec(vec(step(), 1..6), 1..14);
        let rounds = rounds.new_tree(&mut runner).unwrap().current();
        println!("case {case}: {rounds:?}");
        run(rounds).await;
    }
}

/// So many cases; as many more as chaos is to last longer.
fn cases() -> u64 {
    let seconds = std::env::var("HEADWATER_CHAOS_SECONDS");
    let seconds = seconds.ok().and_then(|seconds| seconds.parse::<u64>().ok());
    seconds.unwrap_or(8).max(8)
}
