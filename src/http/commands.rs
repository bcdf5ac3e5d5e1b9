//! `POST /commands/<aggregate>/<id>/<command>`.

use super::{Site, input, refusal};
use crate::{
    caller::Action,
    command::{
        request::{CommandHeaders, CommandRequest},
        waits::PROCESS,
    },
    problem::Problem,
};
use actix_web::{
    HttpRequest, HttpResponse,
    dev::Payload,
    http::{StatusCode, header::ETAG},
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
    let aggregate = input::segment(request, 1, "aggregate")?.into_owned();
    let command = input::segment(request, 3, "command")?.into_owned();
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
    let body = input::json_body(request, payload, site.body_timeout).await?;

    let outcome = commands
        .execute(CommandRequest {
            aggregate: aggregate.into(),
            id,
            command: command.into(),
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
        .json(outcome))
}
