//! Many commands in one request: each as if it had come alone, on both surfaces.

use crate::{
    command_placement::{ids_at, metric, serve, two},
    command_support::{Replica, Tally, TallyCommand, alone, log, logged, options},
    harness::{
        api::{Api, NatsApi, Reply},
        nats::{self, Nats},
        poll::eventually,
        service::Service,
        tokens::{self, Signer, bearer},
        unique,
    },
};
use futures::future::join_all;
use headwater::{
    command::request::{CommandHeaders, CommandRequest, Outcome},
    event_log::{AppendMode, subject::Id},
    membership::Home,
    prelude::Problem,
};
use proptest::{
    collection::vec,
    option::weighted,
    prelude::{Strategy, any, prop_oneof},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::OnceLock, time::Duration};

/// A service of this file's own.
fn service() -> &'static Service {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    SERVICE.get_or_init(|| Service::lasting(&["--no-seed"]))
}

async fn both() -> [Api; 2] {
    let service = tokio::task::spawn_blocking(service).await.unwrap();
    [Api::Http(service.http()), Api::Nats(service.nats().await)]
}

/// Sends a list of commands to products.
async fn many(api: &Api, body: impl Into<Vec<u8>>, headers: &[(&str, &str)]) -> Reply {
    match api {
        Api::Http(http) => http.post("/commands", body.into(), headers).await,
        Api::Nats(nats) => {
            nats.expect("cmds.product".to_owned(), body.into(), headers)
                .await
        }
    }
}

fn command(id: &str, command: &str, fields: Value) -> Value {
    json!({"aggregate": "product", "id": id, "command": command, "fields": fields})
}

fn product() -> Value {
    json!({"name": "one of many", "price": 1, "category": "fruit"})
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_answered_in_its_place_as_if_it_had_come_alone() {
    for api in both().await {
        let (id, other) = (unique("many"), unique("many"));
        let mut list = vec![
            command(&id, "register", product()),
            command(&id, "reprice", json!({"price": 2})),
            command(&other, "reprice", json!({"price": 2})),
            command(&id, "register", product()),
            command(&id, "reprice", json!({"price": "2"})),
            command(&id, "burn", json!({})),
            command(&id, "reprice", json!({"price": 3})),
            command(&id, "reprice", json!({"price": 4})),
            command("a.b", "reprice", json!({"price": 4})),
        ];
        list[1]["key"] = json!(unique("key"));
        list[6]["if_match"] = json!(2);
        list[7]["if_match"] = json!("\"2\"");
        let body = serde_json::to_vec(&list).unwrap();
        let reply = many(&api, body, &[]).await.expect(200);
        let answers = reply.json();
        let of = |number: usize| {
            let answer = &answers[number];
            match answer.get("code") {
                Some(code) => (
                    answer["status"].clone(),
                    code.clone(),
                    answer["field"].clone(),
                ),
                None => (answer["version"].clone(), json!(null), json!(null)),
            }
        };
        let refused = |status: u16, code: &str, field: Value| (json!(status), json!(code), field);
        let accepted = |version: u64| (json!(version), json!(null), json!(null));
        assert_eq!(of(0), accepted(1));
        assert_eq!(of(1), accepted(2));
        assert_eq!(of(2), refused(404, "not_found", json!(null)));
        assert_eq!(of(3), refused(409, "already_registered", json!(null)));
        assert_eq!(of(4), refused(400, "malformed", json!("price")));
        assert_eq!(of(5), refused(404, "unknown_command", json!(null)));
        assert_eq!(of(6), accepted(3));
        assert_eq!(of(7), refused(412, "version_mismatch", json!("If-Match")));
        assert_eq!(of(8), refused(400, "malformed", json!("id")));
        assert_eq!(answers.as_array().unwrap().len(), 9);
        assert_eq!(answers[6]["events"][0]["type"], "product.repriced.v1");
        let position = format!("product@{}", answers[6]["position"]);
        assert_eq!(reply.header("Headwater-Position"), position);
        // What the position is for.
        let fresh = [("Headwater-Min-Position", position.as_str())];
        let document = api.document("product", &id, &fresh).await.expect(200);
        assert_eq!(document.json()["document"]["price"], 3);
        // The key is one, in a list and alone.
        let again = serde_json::to_vec(&[&list[1]]).unwrap();
        let again = many(&api, again, &[]).await.json();
        assert_eq!(
            (&again[0]["version"], &again[0]["replayed"]),
            (&json!(2), &json!(true))
        );
        let key = list[1]["key"].as_str().unwrap();
        let alone = api
            .command_with(
                "product",
                &id,
                "reprice",
                json!({"price": 2}),
                &[("Idempotency-Key", key)],
            )
            .await;
        assert_eq!(alone.expect(200).json(), again[0]);
    }
}

/// The same list is refused, in whole or in part, in the same way.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_list_is_answered_the_same_on_both_surfaces() {
    let one = r#"{"aggregate":"product","id":"bad-1","command":"reprice","fields":{"price":7}}"#;
    let with = |member: &str| {
        one.replace(
            "{\"aggregate\":\"product\"",
            &format!("{{\"aggregate\":\"product\",{member}"),
        )
    };
    let long = "a".repeat(65);
    let deep = "[".repeat(20_000);
    let bodies: Vec<(Vec<u8>, u16)> = [
        ("", 400),
        (" ", 400),
        ("{}", 400),
        ("null", 400),
        ("7", 400),
        ("[", 400),
        ("[{]", 400),
        ("[]]", 400),
        (deep.as_str(), 400),
        ("[]", 200),
        ("[null,7,\"a\",[],{}]", 200),
        (&format!("[{one},"), 400),
        (&format!("[{one},{one}"), 400),
        (&format!("[{}]", vec![one; 1_001].join(",")), 400),
        (&format!("[{}]", with("\"colour\":1")), 200),
        (&format!("[{}]", with("\"id\":\"b\"")), 200),
        (&format!("[{}]", with("\"key\":\"a b\"")), 200),
        (&format!("[{}]", with("\"key\":[]")), 200),
        (&format!("[{}]", with("\"if_match\":\"7\"")), 200),
        (
            &format!("[{}]", with("\"if_match\":18446744073709551616")),
            200,
        ),
        (&format!("[{}]", with("\"if_match\":7")), 200),
        (&format!("[{}]", one.replace("bad-1", "*")), 200),
        (&format!("[{}]", one.replace("bad-1", "live")), 200),
        (&format!("[{}]", one.replace("bad-1", &long)), 200),
        (&format!("[{}]", one.replace("reprice", "Reprice")), 200),
        (&format!("[{}]", one.replace("{\"price\":7}", "null")), 200),
        (&format!("[{}]", one.replace("{\"price\":7}", "[]")), 200),
        (&format!("[{}]", one.replace("{\"price\":7}", "{}")), 200),
        (&format!("[{}]", one.replace("7", "1.5")), 200),
        (&format!("[{}]", one.replace("7", "7,\"price\":8")), 200),
        (
            &format!(
                "[{}]",
                one.replace("7", &format!("\"{}\"", "a".repeat(65_536)))
            ),
            200,
        ),
    ]
    .into_iter()
    .map(|(body, status)| (body.as_bytes().to_vec(), status))
    .chain([(b"[{\"id\":\"\xff\"}]".to_vec(), 400)])
    .collect();
    let [http, nats] = both().await;
    for (body, status) in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(150)]).into_owned();
        let (by_http, by_nats) = (
            many(&http, body.clone(), &[]).await,
            many(&nats, body, &[]).await,
        );
        assert_eq!(
            (by_http.status, by_nats.status),
            (status, status),
            "{shown}: {:?}",
            by_http.body
        );
        assert_eq!(by_http.json(), by_nats.json(), "{shown}");
        if let Some(answers) = by_http.json().as_array() {
            for answer in answers {
                let status = answer["status"].as_u64().unwrap();
                assert!((400..500).contains(&status), "{shown}: {answer}");
            }
        }
    }
    let wrong = [
        ("Idempotency-Key", "a", 400),
        ("If-Match", "\"1\"", 400),
        ("Headwater-Wait", "fulfilment", 400),
        ("Content-Type", "text/plain", 415),
    ];
    for api in [&http, &nats] {
        for (name, value, status) in wrong {
            let reply = many(api, "[]", &[(name, value)]).await;
            assert_eq!(reply.expect(status).json()["field"], name);
        }
    }
    // Each surface has its own way to say which kind of aggregate.
    let other = r#"[{"aggregate":"stock","id":"b_1","command":"receive","fields":{"quantity":1}}]"#;
    let reply = many(&nats, other, &[]).await.expect(200).json();
    assert_eq!(reply[0]["field"], "aggregate");
    let Api::Nats(nats) = nats else {
        unreachable!()
    };
    for subject in ["cmds.basket", "cmds.*", "cmds.Product"] {
        let reply = nats.expect(subject.to_owned(), b"[]".to_vec(), &[]).await;
        reply.problem(404, "unknown_aggregate");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answers_to_the_worst_list_fit_into_a_message() {
    let [_, nats] = both().await;
    let id = "\u{1}".repeat(30);
    let wrong = json!({"id": id, "command": "\u{1}".repeat(90), "fields": {}}).to_string();
    let body = format!("[{}]", vec![wrong; 1_000].join(","));
    assert!(body.len() < 1024 * 1024);
    let reply = many(&nats, body, &[]).await.expect(200);
    let answers = reply.json();
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 1_000);
    assert!(answers.iter().all(|one| one["code"] == "unknown_command"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_tells_of_them() {
    let [_, Api::Nats(nats)] = both().await else {
        unreachable!()
    };
    let info = nats
        .expect("$SRV.INFO.headwater".to_owned(), Vec::new(), &[])
        .await
        .json();
    let endpoints = info["endpoints"].as_array().unwrap();
    let found = endpoints
        .iter()
        .find(|one| one["subject"] == "cmds.product")
        .unwrap();
    assert_eq!(found["name"], "product-many");
    let before = requests(&nats).await;
    many(&Api::Nats(nats.clone()), "[]", &[]).await.expect(200);
    eventually("the request is counted", || async {
        (requests(&nats).await > before).then_some(())
    })
    .await;
}

async fn requests(nats: &NatsApi) -> u64 {
    let stats = nats
        .expect("$SRV.STATS.headwater".to_owned(), Vec::new(), &[])
        .await
        .json();
    let endpoints = stats["endpoints"].as_array().unwrap();
    let found = endpoints
        .iter()
        .find(|one| one["subject"] == "cmds.product");
    found.unwrap()["num_requests"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_may_command_by_command() {
    let (folder, signer, nats) = (
        tempfile::tempdir().unwrap(),
        Signer::new("k-1"),
        Nats::start(),
    );
    let flags = tokens::flags(&tokens::written(folder.path(), &signer));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let service = Service::serve(&nats.url(), &flags);
    let token = |scopes: &str| bearer(&signer.token("m-1", scopes));
    for api in [
        Api::Http(service.http()),
        Api::Nats(NatsApi::connect(&nats.url()).await),
    ] {
        let id = unique("scope");
        let list = json!([
            command(&id, "register", product()),
            command(&id, "reprice", json!({"price": 2})),
        ])
        .to_string();
        // Nothing is looked at of what nobody may send.
        many(&api, "[", &[]).await.problem(401, "unauthenticated");
        let reads = token("qry:* staff");
        let refused = many(&api, "[", &[("Authorization", &reads)]).await;
        assert_eq!(refused.problem(403, "forbidden")["scope"], "cmd:*");
        let registers = token("cmd:product:register staff");
        let answers = many(&api, list.clone(), &[("Authorization", &registers)]).await;
        let answers = answers.expect(200).json();
        assert_eq!(answers[0]["version"], 1, "{answers}");
        assert_eq!(answers[1]["status"], 403);
        assert_eq!(answers[1]["scope"], "cmd:product:reprice");
    }
}

fn adding(id: &str, amount: i64, headers: CommandHeaders) -> CommandRequest {
    CommandRequest {
        aggregate: "tally".into(),
        id: Id::new(id).unwrap(),
        command: "add".into(),
        body: json!({"amount": amount}).to_string().into(),
        headers,
    }
}

/// Each says at which version its aggregate must be: one out of its turn is refused.
#[actix::test]
async fn those_of_one_aggregate_are_decided_in_their_order_wherever_its_home_is() {
    let nats = Nats::start();
    let log = log(&nats, AppendMode::Pipelined).await;
    let (a, b) = two(&nats).await;
    for round in 0..5 {
        let ids: Vec<String> = (0..6).map(|number| format!("t-{round}-{number}")).collect();
        let requests = (0..300).map(|number| {
            let headers = CommandHeaders {
                if_match: Some(number / 6),
                ..CommandHeaders::default()
            };
            adding(&ids[number as usize % 6], number as i64, headers)
        });
        let outcomes = a.client.execute_many(requests).await;
        for (number, outcome) in outcomes.into_iter().enumerate() {
            let outcome = outcome.unwrap_or_else(|problem| panic!("{number}: {problem}"));
            assert_eq!(outcome.version, number as u64 / 6 + 1);
            assert_eq!(*outcome.id, ids[number % 6]);
        }
        for id in &ids {
            assert_eq!(logged(&log, id).await.len(), 50);
        }
    }
    a.stop().await;
    b.stop().await;
}

/// The home takes them and is never heard again: the next one decides them, in their order.
#[actix::test]
async fn the_order_outlives_the_home() {
    use crate::command_placement::keep_ghost_saying;
    let nats = Nats::start();
    let replica = Replica::start(&nats, "a").await;
    let client = nats.client().await;
    let mut heard = client.subscribe("own.ghost.group").await.unwrap();
    client.flush().await.unwrap();
    let grouping = r#"{"replica":"ghost","instance":"none","roles":["command"],"groups":1}"#;
    let beating = keep_ghost_saying(&nats, &replica, grouping).await;
    let ids: Vec<String> = ids_at(&replica, &Home::At("ghost".into()))
        .take(3)
        .collect();
    let requests = (0..90).map(|number| {
        let headers = CommandHeaders {
            if_match: Some(number / 3),
            ..CommandHeaders::default()
        };
        adding(&ids[number as usize % 3], 1, headers)
    });
    let given = replica.client.execute_many(requests);
    let silence = async {
        use futures::StreamExt;
        heard.next().await.unwrap();
        beating.abort();
    };
    let (outcomes, ()) = futures::join!(given, silence);
    for (number, outcome) in outcomes.into_iter().enumerate() {
        let outcome = outcome.unwrap_or_else(|problem| panic!("{number}: {problem}"));
        assert_eq!(outcome.version, number as u64 / 3 + 1);
    }
    replica.stop().await;
}

#[derive(Debug, Clone)]
struct Given {
    id: u8,
    command: TallyCommand,
    key: Option<u8>,
    if_match: Option<u64>,
}

fn given() -> impl Strategy<Value = Given> {
    let command = prop_oneof![
        6 => (1..9_i64).prop_map(|amount| TallyCommand::Add { amount }),
        1 => any::<bool>().prop_map(|_| TallyCommand::Look {}),
        1 => any::<bool>().prop_map(|_| TallyCommand::Fail {}),
        1 => any::<bool>().prop_map(|_| TallyCommand::PanicDeciding {}),
    ];
    (
        0..3_u8,
        command,
        weighted(0.4, 0..5_u8),
        weighted(0.2, 0..6_u64),
    )
        .prop_map(|(id, command, key, if_match)| Given {
            id,
            command,
            key,
            if_match,
        })
}

impl Given {
    fn headers(&self) -> CommandHeaders {
        CommandHeaders {
            idempotency_key: self.key.map(|key| format!("key-{key}").into()),
            if_match: self.if_match,
            ..CommandHeaders::default()
        }
    }
}

/// What must be the same, whatever the ids and positions.
fn seen(outcome: Result<Outcome, Problem>) -> Result<(u64, usize, bool), Problem> {
    outcome.map(|outcome| (outcome.version, outcome.events.len(), outcome.replayed))
}

#[actix::test]
async fn a_list_ends_as_its_commands_would_one_by_one() {
    let nats = tokio::task::spawn_blocking(nats::shared).await.unwrap();
    let client = alone(nats, options()).await;
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    for _ in 0..60 {
        let list = vec(given(), 1..40)
            .new_tree(&mut runner)
            .map(|tree| proptest::strategy::ValueTree::current(&tree))
            .unwrap();
        let (one, other) = (unique("batch"), unique("single"));
        let together = list.iter().map(|given| {
            (
                format!("{one}-{}", given.id),
                given.command.clone(),
                given.headers(),
            )
        });
        let together = client.send_many::<Tally>(together).await;
        let mut each = Vec::new();
        for given in &list {
            let id = format!("{other}-{}", given.id);
            each.push(
                client
                    .send::<Tally>(&id, &given.command, given.headers())
                    .await,
            );
        }
        let together: Vec<_> = together.into_iter().map(seen).collect();
        let each: Vec<_> = each.into_iter().map(seen).collect();
        assert_eq!(together, each, "{list:?}");
    }
}

/// One of three replicas is killed in the middle; what is unavailable is given again with the same keys.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_home_had_is_carried_out_once() {
    let nats = Nats::start();
    let mut replicas: Vec<Service> = (0..3)
        .map(|_| serve(&nats, &["--roles", "command"]))
        .collect();
    for replica in &replicas {
        eventually("all replicas know all", || async {
            (metric(replica, "headwater_members", "").await >= 3.0).then_some(())
        })
        .await;
    }
    let api = NatsApi::connect(&nats.url()).await;
    let lists = (0..40).map(|list| {
        let api = api.clone();
        async move {
            let mut left: BTreeMap<usize, Value> = (0..50)
                .map(|number| {
                    let one = json!({
                        "id": format!("b_{}", (list * 7 + number) % 60), "command": "receive",
                        "key": format!("k-{list}-{number}"), "fields": {"quantity": 1},
                    });
                    (number, one)
                })
                .collect();
            while !left.is_empty() {
                let body: Vec<&Value> = left.values().collect();
                let body = serde_json::to_vec(&body).unwrap();
                // No answer from a replica that was killed with it.
                let request = async_nats::Request::new().payload(body.into());
                let request = request.timeout(Some(Duration::from_secs(15)));
                let Ok(reply) = api.client.send_request("cmds.stock", request).await else {
                    continue;
                };
                let answers: Value = serde_json::from_slice(&reply.payload).unwrap();
                let numbers: Vec<usize> = left.keys().copied().collect();
                for (number, answer) in numbers.iter().zip(answers.as_array().unwrap()) {
                    match answer.get("status") {
                        None => _ = left.remove(number),
                        Some(status) => {
                            assert!([503, 429].contains(&status.as_u64().unwrap()), "{answer}");
                        }
                    }
                }
            }
        }
    });
    let killing = async {
        let victim = replicas.pop().unwrap();
        eventually("it decides", || async {
            let decided = metric(&victim, "headwater_commands_total", "outcome=\"accepted\"").await;
            (decided > 20.0).then_some(())
        })
        .await;
        victim.signal("KILL");
        victim
    };
    let (_, _victim) = futures::join!(join_all(lists), killing);
    let log = log(&nats, AppendMode::Pipelined).await;
    let mut keys = Vec::new();
    for number in 0..60 {
        let subject = format!("evt.stock.b_{number}");
        let last = log.last_message(&subject).await.unwrap().unwrap().position;
        for message in log.messages(&subject, 0, last).await.unwrap() {
            let events: Value = serde_json::from_slice(&message.payload).unwrap();
            let events = events.as_array().unwrap().iter();
            keys.extend(events.map(|event| event["commandid"].as_str().unwrap().to_owned()));
        }
    }
    keys.sort();
    let count = keys.len();
    keys.dedup();
    assert_eq!((keys.len(), count), (2_000, 2_000));
}
