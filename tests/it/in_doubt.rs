//! Appends in doubt: the acknowledgement is lost, or the connection, and what became of the commit
//! is settled from the log. It is never reported as failed, nor as accepted when it is not.

use crate::harness::{
    api::{NatsApi, Reply},
    log::Log,
    nats::Nats,
    poll::eventually,
    proxy::{Fault, Proxy},
    replica::Replica,
};
use serde_json::{Value, json};
use std::time::Duration;

/// Longer than an append in doubt takes to settle.
const WHILE: Duration = Duration::from_secs(6);

/// A replica that speaks to NATS through a proxy, and a client that does not.
struct World {
    nats: Nats,
    proxy: Proxy,
    api: NatsApi,
    _replica: Replica,
}

impl World {
    async fn start() -> Self {
        let nats = Nats::start();
        let proxy = Proxy::start(nats.port());
        let replica = Replica::start(&proxy.nats_url(), &[]);
        let api = NatsApi::connect(&nats.url()).await;
        let world = Self {
            nats,
            proxy,
            api,
            _replica: replica,
        };
        // The actor is live and knows its aggregate.
        world.receive("before").await.unwrap().expect(200);
        world
    }

    /// One more piece, with this key; `None` when no replica is there.
    async fn receive(&self, key: &str) -> Option<Reply> {
        let body = json!({"quantity": 1}).to_string().into_bytes();
        let subject = "cmd.stock.b_doubt.receive".to_owned();
        let headers = [("Idempotency-Key", key)];
        self.api.request(subject, body, &headers).await.ok()
    }

    /// Gives the command again until it is accepted.
    async fn receive_in_the_end(&self, key: &str) -> Value {
        eventually("the command is accepted", || async {
            // A command may be lost on its way to the replica too.
            let reply = tokio::time::timeout(WHILE, self.receive(key)).await;
            let reply = reply.ok()??;
            match reply.status {
                200 => Some(reply.json()),
                503 => None,
                other => panic!("{other}: {}", reply.json()),
            }
        })
        .await
    }

    async fn log(&self) -> Log {
        Log::read(&self.nats.client().await).await
    }

    async fn await_fault(&self) {
        eventually("the append is sent", || async {
            self.proxy.has_happened().then_some(())
        })
        .await;
    }

    /// The command is in the log once, just as it was told.
    async fn assert_logged(&self, key: &str, outcome: &Value) {
        let log = self.log().await;
        let logged = &log.commands[key];
        assert_eq!(
            (json!(logged.version), json!(logged.position)),
            (outcome["version"].clone(), outcome["position"].clone())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_acknowledgement_was_lost_is_found_in_the_log() {
    let world = World::start().await;
    world.proxy.when_sent("HPUB evt.stock.b_doubt", Fault::Mute);
    let (reply, ()) = tokio::join!(world.receive("doubt"), async {
        world.await_fault().await;
        eventually("the server has stored the commit", || async {
            world
                .log()
                .await
                .commands
                .contains_key("doubt")
                .then_some(())
        })
        .await;
        world.proxy.heal();
    });
    let outcome = reply.unwrap().expect(200).json();
    assert_eq!(
        (&outcome["version"], &outcome["replayed"]),
        (&json!(2), &json!(false))
    );
    world.assert_logged("doubt", &outcome).await;
    let next = world.receive_in_the_end("next").await;
    assert_eq!(next["version"], 3);
    world.assert_logged("next", &next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_settled_is_unavailable_and_a_retry_gets_the_stored_outcome() {
    let world = World::start().await;
    world.proxy.when_sent("HPUB evt.stock.b_doubt", Fault::Mute);
    let reply = world.receive("doubt").await.unwrap();
    reply.problem(503, "unavailable");
    assert_eq!(reply.header("Retry-After"), "1");
    assert!(world.log().await.commands.contains_key("doubt"));
    world.proxy.heal();
    let outcome = world.receive_in_the_end("doubt").await;
    assert_eq!(
        (&outcome["version"], &outcome["replayed"]),
        (&json!(2), &json!(true))
    );
    world.assert_logged("doubt", &outcome).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_a_commit_in_doubt_is_answered_as_the_log_has_it() {
    let world = World::start().await;
    world.proxy.when_sent("HPUB evt.stock.b_doubt", Fault::Mute);
    let keys: Vec<_> = (0..40).map(|number| format!("many-{number}")).collect();
    let (outcomes, ()) = tokio::join!(
        futures::future::join_all(keys.iter().map(|key| world.receive_in_the_end(key))),
        async {
            world.await_fault().await;
            world.proxy.heal();
        }
    );
    for (key, outcome) in keys.iter().zip(&outcomes) {
        world.assert_logged(key, outcome).await;
    }
    assert_eq!(world.log().await.aggregates["stock.b_doubt"].len(), 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_in_mid_append_leaves_one_outcome() {
    for fault in [Fault::CutBefore, Fault::CutAfter] {
        let world = World::start().await;
        world.proxy.when_sent("HPUB evt.stock.b_doubt", fault);
        let (outcome, ()) = tokio::join!(world.receive_in_the_end("doubt"), async {
            world.await_fault().await;
            world.proxy.heal();
        });
        assert_eq!(outcome["version"], 2, "{fault:?}");
        world.assert_logged("doubt", &outcome).await;
        let next = world.receive_in_the_end("next").await;
        assert_eq!(next["version"], 3, "{fault:?}");
    }
}
