//! Streams as an operator sees and changes them, behind the program's back.

use async_nats::Client;
use serde_json::Value;

/// Asks the JetStream API, and panics with its error.
pub async fn ask(client: &Client, what: &str, body: Value) -> Value {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let reply = client
        .request(format!("$JS.API.{what}"), body.into())
        .await
        .unwrap();
    let reply: Value = serde_json::from_slice(&reply.payload).unwrap();
    assert!(reply.get("error").is_none(), "{what}: {reply}");
    reply
}

/// A stream's settings.
pub async fn stream_config(client: &Client, stream: &str) -> Value {
    ask(client, &format!("STREAM.INFO.{stream}"), Value::Null).await["config"].take()
}

/// Changes some settings of a stream.
pub async fn change_stream(client: &Client, stream: &str, settings: Value) {
    let mut config = stream_config(client, stream).await;
    for (field, value) in settings.as_object().unwrap() {
        config[field] = value.clone();
    }
    ask(client, &format!("STREAM.UPDATE.{stream}"), config).await;
}
