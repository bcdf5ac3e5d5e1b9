//! A log as a file and back: nothing is lost, doubled or changed, whenever either is killed.

use crate::harness::{
    api::Api,
    nats::Nats,
    poll::eventually_blocking,
    seed::Seed,
    service::{Service, headwater, run},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};
use tempfile::TempDir;

/// How often each direction is killed.
const KILLS: u64 = 20;
const LIMIT: Duration = Duration::from_secs(60);

/// A log with some of everything: claims, keys, traces, an exclusion, records, and commits of many events.
struct World {
    nats: Nats,
    folder: TempDir,
}

impl World {
    async fn start() -> Self {
        let nats = Nats::start();
        let service = Service::serve(&nats.url(), &[]);
        let api = Api::Http(service.http());
        for (sku, barcode) in [("apple", "8801234567893"), ("pear", "8801234567909")] {
            let product =
                json!({"name": sku, "price": 100, "category": "fruit", "barcode": barcode});
            let headers = [
                ("Idempotency-Key", sku),
                (
                    "traceparent",
                    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                ),
                ("tracestate", "a=1,b=\"2\""),
            ];
            let registering = api.command_with("product", sku, "register", product, &headers);
            registering.await.expect(200);
        }
        let receiving = (0..40).map(|_| {
            let quantity = json!({"quantity": 1});
            api.command("stock", "b_apple", "receive", quantity)
        });
        for reply in futures::future::join_all(receiving).await {
            reply.expect(200);
        }
        drop(service);
        let world = Self {
            nats,
            folder: tempfile::tempdir().unwrap(),
        };
        let junk = world.put("evt.product.apple", "junk\n".to_owned()).await;
        let exclude = [
            "exclude",
            "product",
            "apple",
            &junk.to_string(),
            "--reason",
            "junk",
            "--by",
            "ada",
        ];
        succeeds(&world.events(&world.nats, &exclude));
        world
    }

    /// Puts a message into the log, as no replica does; returns its position.
    async fn put(&self, subject: &str, body: String) -> u64 {
        let jetstream = self.nats.jetstream().await;
        let published = jetstream.publish(subject.to_owned(), body.into()).await;
        published.unwrap().await.unwrap().sequence
    }

    /// Adds commits of stocks, one event each.
    async fn add(&self, commits: u64) {
        let jetstream = self.nats.jetstream().await;
        for version in 1..=commits / 100 {
            let mut sent = Vec::new();
            for stock in 0..100 {
                let body = received(&format!("f_{stock}"), version, &json!(1));
                let subject = format!("evt.stock.f_{stock}");
                sent.push(jetstream.publish(subject, body.into()).await.unwrap());
            }
            for sent in sent {
                sent.await.unwrap();
            }
        }
    }

    fn events(&self, nats: &Nats, arguments: &[&str]) -> Output {
        let mut command = headwater(["events"]);
        run(command.args(arguments).args(["--nats", &nats.url()]))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn export(&self, nats: &Nats, name: &str) -> Vec<u8> {
        let path = self.path(name);
        succeeds(&self.events(nats, &["export", path.to_str().unwrap()]));
        fs::read(path).unwrap()
    }

    fn import(&self, nats: &Nats, name: &str, more: &[&str]) -> Output {
        let path = self.path(name);
        self.events(nats, &[&["import", path.to_str().unwrap()], more].concat())
    }
}

fn received(stock: &str, version: u64, quantity: &Value) -> String {
    json!([{
        "specversion": "1.0", "source": format!("/stock/{stock}"), "id": version.to_string(),
        "type": "stock.received.v1", "time": "2026-11-27T09:00:00Z", "commandid": format!("{stock}-{version}"),
        "data": {"quantity": quantity, "available": version},
    }])
    .to_string()
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn fails(output: &Output, code: i32, text: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(text), "{said}");
}

async fn last_position(nats: &Nats) -> u64 {
    let jetstream = nats.jetstream().await;
    match jetstream.get_stream("EVENTS").await {
        Ok(stream) => stream.cached_info().state.last_sequence,
        Err(_) => 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_imported_is_the_same_in_all_that_counts() {
    let world = World::start().await;
    let exported = world.export(&world.nats, "log.ndjson");
    let other = Nats::start();
    succeeds(&world.import(&other, "log.ndjson", &[]));
    assert_eq!(
        world.export(&other, "again.ndjson"),
        exported,
        "byte for byte"
    );

    // Each line is a CloudEvent, and says where it stands.
    let text = String::from_utf8(exported).unwrap();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        for attribute in ["specversion", "source", "id", "type"] {
            assert!(event[attribute].is_string(), "{line}");
        }
    }
    assert!(text.contains(r#""traceparent":"00-0af7651916cd43dd8448eb211c80319c-"#));
    assert!(text.contains(r#""type":"headwater.claim.v1""#) && text.contains(r#""part":"2/"#));

    // Keys, claims and documents are as they were.
    let service = Service::serve(&other.url(), &[]);
    let api = Api::Http(service.http());
    let pear =
        |barcode| json!({"name": "pear", "price": 100, "category": "fruit", "barcode": barcode});
    let again = pear("8801234567909");
    let again = api.command_with(
        "product",
        "pear",
        "register",
        again,
        &[("Idempotency-Key", "pear")],
    );
    assert_eq!(again.await.expect(200).json()["replayed"], true);
    let taken = api
        .command("product", "plum", "register", pear("8801234567893"))
        .await;
    taken.problem(409, "claim_taken");
    let stock = api
        .command("stock", "b_apple", "receive", json!({"quantity": 1}))
        .await;
    assert_eq!(stock.expect(200).json()["version"], 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_goes_on_and_nothing_is_lost_or_doubled() {
    let world = World::start().await;
    world.add(30_000).await;
    let exported = world.export(&world.nats, "log.ndjson");
    let all = last_position(&world.nats).await;
    let other = Nats::start();
    let (path, mut kills) = (world.path("log.ndjson"), 0);
    for kill in 1..=KILLS {
        let mut import = headwater(["events", "import"]);
        import.arg(&path).args(["--nats", &other.url()]);
        let mut import = import.stdout(std::process::Stdio::null()).spawn().unwrap();
        let until = all * kill / (KILLS + 1);
        let done = loop {
            if let Some(status) = import.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                break true;
            }
            if last_position(&other).await >= until {
                break false;
            }
        };
        if done {
            break;
        }
        import.kill().unwrap();
        import.wait().unwrap();
        kills += 1;
    }
    assert!(kills > KILLS / 2, "it was killed {kills} times");
    succeeds(&world.import(&other, "log.ndjson", &[]));
    assert_eq!(last_position(&other).await, all);
    assert_eq!(world.export(&other, "again.ndjson"), exported);
    let again = succeeds(&world.import(&other, "log.ndjson", &[]));
    assert!(again.contains(" 0 of them now"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_killed_goes_on_to_the_same_file() {
    let world = World::start().await;
    world.add(10_000).await;
    let exported = world.export(&world.nats, "log.ndjson");
    let path = world.path("killed.ndjson");
    let mut seed = Seed::of_this_run();
    // As a kill leaves it: cut anywhere, in the middle of a line too.
    for _ in 0..KILLS {
        let length = seed.within(0..exported.len() as u64) as usize;
        fs::write(&path, &exported[..length]).unwrap();
        assert!(
            world.export(&world.nats, "killed.ndjson") == exported,
            "cut at {length}"
        );
    }
    // And really killed, while it writes.
    fs::remove_file(&path).unwrap();
    for kill in 1..4 {
        let mut export = headwater(["events", "export"]);
        export.arg(&path).args(["--nats", &world.nats.url()]);
        let mut export = export.spawn().unwrap();
        let until = exported.len() as u64 * kill / 4;
        eventually_blocking(LIMIT, "some of it is written", || {
            let length = fs::metadata(&path).map_or(0, |file| file.len());
            (length >= until || export.try_wait().unwrap().is_some()).then_some(())
        });
        export.kill().unwrap();
        export.wait().unwrap();
    }
    assert!(world.export(&world.nats, "killed.ndjson") == exported);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_imported_is_refused_and_said_why() {
    let world = World::start().await;
    let exported = String::from_utf8(world.export(&world.nats, "log.ndjson")).unwrap();
    let all = last_position(&world.nats).await;

    // A log that somebody has written to.
    let other = Nats::start();
    drop(Service::serve(&other.url(), &[]));
    let jetstream = other.jetstream().await;
    let put = jetstream.publish("evt.stock.b_1", received("b_1", 1, &json!(1)).into());
    put.await.unwrap().await.unwrap();
    fails(
        &world.import(&other, "log.ndjson", &[]),
        2,
        "the log is another one: at position",
    );
    fails(
        &world.import(
            &world.nats,
            "log.ndjson",
            &["--dry-run", "--leave-out", "x"],
        ),
        0,
        "",
    );

    let file = |name: &str, text: &str| fs::write(world.path(name), text).unwrap();
    let empty = Nats::start();
    let write = |name: &str, text: String| {
        file(name, &text);
        world.import(&empty, name, &[])
    };
    // A file that was changed, one that was cut off, and none at all.
    fails(
        &write(
            "changed",
            exported.replacen("\"price\":100", "\"price\":101", 1),
        ),
        1,
        "checksum",
    );
    let empty = Nats::start();
    let write = |name: &str, text: String| {
        file(name, &text);
        world.import(&empty, name, &[])
    };
    fails(
        &write("cut", exported[..exported.len() / 2].to_owned()),
        1,
        "it was not exported to its end",
    );
    fails(&write("none", "{}\n".to_owned()), 1, "line 1");
    fails(
        &world.events(&empty, &["import", "/no/such/file"]),
        2,
        "/no/such/file",
    );

    // What this build cannot fold, is not sent, nor what comes after it.
    let bad = received("b_9", 1, &json!("many"));
    let position = world.put("evt.stock.b_9", bad).await;
    world
        .put("evt.stock.b_8", received("b_8", 1, &json!(1)))
        .await;
    assert_eq!(position, all + 1);
    world.export(&world.nats, "broken");
    let empty = Nats::start();
    let broken =
        format!("position {position}  evt.stock.b_9  stock.received.v1  version 1  field quantity");
    fails(&world.import(&empty, "broken", &["--dry-run"]), 1, &broken);
    fails(&world.import(&empty, "broken", &[]), 1, &broken);
    assert_eq!(last_position(&empty).await, all);

    // Another log's file is not written over.
    let path = world.path("log.ndjson");
    let cut = &exported[..exported.len() - 200];
    fs::write(&path, cut).unwrap();
    let export = world.events(&other, &["export", path.to_str().unwrap()]);
    fails(&export, 2, "is of another log");
    assert_eq!(fs::read_to_string(&path).unwrap(), cut);
    let own = world.path("own");
    fs::write(&own, "what is mine").unwrap();
    assert!(
        !world
            .events(&other, &["export", own.to_str().unwrap()])
            .status
            .success()
    );
    assert_eq!(fs::read_to_string(Path::new(&own)).unwrap(), "what is mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_goes_from_one_to_another_through_a_pipe() {
    let world = World::start().await;
    let other = Nats::start();
    let mut export = headwater(["events", "export", "-", "--nats", &world.nats.url()]);
    let mut export = export.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut import = headwater(["events", "import", "-", "--nats", &other.url()]);
    let imported = run(import.stdin(export.stdout.take().unwrap()));
    succeeds(&imported);
    assert!(export.wait().unwrap().success());
    assert_eq!(
        last_position(&other).await,
        last_position(&world.nats).await
    );
}
