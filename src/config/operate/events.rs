//! The flags of what reads, checks, copies and restores the log.

use super::{Hidden, LogAddress, OpsAddress};
use crate::{config::sides::read_secret, event_log::secret::Secret};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// The actions on the history of an aggregate.
#[derive(Debug, Clone, Subcommand)]
pub enum EventsAction {
    /// Show the history of one aggregate, decoded
    Show(ShowEventsConfig),
    /// Leave one commit out of the history for good, for commands and for all views
    Exclude(ExcludeConfig),
    /// Decode, upcast and fold the whole log by this build, and change nothing; exit 1 if anything breaks
    Check(CheckConfig),
    /// Write the whole log to a file, one CloudEvent a line; goes on where it was stopped
    Export(ExportConfig),
    /// Make a log of such a file, where it stood and as it was; goes on where it was stopped
    Import(ImportConfig),
}

/// The aggregates whose events are no fault although this build cannot read them.
#[derive(Debug, Clone, Args)]
pub struct GivenUp {
    /// An aggregate that this build has given up on purpose, which is then no fault; may be given more than once
    #[arg(
        long,
        value_name = "AGGREGATE",
        env = "HEADWATER_LEAVE_OUT",
        value_delimiter = ','
    )]
    pub leave_out: Vec<String>,
}

/// The settings of an export.
#[derive(Debug, Clone, Args)]
pub struct ExportConfig {
    /// The file; `-` for standard output
    pub file: PathBuf,
    /// The log.
    #[command(flatten)]
    pub log: LogAddress,
}

/// The settings of an import.
#[derive(Debug, Clone, Args)]
pub struct ImportConfig {
    /// The file that `events export` has written; `-` for standard input
    pub file: PathBuf,
    /// Only read and fold it, and send nothing
    #[arg(long, env = "HEADWATER_DRY_RUN")]
    pub dry_run: bool,
    /// The aggregates that this build has given up.
    #[command(flatten)]
    pub given_up: GivenUp,
    /// The place where the log is to be.
    #[command(flatten)]
    pub log: LogAddress,
}

/// The destination of a copy of the log.
#[derive(Debug, Clone, Args)]
pub struct BackupConfig {
    /// The folder of the copy: a new one, or one that was not finished
    pub folder: PathBuf,
    /// The log.
    #[command(flatten)]
    pub log: LogAddress,
}

/// Which copy is restored, and how.
#[derive(Debug, Clone, Args)]
pub struct RestoreConfig {
    /// The folder that `backup` has written
    pub folder: PathBuf,
    /// Do not fold what was restored
    #[arg(long, env = "HEADWATER_NO_CHECK")]
    pub no_check: bool,
    /// The aggregates that this build has given up.
    #[command(flatten)]
    pub given_up: GivenUp,
    /// The file with the secret of unique keys, to see that it is the one of this log
    #[arg(long, env = "HEADWATER_SECRET_FILE")]
    pub secret_file: Option<PathBuf>,
    /// The number of copies NATS keeps of the log; as it was unless given
    #[arg(long, env = "HEADWATER_STREAM_REPLICAS", value_parser = clap::value_parser!(u8).range(1..=5))]
    pub stream_replicas: Option<u8>,
    /// The place where the log is to be.
    #[command(flatten)]
    pub log: LogAddress,
}

/// The settings of a check of the whole log.
#[derive(Debug, Clone, Args)]
pub struct CheckConfig {
    /// The number of broken aggregates to tell one by one
    #[arg(long, env = "HEADWATER_LIMIT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub limit: u64,
    /// The aggregates that this build has given up.
    #[command(flatten)]
    pub given_up: GivenUp,
    /// The memory for folded aggregates in MiB, about; where they are more, the log is read more than once
    #[arg(long, env = "HEADWATER_MEMORY_MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(16..))]
    pub memory_mib: u32,
    /// The number of threads that fold; one for each core unless given
    #[arg(long, env = "HEADWATER_THREADS", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub threads: Option<u8>,
    /// Fold the views too, and compare each document with what running replicas answer; exit 1 if any would change
    #[arg(long, env = "HEADWATER_DOCUMENTS")]
    pub documents: bool,
    /// A token that may see all documents, where the replicas ask who asks; better given as the variable, which
    /// other users do not see
    #[arg(long, env = "HEADWATER_TOKEN", hide_env_values = true)]
    pub token: Option<Hidden>,
    /// Print JSON
    #[arg(long, env = "HEADWATER_JSON")]
    pub json: bool,
    /// The log.
    #[command(flatten)]
    pub log: LogAddress,
}

/// An aggregate.
#[derive(Debug, Clone, Args)]
pub struct OneAggregate {
    /// The aggregate's name
    pub aggregate: String,
    /// The aggregate's id
    pub id: String,
}

/// Which part of a history is shown, and how.
#[derive(Debug, Clone, Args)]
pub struct ShowEventsConfig {
    /// The aggregate.
    #[command(flatten)]
    pub which: OneAggregate,
    /// Begin after this position
    #[arg(long, env = "HEADWATER_AFTER", default_value_t = 0)]
    pub after: u64,
    /// The number of commits to show at most
    #[arg(long, env = "HEADWATER_LIMIT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub limit: u64,
    /// Print JSON in one line for each page, as /ops answers it: with the state after each event
    #[arg(long, env = "HEADWATER_JSON")]
    pub json: bool,
    /// A token with the scope ops:read, for --ops; better given as the variable, which other users do not see
    #[arg(long, env = "HEADWATER_TOKEN", hide_env_values = true)]
    pub token: Option<Hidden>,
    /// The gateway that is asked in place of NATS.
    #[command(flatten)]
    pub ops: OpsAddress,
    /// The log.
    #[command(flatten)]
    pub log: LogAddress,
}

/// The commits that are excluded, and why.
#[derive(Debug, Clone, Args)]
pub struct ExcludeConfig {
    /// The aggregate.
    #[command(flatten)]
    pub which: OneAggregate,
    /// The position of the commit, as `events show` and the refused commands tell it
    pub position: u64,
    /// The reason; it is recorded
    #[arg(long, env = "HEADWATER_REASON")]
    pub reason: String,
    /// The person who excludes it; it is recorded. The name of this user unless given
    #[arg(long, env = "HEADWATER_BY")]
    pub by: Option<String>,
    /// Exclude it although it can be read
    #[arg(long, env = "HEADWATER_FORCE")]
    pub force: bool,
    /// The log.
    #[command(flatten)]
    pub log: LogAddress,
}

impl RestoreConfig {
    /// Reads the secret, where there is a file with one.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the file.
    pub fn secret(&self) -> Result<Option<Secret>, String> {
        read_secret(self.secret_file.as_deref())
    }
}
