//! `headwater topology apply|verify`.

use super::Failure;
use crate::{
    config::{TopologyAction, TopologyConfig},
    event_log::topology::{Change, Difference, Topology},
    platform,
};
use std::process::ExitCode;

pub(super) async fn run(action: TopologyAction) -> Result<ExitCode, Failure> {
    match action {
        TopologyAction::Apply(config) => apply(config).await,
        TopologyAction::Verify(config) => verify(config).await,
    }
}

async fn apply(config: TopologyConfig) -> Result<ExitCode, Failure> {
    let (client, topology) = connect(config).await?;
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

async fn verify(config: TopologyConfig) -> Result<ExitCode, Failure> {
    let (client, topology) = connect(config).await?;
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
    Ok(ExitCode::SUCCESS)
}

async fn connect(config: TopologyConfig) -> Result<(async_nats::Client, Topology), Failure> {
    let client = platform::connect(&config.log.nats.servers, "topology")
        .await
        .map_err(Failure::operation)?;
    let topology = Topology::embedded().with_api(config.log.api());
    Ok(match config.stream_replicas {
        Some(replicas) => (client, topology.with_replicas(replicas)),
        None => (client, topology),
    })
}
