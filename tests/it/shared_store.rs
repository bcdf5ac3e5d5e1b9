//! Replicas that share one SurrealDB server. Ignored unless asked for, since its build takes long:
//! `make test-shared` builds it and runs them.

use crate::harness::{
    api::Api,
    nats::Nats,
    poll::{eventually, eventually_within},
    service::{Service, headwater},
    surreal::{self, Surreal},
    unique,
};
use futures::StreamExt;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

fn replica(nats: &Nats, server: &Surreal, user: (&str, &str), arguments: &[&str]) -> Service {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    let mut command = headwater(["serve", "--http-addr", "127.0.0.1:0", "--nats", &nats.url()]);
    command.args(["--surreal", &server.url(), "--surreal-user", user.0]);
    command.env("HEADWATER_SURREAL_PASSWORD", user.1);
    command.arg("--data-dir").arg(&folder).args(arguments);
    Service::start(command, folder, temp)
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
            homes
                .entry(view)
                .or_default()
                .push(reply["replica"].to_string());
        }
    }
    homes
}

async fn register(service: &Service) -> (String, String) {
    let sku = unique("shared");
    let body = json!({"name": sku, "price": 1, "category": "test"});
    let accepted = Api::Http(service.http())
        .command("product", &sku, "register", body)
        .await
        .expect(200);
    (sku, accepted.header("Headwater-Position").to_owned())
}

async fn shown(service: &Service, sku: &str, position: &str) {
    let headers = [
        ("Headwater-Min-Position", position),
        ("Headwater-Max-Wait-Ms", "30000"),
    ];
    let reply = Api::Http(service.http())
        .document("product", sku, &headers)
        .await
        .expect(200);
    assert_eq!(reply.json()["document"]["name"], sku);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a SurrealDB server: make test-shared"]
async fn each_view_has_one_home_and_another_when_that_dies() {
    let binary = surreal::binary().expect("make test-shared builds the server");
    let (nats, server) = (Nats::start(), Surreal::start(binary));
    let root = ("root", "root");
    let mut replicas: Vec<_> = (0..3).map(|_| replica(&nats, &server, root, &[])).collect();
    let client = nats.client().await;
    eventually("each view has one home", || async {
        let homes = homes(&client).await;
        (homes.len() == 4 && homes.values().all(|homes| homes.len() == 1)).then_some(())
    })
    .await;
    let (sku, position) = register(&replicas[0]).await;
    for replica in &replicas {
        shown(replica, &sku, &position).await;
    }
    // Whichever is the home, killing two of three takes it away once.
    for _ in 0..2 {
        let mut victim = replicas.remove(0);
        victim.signal("KILL");
        victim.wait();
        let (sku, position) = eventually_within(
            Duration::from_secs(30),
            "a command is taken after a replica's death",
            || async {
                let sku = unique("shared");
                let body = json!({"name": sku, "price": 1, "category": "test"});
                let api = Api::Http(replicas[0].http());
                let reply = api.command("product", &sku, "register", body).await;
                let position = reply.header("Headwater-Position").to_owned();
                (reply.status == 200).then_some((sku, position))
            },
        )
        .await;
        for replica in &replicas {
            shown(replica, &sku, &position).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a SurrealDB server: make test-shared"]
async fn a_viewer_suffices_to_answer_queries_and_an_editor_to_keep_documents() {
    let binary = surreal::binary().expect("make test-shared builds the server");
    let (nats, server) = (Nats::start(), Surreal::start(binary));
    server
        .run(
            "DEFINE USER editor ON ROOT PASSWORD 'e' ROLES EDITOR; \
             DEFINE USER viewer ON ROOT PASSWORD 'v' ROLES VIEWER;",
        )
        .await;
    let keeper = replica(
        &nats,
        &server,
        ("editor", "e"),
        &["--roles", "command,projector,gateway"],
    );
    let reader = replica(&nats, &server, ("viewer", "v"), &["--roles", "gateway"]);
    let (sku, position) = register(&keeper).await;
    shown(&reader, &sku, &position).await;
    let list = Api::Http(reader.http())
        .list("product", json!({"category": "test", "count": true}), &[])
        .await
        .expect(200)
        .json();
    assert_eq!(list["count"], 1, "{list}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a SurrealDB server: make test-shared"]
async fn a_store_that_was_away_loses_nothing() {
    let binary = surreal::binary().expect("make test-shared builds the server");
    let (nats, mut server) = (Nats::start(), Surreal::start(binary));
    let service = replica(&nats, &server, ("root", "root"), &[]);
    let (first, position) = register(&service).await;
    shown(&service, &first, &position).await;
    server.kill();
    // Commands are taken all the same.
    let (second, position) = register(&service).await;
    server.restart();
    eventually_within(
        Duration::from_secs(60),
        "the view has come after",
        || async {
            let headers = [("Headwater-Min-Position", &*position)];
            let api = Api::Http(service.http());
            let reply = api.document("product", &second, &headers).await;
            (reply.status == 200).then_some(())
        },
    )
    .await;
    shown(&service, &first, &position).await;
}
