//! `/ops/aggregates`, `/ops/commands`, `/ops/refusals` and `/ops/events`: what happened, and what followed from it.

use crate::{
    harness::{
        api::{Api, Http},
        poll::eventually,
        service::{self, Service},
        unique,
    },
    live::Live,
};
use serde_json::{Value, json};

async fn read(http: &Http, path: &str) -> Value {
    http.get(path, &[]).await.expect(200).json()
}

async fn give(
    http: &Http,
    (aggregate, id, command): (&str, &str, &str),
    body: Value,
    headers: &[(&str, &str)],
) -> Value {
    let api = Api::Http(http.clone());
    let given = api
        .command_with(aggregate, id, command, body, headers)
        .await;
    given.expect(200).json()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a Vec<Value> {
    value[name]
        .as_array()
        .unwrap_or_else(|| panic!("{name}: {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_has_the_state_after_each_event() {
    let http = service::shared().http();
    let (stock, key) = (unique("gangnam_history"), unique("k"));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{trace}-00f067aa0ba902b7-01");
    let headers = [("Idempotency-Key", &*key), ("traceparent", &traceparent)];
    give(
        &http,
        ("stock", &stock, "receive"),
        json!({"quantity": 5}),
        &headers,
    )
    .await;
    for _ in 0..3 {
        give(
            &http,
            ("stock", &stock, "receive"),
            json!({"quantity": 1}),
            &[],
        )
        .await;
    }
    let path = format!("/ops/aggregates/stock/{stock}");
    let all = read(&http, &path).await;
    assert_eq!((&all["version"], &all["next"]), (&json!(4), &Value::Null));
    assert_eq!(
        (&all["state_unknown"], &all["snapshot"]),
        (&Value::Null, &Value::Null)
    );
    let commits = list(&all, "commits");
    let first = &commits[0];
    assert_eq!(first["trace_id"], trace, "{first}");
    let event = &first["events"][0];
    assert_eq!(event["command_id"], key.as_str());
    assert_eq!(event["type"], "stock.received.v1");
    assert_eq!(event["data"]["quantity"], 5);
    assert_eq!(event["state"]["available"], 5, "{event}");
    assert_eq!(first["state"], event["state"]);
    let last = commits.last().unwrap();
    assert_eq!(last["state"]["available"], 8);
    assert_eq!(last["position"], all["position"]);
    // Page by page it is the same.
    let mut paged = Vec::new();
    let mut after = Value::from(0);
    while !after.is_null() {
        let page = read(&http, &format!("{path}?limit=1&after={after}")).await;
        assert_eq!(list(&page, "commits").len(), 1);
        paged.extend(list(&page, "commits").clone());
        after = page["next"].clone();
    }
    assert_eq!(&paged, commits);
    http.get("/ops/aggregates/stock/gangnam_never", &[])
        .await
        .problem(404, "not_found");
    http.get("/ops/aggregates/nothing/a", &[])
        .await
        .problem(404, "unknown_aggregate");
    for wrong in ["limit=0", "limit=201", "after=-1", "more=1"] {
        http.get(&format!("{path}?{wrong}"), &[])
            .await
            .problem(400, "malformed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_s_story_goes_on_through_the_process_to_what_it_sent() {
    let service = Service::dev_with_processes(&["--no-seed"]);
    let http = service.http();
    let product = json!({"name": "apple", "price": 100, "category": "fruit"});
    give(&http, ("product", "apple", "register"), product, &[]).await;
    give(
        &http,
        ("stock", "gangnam_apple", "receive"),
        json!({"quantity": 3}),
        &[],
    )
    .await;
    let member = json!({"name": "Kim", "email": "kim@example.com"});
    give(&http, ("member", "m-1", "register"), member, &[]).await;
    let order = |quantity: u32| {
        let lines = json!([{"sku": "apple", "quantity": quantity, "unit_price": 100}]);
        json!({"member": "m-1", "branch": "gangnam", "lines": lines})
    };
    let key = [("Idempotency-Key", "k-well")];
    give(&http, ("order", "o-1", "place"), order(2), &key).await;
    let confirmed = async |story: &Value| {
        let instance = &story["command"]["processes"][0];
        let steps = instance["steps"].as_array()?.clone();
        let sent = steps
            .into_iter()
            .flat_map(|step| list(&step, "commands").clone());
        let sent: Vec<_> = sent.collect();
        sent.iter()
            .any(|sent| sent["command"] == "confirm")
            .then_some(sent)
    };
    let sent = eventually("the order is confirmed", async || {
        let story = read(&http, "/ops/commands/k-well").await;
        confirmed(&story)
            .await
            .filter(|sent| sent.iter().all(|one| one["outcome"] == "accepted"))
    })
    .await;
    let names: Vec<_> = sent
        .iter()
        .map(|one| one["command"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["check", "reserve", "confirm"]);
    // A check changes nothing, and leaves nothing in the log.
    assert_eq!(
        (&sent[0]["position"], list(&sent[0], "events").len()),
        (&Value::Null, 0)
    );
    assert_eq!(sent[1]["events"][0]["type"], "stock.reserved.v1");
    assert_eq!(sent[1]["id"], "gangnam_apple");
    let story = read(&http, "/ops/commands/k-well").await;
    let command = &story["command"];
    assert_eq!(
        (&command["aggregate"], &command["id"]),
        (&json!("order"), &json!("o-1"))
    );
    assert_eq!(command["events"][0]["type"], "order.placed.v1");
    assert_eq!(
        (&story["truncated"], &story["origin"]),
        (&json!(false), &Value::Null)
    );
    assert!(list(command, "views").contains(&json!("order")));
    let instance = &command["processes"][0];
    assert_eq!(
        (&instance["process"], &instance["id"]),
        (&json!("fulfilment"), &json!("o-1"))
    );
    assert_eq!(
        instance["steps"][0]["input"]["event"]["position"],
        command["position"]
    );
    // The confirmation's own consequence: the payment's deadline.
    let nested = &sent[2]["processes"][0]["steps"][0];
    assert!(!list(nested, "deadlines").is_empty(), "{nested}");
    // By the name of its aggregate, and as what a process has sent.
    let known = read(&http, "/ops/commands/k-well?aggregate=order&id=o-1").await;
    assert_eq!(known["command"]["position"], command["position"]);
    let id = sent[1]["command_id"].as_str().unwrap().replace('/', "%2F");
    let of_process = read(&http, &format!("/ops/commands/{id}")).await;
    assert_eq!(of_process["origin"]["process"], "fulfilment");
    assert_eq!(of_process["command"]["command"], "reserve");
    assert_eq!(of_process["command"]["events"], sent[1]["events"]);

    // More than there is: what was refused is told with why.
    give(
        &http,
        ("order", "o-2", "place"),
        order(9),
        &[("Idempotency-Key", "k-ill")],
    )
    .await;
    let refused = eventually("the reservation is refused", async || {
        let story = read(&http, "/ops/commands/k-ill").await;
        let steps = story["command"]["processes"][0]["steps"]
            .as_array()?
            .clone();
        let mut sent = steps
            .into_iter()
            .flat_map(|step| list(&step, "commands").clone());
        sent.find(|sent| sent["outcome"] == "refused")
    })
    .await;
    assert_eq!(refused["problem"]["code"], "out_of_stock", "{refused}");
    let unknown = http.get("/ops/commands/k-none", &[]).await;
    let detail = unknown.problem(404, "not_found");
    assert!(detail["detail"].as_str().unwrap().contains("k-none"));
    http.get("/ops/commands/k?aggregate=order", &[])
        .await
        .problem(400, "malformed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_remembered_by_the_command_s_id() {
    let http = service::shared().http();
    let (order, key) = (unique("o"), unique("refused"));
    let api = Api::Http(http.clone());
    let refused = api
        .command_with(
            "order",
            &order,
            "confirm",
            json!({}),
            &[("Idempotency-Key", &key)],
        )
        .await;
    refused.problem(404, "not_found");
    let refusals = read(&http, "/ops/refusals?limit=200").await;
    let mut items = list(&refusals, "items").iter();
    let told = items.find(|item| item["command_id"] == key.as_str());
    let told = told.unwrap_or_else(|| panic!("{refusals}"));
    assert_eq!(
        (&told["aggregate"], &told["id"]),
        (&json!("order"), &json!(order))
    );
    assert_eq!(
        (&told["command"], &told["code"]),
        (&json!("confirm"), &json!("not_found"))
    );
    let story = read(&http, &format!("/ops/commands/{key}")).await;
    assert_eq!(story["command"]["outcome"], "refused");
    assert_eq!(story["command"]["problem"]["code"], "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tail_of_the_log_is_read_forwards_backwards_by_filter_and_by_time() {
    let service = Service::dev(&["--no-seed"]);
    let http = service.http();
    for number in 0..6 {
        let stock = format!("gangnam_s{}", number % 2);
        give(
            &http,
            ("stock", &stock, "receive"),
            json!({"quantity": 1}),
            &[],
        )
        .await;
    }
    let before = jiff::Timestamp::now();
    let product = json!({"name": "apple", "price": 100, "category": "fruit"});
    give(&http, ("product", "apple", "register"), product, &[]).await;
    let positions = |page: &Value| -> Vec<u64> {
        let items = list(page, "items").iter();
        items
            .map(|item| item["position"].as_u64().unwrap())
            .collect()
    };
    let all = read(&http, "/ops/events").await;
    assert_eq!(positions(&all).len(), 7);
    assert_eq!(
        (&all["next"], &all["last"]),
        (&Value::Null, &json!(positions(&all)[6]))
    );
    // Backwards, two at a time, it is the same.
    let (mut back, mut end) = (Vec::new(), String::new());
    loop {
        let page = read(&http, &format!("/ops/events?limit=2{end}")).await;
        back.splice(..0, positions(&page));
        let Some(previous) = page["previous"].as_u64() else {
            break;
        };
        end = format!("&before={previous}");
    }
    assert_eq!(back, positions(&all));
    // And forwards.
    let (mut forth, mut after) = (Vec::new(), Some(0));
    while let Some(at) = after {
        let page = read(&http, &format!("/ops/events?limit=2&after={at}")).await;
        forth.extend(positions(&page));
        after = page["next"].as_u64();
    }
    assert_eq!(forth, positions(&all));
    let between = format!("/ops/events?after={}&before={}", forth[1], forth[4]);
    assert_eq!(positions(&read(&http, &between).await), forth[2..4]);
    let one = read(&http, "/ops/events?aggregate=stock&id=gangnam_s1").await;
    assert_eq!(positions(&one).len(), 3);
    assert!(
        list(&one, "items")
            .iter()
            .all(|item| item["id"] == "gangnam_s1")
    );
    let typed = read(&http, "/ops/events?type=product.registered").await;
    assert_eq!(positions(&typed), [positions(&all)[6]]);
    assert_eq!(typed["items"][0]["events"][0]["data"]["name"], "apple");
    let since = read(&http, &format!("/ops/events?since={before}")).await;
    assert_eq!(positions(&since), [positions(&all)[6]]);
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3_600);
    let none = read(&http, &format!("/ops/events?since={later}")).await;
    assert_eq!(positions(&none), [0; 0]);
    for wrong in [
        "since=yesterday",
        "after=x",
        "limit=",
        "aggregate=A",
        "id=a.b",
    ] {
        http.get(&format!("/ops/events?{wrong}"), &[])
            .await
            .problem(400, "malformed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_followed_and_gone_on_with() {
    let service = Service::dev(&["--no-seed"]);
    let http = service.http();
    let mut live = Live::open(&http, "/ops/events/stream?aggregate=stock", &[]).await;
    let product = json!({"name": "apple", "price": 100, "category": "fruit"});
    give(&http, ("product", "apple", "register"), product, &[]).await;
    let first = give(
        &http,
        ("stock", "gangnam_a", "receive"),
        json!({"quantity": 1}),
        &[],
    )
    .await;
    let event = live.next().await;
    assert_eq!(
        (&*event.kind, &event.data["position"]),
        ("commit", &first["position"])
    );
    drop(live);
    let second = give(
        &http,
        ("stock", "gangnam_a", "receive"),
        json!({"quantity": 1}),
        &[],
    )
    .await;
    let last = [("Last-Event-ID", &*first["position"].to_string())];
    let mut live = Live::open(&http, "/ops/events/stream?aggregate=stock", &last).await;
    let event = live.next().await;
    assert_eq!(event.data["position"], second["position"]);
    assert_eq!(event.data["events"][0]["type"], "stock.received.v1");
}
