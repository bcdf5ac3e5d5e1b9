//! Follows generations that are filled until each has taken over, or will not.

use super::{Failure, place, status};
use crate::{
    cli::{control::Control, progress::Progress},
    projection::{GenerationReport, Reply, ReplyBody},
    read_model::{Generation, GenerationState},
};
use std::{collections::BTreeMap, time::Duration};

/// The pause between two looks at a rebuild.
const LOOK: Duration = Duration::from_millis(200);
/// For how long one may stall before nobody waits for it any more. It goes on trying by itself.
const STALLED_MS: u64 = 60_000;

/// Shows how far the generations are that were begun, until each has taken over.
///
/// # Errors
///
/// Returns which one will not, and why.
pub(super) async fn follow(control: &Control, view: &str, begun: &[Reply]) -> Result<(), Failure> {
    let filled = begun.iter().filter_map(|reply| match reply.body {
        ReplyBody::Filling { generation } => Some((reply.store.clone(), generation)),
        _ => None,
    });
    let mut filled: BTreeMap<String, Generation> = filled.collect();
    let mut progress = Progress::new();
    while !filled.is_empty() {
        let replies = status(control, Some(view)).await?;
        for reply in &replies {
            let (ReplyBody::Status(report), Some(generation)) =
                (&reply.body, filled.get(&reply.store).copied())
            else {
                continue;
            };
            let what = format!("{} {generation}", place(reply, &replies));
            let mut all = report.generations.iter();
            match outcome(all.find(|one| one.generation == generation)) {
                Outcome::Filling { done, total } => progress.show(&what, done, total),
                Outcome::TookOver => {
                    progress.finish(&what);
                    filled.remove(&reply.store);
                }
                Outcome::Never(reason) => {
                    return Err(Failure::operation(format!("{what} {reason}")));
                }
            }
        }
        if !filled.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

/// The fate of a generation that is filled.
#[derive(Debug, PartialEq)]
enum Outcome {
    Filling { done: u64, total: u64 },
    TookOver,
    Never(String),
}

fn outcome(found: Option<&GenerationReport>) -> Outcome {
    let Some(one) = found.filter(|one| one.state != GenerationState::Dropping) else {
        return Outcome::Never("was dropped before it took over".to_owned());
    };
    match one.state {
        GenerationState::Building => {}
        _ => return Outcome::TookOver,
    }
    if let Some(reason) = &one.waiting {
        return Outcome::Never(format!("waits: {reason}"));
    }
    match &one.stalled {
        Some(reason) if one.stalled_ms.is_some_and(|ms| ms > STALLED_MS) => {
            Outcome::Never(format!("does not get on, and goes on trying: {reason}"))
        }
        _ => Outcome::Filling {
            done: one.position,
            total: one.position + one.lag_commits.unwrap_or(0),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: GenerationState) -> GenerationReport {
        let report = serde_json::json!({"generation": "v1.1", "state": state, "position": 7,
            "lag_commits": 3, "lag_ms": 1, "parked": 0, "stalled": null});
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn one_that_will_not_take_over_is_not_waited_for() {
        let (done, total) = (7, 10);
        let mut building = report(GenerationState::Building);
        assert_eq!(outcome(Some(&building)), Outcome::Filling { done, total });
        building.waiting = Some("something is parked".to_owned());
        assert!(matches!(outcome(Some(&building)), Outcome::Never(why) if why.contains("parked")));
        building.waiting = None;
        building.stalled = Some("no disk".to_owned());
        building.stalled_ms = Some(STALLED_MS / 2);
        assert_eq!(outcome(Some(&building)), Outcome::Filling { done, total });
        building.stalled_ms = Some(STALLED_MS * 2);
        assert!(matches!(outcome(Some(&building)), Outcome::Never(why) if why.contains("no disk")));
        for gone in [None, Some(&report(GenerationState::Dropping))] {
            assert!(matches!(outcome(gone), Outcome::Never(why) if why.contains("dropped")));
        }
        for there in [GenerationState::Live, GenerationState::Previous] {
            assert_eq!(outcome(Some(&report(there))), Outcome::TookOver);
        }
    }
}
