//! `GET /views/<view>/<id>` and `GET /views/<view>?…`.

use super::{Site, conditional, input, refusal};
use crate::{
    problem::Problem,
    read_model::{Answer, Freshness, ViewDescription},
};
use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder, http::header::HeaderName, web::Data,
};
use serde::Serialize;

const APPLIED: HeaderName = HeaderName::from_static("headwater-applied");
const LAG: HeaderName = HeaderName::from_static("headwater-lag-ms");
/// Something in the answer is behind because of an event that could not be applied.
const PARKED: (&str, &str) = ("Headwater-Parked", "true");

/// Reads one document. One that is in memory is answered without waiting for anything.
pub(super) async fn get(request: &HttpRequest, site: &Site) -> Result<HttpResponse, Problem> {
    let view = known_view(request, site)?;
    let id = input::document_id(request, 2)?;
    let freshness = freshness(request)?;
    let answer = site.backends.views.get(view.name, &id, &freshness).await?;
    let mut response = conditional::begin(request, answer.value.tag.clone());
    say_age(&mut response, &answer);
    Ok(conditional::finish(
        response,
        "application/json",
        answer.value.body,
    ))
}

/// Reads a page of a list.
pub(super) async fn list(request: HttpRequest, site: Data<Site>) -> Result<HttpResponse, Problem> {
    let view = known_view(&request, &site)?;
    let parameters = input::parameters(request.uri().query().unwrap_or_default())?;
    let freshness = freshness(&request)?;
    let answer = site
        .backends
        .views
        .list(view.name, &parameters, &freshness)
        .await?;
    let body = json(&answer.value);
    let mut response = conditional::begin(&request, conditional::tag_of(&body));
    say_age(&mut response, &answer);
    Ok(conditional::finish(response, "application/json", body))
}

pub(super) fn known_view<'a>(
    request: &HttpRequest,
    site: &'a Site,
) -> Result<&'a ViewDescription, Problem> {
    let name = input::segment(request, 1, "view")?;
    let mut views = site.backends.views.views().iter();
    views
        .find(|view| view.name == name)
        .ok_or_else(|| refusal::unknown("view", &name))
}

pub(super) fn freshness(request: &HttpRequest) -> Result<Freshness, Problem> {
    Freshness::read(request.headers())
}

fn say_age<T>(response: &mut HttpResponseBuilder, answer: &Answer<T>) {
    response
        .insert_header((APPLIED, answer.applied))
        .insert_header((LAG, answer.lag_ms));
    if answer.parked {
        response.insert_header(PARKED);
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a stored document is plain data")
}
