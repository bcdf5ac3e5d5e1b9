//! The versions of nats-server, and the oldest that the log can be kept on.

use std::fmt;

/// The oldest server that has all that Headwater uses. Consumers can be reset since 2.14; before 2.15
/// an atomic batch of which a part could not be stored is acknowledged all the same.
pub const OLDEST: ServerVersion = ServerVersion {
    major: 2,
    minor: 15,
    patch: 0,
};

/// A server's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
    /// Patch.
    pub patch: u32,
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl ServerVersion {
    /// Reads a version such as `2.15.1`. What follows the patch number (`-beta.3`) is left out: a
    /// pre-release has what its release has.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().trim_start_matches('v').splitn(3, '.');
        let mut next = || -> Option<u32> {
            let part = parts.next()?;
            let digits = part.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok()
        };
        Some(Self {
            major: next()?,
            minor: next()?,
            patch: next()?,
        })
    }
}

/// A server that is too old, or does not say how old it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nats-server {}.{} or newer is needed, {server} runs {version}", OLDEST.major, OLDEST.minor)]
pub struct TooOld {
    /// Its address, `<host>:<port>`.
    pub server: String,
    /// The version that it tells.
    pub version: String,
}

/// Checks a server by what it told when it was connected to.
///
/// # Errors
///
/// Returns [`TooOld`] when it is older than [`OLDEST`], or tells no version.
pub fn check(host: &str, port: u16, version: &str) -> Result<(), TooOld> {
    match ServerVersion::parse(version) {
        Some(version) if version >= OLDEST => Ok(()),
        _ => Err(TooOld {
            server: format!("{host}:{port}"),
            version: match version {
                "" => "an unknown version".to_owned(),
                version => version.to_owned(),
            },
        }),
    }
}

/// Checks the server that a client is connected to; one that is not connected passes.
///
/// # Errors
///
/// As [`check`].
pub fn check_connected(client: &async_nats::Client) -> Result<(), TooOld> {
    match client.try_server_info() {
        Some(info) => check(&info.host, info.port, &info.version),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for good in ["2.15.0", "2.15.1", "v2.15.0", "2.16.0", "2.100.3", "3.0.0"] {
            assert_eq!(check("h", 1, good), Ok(()), "{good}");
        }
        for old in ["2.14.9", "2.9.10", "1.99.99", "", "dev"] {
            assert!(check("h", 1, old).is_err(), "{old}");
        }
    }

    #[test]
    fn a_pre_release_counts_as_its_release() {
        assert_eq!(check("h", 1, "2.15.0-dev"), Ok(()));
        assert_eq!(check("h", 1, "2.15.0-RC.1"), Ok(()));
        assert!(check("h", 1, "2.14.9-RC.1").is_err());
    }

    #[test]
    fn an_old_server_is_named_with_its_version() {
        let error = check("127.0.0.1", 4222, "2.9.10").unwrap_err();
        assert_eq!(
            error.to_string(),
            "nats-server 2.15 or newer is needed, 127.0.0.1:4222 runs 2.9.10"
        );
    }
}
