//! A NATS cluster of three on this machine.

use super::{
    nats::{DURABLE, Nats},
    poll::{eventually, eventually_within},
};
use async_nats::{
    ServerAddr,
    jetstream::{self, stream::PeerInfo},
};
use headwater::event_log::topology;
use std::{net::TcpListener, time::Duration};

/// Three servers with JetStream, each of which can be killed and started again.
pub struct NatsCluster {
    pub nodes: Vec<Nats>,
    names: Vec<String>,
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
        let names: Vec<_> = ports.iter().map(|port| format!("node-{port}")).collect();
        let nodes = ports
            .iter()
            .zip(&names)
            .map(|(port, name)| {
                let config =
                    DURABLE.replace("server_name: headwater", &format!("server_name: {name}"));
                Nats::start_with(&format!(
                    "{config}\ncluster {{ name: test, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}\nhttp: \"127.0.0.1:-1\"\n"
                ))
            })
            .collect();
        let cluster = Self { nodes, names };
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

    /// The number of the server that leads a stream, once there is one.
    pub async fn leader_of(&self, stream: &str) -> usize {
        let jetstream = jetstream::new(self.client().await);
        eventually(&format!("{stream} has a leader"), || async {
            let stream = jetstream.get_stream(stream).await.ok()?;
            let leader = stream.cached_info().cluster.clone()?.leader?;
            self.names.iter().position(|name| *name == leader)
        })
        .await
    }

    /// Waits until every copy of a stream has all of it.
    pub async fn all_current(&self, stream: &str) {
        let jetstream = jetstream::new(self.client().await);
        eventually_within(
            Duration::from_secs(60),
            &format!("every copy of {stream} is current"),
            || async {
                let stream = jetstream.get_stream(stream).await.ok()?;
                let cluster = stream.cached_info().cluster.clone()?;
                let current = |peer: &PeerInfo| peer.current && !peer.offline;
                let others = cluster.replicas.iter().filter(|peer| current(peer)).count();
                (cluster.leader.is_some() && others + 1 == self.nodes.len()).then_some(())
            },
        )
        .await;
    }
}
