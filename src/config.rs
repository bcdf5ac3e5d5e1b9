//! What can be set from the command line and the environment, parsed once.
//!
//! Every flag is also a variable `HEADWATER_<FLAG>`; the flag wins. A wrong value exits 2 with the
//! reason before any port is opened.

mod bench;
mod trace;

pub use trace::{OtlpHeaders, TraceConfig};

pub use bench::{
    BareConfig, BenchAction, BenchCatchupConfig, BenchCommandsConfig, BenchConfig,
    BenchFreshConfig, BenchGetConfig, BenchHotConfig, BenchLiveConfig, QueryBenchConfig,
    ResponderConfig,
};

use crate::{
    command::client::CommandOptions, event_log::AppendChoice, platform, read_model::Generation,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use url::Url;

/// CQRS on NATS.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, about, max_term_width = 100)]
pub struct Cli {
    /// How the program tells what it does.
    #[command(flatten)]
    pub log: LogConfig,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything on this machine: nats-server, storage, every role, sample data
    Dev(DevConfig),
    /// Run one replica against a NATS that is there
    Serve(ServeConfig),
    /// See and change what the views are read from: rebuild, verify, roll back
    Views {
        /// What to do with them.
        #[command(subcommand)]
        action: ViewsAction,
    },
    /// See and settle the events that a view could not apply
    Parked {
        /// What to do with them.
        #[command(subcommand)]
        action: ParkedAction,
    },
    /// Create or check the streams and buckets
    Topology {
        /// What to do with them.
        #[command(subcommand)]
        action: TopologyAction,
    },
    /// Measure this build against the floors that it stands on
    Bench {
        /// What to measure.
        #[command(subcommand)]
        action: BenchAction,
    },
}

/// How the program tells what it does.
#[derive(Debug, Clone, Args)]
pub struct LogConfig {
    /// Which log lines are written to standard error, as tracing directives
    // Warnings by default: a run that goes well is quiet. SurrealDB's store warns at every stop that
    // it cannot be closed any more, when it has been closed.
    #[arg(
        long = "log",
        env = "HEADWATER_LOG",
        default_value = "warn,surrealkv::lsm=error",
        global = true
    )]
    pub filter: String,
    /// The form of a log line
    #[arg(
        long,
        env = "HEADWATER_LOG_FORMAT",
        default_value = "text",
        global = true
    )]
    pub log_format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// `headwater dev`.
#[derive(Debug, Clone, Args)]
pub struct DevConfig {
    /// The folder that holds everything
    #[arg(long, env = "HEADWATER_DATA_DIR", default_value = "./data")]
    pub data_dir: PathBuf,
    /// Where HTTP is served; port 0 takes a free one
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
    /// How queries are answered.
    #[command(flatten)]
    pub gateway: GatewayConfig,
    /// How the command side is sized
    #[command(flatten)]
    pub command: CommandConfig,
    /// Which traces are recorded, and where they are exported to
    #[command(flatten)]
    pub trace: TraceConfig,
}

/// `headwater serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeConfig {
    /// The roles of this replica
    #[arg(
        long,
        env = "HEADWATER_ROLES",
        value_delimiter = ',',
        default_value = "command,projector,gateway"
    )]
    pub roles: Vec<Role>,
    /// The NATS servers to connect to, separated by commas
    #[arg(
        long,
        env = "HEADWATER_NATS",
        hide_env_values = true,
        default_value = "nats://127.0.0.1:4222",
        value_parser = nats
    )]
    pub nats: String,
    /// The monitoring endpoint of the NATS server, such as http://127.0.0.1:8222: what --append auto
    /// asks whether the server syncs before it acknowledges
    // It listens only where the server is started with -m or has http_port in its configuration.
    #[arg(long, env = "HEADWATER_NATS_MONITOR", hide_env_values = true, value_parser = http_address)]
    pub nats_monitor: Option<Url>,
    /// Where documents are kept: a SurrealDB address, or mem://; by default in the data folder
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
    /// Where HTTP is served; port 0 takes a free one
    #[arg(long, env = "HEADWATER_HTTP_ADDR", default_value = "127.0.0.1:8080")]
    pub http_addr: SocketAddr,
    /// How many copies NATS keeps of each stream; as it is now, or 1, unless given
    #[arg(long, env = "HEADWATER_STREAM_REPLICAS", value_parser = clap::value_parser!(u8).range(1..=5))]
    pub stream_replicas: Option<u8>,
    /// How long a stop may take before what is left is cut off, in seconds
    // Kubernetes kills after 30 s.
    #[arg(long, env = "HEADWATER_GRACE_SECONDS", default_value_t = 25)]
    pub grace_seconds: u64,
    /// How queries are answered.
    #[command(flatten)]
    pub gateway: GatewayConfig,
    /// How the command side is sized
    #[command(flatten)]
    pub command: CommandConfig,
    /// Which traces are recorded, and where they are exported to
    #[command(flatten)]
    pub trace: TraceConfig,
}

/// How a gateway answers queries.
#[derive(Debug, Clone, Args)]
pub struct GatewayConfig {
    /// How much of the documents is kept in memory as it is served, in MiB; 0 for nothing
    #[arg(long, env = "HEADWATER_CACHE_MB", default_value_t = 64)]
    pub cache_mb: usize,
    /// How many clients may follow documents live at once
    #[arg(long, env = "HEADWATER_MAX_LIVE", default_value_t = 10_000)]
    pub max_live: usize,
    /// How often a client that follows documents live hears that the connection stands, in seconds
    // Below the 60 s after which common proxies close what is silent.
    #[arg(long, env = "HEADWATER_LIVE_HEARTBEAT_SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub live_heartbeat_seconds: u64,
}

impl GatewayConfig {
    /// How many bytes of documents are kept in memory.
    #[must_use]
    pub fn cache(&self) -> usize {
        self.cache_mb.saturating_mul(1 << 20)
    }

    /// How often a live client hears that its connection stands.
    #[must_use]
    pub fn live_heartbeat(&self) -> Duration {
        Duration::from_secs(self.live_heartbeat_seconds)
    }
}

/// How the command side is sized, and how it appends.
#[derive(Debug, Clone, Args)]
pub struct CommandConfig {
    /// How appends reach the log
    #[arg(long, env = "HEADWATER_APPEND", default_value = "auto")]
    pub append: AppendChoice,
    /// The most live aggregates of this replica; past it the least recently used go first
    // At some 4 KiB each, 400 MB.
    #[arg(long, env = "HEADWATER_MAX_ACTORS", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_actors: u32,
    /// The most commands under way on this replica; the next is answered 429
    // At the largest body, 64 KiB, 1 GiB.
    #[arg(long, env = "HEADWATER_MAX_COMMANDS", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_commands: u32,
}

impl CommandConfig {
    /// The sizes, and the defaults of what cannot be set from outside.
    #[must_use]
    pub fn options(&self) -> CommandOptions {
        CommandOptions {
            max_actors: self.max_actors as usize,
            max_commands: self.max_commands,
            ..CommandOptions::default()
        }
    }
}

impl ServeConfig {
    /// How long a stop may take.
    #[must_use]
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }
}

/// What a replica does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum Role {
    /// Decides commands.
    Command,
    /// Keeps the views' documents.
    Projector,
    /// Serves HTTP.
    Gateway,
}

/// How running projectors are reached.
#[derive(Debug, Clone, Args)]
pub struct ControlConfig {
    /// The NATS that the projectors are connected to
    #[arg(long, env = "HEADWATER_NATS", default_value = "nats://127.0.0.1:4222")]
    pub nats: String,
    /// The replica to ask, where each keeps documents of its own; all unless given
    #[arg(long, env = "HEADWATER_REPLICA")]
    pub replica: Option<String>,
    /// Print one JSON object for each answer
    #[arg(long, env = "HEADWATER_JSON")]
    pub json: bool,
}

/// What to do with the views.
#[derive(Debug, Clone, Subcommand)]
pub enum ViewsAction {
    /// Show each view with its generations
    List(ControlConfig),
    /// Show how far the generations of a view are
    Status {
        /// The view
        view: String,
        /// How to reach the projectors.
        #[command(flatten)]
        control: ControlConfig,
    },
    /// Fill a new generation from the log beside the live one, which it then takes over from
    Rebuild {
        /// The view
        view: String,
        /// Do not wait for the end
        #[arg(long, env = "HEADWATER_NO_WAIT")]
        no_wait: bool,
        /// How to reach the projectors.
        #[command(flatten)]
        control: ControlConfig,
    },
    /// Make the previous generation the live one again
    Rollback {
        /// The view
        view: String,
        /// How to reach the projectors.
        #[command(flatten)]
        control: ControlConfig,
    },
    /// Remove a generation that is not live
    Drop {
        /// The view
        view: String,
        /// Which one, such as v1.2; the previous one unless given, or else the one being filled
        #[arg(long, env = "HEADWATER_GENERATION")]
        generation: Option<Generation>,
        /// How to reach the projectors.
        #[command(flatten)]
        control: ControlConfig,
    },
    /// Fold the documents again from the log and report each that differs; exit 1 if any does
    Verify {
        /// The view; all unless given
        view: Option<String>,
        /// About how many documents to compare; all unless given
        #[arg(long, env = "HEADWATER_SAMPLE", value_parser = clap::value_parser!(u64).range(1..))]
        sample: Option<u64>,
        /// How to reach the projectors.
        #[command(flatten)]
        control: ControlConfig,
    },
}

/// What to do with parked events.
#[derive(Debug, Clone, Subcommand)]
pub enum ParkedAction {
    /// Show what is parked
    List {
        /// The view; all unless given
        view: Option<String>,
        /// How to reach the projectors.
        #[command(flatten)]
        control: ControlConfig,
    },
    /// Show what is parked of one aggregate, with its events
    Show {
        /// What is parked.
        #[command(flatten)]
        which: ParkedAggregate,
        /// How to reach the projectors.
        #[command(flatten)]
        control: ControlConfig,
    },
    /// Apply again, in order, what is parked of one aggregate
    Retry {
        /// What is parked.
        #[command(flatten)]
        which: ParkedAggregate,
        /// How to reach the projectors.
        #[command(flatten)]
        control: ControlConfig,
    },
    /// Leave out the one event that could not be applied, and apply those after it
    Skip {
        /// What is parked.
        #[command(flatten)]
        which: ParkedAggregate,
        /// How to reach the projectors.
        #[command(flatten)]
        control: ControlConfig,
    },
}

/// An aggregate of which something is parked.
#[derive(Debug, Clone, Args)]
pub struct ParkedAggregate {
    /// The view
    pub view: String,
    /// The aggregate's name
    pub aggregate: String,
    /// The aggregate's id
    pub id: String,
}

/// What to do with the streams and buckets.
#[derive(Debug, Clone, Subcommand)]
pub enum TopologyAction {
    /// Create what is missing and bring the rest to the files' settings
    Apply(TopologyConfig),
    /// Compare with the files; exit 1 when something differs
    Verify(TopologyConfig),
}

/// Which NATS the streams and buckets are on.
#[derive(Debug, Clone, Args)]
pub struct TopologyConfig {
    /// The NATS servers to connect to, separated by commas
    #[arg(
        long,
        env = "HEADWATER_NATS",
        hide_env_values = true,
        default_value = "nats://127.0.0.1:4222",
        value_parser = nats
    )]
    pub nats: String,
    /// How many copies NATS keeps of each stream; as it is now, or 1, unless given
    #[arg(long, env = "HEADWATER_STREAM_REPLICAS", value_parser = clap::value_parser!(u8).range(1..=5))]
    pub stream_replicas: Option<u8>,
}

/// Refuses a list of servers that cannot be read while nothing has been begun.
fn nats(list: &str) -> Result<String, String> {
    platform::nats_servers(list).map(|_| list.to_owned())
}

/// Reads an address of HTTP.
fn http_address(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err("not an address of HTTP".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_is_an_environment_variable() {
        fn check(command: &clap::Command) {
            for flag in command
                .get_arguments()
                .filter(|arg| arg.get_long().is_some())
            {
                let Some(long) = flag
                    .get_long()
                    .filter(|long| !["help", "version"].contains(long))
                else {
                    continue;
                };
                let variable = format!("HEADWATER_{}", long.replace('-', "_").to_uppercase());
                assert_eq!(
                    flag.get_env().and_then(|env| env.to_str()),
                    Some(&*variable),
                    "--{long}"
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
