//! The flags of what looks after the instances of processes.

use super::{Hidden, LogAddress, OpsAddress};
use crate::processes::ToldStatus;
use clap::{Args, Subcommand};

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
    /// Print JSON in one line for each page, as /ops answers it
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
    /// Print JSON in one line for each answer, as /ops answers it
    #[arg(long, env = "HEADWATER_JSON")]
    pub json: bool,
    /// The gateway that is asked in place of NATS.
    #[command(flatten)]
    pub ops: OpsAddress,
    /// A token with the scope ops:read, or ops:write for what changes something, where the replicas ask who
    /// asks; better given as the variable, which
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
