//! Asking the projectors that run.

use super::Failure;
use crate::{
    access::AUTHORIZATION,
    config::ControlConfig,
    projection::{ALL, Ask, Reply, ReplyBody, Verb},
};
use async_nats::HeaderMap;
use futures::StreamExt;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// The time an answer may take of a replica that was there a moment ago: after as long without a sign it
/// counts as gone.
const FIRST: Duration = Duration::from_secs(3);
/// The time a replica that works may say nothing. Retrying waits for a batch that is under way.
const SILENT: Duration = Duration::from_secs(60);

/// A connection to the projectors.
pub(super) struct Control {
    client: async_nats::Client,
    config: ControlConfig,
}

impl Control {
    pub(super) async fn connect(config: ControlConfig) -> Result<Self, Failure> {
        let client = super::connect(&config.nats, "control").await?;
        Ok(Self { client, config })
    }

    pub(super) fn prints_json(&self) -> bool {
        self.config.json
    }

    /// Asks, and returns the last answer of each store about each view: of the replica that keeps the
    /// view, where several share the store.
    pub(super) async fn ask(
        &self,
        view: Option<&str>,
        verb: Verb,
        ask: &Ask,
        progress: impl FnMut(&Reply, u64, u64),
    ) -> Result<Vec<Reply>, Failure> {
        let replica = self.config.replica.as_deref().unwrap_or(ALL);
        self.ask_replica(replica, view, verb, ask, progress).await
    }

    /// As [`Control::ask`], of one replica, or of all.
    pub(super) async fn ask_replica(
        &self,
        replica: &str,
        view: Option<&str>,
        verb: Verb,
        ask: &Ask,
        mut progress: impl FnMut(&Reply, u64, u64),
    ) -> Result<Vec<Reply>, Failure> {
        let view = view.unwrap_or(ALL);
        let subject = format!("ctl.projector.{replica}.{view}.{}", verb.token());
        let inbox = self.client.new_inbox();
        let failed = |error: &dyn std::fmt::Display| Failure::operation(error);
        let mut replies = self
            .client
            .subscribe(inbox.clone())
            .await
            .map_err(|e| failed(&e))?;
        let body = serde_json::to_vec(ask).map_err(Failure::operation)?;
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.config.token {
            headers.insert(AUTHORIZATION, format!("Bearer {token}"));
        }
        let sent = self
            .client
            .publish_with_reply_and_headers(subject, inbox, headers, body.into())
            .await;
        sent.map_err(|error| failed(&error))?;

        let mut heard = Heard::new(self.config.replica.as_deref());
        let mut until = Instant::now() + FIRST;
        while let Ok(Some(message)) = timeout_at(until, replies.next()).await {
            if message.status.is_some() {
                return Err(Failure::operation("no projector is connected to this NATS"));
            }
            let Ok(reply) = serde_json::from_slice::<Reply>(&message.payload) else {
                continue;
            };
            if let ReplyBody::Progress { done, total } = reply.body {
                progress(&reply, done, total);
            }
            heard.take(reply);
            if heard.is_complete() {
                break;
            }
            until = Instant::now() + heard.patience();
        }
        if let Some((replica, view)) = heard.working.first() {
            return Err(Failure::operation(format!(
                "replica {replica} does not answer any more about {view}"
            )));
        }
        let missing = heard.missing();
        let last = heard.last;
        if last.is_empty() {
            return Err(Failure::operation(format!(
                "no projector knows the view {view}, or none runs"
            )));
        }
        for reply in last.values() {
            match &reply.body {
                ReplyBody::Refused { reason } => {
                    return Err(Failure::operation(format!("{}: {reason}", reply.view)));
                }
                ReplyBody::Elsewhere {} => {
                    return Err(Failure::operation(format!(
                        "no replica keeps {} at the moment; try again",
                        reply.view
                    )));
                }
                _ => {}
            }
        }
        if !missing.is_empty() {
            let missing = format!("no answer came from {}", missing.join(", "));
            if verb.changes() {
                return Err(Failure::operation(format!(
                    "{missing}; what was asked for is done elsewhere"
                )));
            }
            eprintln!("{missing}");
        }
        let mut replies: Vec<_> = last.into_values().collect();
        replies.sort_by(|a, b| (&a.view, &a.replica).cmp(&(&b.view, &b.replica)));
        Ok(replies)
    }
}

/// What the replicas have answered so far.
struct Heard {
    /// The last answer of each store about each view.
    last: BTreeMap<(String, String), Reply>,
    /// Who has begun and not ended, about which view.
    working: BTreeSet<(String, String)>,
    /// About how many views each replica has answered, and about how many it will.
    answered: BTreeMap<String, (usize, usize)>,
    /// Who is to answer.
    asked: BTreeSet<String>,
    /// True if only one was asked.
    one: bool,
}

impl Heard {
    fn new(replica: Option<&str>) -> Self {
        Self {
            last: BTreeMap::new(),
            working: BTreeSet::new(),
            answered: BTreeMap::new(),
            asked: replica.map(str::to_owned).into_iter().collect(),
            one: replica.is_some(),
        }
    }

    fn take(&mut self, reply: Reply) {
        if !self.one {
            self.asked.extend(reply.replicas.iter().cloned());
        }
        let who = (reply.replica.clone(), reply.view.clone());
        if !reply.body.is_last() {
            self.working.insert(who);
            return;
        }
        self.working.remove(&who);
        let answered = self.answered.entry(reply.replica.clone()).or_default();
        *answered = (answered.0 + 1, reply.of);
        if matches!(reply.body, ReplyBody::Unknown {}) {
            return;
        }
        let key = (reply.view.clone(), reply.store.clone());
        if self.last.get(&key).is_none_or(|known| !known.here) {
            self.last.insert(key, reply);
        }
    }

    fn has_answered(&self, replica: &str) -> bool {
        let answered = self.answered.get(replica);
        answered.is_some_and(|(answers, of)| answers >= of)
    }

    /// Returns whether all have answered that were there to be asked.
    fn is_complete(&self) -> bool {
        self.working.is_empty()
            && !self.answered.is_empty()
            && self.asked.iter().all(|replica| self.has_answered(replica))
    }

    /// Returns how long to wait for one more.
    fn patience(&self) -> Duration {
        if self.working.is_empty() {
            FIRST
        } else {
            SILENT
        }
    }

    /// Returns who has not answered.
    fn missing(&self) -> Vec<String> {
        let asked = self.asked.iter();
        asked.filter(|it| !self.has_answered(it)).cloned().collect()
    }
}

/// The replica of an answer, where there are several that keep documents of their own.
pub(super) fn place(reply: &Reply, all: &[Reply]) -> String {
    let several = all.iter().any(|other| other.store != reply.store);
    if several {
        format!("{} ({})", reply.view, reply.replica)
    } else {
        reply.view.clone()
    }
}

/// Prints answers as they are.
pub(super) fn print_json(replies: &[Reply]) -> Result<(), Failure> {
    for reply in replies {
        let json = serde_json::to_string(reply).map_err(Failure::operation)?;
        println!("{json}");
    }
    Ok(())
}
