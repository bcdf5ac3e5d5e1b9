use super::get;
use crate::{
    access::Access,
    http::{asyncapi, describe, fakes},
};
use serde_json::Value;

fn described() -> Value {
    let (aggregates, views) = (fakes::aggregates(), fakes::views());
    let openapi = describe(&aggregates, &views, &["delivery"], &Access::open());
    asyncapi::describe(&openapi, &aggregates, &views)
}

fn each_reference(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                found(reference);
            }
            members.values().for_each(|it| each_reference(it, found));
        }
        Value::Array(items) => items.iter().for_each(|it| each_reference(it, found)),
        _ => {}
    }
}

#[test]
fn it_is_asyncapi_3_0_and_every_reference_resolves() {
    let document = described();
    assert_eq!(document["asyncapi"], "3.0.0");
    let mut references = 0;
    each_reference(&document, &mut |reference| {
        let pointer = reference.strip_prefix('#').expect("all are local");
        assert!(document.pointer(pointer).is_some(), "{reference}");
        references += 1;
    });
    assert!(references > 40, "{references}");
}

#[test]
fn what_is_asked_over_nats_has_its_subject_its_body_its_answer_and_its_refusals() {
    let document = described();
    let send = &document["operations"]["command.parcel.send"];
    assert_eq!(send["action"], "receive");
    let channel = &document["channels"]["command.parcel.send"];
    assert_eq!(channel["address"], "cmd.parcel.{id}.send");
    let messages = &document["components"]["messages"];
    let request = &messages["command.parcel.send"];
    let reference = request["payload"]["$ref"].as_str().unwrap();
    assert_eq!(reference, "#/components/schemas/parcel.send");
    let headers = &request["headers"]["properties"];
    for header in ["Idempotency-Key", "If-Match"] {
        assert_eq!(headers[header]["type"], "string", "{header}");
    }
    let answered = &messages["command.parcel.send.answer"];
    assert_eq!(answered["payload"]["$ref"], "#/components/schemas/Outcome");
    assert!(answered["headers"]["properties"]["Headwater-Position"].is_object());
    let refused = &messages["command.parcel.send.refusal"]["payload"];
    let codes = refused["allOf"][1]["properties"]["code"]["enum"].as_array();
    let codes = codes.unwrap();
    for code in [
        "malformed",
        "claim_taken",
        "version_mismatch",
        "unavailable",
    ] {
        assert!(codes.iter().any(|it| it == code), "{code}: {codes:?}");
    }

    assert_eq!(
        document["channels"]["view.parcels.get"]["address"],
        "qry.parcels.{id}"
    );
    assert_eq!(
        document["channels"]["view.parcels.list"]["address"],
        "qry.parcels"
    );
    let list = &messages["view.parcels.list"]["payload"];
    assert_eq!(list["additionalProperties"], false);
    assert!(list["properties"]["limit"].is_object(), "{list}");
    assert!(messages["view.parcels.get"]["payload"].is_null());
    let events = &document["operations"]["event.parcel"];
    assert_eq!(events["action"], "send");
}

#[test]
fn who_may_ask_is_said_where_that_is_asked() {
    let document = described();
    assert!(document["operations"]["command.parcel.send"]["security"].is_null());
    assert!(document["components"]["securitySchemes"].is_null());
}

#[actix_web::test]
async fn it_is_served() {
    let answer = get("/asyncapi.json").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.json(), described());
}
