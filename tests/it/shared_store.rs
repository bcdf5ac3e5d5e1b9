//! Replicas that share one SurrealDB server: one of them keeps each view, all of them show it, and
//! the server may be away.

use crate::{
    harness::{
        api::{Api, Http},
        metrics::Metrics,
        nats::Nats,
        poll::{eventually, eventually_within},
        proxy::Proxy,
        replica::Replica,
        seed::Seed,
        service::{headwater, run},
        surreal::Surreal,
        unique,
    },
    live::Live,
    views,
};
use futures::{StreamExt, future::join_all};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const VIEWS: usize = 4;
/// How long things may take that wait for a server to be missed and to come back.
const LONG: Duration = Duration::from_secs(90);

fn replica_as(user: &str, password: &str, nats: &str, server: &Surreal, more: &[&str]) -> Replica {
    let url = server.url();
    let fixed = ["--surreal", &url, "--surreal-user", user];
    let fixed = [&fixed[..], &["--surreal-password", password], more].concat();
    Replica::of(nats, &fixed)
}

fn replica(nats: &Nats, server: &Surreal) -> Replica {
    replica_as("root", "root", &nats.url(), server, &[])
}

/// The names of the replicas that say that they keep each view.
async fn homes(client: &async_nats::Client) -> BTreeMap<String, Vec<String>> {
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.unwrap();
    client
        .publish_with_reply("ctl.projector.all.all.status", inbox, "".into())
        .await
        .unwrap();
    let mut homes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while let Ok(Some(message)) =
        tokio::time::timeout(Duration::from_millis(700), replies.next()).await
    {
        let reply: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
        if reply["here"] == true && reply.get("status").is_some() {
            let view = reply["view"].as_str().unwrap().to_owned();
            let replica = reply["replica"].as_str().unwrap().to_owned();
            homes.entry(view).or_default().push(replica);
        }
    }
    homes
}

/// Waits until each view has so many homes; returns them.
async fn until_homes(client: &async_nats::Client, number: usize) -> BTreeMap<String, Vec<String>> {
    let what = format!("each view has {number} homes");
    eventually(&what, || async {
        let homes = homes(client).await;
        let all = homes.values().all(|homes| homes.len() == number);
        (homes.len() == VIEWS && all).then_some(homes)
    })
    .await
}

/// Registers a product, which is accepted sooner or later.
async fn register(http: &Http) -> (String, String) {
    let (api, sku) = (Api::Http(http.clone()), unique("shared"));
    let position = eventually("the command is accepted", || async {
        let body = json!({"name": sku, "price": 1, "category": "test"});
        let key = [("Idempotency-Key", &*sku)];
        let reply = api
            .command_with("product", &sku, "register", body, &key)
            .await;
        (reply.status == 200).then(|| reply.header("Headwater-Position").to_owned())
    })
    .await;
    (sku, position)
}

async fn shown(http: &Http, sku: &str, position: &str) {
    let headers = [
        ("Headwater-Min-Position", position),
        ("Headwater-Max-Wait-Ms", "30000"),
    ];
    let api = Api::Http(http.clone());
    let reply = api.document("product", sku, &headers).await.expect(200);
    assert_eq!(reply.json()["document"]["name"], sku);
}

/// As [`shown`], once the store can be read again.
async fn shown_again(http: &Http, sku: &str, position: &str) {
    let api = Api::Http(http.clone());
    eventually_within(LONG, "the view has come after", || async {
        let headers = [("Headwater-Min-Position", position)];
        let reply = api.document("product", sku, &headers).await;
        (reply.status == 200).then_some(())
    })
    .await;
}

async fn operate(nats: &Nats, arguments: &[&str]) -> Output {
    let mut command = headwater(arguments);
    command.args(["--nats", &nats.url()]);
    let output = tokio::task::spawn_blocking(move || run(&mut command));
    output.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_views_are_on_a_shared_server_what_they_are_in_the_process() {
    let (nats, server) = (Nats::start(), Surreal::start());
    let mut replicas = [replica(&nats, &server), replica(&nats, &server)];
    let http = Api::Http(replicas[0].service().http());
    let other = Api::Nats(replicas[1].service().nats().await);
    views::suite(&http, &other).await;
    let verified = operate(&nats, &["views", "verify"]).await;
    assert!(verified.status.success(), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_rebuilt_and_rolled_back_while_three_replicas_show_it() {
    let (nats, server) = (Nats::start(), Surreal::start());
    let mut replicas: Vec<_> = (0..3).map(|_| replica(&nats, &server)).collect();
    let surfaces: Vec<_> = replicas.iter_mut().map(|r| r.service().http()).collect();
    until_homes(&nats.client().await, 1).await;
    let (sku, position) = register(&surfaces[0]).await;
    for action in ["rebuild", "rollback", "rollback", "drop"] {
        let done = operate(&nats, &["views", action, "product"]).await;
        assert!(done.status.success(), "{action}: {done:?}");
        for http in &surfaces {
            shown(http, &sku, &position).await;
            let (sku, position) = register(http).await;
            for http in &surfaces {
                shown(http, &sku, &position).await;
            }
        }
    }
    let verified = operate(&nats, &["views", "verify"]).await;
    assert!(verified.status.success(), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_view_has_one_home_and_another_when_that_dies() {
    let (nats, server) = (Nats::start(), Surreal::start());
    let mut replicas: Vec<_> = (0..3).map(|_| replica(&nats, &server)).collect();
    let client = nats.client().await;
    let mut home = until_homes(&client, 1).await["product"][0].clone();
    let (sku, position) = register(&replicas[0].service().http()).await;
    for replica in &mut replicas {
        shown(&replica.service().http(), &sku, &position).await;
    }
    while replicas.len() > 1 {
        let is_home = |replica: &mut Replica| replica.name() == home;
        let dying = replicas.iter_mut().position(is_home).unwrap();
        replicas.remove(dying).kill();
        let (sku, position) = register(&replicas[0].service().http()).await;
        for replica in &mut replicas {
            shown(&replica.service().http(), &sku, &position).await;
        }
        let next = until_homes(&client, 1).await["product"][0].clone();
        assert_ne!(next, home);
        home = next;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_documents_of_their_own_every_replica_keeps_every_view() {
    let nats = Nats::start();
    let own = ["--surreal", "mem://"];
    let mut replicas: Vec<_> = (0..3).map(|_| Replica::of(&nats.url(), &own)).collect();
    until_homes(&nats.client().await, 3).await;
    let (sku, position) = register(&replicas[0].service().http()).await;
    for replica in &mut replicas {
        shown(&replica.service().http(), &sku, &position).await;
    }
    // What the others do is nothing to the one that is left.
    replicas.truncate(1);
    let http = replicas[0].service().http();
    let (sku, position) = register(&http).await;
    shown(&http, &sku, &position).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_was_silent_for_a_while_is_refused_and_nothing_is_lost() {
    let (nats, server) = (Nats::start(), Surreal::start());
    let mut replicas: Vec<_> = (0..2).map(|_| replica(&nats, &server)).collect();
    let client = nats.client().await;
    let home = until_homes(&client, 1).await["product"][0].clone();
    let is_home = |replica: &mut Replica| replica.name() == home;
    let silent = replicas.iter_mut().position(is_home).unwrap();
    replicas[silent].pause();
    let other = replicas[1 - silent].service().http();
    let (first, position) = register(&other).await;
    shown(&other, &first, &position).await;
    let taken = until_homes(&client, 1).await["product"][0].clone();
    assert_ne!(taken, home);
    replicas[silent].resume();
    let silent = replicas[silent].service().http();
    for http in [&silent, &other] {
        shown(http, &first, &position).await;
        let (second, position) = register(http).await;
        shown(&silent, &second, &position).await;
        shown(&other, &second, &position).await;
    }
    until_homes(&client, 1).await;
    let verified = operate(&nats, &["views", "verify"]).await;
    assert!(verified.status.success(), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_suffices_to_answer_queries_and_an_editor_to_keep_documents() {
    let (nats, server) = (Nats::start(), Surreal::start());
    server
        .run(
            "DEFINE USER editor ON ROOT PASSWORD 'e' ROLES EDITOR; \
             DEFINE USER viewer ON ROOT PASSWORD 'v' ROLES VIEWER;",
        )
        .await;
    // The reader comes first: it waits for somebody who may prepare the documents.
    let server = Arc::new(server);
    let start = |user: &'static str, password: &'static str, roles: &'static str| {
        let (url, server) = (nats.url(), Arc::clone(&server));
        tokio::task::spawn_blocking(move || {
            replica_as(user, password, &url, &server, &["--roles", roles])
        })
    };
    let reader = start("viewer", "v", "gateway");
    let keeper = start("editor", "e", "command,projector,gateway");
    let (mut reader, mut keeper) = (reader.await.unwrap(), keeper.await.unwrap());
    let (sku, position) = register(&keeper.service().http()).await;
    let reader = reader.service().http();
    shown(&reader, &sku, &position).await;
    let list = Api::Http(reader)
        .list("product", json!({"category": "test", "count": true}), &[])
        .await
        .expect(200)
        .json();
    assert_eq!(list["count"], 1, "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_user_the_server_does_not_know_for_a_while_goes_on_and_parks_nothing() {
    let (nats, mut server) = (Nats::start(), Surreal::start());
    let editor = "DEFINE USER editor ON ROOT PASSWORD 'e' ROLES EDITOR;";
    server.run(editor).await;
    let mut replica = replica_as("editor", "e", &nats.url(), &server, &[]);
    let http = replica.service().http();
    let (sku, position) = register(&http).await;
    shown(&http, &sku, &position).await;
    server.run("REMOVE USER editor ON ROOT;").await;
    server.kill();
    server.restart();
    let (sku, position) = register(&http).await;
    said_to_be_stalled(&http).await;
    server.run(editor).await;
    eventually_within(LONG, "the documents go on", || async {
        let at = [("Headwater-Min-Position", &*position)];
        let reply = http.get(&format!("/views/product/{sku}"), &at).await;
        (reply.status == 200).then_some(())
    })
    .await;
    said_to_follow(&http).await;
    let parked = operate(&nats, &["parked", "list"]).await;
    let told = String::from_utf8_lossy(&parked.stdout);
    assert!(
        parked.status.success() && !told.contains(&sku),
        "{parked:?}"
    );
    let verified = operate(&nats, &["views", "verify"]).await;
    assert!(verified.status.success(), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_somebody_has_changed_is_found_by_verifying() {
    let (nats, server) = (Nats::start(), Surreal::start());
    let mut one = replica(&nats, &server);
    let http = one.service().http();
    let (sku, position) = register(&http).await;
    shown(&http, &sku, &position).await;
    let verified = operate(&nats, &["views", "verify"]).await;
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    server
        .run("USE NS headwater DB views; UPDATE product_v1_f2 SET doc.price = 99;")
        .await;
    let verified = operate(&nats, &["views", "verify", "product"]).await;
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
    let shown = String::from_utf8_lossy(&verified.stdout);
    for text in [&*sku, "\"price\":99", "\"price\":1", "1 differ"] {
        assert!(shown.contains(text), "{text} in {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_write_keeps_no_documents_and_says_why() {
    let (nats, server) = (Nats::start(), Surreal::start());
    server
        .run("DEFINE USER viewer ON ROOT PASSWORD 'v' ROLES VIEWER;")
        .await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = headwater(["serve", "--http-addr", "127.0.0.1:0", "--nats", &nats.url()]);
    command.args(["--surreal", &server.url(), "--surreal-user", "viewer"]);
    command.env("HEADWATER_SURREAL_PASSWORD", "v");
    command.arg("--data-dir").arg(folder.path().join("data"));
    let ended = tokio::task::spawn_blocking(move || run(&mut command));
    let ended = ended.await.unwrap();
    let reason = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{reason}");
    assert!(reason.contains("refuses"), "{reason}");
}

/// The view says that it is stalled, and for how long, wherever that can be asked.
pub(crate) async fn said_to_be_stalled(http: &Http) {
    eventually("the replica says that the view is stalled", || async {
        let ready = http.get("/readyz", &[]).await;
        let ready = String::from_utf8(ready.body.to_vec()).unwrap();
        ready.contains("stalled since").then_some(())
    })
    .await;
    eventually("it is measured", || async {
        let metrics = Metrics::of(http).await;
        let product = |name: &str| metrics.sum(name, "view=\"product\"");
        let stalled = product("headwater_view_following") == 0.0
            && product("headwater_view_lag_seconds") > 0.0
            && product("headwater_view_retries_total") > 0.0;
        stalled.then_some(())
    })
    .await;
}

pub(crate) async fn said_to_follow(http: &Http) {
    eventually_within(LONG, "the view follows the log again", || async {
        let metrics = Metrics::of(http).await;
        let following = metrics.sum("headwater_view_following", "view=\"product\"");
        (following == 1.0).then_some(())
    })
    .await;
}

async fn shown_as_stalled(nats: &Nats) {
    let status = operate(nats, &["views", "status", "product"]).await;
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        status.contains("product  v1 live") && status.contains("stalled for "),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_stalls_the_views_and_loses_nothing() {
    let (nats, server) = (Nats::start(), Surreal::start());
    let mut replicas = [replica(&nats, &server), replica(&nats, &server)];
    until_homes(&nats.client().await, 1).await;
    let [http, other] = [0, 1].map(|number| replicas[number].service().http());
    let (first, position) = register(&http).await;
    shown(&http, &first, &position).await;
    shown(&other, &first, &position).await;
    server.pause();
    // Commands are taken all the same.
    let (second, position) = register(&http).await;
    // Whichever of the two keeps the view.
    eventually("its home says that the view is stalled", || async {
        let status = operate(&nats, &["views", "status", "product"]).await;
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        status.contains("stalled for ").then_some(())
    })
    .await;
    for http in [&http, &other] {
        // What is in memory is still served, with its age, and what is not is refused at once.
        eventually("a copy tells its age", || async {
            let kept = http.get(&format!("/views/product/{first}"), &[]).await;
            assert_eq!(kept.status, 200);
            (kept.header("Headwater-Lag-Ms") != "0").then_some(())
        })
        .await;
        let list = http.get("/views/product", &[]).await;
        list.problem(503, "unavailable");
    }
    server.resume();
    for http in [&http, &other] {
        shown_again(http, &second, &position).await;
        shown(http, &first, &position).await;
        eventually_within(LONG, "the view is up to date again", || async {
            let reply = http.get(&format!("/views/product/{second}"), &[]).await;
            (reply.header("Headwater-Lag-Ms") == "0").then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_killed_stalls_the_views_and_loses_nothing() {
    let (nats, mut server) = (Nats::start(), Surreal::start());
    let mut one = replica(&nats, &server);
    let http = one.service().http();
    let (first, position) = register(&http).await;
    shown(&http, &first, &position).await;
    server.kill();
    let (second, position) = register(&http).await;
    said_to_be_stalled(&http).await;
    shown_as_stalled(&nats).await;
    server.restart();
    shown_again(&http, &second, &position).await;
    shown(&http, &first, &position).await;
    said_to_follow(&http).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_hangs_stalls_the_views_and_loses_nothing() {
    let nats = Nats::start();
    let mut one = Replica::of(&nats.url(), &["--surreal", "mem://"]);
    let http = one.service().http();
    let (first, position) = register(&http).await;
    shown(&http, &first, &position).await;
    nats.pause();
    said_to_be_stalled(&http).await;
    // What is there is still served, with its age.
    let kept = http.get(&format!("/views/product/{first}"), &[]).await;
    assert_eq!(kept.status, 200);
    assert_ne!(kept.header("Headwater-Lag-Ms"), "0");
    nats.resume();
    let (second, position) = register(&http).await;
    shown(&http, &second, &position).await;
    said_to_follow(&http).await;
}

/// Three replicas, each behind a proxy that loses some of the announcements that it should hear.
#[tokio::test(flavor = "multi_thread")]
async fn no_replica_shows_an_older_document_although_announcements_are_lost() {
    const WRITERS: usize = 4;
    const ROUNDS: u64 = 25;
    let (nats, server, seed) = (Nats::start(), Surreal::start(), Seed::of_this_run());
    let proxies: Vec<_> = (0..3)
        .map(|number| Proxy::losing(nats.port(), "applied.", seed.part(number)))
        .collect();
    let mut replicas: Vec<_> = proxies
        .iter()
        .map(|proxy| replica_as("root", "root", &proxy.nats_url(), &server, &[]))
        .collect();
    let surfaces: Vec<_> = replicas.iter_mut().map(|r| r.service().http()).collect();
    let skus: Vec<_> = (0..WRITERS).map(|_| unique("cached")).collect();
    let writing = Arc::new(AtomicBool::new(true));
    // So that there are copies everywhere, of every age.
    let readers = surfaces.iter().map(|http| {
        let (http, writing, skus) = (http.clone(), Arc::clone(&writing), skus.clone());
        tokio::spawn(async move {
            while writing.load(Ordering::Relaxed) {
                for sku in &skus {
                    http.get(&format!("/views/product/{sku}"), &[]).await;
                }
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    let writers = skus.into_iter().enumerate().map(|(number, sku)| {
        let surfaces = surfaces.clone();
        tokio::spawn(async move {
            let api = Api::Http(surfaces[number % surfaces.len()].clone());
            for price in 1..=ROUNDS {
                let (command, body) = match price {
                    1 => (
                        "register",
                        json!({"name": sku, "price": 1, "category": "c"}),
                    ),
                    _ => ("reprice", json!({"price": price})),
                };
                let accepted = api.command("product", &sku, command, body).await;
                let accepted = accepted.expect(200);
                let headers = [
                    (
                        "Headwater-Min-Position",
                        accepted.header("Headwater-Position"),
                    ),
                    ("Headwater-Max-Wait-Ms", "30000"),
                ];
                let path = format!("/views/product/{sku}");
                let seen = surfaces.iter().map(|http| http.get(&path, &headers));
                for reply in join_all(seen).await {
                    let shown = reply.expect(200).json()["document"]["price"].clone();
                    assert_eq!(shown, price, "{sku}");
                }
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    writing.store(false, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    let lost: u64 = proxies.iter().map(Proxy::lost).sum();
    assert!(lost > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_followed_on_every_replica_whichever_keeps_the_view() {
    let (nats, server) = (Nats::start(), Surreal::start());
    let mut replicas: Vec<_> = (0..3).map(|_| replica(&nats, &server)).collect();
    let surfaces: Vec<_> = replicas.iter_mut().map(|r| r.service().http()).collect();
    let (sku, position) = register(&surfaces[0]).await;
    let path = format!("/views/product/{sku}/live");
    let headers = [
        ("Headwater-Min-Position", &*position),
        ("Headwater-Max-Wait-Ms", "30000"),
    ];
    let mut clients = Vec::new();
    for http in &surfaces {
        let mut live = Live::open(http, &path, &headers).await;
        assert_eq!(live.next().await.data["document"]["price"], 1);
        clients.push(live);
    }
    for price in 2..5 {
        let api = Api::Http(surfaces[price % 3].clone());
        api.command("product", &sku, "reprice", json!({"price": price}))
            .await
            .expect(200);
        for live in &mut clients {
            assert_eq!(live.next().await.data["document"]["price"], price);
        }
    }
}
