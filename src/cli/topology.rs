//! `headwater topology apply|verify`.

use super::Failure;
use crate::{
    config::{TopologyAction, TopologyConfig},
    event_log::{
        Consumer, EventLog, LoadError, Timeouts,
        topology::{Change, Difference, Topology},
    },
    platform::Domain,
};
use std::{process::ExitCode, time::Duration};

/// The time after a first look that a consumer must still be without a reader to be told.
const AGAIN: Duration = Duration::from_millis(500);

pub(super) async fn run(domain: &Domain, action: TopologyAction) -> Result<ExitCode, Failure> {
    match action {
        TopologyAction::Apply(config) => apply(domain, config).await,
        TopologyAction::Verify(config) => verify(domain, config).await,
    }
}

async fn apply(domain: &Domain, config: TopologyConfig) -> Result<ExitCode, Failure> {
    let (client, topology) = connect(domain, config).await?;
    let changes = topology.apply(&client).await.map_err(Failure::operation)?;
    for (stream, change) in changes {
        let change = match change {
            Change::Created => "created",
            Change::Updated => "updated",
            Change::Unchanged => "unchanged",
            Change::Newer => "left as a newer program has set it",
        };
        println!("{stream}: {change}");
    }
    Ok(ExitCode::SUCCESS)
}

async fn verify(domain: &Domain, config: TopologyConfig) -> Result<ExitCode, Failure> {
    let api = config.log.api();
    let (client, topology) = connect(domain, config).await?;
    let differences = topology.verify(&client).await.map_err(Failure::operation)?;
    for difference in &differences {
        println!("{difference}");
    }
    if differences.iter().any(Difference::matters) {
        return Ok(ExitCode::FAILURE);
    }
    if differences.is_empty() {
        println!("all is as the files say");
    }
    let log = EventLog::new(client, Timeouts::default()).with_api(api);
    for stray in strays(&log).await.map_err(Failure::operation)? {
        println!("{stray}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The consumers that nobody reads from, nor did a moment ago: a reader asks anew now and then.
async fn strays(log: &EventLog) -> Result<Vec<Consumer>, LoadError> {
    let mut strays = log.consumers().await?;
    strays.retain(Consumer::is_stray);
    if !strays.is_empty() {
        tokio::time::sleep(AGAIN).await;
        let again = log.consumers().await?;
        let is_still = |stray: &Consumer| {
            again
                .iter()
                .any(|it| it.name == stray.name && it.is_stray())
        };
        strays.retain(is_still);
    }
    Ok(strays)
}

async fn connect(
    domain: &Domain,
    config: TopologyConfig,
) -> Result<(async_nats::Client, Topology), Failure> {
    let client = super::connect(&config.log.nats, "topology").await?;
    let topology = domain.topology().with_api(config.log.api());
    Ok(match config.stream_replicas {
        Some(replicas) => (client, topology.with_replicas(replicas)),
        None => (client, topology),
    })
}
