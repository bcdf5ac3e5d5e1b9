//! The connection to NATS.

use super::StartError;
use async_nats::{ConnectOptions, ServerAddr};
use std::time::Duration;

/// How long the first connection to NATS is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a list of NATS servers, `nats://a:4222,nats://b:4222`.
///
/// # Errors
///
/// Returns what is wrong with the first that cannot be read, without any password.
pub fn nats_servers(list: &str) -> Result<Vec<ServerAddr>, String> {
    list.split(',')
        .map(|server| {
            let parsed = server.trim().parse::<ServerAddr>();
            parsed.map_err(|error| format!("not the address of a NATS server: {error}"))
        })
        .collect()
}

/// The servers of a list as they may be shown: without user and password.
#[must_use]
pub fn shown(servers: &[ServerAddr]) -> String {
    let shown =
        |server: &ServerAddr| format!("{}://{}:{}", server.scheme(), server.host(), server.port());
    let servers: Vec<_> = servers.iter().map(shown).collect();
    servers.join(",")
}

/// Connects to one of a list of NATS servers, and to another when it goes away.
///
/// # Errors
///
/// Returns [`StartError::Nats`] when the list cannot be read, or none answers in time.
pub async fn connect(servers: &str, name: &str) -> Result<async_nats::Client, StartError> {
    connect_with(servers, options(name)).await
}

/// As [`connect`], for the command side. Its subjects are not looked at once more before they are sent:
/// they are put together from names and ids that have been checked, and callers' that came over NATS.
///
/// # Errors
///
/// As [`connect`].
pub(super) async fn connect_command_side(
    servers: &str,
    name: &str,
) -> Result<async_nats::Client, StartError> {
    connect_with(servers, options(name).skip_subject_validation(true)).await
}

fn options(name: &str) -> ConnectOptions {
    ConnectOptions::new()
        .name(format!("headwater {name}"))
        // Room for a burst of commands; what comes faster than it is handled is bounded further in.
        .client_capacity(16_384)
        .subscription_capacity(65_536)
        .connection_timeout(Duration::from_secs(5))
        .ping_interval(Duration::from_secs(10))
}

async fn connect_with(
    servers: &str,
    options: ConnectOptions,
) -> Result<async_nats::Client, StartError> {
    let failed = |servers: String, reason: String| StartError::Nats { servers, reason };
    let servers = nats_servers(servers).map_err(|reason| failed(String::new(), reason))?;
    let connecting = options.connect(&servers[..]);
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected.map_err(|error| failed(shown(&servers), error.to_string())),
        Err(_) => Err(failed(shown(&servers), "no answer in time".to_owned())),
    }
}
