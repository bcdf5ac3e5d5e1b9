//! The troubles that a log can have.

use crate::event_log::{subject::STREAM, version::TooOld};
use std::fmt;

/// The reason why the log cannot be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// A connection to NATS is away.
    NotConnected,
    /// A server that is connected to is too old.
    TooOld(TooOld),
    /// JetStream does not take requests: it is off, or has no leader. With the reason.
    NoJetStream(String),
    /// The stream does not answer in time.
    NoAnswer,
    /// The stream does not exist.
    Missing,
    /// The stream was sealed: nothing can ever be appended to it.
    Sealed,
    /// The stream has as much as it may have. With the bound.
    Full(String),
    /// A limit of the account, the server or its disk is reached. With the server's words.
    Limit(String),
    /// The server does not permit what the replica needs. With the server's words.
    Forbidden(String),
}

/// The server's codes (`server/errors.json`).
mod code {
    pub const ACCOUNT_RESOURCES: u64 = 10002;
    pub const CLUSTER_NOT_AVAILABLE: u64 = 10008;
    pub const CLUSTER_NOT_LEADER: u64 = 10009;
    pub const INSUFFICIENT_RESOURCES: u64 = 10023;
    pub const MEMORY_RESOURCES: u64 = 10028;
    pub const NOT_ENABLED_FOR_ACCOUNT: u64 = 10039;
    pub const STORAGE_RESOURCES: u64 = 10047;
    pub const STREAM_NOT_FOUND: u64 = 10059;
    pub const NOT_ENABLED: u64 = 10076;
    pub const STORE_FAILED: u64 = 10077;
    pub const SEALED: u64 = 10109;
    pub const STREAM_OFFLINE: u64 = 10118;
}

impl Trouble {
    /// The trouble behind an error of JetStream, by its code; `None` for what is none, such as a lost
    /// race. The status is not looked at: a full account is a 400, as a wrong request is.
    #[must_use]
    pub fn of_error(err_code: u64, description: &str) -> Option<Self> {
        Some(match err_code {
            code::STORE_FAILED if description.contains("maximum") => {
                Self::Full(description.to_owned())
            }
            code::ACCOUNT_RESOURCES
            | code::INSUFFICIENT_RESOURCES
            | code::MEMORY_RESOURCES
            | code::STORAGE_RESOURCES
            | code::STORE_FAILED => Self::Limit(description.to_owned()),
            code::STREAM_NOT_FOUND => Self::Missing,
            code::SEALED => Self::Sealed,
            code::CLUSTER_NOT_AVAILABLE
            | code::CLUSTER_NOT_LEADER
            | code::NOT_ENABLED_FOR_ACCOUNT
            | code::NOT_ENABLED
            | code::STREAM_OFFLINE => Self::NoJetStream(description.to_owned()),
            _ => return None,
        })
    }

    /// The kind of trouble, in a word that does not change.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotConnected => "not_connected",
            Self::TooOld(_) => "server_too_old",
            Self::NoJetStream(_) => "no_jetstream",
            Self::NoAnswer => "no_answer",
            Self::Missing => "stream_missing",
            Self::Sealed => "stream_sealed",
            Self::Full(_) => "stream_full",
            Self::Limit(_) => "limit_reached",
            Self::Forbidden(_) => "forbidden",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected => f.write_str("not connected to NATS"),
            Self::TooOld(error) => error.fmt(f),
            Self::NoJetStream(reason) => write!(f, "JetStream is not available: {reason}"),
            Self::NoAnswer => write!(f, "the stream {STREAM} does not answer"),
            Self::Missing => write!(f, "the stream {STREAM} does not exist"),
            Self::Sealed => write!(f, "the stream {STREAM} is sealed"),
            Self::Full(bound) => write!(f, "the stream {STREAM} is full: {bound}"),
            Self::Limit(words) => write!(f, "a storage limit is reached: {words}"),
            Self::Forbidden(words) => write!(f, "the server does not permit it: {words}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_says_which_trouble_it_is() {
        let kind = |code, words: &str| Trouble::of_error(code, words).map(|trouble| trouble.kind());
        for (code, words, expected) in [
            (
                10002,
                "resource limits exceeded for account",
                "limit_reached",
            ),
            (10023, "insufficient resources", "limit_reached"),
            (
                10047,
                "insufficient storage resources available",
                "limit_reached",
            ),
            (10077, "no space left on device", "limit_reached"),
            (10077, "maximum messages exceeded", "stream_full"),
            (10077, "maximum bytes exceeded", "stream_full"),
            (10059, "stream not found", "stream_missing"),
            (10109, "invalid operation on sealed stream", "stream_sealed"),
            (
                10008,
                "JetStream system temporarily unavailable",
                "no_jetstream",
            ),
            (10039, "JetStream not enabled for account", "no_jetstream"),
        ] {
            assert_eq!(kind(code, words), Some(expected), "{code} {words}");
        }
        assert_eq!(kind(10054, "message size exceeds maximum allowed"), None);
    }
}
