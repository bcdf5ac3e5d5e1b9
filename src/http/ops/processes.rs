//! Processes: their instances, and what is done to one of them.

use super::{Inspection, Intervention, NO_STORE, answer, authorization, parameters};
use crate::{
    http::{
        conditional, input,
        processes::{list_ask, show_ask},
        refusal::Refusal,
    },
    ops::Operations,
    problem::Problem,
    processes::ProcessAsk,
};
use actix_web::{HttpRequest, HttpResponse, http::header::CACHE_CONTROL, web::Bytes};
use serde::Deserialize;
use utoipa::ToSchema;

type Answer = Result<HttpResponse, Refusal>;

/// The body of a change of an instance.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct InstanceOrder {
    /// The reason, which is recorded: `skip`, `suspend` and `end` take one.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 500)]
    reason: Option<String>,
    /// The aggregate that the process cannot place the events of, for `retry` and `skip`: the id is that of the
    /// aggregate then.
    #[serde(default)]
    unplaced: Option<String>,
}

pub(super) async fn all(
    Inspection {
        request,
        operations,
    }: Inspection,
) -> Answer {
    parameters(&request, &[])?;
    answer(&request, &operations.processes()).await
}

pub(super) async fn list(
    Inspection {
        request,
        operations,
    }: Inspection,
) -> Answer {
    let process = process(&request, &operations)?;
    let ask = list_ask(query(&request)?)?;
    let instances = operations.instances();
    let page = instances.list(process, &ask, authorization(&request));
    Ok(written(&request, page.await?).await)
}

pub(super) async fn show(
    Inspection {
        request,
        operations,
    }: Inspection,
) -> Answer {
    let process = process(&request, &operations)?;
    let id = input::aggregate_id(&request, 3)?;
    let ask = show_ask(query(&request)?)?;
    let instances = operations.instances();
    let shown = instances.show(process, &id, &ask, authorization(&request));
    Ok(written(&request, shown.await?).await)
}

/// Changes one instance.
pub(super) async fn change(mut order: Intervention) -> Answer {
    let process = process(&order.request, &order.operations)?;
    let id = input::aggregate_id(&order.request, 3)?;
    parameters(&order.request, &[])?;
    let verb = input::segment(&order.request, 4, "verb")?.into_owned();
    let InstanceOrder { reason, unplaced } = order.body().await?.parse()?;
    let ask = ProcessAsk { reason, unplaced };
    let instances = order.operations.instances();
    let asking = authorization(&order.request);
    let changed = instances.act((process, &id), &verb, &ask, asking).await?;
    Ok(written(&order.request, changed).await)
}

fn process(request: &HttpRequest, operations: &Operations) -> Result<&'static str, Problem> {
    operations.known_process(&input::segment(request, 2, "process")?)
}

fn query(request: &HttpRequest) -> Result<std::collections::BTreeMap<String, String>, Problem> {
    input::parameters(request.uri().query().unwrap_or_default())
}

async fn written(request: &HttpRequest, body: Bytes) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header((CACHE_CONTROL, NO_STORE));
    conditional::finish(request, response, "application/json", body).await
}
