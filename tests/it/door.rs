//! Both surfaces read and refuse the same input in the same way, and an answer goes to an inbox alone.

use crate::harness::{
    api::{Api, Http, NatsApi},
    metrics::Metrics,
    poll::eventually,
    service::{Service, both},
    unique,
};
use futures::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;

const PRODUCT: &str = r#"{"name":"사과","price":4900,"category":"fruit"}"#;

/// Gives a command whose body is sent as it is written here.
async fn give(api: &Api, path: [&str; 3], body: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let [aggregate, id, command] = path;
    let reply = match api {
        Api::Http(http) => {
            let path = format!("/commands/{aggregate}/{id}/{command}");
            http.post(&path, body.to_owned(), headers).await
        }
        Api::Nats(nats) => {
            let subject = format!("cmd.{aggregate}.{id}.{command}");
            nats.request(subject, body.into(), headers).await.unwrap()
        }
    };
    let json = reply.json();
    let told = match reply.status {
        200 => json["replayed"].to_string(),
        _ => json["field"].as_str().unwrap_or_default().to_owned(),
    };
    (reply.status, told)
}

fn field(name: &str) -> (u16, String) {
    (400, name.to_owned())
}

#[tokio::test]
async fn a_header_counts_in_any_case() {
    for api in both().await {
        for name in ["idempotency-key", "IDEMPOTENCY-KEY", "Idempotency-key"] {
            let sku = unique("case");
            let register = ["product", &sku, "register"];
            let key = [(name, "k-1")];
            let first = give(&api, register, PRODUCT, &key).await;
            assert_eq!(first, (200, "false".into()), "{name}");
            let again = give(&api, register, PRODUCT, &key).await;
            assert_eq!(again, (200, "true".into()), "{name}");

            let stale = [("if-match", "\"999\"")];
            let stale = give(&api, ["product", &sku, "discontinue"], "{}", &stale).await;
            assert_eq!(stale, (412, "If-Match".into()));

            let far = format!("product@{}", i64::MAX);
            let late = [
                ("headwater-min-position", &*far),
                ("HEADWATER-MAX-WAIT-MS", "20"),
            ];
            let late = api.document("product", &sku, &late).await;
            late.problem(504, "not_yet_applied");
            assert_ne!(late.header("Retry-After"), "");
            if let Api::Nats(_) = api {
                let words = late.header("Nats-Service-Error");
                assert!(words.starts_with("not_yet_applied: "), "{words}");
            }
            let wrong = [("content-TYPE", "text/plain")];
            let wrong = give(&api, register, PRODUCT, &wrong).await;
            assert_eq!(wrong, (415, "Content-Type".into()));
        }
    }
}

#[tokio::test]
async fn a_header_given_twice_is_named() {
    for api in both().await {
        let sku = unique("twice");
        let register = ["product", &*sku, "register"];
        for (name, value) in [
            ("Idempotency-Key", "k-1"),
            ("If-Match", "\"0\""),
            ("Content-Type", "application/json"),
        ] {
            let lower = name.to_ascii_lowercase();
            for other in [name, &lower] {
                let twice = [(name, value), (other, value)];
                let refused = give(&api, register, PRODUCT, &twice).await;
                assert_eq!(refused, field(name), "{twice:?}");
            }
        }
        for (name, value) in [
            ("Headwater-Min-Position", "product@1"),
            ("Headwater-Max-Wait-Ms", "10"),
        ] {
            let lower = name.to_ascii_lowercase();
            for other in [name, &lower] {
                let twice = [(name, value), (other, value)];
                let document = api.document("product", &sku, &twice).await;
                assert_eq!(document.problem(400, "malformed")["field"], name);
                let list = api.list("product", json!({}), &twice).await;
                assert_eq!(list.problem(400, "malformed")["field"], name);
            }
        }
        // Trace Context is never refused.
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let traces = [
            ("traceparent", parent),
            ("Traceparent", parent),
            ("tracestate", "a=1"),
            ("tracestate", "b=2"),
        ];
        let accepted = give(&api, register, PRODUCT, &traces).await;
        assert_eq!(accepted, (200, "false".into()));
    }
}

#[tokio::test]
async fn a_field_or_a_parameter_given_twice_is_named() {
    for api in both().await {
        let order = unique("twice");
        let place = |line: &str| format!(r#"{{"member":"m","branch":"b","lines":[{line}]}}"#);
        for (body, named) in [
            (
                place(r#"{"sku":"a","sku":"b","quantity":1,"unit_price":1}"#),
                "lines[0].sku",
            ),
            (
                place(r#"{"sku":"a","quantity":1,"quantit\u0079":2,"unit_price":1}"#),
                "lines[0].quantity",
            ),
            (
                r#"{"member":"m","branch":"b","lines":[],"lines":[]}"#.to_owned(),
                "lines",
            ),
        ] {
            let refused = give(&api, ["order", &order, "place"], &body, &[]).await;
            assert_eq!(refused, field(named), "{body}");
        }
        let refused = match &api {
            Api::Http(http) => http.get("/views/product?limit=1&limit=2", &[]).await,
            Api::Nats(nats) => {
                let body = r#"{"limit":1,"limit":2}"#;
                let asked = nats.request("qry.product".to_owned(), body.into(), &[]);
                asked.await.unwrap()
            }
        };
        assert_eq!(refused.problem(400, "malformed")["field"], "limit");
    }
}

#[tokio::test]
async fn a_command_is_the_same_however_it_is_written() {
    for api in both().await {
        let sku = unique("same");
        let register = ["product", &*sku, "register"];
        let key = [("Idempotency-Key", "k-1")];
        let first = give(&api, register, PRODUCT, &key).await;
        assert_eq!(first, (200, "false".into()));
        for same in [
            r#"{"name":"사과","name_en":null,"price":4900,"category":"fruit"}"#,
            r#"{ "category":"fruit" , "price":4900, "name":"사과" }"#,
            r#"{"name":"\uc0ac\uacfc","price":4900,"c\u0061tegory":"fruit","unit":null}"#,
        ] {
            let again = give(&api, register, same, &key).await;
            assert_eq!(again, (200, "true".into()), "{same}");
        }
        let other = PRODUCT.replace("4900", "4901");
        let other = give(&api, register, &other, &key).await;
        assert_eq!(other, (409, "Idempotency-Key".into()));
    }
}

#[tokio::test]
async fn a_field_with_a_very_long_name_is_refused_and_shown_in_part() {
    for api in both().await {
        let product = unique("long");
        for name in ["x".repeat(65_500), "사".repeat(21_800)] {
            for (body, fields) in [
                (format!(r#"{{"{name}":1}}"#), 1),
                (
                    format!(r#"{{"{0}":1,"{0}":1}}"#, &name[..name.len() / 6 * 3]),
                    2,
                ),
            ] {
                let path = ["product", &product, "register"];
                let (status, named) = give(&api, path, &body, &[]).await;
                assert_eq!(status, 400, "{fields}");
                assert!(named.len() < 300, "{fields}: {}", named.len());
            }
        }
        if let Api::Nats(nats) = &api {
            let body = format!(r#"{{"{}":1}}"#, "y".repeat(16_000));
            let asked = nats.request("qry.product".to_owned(), body.into(), &[]);
            let refused = asked.await.unwrap();
            refused.problem(400, "malformed");
            assert!(refused.header("Nats-Service-Error").len() < 1_000);
        }
    }
}

/// How many messages EVENTS and the bucket of snapshots have ever had.
async fn written(nats: &NatsApi) -> [u64; 2] {
    let context = async_nats::jetstream::new(nats.client.clone());
    let mut written = [0; 2];
    for (stream, last) in ["EVENTS", "KV_snapshots"].into_iter().zip(&mut written) {
        let stream = context.get_stream(stream).await.unwrap();
        *last = stream.cached_info().state.last_sequence;
    }
    written
}

async fn refused_replies(http: &Http) -> f64 {
    let metrics = Metrics::of(http).await;
    metrics.sum("headwater_replies_refused_total", "")
}

#[tokio::test]
async fn what_asks_for_an_answer_elsewhere_than_in_an_inbox_is_not_carried_out() {
    let service = tokio::task::spawn_blocking(|| {
        Service::dev(&["--no-seed", "--inbox-prefix", "shop.answers,_other"])
    });
    let service = service.await.unwrap();
    let (nats, http) = (service.nats().await, service.http());
    let before = written(&nats).await;
    let mut refused = refused_replies(&http).await;

    let mut elsewhere = nats.client.subscribe("elsewhere.>").await.unwrap();
    for reply in [
        "evt.order.o-1",
        "claim.x",
        "$KV.snapshots.product.p1",
        "cmd.product.p-2.discontinue",
        "own.x.product.p-2.discontinue",
        "elsewhere.x",
        "_INBOX",
        "_INBOXES.x",
        "shop.answersx.y",
        "shop",
    ] {
        for (subject, body, services) in [
            ("cmd.product.p-1.register", PRODUCT, 1.0),
            ("cmd.product.p-1.burn", "{}", 1.0),
            ("qry.product", "", 1.0),
            ("qry.product.p-1", "", 1.0),
            ("$SRV.PING", "", 2.0),
            ("$SRV.INFO.headwater-queries", "", 1.0),
            ("ctl.projector.all.all.status", "", 1.0),
        ] {
            let sent = nats
                .client
                .publish_with_reply(subject, reply, body.to_owned().into());
            sent.await.unwrap();
            refused += services;
        }
    }
    eventually("every one is refused", || async {
        (refused_replies(&http).await == refused).then_some(())
    })
    .await;
    assert_eq!(written(&nats).await, before);

    // The same with an inbox, and with none, is carried out.
    for reply in ["shop.answers.1", "_other.x.y"] {
        let mut answers = nats.client.subscribe(reply).await.unwrap();
        let sent = nats
            .client
            .publish_with_reply("qry.product.p-1", reply, "".into());
        sent.await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(30), answers.next()).await;
        assert!(answer.unwrap().is_some(), "{reply}");
    }
    let subject = "cmd.product.p-1.register";
    nats.client.publish(subject, PRODUCT.into()).await.unwrap();
    eventually("a command without a caller is carried out", || async {
        (written(&nats).await[0] > before[0]).then_some(())
    })
    .await;
    let api = Api::Nats(nats.clone());
    let line = json!({"sku": "a", "quantity": 1, "unit_price": 1});
    let order = json!({"member": "m", "branch": "b", "lines": [line]});
    api.command("order", "o-1", "place", order)
        .await
        .expect(200);
    // Nothing has come there: it would have come before the answer to what was asked later.
    nats.client.flush().await.unwrap();
    let nothing = futures::FutureExt::now_or_never(elsewhere.next());
    assert!(nothing.is_none(), "{nothing:?}");
}

#[tokio::test]
async fn a_body_that_is_no_object_is_refused_in_the_same_words_on_both_surfaces() {
    let [first, second] = both().await;
    let sku = unique("empty");
    for (path, body) in [
        (["product", &sku, "register"], ""),
        (["product", &sku, "discontinue"], ""),
        (["product", &sku, "none_such"], ""),
        (["basket", &sku, "register"], ""),
        (["product", &sku, "register"], " "),
        (["product", &sku, "register"], "{"),
        (["product", &sku, "register"], "null"),
        (["product", &sku, "register"], "[]"),
    ] {
        let told = refusal(&first, path, body).await;
        assert_eq!(
            told,
            refusal(&second, path, body).await,
            "{path:?} {body:?}"
        );
        if path[0] == "product" && path[2] != "none_such" {
            assert_eq!(
                (&told["code"], &told["field"]),
                (&json!("malformed"), &json!("body"))
            );
        }
    }
}

/// The whole of what a command with this body is refused with.
async fn refusal(api: &Api, [aggregate, id, command]: [&str; 3], body: &str) -> Value {
    let reply = match api {
        Api::Http(http) => {
            let path = format!("/commands/{aggregate}/{id}/{command}");
            http.post(&path, body.to_owned(), &[]).await
        }
        Api::Nats(nats) => {
            let subject = format!("cmd.{aggregate}.{id}.{command}");
            nats.request(subject, body.into(), &[]).await.unwrap()
        }
    };
    assert_ne!(reply.status, 200, "{reply:?}");
    reply.json()
}
