//! The views and their generations, as the replicas that keep them tell of them.

use super::{Answers, AskError, Operations, Projectors, Question};
use crate::{
    problem::Problem,
    projection::{Ask, DriftReport, GenerationReport, Reply, ReplyBody, Verb},
    read_model::{GenerationState, ViewDescription},
};
use jiff::Timestamp;
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// The time that an answer may take: the console looks again in a second.
const PATIENCE: Duration = Duration::from_secs(1);

/// All views.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ToldViews {
    /// Each view of the program.
    pub items: Vec<ToldView>,
    /// The replicas that should have told of theirs and did not.
    pub missing: Vec<String>,
}

/// A view.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ToldView {
    /// Its name.
    pub view: String,
    /// The version that the program has.
    pub version: u32,
    /// The aggregates that it reads.
    pub aggregates: Vec<String>,
    /// The places where its documents are kept.
    pub stores: Vec<ToldStore>,
    /// The replicas that should have told of theirs and did not.
    pub missing: Vec<String>,
}

/// A place where documents are kept.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ToldStore {
    /// Its identity.
    pub store: String,
    /// The replica that keeps the view there; null when none does.
    pub replica: Option<String>,
    /// True if that is the replica that answers.
    pub here: bool,
    /// The reason why nothing is told of it, if nothing is.
    pub error: Option<String>,
    /// The view's generations there.
    pub generations: Vec<ToldGeneration>,
}

/// A generation of a view.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ToldGeneration {
    /// Which one.
    pub generation: String,
    /// The use of it: `live`, `building`, `previous` or `dropping`.
    #[schema(value_type = String)]
    pub state: GenerationState,
    /// The stream sequence of the last commit that it has applied.
    pub position: u64,
    /// The number of commits it is behind, where it is kept up to date.
    pub lag_commits: Option<u64>,
    /// The lag in milliseconds, where it is kept up to date.
    pub lag_ms: Option<u64>,
    /// The commits a second that it has applied in the last ten seconds.
    pub rate_per_s: Option<f64>,
    /// The number of aggregates it has parked.
    pub parked: usize,
    /// The reason why it does not take over although it is filled.
    pub waiting: Option<String>,
    /// The reason why it does not get on.
    pub stalled: Option<String>,
    /// Since when it has not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub stalled_since: Option<Timestamp>,
    /// The result of comparing it with the log all the time, where that is done.
    pub drift: Option<DriftReport>,
}

impl ToldGeneration {
    fn of(report: &GenerationReport) -> Self {
        let ago = report.stalled_ms.and_then(|ms| i64::try_from(ms).ok());
        let since = || Some(Timestamp::now() - jiff::SignedDuration::from_millis(ago?));
        Self {
            generation: report.generation.to_string(),
            state: report.state,
            position: report.position,
            lag_commits: report.lag_commits,
            lag_ms: report.lag_ms,
            rate_per_s: report.rate_per_s,
            parked: report.parked,
            waiting: report.waiting.clone(),
            stalled: report.stalled.clone(),
            // A replica of an older build tells for how long alone.
            stalled_since: report.stalled_since.or_else(since),
            drift: report.drift.clone(),
        }
    }
}

impl Operations {
    /// Asks how the views are doing.
    ///
    /// # Errors
    ///
    /// Returns `unavailable` where NATS is away.
    pub async fn views(&self, authorization: Option<&str>) -> Result<ToldViews, Problem> {
        let answers = statuses(&self.options().nats, None, None, authorization).await?;
        let here = Some(self.options().membership.replica());
        Ok(ToldViews::of(self.known_views(), answers, here))
    }

    /// Asks how one view is doing.
    ///
    /// # Errors
    ///
    /// Returns `unknown_view`, or `unavailable` where NATS is away.
    pub async fn view(&self, name: &str, authorization: Option<&str>) -> Result<ToldView, Problem> {
        let view = self.known_view(name)?;
        let answers = statuses(&self.options().nats, None, Some(name), authorization).await?;
        let here = Some(self.options().membership.replica());
        Ok(ToldView::of(view, &answers, here))
    }
}

/// Asks the projectors, or the one of `replica`, how the views are doing, or the one.
///
/// # Errors
///
/// Returns `unavailable` where NATS is away.
pub async fn statuses(
    client: &async_nats::Client,
    replica: Option<&str>,
    view: Option<&str>,
    authorization: Option<&str>,
) -> Result<Answers, Problem> {
    let projectors = Projectors {
        client,
        authorization,
    };
    let ask = Ask::default();
    let question = Question {
        patience: PATIENCE,
        replica,
        ..Question::of_all(Verb::Status, &ask).about(view)
    };
    match projectors.ask(question, |_, _, _| {}).await {
        Ok(answers) => Ok(answers),
        Err(AskError::Nobody | AskError::Silent { .. }) => Ok(Answers::default()),
        Err(error @ AskError::Nats(_)) => Err(Problem::unavailable(error.to_string())),
    }
}

impl ToldViews {
    /// Tells of these views what was answered. `here` is the replica that tells.
    #[must_use]
    pub fn of(views: &[ViewDescription], answers: Answers, here: Option<&str>) -> Self {
        let views = views.iter();
        Self {
            items: views
                .map(|view| ToldView::of(view, &answers, here))
                .collect(),
            missing: answers.missing,
        }
    }
}

impl ToldView {
    /// Tells of a view what was answered. `here` is the replica that tells.
    #[must_use]
    pub fn of(view: &ViewDescription, answers: &Answers, here: Option<&str>) -> Self {
        let of_view = answers.replies.iter();
        let of_view = of_view.filter(|reply| reply.view == view.name);
        Self {
            view: view.name.to_owned(),
            version: view.version,
            aggregates: view.aggregates.iter().map(ToString::to_string).collect(),
            stores: of_view.map(|reply| ToldStore::of(reply, here)).collect(),
            missing: answers.missing.clone(),
        }
    }
}

impl ToldStore {
    fn of(reply: &Reply, here: Option<&str>) -> Self {
        let (generations, error) = match &reply.body {
            ReplyBody::Status(report) => {
                let generations = report.generations.iter();
                (generations.map(ToldGeneration::of).collect(), None)
            }
            ReplyBody::Refused { reason } => (Vec::new(), Some(reason.clone())),
            _ => (Vec::new(), Some("it does not tell".to_owned())),
        };
        Self {
            store: reply.store.clone(),
            replica: reply.here.then(|| reply.replica.clone()),
            here: reply.here && Some(&*reply.replica) == here,
            error,
            generations,
        }
    }
}
