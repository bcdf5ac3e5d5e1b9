//! Whether a replica can do its work.

use super::Platform;
use crate::http::{Readiness, ReadinessCheck, ReadinessProbe};
use std::sync::Arc;

/// What `GET /readyz` asks.
pub(super) fn readiness(platform: &Platform) -> ReadinessProbe {
    let membership = platform.membership.clone();
    let connections: Vec<async_nats::Client> = std::iter::once(&platform.nats)
        .chain(platform.commands.connections())
        .cloned()
        .collect();
    let projectors = platform.projectors.clone();
    Arc::new(move || {
        let connected = connections
            .iter()
            .all(|nats| nats.connection_state() == async_nats::connection::State::Connected);
        let detail = if connected {
            "connected"
        } else {
            "not connected"
        };
        let mut checks = vec![ReadinessCheck::new("nats", connected, detail)];
        if membership.is_leaving() {
            checks.push(ReadinessCheck::new("membership", false, "leaving"));
        }
        checks.extend(projectors.iter().map(|projector| {
            let status = projector.status();
            let detail = match status.stalled {
                Some(stalled) => format!("stalled since {}", stalled.since),
                None if status.ready => format!("at {}", status.applied),
                None => format!("reading the log, at {}", status.applied),
            };
            ReadinessCheck::new(format!("view {}", projector.view()), status.ready, detail)
        }));
        Readiness::of(checks)
    })
}
