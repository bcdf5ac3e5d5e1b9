//! The paths that only read.

use super::{Inspection, Parameters, answer, authorization, parameters};
use crate::{
    http::{input, refusal::Refusal},
    ops::{ParkedFilter, StoryPlace, TailFilter, TailPlace},
    problem::Problem,
};
use actix_web::HttpResponse;

type Answer = Result<HttpResponse, Refusal>;

pub(super) async fn overview(
    Inspection {
        request,
        operations,
    }: Inspection,
) -> Answer {
    parameters(&request, &[])?;
    let overview = operations.overview(authorization(&request)).await;
    answer(&request, &*overview).await
}

pub(super) async fn views(
    Inspection {
        request,
        operations,
    }: Inspection,
) -> Answer {
    parameters(&request, &[])?;
    let views = operations.views(authorization(&request)).await?;
    answer(&request, &views).await
}

pub(super) async fn view(
    Inspection {
        request,
        operations,
    }: Inspection,
) -> Answer {
    let view = input::segment(&request, 2, "view")?;
    parameters(&request, &[])?;
    let view = operations.view(&view, authorization(&request)).await?;
    answer(&request, &view).await
}

pub(super) async fn home(
    Inspection {
        request,
        operations,
    }: Inspection,
) -> Answer {
    let aggregate = input::segment(&request, 2, "aggregate")?;
    operations.known_aggregate(&aggregate)?;
    let id = input::aggregate_id(&request, 3)?;
    parameters(&request, &[])?;
    let home = operations.home(&aggregate, &id).await?;
    answer(&request, &home).await
}

pub(super) async fn aggregate(
    Inspection {
        request,
        operations,
    }: Inspection,
) -> Answer {
    let aggregate = input::segment(&request, 2, "aggregate")?;
    operations.known_aggregate(&aggregate)?;
    let id = input::aggregate_id(&request, 3)?;
    let given = parameters(&request, &["after", "limit"])?;
    let after = given.position("after")?.unwrap_or(0);
    let history = operations
        .aggregate(&aggregate, &id, after, given.limit()?)
        .await?;
    answer(&request, &history).await
}

/// The longest id of a command that is looked for: one of a process has the names of both in it.
const LONGEST_COMMAND_ID: usize = 256;

pub(super) async fn story(
    Inspection {
        request,
        operations,
    }: Inspection,
) -> Answer {
    let command = input::segment(&request, 2, "id")?;
    if command.is_empty() || command.len() > LONGEST_COMMAND_ID {
        let detail = format!("a command's id has 1 to {LONGEST_COMMAND_ID} characters");
        return Err(Problem::malformed("id".to_owned(), detail).into());
    }
    let given = parameters(&request, &["aggregate", "id", "before"])?;
    let aggregate = match (given.aggregate()?, given.id()?) {
        (Some(aggregate), Some(id)) => Some((aggregate, id)),
        (None, None) => None,
        _ => {
            let detail = "an aggregate is known by its name and its id: give both, or none";
            return Err(Problem::malformed("aggregate".to_owned(), detail).into());
        }
    };
    let place = StoryPlace {
        aggregate,
        before: given.position("before")?,
    };
    let authorization = authorization(&request);
    let story = operations.story(&command, &place, authorization).await?;
    answer(&request, &story).await
}

pub(super) async fn refusals(
    Inspection {
        request,
        operations,
    }: Inspection,
) -> Answer {
    let limit = parameters(&request, &["limit"])?.limit()?;
    let refusals = operations.refusals(limit, authorization(&request));
    answer(&request, &refusals.await).await
}

pub(super) async fn explain(
    Inspection {
        request,
        operations,
    }: Inspection,
) -> Answer {
    let view = input::segment(&request, 2, "view")?;
    operations.known_view(&view)?;
    let id = input::document_id(&request, 3)?;
    parameters(&request, &[])?;
    let explained = operations
        .explain(&view, &id, authorization(&request))
        .await?;
    answer(&request, &explained).await
}

pub(super) async fn events(
    Inspection {
        request,
        operations,
    }: Inspection,
) -> Answer {
    let known = [
        "aggregate",
        "id",
        "type",
        "since",
        "after",
        "before",
        "limit",
    ];
    let given = parameters(&request, &known)?;
    let filter = tail_filter(&given)?;
    let place = tail_place(&given)?;
    let page = operations.events(&filter, place, given.limit()?).await?;
    answer(&request, &page).await
}

/// Which commits are asked for.
pub(super) fn tail_filter(given: &Parameters) -> Result<TailFilter, Problem> {
    Ok(TailFilter {
        aggregate: given.aggregate()?,
        id: given.id()?,
        event_type: given.text("type").map(str::to_owned),
    })
}

fn tail_place(given: &Parameters) -> Result<TailPlace, Problem> {
    Ok(TailPlace {
        after: given.position("after")?,
        since: given.read("since")?,
        before: given.position("before")?,
    })
}

pub(super) async fn parked(
    Inspection {
        request,
        operations,
    }: Inspection,
) -> Answer {
    let known = ["view", "aggregate", "id", "generation", "limit", "cursor"];
    let given = parameters(&request, &known)?;
    let filter = ParkedFilter {
        view: given.text("view").map(str::to_owned),
        aggregate: given.aggregate()?,
        // What is parked may have an id that no aggregate can have.
        id: given.text("id").map(str::to_owned),
        replica: None,
        generation: given.read("generation")?,
        limit: given.limit()?,
        cursor: given.text("cursor").map(str::to_owned),
    };
    let one = filter.view.is_some() && filter.aggregate.is_some();
    if filter.id.is_some() && !one {
        let detail = "an id is told of with its view and its aggregate";
        return Err(Problem::malformed("id".to_owned(), detail).into());
    }
    if filter.generation.is_some() && filter.view.is_none() {
        let detail = "a generation is one of a view: give that too";
        return Err(Problem::malformed("generation".to_owned(), detail).into());
    }
    let page = operations.parked(&filter, authorization(&request)).await?;
    answer(&request, &page).await
}

pub(super) async fn jobs(
    Inspection {
        request,
        operations,
    }: Inspection,
) -> Answer {
    parameters(&request, &[])?;
    let jobs = operations.jobs(authorization(&request)).await;
    answer(&request, &jobs).await
}

pub(super) async fn job(
    Inspection {
        request,
        operations,
    }: Inspection,
) -> Answer {
    let id = input::segment(&request, 2, "id")?;
    parameters(&request, &[])?;
    let job = operations.job(&id, authorization(&request)).await?;
    answer(&request, &job).await
}
