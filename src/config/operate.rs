//! The flags of what operates a running system: its views, parked events, the log, streams and buckets.

use super::{NatsConfig, sides::read_secret};
use crate::{
    event_log::{ApiPrefix, secret::Secret},
    processes::ToldStatus,
    read_model::Generation,
};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// The way to running projectors.
#[derive(Clone, Args)]
pub struct ControlConfig {
    /// The NATS that the projectors are connected to.
    #[command(flatten)]
    pub nats: NatsConfig,
    /// The replica to ask, where each keeps documents of its own; all unless given
    #[arg(long, env = "HEADWATER_REPLICA")]
    pub replica: Option<String>,
    /// A token with the scope ops:read, or ops:write for what changes something, where the replicas ask who
    /// asks; better given as the variable, which other users do not see
    #[arg(long, env = "HEADWATER_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Print one JSON object for each answer
    #[arg(long, env = "HEADWATER_JSON")]
    pub json: bool,
}

impl std::fmt::Debug for ControlConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlConfig")
            .field("nats", &self.nats)
            .field("replica", &self.replica)
            .finish_non_exhaustive()
    }
}

/// The actions on views.
#[derive(Debug, Clone, Subcommand)]
pub enum ViewsAction {
    /// Show each view with its generations
    List(ControlConfig),
    /// Show how far the generations of a view are
    Status {
        /// The view
        view: String,
        /// The way to the projectors.
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
        /// Take over although something is parked that the live generation has applied
        #[arg(long, env = "HEADWATER_ACCEPT_PARKED")]
        accept_parked: bool,
        /// The way to the projectors.
        #[command(flatten)]
        control: ControlConfig,
    },
    /// Let a filled generation take over that waits because it has parked what the live one has applied
    TakeOver {
        /// The view
        view: String,
        /// Say that what is parked may be missing from the documents until it is settled
        #[arg(long, required = true, env = "HEADWATER_ACCEPT_PARKED")]
        accept_parked: bool,
        /// The way to the projectors.
        #[command(flatten)]
        control: ControlConfig,
    },
    /// Make the previous generation the live one again
    Rollback {
        /// The view
        view: String,
        /// The way to the projectors.
        #[command(flatten)]
        control: ControlConfig,
    },
    /// Remove a generation that is not live
    Drop {
        /// The view
        view: String,
        /// Which one, such as v1.2; the previous one unless given. One that is being filled must be named
        #[arg(long, env = "HEADWATER_GENERATION")]
        generation: Option<Generation>,
        /// The way to the projectors.
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
        /// The way to the projectors.
        #[command(flatten)]
        control: ControlConfig,
    },
}

/// The actions on parked events.
#[derive(Debug, Clone, Subcommand)]
pub enum ParkedAction {
    /// Show what is parked
    List {
        /// The view; all unless given
        view: Option<String>,
        /// The generation, such as v2.1; the live one unless given
        #[arg(long, requires = "view", env = "HEADWATER_GENERATION")]
        generation: Option<Generation>,
        /// The number of commits to show at most; all unless given
        #[arg(long, env = "HEADWATER_LIMIT", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
        /// The way to the projectors.
        #[command(flatten)]
        control: ControlConfig,
    },
    /// Show what is parked of one aggregate, with its events
    Show {
        /// The parked events that are meant.
        #[command(flatten)]
        which: ParkedAggregate,
        /// The way to the projectors.
        #[command(flatten)]
        control: ControlConfig,
    },
    /// Apply again, in order, what is parked of one aggregate, or with --all of many
    Retry {
        /// The parked events that are meant.
        #[command(flatten)]
        which: ParkedChoice,
        /// The way to the projectors.
        #[command(flatten)]
        control: ControlConfig,
    },
    /// Leave out the one event that could not be applied, or with --all every such event, and apply those
    /// after it
    Skip {
        /// The parked events that are meant.
        #[command(flatten)]
        which: ParkedChoice,
        /// The way to the projectors.
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
    /// The generation, such as v2.1; the live one unless given
    #[arg(long, env = "HEADWATER_GENERATION")]
    pub generation: Option<Generation>,
}

/// One aggregate of which something is parked, or many.
#[derive(Debug, Clone, Args)]
pub struct ParkedChoice {
    /// The view; with --all, of every view unless given
    #[arg(required_unless_present = "all")]
    pub view: Option<String>,
    /// The aggregate's name; with --all, of every name unless given
    #[arg(required_unless_present = "all")]
    pub aggregate: Option<String>,
    /// The aggregate's id; with --all, every one unless given
    #[arg(required_unless_present = "all")]
    pub id: Option<String>,
    /// All that the names choose, and all events of it
    #[arg(long, env = "HEADWATER_ALL")]
    pub all: bool,
    /// The generation, such as v2.1; the live one unless given
    #[arg(long, requires = "view", env = "HEADWATER_GENERATION")]
    pub generation: Option<Generation>,
}

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
    /// An aggregate that this build has given up on purpose, and which is taken as it is; may be given more than once
    #[arg(
        long,
        value_name = "AGGREGATE",
        env = "HEADWATER_LEAVE_OUT",
        value_delimiter = ','
    )]
    pub leave_out: Vec<String>,
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
    /// An aggregate that this build has given up on purpose, which is then no fault; may be given more than once
    #[arg(
        long,
        value_name = "AGGREGATE",
        env = "HEADWATER_LEAVE_OUT",
        value_delimiter = ','
    )]
    pub leave_out: Vec<String>,
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
    /// An aggregate that this build has given up on purpose, which is then no fault; may be given more than once
    #[arg(
        long,
        value_name = "AGGREGATE",
        env = "HEADWATER_LEAVE_OUT",
        value_delimiter = ','
    )]
    pub leave_out: Vec<String>,
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
    /// Print one JSON object for each commit
    #[arg(long, env = "HEADWATER_JSON")]
    pub json: bool,
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

/// The actions on the instances of a process.
#[derive(Debug, Clone, Subcommand)]
pub enum ProcessesAction {
    /// Show the instances of a process: how they are, and what they wait for
    List(ProcessesListConfig),
    /// Show one instance with all of its steps
    Show(InstanceConfig),
    /// React again to the input at which an instance is parked, or with --all every one, and go on from there
    Retry(InstanceConfig),
    /// Let a parked or suspended instance go on with the inputs that wait, or with --all every one
    Resume(InstanceConfig),
    /// Drop the first input that waits, and go on with the next
    Skip(InstanceConfig),
    /// Stop an instance, or with --all every one that runs; its inputs wait
    Suspend(InstanceConfig),
    /// End an instance, whatever waits
    End(InstanceConfig),
    /// Rehearse all instances that have not ended with this build, before it is deployed, and list those that would
    /// go on otherwise; writes nothing; exit 1 if any would
    Try(ProcessesTryConfig),
    /// Fold all instances again from the log, and compare them with what they have sent, what has become of it and
    /// which alarms are armed; exit 1 where something differs
    Verify(ProcessesVerifyConfig),
}

/// The instances that are rehearsed.
#[derive(Debug, Clone, Args)]
pub struct ProcessesTryConfig {
    /// The process
    pub process: String,
    /// A setting of the process as the deployment has it, such as payment_deadline=15m; several may be given
    #[arg(long, env = "HEADWATER_SET", value_delimiter = ',')]
    pub set: Vec<String>,
    /// Print one JSON object for each instance that would go on otherwise
    #[arg(long, env = "HEADWATER_JSON")]
    pub json: bool,
    /// The log.
    #[command(flatten)]
    pub log: LogAddress,
}

/// The instances that are verified.
#[derive(Debug, Clone, Args)]
pub struct ProcessesVerifyConfig {
    /// The process
    pub process: String,
    /// Print JSON
    #[arg(long, env = "HEADWATER_JSON")]
    pub json: bool,
    /// The log.
    #[command(flatten)]
    pub log: LogAddress,
}

/// Which instances are shown.
#[derive(Debug, Clone, Args)]
pub struct ProcessesListConfig {
    /// The process
    pub process: String,
    /// Only those that are so; all unless given
    #[arg(long, env = "HEADWATER_STATUS")]
    pub status: Option<ToldStatus>,
    /// The most to show
    #[arg(long, env = "HEADWATER_LIMIT", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub limit: u64,
    /// Print one JSON object for each instance
    #[arg(long, env = "HEADWATER_JSON")]
    pub json: bool,
    /// The log.
    #[command(flatten)]
    pub log: LogAddress,
}

/// An instance, and how it is reached.
#[derive(Clone, Args)]
pub struct InstanceConfig {
    /// The process
    pub process: String,
    /// The instance
    #[arg(required_unless_present = "all")]
    pub id: Option<String>,
    /// All instances that it can be done with
    #[arg(long, env = "HEADWATER_ALL", conflicts_with = "id")]
    pub all: bool,
    /// With --all, only those that are so
    #[arg(long, requires = "all", env = "HEADWATER_STATUS")]
    pub status: Option<ToldStatus>,
    /// With --all, only those that are parked or suspended for a reason with this text in it
    #[arg(long, requires = "all", env = "HEADWATER_BECAUSE")]
    pub because: Option<String>,
    /// The id is that of an aggregate of this name, whose events the process cannot place: for retry and skip
    #[arg(long, conflicts_with = "all", env = "HEADWATER_UNPLACED")]
    pub unplaced: Option<String>,
    /// The reason; it is recorded
    #[arg(long, env = "HEADWATER_REASON")]
    pub reason: Option<String>,
    /// Print JSON
    #[arg(long, env = "HEADWATER_JSON")]
    pub json: bool,
    /// A token with the scope ops:write, where the replicas ask who asks; better given as the variable, which
    /// other users do not see
    #[arg(long, env = "HEADWATER_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The log.
    #[command(flatten)]
    pub log: LogAddress,
}

impl std::fmt::Debug for InstanceConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InstanceConfig")
            .field("process", &self.process)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The actions on the streams and buckets.
#[derive(Debug, Clone, Subcommand)]
pub enum TopologyAction {
    /// Create what is missing and bring the rest to the files' settings
    Apply(TopologyConfig),
    /// Compare with the files; exit 1 when something differs
    Verify(TopologyConfig),
}

/// The NATS that has the log, and the way to its JetStream.
#[derive(Debug, Clone, Args)]
pub struct LogAddress {
    /// The NATS.
    #[command(flatten)]
    pub nats: NatsConfig,
    /// The JetStream domain that the log is in, where that is not the server's own: at a leaf node
    #[arg(long, env = "HEADWATER_JS_DOMAIN", value_parser = ApiPrefix::of_domain)]
    pub js_domain: Option<ApiPrefix>,
    /// The prefix of JetStream's API, where an account imports it under another than $JS.API
    #[arg(long, env = "HEADWATER_JS_API_PREFIX", conflicts_with = "js_domain", value_parser = ApiPrefix::new)]
    pub js_api_prefix: Option<ApiPrefix>,
}

/// Which streams and buckets are meant, and how they are to be.
#[derive(Debug, Clone, Args)]
pub struct TopologyConfig {
    /// The place where they are.
    #[command(flatten)]
    pub log: LogAddress,
    /// The number of copies NATS keeps of each stream; as it is now, or 1, unless given
    #[arg(long, env = "HEADWATER_STREAM_REPLICAS", value_parser = clap::value_parser!(u8).range(1..=5))]
    pub stream_replicas: Option<u8>,
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

impl LogAddress {
    /// Returns where JetStream is reached.
    #[must_use]
    pub fn api(&self) -> ApiPrefix {
        let given = self.js_domain.as_ref().or(self.js_api_prefix.as_ref());
        given.cloned().unwrap_or_default()
    }
}

/// A text that is not shown.
#[derive(Clone)]
pub struct Hidden(pub String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(not shown)")
    }
}

impl From<&str> for Hidden {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}
