//! Which store it is, and of which form.
//!
//! A store has a name of its own from its first use on. A server that comes back with other data (its
//! volume was lost, or it keeps its data in memory) has another one, and whatever was known of the
//! documents before is then of no worth.

use super::{Store, StoreError, take};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::PoisonError,
};
use surrealdb::types::{Object, Value, Variables};

/// The form that this program keeps documents and checkpoints in.
const FORM: i64 = 1;
/// What the name of a folder ends with that could not be opened.
const SET_ASIDE: &str = "set-aside";

impl Store {
    /// The store's identity, which tells announcements about it from those about others.
    #[must_use]
    pub fn id(&self) -> String {
        let id = self.inner.id.read();
        id.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the store's identity, which is made up on first use.
    pub(super) async fn identify(&self, prepares: bool) -> Result<String, StoreError> {
        if let Some(id) = self.stored_identity().await? {
            return Ok(id);
        }
        // One that may only read cannot even define what is defined.
        if !prepares {
            return Err(StoreError::Unprepared);
        }
        let mut variables = Variables::new();
        let mut row = Object::new();
        row.insert("id", "this");
        row.insert("identity", uuid::Uuid::now_v7().simple().to_string());
        row.insert("form", FORM);
        variables.insert("row", Value::Object(row));
        self.query(
            "DEFINE TABLE IF NOT EXISTS store SCHEMALESS; \
             INSERT IGNORE INTO store $row RETURN NONE;",
            variables,
        )
        .await?;
        let made = self.stored_identity().await?;
        made.ok_or(StoreError::Unprepared)
    }

    async fn stored_identity(&self) -> Result<Option<String>, StoreError> {
        let asked = self.query("SELECT * FROM ONLY store:this;", Variables::new());
        let row = match asked.await {
            Ok(mut results) => take(&mut results, 0)?,
            Err(StoreError::Unavailable(error)) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let Value::Object(mut row) = row else {
            return Ok(None);
        };
        match (row.remove("identity"), row.remove("form")) {
            (Some(Value::String(id)), Some(form)) if form == Value::from_t(FORM) => Ok(Some(id)),
            _ => Err(StoreError::OtherForm),
        }
    }

    /// Looks whether the server has another store than before, and goes on with that. With `prepares`, one
    /// that nobody has used yet is given its identity.
    pub(crate) async fn look_which(&self, prepares: bool) -> Result<(), StoreError> {
        let stored = match self.stored_identity().await? {
            Some(id) => id,
            None if prepares => self.identify(true).await?,
            None => return Ok(()),
        };
        let mut id = self
            .inner
            .id
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if *id != stored {
            tracing::error!(
                store.before = *id,
                store.now = stored,
                "the store is another one than before; the views are filled anew in it"
            );
            *id = stored;
        }
        Ok(())
    }
}

/// Moves the folder of an embedded store that could not be opened out of the way, to its name with
/// `.set-aside` after it, where one that was moved before is removed; returns where it is now. `None` when
/// there is none, or when the error does not mean that its files are of no use: then nothing is touched.
///
/// # Errors
///
/// Returns an error when it cannot be moved.
pub fn set_aside(url: &str, error: &StoreError) -> io::Result<Option<PathBuf>> {
    let Some(folder) = folder(url).filter(|_| is_of_the_files(error)) else {
        return Ok(None);
    };
    if !fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Ok(None);
    }
    let aside = aside(&folder);
    match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(&folder, &aside)?;
    Ok(Some(aside))
}

/// Where a folder is moved that cannot be opened.
pub(crate) fn aside(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".");
    name.push(SET_ASIDE);
    PathBuf::from(name)
}

fn folder(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("surrealkv://")?;
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    Some(PathBuf::from(path))
}

/// Whether an error says that the files themselves cannot be used, and not that they are in use, or that
/// the machine or the program may not.
fn is_of_the_files(error: &StoreError) -> bool {
    const OTHERWISE: [&str; 5] = [
        "already locked",
        "No space left",
        "Permission denied",
        "Read-only file system",
        "Too many open files",
    ];
    let text = error.to_string();
    match error {
        StoreError::OtherForm | StoreError::Shape(_) | StoreError::Panicked => true,
        StoreError::Unavailable(_) | StoreError::Failed(_) | StoreError::Refused(_) => {
            !OTHERWISE.iter().any(|otherwise| text.contains(otherwise))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_whose_files_are_of_no_use_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let views = folder.path().join("views");
        let url = format!("surrealkv://{}?sync=1s", views.display());
        let damaged = StoreError::OtherForm;
        assert_eq!(set_aside(&url, &damaged).unwrap(), None);
        fs::create_dir(&views).unwrap();
        assert_eq!(set_aside(&url, &damaged).unwrap(), None);
        for content in ["first", "second"] {
            fs::create_dir_all(&views).unwrap();
            fs::write(views.join("file"), content).unwrap();
            for error in [StoreError::Stopped, StoreError::Silent, StoreError::Fenced] {
                assert_eq!(set_aside(&url, &error).unwrap(), None);
            }
            let aside = set_aside(&url, &damaged).unwrap().unwrap();
            assert_eq!(aside, folder.path().join("views.set-aside"));
            assert_eq!(fs::read_to_string(aside.join("file")).unwrap(), content);
            assert!(!views.exists());
        }
        assert_eq!(set_aside("ws://127.0.0.1:1", &damaged).unwrap(), None);
        assert_eq!(set_aside("mem://", &damaged).unwrap(), None);
    }
}
