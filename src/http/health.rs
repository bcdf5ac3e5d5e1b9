//! `/healthz`: the process answers. `/readyz`: it can do its work now.

use super::ReadinessProbe;
use actix_web::{HttpResponse, http::header::CACHE_CONTROL, web::Data};
use serde_json::json;

/// Says that the process lives, whatever it can do.
pub(super) async fn alive() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

/// Says whether the replica is ready, and what it waits for.
pub(super) async fn ready(probe: Data<ReadinessProbe>) -> HttpResponse {
    let readiness = probe();
    let mut response = if readiness.ready {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    response
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(readiness)
}
