//! The paths of operators, described.

mod instances;

use super::{
    schemas::{Schemas, Scope},
    shared::{json_response, parameter_ref, query_parameter, refusal, response_ref, typed},
};
use crate::{
    http::ops::change::{DropOrder, ParkedOrder, RebuildOrder, RollbackOrder, VerifyOrder},
    ops::{
        AggregateHistory, AggregateHome, CommandStory, DocumentExplained, Job, Jobs,
        ListedProcesses, LogPage, Overview, ParkedCommits, Refusals, StoryCommand, StoryDeadline,
        StoryFact, StoryInstance, StoryStep, ToldEvent, ToldView, ToldViews,
    },
    problem::Problem,
    read_model::ViewDescription,
};
use serde_json::json;
use utoipa::{
    ToSchema,
    openapi::{
        ContentBuilder, HttpMethod, ObjectBuilder, RefOr, Required, ResponseBuilder, Schema, Type,
        path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
        request_body::{RequestBody, RequestBodyBuilder},
        response::Response,
        schema::{KnownFormat, SchemaFormat},
    },
};

/// The tag that groups them.
pub(super) const TAG: &str = "ops";

type Described = (&'static str, HttpMethod, OperationBuilder);

/// The paths and the operations of them.
pub(super) fn operations(
    views: &[ViewDescription],
    processes: &[&str],
    schemas: &mut Schemas,
) -> Vec<Described> {
    let mut named = Vec::new();
    Overview::schemas(&mut named);
    ToldViews::schemas(&mut named);
    AggregateHistory::schemas(&mut named);
    CommandStory::schemas(&mut named);
    Refusals::schemas(&mut named);
    DocumentExplained::schemas(&mut named);
    LogPage::schemas(&mut named);
    ParkedCommits::schemas(&mut named);
    Jobs::schemas(&mut named);
    ListedProcesses::schemas(&mut named);
    story(&mut named);
    let scope = schemas.take("ops", &named);
    let mut told = Told { schemas, scope };
    let mut all = read(views, &mut told);
    all.extend(look_into(views, &mut told));
    all.extend(change(views, &mut told));
    all.extend(instances::operations(processes, &mut told));
    all
}

/// The schemas that a story refers to in circles, which are not found by themselves.
fn story(named: &mut Vec<(String, RefOr<Schema>)>) {
    fn of<T: ToSchema>() -> (String, RefOr<Schema>) {
        (T::name().into_owned(), T::schema())
    }
    named.extend([
        of::<StoryCommand>(),
        of::<StoryInstance>(),
        of::<StoryStep>(),
        of::<StoryFact>(),
        of::<StoryDeadline>(),
        of::<ToldEvent>(),
    ]);
}

/// Describes the paths that tell how the system is.
fn read(views: &[ViewDescription], told: &mut Told<'_>) -> Vec<Described> {
    vec![
        get(
            "/ops/overview",
            "overview",
            "The whole system",
            told.json::<Overview>("Gathered once a second at the most."),
        ),
        get(
            "/ops/stream",
            "follow_overview",
            "The whole system as it moves",
            stream("Server-sent events: `overview`, with the overview as data, once a second."),
        ),
        get(
            "/ops/views",
            "views",
            "The views and their generations",
            told.json::<ToldViews>("As far as the replicas that keep them have answered."),
        ),
        with(
            get(
                "/ops/views/{view}",
                "view",
                "A view and its generations",
                told.json::<ToldView>("As far as the replicas that keep it have answered."),
            ),
            |operation| of_view(operation, views),
        ),
        with(
            get(
                "/ops/homes/{aggregate}/{id}",
                "home",
                "The replica that decides an aggregate's commands",
                told.json::<AggregateHome>("As this replica sees it."),
            ),
            |operation| of_aggregate(operation).response("404", unknown("aggregate")),
        ),
        with(
            get(
                "/ops/refusals",
                "refusals",
                "The latest commands that were refused",
                told.json::<Refusals>(
                    "Those of all replicas that have answered, the last one first.",
                ),
            ),
            |operation| operation.parameter(limit()),
        ),
    ]
}

/// Describes the paths that tell why something is as it is.
fn look_into(views: &[ViewDescription], told: &mut Told<'_>) -> Vec<Described> {
    vec![
        with(
            get(
                "/ops/aggregates/{aggregate}/{id}",
                "aggregate",
                "An aggregate's history, with its state after each event",
                told.json::<AggregateHistory>("A page of its commits, in order."),
            ),
            |operation| {
                let after = position("after", "Begin after this position.");
                let operation = of_aggregate(operation).parameter(after).parameter(limit());
                operation.response("404", unknown_or_not_found("aggregate"))
            },
        ),
        with(
            get(
                "/ops/commands/{id}",
                "story",
                "What became of a command, and all that it caused",
                told.json::<CommandStory>(
                    "The command; null where it is to be looked for further back.",
                ),
            ),
            |operation| {
                let id = in_path(
                    "id",
                    "The command's id.",
                    text().min_length(Some(1)).max_length(Some(256)),
                );
                operation
                    .parameter(id)
                    .parameter(query_parameter(
                        "aggregate",
                        "The name of the aggregate that it was given to.",
                        name(),
                    ))
                    .parameter(query_parameter(
                        "id",
                        "The id of the aggregate that it was given to.",
                        id_text(),
                    ))
                    .parameter(position("before", "Look before this position."))
                    .response("404", not_found("The log has no such command."))
            },
        ),
        with(
            get(
                "/ops/explain/{view}/{id}",
                "explain",
                "Why a document is as it is",
                told.json::<DocumentExplained>("Folded again from the log."),
            ),
            |operation| {
                let operation = operation.parameter(view_parameter(views));
                let operation = operation.parameter_ref(parameter_ref("DocumentId"));
                operation.response("404", unknown_or_not_found("view"))
            },
        ),
        with(
            get(
                "/ops/events",
                "events",
                "A page of the log",
                told.json::<LogPage>("In the order of the log."),
            ),
            |operation| {
                let since = query_parameter(
                    "since",
                    "Begin with what was stored then.",
                    text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))),
                );
                of_tail(operation)
                    .parameter(since)
                    .parameter(position("after", "Begin after this position."))
                    .parameter(position("before", "End before this position."))
                    .parameter(limit())
            },
        ),
        with(
            get(
                "/ops/events/stream",
                "follow_events",
                "What comes in the log",
                stream(
                    "Server-sent events: `commit`, with the commit as data and its position as id.",
                ),
            ),
            |operation| of_tail(operation).parameter_ref(parameter_ref("LastEventId")),
        ),
        with(
            get(
                "/ops/parked",
                "parked",
                "What the views have set aside",
                told.json::<ParkedCommits>("By view, replica and aggregate."),
            ),
            |operation| {
                let names =
                    typed(Type::String).enum_values(Some(views.iter().map(|view| view.name)));
                operation
                    .parameter(query_parameter("view", "Of this view.", names))
                    .parameter(query_parameter(
                        "aggregate",
                        "Of aggregates of this name.",
                        name(),
                    ))
                    .parameter(query_parameter(
                        "id",
                        "Of the aggregate with this id.",
                        text(),
                    ))
                    .parameter(query_parameter(
                        "generation",
                        "Of this generation.",
                        generation(),
                    ))
                    .parameter(query_parameter(
                        "cursor",
                        "What an earlier page has as next.",
                        text(),
                    ))
                    .parameter(limit())
                    .response("404", unknown("view"))
            },
        ),
    ]
}

/// Describes the paths that change something.
fn change(views: &[ViewDescription], told: &mut Told<'_>) -> Vec<Described> {
    let mut all = vec![
        get(
            "/ops/jobs",
            "jobs",
            "The jobs that replicas were given",
            told.json::<Jobs>("The last one first."),
        ),
        with(
            get(
                "/ops/jobs/{id}",
                "job",
                "A job",
                told.json::<Job>("How far it is."),
            ),
            of_job,
        ),
    ];
    let cancel = operation("cancel_job", "Cancels a job")
        .response("200", told.json::<Job>("How far it is a moment later."))
        .response(
            "409",
            refusal(
                "It has ended, or is over at once.",
                &["not_cancellable"],
                &Problem::refused(
                    "not_cancellable",
                    "the job has ended, or is of a kind that is over at once",
                ),
            ),
        );
    all.push(("/ops/jobs/{id}", HttpMethod::Delete, of_job(cancel)));
    for (path, name, summary, body) in [
        (
            "/ops/views/{view}/rebuild",
            "rebuild",
            "Fills another generation of a view, which takes over",
            told.body::<RebuildOrder>(),
        ),
        (
            "/ops/views/{view}/take-over",
            "take_over",
            "Lets a filled generation take over that waits",
            told.body::<RebuildOrder>(),
        ),
        (
            "/ops/views/{view}/rollback",
            "rollback",
            "Makes the previous generation the live one",
            told.body::<RollbackOrder>(),
        ),
        (
            "/ops/views/{view}/drop",
            "drop",
            "Removes a generation that is not live",
            told.body::<DropOrder>(),
        ),
        (
            "/ops/views/{view}/verify",
            "verify",
            "Compares the documents of a view with the log",
            told.body::<VerifyOrder>(),
        ),
    ] {
        let job = told.json::<Job>("It is begun.");
        let operation = of_view(changing(name, summary, body, job), views);
        all.push((path, HttpMethod::Post, operation));
    }
    for (path, name, summary) in [
        ("/ops/parked/retry", "retry", "Tries again what is parked"),
        ("/ops/parked/skip", "skip", "Leaves out what is parked"),
    ] {
        let (body, job) = (told.body::<ParkedOrder>(), told.json::<Job>("It is begun."));
        let operation = changing(name, summary, body, job).response("404", unknown("view"));
        all.push((path, HttpMethod::Post, operation));
    }
    all
}

/// The means that answers are described with.
struct Told<'a> {
    schemas: &'a mut Schemas,
    scope: Scope,
}

impl Told<'_> {
    fn body<T: ToSchema>(&mut self) -> RequestBody {
        let name = format!("ops.{}", T::name());
        let schema = self.schemas.put(name, &T::schema(), &self.scope);
        let content = ContentBuilder::new().schema(Some(schema)).build();
        RequestBodyBuilder::new()
            .required(Some(Required::True))
            .content("application/json", content)
            .build()
    }

    fn json<T: ToSchema>(&mut self, description: &str) -> Response {
        let name = format!("ops.{}", T::name());
        let schema = self.schemas.put(name, &T::schema(), &self.scope);
        json_response(description, schema)
    }
}

fn stream(description: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(typed(Type::String)));
    ResponseBuilder::new()
        .description(description)
        .content("text/event-stream", content.build())
        .build()
}

fn get(path: &'static str, name: &str, summary: &str, answer: Response) -> Described {
    (
        path,
        HttpMethod::Get,
        operation(name, summary).response("200", answer),
    )
}

fn operation(name: &str, summary: &str) -> OperationBuilder {
    OperationBuilder::new()
        .tag(TAG)
        .operation_id(Some(format!("ops.{name}")))
        .summary(Some(summary))
        .response("400", response_ref("Malformed"))
        .response("408", response_ref("Timeout"))
        .response("414", response_ref("UriTooLong"))
        .response("429", response_ref("Overloaded"))
        .response("431", response_ref("HeadersTooLarge"))
        .response("500", response_ref("Internal"))
        .response("503", response_ref("Unavailable"))
}

fn with(
    (path, method, operation): Described,
    more: impl FnOnce(OperationBuilder) -> OperationBuilder,
) -> Described {
    (path, method, more(operation))
}

/// A change, which is answered with a job.
fn changing(name: &str, summary: &str, body: RequestBody, job: Response) -> OperationBuilder {
    operation(name, summary)
        .request_body(Some(body))
        .response("202", job)
        .response("413", response_ref("TooLarge"))
        .response("415", response_ref("UnsupportedMediaType"))
}

/// Adds the parameters of a question about one view.
fn of_view(operation: OperationBuilder, views: &[ViewDescription]) -> OperationBuilder {
    let operation = operation.parameter(view_parameter(views));
    operation.response("404", unknown("view"))
}

/// Adds the parameters of a question about one aggregate.
fn of_aggregate(operation: OperationBuilder) -> OperationBuilder {
    let aggregate = in_path(
        "aggregate",
        "The aggregate's name, or that of a process.",
        name(),
    );
    operation
        .parameter(aggregate)
        .parameter_ref(parameter_ref("AggregateId"))
}

/// Adds the parameters of a question about the log.
fn of_tail(operation: OperationBuilder) -> OperationBuilder {
    let kind = "Those with an event whose type begins so.";
    operation
        .parameter(query_parameter(
            "aggregate",
            "Those of aggregates of this name.",
            name(),
        ))
        .parameter(query_parameter(
            "id",
            "Those of aggregates with this id.",
            id_text(),
        ))
        .parameter(query_parameter("type", kind, text()))
}

fn of_job(operation: OperationBuilder) -> OperationBuilder {
    operation
        .parameter(in_path("id", "The job's id.", text().min_length(Some(1))))
        .response("404", not_found("No live replica remembers such a job."))
}

fn text() -> ObjectBuilder {
    typed(Type::String)
}

fn name() -> ObjectBuilder {
    text()
        .pattern(Some("^[a-z][a-z0-9_]*$"))
        .max_length(Some(32))
}

fn id_text() -> ObjectBuilder {
    text()
        .pattern(Some("^(?!live$)[A-Za-z0-9_-]+$"))
        .max_length(Some(64))
}

fn generation() -> ObjectBuilder {
    text().pattern(Some("^v[0-9]{1,9}([.][0-9]{1,9})?$"))
}

fn in_path(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

fn position(name: &str, description: &str) -> Parameter {
    let schema = typed(Type::Integer)
        .minimum(Some(0))
        .maximum(Some(i64::MAX as f64));
    query_parameter(name, description, schema)
}

fn limit() -> Parameter {
    let schema = typed(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(200))
        .default(Some(json!(50)));
    query_parameter("limit", "The number of items of a page.", schema)
}

fn not_found(description: &str) -> Response {
    refusal(
        description,
        &["not_found"],
        &Problem::not_found("not_found", description),
    )
}

fn unknown_or_not_found(kind: &str) -> Response {
    let code = format!("unknown_{kind}");
    let text = "There is no such thing.";
    refusal(
        text,
        &[&code, "not_found"],
        &Problem::not_found("not_found", text),
    )
}

fn view_parameter(views: &[ViewDescription]) -> Parameter {
    let names = views.iter().map(|view| view.name);
    ParameterBuilder::new()
        .name("view")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("The view's name."))
        .schema(Some(typed(Type::String).enum_values(Some(names))))
        .build()
}

fn unknown(kind: &str) -> Response {
    let code = format!("unknown_{kind}");
    let text = format!("There is no such {kind}.");
    refusal(&text, &[&code], &Problem::not_found(&code, &text))
}
