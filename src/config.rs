//! Settings from the command line and the environment, parsed once.
//!
//! Every flag is also a variable `HEADWATER_<FLAG>`; the flag wins. A wrong value exits 2 with the
//! reason before any port is opened.

mod auth;
mod bench;
mod dev;
mod nats;
mod new;
mod operate;
mod serve;
mod sides;
mod token;
mod trace;

pub use auth::AuthConfig;
pub use bench::{
    BareConfig, BenchAction, BenchCatchupConfig, BenchClaimsConfig, BenchCommandsConfig,
    BenchConfig, BenchConsoleConfig, BenchEventsConfig, BenchFanoutConfig, BenchFreshConfig,
    BenchGetConfig, BenchHotConfig, BenchListsConfig, BenchLiveConfig, BenchMixedConfig,
    BenchProcessesConfig, BenchSearchConfig, QueryBenchConfig, ResponderConfig, ThereConfig,
};
pub use dev::DevConfig;
pub use nats::{NatsAccessConfig, NatsConfig, NatsFilesConfig, nats_variables};
pub use new::NewConfig;
pub use operate::{
    BackupConfig, CheckConfig, ControlConfig, EventsAction, ExcludeConfig, ExportConfig, GivenUp,
    ImportConfig, InstanceConfig, LogAddress, OneAggregate, OpsAddress, ParkedAction,
    ParkedAggregate, ParkedChoice, ProcessesAction, ProcessesListConfig, ProcessesTryConfig,
    ProcessesVerifyConfig, RestoreConfig, ShowEventsConfig, TopologyAction, TopologyConfig,
    ViewsAction,
};
pub use serve::{Role, ServeConfig};
pub use sides::{CommandConfig, GatewayConfig, SidesConfig, VerifyConfig};
pub use token::TokenConfig;
pub use trace::{OtlpHeaders, TraceConfig};

use clap::{Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use url::Url;

/// CQRS on NATS.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, about, max_term_width = 100)]
pub struct Cli<C: Subcommand> {
    /// The form in which the program tells what it does.
    #[command(flatten)]
    pub log: LogConfig,
    /// The action.
    #[command(subcommand)]
    pub command: C,
}

/// The subcommands of the program `headwater`.
#[derive(Debug, Subcommand)]
pub enum HeadwaterCommand {
    /// The subcommands of every program.
    #[command(flatten)]
    Any(Command),
    /// Begin a project of your own: one aggregate, one view, and their tests
    New(NewConfig),
    /// Measure this build against the floors that it stands on
    Bench {
        /// The bench.
        #[command(subcommand)]
        action: BenchAction,
    },
}

/// The subcommands of the program of any domain.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything on this machine: nats-server, storage, every role, sample data
    Dev(Box<DevConfig>),
    /// Run one replica against a NATS that is there
    Serve(Box<ServeConfig>),
    /// See and change what the views are read from: rebuild, verify, roll back
    Views {
        /// The action on them.
        #[command(subcommand)]
        action: ViewsAction,
    },
    /// See and settle the events that a view could not apply
    Parked {
        /// The action on them.
        #[command(subcommand)]
        action: ParkedAction,
    },
    /// See an aggregate's history, exclude from it what cannot be read; check, export and import the whole log
    Events {
        /// The action on it.
        #[command(subcommand)]
        action: EventsAction,
    },
    /// See the instances of a process, and settle those that cannot go on
    Processes {
        /// The action on them.
        #[command(subcommand)]
        action: ProcessesAction,
    },
    /// Write a copy of the log to a folder, as its server makes it, while all runs
    Backup(BackupConfig),
    /// Make the log of such a copy, and fold it to see that it is whole; exit 1 if anything breaks
    Restore(RestoreConfig),
    /// Create or check the streams and buckets
    Topology {
        /// The action on them.
        #[command(subcommand)]
        action: TopologyAction,
    },
    /// Write what completes the command line in a shell: `source <(headwater completions bash)`, for example
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual page, or with --out one for each command
    Man {
        /// The folder for all of them; the first one to standard output unless given
        #[arg(long, env = "HEADWATER_OUT")]
        out: Option<std::path::PathBuf>,
    },
    /// Write users for NATS, each with the subjects that its part takes: a server's configuration, and their seeds
    NatsConfig(NatsFilesConfig),
    /// Make a token from a private key: for development, for tests, or where you are your own issuer
    Token(TokenConfig),
}

/// The form in which the program tells what it does.
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

/// The text in the place of a secret.
const HIDDEN: &str = "(not shown)";
/// The flags whose values nobody else is to see: secrets, and addresses that may have one in them.
const SECRET: [&str; 8] = [
    "nats",
    "nats-password",
    "nats-token",
    "nats-monitor",
    "surreal-password",
    "token",
    "otlp-endpoint",
    "otlp-headers",
];

impl<C: Subcommand> Cli<C> {
    /// Reads the command line and the variables, as `command` of this program says, and returns all that was
    /// read beside; ends the program where they cannot be read, or help is asked for.
    #[must_use]
    pub fn read(command: clap::Command) -> (Self, clap::ArgMatches) {
        let matches = command.try_get_matches();
        let read = matches.and_then(|matches| Ok((Self::from_arg_matches(&matches)?, matches)));
        read.unwrap_or_else(|error| hiding(error).exit())
    }
}

/// Takes a secret out of what is said of a flag that has a wrong value.
fn hiding(mut error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue};
    let is_secret = |flag: &str| {
        let flag = flag.trim_start_matches('-');
        let name = flag.split([' ', '=']).next().unwrap_or_default();
        SECRET.contains(&name)
    };
    let hides = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) => is_secret(flag),
        Some(ContextValue::Strings(flags)) => flags.iter().any(|flag| is_secret(flag)),
        _ => false,
    };
    if hides && error.get(ContextKind::InvalidValue).is_some() {
        let hidden = ContextValue::String(HIDDEN.to_owned());
        error.insert(ContextKind::InvalidValue, hidden);
    }
    error
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
        Cli::<HeadwaterCommand>::command().debug_assert();
    }

    /// The addresses of these may have a password in them.
    #[test]
    fn no_help_shows_a_secret_that_the_environment_has() {
        fn check(command: &clap::Command) {
            for flag in command.get_arguments() {
                if flag.get_long().is_some_and(|long| SECRET.contains(&long)) {
                    assert!(flag.is_hide_env_values_set(), "{}", flag.get_id());
                }
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::<HeadwaterCommand>::command());
    }

    #[test]
    fn no_error_shows_a_secret() {
        let wrong: [&[&str]; 8] = [
            &["topology", "verify", "--nats", "nats://u:s3cret@a:port"],
            &["bench", "get", "--nats", "nats://u:s3cret@a:port"],
            &["serve", "--nats-monitor=ftp://u:s3cret@a"],
            &[
                "serve",
                "--nats-monitor",
                "ftp://u:s3cret@a",
                "--insecurely",
            ],
            &["serve", "--otlp-headers", "s3cret", "--roles"],
            &["serve", "--otlp-endpoint", "ftp://u:s3cret@a", "--repair"],
            &["serve", "--nats-user", "u", "--nats-token=s3cret"],
            &["serve", "--nats-password", "s3cret", "--repair"],
        ];
        for flags in wrong {
            let flags = std::iter::once(&"headwater").chain(flags);
            let Err(error) = Cli::<HeadwaterCommand>::try_parse_from(flags) else {
                continue;
            };
            let said = hiding(error).to_string();
            assert!(!said.contains("s3cret"), "{said}");
        }
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
        check(&Cli::<HeadwaterCommand>::command());
    }
}
