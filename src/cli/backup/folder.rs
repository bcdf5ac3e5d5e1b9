//! The folder of a copy: written so that one that was not finished is never taken for one that was.

use crate::event_log::{Extent, copy::KeysHidden, secret::hexadecimal};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
};

/// The file that describes the copy; written last.
const MANIFEST: &str = "headwater.json";
/// The configuration and the state of the stream, as `nats stream backup` calls them.
const STREAM: &str = "backup.json";
/// The stream's files, as it calls them.
const ARCHIVE: &str = "stream.tar.s2";
/// The file that is being written in their place.
const UNFINISHED: &str = "backup.json.part";
/// The form of the folder.
const FORM: u32 = 1;

/// The description of a copy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) form: u32,
    /// When it was made.
    pub(super) taken: Timestamp,
    /// The version of the program that made it.
    pub(super) program: String,
    /// From where to where the log reached when it was begun.
    pub(super) log: Extent,
    /// The secret under which unique keys are hidden.
    pub(super) keys: KeysHidden,
    /// The bytes of the archive.
    pub(super) bytes: u64,
    /// Its SHA-256.
    pub(super) sha256: String,
}

/// A folder that a copy is written to.
pub(super) struct Folder {
    path: PathBuf,
    archive: File,
    bytes: u64,
    hash: Sha256,
}

impl Folder {
    /// Begins a copy. A folder with one that was not finished is begun anew.
    pub(super) fn begin(path: &Path) -> Result<Self, String> {
        let wrong = |error: io::Error| format!("{}: {error}", path.display());
        if path.join(MANIFEST).exists() {
            return Err(format!(
                "{} has a copy already: name another folder",
                path.display()
            ));
        }
        fs::create_dir_all(path).map_err(wrong)?;
        for entry in fs::read_dir(path).map_err(wrong)? {
            let name = entry.map_err(wrong)?.file_name();
            if ![STREAM, ARCHIVE, UNFINISHED].iter().any(|own| name == *own) {
                let name = name.display();
                return Err(format!(
                    "{} has other files, {name} for one",
                    path.display()
                ));
            }
        }
        Ok(Self {
            archive: File::create(path.join(ARCHIVE)).map_err(wrong)?,
            path: path.to_owned(),
            bytes: 0,
            hash: Sha256::new(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the next chunk; returns how many bytes there are now.
    pub(super) fn write(&mut self, chunk: &[u8]) -> io::Result<u64> {
        self.archive.write_all(chunk)?;
        self.hash.update(chunk);
        self.bytes += chunk.len() as u64;
        Ok(self.bytes)
    }

    /// Ends the copy: from now on it is one.
    pub(super) fn finish(
        &mut self,
        config: Map<String, Value>,
        state: Map<String, Value>,
        log: Extent,
        keys: KeysHidden,
    ) -> io::Result<Manifest> {
        self.archive.sync_all()?;
        let stream = json!({"config": config, "state": state});
        self.put(STREAM, &stream)?;
        let manifest = Manifest {
            form: FORM,
            taken: Timestamp::now(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            log,
            keys,
            bytes: self.bytes,
            sha256: hexadecimal(&self.hash.clone().finalize()),
        };
        self.put(MANIFEST, &manifest)?;
        File::open(&self.path)?.sync_all()?;
        Ok(manifest)
    }

    /// Writes a file as a whole, or not at all.
    fn put(&self, name: &str, content: &impl Serialize) -> io::Result<()> {
        let (path, written) = (self.path.join(name), self.path.join(UNFINISHED));
        let mut file = File::create(&written)?;
        file.write_all(&serde_json::to_vec_pretty(content)?)?;
        file.sync_all()?;
        fs::rename(written, path)
    }
}

/// A copy that is there.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) manifest: Manifest,
    pub(super) config: Map<String, Value>,
    pub(super) state: Map<String, Value>,
    archive: BufReader<File>,
}

impl Copied {
    /// Opens a copy, and makes sure that it is what was written.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let wrong = |name: &str, error: &dyn std::fmt::Display| {
            format!("{}: {error}", path.join(name).display())
        };
        let read = |name: &str| {
            let content = fs::read(path.join(name)).map_err(|error| wrong(name, &error))?;
            serde_json::from_slice::<Value>(&content).map_err(|error| wrong(name, &error))
        };
        let manifest = read(MANIFEST).map_err(|error| {
            format!("{error}: there is no copy of a log, or one that was not finished")
        })?;
        let manifest: Manifest =
            serde_json::from_value(manifest).map_err(|error| wrong(MANIFEST, &error))?;
        if manifest.form != FORM {
            return Err(wrong(MANIFEST, &"it was written by a newer program"));
        }
        let mut stream = read(STREAM)?;
        let mut take = |name: &str| match stream[name].take() {
            Value::Object(object) => Ok(object),
            _ => Err(wrong(STREAM, &format!("it has no {name}"))),
        };
        let (config, state) = (take("config")?, take("state")?);
        let archive = File::open(path.join(ARCHIVE)).map_err(|error| wrong(ARCHIVE, &error))?;
        let mut hash = Sha256::new();
        let bytes = io::copy(&mut &archive, &mut hash).map_err(|error| wrong(ARCHIVE, &error))?;
        if bytes != manifest.bytes || hexadecimal(&hash.finalize()) != manifest.sha256 {
            return Err(wrong(
                ARCHIVE,
                &"it is not what was written: damaged, or cut off",
            ));
        }
        let archive = File::open(path.join(ARCHIVE)).map_err(|error| wrong(ARCHIVE, &error))?;
        Ok(Self {
            manifest,
            config,
            state,
            archive: BufReader::new(archive),
        })
    }

    /// Reads the next chunk of the archive; `None` after the last.
    pub(super) fn next(&mut self, size: usize) -> io::Result<Option<Bytes>> {
        let mut chunk = Vec::with_capacity(size);
        let read = (&mut self.archive)
            .take(size as u64)
            .read_to_end(&mut chunk)?;
        Ok((read > 0).then(|| chunk.into()))
    }
}
