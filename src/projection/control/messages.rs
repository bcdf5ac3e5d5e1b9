//! The messages between operators and projectors, as JSON.

use crate::{
    projection::{explained::Explained, projector::Retried, verify::Verified},
    read_model::{Generation, GenerationState},
    view::PartKey,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    /// Let the generation that is being filled take over, whatever it has parked.
    TakeOver,
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
    /// Tell why a document is as it is: the one with the id.
    Explain,
    /// Stop what is under way of a job: the one with the id.
    Cancel,
}

impl Verb {
    /// Returns whether more than telling is asked for.
    #[must_use]
    pub fn changes(self) -> bool {
        !matches!(
            self,
            Self::Status | Self::Parked | Self::Verify | Self::Explain
        )
    }

    /// Returns whether it may take long: whatever is not told, or noted, at once.
    #[must_use]
    pub fn takes_long(self) -> bool {
        !matches!(self, Self::Status | Self::Parked | Self::Cancel)
    }

    /// The token of the subject.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Rebuild => "rebuild",
            Self::Rollback => "rollback",
            Self::TakeOver => "take_over",
            Self::Drop => "drop",
            Self::Verify => "verify",
            Self::Parked => "parked",
            Self::Retry => "retry",
            Self::Skip => "skip",
            Self::Explain => "explain",
            Self::Cancel => "cancel",
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
    /// The aggregate's id; the document's to be explained, the job's to be cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The generation; the live one unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// About how many documents to verify; all unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<u64>,
    /// Of what is parked, all that the names choose, and of each aggregate all events.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// The place where the last page of what is parked ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ParkedCursor>,
    /// The number of parked commits to show at most; as many as a page has unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Take over although something is parked that the live generation has applied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_parked: bool,
}

impl Ask {
    /// Returns whether it is about this aggregate, among others or not.
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
    /// True if this replica keeps the view.
    pub here: bool,
    /// The replicas that were there to be asked, as far as this one knows.
    #[serde(default)]
    pub replicas: Vec<String>,
    /// About how many views this one answers.
    #[serde(default)]
    pub of: usize,
    /// The answer.
    #[serde(flatten)]
    pub body: ReplyBody,
}

/// A replica's description of one view.
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
    /// The replica's program does not have the view.
    Unknown {},
    /// The replica that keeps the view does it.
    Elsewhere {},
    /// It is done.
    Done {},
    /// A generation is being filled from now on.
    Filling {
        /// Which one.
        generation: Generation,
    },
    /// It cannot be done.
    Refused {
        /// The reason.
        reason: String,
    },
    /// The view's generations.
    Status(ViewReport),
    /// A page of what is parked.
    Parked(ParkedPage),
    /// The result of trying one aggregate again: by its name and id.
    Retried(Vec<(String, String, Retried)>),
    /// The result of trying many again.
    Settled(Settled),
    /// The result of the comparison.
    Verified(Verified),
    /// The explanation of a document.
    Explained(Box<Explained>),
}

impl ReplyBody {
    /// Returns whether more follows from the same replica about the same view.
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

/// The status of a generation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GenerationReport {
    /// Which one.
    pub generation: Generation,
    /// The purpose.
    pub state: GenerationState,
    /// The stream sequence of the last commit that it has applied.
    pub position: u64,
    /// The number of commits it is behind, where it is kept up to date.
    pub lag_commits: Option<u64>,
    /// The lag in milliseconds, where it is kept up to date.
    pub lag_ms: Option<u64>,
    /// The number of aggregates it has parked.
    pub parked: usize,
    /// The reason why it does not take over although it is filled, if an operator must decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// The reason why it does not get on, if it does not.
    pub stalled: Option<String>,
    /// The result of comparing it with the log all the time, where that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftReport>,
    /// For how long it has not, in milliseconds.
    #[serde(default)]
    pub stalled_ms: Option<u64>,
    /// Since when it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled_since: Option<Timestamp>,
    /// The commits a second that it has applied lately, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<f64>,
}

/// The result of comparing a generation with the log all the time.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DriftReport {
    /// The number of documents that were compared, those that were so again included.
    pub checked: u64,
    /// The number of times that one was not what the log says.
    pub different: u64,
    /// The number that were set right.
    pub repaired: u64,
    /// The time when the last ones were compared.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The ids of the last ones that differed.
    pub ids: Vec<String>,
}

/// A part of what is parked.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ParkedPage {
    /// The commits, by aggregate and in stream order.
    pub items: Vec<ParkedReport>,
    /// The place where the next page begins; none after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<ParkedCursor>,
}

/// The last parked commit of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedCursor {
    /// The aggregate's name.
    pub aggregate: String,
    /// The aggregate's id.
    pub id: String,
    /// The commit's stream sequence.
    pub position: u64,
}

impl ParkedCursor {
    pub(super) fn of(last: &ParkedReport) -> Self {
        Self {
            aggregate: last.aggregate.clone(),
            id: last.id.clone(),
            position: last.position,
        }
    }

    pub(super) fn into_key(self) -> (PartKey, u64) {
        ((self.aggregate, self.id), self.position)
    }
}

/// The result of trying many aggregates again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Settled {
    /// The number that were tried.
    pub aggregates: usize,
    /// The number of commits that are applied now.
    pub applied: usize,
    /// Of how many aggregates something is parked still.
    pub still_parked: usize,
    /// Some of those, by name and id.
    pub left: Vec<(String, String, Retried)>,
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
    /// The reason.
    pub reason: String,
    /// True if the program that parked it did not know what it is. One that does tries it again by itself.
    #[serde(default)]
    pub unknown: bool,
    /// Some documents that are behind because of its aggregate: with the first of its commits, when one
    /// aggregate was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<String>,
    /// The time when it was parked.
    pub at: Option<Timestamp>,
    /// Its events, when one aggregate was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<serde_json::Value>,
}
