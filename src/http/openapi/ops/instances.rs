//! The questions of operators about processes, and the changes of their instances.

use super::{Described, Told, get, in_path, operation, unknown, unknown_or_not_found, with};
use crate::{
    http::{
        openapi::{
            processes,
            shared::{json_response, parameter_ref, refusal, response_ref, typed},
        },
        ops::processes::InstanceOrder,
    },
    ops::ListedProcesses,
    outcome::Outcome,
    problem::Problem,
};
use utoipa::openapi::{HttpMethod, Ref, Response, Type, path::OperationBuilder};

/// The processes, and what is done to their instances.
pub(super) fn operations(names: &[&str], told: &mut Told<'_>) -> Vec<Described> {
    let mut all = vec![get(
        "/ops/processes",
        "processes",
        "The processes",
        told.json::<ListedProcesses>("Those of the program, with the replica that runs each."),
    )];
    if names.is_empty() {
        return all;
    }
    let of_process = |operation: OperationBuilder| {
        let names = names.iter().copied();
        let schema = typed(Type::String).enum_values(Some(names));
        operation.parameter(in_path("process", "The process's name.", schema))
    };
    let of_instance = |operation| of_process(operation).parameter_ref(parameter_ref("AggregateId"));
    let described = |text: &str, name: &str| {
        json_response(text, Ref::from_schema_name(format!("processes.{name}")))
    };
    let list = get(
        "/ops/processes/{process}",
        "instances",
        "The instances of a process, by their ids",
        described("A page.", "page"),
    );
    all.push(with(list, |operation| {
        processes::list_parameters(of_process(operation)).response("404", unknown("process"))
    }));
    let show = get(
        "/ops/processes/{process}/{id}",
        "instance",
        "One instance of a process with its steps",
        described("The instance.", "shown"),
    );
    all.push(with(show, |operation| {
        processes::show_parameters(of_instance(operation))
            .response("404", unknown_or_not_found("process"))
    }));
    for (path, verb, summary) in [
        (
            "/ops/processes/{process}/{id}/retry",
            "retry",
            "Tries again what an instance was parked by",
        ),
        (
            "/ops/processes/{process}/{id}/resume",
            "resume",
            "Lets an instance go on that is parked or suspended",
        ),
        (
            "/ops/processes/{process}/{id}/skip",
            "skip",
            "Leaves out the first input that waits, and goes on",
        ),
        (
            "/ops/processes/{process}/{id}/suspend",
            "suspend",
            "Has an instance keep what comes, and react to nothing",
        ),
        (
            "/ops/processes/{process}/{id}/end",
            "end",
            "Ends an instance, and calls its deadlines off",
        ),
    ] {
        let name = format!("{verb}_instance");
        let outcome = told.json::<Outcome>("What was recorded of it.");
        let operation = of_instance(operation(&name, summary))
            .request_body(Some(told.body::<InstanceOrder>()))
            .response("200", outcome)
            .response("404", unknown_or_not_found("process"))
            .response("409", not_so())
            .response("413", response_ref("TooLarge"))
            .response("415", response_ref("UnsupportedMediaType"));
        all.push((path, HttpMethod::Post, operation));
    }
    all
}

/// The refusals of a change of an instance.
fn not_so() -> Response {
    refusal(
        "The instance is not so that it could be done.",
        &[
            "has_ended",
            "nothing_held",
            "not_parked",
            "invalid_settings",
        ],
        &Problem::refused("has_ended", "the process instance has ended"),
    )
}
