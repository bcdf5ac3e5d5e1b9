//! `headwater serve`: replicas that start, serve, drain and share one NATS.

use crate::harness::{
    api::{Api, Http},
    nats::{DEV, DURABLE, Nats},
    poll::{DEADLINE, eventually, eventually_blocking},
    service::{Service, headwater, run},
    streams::{change_stream, stream_config},
    unique,
};
use serde_json::{Value, json};
use std::net::{TcpListener, TcpStream};

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_becomes_ready_serves_and_drains_on_sigterm() {
    let nats = Nats::start_with(DURABLE);
    let mut replica = Service::serve(&nats.url(), &[]);
    let http = replica.http();
    http.get("/healthz", &[]).await.expect(200);
    eventually("the replica is ready", || async {
        (http.get("/readyz", &[]).await.status == 200).then_some(())
    })
    .await;
    let sku = unique("served");
    let body = json!({"name": "served", "price": 1, "category": "fruit"});
    let accepted = Api::Http(http.clone())
        .command("product", &sku, "register", body)
        .await
        .expect(200);
    let position = accepted.header("Headwater-Position").to_owned();
    Api::Http(http)
        .document("product", &sku, &[("Headwater-Min-Position", &position)])
        .await
        .expect(200);
    replica.signal("TERM");
    let status = replica.wait();
    assert_eq!(status.code(), Some(0), "{}", replica.transcript());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_accepts_every_replica_shows() {
    let nats = Nats::start();
    let replicas = [
        Service::serve(&nats.url(), &[]),
        Service::serve(&nats.url(), &[]),
    ];
    let sku = unique("shared");
    let body = json!({"name": "shared", "price": 1, "category": "fruit"});
    let accepted = Api::Http(replicas[0].http())
        .command("product", &sku, "register", body)
        .await
        .expect(200);
    let position = accepted.header("Headwater-Position").to_owned();
    for replica in &replicas {
        let document = Api::Http(replica.http())
            .document("product", &sku, &[("Headwater-Min-Position", &position)])
            .await
            .expect(200)
            .json();
        assert_eq!(document["document"]["name"], "shared");
    }
}

/// A replica that is not waited for, and where it will serve HTTP.
fn starting(nats_url: &str, more: &[&str]) -> (Service, Http) {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    drop(held);
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    let mut command = headwater(["serve", "--http-addr", &address, "--nats", nats_url]);
    command.arg("--data-dir").arg(&folder).args(more);
    let service = Service::spawn(command, folder, temp);
    eventually_blocking(DEADLINE, "the port is taken", || {
        TcpStream::connect(&address).ok()
    });
    (service, Http::new(format!("http://{address}")))
}

#[track_caller]
fn check<'a>(readyz: &'a Value, name: &str) -> &'a Value {
    let mut checks = readyz["checks"].as_array().unwrap().iter();
    let check = checks.find(|check| check["name"] == name);
    check.unwrap_or_else(|| panic!("no check {name}: {readyz}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_that_comes_later_is_waited_for_and_said() {
    let mut nats = Nats::start();
    nats.kill();
    let (mut replica, http) = starting(&nats.url(), &[]);
    http.get("/healthz", &[]).await.expect(200);
    let readyz = http.get("/readyz", &[]).await.expect(503).json();
    let detail = check(&readyz, "nats")["detail"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(detail.starts_with("not connected yet"), "{detail}");
    http.get("/metrics", &[]).await.expect(200);
    let sku = unique("early");
    let body = json!({"name": "early", "price": 1, "category": "fruit"});
    let api = Api::Http(http.clone());
    let refused = api.command("product", &sku, "register", body.clone()).await;
    refused.problem(503, "unavailable");
    assert_eq!(refused.header("Retry-After"), "1");
    eventually("the wait is said", || async {
        let said = replica.transcript();
        (said.contains("cannot start yet") && said.contains(&nats.url())).then_some(())
    })
    .await;

    nats.start_again();
    eventually("the replica is ready", || async {
        http.get("/healthz", &[]).await.expect(200);
        (http.get("/readyz", &[]).await.status == 200).then_some(())
    })
    .await;
    api.command("product", &sku, "register", body)
        .await
        .expect(200);
    replica.signal("TERM");
    assert_eq!(replica.wait().code(), Some(0), "{}", replica.transcript());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_the_wait_for_nats() {
    let (mut replica, http) = starting("nats://127.0.0.1:1", &[]);
    http.get("/healthz", &[]).await.expect(200);
    replica.signal("TERM");
    assert_eq!(replica.wait().code(), Some(0), "{}", replica.transcript());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_waits_for_its_store_is_alive_and_not_ready() {
    let nats = Nats::start();
    let (mut replica, http) = starting(&nats.url(), &["--surreal", "ws://127.0.0.1:1"]);
    eventually("the store is waited for", || async {
        http.get("/healthz", &[]).await.expect(200);
        let readyz = http.get("/readyz", &[]).await.expect(503).json();
        (readyz["checks"][0]["name"] == "store").then_some(())
    })
    .await;
    replica.signal("TERM");
    assert_eq!(replica.wait().code(), Some(0), "{}", replica.transcript());
}

const USERS: &str = r#"
accounts { A { users: [{user: "us er", password: "p@ss:/1"}], jetstream: enabled } }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn user_and_password_of_the_address_are_used() {
    let nats = Nats::start_with(&format!("{DEV}{USERS}"));
    let url = format!("nats://us%20er:p%40ss%3A%2F1@127.0.0.1:{}", nats.port());
    let replica = Service::serve(&url, &[]);
    let said = replica.transcript();
    assert!(!said.contains("p%40ss") && !said.contains("p@ss"), "{said}");
    let verified = run(&mut headwater(["topology", "verify", "--nats", &url]));
    assert_eq!(verified.status.code(), Some(0));
    let listed = run(&mut headwater(["views", "list", "--nats", &url]));
    assert_eq!(listed.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_the_address_is_used() {
    let nats = Nats::start_with(&format!("{DEV}\nauthorization {{ token: \"t/k\" }}\n"));
    let url = format!("nats://t%2Fk@127.0.0.1:{}", nats.port());
    Service::serve(&url, &[]);
}

#[test]
fn a_refused_password_is_said_and_ends_the_replica() {
    let nats = Nats::start_with(&format!("{DEV}{USERS}"));
    let url = format!("nats://us%20er:wrong@127.0.0.1:{}", nats.port());
    let temp = tempfile::tempdir().unwrap();
    let output = run(
        headwater(["serve", "--http-addr", "127.0.0.1:0", "--nats", &url])
            .arg("--data-dir")
            .arg(temp.path()),
    );
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("refuses the user, password or token"),
        "{error}"
    );
    assert!(!error.contains("wrong"), "{error}");
}

#[test]
fn servers_with_different_passwords_exit_2() {
    let url = "nats://u:secret1@127.0.0.1:1,nats://u:secret2@127.0.0.1:2";
    let output = run(&mut headwater(["serve", "--nats", url]));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("different users, passwords or tokens"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_the_log_ends_the_replica_by_name() {
    let nats = Nats::start();
    let config = json!({"name": "EVENTS", "subjects": ["evt.>"], "storage": "memory"});
    let client = nats.client().await;
    let created = client.request("$JS.API.STREAM.CREATE.EVENTS", config.to_string().into());
    created.await.unwrap();
    let temp = tempfile::tempdir().unwrap();
    let output = run(
        headwater(["serve", "--http-addr", "127.0.0.1:0", "--nats", &nats.url()])
            .arg("--data-dir")
            .arg(temp.path()),
    );
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("EVENTS") && error.contains("storage"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_bound_stands_and_is_told() {
    let nats = Nats::start();
    drop(Service::serve(&nats.url(), &["--roles", "command"]));
    let client = nats.client().await;
    change_stream(&client, "EVENTS", json!({"max_bytes": 1_073_741_824})).await;
    let replica = Service::serve(&nats.url(), &[]);
    let note = "EVENTS: max_bytes is 1073741824, an operator's own";
    eventually("the bound is told", || async {
        replica
            .output()
            .iter()
            .any(|line| line.contains(note))
            .then_some(())
    })
    .await;
    let config = stream_config(&client, "EVENTS").await;
    assert_eq!(config["max_bytes"], 1_073_741_824);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_may_be_in_another_domain_behind_a_leaf_node() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let leaves = held.local_addr().unwrap();
    drop(held);
    let hub = Nats::start_with(&format!(
        "server_name: hub\njetstream {{ domain: hub }}\nleafnodes {{ listen: \"{leaves}\" }}\n"
    ));
    let leaf = Nats::start_with(&format!(
        "server_name: leaf\nleafnodes {{ remotes: [{{ url: \"nats-leaf://{leaves}\" }}] }}\n"
    ));
    let replica = Service::serve(&leaf.url(), &["--js-domain", "hub"]);
    let http = replica.http();
    eventually("the replica is ready", || async {
        (http.get("/readyz", &[]).await.status == 200).then_some(())
    })
    .await;
    let sku = unique("leaf");
    let body = json!({"name": "leaf", "price": 1, "category": "fruit"});
    let api = Api::Http(http);
    let accepted = api
        .command("product", &sku, "register", body)
        .await
        .expect(200);
    let position = accepted.header("Headwater-Position").to_owned();
    api.document("product", &sku, &[("Headwater-Min-Position", &position)])
        .await
        .expect(200);
    let there = stream_config(&hub.client().await, "EVENTS").await;
    assert_eq!(there["name"], "EVENTS");
}

#[test]
fn a_role_that_does_not_exist_exits_2() {
    let output = run(&mut headwater(["serve", "--roles", "cook"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cook"));
}
