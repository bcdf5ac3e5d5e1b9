//! The changes that operators make: each is a job.

use super::{Intervention, authorization, parameters};
use crate::{
    http::{input, refusal::Refusal},
    ops::{Job, JobOrder},
    problem::Problem,
    projection::{Ask, Verb},
    read_model::Generation,
};
use actix_web::{
    HttpResponse,
    http::header::{CACHE_CONTROL, LOCATION},
};
use serde::Deserialize;
use utoipa::ToSchema;

type Answer = Result<HttpResponse, Refusal>;

/// The body of a rebuild, or of a take-over.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct RebuildOrder {
    /// Take over although something is parked that the live generation has applied.
    #[serde(default)]
    accept_parked: bool,
}

/// The body of a rollback: nothing.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct RollbackOrder {}

/// The body of the removal of a generation.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct DropOrder {
    /// Which one; the previous one unless given. One that is being filled must be named.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^v[0-9]{1,9}([.][0-9]{1,9})?$")]
    generation: Option<Generation>,
}

/// The body of a comparison with the log.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct VerifyOrder {
    /// About how many documents to compare; all unless given.
    #[serde(default)]
    #[schema(minimum = 1)]
    sample: Option<u64>,
}

/// Which of what is parked is tried again, or left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ParkedOrder {
    /// The view.
    view: String,
    /// The aggregates' name.
    #[serde(default)]
    aggregate: Option<String>,
    /// The aggregate's id.
    #[serde(default)]
    id: Option<String>,
    /// All that the names choose.
    #[serde(default)]
    all: bool,
    /// The generation; the live one unless given.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^v[0-9]{1,9}([.][0-9]{1,9})?$")]
    generation: Option<Generation>,
}

/// Does something to a view.
pub(super) async fn view(mut order: Intervention) -> Answer {
    let view = input::segment(&order.request, 2, "view")?.into_owned();
    order.operations.known_view(&view)?;
    parameters(&order.request, &[])?;
    let verb = input::segment(&order.request, 3, "verb")?.into_owned();
    let body = order.body().await?;
    let (verb, ask) = match &*verb {
        "rebuild" => (Verb::Rebuild, body.parse::<RebuildOrder>()?.ask()),
        "take-over" => (Verb::TakeOver, body.parse::<RebuildOrder>()?.ask()),
        "rollback" => {
            body.parse::<RollbackOrder>()?;
            (Verb::Rollback, Ask::default())
        }
        "drop" => {
            let DropOrder { generation } = body.parse()?;
            let ask = Ask {
                generation,
                ..Ask::default()
            };
            (Verb::Drop, ask)
        }
        _ => (Verb::Verify, body.parse::<VerifyOrder>()?.ask()?),
    };
    begin(&order, (verb, view, ask)).await
}

/// Tries again what is parked.
pub(super) async fn retry(order: Intervention) -> Answer {
    parked(order, Verb::Retry).await
}

/// Leaves out what is parked.
pub(super) async fn skip(order: Intervention) -> Answer {
    parked(order, Verb::Skip).await
}

async fn parked(mut intervention: Intervention, verb: Verb) -> Answer {
    parameters(&intervention.request, &[])?;
    let order: ParkedOrder = intervention.body().await?.parse()?;
    intervention.operations.known_view(&order.view)?;
    let one = order.aggregate.is_some() && order.id.is_some();
    if order.all == one || (order.id.is_some() && order.aggregate.is_none()) {
        let detail = "name one aggregate and its id, or say all of what the names choose";
        return Err(Problem::malformed("all".to_owned(), detail).into());
    }
    let ask = Ask {
        aggregate: order.aggregate,
        id: order.id,
        all: order.all,
        generation: order.generation,
        ..Ask::default()
    };
    begin(&intervention, (verb, order.view, ask)).await
}

/// Cancels a job.
pub(super) async fn cancel(order: Intervention) -> Answer {
    let id = input::segment(&order.request, 2, "id")?;
    parameters(&order.request, &[])?;
    let asking = authorization(&order.request);
    let job = order.operations.cancel(&id, asking).await?;
    super::answer(&order.request, &job).await
}

async fn begin(by: &Intervention, (verb, view, ask): (Verb, String, Ask)) -> Answer {
    let order = JobOrder {
        verb,
        view,
        ask,
        replica: None,
        authorization: authorization(&by.request).map(str::to_owned),
        by: by.who.caller.subject().map(str::to_owned),
    };
    let job = by.operations.begin(order).await?;
    Ok(accepted(&job))
}

fn accepted(job: &Job) -> HttpResponse {
    HttpResponse::Accepted()
        .insert_header((CACHE_CONTROL, super::NO_STORE))
        .insert_header((LOCATION, format!("/ops/jobs/{}", job.id)))
        .json(job)
}

impl RebuildOrder {
    fn ask(self) -> Ask {
        Ask {
            accept_parked: self.accept_parked,
            ..Ask::default()
        }
    }
}

impl VerifyOrder {
    fn ask(self) -> Result<Ask, Problem> {
        if self.sample == Some(0) {
            let detail = "a sample is of one document at least";
            return Err(Problem::malformed("sample".to_owned(), detail));
        }
        Ok(Ask {
            sample: self.sample,
            ..Ask::default()
        })
    }
}
