//! `headwater dev` as a person uses it: the banner, restarts, flags, variables, and how it ends.

use crate::harness::{
    api::{Api, Reply},
    nats::{Nats, await_end, binary, signal},
    poll::{DEADLINE, eventually, eventually_blocking},
    service::{Service, headwater, run},
    unique,
};
use serde_json::{Value, json};
use std::{
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn assert_exits_2(output: &Output, reason: &str) {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains(reason), "no {reason:?} in: {error}");
    assert!(!error.contains("panicked"), "{error}");
    assert_eq!(text(&output.stdout), "", "something was started");
}

async fn product_count(service: &Service) -> usize {
    let reply = service.http().get("/views/product?limit=200", &[]).await;
    reply.expect(200).json()["items"].as_array().unwrap().len()
}

async fn register(service: &Service, sku: &str) -> Reply {
    let body = json!({"name": "시험 사과", "price": 1200, "category": "fruit"});
    let headers = [("Idempotency-Key", sku)];
    Api::Http(service.http())
        .command_with("product", sku, "register", body, &headers)
        .await
        .expect(200)
}

/// Ends the service as Ctrl-C does, and waits for it and its server.
fn interrupt(mut service: Service) {
    let servers = service.nats_pids();
    assert_eq!(servers.len(), 1, "one nats-server runs on the folder");
    service.signal("INT");
    let status = service.wait();
    assert_eq!(status.code(), Some(0), "{}", service.transcript());
    assert_eq!(service.nats_pids(), [] as [u32; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_banner_is_short_and_its_curl_lines_work_as_printed() {
    let service = Service::dev(&[]);
    let curls = eventually("the banner has two curl lines", || async {
        let curls: Vec<String> = service
            .output()
            .iter()
            .filter_map(|line| Some(line[line.find("curl ")?..].to_owned()))
            .collect();
        (curls.len() >= 2).then_some(curls)
    })
    .await;
    for curl in curls {
        let output = Command::new("/bin/sh")
            .args(["-c", &curl])
            .output()
            .unwrap();
        let body = text(&output.stdout);
        assert!(output.status.success(), "{curl}: {}", text(&output.stderr));
        let json: Value = serde_json::from_str(body.trim())
            .unwrap_or_else(|error| panic!("{curl}: {error}: {body}"));
        assert_eq!(json.get("code"), None, "{curl}: {body}");
    }
    let banner = service.output();
    assert!(banner.len() <= 10, "{banner:#?}");
    let banner = banner.join("\n");
    assert!(banner.contains(&service.nats_url()), "{banner}");
    assert!(banner.contains("fsync"), "no durability in: {banner}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything_and_a_reset_starts_afresh() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    let sku = unique("kept");

    let service = Service::dev_in(&folder, &["--no-seed"]);
    assert_eq!(product_count(&service).await, 0);
    let first = register(&service, &sku).await.json();
    interrupt(service);

    let service = Service::dev_in(&folder, &["--no-seed"]);
    let position = format!("product@{}", first["position"]);
    let document = Api::Http(service.http())
        .document("product", &sku, &[("Headwater-Min-Position", &position)])
        .await
        .expect(200)
        .json();
    assert_eq!(document["document"]["name"], "시험 사과");
    assert_eq!(product_count(&service).await, 1);
    let again = register(&service, &sku).await.json();
    assert_eq!(again["replayed"], true);
    assert_eq!(again["position"], first["position"]);
    interrupt(service);

    std::fs::write(folder.join("notes.txt"), "mine").unwrap();
    let service = Service::dev_in(&folder, &["--no-seed", "--reset"]);
    assert_eq!(product_count(&service).await, 0);
    Api::Http(service.http())
        .document("product", &sku, &[])
        .await
        .problem(404, "not_found");
    interrupt(service);
    assert!(folder.join("notes.txt").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_run_has_a_catalogue_and_the_second_does_not_add_to_it() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    let count = async |service: &Service| {
        let http = service.http();
        let mut skus = std::collections::BTreeSet::new();
        let mut path = "/views/product?limit=200".to_owned();
        loop {
            let page = http.get(&path, &[]).await.expect(200).json();
            for item in page["items"].as_array().unwrap() {
                assert!(skus.insert(item["id"].as_str().unwrap().to_owned()));
            }
            match page["next"].as_str() {
                Some(next) => path = format!("/views/product?limit=200&cursor={next}"),
                None => return skus.len(),
            }
        }
    };
    let service = Service::dev_in(&folder, &[]);
    let first = eventually("200 products are there", || async {
        let count = count(&service).await;
        (count >= 200).then_some(count)
    })
    .await;
    let found = service
        .http()
        .get("/views/product?q=%EC%82%AC%EA%B3%BC", &[])
        .await;
    let found = found.expect(200).json();
    assert_ne!(found["items"], json!([]), "사과 finds nothing");
    interrupt(service);
    let service = Service::dev_in(&folder, &[]);
    assert_eq!(count(&service).await, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_dev_on_the_same_folder_says_so_and_exits_2() {
    let service = Service::dev(&["--no-seed"]);
    let output = run(
        headwater(["dev", "--http-addr", "127.0.0.1:0", "--data-dir"])
            .arg(service.folder())
            .arg("--nats-server")
            .arg(binary()),
    );
    assert_exits_2(&output, "in use by another headwater");
    let folder = service.folder().canonicalize().unwrap();
    assert_exits_2(&output, folder.to_str().unwrap());
    assert_eq!(product_count(&service).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_leaves_no_nats_server_and_loses_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    let sku = unique("survivor");
    let mut service = Service::dev_in(&folder, &["--no-seed"]);
    let first = register(&service, &sku).await.json();
    let servers = service.nats_pids();
    assert_eq!(servers.len(), 1);
    service.signal("KILL");
    service.wait();
    // The next one does not wait for us to find the server gone.
    let service = Service::dev_in(&folder, &["--no-seed"]);
    await_end(servers[0], DEADLINE);
    let again = register(&service, &sku).await.json();
    assert_eq!(
        (&again["replayed"], &again["version"]),
        (&json!(true), &first["version"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_nats_server_comes_back_and_commands_go_on() {
    let service = Service::dev(&["--no-seed"]);
    let http = Api::Http(service.http());
    register(&service, &unique("before")).await;
    signal(service.nats_pids()[0], "KILL");
    let sku = unique("after");
    let body = json!({"name": "after", "price": 1, "category": "fruit"});
    eventually("a command is accepted again", || async {
        let headers = [("Idempotency-Key", sku.as_str())];
        let reply = http
            .command_with("product", &sku, "register", body.clone(), &headers)
            .await;
        assert!([200, 503].contains(&reply.status), "{reply:?}");
        (reply.status == 200).then_some(())
    })
    .await;
}

#[test]
fn bad_flags_exit_2_with_the_reason_before_anything_is_started() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    std::fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let data = temp.path().join("data");
    let cases: &[(&[&str], &str)] = &[
        (&["--colour"], "--colour"),
        (&["--http-addr", "nowhere"], "nowhere"),
        (&["--http-addr", "127.0.0.1:99999"], "99999"),
        (&["--nats-port", "many"], "many"),
        (&["--nats-server", "/nonexistent/nats"], "/nonexistent/nats"),
        (&["--data-dir", file], file),
        (&["--data-dir", "/proc/nonexistent"], "/proc/nonexistent"),
    ];
    for (arguments, reason) in cases {
        let mut command = headwater(["dev", "--no-seed"]);
        if !arguments.contains(&"--data-dir") {
            command.arg("--data-dir").arg(&data);
        }
        if !arguments.contains(&"--nats-server") {
            command.arg("--nats-server").arg(binary());
        }
        if !arguments.contains(&"--http-addr") {
            command.args(["--http-addr", "127.0.0.1:0"]);
        }
        assert_exits_2(&run(command.args(*arguments)), reason);
    }
}

#[test]
fn a_taken_http_port_exits_2_and_leaves_no_nats_server() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let temp = tempfile::tempdir().unwrap();
    let output = run(headwater(["dev", "--no-seed", "--http-addr", &address])
        .arg("--data-dir")
        .arg(temp.path())
        .arg("--nats-server")
        .arg(binary()));
    assert_exits_2(&output, &address);
    eventually_blocking(DEADLINE, "no nats-server is left", || {
        crate::harness::nats::servers_in(temp.path())
            .is_empty()
            .then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flag_is_also_a_variable_and_the_flag_wins() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("by-variable");
    let port = free_port();
    let mut command = headwater(["dev", "--http-addr", "127.0.0.1:0"]);
    command
        .env("HEADWATER_DATA_DIR", &folder)
        .env("HEADWATER_NATS_SERVER", binary())
        .env("HEADWATER_NATS_PORT", port.to_string())
        .env("HEADWATER_NO_SEED", "true")
        .env("HEADWATER_HTTP_ADDR", "nowhere");
    let service = Service::start(command, folder, tempfile::tempdir().unwrap());
    assert_eq!(service.nats_url(), format!("nats://127.0.0.1:{port}"));
    assert_eq!(service.nats_pids().len(), 1);
    assert_eq!(product_count(&service).await, 0);
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn a_bad_variable_exits_2_and_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let output = run(headwater(["dev"])
        .env("HEADWATER_NATS_PORT", "many")
        .env("HEADWATER_DATA_DIR", temp.path()));
    assert_exits_2(&output, "many");
}

#[test]
fn topology_is_applied_and_verified_from_the_command_line() {
    let nats = Nats::start();
    let url = nats.url();
    let topology = |verb: &str| run(&mut headwater(["topology", verb, "--nats", &url]));

    let output = topology("verify");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let told = text(&output.stdout) + &text(&output.stderr);
    assert!(told.contains("EVENTS: the stream does not exist"), "{told}");

    for _ in 0..2 {
        let output = topology("apply");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    let output = topology("verify");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn the_data_folder_of_others_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir(temp.path().join("nats")).unwrap();
    std::fs::write(temp.path().join("nats/precious"), "").unwrap();
    let output = run(headwater(["dev", "--reset", "--http-addr", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(temp.path())
        .arg("--nats-server")
        .arg(binary()));
    assert_exits_2(&output, "not made by headwater");
    assert!(Path::new(&temp.path().join("nats/precious")).exists());
}

#[test]
fn a_nats_server_that_lies_in_the_current_folder_is_not_run() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let tools = folder.path().join(".tools");
    std::fs::create_dir(&tools).unwrap();
    let (lying, ran) = (tools.join("nats-server"), folder.path().join("ran"));
    let script = format!("#!/bin/sh\ntouch '{}'\n", ran.display());
    std::fs::write(&lying, script).unwrap();
    std::fs::set_permissions(&lying, std::fs::Permissions::from_mode(0o755)).unwrap();
    // It ends by itself: its port is taken.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = headwater(["dev", "--no-seed", "--http-addr", &address]);
    command.arg("--data-dir").arg(folder.path().join("data"));
    command
        .current_dir(folder.path())
        .env("PATH", "/usr/bin:/bin");
    let output = run(&mut command);
    assert!(!output.status.success());
    assert!(!ran.exists(), "{}", text(&output.stderr));
}
