//! The ways to look at the instances of processes: one description for each process.

use super::{
    schemas::Schemas,
    shared::{json_response, query_parameter, response_ref, typed},
};
use crate::processes::ToldStatus;
use utoipa::openapi::{
    ArrayBuilder, ObjectBuilder, Required, ResponseBuilder, Schema, Type,
    path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
    schema::{AdditionalProperties, SchemaType},
};

/// Returns what groups the reads of a process.
pub(super) fn tag(process: &str) -> String {
    format!("{process} process")
}

/// The paths and the operations of them.
pub(super) fn operations(process: &str, schemas: &mut Schemas) -> [(String, OperationBuilder); 2] {
    let scope = schemas.take("processes", &[]);
    let item = schemas.put("processes.instance".to_owned(), &instance().build(), &scope);
    let next = ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .description(Some(
            "What cursor takes for the next page; null on the last.",
        ));
    let page = ObjectBuilder::new()
        .property("items", ArrayBuilder::new().items(item))
        .required("items")
        .property("next", next)
        .required("next")
        .property(
            "unplaced",
            ArrayBuilder::new().items(open_object()).description(Some(
                "The aggregates whose events the process cannot place, which are held: with the first page of \
                 what is parked, or of all.",
            )),
        )
        .property(
            "shortened",
            typed(Type::Boolean).description(Some(
                "There where not all are kept in mind: those that ended long ago are not among the items.",
            )),
        )
        .build();
    let page = schemas.put("processes.page".to_owned(), &page, &scope);
    let shown = schemas.put("processes.shown".to_owned(), &shown().build(), &scope);

    let list = operation(process, "list")
        .summary(Some(format!("The instances of {process}, by their ids")));
    let list = list_parameters(list).response("200", json_response("A page.", page));
    let show = operation(process, "show")
        .summary(Some(format!("One instance of {process} with its steps")))
        .parameter(
            ParameterBuilder::new()
                .name("id")
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .description(Some("The instance's id."))
                .schema(Some(id()))
                .build(),
        );
    let show = show_parameters(show)
        .response("200", json_response("The instance.", shown))
        .response("404", response_ref("NotFound"));
    [
        (format!("/processes/{process}"), list),
        (format!("/processes/{process}/{{id}}"), show),
    ]
}

/// The parameters of a page of instances.
pub(super) fn list_parameters(operation: OperationBuilder) -> OperationBuilder {
    operation
        .parameter(query_parameter(
            "status",
            "Only those that are so.",
            typed(Type::String).enum_values(Some(ToldStatus::ALL.map(|status| status.to_string()))),
        ))
        .parameter(limit())
        .parameter(query_parameter(
            "cursor",
            "Where the page begins: next of the page before.",
            id(),
        ))
}

/// The parameters of an instance with its steps.
pub(super) fn show_parameters(operation: OperationBuilder) -> OperationBuilder {
    operation.parameter(limit()).parameter(query_parameter(
        "cursor",
        "The version after which the records begin: next of the page before.",
        typed(Type::Integer)
            .minimum(Some(0))
            .maximum(Some(i64::MAX)),
    ))
}

fn operation(process: &str, name: &str) -> OperationBuilder {
    OperationBuilder::new()
        .tag(tag(process))
        .operation_id(Some(format!("process.{process}.{name}")))
        .response(
            "304",
            ResponseBuilder::new()
                .description("The client has it already.")
                .build(),
        )
        .response("400", response_ref("Malformed"))
        .response("408", response_ref("Timeout"))
        .response("414", response_ref("UriTooLong"))
        .response("431", response_ref("HeadersTooLarge"))
        .response("500", response_ref("Internal"))
        .response("503", response_ref("Unavailable"))
}

fn id() -> ObjectBuilder {
    typed(Type::String)
        .min_length(Some(1))
        .max_length(Some(64))
        .pattern(Some("^(?!live$)[A-Za-z0-9_-]+$"))
}

fn limit() -> Parameter {
    let schema = typed(Type::Integer).minimum(Some(1)).maximum(Some(200));
    query_parameter("limit", "How many at most.", schema)
}

fn open_object() -> ObjectBuilder {
    typed(Type::Object).additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(true)))
}

fn instance() -> ObjectBuilder {
    let objects = || ArrayBuilder::new().items(open_object());
    let status = typed(Type::String)
        .enum_values(Some(ToldStatus::ALL.map(|status| status.to_string())))
        .description(Some(
            "running: it waits for answers to commands; waiting: for an event or a deadline; parked: an input \
             could not be reacted to; suspended: an operator has stopped it; ended.",
        ));
    typed(Type::Object)
        .property("id", typed(Type::String))
        .required("id")
        .property("status", status)
        .required("status")
        .property(
            "reason",
            typed(Type::String).description(Some("Why it is parked, suspended, or was ended.")),
        )
        .property(
            "last",
            typed(Type::String).description(Some("When something came to it last (RFC 3339).")),
        )
        .property("steps_made", typed(Type::Integer).minimum(Some(0)))
        .required("steps_made")
        .property("open", objects())
        .required("open")
        .property("deadlines", objects())
        .required("deadlines")
        .property("held", objects())
        .required("held")
}

fn shown() -> ObjectBuilder {
    let next = ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Integer, Type::Null]))
        .description(Some(
            "What cursor takes for the next page; null on the last.",
        ));
    instance()
        .property("process", typed(Type::String))
        .required("process")
        .property("steps", ArrayBuilder::new().items(open_object()))
        .required("steps")
        .property("next", next)
        .required("next")
}
