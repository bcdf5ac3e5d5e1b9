//! `headwater dev`: everything on this machine, until Ctrl-C.

use super::{Failure, signals};
use crate::{
    command::request::{CommandHeaders, CommandRequest},
    config::DevConfig,
    dev::{Dev, DevError, DevOptions},
    event_log::subject::Id,
    mart::catalogue::{self, SampleCommand},
    platform::{Domain, Platform, StartError},
};
use futures::{TryStreamExt, stream};
use std::{process::ExitCode, time::Duration};

/// How many sample commands are under way at once.
const SEEDING: usize = 64;
/// How often a sample command is given, where the log does not answer in time.
const SEEDING_ATTEMPTS: u32 = 10;
/// How long the views may take to read the log at the start before the banner is printed anyway.
const CATCH_UP: Duration = Duration::from_secs(60);

pub(super) async fn run(config: DevConfig) -> Result<ExitCode, Failure> {
    let no_seed = config.no_seed;
    let exporter = super::export_traces(&config.sides.trace, "dev")?;
    let options = DevOptions {
        data_dir: config.data_dir,
        http: config.sides.gateway.http(config.http_addr),
        nats_port: config.nats_port,
        nats_server: config.nats_server,
        reset: config.reset,
        cache: config.sides.gateway.cache(),
        list_cache: config.sides.gateway.list_cache(),
        verify_per_minute: config.sides.verify.verify_per_minute,
        repair: config.sides.verify.repair,
        command: config.sides.command.options(),
        append: config.sides.command.append,
        secret: config
            .sides
            .command
            .secret()
            .map_err(Failure::configuration)?,
        inboxes: config.sides.inboxes(),
    };
    let dev = Dev::start(Domain::mart(), options).await.map_err(failure)?;
    let marker = dev.seeded_marker();
    if !marker.exists() {
        if !no_seed {
            seed(dev.platform()).await?;
        }
        std::fs::write(&marker, "").map_err(|error| {
            Failure::operation(format!("cannot write {}: {error}", marker.display()))
        })?;
    }
    caught_up(dev.platform()).await;
    print_banner(&dev);

    signals::asked_to_stop().await.map_err(Failure::operation)?;
    // A second signal means: now.
    let stop = async {
        dev.stop().await;
        if let Some(exporter) = exporter {
            exporter.stop().await;
        }
    };
    tokio::select! {
        () = stop => Ok(ExitCode::SUCCESS),
        _ = signals::asked_to_stop() => Ok(ExitCode::FAILURE),
    }
}

fn failure(error: DevError) -> Failure {
    match error {
        DevError::Data(_) | DevError::Nats(_) => Failure::configuration(error),
        DevError::Start(StartError::Bind { .. }) => Failure::configuration(error),
        DevError::Start(_) => Failure::operation(error),
    }
}

/// Gives the sample commands, phase by phase. Each has a key of its own, so that a run that was cut
/// off in the middle is taken up again without doing anything twice.
async fn seed(platform: &Platform) -> Result<(), Failure> {
    for (phase, commands) in catalogue::phases().into_iter().enumerate() {
        stream::iter(commands.into_iter().map(Ok))
            .try_for_each_concurrent(SEEDING, |command| give(platform, phase, command))
            .await?;
    }
    Ok(())
}

async fn give(platform: &Platform, phase: usize, sample: SampleCommand) -> Result<(), Failure> {
    let name = format!("{} {} {}", sample.aggregate, sample.id, sample.command);
    let request = CommandRequest {
        aggregate: sample.aggregate.into(),
        id: Id::new(sample.id.as_str()).map_err(Failure::operation)?,
        command: sample.command.into(),
        body: sample.body.to_string().into(),
        headers: CommandHeaders {
            idempotency_key: Some(format!("sample-{phase}").into()),
            ..CommandHeaders::default()
        },
    };
    let mut attempt = 1;
    loop {
        match platform.commands().execute(request.clone()).await {
            Ok(_) => return Ok(()),
            // Busy, or in doubt: with its key the command can safely be given again.
            Err(problem) if problem.retry_after.is_some() && attempt < SEEDING_ATTEMPTS => {
                tokio::time::sleep(Duration::from_millis(200) * attempt).await;
                attempt += 1;
            }
            Err(problem) => {
                let reason = format!("sample command {name}: {problem}");
                return Err(Failure::operation(reason));
            }
        }
    }
}

async fn caught_up(platform: &Platform) {
    let waiting = platform.wait_caught_up();
    if tokio::time::timeout(CATCH_UP, waiting).await.is_err() {
        tracing::warn!("the views are still reading the log; /readyz tells when they are done");
    }
}

fn print_banner(dev: &Dev) {
    let http = dev
        .platform()
        .http_addr()
        .map_or_else(String::new, |address| format!("http://{address}"));
    let append = dev
        .platform()
        .append()
        .map_or_else(String::new, ToString::to_string);
    let apple = percent_encoded("사과");
    println!(
        "headwater {version} runs; Ctrl-C stops it
  HTTP        {http}  (try it out: {http}/docs)
  NATS        {nats}
  data        {folder}
  durability  {durability}
  append      {append}
try, in another terminal:
  curl -s '{http}/views/product?q={apple}&limit=3'
  curl -s '{http}/commands/stock/gangnam_apple-1kg/receive' -H 'Content-Type: application/json' -d '{{\"quantity\": 12}}'",
        version = env!("CARGO_PKG_VERSION"),
        nats = dev.nats_url(),
        folder = dev.folder().display(),
        durability = dev.durability(),
    );
}

fn percent_encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
