//! What operators and projectors say to each other, as JSON.

use crate::{
    projection::{projector::Retried, verify::Verified},
    read_model::{Generation, GenerationState},
    view::PartKey,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The last token of the subject: what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Tell which generations there are, and how far.
    Status,
    /// Begin to fill another generation.
    Rebuild,
    /// Make the previous generation the live one.
    Rollback,
    /// Remove a generation that is not live.
    Drop,
    /// Compare the documents with the log.
    Verify,
    /// Tell what is parked.
    Parked,
    /// Try again what is parked.
    Retry,
    /// Leave one event out, and try again what comes after it.
    Skip,
}

impl Verb {
    /// The token of the subject.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Rebuild => "rebuild",
            Self::Rollback => "rollback",
            Self::Drop => "drop",
            Self::Verify => "verify",
            Self::Parked => "parked",
            Self::Retry => "retry",
            Self::Skip => "skip",
        }
    }
}

/// The body of a request: what it is about.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The name of the aggregate, of what is parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<String>,
    /// The aggregate's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The generation; the live one unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// About how many documents to verify; all unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<u64>,
}

impl Ask {
    /// Whether it is about this aggregate, among others or not.
    pub(super) fn concerns(&self, (aggregate, id): &PartKey) -> bool {
        self.aggregate
            .as_ref()
            .is_none_or(|asked| asked == aggregate)
            && self.id.as_ref().is_none_or(|asked| asked == id)
    }
}

/// One message of an answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reply {
    /// The replica that answers.
    pub replica: String,
    /// The identity of its store. Replicas that have the same answer for the same documents.
    pub store: String,
    /// The view.
    pub view: String,
    /// Whether this replica keeps the view.
    pub here: bool,
    /// What it says.
    #[serde(flatten)]
    pub body: ReplyBody,
}

/// What a replica says of one view.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyBody {
    /// The work is begun; more follows.
    Taken {},
    /// So much of it is done; more follows.
    Progress {
        /// The position reached.
        done: u64,
        /// The position to reach.
        total: u64,
    },
    /// The replica that keeps the view does it.
    Elsewhere {},
    /// It is done.
    Done {},
    /// It cannot be done.
    Refused {
        /// Why.
        reason: String,
    },
    /// The view's generations.
    Status(ViewReport),
    /// What is parked.
    Parked(Vec<ParkedReport>),
    /// What came of trying again: for each aggregate by its name and id.
    Retried(Vec<(String, String, Retried)>),
    /// What came of the comparison.
    Verified(Verified),
}

impl ReplyBody {
    /// Whether more follows from the same replica about the same view.
    #[must_use]
    pub fn is_last(&self) -> bool {
        !matches!(self, Self::Taken {} | Self::Progress { .. })
    }
}

/// A view's generations.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ViewReport {
    /// The version of the view that the replica's program has.
    pub version: u32,
    /// Each generation.
    pub generations: Vec<GenerationReport>,
}

/// How a generation is doing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GenerationReport {
    /// Which one.
    pub generation: Generation,
    /// What it is there for.
    pub state: GenerationState,
    /// The stream sequence of the last commit that it has applied.
    pub position: u64,
    /// How many commits it is behind, where it is kept up to date.
    pub lag_commits: Option<u64>,
    /// How far it is behind in milliseconds, where it is kept up to date.
    pub lag_ms: Option<u64>,
    /// How many aggregates it has parked.
    pub parked: usize,
    /// Why it does not get on, if it does not.
    pub stalled: Option<String>,
    /// For how long it has not, in milliseconds.
    #[serde(default)]
    pub stalled_ms: Option<u64>,
}

/// A commit that is parked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ParkedReport {
    /// The aggregate's name.
    pub aggregate: String,
    /// The aggregate's id.
    pub id: String,
    /// The commit's stream sequence.
    pub position: u64,
    /// The index of its first event that was not applied.
    pub from_event: usize,
    /// Why.
    pub reason: String,
    /// The documents that are behind because of it.
    pub documents: Vec<String>,
    /// When it was parked.
    pub at: Option<Timestamp>,
    /// Its events, when one aggregate was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<serde_json::Value>,
}
