use super::{ask, get};
use crate::{
    access::Access,
    caller::Caller,
    http::{describe, fakes},
};
use actix_web::test::TestRequest;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn described() -> Value {
    describe(
        &fakes::aggregates(),
        &fakes::views(),
        &["delivery"],
        &Access::open(),
    )
}

/// Calls `found` with every object of the document.
fn each(value: &Value, found: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            found(members);
            members.values().for_each(|member| each(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| each(item, found)),
        _ => {}
    }
}

#[test]
fn it_is_openapi_3_1_and_every_reference_resolves() {
    let document = described();
    assert_eq!(document["openapi"], "3.1.0");
    let mut references = 0;
    each(&document, &mut |members| {
        if let Some(Value::String(reference)) = members.get("$ref") {
            let pointer = reference.strip_prefix('#').expect("all are local");
            assert!(document.pointer(pointer).is_some(), "{reference}");
            references += 1;
        }
    });
    assert!(references > 30, "{references}");
}

#[test]
fn every_operation_has_a_name_of_its_own_a_known_tag_and_its_path_parameters() {
    let document = described();
    let tags: BTreeSet<&str> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].as_str().unwrap())
        .collect();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name), "{name} twice");
            assert!(
                tags.contains(operation["tags"][0].as_str().unwrap()),
                "{path}"
            );
            let parameters = operation["parameters"].as_array();
            let in_path = parameters.into_iter().flatten().any(|parameter| {
                let pointer = parameter["$ref"].as_str().map(|reference| &reference[1..]);
                let parameter = pointer.map_or(parameter, |at| document.pointer(at).unwrap());
                parameter["in"] == "path" && parameter["required"] == true
            });
            assert_eq!(in_path, path.contains('{'), "{path}");
        }
    }
    let expected = [
        "command.parcel.recall",
        "command.parcel.send",
        "commands.many",
        "operations.alive",
        "operations.alive.head",
        "operations.metrics",
        "operations.metrics.head",
        "operations.ready",
        "operations.ready.head",
        "process.delivery.list",
        "process.delivery.list.head",
        "process.delivery.show",
        "process.delivery.show.head",
        "view.parcels.follow",
        "view.parcels.follow_list",
        "view.parcels.get",
        "view.parcels.get.head",
        "view.parcels.list",
        "view.parcels.list.head",
    ];
    let (of_operators, others): (BTreeSet<_>, BTreeSet<_>) =
        names.into_iter().partition(|name| name.starts_with("ops."));
    assert_eq!(others, BTreeSet::from(expected));
    assert!(of_operators.contains("ops.overview"), "{of_operators:?}");
}

fn codes(operation: &Value, status: &str) -> Value {
    let response = &operation["responses"][status];
    response["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]["code"]
        ["enum"]
        .clone()
}

#[test]
fn a_command_says_its_body_and_every_refusal() {
    let document = described();
    let send = &document["paths"]["/commands/parcel/{id}/send"]["post"];
    assert_eq!(send["summary"], "Sends the parcel.");
    assert_eq!(send["description"], "It can be sent once.");
    let body = &document["components"]["schemas"]["parcel.send"];
    assert_eq!(body["additionalProperties"], false);
    assert_eq!(body["required"], json!(["to", "grams"]));
    assert_eq!(body["properties"]["grams"]["maximum"], 30_000);
    assert_eq!(
        codes(send, "409"),
        json!(["already_sent", "claim_taken", "key_reused"])
    );
    assert_eq!(send["responses"].get("404"), None);
    let recall = &document["paths"]["/commands/parcel/{id}/recall"]["post"];
    assert_eq!(codes(recall, "404"), json!(["not_found"]));
    assert_eq!(
        codes(recall, "409"),
        json!(["delivered", "claim_taken", "key_reused"])
    );
    for status in ["200", "400", "412", "413", "415", "429", "500", "503"] {
        assert!(recall["responses"].get(status).is_some(), "{status}");
    }
    let headers = &recall["responses"]["200"]["headers"];
    assert!(headers.get("ETag").is_some() && headers.get("Headwater-Position").is_some());
}

#[test]
fn a_list_says_its_parameters_and_their_types() {
    let document = described();
    let list = &document["paths"]["/views/parcels"]["get"];
    let parameters: Vec<(String, Value)> = list["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|parameter| parameter["in"] == "query")
        .map(|parameter| {
            let name = parameter["name"].as_str().unwrap().to_owned();
            (name, parameter["schema"]["type"].clone())
        })
        .collect();
    let expected = [
        ("street", "string"),
        ("grams_min", "integer"),
        ("fragile", "boolean"),
        ("q", "string"),
        ("sort", "string"),
        ("limit", "integer"),
        ("count", "boolean"),
        ("facets", "array"),
        ("cursor", "string"),
    ];
    let expected = expected.map(|(name, kind)| (name.to_owned(), json!(kind)));
    assert_eq!(parameters, expected);
    let get = &document["paths"]["/views/parcels/{id}"]["get"];
    for status in ["200", "304", "400", "404", "429", "503", "504"] {
        assert!(get["responses"].get(status).is_some(), "{status}");
    }
    let page = &document["components"]["schemas"]["parcels.view.page"];
    for (name, kind) in [("count", "integer"), ("count_capped", "boolean")] {
        assert_eq!(page["properties"][name]["type"], kind);
    }
    for (operation, status) in [(list, "200"), (list, "304"), (get, "200"), (get, "304")] {
        let headers = &operation["responses"][status]["headers"];
        for name in [
            "ETag",
            "Headwater-Applied",
            "Headwater-Lag-Ms",
            "Headwater-Parked",
        ] {
            assert!(headers.get(name).is_some(), "{name} of {status}");
        }
    }
}

#[test]
fn a_header_says_by_its_pattern_what_is_taken() {
    use crate::{command::request::CommandHeaders, read_model::Freshness};
    let document = described();
    let example = |name: &str| {
        let schema = &document["components"]["parameters"][name]["schema"];
        assert!(
            schema["pattern"].is_string() && schema["minLength"].is_u64(),
            "{name}"
        );
        schema["examples"][0].as_str().unwrap().to_owned()
    };
    let mut headers = actix_web::http::header::HeaderMap::new();
    for (parameter, name) in [
        ("IdempotencyKey", "idempotency-key"),
        ("IfMatch", "if-match"),
        ("MinPosition", "headwater-min-position"),
    ] {
        let name = actix_web::http::header::HeaderName::from_static(name);
        headers.insert(name, example(parameter).parse().unwrap());
    }
    assert!(
        CommandHeaders::read(&headers, Caller::default())
            .unwrap()
            .if_match
            .is_some()
    );
    assert!(
        !Freshness::read(&headers, Caller::default())
            .unwrap()
            .min_positions
            .is_empty()
    );
}

#[actix_web::test]
async fn it_is_served_and_can_be_kept() {
    let answer = get("/openapi.json").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), described());
    let tag = answer.header("ETag").unwrap();
    let again = TestRequest::get()
        .uri("/openapi.json")
        .insert_header(("If-None-Match", tag));
    let answer = ask(&fakes::Fakes::content(), again).await;
    assert_eq!(answer.status, 304);
}
