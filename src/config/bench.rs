//! The flags of `headwater bench`.

mod console;
mod events;

pub use console::BenchConsoleConfig;
pub use events::BenchEventsConfig;

use super::{NatsAccessConfig, NatsConfig, nats::servers};
use crate::bench::sweep::Steps;
use clap::{Args, Subcommand};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// The benches.
#[derive(Debug, Clone, Subcommand)]
pub enum BenchAction {
    /// Commands over many aggregates, against NATS request-reply and publishing alone
    Commands(BenchCommandsConfig),
    /// Commands on one aggregate, against serial publishing
    Hot(BenchHotConfig),
    /// Commands that take a unique key, alone and beside commands that take none
    Claims(BenchClaimsConfig),
    /// One document by id over HTTP, against a bare handler or, not cached, the store's select
    Get(BenchGetConfig),
    /// A page of what a text search finds over HTTP, against a page of a list
    Search(BenchSearchConfig),
    /// Filling an empty view from the log, against inserting the documents
    Catchup(BenchCatchupConfig),
    /// One event that changes very many documents, against updating them in the store
    Fanout(BenchFanoutConfig),
    /// From a command's acceptance until its document can be read
    Fresh(BenchFreshConfig),
    /// Commands over HTTP beside all views of the mart, as fast as the views keep up
    Mixed(BenchMixedConfig),
    /// One change to all who follow the document
    Live(BenchLiveConfig),
    /// The whole log as a file: importing it, against batches of the same messages; exporting and checking it
    Events(BenchEventsConfig),
    /// Every kind of list of many documents over HTTP, in both directions, the first page and a later one
    Lists(BenchListsConfig),
    /// Orders that fulfil themselves: steps against commands, deadlines, and one instance that is parked
    Processes(BenchProcessesConfig),
    /// The cost of an open console to the replica that it asks, page by page, in percent of a core
    Console(BenchConsoleConfig),
    /// Answers every request with one body: the floor of HTTP
    #[command(hide = true)]
    Bare(BareConfig),
    /// Answers requests at once: the floor of request-reply, in the replica's place
    #[command(hide = true)]
    Responder(ResponderConfig),
}

/// The settings of every bench.
#[derive(Debug, Clone, Args)]
pub struct BenchConfig {
    /// A NATS that is there, with a replica on it; without it, both are started and stopped again
    #[arg(long, env = "HEADWATER_NATS", hide_env_values = true, value_parser = servers)]
    pub nats: Option<String>,
    /// The way to connect to it.
    #[command(flatten)]
    pub access: NatsAccessConfig,
    /// The nats-server to start syncs every append to disk
    #[arg(long, env = "HEADWATER_DURABLE", conflicts_with = "nats")]
    pub durable: bool,
    /// The nats-server to start; by default the one on PATH, then the one in .tools
    #[arg(long, env = "HEADWATER_NATS_SERVER")]
    pub nats_server: Option<PathBuf>,
    /// The time ours and each floor is measured, in seconds
    #[arg(long, env = "HEADWATER_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// In how many rounds the seconds are taken; medians of the rounds are told
    #[arg(long, env = "HEADWATER_ROUNDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// The number of connections the load comes by
    // Two threads make the load on the machine that the targets are set for; more connections than
    // that only make smaller writes.
    #[arg(long, env = "HEADWATER_CONNECTIONS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: u16,
    /// The file to write the figures to, as JSON
    #[arg(long, env = "HEADWATER_JSON")]
    pub json: Option<PathBuf>,
    /// The file to draw the rate and the latency into, as SVG
    #[arg(long, env = "HEADWATER_PLOT")]
    pub plot: Option<PathBuf>,
}

impl BenchConfig {
    /// Returns how long ours and each floor is measured.
    #[must_use]
    pub fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// `headwater bench commands`.
#[derive(Debug, Clone, Args)]
pub struct BenchCommandsConfig {
    /// The settings of every bench.
    #[command(flatten)]
    pub bench: BenchConfig,
    /// Over how many aggregates the commands are spread
    #[arg(long, env = "HEADWATER_AGGREGATES", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub aggregates: u32,
    /// The number of commands that are in flight
    #[arg(long, env = "HEADWATER_CONCURRENCY", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,
    /// Measure with so many in flight in turn, such as 1,16,256, with servers started anew for each
    #[arg(long, env = "HEADWATER_SWEEP", value_name = "LIST", num_args = 0..=1, require_equals = true, default_missing_value = "1,2,4,8,16,32,64,128,256,512,1024", conflicts_with = "concurrency")]
    pub sweep: Option<Steps>,
    /// Give the commands within the replica's process
    #[arg(long, env = "HEADWATER_IN_PROCESS")]
    pub in_process: bool,
    /// The token that commands are given with, to a replica that asks who asks; better given as the variable, which
    /// other users do not see
    #[arg(
        long,
        env = "HEADWATER_TOKEN",
        hide_env_values = true,
        requires = "nats"
    )]
    pub token: Option<String>,
    /// Give so many commands in a request, against one in a request
    #[arg(long, env = "HEADWATER_BATCH", value_parser = clap::value_parser!(u16).range(2..=1000), conflicts_with_all = OTHER_WAYS)]
    pub batch: Option<u16>,
    /// Decide on so many replicas, against one; three against two as well
    #[arg(long, env = "HEADWATER_REPLICAS", value_parser = clap::value_parser!(u16).range(2..=16), conflicts_with_all = OTHER_WAYS)]
    pub replicas: Option<u16>,
    /// Give the commands over HTTP, against a bare handler and publishing alone
    #[arg(long, env = "HEADWATER_HTTP", conflicts_with_all = ["in_process", "nats", "gateway_apart"])]
    pub http: bool,
    /// Give the commands over HTTP to a gateway apart from the replica that decides, against one beside it
    #[arg(long, env = "HEADWATER_GATEWAY_APART", conflicts_with_all = ["in_process", "nats"])]
    pub gateway_apart: bool,
}

/// Flags that a comparison is not measured with.
const OTHER_WAYS: [&str; 4] = ["in_process", "nats", "http", "gateway_apart"];

/// `headwater bench hot`.
#[derive(Debug, Clone, Args)]
pub struct BenchHotConfig {
    /// The settings of every bench.
    #[command(flatten)]
    pub bench: BenchConfig,
    /// The number of commands that are in flight
    #[arg(long, env = "HEADWATER_CONCURRENCY", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,
    /// Give the commands within the replica's process
    #[arg(long, env = "HEADWATER_IN_PROCESS")]
    pub in_process: bool,
}

/// `headwater bench claims`.
#[derive(Debug, Clone, Args)]
pub struct BenchClaimsConfig {
    /// The settings of every bench.
    #[command(flatten)]
    pub bench: BenchConfig,
    /// Over how many aggregates the commands without a key are spread
    #[arg(long, env = "HEADWATER_AGGREGATES", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub aggregates: u32,
    /// The number of commands that are in flight
    #[arg(long, env = "HEADWATER_CONCURRENCY", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,
    /// The number of commands that take a key are given a second beside the others
    #[arg(long, env = "HEADWATER_RATE", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,
}

/// `headwater bench processes`.
#[derive(Debug, Clone, Args)]
pub struct BenchProcessesConfig {
    /// The settings of every bench of the query side; the seconds are those of the commands.
    #[command(flatten)]
    pub bench: QueryBenchConfig,
    /// The number of orders that each round places at once
    #[arg(long, env = "HEADWATER_ORDERS", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub orders: u32,
    /// The number of alarms that are armed beside those of the orders
    #[arg(long, env = "HEADWATER_ARMED", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(0..))]
    pub armed: u32,
    /// The number of commands that are in flight
    #[arg(long, env = "HEADWATER_CONCURRENCY", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,
}

/// `headwater bench responder`.
#[derive(Debug, Clone, Args)]
pub struct ResponderConfig {
    /// The NATS to connect to.
    #[command(flatten)]
    pub nats: NatsConfig,
    /// The length of each answer, in bytes
    #[arg(long, env = "HEADWATER_REPLY_BYTES")]
    pub reply_bytes: usize,
}

/// The settings of every bench of the query side.
#[derive(Debug, Clone, Args)]
pub struct QueryBenchConfig {
    /// The nats-server to start syncs every append to disk
    #[arg(long, env = "HEADWATER_DURABLE")]
    pub durable: bool,
    /// The nats-server to start; by default the one on PATH, then the one in .tools
    #[arg(long, env = "HEADWATER_NATS_SERVER")]
    pub nats_server: Option<PathBuf>,
    /// The time ours and each floor is measured, in seconds
    #[arg(long, env = "HEADWATER_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// In how many rounds; medians of the rounds are told
    #[arg(long, env = "HEADWATER_ROUNDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// The file to write the figures to, as JSON
    #[arg(long, env = "HEADWATER_JSON")]
    pub json: Option<PathBuf>,
    /// The file to draw the rate and the latency into, as SVG
    #[arg(long, env = "HEADWATER_PLOT")]
    pub plot: Option<PathBuf>,
}

/// A mart that runs already.
#[derive(Debug, Clone, Args)]
pub struct ThereConfig {
    /// The NATS of a mart that runs already, with --http-addr; without it, the servers are started and
    /// stopped again. Each run leaves its products there
    #[arg(
        long,
        env = "HEADWATER_NATS",
        hide_env_values = true,
        requires = "http_addr",
        conflicts_with = "durable",
        value_parser = servers
    )]
    pub nats: Option<String>,
    /// The way to connect to it.
    #[command(flatten)]
    pub access: NatsAccessConfig,
    /// The address where that mart serves HTTP, such as 127.0.0.1:8080
    #[arg(long, env = "HEADWATER_HTTP_ADDR", requires = "nats")]
    pub http_addr: Option<SocketAddr>,
}

/// `headwater bench get`.
#[derive(Debug, Clone, Args)]
pub struct BenchGetConfig {
    /// The settings of every bench of the query side.
    #[command(flatten)]
    pub bench: QueryBenchConfig,
    /// A mart that runs already.
    #[command(flatten)]
    pub there: ThereConfig,
    /// The number of connections there are, each with one request in flight
    #[arg(long, env = "HEADWATER_CONNECTIONS", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: u16,
    /// The number of documents the reads are spread over
    #[arg(long, env = "HEADWATER_DOCUMENTS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub documents: u32,
    /// Read from the store each time
    #[arg(long, env = "HEADWATER_NO_CACHE", conflicts_with = "nats")]
    pub no_cache: bool,
    /// The token that products are made and documents read with, of a mart that asks who asks; better given as the variable, which other
    /// users do not see
    #[arg(
        long,
        env = "HEADWATER_TOKEN",
        hide_env_values = true,
        requires = "nats"
    )]
    pub token: Option<String>,
}

/// `headwater bench search`.
#[derive(Debug, Clone, Args)]
pub struct BenchSearchConfig {
    /// The settings of every bench of the query side.
    #[command(flatten)]
    pub bench: QueryBenchConfig,
    /// A mart that runs already.
    #[command(flatten)]
    pub there: ThereConfig,
    /// The number of connections there are, each with one request in flight
    #[arg(long, env = "HEADWATER_CONNECTIONS", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: u16,
    /// The number of documents that are searched
    #[arg(long, env = "HEADWATER_DOCUMENTS", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub documents: u32,
}

/// `headwater bench catchup`.
#[derive(Debug, Clone, Args)]
pub struct BenchCatchupConfig {
    /// The settings of every bench of the query side.
    #[command(flatten)]
    pub bench: QueryBenchConfig,
    /// The number of events there are
    #[arg(long, env = "HEADWATER_EVENTS", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub events: u32,
    /// Of how many aggregates, each of which makes one document
    #[arg(long, env = "HEADWATER_AGGREGATES", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub aggregates: u32,
}

/// `headwater bench fanout`.
#[derive(Debug, Clone, Args)]
pub struct BenchFanoutConfig {
    /// The settings of every bench of the query side.
    #[command(flatten)]
    pub bench: QueryBenchConfig,
    /// The number of documents the event changes
    #[arg(long, env = "HEADWATER_DOCUMENTS", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub documents: u32,
}

/// `headwater bench fresh`.
#[derive(Debug, Clone, Args)]
pub struct BenchFreshConfig {
    /// The settings of every bench of the query side.
    #[command(flatten)]
    pub bench: QueryBenchConfig,
    /// A mart that runs already.
    #[command(flatten)]
    pub there: ThereConfig,
    /// The number of commands that are given a second
    #[arg(long, env = "HEADWATER_RATE", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,
    /// By how many connections the documents are read
    #[arg(long, env = "HEADWATER_CONNECTIONS", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: u16,
}

/// `headwater bench mixed`.
#[derive(Debug, Clone, Args)]
pub struct BenchMixedConfig {
    /// The nats-server to start syncs every append to disk
    #[arg(long, env = "HEADWATER_DURABLE")]
    pub durable: bool,
    /// The nats-server to start; by default the one on PATH, then the one in .tools
    #[arg(long, env = "HEADWATER_NATS_SERVER")]
    pub nats_server: Option<PathBuf>,
    /// The time for which no view may fall behind by a second, in seconds
    #[arg(long, env = "HEADWATER_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// The number of products, each with a stock and on display
    #[arg(long, env = "HEADWATER_AGGREGATES", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub aggregates: u32,
    /// The number of connections, each with one command in flight
    #[arg(long, env = "HEADWATER_CONNECTIONS", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: u16,
    /// The number of commands a second to give; without it, the most with which the views keep up is looked for
    #[arg(long, env = "HEADWATER_RATE", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// The file to write the figures to, as JSON
    #[arg(long, env = "HEADWATER_JSON")]
    pub json: Option<PathBuf>,
}

/// `headwater bench live`.
#[derive(Debug, Clone, Args)]
pub struct BenchLiveConfig {
    /// The settings of every bench of the query side.
    #[command(flatten)]
    pub bench: QueryBenchConfig,
    /// A mart that runs already.
    #[command(flatten)]
    pub there: ThereConfig,
    /// The number of clients that follow the document
    #[arg(long, env = "HEADWATER_CLIENTS", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    pub clients: u16,
}

/// `headwater bench lists`.
#[derive(Debug, Clone, Args)]
pub struct BenchListsConfig {
    /// The settings of every bench of the query side; the seconds are those of each list.
    #[command(flatten)]
    pub bench: QueryBenchConfig,
    /// The number of documents there are
    #[arg(long, env = "HEADWATER_DOCUMENTS", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub documents: u32,
    /// The number of connections there are, each with one request in flight
    #[arg(long, env = "HEADWATER_CONNECTIONS", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: u16,
}

/// `headwater bench bare`.
#[derive(Debug, Clone, Args)]
pub struct BareConfig {
    /// The answer to every request
    #[arg(long, env = "HEADWATER_BODY")]
    pub body: String,
}
