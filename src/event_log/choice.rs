//! Choosing how appends reach the log, where it can be known what an acknowledgement costs.
//!
//! Groups pay on a single server that syncs before it acknowledges, and cost elsewhere. How many copies
//! a stream has is told to every client; whether its server syncs is told only by the server's
//! monitoring endpoint, or known to whoever started the server.

use super::{
    ApiPrefix, AppendMode,
    topology::{self, Durability, TopologyError},
};
use http_client::{Client, Url};
use serde::Deserialize;
use std::{fmt, time::Duration};

/// The time the monitoring endpoint may take to answer, how often it is asked, and the pause between.
const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(300);

/// The choice of the way in which concurrent appends reach the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum AppendChoice {
    /// Grouped where NATS is known to be a single server that syncs before it acknowledges, or else
    /// pipelined.
    #[default]
    Auto,
    /// Each as a message of its own, many in flight. For a server that acknowledges before its sync,
    /// and for a cluster, which syncs many with one entry by itself.
    Pipelined,
    /// Appends that wait at the same time go as one atomic batch, one in flight. For a single server that syncs
    /// before it acknowledges.
    Grouped,
}

/// From what it can be known whether the server syncs before it acknowledges.
#[derive(Debug, Clone, Default)]
pub struct ServerKnowledge {
    /// Knowledge of it by whoever started it.
    pub durability: Option<Durability>,
    /// The address where it can be asked: its monitoring endpoint, such as `http://127.0.0.1:8222`.
    pub monitor: Option<Url>,
    /// The place where its JetStream is reached.
    pub api: ApiPrefix,
}

/// The way in which appends reach the log, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenAppend {
    /// The way.
    pub mode: AppendMode,
    /// The reason, in a few words for a person.
    pub reason: String,
    /// The durability of an acknowledged append, where that is known.
    pub durability: Option<Durability>,
}

impl ChosenAppend {
    fn new(mode: AppendMode, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self {
            mode,
            reason,
            durability: None,
        }
    }

    fn pipelined(reason: impl Into<String>) -> Self {
        Self::new(AppendMode::Pipelined, reason)
    }

    fn by_sync(syncs: bool) -> Self {
        let (chosen, durability) = if syncs {
            let reason = "a single server that syncs before it acknowledges";
            let chosen = Self::new(AppendMode::Grouped, reason);
            (chosen, Durability::SingleDurable)
        } else {
            let reason = "the server acknowledges before it syncs";
            (Self::pipelined(reason), Durability::Dev)
        };
        Self {
            durability: Some(durability),
            ..chosen
        }
    }
}

impl fmt::Display for ChosenAppend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            AppendMode::Pipelined => "pipelined",
            AppendMode::Grouped => "grouped",
        };
        write!(f, "{mode} ({})", self.reason)
    }
}

impl AppendChoice {
    /// Chooses. The stream must be there.
    ///
    /// # Errors
    ///
    /// Returns [`TopologyError`] when JetStream cannot be asked for the stream. What cannot be known of
    /// the server is no error: then appends are pipelined.
    pub async fn choose(
        self,
        nats: &async_nats::Client,
        knowledge: &ServerKnowledge,
    ) -> Result<ChosenAppend, TopologyError> {
        let asked_for = |mode| ChosenAppend {
            durability: knowledge.durability,
            ..ChosenAppend::new(mode, "as asked for")
        };
        let chosen = match self {
            Self::Pipelined => asked_for(AppendMode::Pipelined),
            Self::Grouped => asked_for(AppendMode::Grouped),
            Self::Auto => match topology::replicas(nats, &knowledge.api).await? {
                0 | 1 => by_server(nats, knowledge).await,
                copies => ChosenAppend {
                    durability: Some(Durability::Cluster),
                    ..ChosenAppend::pipelined(format!(
                        "a cluster with {copies} copies of the log, which syncs many at once by itself"
                    ))
                },
            },
        };
        tracing::info!(append = %chosen, "append mode chosen");
        Ok(chosen)
    }
}

async fn by_server(nats: &async_nats::Client, knowledge: &ServerKnowledge) -> ChosenAppend {
    match (knowledge.durability, &knowledge.monitor) {
        (Some(durability), _) => ChosenAppend::by_sync(durability == Durability::SingleDurable),
        (None, None) => ChosenAppend::pipelined(
            "it is not known whether the server syncs before it acknowledges: --nats-monitor lets find out",
        ),
        (None, Some(monitor)) => match ask(monitor, &nats.server_info().server_id).await {
            Ok(chosen) => chosen,
            Err(error) => {
                tracing::warn!(nats.monitor = %shown(monitor), %error, "appends are pipelined");
                ChosenAppend::pipelined(format!("the monitoring endpoint did not tell: {error}"))
            }
        },
    }
}

/// The part that is read of `/varz`.
#[derive(Debug, Deserialize)]
struct Server {
    server_id: String,
    #[serde(default)]
    cluster: Cluster,
    #[serde(default)]
    jetstream: Jetstream,
}

#[derive(Debug, Default, Deserialize)]
struct Cluster {
    /// Empty, or not there, for a server that is alone.
    #[serde(default)]
    name: String,
}

#[derive(Debug, Default, Deserialize)]
struct Jetstream {
    #[serde(default)]
    config: Option<JetstreamConfig>,
}

#[derive(Debug, Deserialize)]
struct JetstreamConfig {
    /// Left out when it is false.
    #[serde(default)]
    sync_always: bool,
}

/// The reason why the monitoring endpoint did not tell.
#[derive(Debug, thiserror::Error)]
enum Untold {
    #[error("{0}")]
    Unanswered(http_client::Error),
    #[error("it is not what a nats-server answers: {0}")]
    Unreadable(serde_json::Error),
    #[error("it is of another server than the one that is connected to")]
    OtherServer,
    #[error("the server has no JetStream")]
    NoJetstream,
}

async fn ask(monitor: &Url, server_id: &str) -> Result<ChosenAppend, Untold> {
    let server = varz(monitor).await?;
    if server.server_id != server_id {
        return Err(Untold::OtherServer);
    }
    if !server.cluster.name.is_empty() {
        // The stream may be on any of its servers.
        return Ok(ChosenAppend::pipelined("the server is one of a cluster"));
    }
    let config = server.jetstream.config.ok_or(Untold::NoJetstream)?;
    Ok(ChosenAppend::by_sync(config.sync_always))
}

async fn varz(monitor: &Url) -> Result<Server, Untold> {
    let mut url = monitor.clone();
    url.set_path(&format!("{}/varz", monitor.path().trim_end_matches('/')));
    // It is beside the server: no proxy of the outside has to do with it.
    let client = Client::builder().timeout(TIMEOUT).no_proxy().build();
    let client = client.map_err(Untold::Unanswered)?;
    let mut attempt = 1;
    loop {
        let answered = async {
            let answer = client.get(url.clone()).send().await?;
            answer.error_for_status()?.bytes().await
        };
        match answered.await {
            Ok(body) => return serde_json::from_slice(&body).map_err(Untold::Unreadable),
            // A server that has just started may take clients before it can be asked.
            Err(_) if attempt < ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            // The address may have a password in it.
            Err(error) => return Err(Untold::Unanswered(error.without_url())),
        }
    }
}

/// The address without user and password.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    // Both can only fail where there is nothing to be removed.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn syncs(varz: serde_json::Value) -> Option<bool> {
        let server: Server = serde_json::from_value(varz).unwrap();
        server.jetstream.config.map(|config| config.sync_always)
    }

    #[test]
    fn what_a_server_leaves_out_is_false() {
        let of = |jetstream| json!({"server_id": "S", "cluster": {}, "jetstream": jetstream});
        assert_eq!(
            syncs(of(json!({"config": {"sync_always": true}}))),
            Some(true)
        );
        let default = json!({"config": {"sync_interval": 120_000_000_000_u64}});
        assert_eq!(syncs(of(default)), Some(false));
        assert_eq!(syncs(of(json!({}))), None);
        assert_eq!(syncs(json!({"server_id": "S"})), None);
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        let url: Url = "http://me:secret@monitor:8222/".parse().unwrap();
        assert_eq!(shown(&url), "http://monitor:8222/");
    }
}
