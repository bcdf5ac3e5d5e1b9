//! `headwater token`: a token of one's own.

use super::Failure;
use crate::{access::Signer, config::TokenConfig};
use std::{ffi::OsString, fs, path::PathBuf, process::ExitCode};

pub(super) fn run(config: TokenConfig) -> Result<ExitCode, Failure> {
    let file = &config.signing_key;
    let make = config.new_key && !file.exists();
    let signer = match make {
        true => Signer::create(file),
        false => Signer::read(file),
    };
    let signer =
        signer.map_err(|reason| Failure::configuration(format!("--signing-key {reason}")))?;
    let claims = config.claims();
    let signer = match config.key_id {
        Some(id) => signer.with_id(id),
        None => signer,
    };
    if make && let Some(keys) = signer.key_set() {
        let mut beside = OsString::from(file);
        beside.push(".jwks.json");
        let beside = PathBuf::from(beside);
        fs::write(&beside, keys)
            .map_err(|error| Failure::operation(format!("{}: {error}", beside.display())))?;
        // The token alone goes where it can be taken from.
        eprintln!("{}: written, for --auth-jwks", beside.display());
    }
    println!("{}", signer.token(&claims).map_err(Failure::operation)?);
    Ok(ExitCode::SUCCESS)
}
