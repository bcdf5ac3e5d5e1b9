//! Commands of the running mart: the same answers on both surfaces, told once, and stored as promised.

use crate::harness::{
    api::{Api, NatsApi, Reply},
    service::{self, Service},
    unique,
};
use futures::{StreamExt, future::join_all};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

fn tea() -> Value {
    json!({"name": "녹차", "price": 4_900, "category": "drink"})
}

async fn nats() -> NatsApi {
    let service = tokio::task::spawn_blocking(service::shared).await.unwrap();
    service.nats().await
}

/// The headers that mean something to a client of commands.
fn told(reply: &Reply) -> BTreeMap<&str, &str> {
    ["content-type", "etag", "headwater-position", "retry-after"]
        .into_iter()
        .map(|name| (name, reply.header(name)))
        .collect()
}

#[tokio::test]
async fn a_replay_and_every_refusal_read_the_same_on_both_surfaces() {
    let [http, nats] = service::both().await;
    let sku = unique("same");
    let key = [("Idempotency-Key", "first")];
    let first = http
        .command_with("product", &sku, "register", tea(), &key)
        .await
        .expect(200);
    let outcome = first.json();
    let position = outcome["position"].as_u64().unwrap();
    assert_eq!(
        outcome,
        json!({
            "aggregate": "product", "id": sku, "version": 1, "position": position,
            "events": [{"type": "product.registered.v1", "version": 1}], "replayed": false
        })
    );
    assert_eq!(first.header("ETag"), "\"1\"");
    assert_eq!(
        first.header("Headwater-Position"),
        format!("product@{position}")
    );

    let stale = [("If-Match", "\"7\"")];
    let bad_key = [("Idempotency-Key", "not a key")];
    let price = |price: Value| json!({ "price": price });
    type Case<'a> = (
        &'a str,
        &'a str,
        Value,
        &'a [(&'a str, &'a str)],
        u16,
        &'a str,
    );
    let cases: [Case; 8] = [
        ("register", "product", tea(), &key, 200, ""),
        (
            "reprice",
            "product",
            price(json!(1)),
            &key,
            409,
            "key_reused",
        ),
        (
            "reprice",
            "product",
            price(json!(0)),
            &[],
            409,
            "invalid_price",
        ),
        (
            "reprice",
            "product",
            price(json!("1")),
            &[],
            400,
            "malformed",
        ),
        (
            "reprice",
            "product",
            price(json!(1)),
            &stale,
            412,
            "version_mismatch",
        ),
        (
            "reprice",
            "product",
            price(json!(1)),
            &bad_key,
            400,
            "malformed",
        ),
        ("boil", "product", json!({}), &[], 404, "unknown_command"),
        ("boil", "teapot", json!({}), &[], 404, "unknown_aggregate"),
    ];
    for (command, aggregate, body, headers, status, code) in cases {
        let replies = join_all([&http, &nats].map(|api| {
            let body = body.clone();
            api.command_with(aggregate, &sku, command, body, headers)
        }))
        .await;
        let [by_http, by_nats] = &replies[..] else {
            unreachable!()
        };
        let what = format!("{aggregate} {command} {body} {headers:?}");
        assert_eq!(by_http.status, status, "{what}: {:?}", by_http.body);
        assert_eq!(by_nats.status, status, "{what}: {:?}", by_nats.body);
        assert_eq!(by_http.json(), by_nats.json(), "{what}");
        assert_eq!(told(by_http), told(by_nats), "{what}");
        if status == 200 {
            assert_eq!(by_nats.json()["replayed"], true);
            continue;
        }
        let problem = by_nats.problem(status, code);
        let said = by_nats.header("Nats-Service-Error");
        assert!(said.starts_with(code), "{what}: {said}");
        assert_eq!(by_nats.header("Content-Type"), "application/problem+json");
        assert_eq!(
            problem.get("version").is_some(),
            code == "version_mismatch",
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_command_that_changes_nothing_is_accepted_without_events() {
    for api in service::both().await {
        let sku = unique("nothing");
        let first = api.command("product", &sku, "register", tea()).await;
        let price = json!({"price": 4_900});
        let same = api
            .command("product", &sku, "reprice", price)
            .await
            .expect(200);
        assert_eq!(same.json()["events"], json!([]));
        assert_eq!(same.json()["version"], 1);
        assert_eq!(same.json()["position"], first.json()["position"]);
        assert_eq!(same.header("ETag"), "\"1\"");
    }
}

#[tokio::test]
async fn if_match_lets_one_version_pass_and_tells_the_right_one() {
    for api in service::both().await {
        let sku = unique("match");
        let new = [("If-Match", "\"0\"")];
        let register = || api.command_with("product", &sku, "register", tea(), &new);
        register().await.expect(200);
        let problem = register().await.problem(412, "version_mismatch");
        assert_eq!(problem["version"], 1);
        assert_eq!(problem["field"], "If-Match");
        let one = [("If-Match", "\"1\"")];
        let reprice = |price: u32| {
            api.command_with("product", &sku, "reprice", json!({"price": price}), &one)
        };
        let (a, b) = futures::join!(reprice(1), reprice(2));
        let mut statuses = [a.status, b.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 412], "one of two that saw the same version");
    }
}

/// Asks all instances of a service on a discovery subject; returns the first answer.
async fn discover(nats: &NatsApi, verb: &str) -> Value {
    let inbox = nats.client.new_inbox();
    let mut answers = nats.client.subscribe(inbox.clone()).await.unwrap();
    let subject = format!("$SRV.{verb}.headwater");
    nats.client
        .publish_with_reply(subject, inbox, "".into())
        .await
        .unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(30), answers.next()).await;
    serde_json::from_slice(&answer.unwrap().unwrap().payload).unwrap()
}

#[tokio::test]
async fn every_command_is_discovered_as_an_endpoint_of_a_nats_service() {
    let nats = nats().await;
    assert_eq!(discover(&nats, "PING").await["name"], "headwater");
    let info = discover(&nats, "INFO").await;
    let endpoints: BTreeMap<&str, &str> = info["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|endpoint| {
            let text = |field: &str| endpoint[field].as_str().unwrap();
            (text("name"), text("subject"))
        })
        .collect();
    // And each kind of aggregate with many commands in a request.
    assert_eq!(endpoints.len(), 29 + 5, "{endpoints:?}");
    assert_eq!(endpoints["order-many"], "cmds.order");
    assert_eq!(endpoints["order_place"], "cmd.order.*.place");
    assert_eq!(endpoints["stock_receive"], "cmd.stock.*.receive");

    let count = async || {
        let stats = discover(&nats, "STATS").await;
        let endpoints = stats["endpoints"].as_array().unwrap().clone();
        let place = endpoints
            .into_iter()
            .find(|endpoint| endpoint["name"] == "order_place");
        place.unwrap()["num_requests"].as_u64().unwrap()
    };
    let before = count().await;
    let order = unique("order");
    let api = Api::Nats(nats.clone());
    api.command("order", &order, "place", json!({}))
        .await
        .problem(400, "malformed");
    assert!(count().await > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_remembered_by_whoever_answers_also_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let start = || Service::dev_in(folder.path(), &["--no-seed"]);
    let key = [("Idempotency-Key", "once")];
    let mut service = start();
    let mut first = None;
    for round in 0..2 {
        let apis = [Api::Http(service.http()), Api::Nats(service.nats().await)];
        for api in &apis {
            let reply = api
                .command_with("product", "tea", "register", tea(), &key)
                .await
                .expect(200);
            let mut outcome = reply.json();
            let replayed = outcome["replayed"].take();
            assert_eq!(replayed, first.is_some(), "round {round}");
            let first = first.get_or_insert_with(|| outcome.clone());
            assert_eq!(&outcome, first);
            api.command_with("product", "tea", "discontinue", json!({}), &key)
                .await
                .problem(409, "key_reused");
            // What came later does not change what the key answers.
            let reprice = json!({"price": 5_000});
            api.command("product", "tea", "reprice", reprice)
                .await
                .expect(200);
        }
        if round == 0 {
            service.signal("KILL");
            service.wait();
            service = start();
        }
    }
}

#[tokio::test]
async fn a_key_sent_many_times_at_once_is_carried_out_once() {
    let apis = service::both().await;
    let stock = format!("branch_{}", unique("sku"));
    let key = [("Idempotency-Key", "delivery-1")];
    let replies = join_all((0..24).map(|n| {
        let body = json!({"quantity": 5});
        apis[n % 2].command_with("stock", &stock, "receive", body, &key)
    }))
    .await;
    let mut fresh = 0;
    for reply in replies {
        let outcome = reply.expect(200).json();
        assert_eq!(outcome["version"], 1);
        fresh += usize::from(outcome["replayed"] == false);
    }
    assert_eq!(fresh, 1);
}

#[tokio::test]
async fn an_email_is_one_members_whatever_its_case_until_it_is_given_up() {
    for api in service::both().await {
        let email = format!("{}@example.com", unique("Claim"));
        let register = |id: String, email: String| {
            let api = api.clone();
            let body = json!({"name": "김하늘", "email": email});
            async move {
                (
                    id.clone(),
                    api.command("member", &id, "register", body).await,
                )
            }
        };
        let cases = [email.to_uppercase(), email.to_lowercase(), email.clone()];
        let tried = join_all((0..12).map(|n| register(unique("m"), cases[n % 3].clone()))).await;
        let mut holders = Vec::new();
        for (id, reply) in tried {
            if reply.status == 200 {
                holders.push(id);
            } else {
                let problem = reply.problem(409, "claim_taken");
                assert_eq!(problem["field"], "member_email");
                // Nothing was appended: the member is not there.
                api.command("member", &id, "withdraw", json!({}))
                    .await
                    .problem(404, "not_found");
            }
        }
        assert_eq!(holders.len(), 1, "exactly one has the address");
        let withdraw = api
            .command("member", &holders[0], "withdraw", json!({}))
            .await;
        withdraw.expect(200);
        let (_, again) = register(unique("m"), email.clone()).await;
        again.expect(200);
        let (_, taken) = register(unique("m"), email).await;
        taken.problem(409, "claim_taken");
    }
}

#[tokio::test]
async fn a_barcode_is_one_products() {
    for api in service::both().await {
        let barcode = format!("{:013}", 2_000_000_000_000 + u64::from(std::process::id()));
        let barcode = format!("{barcode}{}", unique("b").len());
        let register = |sku: String| {
            let mut body = tea();
            body["barcode"] = json!(format!("{barcode}-{}", matches!(api, Api::Http(_))));
            let api = api.clone();
            async move { api.command("product", &sku, "register", body).await }
        };
        let replies = join_all((0..6).map(|_| register(unique("sku")))).await;
        let taken = replies.iter().filter(|reply| reply.status == 409);
        for reply in taken.clone() {
            reply.problem(409, "claim_taken");
        }
        assert_eq!((taken.count(), replies.len()), (5, 6), "{replies:?}");
    }
}

#[tokio::test]
async fn a_commit_is_a_cloudevents_batch_with_all_its_attributes_and_the_trace() {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let context = async_nats::jetstream::new(nats().await.client);
    let log = context.get_stream("EVENTS").await.unwrap();
    for api in service::both().await {
        let id = unique("order");
        let key = unique("key");
        let headers = [
            ("Idempotency-Key", key.as_str()),
            ("traceparent", trace),
            ("tracestate", "mart=1"),
        ];
        let line = json!({"sku": "tea", "quantity": 2, "unit_price": 4_900});
        let body = json!({"member": "m-1", "branch": "gangnam", "lines": [line]});
        let before = jiff::Timestamp::now() - jiff::SignedDuration::from_micros(1);
        let outcome = api
            .command_with("order", &id, "place", body, &headers)
            .await;
        let position = outcome.expect(200).json()["position"].as_u64().unwrap();
        let commit = log.get_raw_message(position).await.unwrap();
        assert_eq!(commit.subject.as_str(), format!("evt.order.{id}"));
        let header = |name: &str| {
            let value = commit.headers.get(name);
            value.map(|value| value.as_str().to_owned())
        };
        assert_eq!(header("traceparent").as_deref(), Some(trace));
        assert_eq!(header("tracestate").as_deref(), Some("mart=1"));
        assert_eq!(
            header("Nats-Expected-Last-Subject-Sequence").as_deref(),
            Some("0")
        );
        // Every byte is stored for ever.
        assert_eq!(commit.headers.len(), 3);

        let batch: Value = serde_json::from_slice(&commit.payload).unwrap();
        let [event] = &batch.as_array().unwrap()[..] else {
            panic!("{batch}");
        };
        let time: jiff::Timestamp = event["time"].as_str().unwrap().parse().unwrap();
        assert!((before..=jiff::Timestamp::now()).contains(&time), "{time}");
        assert_eq!(event["data"]["member"], "m-1");
        let mut rest = event.as_object().unwrap().clone();
        for checked in ["time", "data", "commandhash"] {
            assert!(rest.remove(checked).is_some(), "{checked}");
        }
        assert_eq!(
            Value::Object(rest),
            json!({
                "specversion": "1.0", "source": format!("/order/{id}"), "id": "1",
                "type": "order.placed.v1", "commandid": key
            })
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_the_sample_catalogue_is_found_with_its_names_after_ctrl_c() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    let mut service = Service::dev_in(&folder, &[]);
    let api = Api::Http(service.http());
    let listed = api
        .list("product", json!({"q": "사과", "limit": 1}), &[])
        .await
        .expect(200)
        .json();
    let (sku, product) = (&listed["items"][0]["id"], &listed["items"][0]["document"]);
    let line = json!({"sku": sku, "quantity": 2, "unit_price": product["price"]});
    let body = json!({"member": "m-haneul", "branch": "gangnam", "lines": [line]});
    let placed = api.command("order", "o-1", "place", body).await.expect(200);
    let position = placed.header("Headwater-Position").to_owned();
    let read = async |service: &Service| {
        let headers = [
            ("Headwater-Min-Position", position.as_str()),
            ("Headwater-Max-Wait-Ms", "20000"),
        ];
        let http = Api::Http(service.http());
        let reply = http.document("order", "o-1", &headers).await.expect(200);
        reply.json()
    };
    let first = read(&service).await;
    assert_eq!(first["document"]["member"]["name"], "김하늘");
    assert_eq!(first["document"]["lines"][0]["name"], product["name"]);

    service.signal("INT");
    let status = service.wait();
    let told = service.transcript();
    assert_eq!(status.code(), Some(0), "{told}");
    assert!(!told.contains("ERROR"), "{told}");
    let service = Service::dev_in(&folder, &[]);
    assert_eq!(read(&service).await, first);
}
