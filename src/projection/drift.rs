//! Finds by itself where a view's documents are not what the log says, and sets them right if it is to.
//!
//! In passes, all the time: each folds the next documents in the order of ids again, slowly, and compares
//! them. For each document compared a bounded number of commits is read, so that a pass over a longer log
//! takes more documents, and what all of it costs depends on nothing but the documents a minute that are
//! asked for. A difference is a defect, of a view's fold, of the store, or of whoever wrote into it.

mod repair;

use super::{
    ProjectorState,
    keeper::Shared,
    meters,
    refold::{Difference, Pace, Refold},
    sample::Sample,
    verify::{VerifyError, live},
};
use crate::read_model::{
    Generation,
    schema::ViewTables,
    store::drift::{Evidence, Verification},
};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// The fewest documents of a pass.
const FEWEST: u64 = 50;
/// The number of commits that are read for each document that is compared.
const COMMITS: u64 = 500;
/// The number of commits that are read ahead: few, so that they do not come again for not being taken.
const AHEAD: usize = 500;
/// The most differences that a pass takes note of one by one. The next one begins after the last of them.
const MOST: usize = 1_000;
/// Of how many differences a pass keeps what was there.
const EVIDENCE: usize = 100;
/// The number of times that a pass is made faster to come up to a view that goes on.
const ROUNDS: usize = 30;
/// So many commits behind, it has come up.
const CLOSE: u64 = 1_000;

/// Compares a view all the time, until its keeper stops.
pub(super) async fn watch(shared: Arc<Shared>) {
    let options = shared.options.verify.clone();
    if options.per_minute == 0 {
        return;
    }
    let view = shared.options.view.description().name;
    meters::verified(view, 0, 0, 0);
    let stopping = shared.stopping();
    let passes = async {
        let mut failing = false;
        loop {
            rest(Instant::now(), FEWEST, options.per_minute).await;
            let Some(generation) = kept_here(&shared) else {
                continue;
            };
            let _turn = options.turns.lock().await;
            let begun = Instant::now();
            let checked = match pass(&shared, generation).await {
                Ok(checked) => {
                    failing = false;
                    checked
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(view.name = view, %error, "cannot compare the view with the log");
                    }
                    failing = true;
                    0
                }
            };
            // The time of the turn, so that all views together take what is meant for the replica.
            rest(begun, checked, options.per_minute).await;
        }
    };
    tokio::select! {
        () = passes => {}
        () = stopping.cancelled() => {}
    }
}

/// Waits until so many documents are due since `begun`.
async fn rest(begun: Instant, documents: u64, per_minute: u32) {
    let due = Duration::from_secs_f64(60.0 * documents as f64 / f64::from(per_minute));
    tokio::time::sleep_until(begun + due).await;
}

/// The live generation, where a projector of this program keeps it and has nothing else to do.
fn kept_here(shared: &Shared) -> Option<Generation> {
    use crate::read_model::GenerationState::{Building, Live};
    let generations = shared.known();
    let live = generations.find(Live)?;
    let status = shared.status_of(live)?;
    let idle = status.state == ProjectorState::Following && status.ready;
    (idle && generations.find(Building).is_none()).then_some(live)
}

/// Compares the next documents; returns how many.
async fn pass(shared: &Shared, generation: Generation) -> Result<u64, VerifyError> {
    let options = &shared.options;
    let tables = live(shared).await?;
    if tables.generation != generation {
        return Ok(0);
    }
    let mut refold = Refold::open(options, tables.clone(), Sample::default(), AHEAD).await?;
    let compared = compare(shared, &tables, &mut refold).await;
    refold.discard().await;
    compared
}

async fn compare(
    shared: &Shared,
    tables: &ViewTables,
    refold: &mut Refold,
) -> Result<u64, VerifyError> {
    let (options, store) = (&shared.options, &shared.options.store);
    let known = store.verification(tables).await?;
    let many = (refold.pending() / COMMITS).max(FEWEST);
    let last = store.id_after(tables, known.after.as_deref(), many).await?;
    refold.narrow(Sample::Between(known.after.clone(), last.clone()));
    let per_second = f64::from(options.verify.per_minute) / 60.0 * COMMITS as f64;
    let mut pace = Pace::bounded(per_second);
    for _ in 0..ROUNDS {
        let target = store.checkpoint(tables).await?.position;
        let behind = target.saturating_sub(refold.position());
        refold.up_to(target, &mut pace).await?;
        if behind < CLOSE {
            break;
        }
        pace.double();
    }
    let mut found = Found::default();
    let checked = refold
        .compare(&mut pace, |difference| found.note(difference))
        .await?;
    let settled = found.different == 0 || refold.is_still_given().await?;
    if !settled || live(shared).await?.generation != tables.generation {
        // What is parked was settled meanwhile, or readers are served from elsewhere: no findings.
        return Ok(checked);
    }
    let repaired = report(shared, tables, refold, &found, &mut pace).await?;
    let view = options.view.description().name;
    meters::verified(view, checked, found.different, repaired);
    let after = match found.ids.last() {
        Some(id) if found.different > found.ids.len() as u64 => Some(id.clone()),
        _ => last,
    };
    let next = Verification {
        after,
        at: Timestamp::now(),
        checked: known.checked + checked,
        different: known.different + found.different,
        repaired: known.repaired + repaired,
    };
    store.verified(tables, &next).await?;
    Ok(checked)
}

/// The documents that a pass has found to differ.
#[derive(Default)]
struct Found {
    different: u64,
    ids: Vec<String>,
    shown: Vec<Difference>,
}

impl Found {
    fn note(&mut self, difference: Difference) {
        self.different += 1;
        if self.ids.len() < MOST {
            self.ids.push(difference.id.clone());
        }
        if self.shown.len() < EVIDENCE {
            self.shown.push(difference);
        }
    }
}

/// Tells what differs, keeps what was there, and sets it right if it is to; returns how many were.
async fn report(
    shared: &Shared,
    tables: &ViewTables,
    refold: &mut Refold,
    found: &Found,
    pace: &mut Pace<'_>,
) -> Result<u64, VerifyError> {
    let view = shared.options.view.description().name;
    let repair = shared.options.verify.repair;
    for difference in &found.shown {
        tracing::error!(
            view.name = view,
            view.generation = %tables.generation,
            document.id = difference.id,
            document.stored = difference.stored.is_some(),
            document.folded = difference.folded.is_some(),
            repair,
            "a document is not what the log says"
        );
    }
    let text = |document: &Option<serde_json::Value>| document.as_ref().map(ToString::to_string);
    let evidence = found.shown.iter().map(|difference| Evidence {
        id: difference.id.clone(),
        stored: text(&difference.stored),
        folded: text(&difference.folded),
        at: Timestamp::now(),
    });
    // First: what was there is not there any more afterwards.
    let store = &shared.options.store;
    store.keep_evidence(tables, evidence.collect()).await?;
    match repair {
        true => Ok(repair::repair(shared, tables.generation, refold, &found.ids, pace).await?),
        false => Ok(0),
    }
}
