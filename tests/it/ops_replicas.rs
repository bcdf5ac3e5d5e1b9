//! `/ops` behind a load balancer: what one replica alone remembers is told by each.

use crate::harness::{
    api::{Api, Http},
    nats::Nats,
    poll::eventually,
    replica::Replica,
    tokens::{self, Signer, bearer},
    unique,
};
use serde_json::{Value, json};

async fn read(http: &Http, path: &str) -> Value {
    http.get(path, &[]).await.expect(200).json()
}

fn http(replica: &mut Replica) -> Http {
    replica.service().http()
}

/// Two replicas of all roles that know each other.
async fn two(nats: &Nats) -> (Replica, Replica) {
    let (mut one, mut other) = (Replica::of(&nats.url(), &[]), Replica::of(&nats.url(), &[]));
    for replica in [&mut one, &mut other] {
        let http = http(replica);
        eventually("both are there", async || {
            let overview = read(&http, "/ops/overview").await;
            (overview["replicas"].as_array().unwrap().len() == 2).then_some(())
        })
        .await;
    }
    (one, other)
}

/// Gives a command that is refused, of an order whose home is this replica; returns the command's id.
async fn refused_at(http: &Http, home: &str) -> String {
    let order = eventually("an order has its home there", async || {
        let order = unique("o");
        let told = read(http, &format!("/ops/homes/order/{order}")).await;
        (told["home"] == home).then_some(order)
    })
    .await;
    let key = unique("k");
    let given = Api::Http(http.clone());
    let headers = [("Idempotency-Key", &*key)];
    let refused = given.command_with("order", &order, "ship", json!({}), &headers);
    let refused = refused.await;
    assert!(refused.status >= 400, "{refused:?}");
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_by_every_replica_and_so_is_who_does_not_answer() {
    let nats = Nats::start();
    let (mut one, mut other) = two(&nats).await;
    let (name, name_of_other) = (one.name(), other.name());
    let (http, http_of_other) = (http(&mut one), http(&mut other));
    let key = refused_at(&http, &name_of_other).await;
    for http in [&http, &http_of_other] {
        let refusals = read(http, "/ops/refusals").await;
        assert_eq!(refusals["missing"], json!([]), "{refusals}");
        let items = refusals["items"].as_array().unwrap();
        let told: Vec<_> = items
            .iter()
            .filter(|one| one["command_id"] == key.as_str())
            .collect();
        let [told] = told[..] else {
            panic!("{refusals}");
        };
        assert_eq!(told["replica"], name_of_other.as_str());
        let story = read(http, &format!("/ops/commands/{key}")).await;
        assert_eq!(story["command"]["outcome"], "refused", "{story}");
        assert_eq!(story["command"]["problem"]["code"], told["code"]);
    }
    let own = refused_at(&http, &name).await;
    let latest = read(&http, "/ops/refusals?limit=1").await;
    assert_eq!(latest["items"].as_array().unwrap().len(), 1);
    assert_eq!(latest["items"][0]["command_id"], own.as_str(), "{latest}");

    other.pause();
    let silent = eventually("it is missed", async || {
        let refusals = read(&http, "/ops/refusals").await;
        (refusals["missing"] == json!([name_of_other])).then_some(refusals)
    })
    .await;
    let mut items = silent["items"].as_array().unwrap().iter();
    assert!(items.any(|one| one["command_id"] == own.as_str()));
    other.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_looked_at_and_cancelled_through_any_replica() {
    let nats = Nats::start();
    let (mut one, mut other) = two(&nats).await;
    let (http, http_of_other) = (http(&mut one), http(&mut other));
    let begun = http.post("/ops/views/order/verify", "{}", &[]).await;
    let job = begun.expect(202).json();
    let path = format!("/ops/jobs/{}", job["id"].as_str().unwrap());
    for http in [&http, &http_of_other] {
        let ended = eventually("the job has ended", async || {
            let job = read(http, &path).await;
            (job["state"] != "running").then_some(job)
        })
        .await;
        assert_eq!(ended["state"], "done", "{ended}");
        let result = &ended["parts"][0]["result"];
        assert_eq!(result["different"], 0, "{ended}");
        let jobs = read(http, "/ops/jobs").await;
        assert_eq!(jobs["missing"], json!([]));
        assert_eq!(jobs["items"], json!([ended]), "{jobs}");
        let late = http.send(reqwest::Method::DELETE, &path, None, &[]).await;
        late.problem(409, "not_cancellable");
    }
    for unknown in ["none", "nobody-0193", &format!("{}-0193", one.name())] {
        let path = format!("/ops/jobs/{unknown}");
        http_of_other
            .get(&path, &[])
            .await
            .problem(404, "not_found");
        let cancelled = http_of_other.send(reqwest::Method::DELETE, &path, None, &[]);
        cancelled.await.problem(404, "not_found");
    }
    one.pause();
    let asked = http_of_other.get(&path, &[]).await;
    asked.problem(503, "unavailable");
    one.resume();
    one.kill();
    eventually("the job is gone with its replica", async || {
        let asked = http_of_other.get(&path, &[]).await;
        (asked.status == 404).then_some(())
    })
    .await;
}

/// What no gateway would send: a replica holds each request to the scopes of whoever asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_tells_nothing_to_those_who_may_not_read() {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new("k-1"));
    let nats = Nats::start();
    let flags = tokens::flags(&tokens::written(folder.path(), &signer));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let replica = Replica::of(&nats.url(), &flags);
    let client = nats.client().await;
    let reads = bearer(&signer.token("reader", "ops:read"));
    let writes = bearer(&signer.token("alice", "ops:read ops:write"));
    let others = bearer(&signer.token("m-1", "cmd:* qry:*"));
    for (verb, token, code) in [
        ("refusals", None, Some("unauthenticated")),
        ("refusals", Some(&others), Some("forbidden")),
        ("refusals", Some(&reads), None),
        ("jobs", None, Some("unauthenticated")),
        ("jobs", Some(&reads), None),
        ("cancel", Some(&reads), Some("forbidden")),
        ("cancel", Some(&writes), Some("not_found")),
        ("rebuild", Some(&writes), Some("unknown_command")),
    ] {
        let mut headers = async_nats::HeaderMap::new();
        if let Some(token) = token {
            headers.insert("Authorization", token.as_str());
        }
        let subject = format!("ctl.replica.{}.{verb}", replica.name());
        let asked = client.request_with_headers(subject, headers, "".into());
        let reply: Value = serde_json::from_slice(&asked.await.unwrap().payload).unwrap();
        let told = reply["problem"]["code"].as_str();
        assert_eq!(told, code, "{verb}: {reply}");
        assert_eq!(reply["more"], false);
    }
    let wrong = client.request(
        format!("ctl.replica.{}.jobs", replica.name()),
        "not JSON".into(),
    );
    let reply: Value = serde_json::from_slice(&wrong.await.unwrap().payload).unwrap();
    assert!(reply["problem"]["code"].is_string(), "{reply}");
}
