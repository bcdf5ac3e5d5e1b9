//! Answers held against a log that they were surely given of.

use crate::harness::{
    api::NatsApi,
    log::{Log, mark, moved},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// A command to a stock.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub id: String,
    pub command: &'static str,
    pub body: Value,
    /// The order that it is about, or else what no other command says.
    pub own: String,
    pub key: Option<String>,
}

impl Given {
    /// Gives it once; `None` when nobody answers.
    pub async fn give(&self, api: &NatsApi) -> Option<(u16, Value)> {
        let subject = format!("cmd.stock.{}.{}", self.id, self.command);
        let key = self.key.as_deref().map(|key| ("Idempotency-Key", key));
        let headers: Vec<_> = key.into_iter().collect();
        let body = self.body.to_string().into_bytes();
        let reply = api.request(subject, body, &headers).await.ok()?;
        Some((reply.status, reply.json()))
    }

    fn mark(&self) -> Option<String> {
        let event = match self.command {
            "reserve" => "stock.reserved.v1",
            "release" => "stock.released.v1",
            "ship" => "stock.shipped.v1",
            "adjust" => "stock.adjusted.v1",
            _ => return None,
        };
        mark(&format!("stock.{}", self.id), event, &self.body)
    }
}

/// A command with what was answered, if anything.
#[derive(Debug)]
pub(super) struct Told {
    pub given: Given,
    pub begun: Instant,
    pub ended: Instant,
    pub answer: Option<(u16, Value)>,
}

impl Told {
    /// What is wrong with the answer whichever log there was, and also while there was none.
    pub fn fault(&self) -> Option<String> {
        let (status, answer) = self.answer.as_ref()?;
        let known = match status {
            200 | 409 | 429 | 503 => true,
            404 => answer["code"] == "not_found",
            _ => false,
        };
        (!known).then(|| format!("{:?}: {status} {answer}", self.given))
    }
}

/// A stock at one of its versions.
#[derive(Debug, Default, Clone)]
struct Stock {
    position: u64,
    available: i64,
    reserved: BTreeSet<String>,
    settled: BTreeSet<String>,
}

impl Stock {
    fn fold(&mut self, event: &Value, position: u64) {
        self.available += moved(event);
        self.position = position;
        let Some(order) = event["data"]["order"].as_str() else {
            return;
        };
        if event["type"] == "stock.reserved.v1" {
            self.reserved.insert(order.to_owned());
        } else {
            self.reserved.remove(order);
            self.settled.insert(order.to_owned());
        }
    }

    fn changes_nothing(&self, given: &Given) -> bool {
        let settled = self.settled.contains(&given.own);
        match given.command {
            "reserve" => settled || self.reserved.contains(&given.own),
            "release" | "ship" => settled,
            _ => false,
        }
    }
}

/// What a log says to the answers that were given of it.
pub(super) struct Verdict<'a> {
    log: &'a Log,
    /// Every stock at every version, from 0 on.
    stocks: BTreeMap<String, Vec<Stock>>,
    /// When it was told that a stock had come to which version, in order.
    known: BTreeMap<String, Vec<(Instant, u64)>>,
    /// The answers that the log contradicts.
    pub lies: Vec<String>,
}

impl<'a> Verdict<'a> {
    /// What this log says to these answers.
    pub fn of<'t>(log: &'a Log, told: impl Iterator<Item = &'t Told> + Clone) -> Self {
        let mut verdict = Self::new(log);
        for told in told.clone() {
            if let Some((200, answer)) = &told.answer {
                let known = verdict.known.entry(told.given.id.clone()).or_default();
                known.push((told.ended, answer["version"].as_u64().unwrap()));
            }
        }
        for known in verdict.known.values_mut() {
            known.sort_unstable();
            let mut highest = 0;
            for (_, version) in known {
                highest = highest.max(*version);
                *version = highest;
            }
        }
        for told in told {
            verdict.check(told);
        }
        verdict
    }

    /// The version that a stock had at this time, or a later one.
    fn known(&self, id: &str, at: Instant) -> usize {
        let known = self.known.get(id).map_or(&[][..], Vec::as_slice);
        let before = known.partition_point(|(ended, _)| *ended < at);
        before
            .checked_sub(1)
            .map_or(0, |last| known[last].1 as usize)
    }

    fn new(log: &'a Log) -> Self {
        log.assert_stocks();
        let positions: BTreeMap<_, _> = log.commands.iter().collect();
        let of_stocks = log
            .aggregates
            .iter()
            .filter(|(name, _)| name.starts_with("stock."));
        let stocks = of_stocks.map(|(name, events)| {
            let mut versions = vec![Stock::default()];
            for event in events {
                let mut next = versions.last().cloned().unwrap_or_default();
                let command = event["commandid"].as_str().unwrap().to_owned();
                next.fold(event, positions[&command].position);
                versions.push(next);
            }
            (name.clone(), versions)
        });
        Self {
            log,
            stocks: stocks.collect(),
            known: BTreeMap::new(),
            lies: Vec::new(),
        }
    }

    /// Holds one answer against the log.
    fn check(&mut self, told: &Told) {
        let given = &told.given;
        let Some((status, answer)) = &told.answer else {
            return;
        };
        let name = format!("stock.{}", given.id);
        let unheard_of = vec![Stock::default()];
        let versions = self.stocks.get(&name).unwrap_or(&unheard_of);
        let key = given.key.as_ref();
        let mark = given.mark();
        let own = key.or_else(|| self.log.marked.get(mark.as_ref()?));
        let logged = own.and_then(|own| self.log.commands.get(own));
        let known = self.known(&given.id, told.begun);
        let any = |is_true_of: &dyn Fn(&Stock) -> bool| {
            let since = versions.get(known..).unwrap_or_default();
            since.iter().any(is_true_of)
        };
        let holds = match (status, answer["code"].as_str()) {
            (200, _) => {
                let version = answer["version"].as_u64().unwrap() as usize;
                let position = answer["position"].as_u64().unwrap();
                let there = versions.get(version);
                let there = there.is_some_and(|stock| stock.position == position);
                let nothing = answer["events"].as_array().unwrap().is_empty();
                // What a receipt without a key leaves is known by its place alone.
                let marked = given.key.is_some() || mark.is_some();
                let first = given.key.is_none();
                there
                    && match nothing {
                        true => versions[version].changes_nothing(given),
                        false if marked => logged.is_some_and(|logged| {
                            logged.version == version as u64 && logged.position == position
                        }),
                        false => {
                            let event = &self.log.aggregates[&name][version - 1];
                            event["data"]["quantity"] == given.body["quantity"]
                        }
                    }
                    && (!first || answer["replayed"] == false)
                    && (!first || version > known || nothing && version == known)
            }
            (404, Some("not_found")) => any(&|stock| stock.position == 0),
            (409, Some("not_reserved")) => {
                any(&|stock| stock.position > 0 && !stock.reserved.contains(&given.own))
            }
            (409, Some("out_of_stock")) => {
                let wanted = given.body["quantity"].as_i64().unwrap();
                any(&|stock| stock.position > 0 && stock.available < wanted)
            }
            (409, _) => false,
            // Who has a key may be told so of a retry.
            (503, _) if answer["detail"].to_string().contains("nothing was") => {
                given.key.is_some() || logged.is_none()
            }
            _ => true,
        };
        if !holds {
            self.lies.push(format!(
                "{given:?}: {status} {answer}; the log has {logged:?} and {} versions of {name}",
                versions.len() - 1
            ));
        }
    }
}
