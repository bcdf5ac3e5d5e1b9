//! `headwater events export|import`: a log as a file, and a log from it.

use super::connect;
use crate::{
    cli::{Failure, progress::Progress},
    config::{ExportConfig, ImportConfig},
    event_log::{EventLog, topology},
    log_file::{self, ExportError, ImportError, ImportOptions, Imported, Target},
    platform::Domain,
};
use std::{
    fs::File,
    io::{self, BufReader},
    path::Path,
    process::ExitCode,
};

pub(super) async fn export(config: ExportConfig) -> Result<ExitCode, Failure> {
    let log = connect(&config.log).await?;
    let path = named(&config.file);
    let mut progress = Progress::new();
    let tell = |done, of| progress.show("messages", done, of);
    let exported = log_file::export(&log, path, tell).await;
    drop(progress);
    let exported = exported.map_err(|error| match error {
        ExportError::OtherLog { .. } | ExportError::InUse => Failure::configuration(error),
        _ => Failure::operation(error),
    })?;
    let new = exported.messages - exported.before;
    let all = exported.messages;
    eprintln!(
        "{all} messages up to position {} are exported, {new} of them now",
        exported.last
    );
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn import(domain: &Domain, config: ImportConfig) -> Result<ExitCode, Failure> {
    let options = ImportOptions {
        left_out: config.given_up.leave_out,
    };
    let file: Box<dyn io::Read + Send> = match named(&config.file) {
        Some(path) => {
            let file = File::open(path);
            Box::new(file.map_err(|error| {
                Failure::configuration(format!("{}: {error}", config.file.display()))
            })?)
        }
        None => Box::new(io::stdin()),
    };
    let file = BufReader::with_capacity(1 << 20, file);
    let mut progress = Progress::new();
    let tell = |done, of| progress.show("messages", done, of);
    let aggregates = domain.stored_aggregates();
    let imported = match config.dry_run {
        true => log_file::import(Target::Nowhere, aggregates, file, &options, tell).await,
        false => {
            let log = connect(&config.log).await?;
            create(domain, &log).await?;
            log_file::import(Target::Log(&log), aggregates, file, &options, tell).await
        }
    };
    drop(progress);
    let Imported { messages, before } = imported.map_err(|error| match error {
        ImportError::OtherLog { .. } => Failure::configuration(error),
        _ => Failure::operation(error),
    })?;
    match config.dry_run {
        true => println!("{messages} messages can be imported"),
        false => println!(
            "{messages} messages are imported, {} of them now",
            messages - before
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the streams where there is no log yet; one that is there is left as it is.
async fn create(domain: &Domain, log: &EventLog) -> Result<(), Failure> {
    use topology::TopologyError::Vanished;
    match topology::replicas(log.client(), log.api_prefix()).await {
        Ok(_) => Ok(()),
        Err(Vanished { .. }) => {
            let wanted = domain.topology().with_api(log.api_prefix().clone());
            let applied = wanted.apply(log.client()).await;
            applied.map(drop).map_err(Failure::operation)
        }
        Err(error) => Err(Failure::operation(error)),
    }
}

/// The file, or standard input or output where it is `-`.
fn named(file: &Path) -> Option<&Path> {
    (file != Path::new("-")).then_some(file)
}
