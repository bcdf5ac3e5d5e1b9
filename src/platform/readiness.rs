//! The readiness of a replica.

use super::Platform;
use crate::{
    http::{Readiness, ReadinessCheck, ReadinessProbe},
    projection::ViewPlacement,
    read_model::Standing,
};
use std::sync::{Arc, atomic::Ordering::Relaxed};

/// Returns what `GET /readyz` asks.
pub(super) fn readiness(platform: &Platform) -> ReadinessProbe {
    let membership = platform.membership.clone();
    let connections = platform.all_connections();
    let health = platform.health.clone();
    let projectors = platform.projectors.clone();
    let queries = platform.queries.clone();
    let draining = Arc::clone(&platform.draining);
    let placements: Vec<_> = queries.as_ref().map_or_else(Vec::new, |queries| {
        let views = queries.views().iter();
        views
            .map(|view| ViewPlacement::among(&platform.membership, view))
            .collect()
    });
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
        // Who keeps no documents tells how those stand that it answers from.
        if let (true, Some(queries)) = (projectors.is_empty(), &queries) {
            let standings = queries.standings();
            checks.extend(standings.iter().zip(&placements).map(view_elsewhere));
        }
        Readiness::of(checks)
    })
}

/// Returns how a view stands that other replicas keep. That none of them runs now is told, and takes nobody who can
/// still answer from what there is out of service.
fn view_elsewhere((standing, placement): (&Standing, &ViewPlacement)) -> ReadinessCheck {
    let Standing {
        view,
        applied,
        is_lost,
        stands_still,
        behind_since,
        version,
    } = standing;
    let kept = version.is_some_and(|version| placement.is_folded_elsewhere(version));
    let well = version.is_some() && stands_still.is_none();
    let detail = match (stands_still, behind_since) {
        _ if *is_lost => {
            "rebuilding: the log is another one than before; being filled anew from it".to_owned()
        }
        _ if version.is_none() => "rebuilding: nothing is served yet".to_owned(),
        (Some(reason), Some(since)) => format!("stalled since {since}: {reason}"),
        (Some(reason), None) => format!("stalled: {reason}"),
        (None, _) if !kept => format!("at {applied}; no replica that runs keeps it"),
        (None, _) => format!("at {applied}"),
    };
    ReadinessCheck::new(format!("view {view}"), well, detail)
}
