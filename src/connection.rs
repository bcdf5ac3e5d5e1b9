//! Waiting for a connection to NATS, and no longer than it makes sense.
//!
//! While a connection is away the client library keeps what is sent and tries again for as long as it
//! takes; whoever has to go on all the same waits here.

use async_nats::Client;
use futures::StreamExt;
use std::{fmt, time::Duration};

/// The time a connection is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The connection is away, or too slow.
#[derive(Debug, thiserror::Error)]
#[error("NATS does not answer: {0}")]
pub struct Away(String);

impl Away {
    fn because(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

/// Waits until what was published has been written to the connection.
///
/// # Errors
///
/// Returns [`Away`] when that takes longer than a second.
pub async fn flush(nats: &Client) -> Result<(), Away> {
    match tokio::time::timeout(PATIENCE, nats.flush()).await {
        Ok(flushed) => flushed.map_err(Away::because),
        Err(late) => Err(Away::because(late)),
    }
}

/// Waits until the server has done all that this connection told it, and this process has got all that
/// the server had sent it by then.
///
/// # Errors
///
/// Returns [`Away`] when that takes longer than a second.
pub async fn round_trip(nats: &Client) -> Result<(), Away> {
    let trip = async {
        let inbox = nats.new_inbox();
        let mut echo = nats.subscribe(inbox.clone()).await.map_err(Away::because)?;
        nats.publish(inbox, "".into())
            .await
            .map_err(Away::because)?;
        match echo.next().await {
            Some(_) => Ok(()),
            None => Err(Away::because("the connection was closed")),
        }
    };
    match tokio::time::timeout(PATIENCE, trip).await {
        Ok(came_back) => came_back,
        Err(late) => Err(Away::because(late)),
    }
}

/// Returns whether the connection is there, as far as this process has noticed. What is sent while it is not
/// is kept and sent later, however old it is then.
#[must_use]
pub fn is_up(nats: &Client) -> bool {
    nats.connection_state() == async_nats::connection::State::Connected
}
