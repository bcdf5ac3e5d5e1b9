//! The changes that operators make: each is a job.

use super::{allowed, authorization, parameters};
use crate::{
    access::{Access, Identified},
    caller::Action,
    command::request::{MAX_BODY, empty_body},
    http::{Site, input, refusal::Refusal},
    ops::{Job, JobOrder, Operations},
    problem::Problem,
    projection::{Ask, Verb},
    read_model::Generation,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, LOCATION},
    web::{Data, Payload},
};
use serde::{Deserialize, de::DeserializeOwned};
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
pub(super) async fn view(
    request: HttpRequest,
    payload: Payload,
    operations: Data<Operations>,
    access: Data<Access>,
    site: Data<Site>,
) -> Answer {
    let who = allowed(&request, &access, Action::Operate).await?;
    let view = input::segment(&request, 2, "view")?.into_owned();
    operations.known_view(&view)?;
    parameters(&request, &[])?;
    let verb = input::segment(&request, 3, "verb")?.into_owned();
    let body = Body::read(&request, payload, &site).await?;
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
    begin(&request, &operations, &who, (verb, view, ask)).await
}

/// Tries again what is parked.
pub(super) async fn retry(
    request: HttpRequest,
    payload: Payload,
    operations: Data<Operations>,
    access: Data<Access>,
    site: Data<Site>,
) -> Answer {
    parked(
        &request,
        payload,
        (&operations, &access, &site),
        Verb::Retry,
    )
    .await
}

/// Leaves out what is parked.
pub(super) async fn skip(
    request: HttpRequest,
    payload: Payload,
    operations: Data<Operations>,
    access: Data<Access>,
    site: Data<Site>,
) -> Answer {
    parked(&request, payload, (&operations, &access, &site), Verb::Skip).await
}

async fn parked(
    request: &HttpRequest,
    payload: Payload,
    (operations, access, site): (&Operations, &Access, &Site),
    verb: Verb,
) -> Answer {
    let who = allowed(request, access, Action::Operate).await?;
    parameters(request, &[])?;
    let order: ParkedOrder = Body::read(request, payload, site).await?.parse()?;
    operations.known_view(&order.view)?;
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
    begin(request, operations, &who, (verb, order.view, ask)).await
}

/// Cancels a job.
pub(super) async fn cancel(
    request: HttpRequest,
    operations: Data<Operations>,
    access: Data<Access>,
) -> Answer {
    allowed(&request, &access, Action::Operate).await?;
    let id = input::segment(&request, 2, "id")?;
    parameters(&request, &[])?;
    let job = operations.cancel(&id, authorization(&request)).await?;
    super::answer(&request, &job).await
}

async fn begin(
    request: &HttpRequest,
    operations: &Operations,
    who: &Identified,
    (verb, view, ask): (Verb, String, Ask),
) -> Answer {
    let order = JobOrder {
        verb,
        view,
        ask,
        authorization: authorization(request).map(str::to_owned),
        by: who.caller.subject().map(str::to_owned),
    };
    let job = operations.begin(order).await?;
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

/// The body of a change: a JSON object.
pub(super) struct Body(actix_web::web::Bytes);

impl Body {
    pub(super) async fn read(
        request: &HttpRequest,
        payload: Payload,
        site: &Site,
    ) -> Result<Self, Problem> {
        let (payload, timeout) = (payload.into_inner(), site.body_timeout);
        let body = input::json_body(request, payload, timeout, MAX_BODY, empty_body).await?;
        Ok(Self(body))
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        // A list is none of these, though serde would take it for one.
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&self.0).map_err(|error| wrong(&error))?;
        serde_json::from_value(object.into()).map_err(|error| wrong(&error))
    }
}

fn wrong(error: &serde_json::Error) -> Problem {
    Problem::malformed("body".to_owned(), error.to_string())
}
