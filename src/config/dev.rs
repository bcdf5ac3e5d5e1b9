//! The flags of `headwater dev`.

use super::SidesConfig;
use clap::Args;
use std::{net::SocketAddr, path::PathBuf};

/// `headwater dev`.
#[derive(Debug, Clone, Args)]
pub struct DevConfig {
    /// The folder that holds everything
    #[arg(long, env = "HEADWATER_DATA_DIR", default_value = "./data")]
    pub data_dir: PathBuf,
    /// The address where HTTP is served; port 0 takes a free one
    #[arg(long, env = "HEADWATER_HTTP_ADDR", default_value = "127.0.0.1:8080")]
    pub http_addr: SocketAddr,
    /// The port of the nats-server; a free one by default
    #[arg(long, env = "HEADWATER_NATS_PORT")]
    pub nats_port: Option<u16>,
    /// The nats-server to run; by default the one on PATH, then the one in .tools
    #[arg(long, env = "HEADWATER_NATS_SERVER")]
    pub nats_server: Option<PathBuf>,
    /// Begin afresh: delete what is in the data folder
    #[arg(long, env = "HEADWATER_RESET")]
    pub reset: bool,
    /// Do not load the sample catalogue
    #[arg(long, env = "HEADWATER_NO_SEED")]
    pub no_seed: bool,
    /// Close everything: NATS with a user for each part, commands and queries by token alone, with keys that are
    /// made in the folder secure of the data folder; prints tokens to try it with. It has a log of its own
    #[arg(long, env = "HEADWATER_SECURE", conflicts_with_all = ["auth_jwks", "insecure"])]
    pub secure: bool,
    /// Do not run the processes of the domain
    #[arg(long, env = "HEADWATER_NO_PROCESSES")]
    pub no_processes: bool,
    /// Each side, and its traces.
    #[command(flatten)]
    pub sides: SidesConfig,
}
