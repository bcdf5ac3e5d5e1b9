//! Processes under `/ops`: what there is, one instance with its steps, and what operators do to it.

use crate::{
    harness::{
        api::Http,
        nats::Nats,
        poll::eventually,
        replica::Replica,
        tokens::{self, Signer, bearer},
    },
    processes::Mart,
};
use async_nats::jetstream;
use serde_json::{Value, json};

async fn read(http: &Http, path: &str) -> Value {
    let reply = http.get(path, &[]).await.expect(200);
    assert_eq!(reply.header("Cache-Control"), "no-store", "{path}");
    reply.json()
}

const INSTANCES: &str = "/ops/processes/fulfilment";

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_found_by_how_it_is_and_shown_with_its_steps_and_deadlines() {
    let mut mart = Mart::open(&[]).await;
    let http = mart.replica.service().http();
    mart.place("o-1", &[("apple", 1, 4_900)]).await;
    mart.becomes("o-1", "confirmed").await;
    let all = read(&http, "/ops/processes").await;
    let [fulfilment] = all["items"].as_array().unwrap().as_slice() else {
        panic!("{all}");
    };
    assert_eq!(fulfilment["process"], "fulfilment");
    assert_eq!(fulfilment["home"], mart.replica.name().as_str());
    for (field, name) in [("aggregates", "order"), ("targets", "stock")] {
        let names = fulfilment[field].as_array().unwrap();
        assert!(names.contains(&json!(name)), "{fulfilment}");
    }
    let page = eventually("it waits to be paid", async || {
        let page = read(&http, &format!("{INSTANCES}?status=waiting&limit=5")).await;
        (page["items"].as_array().unwrap().len() == 1).then_some(page)
    })
    .await;
    assert_eq!(page["items"][0]["id"], "o-1", "{page}");
    let shown = read(&http, &format!("{INSTANCES}/o-1")).await;
    assert_eq!(shown["deadlines"][0]["name"], "payment", "{shown}");
    let step = &shown["steps"][0];
    assert!(
        step["time"].is_string() && step["position"].is_u64(),
        "{step}"
    );
    // The same as who is no operator of the whole gets.
    let elsewhere = http.get("/processes/fulfilment/o-1", &[]).await.expect(200);
    assert_eq!(elsewhere.json(), shown);
    for (path, status, code) in [
        ("/ops/processes/nothing", 404, "unknown_process"),
        ("/ops/processes/nothing/o-1", 404, "unknown_process"),
        ("/ops/processes/fulfilment/none", 404, "not_found"),
        ("/ops/processes/fulfilment?state=waiting", 400, "malformed"),
        ("/ops/processes/fulfilment?status=lost", 400, "malformed"),
        ("/ops/processes/fulfilment/a.b", 400, "malformed"),
        ("/ops/processes?limit=1", 400, "malformed"),
    ] {
        http.get(path, &[]).await.problem(status, code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_suspended_goes_on_is_left_something_out_and_ended() {
    let mut mart = Mart::open(&[]).await;
    let http = mart.replica.service().http();
    let change = async |id: &str, verb: &str, body: Value| {
        let path = format!("{INSTANCES}/{id}/{verb}");
        http.post(&path, body.to_string(), &[]).await
    };
    let status = async |id: &str| {
        let shown = read(&http, &format!("{INSTANCES}/{id}")).await;
        shown["status"].as_str().unwrap().to_owned()
    };
    mart.place("o-1", &[("apple", 1, 4_900)]).await;
    mart.becomes("o-1", "confirmed").await;
    let reason = json!({"reason": "looked at by a test"});
    let suspended = change("o-1", "suspend", reason.clone()).await.expect(200);
    assert_eq!(suspended.json()["aggregate"], "fulfilment");
    assert_eq!(suspended.header("Cache-Control"), "no-store");
    assert_eq!(status("o-1").await, "suspended");
    change("o-1", "retry", json!({}))
        .await
        .problem(409, "not_parked");
    change("o-1", "resume", json!({})).await.expect(200);
    eventually("it goes on", async || {
        (status("o-1").await == "waiting").then_some(())
    })
    .await;

    let client = mart.client().await;
    let commit = json!([{
        "specversion": "1.0", "source": "/order/poison", "id": "1", "type": "order.placed.v1",
        "time": "2027-01-01T00:00:00Z", "commandid": "poison-1", "data": { "odd": true },
    }]);
    let log = jetstream::new(client);
    let stored = log.publish("evt.order.poison", commit.to_string().into());
    stored.await.unwrap().await.unwrap();
    eventually("it is parked", async || {
        let page = read(&http, &format!("{INSTANCES}?status=parked")).await;
        (page["items"][0]["id"] == "poison").then_some(())
    })
    .await;
    change("poison", "retry", json!({})).await.expect(200);
    assert_eq!(status("poison").await, "parked");
    let without = change("poison", "skip", json!({})).await;
    assert_eq!(without.problem(400, "malformed")["field"], "reason");
    change("poison", "skip", reason.clone()).await.expect(200);
    assert_eq!(status("poison").await, "waiting");
    change("poison", "skip", reason.clone())
        .await
        .problem(409, "nothing_held");

    change("o-1", "end", reason.clone()).await.expect(200);
    assert_eq!(status("o-1").await, "ended");
    change("o-1", "end", reason.clone())
        .await
        .problem(409, "has_ended");
    change("none", "end", reason.clone())
        .await
        .problem(404, "not_found");
    let unplaced = json!({"unplaced": "order"});
    change("o-1", "retry", unplaced)
        .await
        .problem(404, "not_found");
    for (verb, body) in [
        ("suspend", json!({"reason": ""})),
        ("suspend", json!({"because": "of it"})),
        ("suspend", json!([])),
    ] {
        change("o-1", verb, body).await.problem(400, "malformed");
    }
    change("o-1", "begin", reason)
        .await
        .problem(404, "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_takes_one_scope_and_changing_another() {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new("k-1"));
    let nats = Nats::start();
    let flags = tokens::flags(&tokens::written(folder.path(), &signer));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let all = ["--roles", "command,projector,gateway,process"];
    let mut replica = Replica::of(&nats.url(), &[&all[..], &flags].concat());
    let http = replica.service().http();
    let reads = bearer(&signer.token("reader", "ops:read"));
    let writes = bearer(&signer.token("alice", "ops:read ops:write"));
    for path in ["/ops/processes", INSTANCES, "/ops/processes/nothing/a.b"] {
        http.get(path, &[]).await.problem(401, "unauthenticated");
    }
    eventually("the process can be asked about", async || {
        let listed = http.get(INSTANCES, &[("Authorization", &reads)]).await;
        (listed.status == 200 && listed.json()["items"] == json!([])).then_some(())
    })
    .await;
    let path = format!("{INSTANCES}/o-1/end");
    let body = r#"{"reason":"no more"}"#;
    let refused = http.post(&path, body, &[("Authorization", &reads)]).await;
    assert_eq!(refused.problem(403, "forbidden")["scope"], "ops:write");
    let allowed = http.post(&path, body, &[("Authorization", &writes)]).await;
    allowed.problem(404, "not_found");
}
