//! Asking the projectors that run.

use super::Failure;
use crate::{
    config::ControlConfig,
    ops::{Answers, Projectors, Question},
    projection::{ALL, Ask, Reply, ReplyBody, Verb},
};

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

    /// Asks, and returns the last answer of each store about each view: of the replica that keeps the
    /// view, where several share the store.
    pub(super) async fn ask(
        &self,
        view: Option<&str>,
        verb: Verb,
        ask: &Ask,
        progress: impl FnMut(&Reply, u64, u64),
    ) -> Result<Vec<Reply>, Failure> {
        let replica = self.config.replica.as_deref();
        self.ask_of(replica, view, verb, ask, progress).await
    }

    /// As [`Control::ask`], of one replica.
    pub(super) async fn ask_replica(
        &self,
        replica: &str,
        view: Option<&str>,
        verb: Verb,
        ask: &Ask,
        progress: impl FnMut(&Reply, u64, u64),
    ) -> Result<Vec<Reply>, Failure> {
        self.ask_of(Some(replica), view, verb, ask, progress).await
    }

    async fn ask_of(
        &self,
        replica: Option<&str>,
        view: Option<&str>,
        verb: Verb,
        ask: &Ask,
        progress: impl FnMut(&Reply, u64, u64),
    ) -> Result<Vec<Reply>, Failure> {
        let authorization = self
            .config
            .token
            .as_ref()
            .map(|token| format!("Bearer {token}"));
        let projectors = Projectors {
            client: &self.client,
            authorization: authorization.as_deref(),
        };
        let question = Question {
            replica,
            ..Question::of_all(verb, ask).about(view)
        };
        let answers = projectors.ask(question, progress).await;
        let Answers { replies, missing } = answers.map_err(Failure::operation)?;
        if replies.is_empty() {
            let view = view.unwrap_or(ALL);
            return Err(Failure::operation(format!(
                "no projector knows the view {view}, or none runs"
            )));
        }
        for reply in &replies {
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
        Ok(replies)
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
