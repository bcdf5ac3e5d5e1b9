//! The flags of what operates a running system: its views, parked events, the log, streams and buckets.

mod events;
mod processes;

pub use events::{
    BackupConfig, CheckConfig, EventsAction, ExcludeConfig, ExportConfig, GivenUp, ImportConfig,
    OneAggregate, RestoreConfig, ShowEventsConfig,
};
pub use processes::{
    InstanceConfig, ProcessesAction, ProcessesListConfig, ProcessesTryConfig, ProcessesVerifyConfig,
};

use super::NatsConfig;
use crate::{event_log::ApiPrefix, read_model::Generation};
use clap::{Args, Subcommand};
use http_client::Url;

/// The gateway that is asked in place of NATS.
#[derive(Debug, Clone, Default, Args)]
pub struct OpsAddress {
    /// The address of a gateway whose /ops is asked for all of it, in place of NATS and the log, such as
    /// http://127.0.0.1:8080; what it answers is printed as JSON
    #[arg(long, value_name = "URL", env = "HEADWATER_OPS")]
    pub ops: Option<Url>,
}

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
    /// Print JSON in one line for each answer, as /ops answers it
    #[arg(long, env = "HEADWATER_JSON")]
    pub json: bool,
    /// The gateway that is asked in place of NATS.
    #[command(flatten)]
    pub ops: OpsAddress,
}

impl ViewsAction {
    /// Returns the way to the projectors.
    #[must_use]
    pub fn control(&self) -> &ControlConfig {
        match self {
            Self::List(control)
            | Self::Status { control, .. }
            | Self::Rebuild { control, .. }
            | Self::TakeOver { control, .. }
            | Self::Rollback { control, .. }
            | Self::Drop { control, .. }
            | Self::Verify { control, .. } => control,
        }
    }
}

impl ParkedAction {
    /// Returns the way to the projectors.
    #[must_use]
    pub fn control(&self) -> &ControlConfig {
        match self {
            Self::List { control, .. }
            | Self::Show { control, .. }
            | Self::Retry { control, .. }
            | Self::Skip { control, .. } => control,
        }
    }
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
