//! `POST /commands/<aggregate>/<id>/<command>`, and `POST /commands` for many at once.

use super::{
    Site, input,
    refusal::{self, Refusal},
};
use crate::{
    caller::Action,
    command::{
        many::{self, MAX_MANY},
        request::{CommandHeaders, CommandRequest, MAX_BODY, empty_body},
        waits::PROCESS,
    },
    problem::Problem,
};
use actix_web::{
    HttpRequest, HttpResponse,
    dev::Payload,
    http::{StatusCode, header::ETAG},
    web::{self, Data},
};

/// Executes one command. Who asks, names and ids are checked before the body is read, and all of
/// it before anything is sent on.
pub(super) async fn execute(
    request: &HttpRequest,
    payload: Payload,
    site: &Site,
) -> Result<HttpResponse, Problem> {
    let who = site.identified(request).await?;
    let commands = &site.backends.commands;
    let aggregate = input::segment(request, 1, "aggregate")?;
    let command = input::segment(request, 3, "command")?;
    let known = commands
        .aggregates()
        .iter()
        .find(|known| known.name == aggregate)
        .ok_or_else(|| who.refused(refusal::unknown("aggregate", &aggregate)))?;
    if !known.commands.iter().any(|known| known.name == command) {
        return Err(who.refused(refusal::unknown("command", &command)));
    }
    let who = who.may(Action::Command {
        aggregate: &aggregate,
        command: &command,
    })?;
    let id = input::aggregate_id(request, 2)?;
    input::no_parameters(request)?;
    let headers = CommandHeaders::read(request.headers(), who.caller)?;
    let wait = commands.waits().begin(request.headers())?;
    let timeout = site.body_timeout;
    let body = input::json_body(request, payload, timeout, MAX_BODY, empty_body).await?;

    let outcome = commands
        .execute(CommandRequest {
            aggregate: known.name.into(),
            id,
            command: (&*command).into(),
            body,
            headers,
        })
        .await?;
    let mut response = HttpResponse::Ok();
    if let Some(wait) = wait {
        let rested = Box::pin(wait.rest(&outcome)).await;
        if !rested.at_rest {
            response.status(StatusCode::ACCEPTED);
        }
        if let Some(told) = rested.told {
            response.insert_header((PROCESS, told));
        }
    }
    Ok(response
        .insert_header((ETAG, outcome.entity_tag()))
        .insert_header(("Headwater-Position", outcome.position_token()))
        .content_type("application/json")
        .body(outcome.to_json()))
}

/// Executes many commands. Who asks is checked before the body is read, and what they may command by command.
pub(super) async fn execute_many(
    request: HttpRequest,
    payload: web::Payload,
    site: Data<Site>,
) -> Result<HttpResponse, Refusal> {
    let who = site.identified(&request).await?;
    who.check(Action::SomeCommand)?;
    input::no_parameters(&request)?;
    let shared = many::shared_headers(request.headers(), who.caller.clone())?;
    // So many bodies are in memory at once.
    let place = site.lists.try_acquire();
    let _place = place.map_err(|_| Problem::overloaded())?;
    let (payload, timeout) = (payload.into_inner(), site.body_timeout);
    let body = input::json_body(&request, payload, timeout, MAX_MANY, many::empty_list).await?;
    let commands = &site.backends.commands;
    let as_who = (&site.access, &who);
    let list = many::read(&body, None, commands.aggregates(), as_who, &shared)?;
    let answers = commands.execute_many(list.commands).await;
    drop(list.under_way);

    let mut response = HttpResponse::Ok();
    let accepted = answers.iter().flatten();
    let accepted = accepted.map(|outcome| (&*outcome.aggregate, outcome.position));
    if let Some(positions) = many::positions(accepted) {
        response.insert_header(("Headwater-Position", positions));
    }
    let answers = answers.iter().map(|answer| match answer {
        Ok(outcome) => outcome.to_json().into(),
        Err(problem) => problem.to_json().into(),
    });
    let body = many::array(answers);
    Ok(response.content_type("application/json").body(body))
}
