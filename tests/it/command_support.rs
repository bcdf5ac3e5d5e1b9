//! An aggregate made for tests, and replicas of its command side within the test's own process.

use crate::harness::{nats::Nats, poll::eventually};
use headwater::{
    access::Access,
    command::{
        client::{Aggregates, CommandClient, CommandOptions},
        endpoint::CommandEndpoint,
        placement::Placement,
        request::{CommandHeaders, Outcome},
        threads::CommandThreads,
    },
    config::Role,
    event_log::{AppendMode, EventLog, Timeouts, codec, topology::Topology},
    membership::{Membership, MembershipOptions},
    prelude::{Aggregate, Context, Decision, Problem, Rejection, ToSchema},
    request_reply::{Inboxes, ReplyGuard},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, time::Duration};

/// Adds up, refuses, panics and takes keys, as it is told.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub total: i64,
    pub added: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TallyCommand {
    Add {
        amount: i64,
    },
    Look {},
    Fail {},
    PanicDeciding {},
    PanicFolding {},
    Take {
        key: String,
    },
    Key {
        take: Vec<String>,
        give_up: Vec<String>,
    },
    TakeWrongly {},
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum TallyEvent {
    #[serde(rename = "tally.added.v1")]
    Added { amount: i64 },
    #[serde(rename = "tally.taken.v1")]
    Taken { key: String },
    #[serde(rename = "tally.keyed.v1")]
    Keyed {
        take: Vec<String>,
        give_up: Vec<String>,
    },
    #[serde(rename = "tally.cursed.v1")]
    Cursed {},
}

#[derive(Debug, thiserror::Error, Rejection)]
#[error("told to fail")]
pub struct ToldToFail;

impl Aggregate for Tally {
    const NAME: &'static str = "tally";
    type Command = TallyCommand;
    type Event = TallyEvent;
    type Rejection = ToldToFail;

    fn decide(
        &self,
        command: TallyCommand,
        _: &Context,
    ) -> Result<Decision<TallyEvent>, ToldToFail> {
        match command {
            TallyCommand::Add { amount } => Ok(Decision::event(TallyEvent::Added { amount })),
            TallyCommand::Look {} => Ok(Decision::nothing()),
            TallyCommand::Fail {} => Err(ToldToFail),
            TallyCommand::PanicDeciding {} => panic!("a secret of the inside"),
            TallyCommand::PanicFolding {} => Ok(Decision::event(TallyEvent::Cursed {})),
            TallyCommand::Take { key } => {
                let event = TallyEvent::Taken { key: key.clone() };
                Ok(Decision::event(event).claim("tally_key", key))
            }
            TallyCommand::Key { take, give_up } => {
                let mut decision = Decision::event(TallyEvent::Keyed {
                    take: take.clone(),
                    give_up: give_up.clone(),
                });
                for key in take {
                    decision = decision.claim("tally_key", key);
                }
                for key in give_up {
                    decision = decision.release("tally_key", key);
                }
                Ok(decision)
            }
            TallyCommand::TakeWrongly {} => {
                let event = TallyEvent::Added { amount: 1 };
                Ok(Decision::event(event).claim("tally key\r\nPUB x 0", "k"))
            }
        }
    }

    fn evolve(&mut self, event: &TallyEvent) {
        match event {
            TallyEvent::Added { amount } => {
                self.total += amount;
                self.added += 1;
            }
            TallyEvent::Taken { .. } | TallyEvent::Keyed { .. } => {}
            TallyEvent::Cursed {} => panic!("a secret of the inside"),
        }
    }
}

/// Few threads, actors that live long.
pub fn options() -> CommandOptions {
    CommandOptions {
        threads: 2,
        ..CommandOptions::default()
    }
}

pub fn tallies() -> Aggregates {
    Aggregates::default().with::<Tally>()
}

/// A log on a server, with its streams.
pub async fn log(nats: &Nats, mode: AppendMode) -> EventLog {
    log_at(&nats.url(), mode).await
}

/// As [`log`], by URL.
pub async fn log_at(url: &str, mode: AppendMode) -> EventLog {
    let client = async_nats::connect(url).await.unwrap();
    eventually("the streams are there", || async {
        Topology::embedded().apply(&client).await.ok()
    })
    .await;
    EventLog::new(client, Timeouts::default()).with_append_mode(mode)
}

/// The command side of a replica that knows of no other.
pub async fn alone(nats: &Nats, options: CommandOptions) -> CommandClient {
    over(&log(nats, AppendMode::Pipelined).await, options)
}

/// The command side of a replica that knows of no other, over this log.
pub fn over(log: &EventLog, options: CommandOptions) -> CommandClient {
    let threads = CommandThreads::sharing(log, options.threads);
    CommandClient::start(&tallies(), threads, options, None)
}

/// The command side of one of several replicas.
pub struct Replica {
    pub client: CommandClient,
    pub membership: Membership,
    pub endpoint: CommandEndpoint,
}

impl Replica {
    pub async fn start(nats: &Nats, name: &str) -> Self {
        let log = log(nats, AppendMode::Pipelined).await;
        let placement = place(nats, name).await;
        let threads = CommandThreads::sharing(&log, options().threads);
        let client = CommandClient::start(&tallies(), threads, options(), Some(placement.clone()));
        let guard = ReplyGuard::new(Inboxes::default());
        let endpoint =
            CommandEndpoint::open(client.clone(), &placement, &guard, &Access::open()).await;
        Self {
            client,
            membership: placement.membership().clone(),
            endpoint: endpoint.unwrap(),
        }
    }

    /// As the program does on SIGTERM.
    pub async fn stop(self) {
        self.membership.leave().await;
        self.endpoint.stop().await;
        self.client.stop().await;
        self.membership.stop();
    }
}

async fn place(nats: &Nats, name: &str) -> Placement {
    let client = nats.client().await;
    let roles = BTreeSet::from([Role::Command]);
    let options = MembershipOptions {
        heartbeat: Duration::from_millis(100),
        ..MembershipOptions::default()
    };
    let membership = Membership::open(client.clone(), name, roles, options).await;
    Placement::new(client, membership.unwrap())
}

/// Adds to a tally, under a key when one is given.
pub async fn add(
    client: &CommandClient,
    id: &str,
    amount: i64,
    key: Option<&str>,
) -> Result<Outcome, Problem> {
    give(client, id, TallyCommand::Add { amount }, key).await
}

/// Gives any command.
pub async fn give(
    client: &CommandClient,
    id: &str,
    command: TallyCommand,
    key: Option<&str>,
) -> Result<Outcome, Problem> {
    let headers = CommandHeaders {
        idempotency_key: key.map(Into::into),
        ..CommandHeaders::default()
    };
    client.send::<Tally>(id, &command, headers).await
}

/// One event as it stands in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    pub command_id: String,
    pub version: u64,
    pub position: u64,
    pub amount: i64,
}

/// All events of a tally, from the log itself. Asserts that the versions have no gap.
pub async fn logged(log: &EventLog, id: &str) -> Vec<Logged> {
    let subject = format!("evt.tally.{id}");
    let last = log.last_message(&subject).await.unwrap();
    let last = last.map_or(0, |message| message.position);
    let mut all = Vec::new();
    for message in log.messages(&subject, 0, last).await.unwrap() {
        for event in codec::decode(&message.subject, message.position, &message.payload).unwrap() {
            let data: serde_json::Value = serde_json::from_str(event.recorded.data.get()).unwrap();
            all.push(Logged {
                command_id: event.recorded.command_id,
                version: event.recorded.version,
                position: event.recorded.position,
                amount: data["amount"].as_i64().unwrap_or(0),
            });
        }
    }
    let versions: Vec<u64> = all.iter().map(|event| event.version).collect();
    let whole: Vec<u64> = (1..=all.len() as u64).collect();
    assert_eq!(versions, whole, "{subject}");
    all
}
