//! A NATS cluster of three on this machine.

use super::{
    nats::{DURABLE, Nats},
    poll::eventually,
};
use async_nats::ServerAddr;
use headwater::event_log::topology;
use std::net::TcpListener;

/// Three servers with JetStream, each of which can be killed and started again.
pub struct NatsCluster {
    pub nodes: Vec<Nats>,
}

impl NatsCluster {
    /// Starts the servers, and waits until they have a leader.
    pub async fn start() -> Self {
        // Other than client ports, route ports must be known before the servers start. They are
        // chosen while all are held, so that they differ.
        let held: Vec<_> = (0..3)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let ports: Vec<_> = held
            .iter()
            .map(|listener| listener.local_addr().unwrap().port())
            .collect();
        drop(held);
        let routes: Vec<_> = ports
            .iter()
            .map(|port| format!("\"nats-route://127.0.0.1:{port}\""))
            .collect();
        let routes = routes.join(", ");
        let nodes = ports
            .iter()
            .map(|port| {
                let config = DURABLE.replace(
                    "server_name: headwater",
                    &format!("server_name: node-{port}"),
                );
                Nats::start_with(&format!(
                    "{config}\ncluster {{ name: test, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}\n"
                ))
            })
            .collect();
        let cluster = Self { nodes };
        let client = cluster.nodes[0].client().await;
        eventually("the cluster has a leader", || async {
            topology::is_ready(&client).await.then_some(())
        })
        .await;
        cluster
    }

    /// The client URL of each server.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Nats::url).collect()
    }

    /// A raw client that knows all three.
    pub async fn client(&self) -> async_nats::Client {
        let addresses: Vec<ServerAddr> =
            self.urls().iter().map(|url| url.parse().unwrap()).collect();
        async_nats::connect(addresses).await.unwrap()
    }
}
