//! Asking the projectors that run: one request, which each of them answers about each view.

use crate::{
    access::AUTHORIZATION,
    projection::{ALL, Ask, JOB, Reply, ReplyBody, Verb},
};
use async_nats::{Client, HeaderMap};
use futures::StreamExt;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// The time an answer may take of a replica that was there a moment ago: after as long without a sign it
/// counts as gone.
pub const FIRST: Duration = Duration::from_secs(3);
/// The time a replica that works may say nothing. Retrying waits for a batch that is under way.
const SILENT: Duration = Duration::from_secs(60);

/// The projectors, as somebody reaches them.
#[derive(Debug, Clone, Copy)]
pub struct Projectors<'a> {
    /// The connection to NATS.
    pub client: &'a Client,
    /// The caller: the value of `Authorization`.
    pub authorization: Option<&'a str>,
}

/// A question to projectors.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The replica that is asked; all unless given.
    pub replica: Option<&'a str>,
    /// The view that it is about; all unless given.
    pub view: Option<&'a str>,
    /// The action.
    pub verb: Verb,
    /// With what.
    pub ask: &'a Ask,
    /// The time that the first answer may take, and each further one.
    pub patience: Duration,
    /// The job that it is of, by which it can be cancelled.
    pub job: Option<&'a str>,
}

impl<'a> Question<'a> {
    /// Asks all replicas to do this.
    #[must_use]
    pub fn of_all(verb: Verb, ask: &'a Ask) -> Self {
        Self {
            replica: None,
            view: None,
            verb,
            ask,
            patience: FIRST,
            job: None,
        }
    }

    /// Asks about one view alone.
    #[must_use]
    pub fn about(self, view: Option<&'a str>) -> Self {
        Self { view, ..self }
    }
}

/// The answers of the projectors.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// The last answer of each store about each view, ordered by view and replica: of the replica that keeps the
    /// view, where several share the store.
    pub replies: Vec<Reply>,
    /// The replicas that should have answered and did not.
    pub missing: Vec<String>,
}

/// The projectors cannot be asked, or have not answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The connection does not take it.
    #[error("{0}")]
    Nats(String),
    /// There is none.
    #[error("no projector is connected to this NATS")]
    Nobody,
    /// One began and went silent.
    #[error("replica {replica} does not answer any more about {view}")]
    Silent {
        /// The replica.
        replica: String,
        /// The view.
        view: String,
    },
}

impl Projectors<'_> {
    /// Asks, calls `progress` with what is told on the way, and returns the last answers.
    ///
    /// # Errors
    ///
    /// Returns [`AskError`].
    pub async fn ask(
        &self,
        question: Question<'_>,
        mut progress: impl FnMut(&Reply, u64, u64),
    ) -> Result<Answers, AskError> {
        let (replica, view) = (
            question.replica.unwrap_or(ALL),
            question.view.unwrap_or(ALL),
        );
        let subject = format!("ctl.projector.{replica}.{view}.{}", question.verb.token());
        let inbox = self.client.new_inbox();
        let failed = |error: &dyn std::fmt::Display| AskError::Nats(error.to_string());
        let body = serde_json::to_vec(question.ask).map_err(|error| failed(&error))?;
        let asking = async {
            let replies = self.client.subscribe(inbox.clone()).await;
            let replies = replies.map_err(|error| failed(&error))?;
            let mut headers = HeaderMap::new();
            if let Some(authorization) = self.authorization {
                headers.insert(AUTHORIZATION, authorization);
            }
            if let Some(job) = question.job {
                headers.insert(JOB, job);
            }
            let sent = self.client.publish_with_reply_and_headers(
                subject,
                inbox.clone(),
                headers,
                body.into(),
            );
            sent.await.map_err(|error| failed(&error))?;
            Ok::<_, AskError>(replies)
        };
        // The connection takes nothing while it is away.
        let asked = tokio::time::timeout(FIRST, asking).await;
        let mut replies = asked.map_err(|_| failed(&"the connection takes nothing"))??;
        let mut heard = Heard::new(question.replica);
        let mut until = Instant::now() + question.patience;
        while let Ok(Some(message)) = timeout_at(until, replies.next()).await {
            if message.status.is_some() {
                return Err(AskError::Nobody);
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
            until = Instant::now() + heard.patience(question.patience);
        }
        heard.end()
    }
}

/// The answers of the replicas so far.
struct Heard {
    /// The last answer of each store about each view.
    last: BTreeMap<(String, String), Reply>,
    /// The replicas that have begun and not ended, about which view.
    working: BTreeSet<(String, String)>,
    /// About how many views each replica has answered, and about how many it will.
    answered: BTreeMap<String, (usize, usize)>,
    /// The replicas that are to answer.
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
    fn patience(&self, first: Duration) -> Duration {
        if self.working.is_empty() {
            first
        } else {
            SILENT
        }
    }

    fn end(self) -> Result<Answers, AskError> {
        if let Some((replica, view)) = self.working.first().cloned() {
            return Err(AskError::Silent { replica, view });
        }
        let asked = self.asked.iter();
        let missing = asked.filter(|it| !self.has_answered(it)).cloned().collect();
        let mut replies: Vec<_> = self.last.into_values().collect();
        replies.sort_by(|a, b| (&a.view, &a.replica).cmp(&(&b.view, &b.replica)));
        Ok(Answers { replies, missing })
    }
}
