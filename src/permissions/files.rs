//! The table as files: a server's configuration, and the seed of each user.

use super::{User, render};
use nkeys::KeyPair;
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// The server's configuration.
const CONFIG: &str = "headwater.conf";

/// The files of a server's users.
#[derive(Debug, Clone)]
pub struct UserFiles {
    folder: PathBuf,
    /// The seed of each user: its file, its public key, and whether it was made just now.
    pub seeds: Vec<(PathBuf, String, bool)>,
}

impl UserFiles {
    /// Writes them into a folder, which is made where there is none. Seeds that are there stay.
    ///
    /// # Errors
    ///
    /// Returns the file at fault and what is wrong with it; nothing of what is in it.
    pub fn write(folder: &Path) -> Result<Self, String> {
        let failed =
            |file: &Path, reason: &dyn std::fmt::Display| format!("{}: {reason}", file.display());
        make_private_folder(folder).map_err(|error| failed(folder, &error))?;
        let (mut users, mut seeds) = (Vec::new(), Vec::new());
        for (name, parties) in User::names() {
            let file = seed_of(folder, &name);
            let (key, made) = seed(&file).map_err(|reason| failed(&file, &reason))?;
            let key = key.public_key();
            seeds.push((file, key.clone(), made));
            users.push(User { name, parties, key });
        }
        let written = Self {
            folder: folder.to_owned(),
            seeds,
        };
        let file = written.config();
        fs::write(&file, render(&users)).map_err(|error| failed(&file, &error))?;
        Ok(written)
    }

    /// The server's configuration, to be included in the one that it is started with.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.join(CONFIG)
    }

    /// The file with the seed of a user.
    #[must_use]
    pub fn seed(&self, user: &str) -> PathBuf {
        seed_of(&self.folder, user)
    }
}

fn seed_of(folder: &Path, user: &str) -> PathBuf {
    folder.join(format!("{user}.nk"))
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
            let written = create_private(file).and_then(|mut file| writeln!(file, "{seed}"));
            written.map_err(|error| error.to_string())?;
            Ok((key, true))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Makes a file that nobody else can read, from its first moment on.
///
/// # Errors
///
/// Returns the error of the operating system, also where there is such a file.
pub fn create_private(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)
}

/// Makes a folder that nobody else can look into, and those above it.
///
/// # Errors
///
/// Returns the error of the operating system.
pub fn make_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
