//! `--append auto`: grouped where a single server is known to sync before it acknowledges.

use crate::harness::{
    api::{Api, NatsApi},
    cluster::NatsCluster,
    nats::{DEV, DURABLE, Nats},
    replica::Replica,
    unique,
};
use futures::future::join_all;
use headwater::event_log::{
    AppendChoice, AppendMode, ChosenAppend, ServerKnowledge,
    topology::{Durability, Topology},
};
use serde_json::json;

/// The configuration with a monitoring endpoint on a free port.
fn monitored(config: &str) -> Nats {
    Nats::start_with(&format!("{config}\nhttp: \"127.0.0.1:-1\"\n"))
}

async fn chosen(nats: &Nats, knowledge: &ServerKnowledge) -> ChosenAppend {
    let client = nats.client().await;
    Topology::embedded().apply(&client).await.unwrap();
    let choice = AppendChoice::Auto.choose(&client, knowledge);
    choice.await.unwrap()
}

fn ask(monitor: &str) -> ServerKnowledge {
    ServerKnowledge {
        monitor: Some(monitor.parse().unwrap()),
        ..ServerKnowledge::default()
    }
}

#[tokio::test]
async fn the_server_is_asked_whether_it_syncs_before_it_acknowledges() {
    for (config, mode, because) in [
        (DURABLE, AppendMode::Grouped, "syncs before it acknowledges"),
        (DEV, AppendMode::Pipelined, "acknowledges before it syncs"),
    ] {
        let nats = monitored(config);
        let chosen = chosen(&nats, &ask(&nats.monitor_url())).await;
        assert_eq!(chosen.mode, mode, "{chosen}");
        assert!(chosen.reason.contains(because), "{chosen}");
    }
}

#[tokio::test]
async fn who_started_the_server_need_not_ask() {
    let nats = Nats::start_with(DURABLE);
    for (durability, mode) in [
        (Durability::SingleDurable, AppendMode::Grouped),
        (Durability::Dev, AppendMode::Pipelined),
    ] {
        let knowledge = ServerKnowledge {
            durability: Some(durability),
            ..ask("http://127.0.0.1:1")
        };
        assert_eq!(chosen(&nats, &knowledge).await.mode, mode);
    }
}

#[tokio::test]
async fn what_cannot_be_known_is_pipelined_and_says_why() {
    let (nats, other) = (Nats::start_with(DURABLE), monitored(DURABLE));
    for (knowledge, because) in [
        (ServerKnowledge::default(), "--nats-monitor"),
        (ask("http://127.0.0.1:1"), "did not tell"),
        (ask(&other.monitor_url()), "another server"),
        // Not HTTP at all.
        (ask(&other.url().replace("nats:", "http:")), "did not tell"),
    ] {
        let chosen = chosen(&nats, &knowledge).await;
        assert_eq!(chosen.mode, AppendMode::Pipelined, "{chosen}");
        assert!(chosen.reason.contains(because), "{chosen}");
    }
}

#[tokio::test]
async fn a_cluster_is_pipelined() {
    let cluster = NatsCluster::start().await;
    let client = cluster.client().await;
    for (copies, because) in [(1, "one of a cluster"), (3, "3 copies")] {
        let topology = Topology::embedded().with_replicas(copies);
        topology.apply(&client).await.unwrap();
        let node = client.server_info().port;
        let node = cluster.nodes.iter().find(|nats| nats.port() == node);
        let knowledge = ask(&node.unwrap().monitor_url());
        let chosen = AppendChoice::Auto.choose(&client, &knowledge);
        let chosen = chosen.await.unwrap();
        assert_eq!(chosen.mode, AppendMode::Pipelined, "{chosen}");
        assert!(chosen.reason.contains(because), "{chosen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_on_a_server_that_syncs_groups_by_itself_and_says_so() {
    let nats = monitored(DURABLE);
    let mut replica = Replica::start(&nats.url(), &["--nats-monitor", &nats.monitor_url()]);
    replica.service().tells("append grouped (a single server");
    let api = Api::Nats(NatsApi::connect(&nats.url()).await);
    let receive = |_| {
        let id = format!("gangnam_{}", unique("sku"));
        let api = api.clone();
        async move {
            let body = json!({"quantity": 1});
            api.command("stock", &id, "receive", body).await.expect(200)
        }
    };
    join_all((0..64).map(receive)).await;
    let metrics = replica.service().http().get("/metrics", &[]).await.body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let groups = "headwater_append_group_appends_count";
    assert!(metrics.contains(groups), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_that_does_not_answer_keeps_no_replica_from_starting() {
    let nats = Nats::start_with(DURABLE);
    let mut replica = Replica::start(&nats.url(), &["--nats-monitor", "http://127.0.0.1:1"]);
    replica.service().tells("append pipelined");
    replica.service().tells("WARN");
}
