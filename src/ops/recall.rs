//! Asks all replicas that are there for what each alone remembers: the commands that it has refused, and the jobs that it
//! was given. So it does not matter which of them an operator reaches.
//!
//! Each is asked by its name, `ctl.replica.<replica>.<verb>`, and answers in messages of which none is larger than one
//! may be. Nobody is waited for long: who has not answered is named.

mod endpoint;
mod messages;

pub use endpoint::RecallEndpoint;
pub(super) use messages::{RecallAsk, RecallVerb};

use super::Operations;
use crate::{access::AUTHORIZATION, problem::Problem};
use async_nats::{HeaderMap, Subscriber};
use futures::StreamExt;
use messages::RecallReply;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The time that all of them have to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The time that one has which is asked alone: it may be about to do something.
pub(super) const PATIENCE_WITH_ONE: Duration = Duration::from_secs(3);
/// The number of replicas that are asked. The others are named as missing.
const ASKED: usize = 100;
/// The number of things that are taken of one replica.
const TAKEN: usize = 400;

/// The memories of other replicas.
#[derive(Debug)]
pub(super) struct Recalled<T> {
    /// The things, with the replica that each is of.
    pub(super) items: Vec<(String, T)>,
    /// The reason of a replica that would not tell.
    pub(super) refused: Option<Problem>,
    /// The replicas that have not answered.
    pub(super) missing: Vec<String>,
}

/// A replica that is asked.
struct Asked {
    replica: String,
    taken: usize,
    ended: bool,
}

impl Operations {
    /// The other replicas with a role, as they are written to.
    pub(super) fn others_with(&self, roles: &[&str]) -> Vec<String> {
        let here = self.options().membership.replica();
        let all = self.options().membership.told().into_iter();
        let others = all.filter(|told| {
            told.replica != here && told.roles.iter().any(|role| roles.contains(&&**role))
        });
        others.map(|told| told.replica).collect()
    }

    /// Asks other replicas for what they remember.
    pub(super) async fn recall<T: DeserializeOwned>(
        &self,
        (verb, ask): (RecallVerb, &RecallAsk),
        of: Vec<String>,
        authorization: Option<&str>,
    ) -> Recalled<T> {
        let patience = match of.len() {
            1 => PATIENCE_WITH_ONE.min(verb.patience()),
            _ => verb.patience(),
        };
        let until = Instant::now() + patience;
        let unasked = of.iter().skip(ASKED).cloned().collect();
        let mut asked: Vec<_> = of.into_iter().take(ASKED).map(Asked::new).collect();
        let mut recalled = Recalled {
            items: Vec::new(),
            refused: None,
            missing: unasked,
        };
        if asked.is_empty() {
            return recalled;
        }
        let asking = self.send_out(verb, ask, &asked, authorization);
        // The connection takes nothing while it is away.
        if let Ok(Ok(mut replies)) = timeout_at(until, asking).await {
            while asked.iter().any(|one| !one.ended)
                && let Ok(Some(message)) = timeout_at(until, replies.next()).await
            {
                recalled.take(&message, &mut asked);
            }
        }
        let silent = asked.into_iter().filter(|one| !one.ended);
        recalled.missing.extend(silent.map(|one| one.replica));
        recalled.missing.sort();
        recalled
    }

    /// Writes to each, in a way that tells by the subject of an answer whose it is.
    async fn send_out(
        &self,
        verb: RecallVerb,
        ask: &RecallAsk,
        asked: &[Asked],
        authorization: Option<&str>,
    ) -> Result<Subscriber, async_nats::Error> {
        let client = &self.options().nats;
        let inbox = client.new_inbox();
        let replies = client.subscribe(format!("{inbox}.*")).await?;
        let body: bytes::Bytes = serde_json::to_vec(ask)?.into();
        let mut headers = HeaderMap::new();
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        for (number, one) in asked.iter().enumerate() {
            let subject = format!("ctl.replica.{}.{}", one.replica, verb.token());
            let inbox = format!("{inbox}.{number}");
            let (headers, body) = (headers.clone(), body.clone());
            let sent = client.publish_with_reply_and_headers(subject, inbox, headers, body);
            sent.await?;
        }
        Ok(replies)
    }
}

impl Asked {
    fn new(replica: String) -> Self {
        Self {
            replica,
            taken: 0,
            ended: false,
        }
    }
}

impl<T: DeserializeOwned> Recalled<T> {
    fn take(&mut self, message: &async_nats::Message, asked: &mut [Asked]) {
        let number = message.subject.rsplit('.').next();
        let number = number.and_then(|number| number.parse::<usize>().ok());
        let Some(one) = number.and_then(|number| asked.get_mut(number)) else {
            return;
        };
        if one.ended {
            return;
        }
        // Nobody is subscribed: a build that does not tell, or one that is gone.
        if message.status.is_some() {
            self.missing.push(one.replica.clone());
            one.ended = true;
            return;
        }
        let Ok(reply) = serde_json::from_slice::<RecallReply<T>>(&message.payload) else {
            self.missing.push(one.replica.clone());
            one.ended = true;
            return;
        };
        let room = TAKEN.saturating_sub(one.taken);
        let items = reply.items.into_iter().take(room);
        let before = self.items.len();
        self.items
            .extend(items.map(|item| (one.replica.clone(), item)));
        one.taken += self.items.len() - before;
        one.ended = !reply.more || one.taken >= TAKEN;
        if let Some(problem) = reply.problem {
            self.refused = Some(problem);
        }
    }
}
