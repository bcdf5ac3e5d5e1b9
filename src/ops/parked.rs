//! The commits that views have set aside, store by store, page by page.

use super::{AskError, Operations, Projectors, Question};
use crate::{
    problem::Problem,
    projection::{Ask, ParkedCursor, ParkedReport, Reply, ReplyBody, Verb},
    read_model::Generation,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Which of what is parked is asked for.
#[derive(Debug, Clone, Default)]
pub struct ParkedFilter {
    /// Of this view; of all unless given.
    pub view: Option<String>,
    /// Of aggregates of this name.
    pub aggregate: Option<String>,
    /// Of the aggregate with this id: then with events and documents.
    pub id: Option<String>,
    /// At this replica; at all unless given.
    pub replica: Option<String>,
    /// Of this generation; of the live one unless given.
    pub generation: Option<Generation>,
    /// The number of commits to show.
    pub limit: usize,
    /// The place where the last page ended.
    pub cursor: Option<String>,
}

/// A page of what is parked.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ParkedCommits {
    /// The commits, by view, replica and aggregate, each aggregate's in the order of the log.
    pub items: Vec<ParkedCommit>,
    /// The value of `cursor` for the next page; null on the last.
    pub next: Option<String>,
    /// The replicas that should have told of theirs and did not.
    pub missing: Vec<String>,
}

/// A parked commit.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ParkedCommit {
    /// The view.
    pub view: String,
    /// The store that it is parked in.
    pub store: String,
    /// The replica that tells of it.
    pub replica: String,
    /// The aggregate's name.
    pub aggregate: String,
    /// The aggregate's id.
    pub id: String,
    /// The commit's stream sequence.
    pub position: u64,
    /// The index of its first event that was not applied.
    pub from_event: usize,
    /// The reason.
    pub reason: String,
    /// True if the program that parked it did not know what it is. One that does tries it again by itself.
    pub unknown: bool,
    /// The time when it was parked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
    /// Some documents that are behind because of its aggregate.
    pub documents: Vec<String>,
    /// Its events.
    #[schema(value_type = Vec<Object>)]
    pub events: Vec<Value>,
}

/// The place where a page ends: in a source, after a commit.
#[derive(Debug, Serialize, Deserialize)]
struct Cursor {
    view: String,
    replica: String,
    after: ParkedCursor,
}

impl Cursor {
    fn read(text: &str) -> Result<Self, Problem> {
        let read = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let read = read.and_then(|json| serde_json::from_slice(&json).ok());
        let wrong = "it is what an earlier page has as next";
        read.ok_or_else(|| Problem::malformed("cursor".to_owned(), wrong))
    }

    fn write(&self) -> String {
        let json = serde_json::to_vec(self).expect("a cursor is plain data");
        BASE64_URL_SAFE_NO_PAD.encode(json)
    }
}

impl Operations {
    /// Reads a page of what is parked.
    ///
    /// # Errors
    ///
    /// Returns `malformed` where the cursor is none, `unknown_view`, and `unavailable` where a store cannot tell.
    pub async fn parked(
        &self,
        filter: &ParkedFilter,
        authorization: Option<&str>,
    ) -> Result<ParkedCommits, Problem> {
        let known = |view: &str| self.known_view(view).map(|_| ());
        let projectors = Projectors {
            client: &self.options().nats,
            authorization,
        };
        ParkedCommits::read(&projectors, filter, known).await
    }
}

impl ParkedCommits {
    /// Asks the projectors for a page of what is parked.
    ///
    /// # Errors
    ///
    /// Returns what `known` says of a view that is none, `malformed` where the cursor is none, and `unavailable` where a
    /// store cannot tell.
    pub async fn read(
        projectors: &Projectors<'_>,
        filter: &ParkedFilter,
        known: impl Fn(&str) -> Result<(), Problem>,
    ) -> Result<Self, Problem> {
        if let Some(view) = &filter.view {
            known(view)?;
        }
        let mut page = Self {
            items: Vec::new(),
            next: None,
            missing: Vec::new(),
        };
        let cursor = filter.cursor.as_deref().map(Cursor::read).transpose()?;
        if let Some(cursor) = &cursor {
            known(&cursor.view)?;
            let asked = sources(projectors, filter, Some(cursor)).await?;
            if asked.is_empty() {
                let detail = format!("replica {} does not answer", cursor.replica);
                return Err(Problem::unavailable(detail));
            }
            page.take(&asked, filter)?;
            if page.next.is_some() {
                return Ok(page);
            }
        }
        let projected = sources(projectors, filter, None).await?;
        let is_later = |reply: &Reply| {
            cursor.as_ref().is_none_or(|cursor| {
                (&reply.view, &reply.replica) > (&cursor.view, &cursor.replica)
            })
        };
        let later: Vec<_> = projected.into_iter().filter(is_later).collect();
        page.take(&later, filter)?;
        Ok(page)
    }

    /// Takes what the sources have, as much as a page has room for.
    fn take(&mut self, sources: &[Reply], filter: &ParkedFilter) -> Result<(), Problem> {
        for reply in sources {
            let parked = match &reply.body {
                ReplyBody::Parked(parked) => parked,
                ReplyBody::Refused { reason } => {
                    let detail = format!("{} at {}: {reason}", reply.view, reply.replica);
                    return Err(Problem::unavailable(detail));
                }
                _ => continue,
            };
            let room = filter.limit.saturating_sub(self.items.len());
            let taken = parked.items.iter().take(room);
            self.items.extend(taken.map(|one| commit(reply, one)));
            let last = parked.items.get(..room.min(parked.items.len()));
            let more = parked.items.len() > room || parked.next.is_some();
            if !more {
                continue;
            }
            let after = match last.and_then(<[_]>::last) {
                Some(last) => ParkedCursor {
                    aggregate: last.aggregate.clone(),
                    id: last.id.clone(),
                    position: last.position,
                },
                // There was room for nothing of it: the next page begins with it.
                None => ParkedCursor {
                    aggregate: filter.aggregate.clone().unwrap_or_default(),
                    id: filter.id.clone().unwrap_or_default(),
                    position: 0,
                },
            };
            let cursor = Cursor {
                view: reply.view.clone(),
                replica: reply.replica.clone(),
                after,
            };
            self.next = Some(cursor.write());
            return Ok(());
        }
        Ok(())
    }
}

/// Asks those that have something parked, or the one where a page ended, from there on.
async fn sources(
    projectors: &Projectors<'_>,
    filter: &ParkedFilter,
    cursor: Option<&Cursor>,
) -> Result<Vec<Reply>, Problem> {
    let ask = Ask {
        aggregate: filter.aggregate.clone(),
        id: filter.id.clone(),
        generation: filter.generation,
        limit: Some(filter.limit),
        after: cursor.map(|cursor| cursor.after.clone()),
        ..Ask::default()
    };
    let view = cursor.map(|cursor| cursor.view.as_str());
    let one = cursor.map(|cursor| cursor.replica.as_str());
    let question = Question {
        replica: one.or(filter.replica.as_deref()),
        ..Question::of_all(Verb::Parked, &ask).about(view.or(filter.view.as_deref()))
    };
    match projectors.ask(question, |_, _, _| {}).await {
        Ok(answers) => Ok(answers.replies),
        Err(AskError::Nobody) => Ok(Vec::new()),
        Err(error) => Err(Problem::unavailable(error.to_string())),
    }
}

fn commit(reply: &Reply, report: &ParkedReport) -> ParkedCommit {
    ParkedCommit {
        view: reply.view.clone(),
        store: reply.store.clone(),
        replica: reply.replica.clone(),
        aggregate: report.aggregate.clone(),
        id: report.id.clone(),
        position: report.position,
        from_event: report.from_event,
        reason: report.reason.clone(),
        unknown: report.unknown,
        at: report.at,
        documents: report.documents.clone(),
        events: report.events.clone(),
    }
}
