//! The flags of `headwater serve`.

use super::{SidesConfig, TopologyConfig, http_address};
use clap::{Args, ValueEnum};
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use url::Url;

/// `headwater serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeConfig {
    /// The roles of this replica
    #[arg(
        long,
        env = "HEADWATER_ROLES",
        value_delimiter = ',',
        default_value = "command,projector,gateway,process"
    )]
    pub roles: Vec<Role>,
    /// The log.
    #[command(flatten)]
    pub topology: TopologyConfig,
    /// The monitoring endpoint of the NATS server, such as http://127.0.0.1:8222: what --append auto
    /// asks whether the server syncs before it acknowledges
    // It listens only where the server is started with -m or has http_port in its configuration.
    #[arg(long, env = "HEADWATER_NATS_MONITOR", hide_env_values = true, value_parser = http_address)]
    pub nats_monitor: Option<Url>,
    /// The place of the documents: a SurrealDB address, or mem://; by default in the data folder
    #[arg(long, env = "HEADWATER_SURREAL")]
    pub surreal: Option<String>,
    /// The user at a SurrealDB server: an EDITOR for the projector role, a VIEWER for queries alone
    #[arg(long, env = "HEADWATER_SURREAL_USER", requires_all = ["surreal", "surreal_password"])]
    pub surreal_user: Option<String>,
    /// The user's password; better given as the variable, which other users do not see
    #[arg(
        long,
        env = "HEADWATER_SURREAL_PASSWORD",
        hide_env_values = true,
        requires = "surreal_user"
    )]
    pub surreal_password: Option<String>,
    /// The folder that holds this replica's documents and its name
    #[arg(long, env = "HEADWATER_DATA_DIR", default_value = "./data")]
    pub data_dir: PathBuf,
    /// The address where HTTP is served; port 0 takes a free one
    #[arg(long, env = "HEADWATER_HTTP_ADDR", default_value = "127.0.0.1:8080")]
    pub http_addr: SocketAddr,
    /// For how long after SIGTERM everything is still served while /readyz says that the replica leaves,
    /// in seconds: as long as whoever sends requests here needs to notice
    #[arg(long, env = "HEADWATER_DRAIN_DELAY_SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=3600))]
    pub drain_delay_seconds: u64,
    /// The time a stop may take after that before what is left is cut off, in seconds
    // Kubernetes kills after 30 s.
    #[arg(long, env = "HEADWATER_GRACE_SECONDS", default_value_t = 25)]
    pub grace_seconds: u64,
    /// Each side, and its traces.
    #[command(flatten)]
    pub sides: SidesConfig,
}

impl ServeConfig {
    /// For how long everything is still served once a stop was asked for.
    #[must_use]
    pub fn drain_delay(&self) -> Duration {
        Duration::from_secs(self.drain_delay_seconds)
    }

    /// Returns how long a stop may take.
    #[must_use]
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }
}

/// The roles of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum Role {
    /// Decides commands.
    Command,
    /// Keeps the views' documents.
    Projector,
    /// Serves HTTP.
    Gateway,
    /// Runs the processes of the domain.
    Process,
}
