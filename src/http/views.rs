//! `GET /views/<view>/<id>` and `GET /views/<view>?…`.

use super::{
    Site, conditional, input,
    refusal::{self, Refusal, say_age},
};
use crate::{
    access::Identified,
    caller::Action,
    problem::Problem,
    read_model::{Freshness, ViewDescription},
};
use actix_web::{HttpRequest, HttpResponse, web::Data};

/// Reads one document. One that is in memory is answered without waiting for anything.
pub(super) async fn get(request: &HttpRequest, site: &Site) -> Result<HttpResponse, Problem> {
    let (view, who) = allowed_view(request, site).await?;
    let answer = async {
        let id = input::document_id(request, 2)?;
        input::no_parameters(request)?;
        let freshness = Freshness::read(request.headers(), who.caller)?;
        site.backends.views.get(view.name, &id, &freshness).await
    };
    let answer = answer.await.map_err(|problem| aged(problem, site, view))?;
    let mut response = conditional::begin(request, answer.value.tag.clone());
    say_age(&mut response, answer.age());
    let body = answer.value.body;
    Ok(conditional::finish(request, response, "application/json", body).await)
}

/// Reads a page of a list. One that is in memory is answered without waiting for anything.
pub(super) async fn list(request: HttpRequest, site: Data<Site>) -> Result<HttpResponse, Refusal> {
    let (view, who) = allowed_view(&request, &site).await?;
    let answer = async {
        let parameters = input::parameters(request.uri().query().unwrap_or_default())?;
        let freshness = Freshness::read(request.headers(), who.caller)?;
        let views = &site.backends.views;
        views.list(view.name, &parameters, &freshness).await
    };
    let answer = answer.await.map_err(|problem| aged(problem, &site, view))?;
    let mut response = conditional::begin(&request, answer.value.tag.clone());
    say_age(&mut response, answer.age());
    let body = answer.value.body;
    Ok(conditional::finish(&request, response, "application/json", body).await)
}

/// A refusal, with how fresh the view is that it is about.
pub(super) fn aged(problem: Problem, site: &Site, view: &ViewDescription) -> Problem {
    Problem {
        age: problem.age.or_else(|| site.backends.views.age(view.name)),
        ..problem
    }
}

/// The view that is asked for, and who asks, if they may.
pub(super) async fn allowed_view<'a>(
    request: &HttpRequest,
    site: &'a Site,
) -> Result<(&'a ViewDescription, Identified), Problem> {
    let who = site.identified(request).await?;
    let view = known_view(request, site).map_err(|problem| who.refused(problem))?;
    let who = who.may(Action::Query { view: view.name })?;
    Ok((view, who))
}

fn known_view<'a>(request: &HttpRequest, site: &'a Site) -> Result<&'a ViewDescription, Problem> {
    let name = input::segment(request, 1, "view")?;
    let mut views = site.backends.views.views().iter();
    views
        .find(|view| view.name == name)
        .ok_or_else(|| refusal::unknown("view", &name))
}
