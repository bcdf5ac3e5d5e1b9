//! Waiting to be told to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Returns at the first SIGINT or SIGTERM.
pub(super) async fn asked_to_stop() -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
