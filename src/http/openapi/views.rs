//! The ways to read a view: one document, a list, and both as they change.

use super::{
    schemas::Schemas,
    shared::{header_ref, parameter_ref, query_parameter, response_ref, typed},
};
use crate::{
    read_model::{
        DEFAULT_LIMIT, MAX_COUNT, MAX_LIMIT, MAX_TEXT, ViewDescription, parameters::facetable,
    },
    view::{Compare, Filter, Kind},
};
use serde_json::json;
use utoipa::openapi::{
    ArrayBuilder, ContentBuilder, ObjectBuilder, Ref, ResponseBuilder, Type,
    path::{OperationBuilder, Parameter, ParameterStyle},
    response::Response,
    schema::{KnownFormat, SchemaFormat, SchemaType},
};

/// Returns what groups the reads of a view.
pub(super) fn tag(view: &ViewDescription) -> String {
    format!("{} view", view.name)
}

/// The paths and the operations of them.
pub(super) fn operations(
    view: &ViewDescription,
    schemas: &mut Schemas,
) -> [(String, OperationBuilder); 4] {
    let name = view.name;
    let scope = schemas.take(&format!("{name}.view"), &view.schemas);
    let document = schemas.put(format!("{name}.view.document"), &view.document, &scope);
    let item = ObjectBuilder::new()
        .property("id", typed(Type::String))
        .required("id")
        .property(
            "version",
            typed(Type::Integer)
                .description(Some("The sequence of the last event that changed it."))
                .minimum(Some(0)),
        )
        .required("version")
        .property("document", document)
        .required("document")
        .build();
    let item = schemas.put(format!("{name}.view.item"), &item, &scope);
    let next = ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .description(Some(
            "What cursor takes for the next page; null on the last.",
        ));
    let count = typed(Type::Integer)
        .minimum(Some(0))
        .maximum(Some(MAX_COUNT))
        .description(Some(
            "How many documents match on all pages; only there where it was asked for.",
        ));
    let count_capped = typed(Type::Boolean)
        .enum_values(Some([true]))
        .description(Some(
            "There are more than are counted; only there where that is so.",
        ));
    let page = ObjectBuilder::new()
        .property("items", ArrayBuilder::new().items(item.clone()))
        .required("items")
        .property("next", next)
        .required("next")
        .property("count", count)
        .property("count_capped", count_capped)
        .property("facets", facets())
        .build();
    let page = schemas.put(format!("{name}.view.page"), &page, &scope);

    let mut get = operation(view, "get")
        .summary(Some(format!("One document of {name}")))
        .parameter_ref(parameter_ref("DocumentId"));
    get = with_headers(get).response("200", found(item));
    let mut list = operation(view, "list").summary(Some(format!("A list of {name}")));
    for parameter in list_parameters(view) {
        list = list.parameter(parameter);
    }
    list = with_headers(list).response("200", found(page));

    let one = operation(view, "follow")
        .summary(Some(format!(
            "One document of {name}, and each change of it"
        )))
        .description(Some(DOCUMENT_STREAM))
        .parameter_ref(parameter_ref("DocumentId"));
    let mut many = operation(view, "follow_list")
        .summary(Some(format!(
            "Documents of {name}, and each change among them"
        )))
        .description(Some(LIST_STREAM));
    for parameter in view.query.filters.iter().map(filter) {
        many = many.parameter(parameter);
    }
    [
        (
            format!("/views/{name}/{{id}}"),
            with_refusals(get).response("404", response_ref("NotFound")),
        ),
        (format!("/views/{name}"), with_refusals(list)),
        (
            format!("/views/{name}/{{id}}/live"),
            followed(one).response("404", response_ref("NotFound")),
        ),
        (format!("/views/{name}/live"), followed(many)),
    ]
}

const DOCUMENT_STREAM: &str = "Server-sent events: the document, then each change of it. `event` is \
    `put` with the document as a read answers it, `delete` with its id alone, or `problem` with why \
    nothing follows; `id` is where to go on from, and has no other meaning. Changes that follow each \
    other closely may come as one. Where nothing changes a comment is sent, and where to go on from. A \
    document that does not exist is not found, unless Last-Event-ID says that it did. A client that does \
    not keep up is cut off; it may come again, as any client whose stream has ended. One that does, and \
    accepts text/event-stream, is refused in a stream, by a `problem`: a browser would not come again \
    otherwise. A replica that is behind what the client has seen refuses it.";

const LIST_STREAM: &str = "Server-sent events: the documents that fulfil all filters, at most 1,000, \
    then each change among them. `event` is `put` with the document as a read answers it, `leave` with \
    its id when it does not fulfil them any more, `delete` with its id when it is gone, or `reset` \
    when what was sent before Last-Event-ID is to be forgotten, as all documents follow again. Of several \
    changes by one event only the last has an `id`. A list that comes to have more than 2,000 documents \
    ends with a `problem`. For the rest it is as with one document.";

/// Returns what is answered to `facets`.
fn facets() -> ObjectBuilder {
    let value = ObjectBuilder::new()
        .property(
            "value",
            ObjectBuilder::new().schema_type(SchemaType::AnyValue),
        )
        .required("value")
        .property("count", typed(Type::Integer).minimum(Some(0)))
        .required("count");
    let facet = ObjectBuilder::new()
        .property("values", ArrayBuilder::new().items(value))
        .required("values")
        .property(
            "capped",
            typed(Type::Boolean).description(Some("Whether each count is of at least as many.")),
        )
        .property(
            "more",
            typed(Type::Boolean).description(Some("Whether there are values besides.")),
        );
    ObjectBuilder::new()
        .description(Some(
            "By the name of its filter, the values of each facet that was asked for, at most 100, the most \
             frequent first.",
        ))
        .additional_properties(Some(facet))
}

/// Returns what both streams take and answer.
fn followed(mut operation: OperationBuilder) -> OperationBuilder {
    for parameter in ["LastEventId", "MinPosition", "MaxWait"] {
        operation = operation.parameter_ref(parameter_ref(parameter));
    }
    let stream = ResponseBuilder::new()
        .description("The stream. It ends when the replica stops.")
        .content(
            "text/event-stream",
            ContentBuilder::new()
                .schema(Some(typed(Type::String)))
                .build(),
        )
        .build();
    refused(operation).response("200", stream)
}

fn operation(view: &ViewDescription, what: &str) -> OperationBuilder {
    OperationBuilder::new()
        .tag(tag(view))
        .operation_id(Some(format!("view.{}.{what}", view.name)))
}

fn with_headers(mut operation: OperationBuilder) -> OperationBuilder {
    for parameter in ["MinPosition", "MaxWait", "IfNoneMatch"] {
        operation = operation.parameter_ref(parameter_ref(parameter));
    }
    operation
}

fn with_refusals(operation: OperationBuilder) -> OperationBuilder {
    let unchanged = ResponseBuilder::new()
        .description("The client has it already.")
        .header_ref("ETag", header_ref("ETag"))
        .header_ref("Headwater-Applied", header_ref("Applied"))
        .header_ref("Headwater-Lag-Ms", header_ref("Lag"))
        .header_ref("Headwater-Parked", header_ref("Parked"))
        .build();
    refused(operation).response("304", unchanged)
}

/// Returns how any read is refused.
fn refused(operation: OperationBuilder) -> OperationBuilder {
    operation
        .response("400", response_ref("Malformed"))
        .response("408", response_ref("Timeout"))
        .response("414", response_ref("UriTooLong"))
        .response("429", response_ref("Overloaded"))
        .response("431", response_ref("HeadersTooLarge"))
        .response("500", response_ref("Internal"))
        .response("503", response_ref("ViewUnavailable"))
        .response("504", response_ref("NotYetApplied"))
}

fn found(schema: Ref) -> Response {
    ResponseBuilder::new()
        .description("What the view holds.")
        .content(
            "application/json",
            ContentBuilder::new().schema(Some(schema)).build(),
        )
        .header_ref("ETag", header_ref("ETag"))
        .header_ref("Headwater-Applied", header_ref("Applied"))
        .header_ref("Headwater-Lag-Ms", header_ref("Lag"))
        .header_ref("Headwater-Parked", header_ref("Parked"))
        .build()
}

fn list_parameters(view: &ViewDescription) -> Vec<Parameter> {
    let query = &view.query;
    let mut parameters: Vec<Parameter> = query.filters.iter().map(filter).collect();
    if !query.search.is_empty() {
        let text = format!(
            "Text to search for in {}: up to 16 words.",
            query.search.join(", ")
        );
        parameters.push(query_parameter(
            "q",
            text,
            typed(Type::String)
                .min_length(Some(1))
                .max_length(Some(MAX_TEXT)),
        ));
    }
    if let Some(default) = query.sorts.first() {
        let both = query
            .sorts
            .iter()
            .flat_map(|sort| [sort.field.to_owned(), format!("-{}", sort.field)]);
        let schema = typed(Type::String).enum_values(Some(both));
        let mut text = format!(
            "The field to sort by, descending with a minus; {} unless given.",
            default.field
        );
        if !query.search.is_empty() {
            text.push_str(" With q the best match comes first unless given.");
        }
        parameters.push(query_parameter("sort", text, schema));
    }
    parameters.push(query_parameter(
        "limit",
        "How many documents a page has at most.".to_owned(),
        typed(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(MAX_LIMIT))
            .default(Some(json!(DEFAULT_LIMIT))),
    ));
    parameters.push(query_parameter(
        "count",
        "Whether to count the documents that match on all pages, up to 10,000.".to_owned(),
        typed(Type::Boolean).default(Some(json!(false))),
    ));
    let facets: Vec<_> = facetable(query).map(|filter| filter.name).collect();
    if !facets.is_empty() {
        let text = format!(
            "Some of {}, with commas between them: for each value of each, how many documents match all \
             other filters.",
            facets.join(", ")
        );
        let names = facets.into_iter().map(String::from);
        let name = typed(Type::String).enum_values(Some(names));
        let several = ArrayBuilder::new()
            .items(name)
            .min_items(Some(1))
            .unique_items(true);
        let mut parameter = query_parameter("facets", text, typed(Type::String));
        parameter.schema = Some(several.build().into());
        parameter.style = Some(ParameterStyle::Form);
        parameter.explode = Some(false);
        parameters.push(parameter);
    }
    parameters.push(query_parameter(
        "cursor",
        "Where to go on: `next` of the page before, with everything else the same.".to_owned(),
        typed(Type::String).min_length(Some(1)),
    ));
    parameters
}

fn filter(filter: &Filter) -> Parameter {
    let compared = match filter.compare {
        Compare::Equal => "equal",
        Compare::AtLeast => "at least",
        Compare::AtMost => "at most",
    };
    let text = format!("Only documents whose {} is {compared} this.", filter.field);
    let schema = match filter.kind {
        Kind::Text => typed(Type::String).max_length(Some(MAX_TEXT)),
        Kind::Integer => typed(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(i64::MIN as isize))
            .maximum(Some(i64::MAX as isize)),
        Kind::Boolean => typed(Type::Boolean),
    };
    query_parameter(filter.name, text, schema)
}
