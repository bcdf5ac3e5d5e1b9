//! The folder of an embedded store.

use super::StoreError;
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// The end of the name of a folder that could not be opened.
const SET_ASIDE: &str = "set-aside";
/// The file in it that is locked while it is open.
const LOCK: &str = "LOCK";
/// The end of the name of the folder with the indexes of texts.
const TEXTS: &str = "-texts";
/// The file that is locked while an index is written.
const TEXT_LOCK: &str = ".tantivy-writer.lock";
/// The number of looks for whether an index is there: it can be made anew.
const TEXT_LOOKS: u32 = 1_000;
/// The pause between two looks for whether it still is.
const LOOK: Duration = Duration::from_millis(5);

/// Waits until the embedded store at `url` has closed its files. Its own tasks do that once its last owner
/// is gone, and none of them says when; the runtime that they run on must not end before. For any other
/// store there is nothing to wait for.
pub async fn closed(url: &str) {
    let Some(folder) = folder(url) else { return };
    while File::open(folder.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_err()) {
        tokio::time::sleep(LOOK).await;
    }
    let mut looks = TEXT_LOOKS;
    while looks > 0 && texts(url).is_some_and(|texts| is_written(&texts)) {
        looks -= 1;
        tokio::time::sleep(LOOK).await;
    }
}

/// The folder of the indexes of texts beside an embedded store, where that has a folder.
pub(super) fn texts(url: &str) -> Option<PathBuf> {
    folder(url).map(|folder| texts_beside(&folder))
}

/// The folder of the indexes of texts of a store in this folder.
pub(crate) fn texts_beside(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(TEXTS);
    PathBuf::from(name)
}

/// Returns whether some index is still written.
fn is_written(texts: &Path) -> bool {
    let indexes = fs::read_dir(texts).into_iter().flatten().flatten();
    let mut locks = indexes.map(|index| index.path().join(TEXT_LOCK));
    locks.any(|lock| File::open(lock).is_ok_and(|lock| lock.try_lock().is_err()))
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

/// Returns where a folder is moved that cannot be opened.
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

/// Returns whether an error says that the files themselves cannot be used, and not that they are in use, or that
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
