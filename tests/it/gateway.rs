//! The gateway of the real binary: how many clients it holds, how it leaves, and what it says of itself.

use crate::harness::{
    api::{Api, Http},
    nats::{DURABLE, Nats},
    poll::eventually,
    replica::Replica,
    service::{self, Service, headwater, run},
    surreal::Surreal,
    unique,
};
use serde_json::json;
use std::process::Command;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// `headwater serve` under limits of the shell.
fn limited(limits: &str, nats_url: &str, more: &[&str]) -> Service {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    let inner = headwater(["serve", "--http-addr", "127.0.0.1:0", "--nats", nats_url]);
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(format!("{limits}; exec \"$@\""))
        .arg("sh")
        .arg(inner.get_program())
        .args(inner.get_args());
    command.arg("--data-dir").arg(&folder).args(more);
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Service::start(command, folder, temp)
}

async fn register(http: &Http) -> String {
    let sku = unique("gateway");
    let body = json!({"name": "gateway", "price": 1, "category": "fruit"});
    let api = Api::Http(http.clone());
    let accepted = api.command("product", &sku, "register", body).await;
    let position = accepted.expect(200).header("Headwater-Position").to_owned();
    let at = [("Headwater-Min-Position", position.as_str())];
    api.document("product", &sku, &at).await.expect(200);
    sku
}

async fn ready(http: &Http) {
    eventually("the replica is ready", || async {
        (http.get("/readyz", &[]).await.status == 200).then_some(())
    })
    .await;
}

fn address(http: &Http) -> &str {
    http.base.strip_prefix("http://").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_256_open_files_300_idle_clients_keep_nobody_from_anything() {
    let nats = Nats::start_with(DURABLE);
    let url = nats.url();
    let replica = tokio::task::spawn_blocking(move || limited("ulimit -n 256", &url, &[]));
    let replica = replica.await.unwrap();
    let http = replica.http();
    ready(&http).await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(address(&http)).await.unwrap());
    }
    for _ in 0..3 {
        // A client of its own each: none is connected already.
        let fresh = replica.http();
        register(&fresh).await;
        fresh.get("/healthz", &[]).await.expect(200);
        fresh.get("/readyz", &[]).await.expect(200);
    }
    let said = replica.transcript();
    assert!(said.contains("fewer connections are served"), "{said}");
    assert!(!said.contains("\u{1b}["), "coloured: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_live_clients_than_there_are_open_files_leave_room_for_everything_else() {
    let nats = Nats::start_with(DURABLE);
    let url = nats.url();
    let replica = tokio::task::spawn_blocking(move || limited("ulimit -n 256", &url, &[]));
    let replica = replica.await.unwrap();
    let http = replica.http();
    ready(&http).await;
    let sku = register(&http).await;
    let request = format!("GET /views/product/{sku}/live HTTP/1.1\r\nHost: h\r\n\r\n");
    let (mut following, mut refused) = (Vec::new(), 0);
    for _ in 0..300 {
        let mut stream = TcpStream::connect(address(&http)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut line = [0; 12];
        stream.read_exact(&mut line).await.unwrap();
        match &line[9..] {
            b"200" => following.push(stream),
            b"503" => refused += 1,
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
    assert!(following.len() >= 100 && refused > 0, "{}", following.len());
    let fresh = replica.http();
    register(&fresh).await;
    fresh.get("/healthz", &[]).await.expect(200);
    fresh.get("/readyz", &[]).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_soft_limit_of_open_files_is_raised() {
    let nats = Nats::start_with(DURABLE);
    let url = nats.url();
    let limits = "ulimit -S -n 256; ulimit -H -n 4096";
    let replica =
        tokio::task::spawn_blocking(move || limited(limits, &url, &["--max-connections", "2000"]));
    let replica = replica.await.unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", replica.pid())).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = files.unwrap().split_whitespace().nth(3);
    assert_eq!(soft, Some("4096"), "{limits}");
    let said = replica.transcript();
    assert!(!said.contains("fewer connections are served"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_leaves_says_so_and_serves_on_for_a_while() {
    let nats = Nats::start_with(DURABLE);
    let mut replica = Service::serve(&nats.url(), &["--drain-delay-seconds", "600"]);
    let http = replica.http();
    ready(&http).await;
    let sku = register(&http).await;
    replica.signal("TERM");
    let readyz = eventually("the replica leaves", || async {
        let readyz = http.get("/readyz", &[]).await;
        (readyz.status == 503).then(|| readyz.json())
    })
    .await;
    let checks = readyz["checks"].as_array().unwrap();
    let leaving = checks.iter().find(|check| check["ready"] == false).unwrap();
    assert_eq!(leaving["detail"], "leaving", "{readyz}");
    // A new connection each.
    let fresh = replica.http();
    fresh.get("/healthz", &[]).await.expect(200);
    let document = fresh.get(&format!("/views/product/{sku}"), &[]).await;
    assert_eq!(document.expect(200).header("Connection"), "close");
    register(&fresh).await;
    // Asked once more, it does not wait any longer.
    replica.signal("TERM");
    assert_eq!(replica.wait().code(), Some(0), "{}", replica.transcript());
    assert!(TcpStream::connect(address(&http)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_alone_is_not_ready_while_its_documents_are_away() {
    let (nats, mut surreal) = (Nats::start(), Surreal::start());
    let shared = [
        "--surreal",
        &surreal.url(),
        "--surreal-user",
        "root",
        "--surreal-password",
        "root",
    ]
    .map(str::to_owned);
    let start = |roles: &'static str| {
        let (url, shared) = (nats.url(), shared.clone());
        tokio::task::spawn_blocking(move || {
            let mut more: Vec<&str> = shared.iter().map(String::as_str).collect();
            more.extend(["--roles", roles]);
            Replica::of(&url, &more)
        })
    };
    let mut keeper = start("command,projector").await.unwrap();
    let mut gateway = start("gateway").await.unwrap();
    let http = gateway.service().http();
    ready(&http).await;
    keeper.kill();
    surreal.kill();
    let readyz = eventually("it is not ready", || async {
        let readyz = http.get("/readyz", &[]).await;
        (readyz.status == 503).then(|| readyz.json())
    })
    .await;
    let checks = readyz["checks"].as_array().unwrap();
    let store = checks
        .iter()
        .find(|check| check["name"] == "store")
        .unwrap();
    assert_eq!(store["ready"], false, "{readyz}");
    http.get("/healthz", &[]).await.expect(200);
    tokio::task::block_in_place(|| surreal.restart());
    ready(&http).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_an_allowed_origin_may_command() {
    let nats = Nats::start();
    let replica = Service::serve(
        &nats.url(),
        &["--allow-origin", "https://a.example,https://b.example"],
    );
    let http = replica.http();
    let path = format!("/commands/product/{}/register", unique("cors"));
    for origin in ["https://a.example", "https://b.example"] {
        let asked = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            (
                "Access-Control-Request-Headers",
                "content-type,idempotency-key",
            ),
        ];
        let allowed = http
            .send(reqwest::Method::OPTIONS, &path, None, &asked)
            .await;
        assert_eq!(allowed.status, 200);
        assert_eq!(allowed.header("Access-Control-Allow-Origin"), origin);
    }
}

#[test]
fn an_origin_that_no_browser_sends_exits_2() {
    for wrong in ["*", "shop.example", "https://shop.example/path"] {
        let output = run(&mut headwater(["serve", "--allow-origin", wrong]));
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{wrong}: {error}");
        assert!(error.contains("an origin is"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_number_is_one_however_it_is_written_on_both_surfaces() {
    for api in service::both().await {
        let id = format!("gangnam_{}", unique("whole"));
        let give = async |body: &'static str| {
            let key = [("Idempotency-Key", "whole")];
            match &api {
                Api::Http(http) => {
                    let path = format!("/commands/stock/{id}/receive");
                    http.post(&path, body, &key).await
                }
                Api::Nats(nats) => {
                    let subject = format!("cmd.stock.{id}.receive");
                    nats.expect(subject, body.as_bytes().to_vec(), &key).await
                }
            }
        };
        let first = give(r#"{"quantity":100}"#).await.expect(200).json();
        assert_eq!(first["replayed"], false);
        for same in [r#"{"quantity":100.0}"#, r#"{"quantity":1e2}"#] {
            assert_eq!(give(same).await.expect(200).json()["replayed"], true);
        }
        give(r#"{"quantity":100.5}"#)
            .await
            .problem(400, "malformed");
        give(r#"{"quantity":1e1}"#).await.problem(409, "key_reused");
    }
    let [http, nats] = service::both().await;
    let category = unique("whole");
    let mut position = String::new();
    for price in [99, 100, 101, 102] {
        let body = json!({"name": "whole", "price": price, "category": category});
        let registered = http
            .command("product", &unique("whole"), "register", body)
            .await;
        position = registered
            .expect(200)
            .header("Headwater-Position")
            .to_owned();
    }
    let parameters = json!({"category": category, "limit": 2.0, "price_min": 1e2, "count": true});
    let at = [
        ("Headwater-Min-Position", position.as_str()),
        ("Headwater-Max-Wait-Ms", "30000"),
    ];
    let page = nats.list("product", parameters, &at).await.expect(200);
    assert_eq!(page.json()["items"].as_array().unwrap().len(), 2);
    assert_eq!(page.json()["count"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weak_tag_names_the_same_version_on_both_surfaces() {
    for api in service::both().await {
        let sku = unique("weak");
        let body = json!({"name": "weak", "price": 1, "category": "fruit"});
        let registered = api.command("product", &sku, "register", body).await;
        let tag = format!("W/{}", registered.expect(200).header("ETag"));
        let reprice = async |tag: &str, price: u32| {
            let headers = [("If-Match", tag)];
            let body = json!({ "price": price });
            api.command_with("product", &sku, "reprice", body, &headers)
                .await
        };
        reprice(&tag, 2).await.expect(200);
        reprice(&tag, 3).await.problem(412, "version_mismatch");
        for wrong in ["", "W/1", "\"1\", \"2\"", "*"] {
            let problem = reprice(wrong, 3).await.problem(400, "malformed");
            assert_eq!(problem["field"], "If-Match", "{wrong}");
        }
    }
}
