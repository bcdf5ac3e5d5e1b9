//! A copy of the log that is taken while all runs, and a log that is made of it.

use crate::harness::{
    api::Api,
    backup::{delete, last_position},
    nats::Nats,
    poll::eventually,
    service::{Service, headwater, run},
};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Output};

fn operate(arguments: &[&str], nats: &Nats) -> Output {
    run(headwater(arguments).args(["--nats", &nats.url()]))
}

#[track_caller]
fn said(output: &Output, code: i32) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

/// A service, and three products.
async fn with_products(nats: &Nats, arguments: &[&str]) -> (Service, Api) {
    let service = Service::serve(&nats.url(), arguments);
    let api = Api::Http(service.http());
    for (sku, barcode) in [
        ("apple", "8801234567893"),
        ("pear", "8801234567909"),
        ("plum", "8801234567916"),
    ] {
        register(&api, sku, barcode).await.expect(200);
    }
    (service, api)
}

async fn register(api: &Api, sku: &str, barcode: &str) -> crate::harness::api::Reply {
    let product = json!({"name": sku, "price": 100, "category": "fruit", "barcode": barcode});
    api.command("product", sku, "register", product).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_taken_while_all_runs_and_restored_elsewhere() {
    let nats = Nats::start();
    let (service, api) = with_products(&nats, &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let copy = copy.to_str().unwrap();
    let told = said(&operate(&["backup", copy], &nats), 0);
    assert!(told.contains("the log's own salt"), "{told}");
    let last = last_position(&nats.client().await, "EVENTS").await;
    let manifest: Value =
        serde_json::from_slice(&fs::read(format!("{copy}/headwater.json")).unwrap()).unwrap();
    assert_eq!(
        (&manifest["log"]["last"], &manifest["keys"]),
        (&json!(last), &json!("log_salt"))
    );
    register(&api, "late", "8801234567923").await.expect(200);

    // Never over what is there, and never twice into one folder.
    said(&operate(&["restore", copy], &nats), 2);
    said(&operate(&["backup", copy], &nats), 2);
    drop(service);

    let other = Nats::start();
    let told = said(&operate(&["restore", copy], &other), 0);
    assert!(
        told.contains("this build can decode and fold all of it"),
        "{told}"
    );
    assert_eq!(last_position(&other.client().await, "EVENTS").await, last);
    let service = Service::serve(&other.url(), &[]);
    let api = Api::Http(service.http());
    register(&api, "taken", "8801234567893")
        .await
        .problem(409, "claim_taken");
    register(&api, "free", "8801234567923").await.expect(200);
    eventually("the views are filled anew", || async {
        let reply = api.document("product", "plum", &[]).await;
        (reply.status == 200).then_some(())
    })
    .await;
    said(&operate(&["topology", "verify"], &other), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_back_into_the_place_of_its_log_under_running_replicas() {
    let nats = Nats::start();
    let (_service, api) = with_products(&nats, &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let copy = copy.to_str().unwrap();
    said(&operate(&["backup", copy], &nats), 0);
    register(&api, "lost", "8801234567923").await.expect(200);
    delete(&nats.client().await, "EVENTS").await;
    said(&operate(&["restore", copy], &nats), 0);
    eventually("commands are taken again", || async {
        let reply = register(&api, "lost", "8801234567923").await;
        (reply.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_that_has_to_be_kept_is_told_and_compared() {
    let nats = Nats::start();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (right, wrong) = (
        file("right", "0123456789abcdef"),
        file("wrong", "fedcba9876543210"),
    );
    drop(with_products(&nats, &["--secret-file", &right]).await);
    let copy = folder.path().join("copy");
    let copy = copy.to_str().unwrap();
    let told = said(&operate(&["backup", copy], &nats), 0);
    assert!(told.contains("NOT in the copy"), "{told}");
    let other = Nats::start();
    let told = said(
        &operate(&["restore", copy, "--secret-file", &wrong], &other),
        2,
    );
    assert!(told.contains("another secret"), "{told}");
    let other = Nats::start();
    said(
        &operate(&["restore", copy, "--secret-file", &right], &other),
        0,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_copy_is_refused_before_anything_is_sent() {
    let nats = Nats::start();
    drop(with_products(&nats, &[]).await);
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let path = copy.to_str().unwrap();
    said(&operate(&["backup", path], &nats), 0);
    let other = Nats::start();
    let archive = copy.join("stream.tar.s2");
    let content = fs::read(&archive).unwrap();
    fs::write(&archive, &content[..content.len() - 1]).unwrap();
    let told = said(&operate(&["restore", path], &other), 2);
    assert!(told.contains("damaged"), "{told}");
    // As a kill leaves it; it is begun anew, and then is one.
    fs::remove_file(copy.join("headwater.json")).unwrap();
    let told = said(&operate(&["restore", path], &other), 2);
    assert!(told.contains("not finished"), "{told}");
    said(&operate(&["backup", path], &nats), 0);
    said(&operate(&["restore", path], &other), 0);

    let own = folder.path().join("own");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("mine.txt"), "mine").unwrap();
    said(&operate(&["backup", own.to_str().unwrap()], &nats), 2);
    assert!(Path::new(&own).join("mine.txt").exists());
}
