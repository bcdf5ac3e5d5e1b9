//! The data folder: who holds it, and what in it is Headwater's.
//!
//! One process holds a folder at a time, by a lock on `headwater.lock` that the operating system
//! gives back however the process ends. [`DataDir::reset`] removes only the folders that
//! Headwater makes, and a folder that has them but no lock file is somebody else's and refused.

use crate::{
    event_log::secret::Secret,
    read_model::{aside, texts_beside},
};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

const LOCK: &str = "headwater.lock";
const NATS: &str = "nats";
const VIEWS: &str = "views";
const REFOLD: &str = "refold";
const SECRET: &str = "secret";

/// A data folder that this process holds. Dropping it lets it go.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    // Held for its lock.
    _lock: File,
}

impl DataDir {
    /// Creates the folder if need be, and takes it.
    ///
    /// # Errors
    ///
    /// Returns [`DataDirError`] when another process holds it, when it has content of others under
    /// the names that Headwater uses, or when it cannot be written. All are terminal.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, DataDirError> {
        let path = path.into();
        let failed = |source| DataDirError::Unusable {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(&path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let failed = |source| DataDirError::Unusable {
            path: path.clone(),
            source,
        };
        if !path.join(LOCK).exists() {
            for name in [NATS, VIEWS, REFOLD] {
                if path.join(name).exists() {
                    return Err(DataDirError::Foreign { path, name });
                }
            }
        }
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message; a holder that has not written yet is no reason to fail differently.
                let _ = lock.read_to_string(&mut holder);
                return Err(DataDirError::Held {
                    path,
                    holder: holder.trim().to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        write_holder(&mut lock).map_err(failed)?;
        match fs::remove_dir_all(path.join(REFOLD)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        Ok(Self { path, _lock: lock })
    }

    /// The folder, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns where the nats-server child keeps its streams, configuration and log.
    #[must_use]
    pub fn nats(&self) -> PathBuf {
        self.path.join(NATS)
    }

    /// Returns where the embedded store keeps the views.
    #[must_use]
    pub fn views(&self) -> PathBuf {
        self.path.join(VIEWS)
    }

    /// Returns where views that are folded again to be verified are kept meanwhile. Nothing in it lasts: what a
    /// killed process has left there is gone when the folder is opened.
    #[must_use]
    pub fn refold(&self) -> PathBuf {
        self.path.join(REFOLD)
    }

    /// The secret under which unique keys are hidden in the log, made up on first use and kept in the
    /// file `secret`, which only its owner can read.
    ///
    /// # Errors
    ///
    /// Returns [`DataDirError::Unusable`] when it cannot be read or written.
    pub fn secret(&self) -> Result<Secret, DataDirError> {
        let secret = match fs::read(self.path.join(SECRET)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_up_secret(),
            read => read,
        };
        secret
            .and_then(|content| Secret::new(&content).map_err(io::Error::other))
            .map_err(|source| DataDirError::Unusable {
                path: self.path.join(SECRET),
                source,
            })
    }

    fn make_up_secret(&self) -> io::Result<Vec<u8>> {
        use std::os::unix::fs::OpenOptionsExt;
        let secret = format!(
            "{:032x}{:032x}\n",
            rand::random::<u128>(),
            rand::random::<u128>()
        );
        let unfinished = self.path.join("secret.new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&unfinished)?;
        file.write_all(secret.as_bytes())?;
        file.sync_all()?;
        fs::rename(unfinished, self.path.join(SECRET))?;
        Ok(secret.into_bytes())
    }

    /// Removes what Headwater made in the folder, and nothing else. Waits up to ten seconds for a
    /// nats-server that a killed process has left to end.
    ///
    /// # Errors
    ///
    /// Returns [`DataDirError::Unusable`] when something cannot be removed, or is still in use.
    pub fn reset(&self) -> Result<(), DataDirError> {
        let failed = |source| DataDirError::Unusable {
            path: self.path.clone(),
            source,
        };
        crate::dev::nats_server::wait_until_unused(&self.nats()).map_err(failed)?;
        let aside = aside(&self.views());
        let texts = texts_beside(&self.views());
        for folder in [self.nats(), self.views(), aside, texts, self.refold()] {
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

fn write_holder(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "process {}", std::process::id())
}

/// The reason why a data folder cannot be used. Terminal.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process holds it.
    #[error("the data folder {} is in use by another headwater ({holder})", path.display())]
    Held {
        /// The folder.
        path: PathBuf,
        /// The holder, for a person.
        holder: String,
    },
    /// It has something of the same name that Headwater did not make.
    #[error("{} is no data folder: its {name} was not made by headwater", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// The form that was found.
        name: &'static str,
    },
    /// It cannot be created, read, written or emptied.
    #[error("the data folder {} cannot be used: {source}", path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// The fault.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_the_folder() {
        let temp = tempfile::tempdir().unwrap();
        let first = DataDir::open(temp.path()).unwrap();
        let error = DataDir::open(temp.path()).unwrap_err();
        assert!(matches!(&error, DataDirError::Held { .. }), "{error}");
        let message = error.to_string();
        assert!(
            message.contains(first.path().to_str().unwrap()),
            "{message}"
        );
        assert!(
            message.contains(&std::process::id().to_string()),
            "{message}"
        );
        drop(first);
        DataDir::open(temp.path()).unwrap();
    }

    #[test]
    fn reset_removes_only_what_headwater_made() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("notes.txt"), "mine").unwrap();
        let folder = DataDir::open(temp.path()).unwrap();
        fs::create_dir_all(folder.nats().join("jetstream")).unwrap();
        fs::create_dir_all(folder.views()).unwrap();
        folder.reset().unwrap();
        assert!(!folder.nats().exists() && !folder.views().exists());
        assert_eq!(
            fs::read_to_string(temp.path().join("notes.txt")).unwrap(),
            "mine"
        );
        folder.reset().unwrap();
    }

    #[test]
    fn a_secret_is_made_up_once_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let folder = DataDir::open(temp.path()).unwrap();
        folder.secret().unwrap();
        let file = folder.path().join(SECRET);
        let first = fs::read(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o77, 0);
        folder.reset().unwrap();
        folder.secret().unwrap();
        assert_eq!(fs::read(&file).unwrap(), first);
        fs::write(&file, "short").unwrap();
        assert!(folder.secret().is_err());
    }

    #[test]
    fn a_folder_of_others_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("nats")).unwrap();
        let error = DataDir::open(temp.path()).unwrap_err();
        assert!(matches!(error, DataDirError::Foreign { .. }), "{error}");
        assert!(temp.path().join("nats").exists());
    }

    #[test]
    fn a_path_that_is_a_file_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        let error = DataDir::open(file).unwrap_err();
        assert!(matches!(error, DataDirError::Unusable { .. }), "{error}");
    }
}
