//! `headwater nats-config`: users for NATS, each with what its part takes.

use super::Failure;
use crate::{config::NatsFilesConfig, permissions::UserFiles};
use std::process::ExitCode;

pub(super) fn run(config: &NatsFilesConfig) -> Result<ExitCode, Failure> {
    let files = UserFiles::write(&config.out).map_err(Failure::operation)?;
    for (file, key, made) in &files.seeds {
        let what = if *made { "made" } else { "kept" };
        println!("{}: {what}, {key}", file.display());
    }
    println!(
        "{}: written; include it in the configuration of nats-server",
        files.config().display()
    );
    Ok(ExitCode::SUCCESS)
}
