//! Keys of tallies: taken and given up by commands, by homes that crash, and as the log has them.

use crate::{
    command_support::{Tally, TallyCommand, TallyEvent, give},
    harness::log::Log,
};
use headwater::{
    aggregate::Claim,
    command::{client::CommandClient, request::Outcome},
    event_log::{
        Append, AppendError, EventLog,
        claim::{Claimant, Holder},
        codec::{self, CommandEvents, EncodedEvent},
    },
    problem::Problem,
};
use serde_json::Value;
use std::collections::BTreeMap;

pub fn key(key: &str) -> Claim {
    Claim {
        scope: "tally_key",
        key: key.to_owned(),
    }
}

fn owned(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|&key| key.to_owned()).collect()
}

/// Takes and gives up keys.
pub async fn keys(
    client: &CommandClient,
    id: &str,
    take: &[&str],
    give_up: &[&str],
) -> Result<Outcome, Problem> {
    let (take, give_up) = (owned(take), owned(give_up));
    give(client, id, TallyCommand::Key { take, give_up }, None).await
}

/// Asserts that a command was refused since another holds a key.
#[track_caller]
pub fn taken<T: std::fmt::Debug>(answer: Result<T, Problem>) {
    assert_eq!(answer.unwrap_err().code, "claim_taken");
}

/// A tally where it stands now.
pub async fn claimant(log: &EventLog, id: &str) -> Claimant {
    let last = log.last_message(&format!("evt.tally.{id}")).await.unwrap();
    Claimant {
        aggregate: "tally".to_owned(),
        id: id.to_owned(),
        after: last.map_or(0, |last| last.position),
    }
}

/// The commit of a home that was thought to be gone, on `version` events, naming a claim.
pub async fn late_commit(
    log: &EventLog,
    own: &Claimant,
    version: u64,
    claim: u64,
    take: &[&str],
    give_up: &[&str],
) -> Result<u64, AppendError> {
    let event = TallyEvent::Keyed {
        take: owned(take),
        give_up: owned(give_up),
    };
    let command = CommandEvents {
        command_id: format!("late-{claim}").into(),
        command_hash: None,
        caller_id: None,
        lineage: None,
        time: jiff::Timestamp::now(),
        version_before: version,
        claims: vec![claim],
        events: vec![EncodedEvent::of::<Tally>(&event).unwrap()],
    };
    log.append(Append {
        subject: format!("evt.tally.{}", own.id),
        expected: own.after,
        payload: codec::encode("tally", &own.id, &[command]).unwrap().into(),
        headers: async_nats::HeaderMap::new(),
    })
    .await
}

/// The tally that holds a key, as the claims have it.
pub async fn holder(log: &EventLog, name: &str) -> Option<String> {
    let subject = log.claim_subject(&key(name)).await.unwrap();
    match log.key_state(&subject).await.unwrap().holder {
        Holder::Of(by) | Holder::Releasing(by) => Some(by.id),
        Holder::Nobody | Holder::Taking(_) => None,
    }
}

/// Who held a key from a position until before another.
#[derive(Debug, Clone)]
pub struct Held {
    pub by: String,
    pub from: u64,
    pub until: u64,
}

impl Held {
    pub fn is_held_by(&self, id: &str) -> bool {
        self.by == id && self.until == u64::MAX
    }
}

/// Who holds and held what, as the *events* have it.
#[derive(Debug, Default)]
pub struct Keyed {
    pub holders: BTreeMap<String, Held>,
    /// All that ever held a key, and when.
    pub history: BTreeMap<String, Vec<Held>>,
    /// All commands in the log.
    pub commands: Vec<String>,
}

impl Keyed {
    /// Each key that is held, and who holds it.
    pub fn held(&self) -> Vec<(String, String)> {
        let held = self.holders.iter();
        held.map(|(key, held)| (key.clone(), held.by.clone()))
            .collect()
    }

    /// Whether another than `id` held one of the keys at some time between two positions.
    pub fn held_by_another(&self, keys: &[String], id: &str, from: u64, to: u64) -> bool {
        let all = keys.iter().filter_map(|key| self.history.get(key));
        all.flatten()
            .any(|held| held.by != id && held.from <= to && held.until > from)
    }

    fn take(&mut self, id: &str, key: &str, position: u64) {
        if let Some(held) = self.holders.get(key) {
            assert_eq!(held.by, id, "two hold {key} at {position}");
            return;
        }
        let held = Held {
            by: id.to_owned(),
            from: position,
            until: u64::MAX,
        };
        self.holders.insert(key.to_owned(), held.clone());
        self.history.entry(key.to_owned()).or_default().push(held);
    }

    fn give_up(&mut self, id: &str, key: &str, position: u64) {
        if self.holders.get(key).is_some_and(|held| held.by == id) {
            self.holders.remove(key);
            let history = self.history.get_mut(key).and_then(|all| all.last_mut());
            history.unwrap().until = position;
        }
    }
}

/// Reads the events of all tallies, and asserts that no key ever had two holders.
pub async fn read_keys(client: &async_nats::Client) -> Keyed {
    let log = Log::read(client).await;
    let mut commands: Vec<_> = log.commands.iter().collect();
    commands.sort_by_key(|(_, logged)| (logged.position, logged.version));
    let mut keyed = Keyed::default();
    for (command, logged) in commands {
        keyed.commands.push(command.clone());
        let event = &log.aggregates[&logged.aggregate][logged.version as usize - 1]["data"];
        let id = logged.aggregate.strip_prefix("tally.").unwrap();
        let texts = |name: &str| {
            let all = event[name].as_array().cloned().unwrap_or_default();
            let texts = all.iter().filter_map(Value::as_str).map(str::to_owned);
            texts.collect::<Vec<_>>()
        };
        let take = texts("take");
        for key in texts("give_up").iter().filter(|key| !take.contains(key)) {
            keyed.give_up(id, key, logged.position);
        }
        for key in &take {
            keyed.take(id, key, logged.position);
        }
    }
    keyed
}
