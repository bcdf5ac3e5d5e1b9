//! Sets documents right that are not what the log says.
//!
//! The view's projector does, in a transaction of its own: it stands still while the fold comes up to
//! exactly where it is, a few commits at most, and what then still differs is exchanged in place, as when
//! what was parked is tried again. So caches and live clients hear of it.

use crate::{
    projection::{
        keeper::Shared,
        projector::Amend,
        refold::{Difference, Pace, Refold, RefoldError},
    },
    read_model::{Generation, exchange::DocumentChange},
};
use std::time::Duration;
use tokio::{sync::oneshot, time::timeout};

/// The number of documents that are set right in one transaction.
const AT_ONCE: usize = 25;
/// The time the projector may take to stand still. It may be waiting for something that is away.
const ASKED: Duration = Duration::from_secs(30);

/// Sets documents right; returns how many. What cannot be now is found again by a later pass.
pub(super) async fn repair(
    shared: &Shared,
    generation: Generation,
    refold: &mut Refold,
    ids: &[String],
    pace: &mut Pace<'_>,
) -> Result<u64, RefoldError> {
    let view = shared.options.view.description().name;
    let mut repaired = 0;
    for ids in ids.chunks(AT_ONCE) {
        let (held_sender, held) = oneshot::channel();
        let (changes, changed) = oneshot::channel();
        let (done_sender, done) = oneshot::channel();
        let amend = Amend::new(held_sender, changed, done_sender);
        if !shared.amend(generation, amend).await {
            return Ok(repaired);
        }
        let Ok(Ok(position)) = timeout(ASKED, held).await else {
            return Ok(repaired);
        };
        let differences = refold.compare_again(position, ids, pace).await?;
        let many = differences.len() as u64;
        let right = differences.into_iter().map(|it| change(it, position));
        if changes.send(right.collect()).is_err() {
            return Ok(repaired);
        }
        match timeout(ASKED, done).await {
            Ok(Ok(Ok(()))) => repaired += many,
            Ok(Ok(Err(error))) => {
                tracing::warn!(view.name = view, %error, "documents could not be set right");
                return Ok(repaired);
            }
            _ => return Ok(repaired),
        }
    }
    if repaired > 0 {
        tracing::warn!(
            view.name = view,
            view.generation = %generation,
            documents = repaired,
            "set documents right from the log"
        );
    }
    Ok(repaired)
}

fn change(difference: Difference, position: u64) -> DocumentChange {
    DocumentChange {
        exists: difference.stored.is_some(),
        before: difference.stored,
        id: difference.id,
        position,
        document: difference.folded,
    }
}
