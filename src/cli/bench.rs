//! `headwater bench …`.

use super::Failure;
use crate::{
    bench::{
        BenchError,
        commands::{self, CommandsOptions},
        floor,
    },
    config::{BenchAction, BenchConfig},
};
use std::process::ExitCode;

pub(super) async fn run(action: BenchAction) -> Result<ExitCode, Failure> {
    match action {
        BenchAction::Commands(config) => {
            let mut options = options("commands", &config.bench);
            options.aggregates = config.aggregates as usize;
            options.concurrency = config.concurrency.into();
            options.in_process = config.in_process;
            measure(options, &config.bench).await
        }
        BenchAction::Hot(config) => {
            let mut options = options("hot", &config.bench);
            options.concurrency = config.concurrency.into();
            options.in_process = config.in_process;
            measure(options, &config.bench).await
        }
        BenchAction::Responder(config) => floor::respond(&config.nats, config.reply_bytes).await,
    }
    .map_err(Failure::operation)?;
    Ok(ExitCode::SUCCESS)
}

fn options(name: &'static str, config: &BenchConfig) -> CommandsOptions {
    CommandsOptions {
        name,
        aggregates: 1,
        concurrency: 1,
        length: config.length(),
        rounds: config.rounds,
        connections: config.connections.into(),
        in_process: false,
        nats: config.nats.clone(),
        durable: config.durable,
        nats_server: config.nats_server.clone(),
    }
}

async fn measure(options: CommandsOptions, config: &BenchConfig) -> Result<(), BenchError> {
    let bench = commands::run(options).await?;
    bench.tell(config.json.as_deref())
}
