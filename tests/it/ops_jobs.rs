//! `/ops/jobs` and `/ops/parked`: what operators have done to views, over HTTP.

use crate::harness::{
    api::{Api, Http},
    nats::Nats,
    poll::eventually,
    service::Service,
    tokens::{self, Signer, bearer},
    unique,
};
use serde_json::{Value, json};

async fn read(http: &Http, path: &str) -> Value {
    http.get(path, &[]).await.expect(200).json()
}

/// Begins a job and waits for its end.
async fn done(http: &Http, path: &str, body: Value) -> Value {
    let begun = http.post(path, body.to_string(), &[]).await.expect(202);
    let job = begun.json();
    let location = format!("/ops/jobs/{}", job["id"].as_str().unwrap());
    assert_eq!(begun.header("Location"), location);
    eventually("the job has ended", async || {
        let job = read(http, &location).await;
        (job["state"] != "running").then_some(job)
    })
    .await
}

fn generations(view: &Value) -> Vec<(String, String)> {
    let all = view["stores"][0]["generations"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.map(|one| (text(&one["generation"]), text(&one["state"])))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_rebuilt_rolled_back_dropped_and_verified_by_jobs() {
    let service = Service::dev(&[]);
    let http = service.http();
    let rebuilt = done(&http, "/ops/views/storefront/rebuild", json!({})).await;
    assert_eq!(
        (&rebuilt["state"], &rebuilt["kind"]),
        (&json!("done"), &json!("rebuild"))
    );
    assert_eq!(rebuilt["parts"][0]["generation"], "v1.1", "{rebuilt}");
    assert!(rebuilt["ended"].is_string() && rebuilt["cancellable"] == false);
    let there = generations(&read(&http, "/ops/views/storefront").await);
    let named = |name: &str, state: &str| (name.to_owned(), state.to_owned());
    assert!(there.contains(&named("v1.1", "live")) && there.contains(&named("v1", "previous")));
    let verified = done(&http, "/ops/views/storefront/verify", json!({"sample": 10})).await;
    let result = &verified["parts"][0]["result"];
    assert_eq!(result["different"], 0, "{verified}");
    assert!(result["checked"].as_u64().unwrap() > 0);
    let back = done(&http, "/ops/views/storefront/rollback", json!({})).await;
    assert_eq!(back["state"], "done", "{back}");
    let dropped = done(&http, "/ops/views/storefront/drop", json!({})).await;
    assert_eq!(dropped["state"], "done", "{dropped}");
    eventually("it is dropped", async || {
        let view = read(&http, "/ops/views/storefront").await;
        (generations(&view) == [named("v1", "live")]).then_some(())
    })
    .await;
    let refused = done(&http, "/ops/views/storefront/rollback", json!({})).await;
    assert_eq!(refused["state"], "failed");
    assert!(
        refused["error"].as_str().unwrap().contains("no previous"),
        "{refused}"
    );
    let jobs = read(&http, "/ops/jobs").await;
    let kinds: Vec<_> = jobs["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| &job["kind"])
        .collect();
    assert_eq!(kinds, ["rollback", "drop", "rollback", "verify", "rebuild"]);
    let path = format!("/ops/jobs/{}", rebuilt["id"].as_str().unwrap());
    let late = http.send(reqwest::Method::DELETE, &path, None, &[]).await;
    late.problem(409, "not_cancellable");
    http.get("/ops/jobs/none", &[])
        .await
        .problem(404, "not_found");
    for (path, body) in [
        ("/ops/views/storefront/rebuild", json!({"more": 1})),
        ("/ops/views/storefront/verify", json!({"sample": 0})),
        ("/ops/views/storefront/drop", json!({"generation": "first"})),
        ("/ops/views/storefront/rollback", json!([])),
        ("/ops/parked/retry", json!({"view": "product"})),
        ("/ops/parked/retry", json!({"view": "product", "id": "a"})),
        (
            "/ops/parked/skip",
            json!({"view": "product", "aggregate": "a", "id": "b", "all": true}),
        ),
    ] {
        http.post(path, body.to_string(), &[])
            .await
            .problem(400, "malformed");
    }
    let nothing = http.post("/ops/views/nothing/rebuild", "{}", &[]).await;
    nothing.problem(404, "unknown_view");
    let unmade = http.post("/ops/views/storefront/make", "{}", &[]).await;
    unmade.problem(404, "not_found");
    let bare = http
        .post("/ops/views/storefront/rebuild", Vec::<u8>::new(), &[])
        .await;
    assert!(
        [400, 415].contains(&bare.status),
        "a page of somebody else's could send that"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_is_told_of_with_its_cause_and_settled() {
    let service = Service::dev(&["--no-seed"]);
    let http = service.http();
    let api = Api::Http(http.clone());
    let skus: Vec<_> = (0..3)
        .map(|number| unique(&format!("parked{number}")))
        .collect();
    let nats = async_nats::connect(service.nats_url()).await.unwrap();
    for sku in &skus {
        let body = json!({"name": "before", "price": 1, "category": "test"});
        api.command("product", sku, "register", body)
            .await
            .expect(200);
        let subject = format!("evt.product.{sku}");
        nats.publish(subject, "not a commit".into()).await.unwrap();
    }
    nats.flush().await.unwrap();
    let all = eventually("all are parked", async || {
        let parked = read(&http, "/ops/parked?view=product").await;
        (parked["items"].as_array().unwrap().len() == 3).then_some(parked)
    })
    .await;
    let overview = read(&http, "/ops/overview").await;
    let mut views = overview["views"].as_array().unwrap().iter();
    assert!(
        views.any(|view| view["view"] == "product" && view["parked"] == 3),
        "{overview}"
    );
    // Page by page it is the same, over all views.
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = read(&http, &format!("/ops/parked?limit=1{cursor}")).await;
        paged.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    let of_product = paged.iter().filter(|one| one["view"] == "product");
    assert_eq!(
        of_product.collect::<Vec<_>>(),
        all["items"].as_array().unwrap().iter().collect::<Vec<_>>()
    );
    assert!(paged.len() > 3, "other views read products too");
    let sku = &skus[0];
    let one = read(
        &http,
        &format!("/ops/parked?view=product&aggregate=product&id={sku}"),
    )
    .await;
    let one = &one["items"][0];
    assert_eq!(one["documents"], json!([sku]), "{one}");
    assert_eq!(one["events"][0], "not a commit");
    assert!(!one["reason"].as_str().unwrap().is_empty() && one["at"].is_string());
    let choice = json!({"view": "product", "aggregate": "product", "id": sku});
    let retried = done(&http, "/ops/parked/retry", choice.clone()).await;
    assert_eq!(
        retried["parts"][0]["result"]["still_parked"], 1,
        "{retried}"
    );
    let skipped = done(&http, "/ops/parked/skip", choice.clone()).await;
    assert_eq!(
        skipped["parts"][0]["result"]["still_parked"], 0,
        "{skipped}"
    );
    let again = done(&http, "/ops/parked/skip", choice).await;
    assert_eq!(again["state"], "failed");
    let rest = done(
        &http,
        "/ops/parked/skip",
        json!({"view": "product", "all": true}),
    )
    .await;
    assert_eq!(rest["parts"][0]["result"]["aggregates"], 2, "{rest}");
    let left = read(&http, "/ops/parked?view=product").await;
    assert_eq!(left["items"], json!([]));
    http.get("/ops/parked?cursor=x", &[])
        .await
        .problem(400, "malformed");
    http.get("/ops/parked?id=a", &[])
        .await
        .problem(400, "malformed");
    http.get("/ops/parked?view=nothing", &[])
        .await
        .problem(404, "unknown_view");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_takes_the_scope_for_it_and_is_on_record() {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new("k-1"));
    let nats = Nats::start();
    let mut flags = tokens::flags(&tokens::written(folder.path(), &signer));
    flags.extend(["--log".to_owned(), "warn,headwater::audit=info".to_owned()]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let service = Service::serve(&nats.url(), &flags);
    let http = service.http();
    let reads = bearer(&signer.token("reader", "ops:read"));
    let writes = bearer(&signer.token("alice", "ops:read ops:write"));
    for path in [
        "/ops/views/product/rebuild",
        "/ops/views/nothing/rebuild",
        "/ops/parked/skip",
    ] {
        http.post(path, "{}", &[])
            .await
            .problem(401, "unauthenticated");
        let refused = http.post(path, "{}", &[("Authorization", &reads)]).await;
        assert_eq!(
            refused.problem(403, "forbidden")["scope"],
            "ops:write",
            "{path}"
        );
    }
    let deleted = http
        .send(
            reqwest::Method::DELETE,
            "/ops/jobs/none",
            None,
            &[("Authorization", &reads)],
        )
        .await;
    deleted.problem(403, "forbidden");
    let begun = http
        .post(
            "/ops/views/product/rebuild",
            "{}",
            &[("Authorization", &writes)],
        )
        .await;
    assert_eq!(begun.expect(202).json()["by"], "alice");
    let said = service.transcript();
    let on_record = |line: &str| line.contains("headwater::audit") && line.contains("alice");
    assert!(
        said.lines()
            .any(|line| on_record(line) && line.contains("rebuild")),
        "{said}"
    );
}
