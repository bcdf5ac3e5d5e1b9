//! The flags of `headwater bench events`.

use super::QueryBenchConfig;
use clap::Args;

/// `headwater bench events`.
#[derive(Debug, Clone, Args)]
pub struct BenchEventsConfig {
    /// The settings of every bench of the query side.
    #[command(flatten)]
    pub bench: QueryBenchConfig,
    /// The number of events there are, each a commit of its own
    #[arg(long, env = "HEADWATER_EVENTS", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub events: u32,
    /// Of how many aggregates
    #[arg(long, env = "HEADWATER_AGGREGATES", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub aggregates: u32,
}
