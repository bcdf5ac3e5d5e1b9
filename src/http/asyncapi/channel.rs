//! The channels, operations and messages of what is asked, and of what has happened.

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The headers that are not sent over NATS: they are of HTTP's own connections and caches.
const ONLY_HTTP: [&str; 2] = ["If-None-Match", "Accept"];

/// The parts of the document, as far as they have come.
pub(super) struct Described<'a> {
    openapi: &'a Value,
    pub(super) channels: Map<String, Value>,
    pub(super) operations: Map<String, Value>,
    pub(super) messages: Map<String, Value>,
}

/// One kind of request.
pub(super) struct Request {
    /// Its name in the document.
    pub(super) name: String,
    /// Its subject.
    pub(super) address: String,
    /// The meaning of the id in the subject, if there is one.
    pub(super) id: Option<&'static str>,
    /// The path of the same over HTTP, and its method there.
    pub(super) path: String,
    pub(super) method: &'static str,
    /// The queue group of those who answer it.
    pub(super) queue: &'static str,
}

impl<'a> Described<'a> {
    pub(super) fn new(openapi: &'a Value) -> Self {
        Self {
            openapi,
            channels: Map::new(),
            operations: Map::new(),
            messages: Map::new(),
        }
    }

    /// Describes a request, its answer, and its refusals.
    pub(super) fn request(&mut self, request: &Request) {
        let Request { name, .. } = request;
        let operation = &self.openapi["paths"][&request.path][request.method];
        let [answer, refusal] = ["answer", "refusal"].map(|what| format!("{name}.{what}"));
        self.messages
            .insert(name.clone(), self.sent(request, operation));
        self.messages
            .insert(answer.clone(), self.answered(name, operation));
        self.messages
            .insert(refusal.clone(), self.refused(name, operation));

        let mut channel = json!({
            "address": request.address,
            "messages": { "request": message(name) },
        });
        if let Some(id) = request.id {
            channel["parameters"] = json!({ "id": { "description": id } });
        }
        self.channels.insert(name.clone(), channel);
        let answers = json!({
            "address": null,
            "description": "The inbox that the request names.",
            "messages": { "answer": message(&answer), "refusal": message(&refusal) },
        });
        self.channels.insert(answer.clone(), answers);

        let of = |channel: &str, message: &str| json!({ "$ref": format!("#/channels/{channel}/messages/{message}") });
        let mut described = json!({
            "action": "receive",
            "channel": { "$ref": format!("#/channels/{name}") },
            "messages": [of(name, "request")],
            "reply": {
                "channel": { "$ref": format!("#/channels/{answer}") },
                "messages": [of(&answer, "answer"), of(&answer, "refusal")],
            },
            "bindings": { "nats": { "queue": request.queue, "bindingVersion": "0.1.0" } },
        });
        for field in ["summary", "description"] {
            if operation[field].is_string() {
                described[field] = operation[field].clone();
            }
        }
        if let Some(tags) = operation["tags"].as_array() {
            let tags = tags.iter().map(|tag| json!({ "name": tag }));
            described["tags"] = tags.collect();
        }
        if let Some(scope) = operation["security"][0]["bearer"][0].as_str() {
            described["security"] = json!([{ "$ref": "#/components/securitySchemes/bearer" }]);
            described["x-scope"] = scope.into();
        }
        self.operations.insert(name.clone(), described);
    }

    /// The message of a request.
    fn sent(&self, request: &Request, operation: &Value) -> Value {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let parameters: Vec<_> = parameters.map(|it| self.resolved(it)).collect();
        let of = |place: &'static str| {
            let here = parameters.iter().filter(move |it| it["in"] == place);
            here.filter(|it| !ONLY_HTTP.iter().any(|name| it["name"] == *name))
        };
        let mut headers = properties(of("header").copied());
        if operation["security"].is_array() {
            headers["properties"]["Authorization"] = json!({
                "type": "string", "description": "`Bearer <token>`: who asks.",
            });
        }
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        let mut sent = json!({
            "name": request.name,
            "contentType": "application/json",
            "headers": headers,
        });
        if body.is_object() {
            sent["payload"] = body.clone();
        } else if request.id.is_none() {
            let mut query = properties(of("query").copied());
            query["additionalProperties"] = false.into();
            query["description"] = "The parameters; empty for none.".into();
            sent["payload"] = query;
        } else {
            sent["summary"] = "It has no body.".into();
        }
        sent
    }

    fn answered(&self, name: &str, operation: &Value) -> Value {
        let response = self.resolved(&operation["responses"]["200"]);
        let headers = response["headers"].as_object().into_iter().flatten();
        let headers = headers.map(|(name, header)| {
            let header = self.resolved(header);
            let mut schema = header["schema"].clone();
            schema["description"] = header["description"].clone();
            (name.clone(), schema)
        });
        json!({
            "name": format!("{name}.answer"),
            "summary": response["description"],
            "contentType": "application/json",
            "headers": { "type": "object", "properties": headers.collect::<Map<_, _>>() },
            "payload": response["content"]["application/json"]["schema"],
        })
    }

    fn refused(&self, name: &str, operation: &Value) -> Value {
        let responses = operation["responses"].as_object().into_iter().flatten();
        let mut codes = BTreeSet::new();
        for (_, response) in responses {
            let content = &self.resolved(response)["content"]["application/problem+json"];
            collect_codes(&content["schema"], &mut codes);
        }
        let text = |description: &str| json!({ "type": "string", "description": description });
        json!({
            "name": format!("{name}.refusal"),
            "summary": "It is refused, and nothing was done.",
            "contentType": "application/problem+json",
            "headers": {
                "type": "object",
                "required": ["Nats-Service-Error-Code", "Nats-Service-Error"],
                "properties": {
                    "Nats-Service-Error-Code": text("The status, as HTTP's."),
                    "Nats-Service-Error": text("The stable code, and what is wrong."),
                    "Retry-After": text("After how many seconds a retry may work."),
                },
            },
            "payload": {
                "allOf": [
                    { "$ref": "#/components/schemas/Problem" },
                    { "type": "object", "properties": { "code": { "type": "string", "enum": codes } } },
                ],
            },
        })
    }

    /// Describes what has happened to an aggregate.
    pub(super) fn events(&mut self, aggregate: &str) {
        let name = format!("event.{aggregate}");
        let commit = json!({
            "name": name,
            "contentType": "application/cloudevents-batch+json",
            "headers": {
                "type": "object",
                "properties": {
                    "traceparent": { "type": "string", "description": "The trace of the command." },
                },
            },
            "payload": { "$ref": "#/components/schemas/Commit" },
        });
        self.messages.insert(name.clone(), commit);
        let channel = json!({
            "address": format!("evt.{aggregate}.{{id}}"),
            "description": "In the stream EVENTS: to be read by a consumer of it, by whoever may.",
            "parameters": { "id": { "description": "The id of the aggregate." } },
            "messages": { "commit": message(&name) },
        });
        self.channels.insert(name.clone(), channel);
        let operation = json!({
            "action": "send",
            "channel": { "$ref": format!("#/channels/{name}") },
            "messages": [{ "$ref": format!("#/channels/{name}/messages/commit") }],
            "summary": format!("What has happened to one {aggregate}: a message a commit."),
            "tags": [{ "name": format!("{aggregate} events") }],
        });
        self.operations.insert(name, operation);
    }

    /// Follows a reference within the description.
    fn resolved<'v>(&self, value: &'v Value) -> &'v Value
    where
        'a: 'v,
    {
        let reference = value["$ref"].as_str().and_then(|it| it.strip_prefix('#'));
        let found = reference.and_then(|pointer| self.openapi.pointer(pointer));
        found.unwrap_or(value)
    }
}

fn message(name: &str) -> Value {
    json!({ "$ref": format!("#/components/messages/{name}") })
}

/// Parameters of HTTP as the properties of an object.
fn properties<'a>(parameters: impl Iterator<Item = &'a Value>) -> Value {
    let properties = parameters.filter_map(|parameter| {
        let mut schema = parameter["schema"].clone();
        if schema["type"] == "array" {
            // Names with commas between them.
            schema = json!({ "type": "string" });
        }
        schema["description"] = parameter["description"].clone();
        Some((parameter["name"].as_str()?.to_owned(), schema))
    });
    json!({ "type": "object", "properties": properties.collect::<Map<_, _>>() })
}

/// The codes that a problem's schema allows.
fn collect_codes(schema: &Value, codes: &mut BTreeSet<String>) {
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let allowed = part["properties"]["code"]["enum"].as_array();
        let allowed = allowed.into_iter().flatten().filter_map(Value::as_str);
        codes.extend(allowed.map(str::to_owned));
    }
}

/// The schema of a commit: the stored form.
pub(super) fn commit() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "type": "array",
        "description": "The events of one or more commands of an aggregate, stored together (CloudEvents 1.0, batch); none at all changes nothing.",
        "items": {
            "type": "object",
            "required": ["specversion", "source", "id", "type", "time", "commandid"],
            "properties": {
                "specversion": { "type": "string", "enum": ["1.0"] },
                "source": text("The aggregate: `/<aggregate>/<id>`."),
                "id": text("The aggregate's version after the event."),
                "type": text("The full storage name, version and all."),
                "time": { "type": "string", "format": "date-time", "description": "When it was decided." },
                "commandid": text("The id of the command."),
                "commandhash": text("What the command was, where the client chose its key."),
                "callerid": text("Who gave the command, where that is known."),
                "correlationid": text("What all consequences share, where it is not the command's id."),
                "causationid": text("What caused the command, where it is not the command's id."),
                "claims": text("The positions of the claims of unique keys that it decides."),
                "data": { "description": "The event's fields." },
            },
        },
    })
}
