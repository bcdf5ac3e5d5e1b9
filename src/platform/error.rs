//! The reason why a replica cannot be started.

use crate::{
    command::endpoint::EndpointError,
    event_log::{
        identity::LogError,
        secret::SecretError,
        topology::{Difference, TopologyError},
        version::TooOld,
    },
    http,
    membership::MembershipError,
    projection::ProjectorError,
    read_model::{OpenError, StoreError},
};
use std::net::SocketAddr;

/// A replica cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// NATS does not answer.
    #[error("cannot connect to NATS {servers}: {reason}")]
    Nats {
        /// The place where it was looked for.
        servers: String,
        /// The fault.
        reason: String,
    },
    /// The address of NATS, or a file that it takes to connect, cannot be used.
    #[error("{0}")]
    Servers(String),
    /// NATS refuses who connects.
    #[error("NATS {servers} refuses {who}: {reason}")]
    Unauthorized {
        /// The server that refused.
        servers: String,
        /// The user who is refused, without any secret.
        who: String,
        /// In the client's words.
        reason: String,
    },
    /// A server is too old.
    #[error(transparent)]
    TooOld(#[from] TooOld),
    /// A stream has settings that the log cannot be kept with.
    #[error("the topology is not right, and cannot be brought right: {}", listed(.0))]
    WrongTopology(Vec<Difference>),
    /// The streams cannot be brought to what the files say.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// Unique keys are hidden under another secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The log holds what this program cannot build on.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The other replicas cannot be joined.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The commands cannot be subscribed to.
    #[error(transparent)]
    Commands(#[from] EndpointError),
    /// The documents cannot be opened.
    #[error("cannot open the documents: {0}")]
    Store(#[from] StoreError),
    /// A view cannot be prepared.
    #[error("cannot prepare the views: {0}")]
    Views(#[from] OpenError),
    /// A projector cannot be started.
    #[error(transparent)]
    Projector(#[from] ProjectorError),
    /// The queries cannot be subscribed to.
    #[error("the query endpoint cannot be opened: {0}")]
    Queries(String),
    /// The HTTP address cannot be had.
    #[error("cannot serve HTTP on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The fault.
        source: std::io::Error,
    },
    /// A process names an aggregate that the domain does not have.
    #[error(
        "the process {process} names the aggregate {aggregate}, which the domain does not have"
    )]
    Process {
        /// The process.
        process: &'static str,
        /// The aggregate.
        aggregate: &'static str,
    },
    /// Threads cannot be started.
    #[error("cannot start threads: {0}")]
    Runtime(std::io::Error),
}

fn listed(differences: &[Difference]) -> String {
    let differences: Vec<_> = differences.iter().map(Difference::to_string).collect();
    differences.join("; ")
}

impl StartError {
    /// The address of these options cannot be had.
    pub(super) fn unbound(options: &http::Options, source: std::io::Error) -> Self {
        Self::Bind {
            address: options.address,
            source,
        }
    }

    /// Returns whether it may pass by itself, so that waiting can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Nats { .. } => true,
            Self::Topology(error) => error.is_retryable(),
            Self::Membership(error) | Self::Commands(EndpointError::Membership(error)) => {
                matches!(error, MembershipError::Nats(_))
            }
            Self::Commands(EndpointError::Nats(_)) | Self::Queries(_) => true,
            Self::Secret(error) => matches!(error, SecretError::Unavailable(_)),
            Self::Log(error) => matches!(error, LogError::Unreadable(_)),
            Self::Store(error) => error.is_retryable(),
            Self::Views(error) => error.is_retryable(),
            _ => false,
        }
    }
}
