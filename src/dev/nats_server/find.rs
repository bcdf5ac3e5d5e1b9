//! Which nats-server to start: the one asked for, one on `PATH`, the one that was installed beside the program, or
//! the one in `.tools/` of the checkout that the program comes from.
//!
//! Never one that merely lies in the current folder: what comes with a folder that somebody has unpacked is
//! not to be run for being there.

use super::NatsServerError;
use crate::event_log::version::{OLDEST, ServerVersion};
use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::process::Command;

const NAME: &str = "nats-server";
const TOOLS: &str = ".tools/nats-server";
/// The place where the program was built.
const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");
/// From the program's own file up: `target/debug/headwater` is two folders below the checkout.
const FOLDERS_UP: usize = 4;
const VERSION_TIMEOUT: Duration = Duration::from_secs(20);

/// Reads what `nats-server --version` prints, for example `nats-server: v2.15.1`.
fn printed(output: &str) -> Option<ServerVersion> {
    ServerVersion::parse(output.trim().strip_prefix("nats-server:")?)
}

/// A server that can be started.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its file.
    pub path: PathBuf,
    /// Its version.
    pub version: ServerVersion,
}

/// Finds a server of at least [`OLDEST`]: `explicit` and nothing else when given, otherwise the first
/// good one on `PATH`, otherwise the one beside the program, as a Python environment has it, otherwise
/// `.tools/nats-server` near the program or where it was built.
///
/// # Errors
///
/// Returns [`NatsServerError::Unsuitable`] for an explicit path that will not do, and
/// [`NatsServerError::NotFound`] when no place has one that will.
pub async fn find(explicit: Option<&Path>) -> Result<Found, NatsServerError> {
    if let Some(path) = explicit {
        return check(path)
            .await
            .map_err(|reason| NatsServerError::Unsuitable {
                path: path.to_owned(),
                reason,
            });
    }
    let mut seen = Vec::new();
    for path in candidates().filter(|path| path.is_file()) {
        match check(&path).await {
            Ok(found) => return Ok(found),
            Err(reason) => seen.push(format!("; {} {reason}", path.display())),
        }
    }
    Err(NatsServerError::NotFound {
        seen: seen.concat(),
    })
}

fn candidates() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(NAME))
        .collect();
    let program = env::current_exe().ok();
    let near: Vec<PathBuf> = program
        .iter()
        .flat_map(|program| program.ancestors().skip(1).take(FOLDERS_UP))
        .chain([Path::new(CHECKOUT)])
        .map(|folder| folder.join(TOOLS))
        .collect();
    let beside = program.as_deref().and_then(Path::parent);
    let beside = beside.map(|folder| folder.join(NAME));
    on_path.into_iter().chain(beside).chain(near)
}

/// Asks the file for its version. The reason of a refusal completes "the file …".
async fn check(path: &Path) -> Result<Found, String> {
    let command = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(VERSION_TIMEOUT, command).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("cannot be run: {error}")),
        Err(_) => return Err("does not say its version".to_owned()),
    };
    let version = recent_enough(&String::from_utf8_lossy(&output.stdout))?;
    Ok(Found {
        path: path.to_owned(),
        version,
    })
}

fn recent_enough(output: &str) -> Result<ServerVersion, String> {
    let version = printed(output)
        .ok_or_else(|| "does not say a version as a nats-server would".to_owned())?;
    if version < OLDEST {
        return Err(format!("is {version}, too old"));
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(output: &str) -> Option<String> {
        printed(output).map(|version| version.to_string())
    }

    #[test]
    fn versions_are_read_as_the_server_prints_them() {
        assert_eq!(version("nats-server: v2.15.1\n").unwrap(), "2.15.1");
        assert_eq!(version("nats-server: v2.14.0-RC.1\n").unwrap(), "2.14.0");
        assert_eq!(version("nats-server: v2.9.10").unwrap(), "2.9.10");
        assert_eq!(version("nats: 0.1.5"), None);
        assert_eq!(version("nats-server: dev"), None);
        assert_eq!(version(""), None);
        assert!(printed("nats-server: v2.9.10").unwrap() < OLDEST);
    }

    #[test]
    fn a_server_that_is_too_old_is_refused_with_its_version() {
        assert_eq!(
            recent_enough("nats-server: v2.9.10").unwrap_err(),
            "is 2.9.10, too old"
        );
        assert_eq!(recent_enough("nats-server: v2.15.0").unwrap(), OLDEST);
        assert!(recent_enough("hello").is_err());
    }

    #[tokio::test]
    async fn an_explicit_file_that_will_not_do_is_named_with_what_to_do() {
        let missing = Path::new("/nonexistent/nats-server");
        let message = find(Some(missing)).await.unwrap_err().to_string();
        assert!(message.contains("/nonexistent/nats-server"), "{message}");
        assert!(message.contains("make tools"), "{message}");
    }
}
