//! A replica that is told to stop finishes what it has, and no client notices more than a 503.

use crate::{
    command_placement::serve,
    harness::{
        api::{Api, NatsApi, Reply},
        nats::Nats,
        poll::eventually,
    },
};
use futures::StreamExt;
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Gives one command until it is no longer answered 503.
async fn until_taken(nats: &NatsApi, id: &str, key: &str, price: u64) -> Reply {
    loop {
        let body = json!({ "price": price }).to_string().into_bytes();
        let subject = format!("cmd.product.{id}.reprice");
        let headers = [("Idempotency-Key", key)];
        match nats.request(subject, body, &headers).await {
            Ok(reply) if reply.status == 503 => {}
            Ok(reply) => return reply,
            // Nobody there for a moment is for a client what a 503 is.
            Err(error) => assert_eq!(error, async_nats::RequestErrorKind::NoResponders),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_drains_under_load_and_no_command_is_refused_or_lost() {
    let nats = Nats::start();
    let roles = ["--roles", "command"];
    let mut replicas = vec![serve(&nats, &roles), serve(&nats, &roles)];
    let api = NatsApi::connect(&nats.url()).await;
    let body = json!({"name": "n", "price": 1, "category": "fruit"});
    for number in 0..16 {
        let id = format!("p-{number}");
        let surface = Api::Nats(api.clone());
        let reply = surface.command("product", &id, "register", body.clone());
        reply.await.expect(200);
    }
    let (stop, given) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let (api, stop, given) = (api.clone(), stop.clone(), given.clone());
            tokio::spawn(async move {
                let id = format!("p-{writer}");
                let mut accepted = 0;
                while !stop.load(Ordering::SeqCst) {
                    let key = format!("key-{accepted}");
                    until_taken(&api, &id, &key, accepted + 2).await.expect(200);
                    accepted += 1;
                    given.fetch_add(1, Ordering::SeqCst);
                }
                accepted
            })
        })
        .collect();
    let more = |than: u64| {
        let given = given.clone();
        eventually("commands are taken", move || {
            let now = given.load(Ordering::SeqCst);
            async move { (now > than).then_some(now) }
        })
    };
    for _ in 0..3 {
        let taken = more(0).await;
        more(taken + 100).await;
        let mut leaving = replicas.remove(0);
        leaving.signal("TERM");
        let ended = tokio::task::spawn_blocking(move || (leaving.wait(), leaving.transcript()));
        let (status, transcript) = ended.await.unwrap();
        assert_eq!(status.code(), Some(0), "{transcript}");
        replicas.push(serve(&nats, &roles));
    }
    stop.store(true, Ordering::SeqCst);
    for (number, writer) in writers.into_iter().enumerate() {
        let accepted: u64 = writer.await.unwrap();
        let id = format!("p-{number}");
        let reply = until_taken(&api, &id, "last", 1_000_000).await.expect(200);
        assert_eq!(reply.json()["version"], accepted + 2, "one event a command");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_is_answered_before_the_replica_ends() {
    let nats = Nats::start();
    let mut replica = serve(&nats, &[]);
    let http = replica.http();
    let body = json!({"name": "n", "price": 1, "category": "fruit"});
    // The server holds still, so the command waits for it while the replica is told to stop.
    Api::Http(http.clone())
        .command("product", "p-0", "register", body.clone())
        .await
        .expect(200);
    nats.pause();
    let waiting = tokio::spawn({
        let (http, body) = (http.clone(), body.clone());
        async move {
            Api::Http(http)
                .command("product", "p-1", "register", body)
                .await
        }
    });
    eventually("the command is under way", || async {
        let metrics = http.get("/metrics", &[]).await.body;
        let text = String::from_utf8(metrics.to_vec()).unwrap();
        text.contains("headwater_live_actors 2").then_some(())
    })
    .await;
    replica.signal("TERM");
    nats.resume();
    let reply = waiting.await.unwrap();
    assert!([200, 503].contains(&reply.status), "{}", reply.status);
    assert_eq!(replica.wait().code(), Some(0), "{}", replica.transcript());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_had_sent_to_a_replica_that_fell_behind_is_answered_before_it_ends() {
    const SENT: usize = 20_000;
    let nats = Nats::start();
    for threads in ["1", "2"] {
        let more = ["--roles", "command", "--command-threads", threads];
        let mut replica = serve(&nats, &more);
        let api = NatsApi::connect(&nats.url()).await;
        let inbox = api.client.new_inbox();
        let mut answers = api.client.subscribe(inbox.clone()).await.unwrap();
        replica.signal("STOP");
        for number in 0..SENT {
            let subject = format!("cmd.stock.b_{}.receive", number % 100);
            let body = "{\"quantity\":1}".into();
            let sent = api.client.publish_with_reply(subject, inbox.clone(), body);
            sent.await.unwrap();
        }
        // What this connection gets is in order, so the server has passed on all of them by then.
        let echo = api.client.new_inbox();
        let mut echoed = api.client.subscribe(echo.clone()).await.unwrap();
        api.client.publish(echo, "".into()).await.unwrap();
        echoed.next().await.unwrap();

        replica.signal("TERM");
        replica.signal("CONT");
        let answered = async {
            for _ in 0..SENT {
                answers.next().await.unwrap();
            }
        };
        let answered = tokio::time::timeout(Duration::from_secs(60), answered).await;
        assert!(answered.is_ok(), "{}", replica.transcript());
        assert_eq!(replica.wait().code(), Some(0), "{}", replica.transcript());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_nats_ends_in_time() {
    let mut nats = Nats::start();
    let mut replica = serve(&nats, &[]);
    nats.kill();
    replica.signal("TERM");
    let status = tokio::task::spawn_blocking(move || (replica.wait(), replica.transcript()));
    let (status, transcript) = status.await.unwrap();
    assert_eq!(status.code(), Some(0), "{transcript}");
}
