//! `/metrics`: what the process has measured, for Prometheus.

use super::{input, refusal::Refusal};
use crate::{access::Access, caller::Action, telemetry};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    web::Data,
};

/// The text exposition format, version 0.0.4.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Renders all metrics of the process.
pub(super) async fn serve(
    request: HttpRequest,
    access: Data<Access>,
) -> Result<HttpResponse, Refusal> {
    let who = access
        .identified(request.headers(), input::address(&request))
        .await?;
    who.may(Action::Inspect)?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, TEXT))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(telemetry::metrics::render()))
}
