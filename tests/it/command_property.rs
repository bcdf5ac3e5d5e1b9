//! Any interleaving of commands, passivations and other writers ends in the state that its log
//! folds to.

use crate::{
    command_support::{Tally, TallyCommand, add, give, log, logged, options, over},
    harness::{nats, unique},
};
use headwater::{
    command::client::{CommandClient, CommandOptions},
    event_log::{AppendMode, EventLog},
};
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, prop_oneof},
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use std::collections::HashMap;

#[derive(Debug, Clone)]
enum Step {
    /// A command through the replica of this number, with a key out of few.
    Add {
        replica: usize,
        amount: i64,
        key: Option<u8>,
    },
    /// Many at once through one replica: they share commits, and cross the snapshots' threshold.
    Burst {
        replica: usize,
        count: u8,
    },
    Refused {
        replica: usize,
    },
    Panic {
        replica: usize,
    },
    /// The replica is replaced: it loads again from the snapshot and the log.
    Restart {
        replica: usize,
    },
    /// Commands to others push the actor out.
    PushOut {
        replica: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let replica = 0..2_usize;
    let key = proptest::option::weighted(0.5, 0..12_u8);
    prop_oneof![
        6 => (replica.clone(), 1..5_i64, key)
            .prop_map(|(replica, amount, key)| Step::Add { replica, amount, key }),
        2 => (replica.clone(), 2..60_u8).prop_map(|(replica, count)| Step::Burst { replica, count }),
        1 => replica.clone().prop_map(|replica| Step::Refused { replica }),
        1 => replica.clone().prop_map(|replica| Step::Panic { replica }),
        1 => replica.clone().prop_map(|replica| Step::Restart { replica }),
        2 => (replica, Just(())).prop_map(|(replica, ())| Step::PushOut { replica }),
    ]
}

fn start(log: &EventLog) -> CommandClient {
    let sized = CommandOptions {
        threads: 1,
        max_actors: 2,
        ..options()
    };
    over(log, sized)
}

async fn run(log: &EventLog, id: &str, steps: Vec<Step>) {
    let mut replicas = [start(log), start(log)];
    // What a key was used for first, and what came of it.
    let mut keys: HashMap<u8, (i64, u64)> = HashMap::new();
    let mut expected = Tally::default();
    for step in steps {
        match step {
            Step::Add {
                replica,
                amount,
                key,
            } => {
                let text = key.map(|key| format!("key-{key}"));
                let outcome = add(&replicas[replica], id, amount, text.as_deref()).await;
                match key.and_then(|key| keys.get(&key)) {
                    Some((first, _)) if *first != amount => {
                        assert_eq!(outcome.unwrap_err().code, "key_reused");
                    }
                    Some((_, version)) => {
                        let outcome = outcome.unwrap();
                        assert!(outcome.replayed);
                        assert_eq!(outcome.version, *version);
                    }
                    None => {
                        let outcome = outcome.unwrap();
                        assert!(!outcome.replayed);
                        expected.total += amount;
                        expected.added += 1;
                        assert_eq!(outcome.version, expected.added);
                        keys.extend(key.map(|key| (key, (amount, outcome.version))));
                    }
                }
            }
            Step::Burst { replica, count } => {
                let given = (0..count).map(|_| add(&replicas[replica], id, 1, None));
                for outcome in futures::future::join_all(given).await {
                    outcome.unwrap();
                    expected.total += 1;
                    expected.added += 1;
                }
            }
            Step::Refused { replica } => {
                let refused = give(&replicas[replica], id, TallyCommand::Fail {}, None).await;
                assert_eq!(refused.unwrap_err().code, "told_to_fail");
            }
            Step::Panic { replica } => {
                let command = TallyCommand::PanicDeciding {};
                let failed = give(&replicas[replica], id, command, None).await;
                assert_eq!(failed.unwrap_err().code, "internal");
            }
            Step::Restart { replica } => {
                let old = std::mem::replace(&mut replicas[replica], start(log));
                old.stop().await;
            }
            Step::PushOut { replica } => {
                for other in 0..4 {
                    let other = format!("{id}-other-{other}");
                    add(&replicas[replica], &other, 1, None).await.unwrap();
                }
            }
        }
        // A command that changes nothing tells the version that the actor has.
        for replica in &replicas {
            let look = give(replica, id, TallyCommand::Look {}, None)
                .await
                .unwrap();
            assert_eq!(look.version, expected.added);
        }
    }
    let stored = logged(log, id).await;
    let folded = Tally {
        total: stored.iter().map(|event| event.amount).sum(),
        added: stored.len() as u64,
    };
    assert_eq!(folded, expected);
    for replica in replicas {
        replica.stop().await;
    }
}

#[actix::test]
async fn any_interleaving_is_what_its_log_folds_to() {
    let log = log(nats::shared(), AppendMode::Pipelined).await;
    // A seed of its own for every run of a case would be no use: the first failure is to be seen again.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for case in 0..24 {
        let steps = vec(step(), 1..25).new_tree(&mut runner).unwrap().current();
        println!("case {case}: {steps:?}");
        run(&log, &unique("property"), steps).await;
    }
}
