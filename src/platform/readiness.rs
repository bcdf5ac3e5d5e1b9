//! Whether a replica can do its work.

use super::{Platform, start::connections};
use crate::http::{Readiness, ReadinessCheck, ReadinessProbe};
use std::sync::{Arc, atomic::Ordering::Relaxed};

/// What `GET /readyz` asks.
pub(super) fn readiness(platform: &Platform) -> ReadinessProbe {
    let membership = platform.membership.clone();
    let connections = connections(platform);
    let health = platform.health.clone();
    let projectors = platform.projectors.clone();
    let queries = platform.queries.clone();
    let draining = Arc::clone(&platform.draining);
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
        let trouble = health.trouble();
        let detail = trouble
            .as_ref()
            .map_or_else(|| "available".to_owned(), ToString::to_string);
        checks.push(ReadinessCheck::new("log", trouble.is_none(), detail));
        if let Some(queries) = &queries {
            let answers = queries.store_answers();
            let detail = if answers {
                "answers"
            } else {
                "does not answer"
            };
            checks.push(ReadinessCheck::new("store", answers, detail));
        }
        if membership.is_leaving() || draining.load(Relaxed) {
            checks.push(ReadinessCheck::new("membership", false, "leaving"));
        }
        checks.extend(projectors.iter().map(|projector| {
            let status = projector.status();
            let well = status.ready && status.stalled.is_none() && !projector.is_lost();
            let detail = match status.stalled {
                _ if projector.is_lost() => format!(
                    "the log is another one than before; being filled anew from it, at {}",
                    status.applied
                ),
                Some(stalled) => format!("stalled since {}: {}", stalled.since, stalled.reason),
                None if status.ready => format!("at {}", status.applied),
                None => format!("reading the log, at {}", status.applied),
            };
            ReadinessCheck::new(format!("view {}", projector.view()), well, detail)
        }));
        Readiness::of(checks)
    })
}
