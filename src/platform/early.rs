//! The HTTP surface while the parts are being started.

use super::{StartError, waiting::Waiting};
use crate::http::{self, Gateway};
use actix_web::dev::ServerHandle;
use std::{net::TcpListener, time::Duration};

/// The longest time until a server that was told to pause accepts nothing more, and what it
/// accepted at the very end has got to its worker.
const LAST_ACCEPTED: Duration = Duration::from_millis(50);

/// Serves how the replica is on the address that the whole surface will be served on. It ends when it
/// is dropped.
pub(super) struct EarlyGateway(Option<ServerHandle>);

impl EarlyGateway {
    pub(super) fn start(
        listener: &TcpListener,
        options: &http::Options,
        waiting: &Waiting,
    ) -> Result<Self, StartError> {
        let unbound = |source| StartError::unbound(options, source);
        let listener = listener.try_clone().map_err(unbound)?;
        let server = Gateway::serve_early(listener, options, waiting.probe());
        let server = server.map_err(unbound)?;
        let handle = server.handle();
        actix::spawn(server);
        Ok(Self(Some(handle)))
    }

    /// Leaves the address to the server that has begun to accept on it as well. When it returns, all
    /// further connections are that server's; what this one has accepted is finished.
    pub(super) async fn hand_over(mut self) {
        if let Some(server) = self.0.take() {
            server.pause().await;
            tokio::time::sleep(LAST_ACCEPTED).await;
            actix::spawn(server.stop(true));
        }
    }
}

impl Drop for EarlyGateway {
    fn drop(&mut self) {
        if let Some(server) = self.0.take() {
            actix::spawn(server.stop(false));
        }
    }
}
