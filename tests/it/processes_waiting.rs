//! A caller waits for the process that its command has started, and operators look at its instances.

use crate::{
    harness::{
        api::{Api, NatsApi, Reply},
        nats::Nats,
        poll::eventually,
        replica::Replica,
        tokens::{self, Signer, bearer},
    },
    processes::{Mart, order},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const WAIT: (&str, &str) = ("Headwater-Wait", "fulfilment");
const LONG: (&str, &str) = ("Headwater-Max-Wait-Ms", "30000");

/// Each surface of the mart.
async fn surfaces(mart: &mut Mart) -> [Api; 2] {
    [Api::Http(mart.replica.service().http()), mart.api.clone()]
}

async fn place(api: &Api, id: &str, lines: &[(&str, i64, i64)], more: &[(&str, &str)]) -> Reply {
    api.command_with("order", id, "place", order(lines), more)
        .await
}

/// What the log has of an order.
async fn types(mart: &Mart, id: &str) -> Vec<String> {
    let log = mart.rest().await;
    crate::processes::types(&log, &format!("order.{id}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_answered_when_the_order_is_settled() {
    let mut mart = Mart::open(&[]).await;
    for (number, api) in surfaces(&mut mart).await.iter().enumerate() {
        let (good, bad) = (format!("good-{number}"), format!("bad-{number}"));
        let lines = [("apple", 1, 4_900), ("tofu", 1, 1_800)];
        let placed = place(api, &good, &lines, &[WAIT, LONG]).await.expect(200);
        let expected = format!("fulfilment/{good} waiting");
        assert_eq!(placed.header("Headwater-Process"), expected);
        assert_eq!(placed.header("Headwater-Status"), "");
        assert_eq!(placed.json()["events"][0]["type"], "order.placed.v1");
        assert!(placed.header("Headwater-Position").starts_with("order@"));
        // What was waited for is there at once, without asking again.
        assert_eq!(
            types(&mart, &good).await,
            ["order.placed.v1", "order.confirmed.v1"]
        );

        let lines = [("apple", 1, 4_900), ("tofu", 99, 1_800)];
        let placed = place(api, &bad, &lines, &[WAIT, LONG]).await.expect(200);
        let expected = format!("fulfilment/{bad} ended");
        assert_eq!(placed.header("Headwater-Process"), expected);
        assert_eq!(
            types(&mart, &bad).await,
            ["order.placed.v1", "order.rejected.v1"]
        );

        // A command later in the story waits for what follows from it.
        let body = json!({ "reason": "changed my mind" });
        let cancelled = api
            .command_with("order", &good, "cancel", body, &[WAIT, LONG])
            .await
            .expect(200);
        let expected = format!("fulfilment/{good} ended");
        assert_eq!(cancelled.header("Headwater-Process"), expected);
    }
    mart.rest().await.assert_stocks();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cannot_wait_is_told_so_before_anything_is_done() {
    let mut mart = Mart::open(&[]).await;
    for (number, api) in surfaces(&mut mart).await.iter().enumerate() {
        let id = format!("o-{number}");
        let lines = [("apple", 1, 4_900)];
        for (headers, field) in [
            (vec![("Headwater-Wait", "order")], "Headwater-Wait"),
            (vec![("Headwater-Wait", "")], "Headwater-Wait"),
            (
                vec![WAIT, ("Headwater-Max-Wait-Ms", "30001")],
                "Headwater-Max-Wait-Ms",
            ),
            (
                vec![WAIT, ("Headwater-Max-Wait-Ms", "soon")],
                "Headwater-Max-Wait-Ms",
            ),
        ] {
            let problem = place(api, &id, &lines, &headers).await;
            let problem = problem.problem(400, "malformed");
            assert_eq!(problem["field"], field, "{problem}");
        }
        // A refused command is answered as ever, and at once.
        let refused = api
            .command_with("order", &id, "confirm", json!({}), &[WAIT, LONG])
            .await;
        refused.problem(404, "not_found");
        assert_eq!(refused.header("Headwater-Process"), "");
        // What starts no process does not wait.
        let product = json!({ "name": "pear", "price": 1, "category": "food" });
        let registered = api
            .command_with(
                "product",
                &format!("pear-{number}"),
                "register",
                product,
                &[WAIT, LONG],
            )
            .await
            .expect(200);
        assert_eq!(registered.header("Headwater-Process"), "");
        // Nor what changes nothing.
        let check = json!({ "unit_price": 4_900 });
        let checked = api
            .command_with("product", "apple", "check", check, &[WAIT, LONG])
            .await
            .expect(200);
        assert_eq!(checked.header("Headwater-Process"), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_answered_at_the_bound_and_may_wait_again_with_the_key() {
    let nats = Nats::start();
    // Nobody runs the process yet.
    let mut bare = Replica::of(&nats.url(), &["--roles", "command,projector,gateway"]);
    let apis = [
        Api::Http(bare.service().http()),
        Api::Nats(NatsApi::connect(&nats.url()).await),
    ];
    let bound = ("Headwater-Max-Wait-Ms", "50");
    for (number, api) in apis.iter().enumerate() {
        let (id, key) = (format!("o-{number}"), format!("key-{number}"));
        let headers = [WAIT, bound, ("Idempotency-Key", key.as_str())];
        let late = place(api, &id, &[("pear", 1, 100)], &headers).await;
        let status = match api {
            Api::Http(_) => late.status.to_string(),
            Api::Nats(_) => late.header("Headwater-Status").to_owned(),
        };
        assert_eq!(status, "202", "{late:?}");
        assert_eq!(late.json()["version"], 1);
    }
    let _process = Replica::of(&nats.url(), &["--roles", "process"]);
    for (number, api) in apis.iter().enumerate() {
        // These were placed before there was the process, so that nothing is started by them.
        let key = format!("key-{number}");
        let headers = [WAIT, LONG, ("Idempotency-Key", key.as_str())];
        let id = format!("o-{number}");
        let again = place(api, &id, &[("pear", 1, 100)], &headers).await;
        let again = again.expect(200);
        assert_eq!(again.json()["replayed"], true);
        // The home of what comes is another replica than the one that runs the process.
        let id = format!("later-{number}");
        let placed = place(api, &id, &[("pear", 1, 100)], &[WAIT, LONG]).await;
        let placed = placed.expect(200);
        let expected = format!("fulfilment/{id} ended");
        assert_eq!(placed.header("Headwater-Process"), expected);
        let key = format!("later-key-{number}");
        let headers = [
            WAIT,
            ("Headwater-Max-Wait-Ms", "0"),
            ("Idempotency-Key", key.as_str()),
        ];
        let id = format!("again-{number}");
        let first = place(api, &id, &[("pear", 1, 100)], &headers).await;
        assert!(matches!(first.status, 200 | 202));
        let headers = [WAIT, LONG, ("Idempotency-Key", key.as_str())];
        let second = place(api, &id, &[("pear", 1, 100)], &headers).await;
        let second = second.expect(200);
        assert_eq!(second.json()["replayed"], true);
        let expected = format!("fulfilment/{id} ended");
        assert_eq!(second.header("Headwater-Process"), expected);
    }
}

async fn get(mart: &mut Mart, path: &str) -> Reply {
    mart.replica.service().http().get(path, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_instances_of_a_process_are_listed_page_by_page_and_shown_with_their_steps() {
    let mut mart = Mart::open(&[]).await;
    let api = mart.api.clone();
    for number in 0..5 {
        let id = format!("o-{number}");
        place(&api, &id, &[("apple", 1, 4_900)], &[WAIT, LONG])
            .await
            .expect(200);
    }
    place(&api, "o-9", &[("pear", 1, 100)], &[WAIT, LONG])
        .await
        .expect(200);
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let path = format!("/processes/fulfilment?status=waiting&limit=2{cursor}");
        let page = get(&mut mart, &path).await.expect(200).json();
        pages += 1;
        for item in page["items"].as_array().unwrap() {
            assert_eq!(item["status"], "waiting", "{item}");
            assert_eq!(item["deadlines"][0]["name"], "payment", "{item}");
            seen.push(item["id"].as_str().unwrap().to_owned());
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(
        (pages, seen),
        (
            3,
            vec!["o-0", "o-1", "o-2", "o-3", "o-4"]
                .into_iter()
                .map(str::to_owned)
                .collect()
        )
    );
    let ended = get(&mut mart, "/processes/fulfilment?status=ended")
        .await
        .expect(200)
        .json();
    assert_eq!(ended["items"].as_array().unwrap().len(), 1);
    assert_eq!(ended["items"][0]["id"], "o-9");
    let all = get(&mut mart, "/processes/fulfilment")
        .await
        .expect(200)
        .json();
    assert_eq!(all["items"].as_array().unwrap().len(), 6);

    let shown = get(&mut mart, "/processes/fulfilment/o-1")
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&shown["process"], &shown["id"]),
        (&json!("fulfilment"), &json!("o-1"))
    );
    assert_eq!(shown["status"], "waiting");
    assert_eq!(shown["deadlines"][0]["name"], "payment");
    let steps = shown["steps"].as_array().unwrap();
    assert_eq!(steps[0]["input"]["event"]["type"], "order.placed.v1");
    assert_eq!(steps[0]["facts"][0]["type"], "fulfilment.began.v1");
    let sent = &steps[0]["commands"][0];
    assert_eq!(
        (&sent["aggregate"], &sent["command"]),
        (&json!("product"), &json!("check"))
    );
    assert_eq!(sent["outcome"]["status"], "accepted");
    let commands: Vec<&Value> = steps
        .iter()
        .flat_map(|step| step["commands"].as_array().unwrap())
        .collect();
    assert_eq!(commands.len(), 3);
    let refused = get(&mut mart, "/processes/fulfilment/o-9")
        .await
        .expect(200)
        .json();
    let refused = &refused["steps"][0]["commands"][0]["outcome"];
    assert_eq!(
        (&refused["status"], &refused["code"]),
        (&json!("refused"), &json!("not_found"))
    );

    // Record by record.
    let (mut versions, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/processes/fulfilment/o-1?limit=1{cursor}");
        let page = get(&mut mart, &path).await.expect(200).json();
        let page_steps = page["steps"].as_array().unwrap();
        versions.extend(page_steps.iter().map(|step| step["version"].clone()));
        if page["next"].is_null() {
            break;
        }
        cursor = format!("&cursor={}", page["next"]);
    }
    let whole: Vec<_> = steps.iter().map(|step| step["version"].clone()).collect();
    assert_eq!(versions, whole);

    for (path, status, code) in [
        ("/processes/nothing", 404, "unknown_process"),
        ("/processes/nothing/o-1", 404, "unknown_process"),
        ("/processes/fulfilment/o-77", 404, "not_found"),
        ("/processes/fulfilment/a.b", 400, "malformed"),
        ("/processes/fulfilment/", 400, "malformed"),
        ("/processes/fulfilment?status=lost", 400, "malformed"),
        ("/processes/fulfilment?limit=0", 400, "malformed"),
        ("/processes/fulfilment?limit=201", 400, "malformed"),
        ("/processes/fulfilment?cursor=a.b", 400, "malformed"),
        ("/processes/fulfilment?state=parked", 400, "malformed"),
        ("/processes/fulfilment/o-1?cursor=x", 400, "malformed"),
    ] {
        get(&mut mart, path).await.problem(status, code);
    }
    let described = get(&mut mart, "/openapi.json").await.expect(200).json();
    for path in ["/processes/fulfilment", "/processes/fulfilment/{id}"] {
        assert!(described["paths"][path]["get"].is_object(), "{path}");
    }
    let place = &described["paths"]["/commands/order/{id}/place"]["post"];
    assert!(place["responses"]["202"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_look_sees_instances_but_anybody_waits_for_their_own() {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new("k-1"));
    let nats = Nats::start();
    let flags = tokens::flags(&tokens::written(folder.path(), &signer));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let more = [
        &["--roles", "command,projector,gateway,process"][..],
        &flags,
    ]
    .concat();
    let mut replica = Replica::of(&nats.url(), &more);
    let http = replica.service().http();
    let shopper = bearer(&signer.token("m-1", "cmd:* qry:*"));
    let operator = bearer(&signer.token("op-1", "ops:read"));
    let lines = serde_json::to_vec(&order(&[("pear", 1, 100)])).unwrap();
    let headers = [("Authorization", shopper.as_str()), WAIT, LONG];
    let placed = http
        .post("/commands/order/o-1/place", lines, &headers)
        .await;
    let placed = placed.expect(200);
    assert_eq!(placed.header("Headwater-Process"), "fulfilment/o-1 ended");
    for path in ["/processes/fulfilment", "/processes/fulfilment/o-1"] {
        http.get(path, &[]).await.problem(401, "unauthenticated");
        let headers = [("Authorization", shopper.as_str())];
        http.get(path, &headers).await.problem(403, "forbidden");
        let headers = [("Authorization", operator.as_str())];
        http.get(path, &headers).await.expect(200);
    }
    http.get("/processes/nothing", &[])
        .await
        .problem(401, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_wait_at_once_and_are_all_answered() {
    let mut mart = Mart::open(&[]).await;
    mart.give(
        "stock",
        "gangnam_apple",
        "receive",
        json!({ "quantity": 1_000 }),
    )
    .await;
    let [http, nats] = surfaces(&mut mart).await;
    let waiting = (0..60).map(|number| {
        let api = [&http, &nats][number % 2].clone();
        tokio::spawn(async move {
            let id = format!("o-{number}");
            let placed = place(&api, &id, &[("apple", 1, 4_900)], &[WAIT, LONG]).await;
            placed.expect(200).header("Headwater-Process").to_owned()
        })
    });
    let mut told = BTreeSet::new();
    for one in waiting.collect::<Vec<_>>() {
        told.insert(one.await.unwrap());
    }
    let expected = (0..60).map(|number| format!("fulfilment/o-{number} waiting"));
    assert_eq!(told, expected.collect());
    let http = mart.replica.service().http();
    eventually("all are listed", async || {
        let listed = http.get("/processes/fulfilment?limit=200", &[]).await;
        let listed = listed.expect(200).json();
        (listed["items"].as_array().unwrap().len() == 60).then_some(())
    })
    .await;
}
