//! The flags of `headwater bench console`.

use clap::Args;
use std::path::PathBuf;

/// `headwater bench console`.
#[derive(Debug, Clone, Args)]
pub struct BenchConsoleConfig {
    /// The nats-server to start; by default the one on PATH, then the one in .tools
    #[arg(long, env = "HEADWATER_NATS_SERVER")]
    pub nats_server: Option<PathBuf>,
    /// The time that each page is open and measured, in seconds
    #[arg(long, env = "HEADWATER_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// In how many rounds the seconds are taken; medians of the rounds are told
    #[arg(long, env = "HEADWATER_ROUNDS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// The number of consoles that are open; what one costs is told
    #[arg(long, env = "HEADWATER_CONSOLES", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub consoles: u16,
    /// The file to write the figures to, as JSON
    #[arg(long, env = "HEADWATER_JSON")]
    pub json: Option<PathBuf>,
}
