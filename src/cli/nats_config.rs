//! `headwater nats-config`: users for NATS, each with what its part takes.

use super::Failure;
use crate::{
    config::NatsFilesConfig,
    permissions::{User, render},
};
use nkeys::KeyPair;
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

/// The server's configuration.
const CONFIG: &str = "headwater.conf";

pub(super) fn run(config: &NatsFilesConfig) -> Result<ExitCode, Failure> {
    let folder = &config.out;
    let failed = |file: &Path, reason: &dyn std::fmt::Display| {
        Failure::operation(format!("{}: {reason}", file.display()))
    };
    make_folder(folder).map_err(|error| failed(folder, &error))?;
    let mut users = Vec::new();
    for (name, parties) in User::names() {
        let file = folder.join(format!("{name}.nk"));
        let (key, made) = seed(&file).map_err(|reason| failed(&file, &reason))?;
        let what = if made { "made" } else { "kept" };
        println!("{}: {what}, {}", file.display(), key.public_key());
        users.push(User {
            name,
            parties,
            key: key.public_key(),
        });
    }
    let file = folder.join(CONFIG);
    fs::write(&file, render(&users)).map_err(|error| failed(&file, &error))?;
    println!(
        "{}: written; include it in the configuration of nats-server",
        file.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// The key of a file, which is made where there is none: one that is in use stays.
fn seed(file: &Path) -> Result<(KeyPair, bool), String> {
    match fs::read_to_string(file) {
        Ok(seed) => {
            let key = KeyPair::from_seed(seed.trim());
            let key = key.map_err(|_| "it has no seed; delete it, and one is made".to_owned())?;
            Ok((key, false))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::new_user();
            let seed = key.seed().map_err(|error| error.to_string())?;
            let written = create(file).and_then(|mut file| writeln!(file, "{seed}"));
            written.map_err(|error| error.to_string())?;
            Ok((key, true))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Makes a file that nobody else can read, from its first moment on.
fn create(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
