//! `headwater backup|restore`: a copy of the log as its server makes it, and a log from one.
//!
//! The folder has what `nats stream backup` writes of a stream, and beside it what is known of it, which is
//! written last: without that a copy is not complete.

mod folder;

use super::{Failure, connect, events, progress::Progress};
use crate::{
    config::{BackupConfig, RestoreConfig},
    event_log::{EventLog, Extent, Timeouts, copy::KeysHidden},
    platform::Domain,
    replay::{self, ReplayOptions},
};
use folder::{Copied, Folder};
use serde_json::Value;
use std::process::ExitCode;

pub(super) async fn backup(config: BackupConfig) -> Result<ExitCode, Failure> {
    let client = connect(&config.log.nats, "backup").await?;
    let log = EventLog::new(client, Timeouts::default()).with_api(config.log.api());
    let mut folder = Folder::begin(&config.folder).map_err(Failure::configuration)?;
    let keys = log.keys_hidden().await.map_err(Failure::operation)?;
    let mut copying = log.copy().await.map_err(Failure::operation)?;
    let number = |name: &str| copying.state.get(name).and_then(Value::as_u64);
    let extent = Extent {
        first: number("first_seq").unwrap_or_default(),
        last: number("last_seq").unwrap_or_default(),
        messages: number("messages").unwrap_or_default(),
    };
    let (config, state) = (copying.config.clone(), copying.state.clone());
    let bytes = state.get("bytes").and_then(Value::as_u64);
    let mut progress = Progress::new();
    while let Some(chunk) = copying.next().await.map_err(Failure::operation)? {
        let written = folder.write(&chunk).map_err(Failure::operation)?;
        // The archive is compressed, so it may have less.
        progress.show("bytes", written, bytes.unwrap_or_default().max(written));
    }
    drop(progress);
    let manifest = folder.finish(config, state, extent, keys);
    let manifest = manifest.map_err(Failure::operation)?;
    println!(
        "{} messages up to position {} are in {}",
        manifest.log.messages,
        manifest.log.last,
        folder.path().display()
    );
    println!("{}", hint(keys));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn restore(domain: &Domain, config: RestoreConfig) -> Result<ExitCode, Failure> {
    let secret = config.secret().map_err(Failure::configuration)?;
    let has_secret = secret.is_some();
    let mut copied = Copied::open(&config.folder).map_err(Failure::configuration)?;
    let client = connect(&config.log.nats, "restore").await?;
    let log = EventLog::new(client.clone(), Timeouts::default())
        .with_api(config.log.api())
        .with_secret(secret);
    if log.is_there().await.map_err(Failure::operation)? {
        return Err(Failure::configuration(
            "the stream EVENTS is there already: stop the replicas and delete it, or restore into another NATS",
        ));
    }
    let mut stream = copied.config.clone();
    if let Some(replicas) = config.stream_replicas {
        stream.insert("num_replicas".to_owned(), replicas.into());
    }
    let Copied {
        manifest, state, ..
    } = &copied;
    let (manifest, state) = (manifest.clone(), state.clone());
    let mut progress = Progress::new();
    let mut sent = 0;
    let next = |size: usize| {
        let chunk = copied.next(size)?;
        sent += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        progress.show("bytes", sent, manifest.bytes);
        Ok(chunk)
    };
    let restored = log.restore_copy(&stream, &state, next).await;
    drop(progress);
    restored.map_err(Failure::operation)?;
    let topology = domain.topology().with_api(config.log.api());
    topology.apply(&client).await.map_err(Failure::operation)?;
    let extent = log.extent().await.map_err(Failure::operation)?;
    // What came while the copy was made may be in it too.
    if extent.first != manifest.log.first || extent.last < manifest.log.last {
        return Err(Failure::operation(format!(
            "what was restored reaches from position {} to {}, and not from {} to {}",
            extent.first, extent.last, manifest.log.first, manifest.log.last
        )));
    }
    println!(
        "{} messages up to position {} are restored",
        extent.messages, extent.last
    );
    let well = check(domain, &log, &config).await?;
    if has_secret {
        log.agree_on_secret()
            .await
            .map_err(Failure::configuration)?;
    } else {
        println!("{}", hint(manifest.keys));
    }
    println!(
        "views are filled anew from it, and snapshots and alarms made anew, when replicas start"
    );
    Ok(match well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Folds all that was restored.
async fn check(domain: &Domain, log: &EventLog, config: &RestoreConfig) -> Result<bool, Failure> {
    if config.no_check {
        return Ok(true);
    }
    let options = ReplayOptions {
        left_out: config.given_up.leave_out.clone(),
        ..ReplayOptions::default()
    };
    let begun = std::time::Instant::now();
    let mut progress = Progress::new();
    let tell = |read, of| progress.show("messages folded", read, of);
    let report = replay::replay(log, domain.stored_aggregates(), &options, tell).await;
    drop(progress);
    let report = report.map_err(Failure::operation)?;
    events::print_report(&report, begun.elapsed());
    Ok(report.is_well())
}

/// The hint at what has to be kept beside the copy.
fn hint(keys: KeysHidden) -> &'static str {
    match keys {
        KeysHidden::NotYet => {
            "no secret has been agreed on yet: whatever --secret-file replicas are given will be it"
        }
        KeysHidden::LogSalt => {
            "unique keys are hidden under the log's own salt: nothing else is to be kept"
        }
        KeysHidden::SecretFile => {
            "unique keys are hidden under a secret that is NOT in the copy: keep the --secret-file of the replicas beside it"
        }
    }
}
