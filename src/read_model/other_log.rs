//! The fate of a view when the log is another one than it was filled from: cut, restored from a backup,
//! or made anew.
//!
//! The positions of the other log mean nothing in this one, so nothing of the view is served any more,
//! and it is filled anew. What tells is the commit that each checkpoint stands on: see
//! [`crate::event_log::identity`]. A log that is only away is no other log.

use super::{
    Progress, ViewDescription, Watermark,
    generation::{Edition, Generation, GenerationState, Generations},
    refresh::RefreshError,
    schema::ViewTables,
    store::{Store, StoreError},
};
use crate::event_log::EventLog;

/// Has a view begin anew where its documents are of another log; returns its generations as they are then.
/// Only who keeps documents may do that.
pub(crate) async fn begin_anew(
    store: &Store,
    view: &ViewDescription,
    log: &EventLog,
    generations: Generations,
) -> Result<Generations, RefreshError> {
    let mut lost = Vec::new();
    for (generation, state) in &generations.all {
        if *state != GenerationState::Dropping
            && !holds(store, view, log, *generation, generations.era)
                .await?
                .1
        {
            lost.push(*generation);
        }
    }
    if lost.is_empty() {
        return Ok(generations);
    }
    let next = generations.lost(&lost, view.version, rand::random());
    match store.change_generations(view.name, &next).await {
        Ok(()) => {}
        // Somebody else has noticed as well; there is another look.
        Err(StoreError::Fenced | StoreError::Conflict(_)) => {
            return Ok(store.generations(view.name).await?);
        }
        Err(error) => return Err(error.into()),
    }
    metrics::counter!("headwater_view_other_log_total", "view" => view.name).increment(1);
    let lost: Vec<_> = lost.iter().map(Generation::to_string).collect();
    tracing::error!(
        view.name = view.name,
        view.generations = lost.join(", "),
        "the log is another one than the view was filled from; it is filled anew"
    );
    Ok(next)
}

/// Serves nothing of a view any more where its documents are of another log, and again what is served where
/// they are not, or not any more. Returns whether what is served is of the log then; not so where somebody
/// else has changed what is served meanwhile.
pub(crate) async fn doubt(
    store: &Store,
    view: &ViewDescription,
    watermark: &Watermark,
    log: &EventLog,
) -> Result<bool, RefreshError> {
    let generations = store.generations(view.name).await?;
    let serving = watermark.serving();
    let Some(live) = generations.find(GenerationState::Live) else {
        if generations.revision > 0 {
            watermark.lose(&serving.edition());
        }
        return Ok(serving.live().is_none());
    };
    let (edition, holds) = holds(store, view, log, live, generations.era).await?;
    if !holds {
        watermark.lose(&edition);
        return Ok(serving.is_lost());
    }
    serving.is_found(&edition);
    // What is served may not be that yet, or not any more.
    if serving.live().is_some() && serving.edition() != edition {
        return Ok(false);
    }
    doubt_rest(store, view, watermark, log, live).await
}

/// Goes back to the checkpoint where what was told beyond it is not in the log: commits that changed nothing,
/// of which the checkpoint knows nothing yet.
async fn doubt_rest(
    store: &Store,
    view: &ViewDescription,
    watermark: &Watermark,
    log: &EventLog,
    live: Generation,
) -> Result<bool, RefreshError> {
    let told = watermark.progress();
    let place = watermark.place();
    let tables = ViewTables::generation(view, live)?;
    let checkpoint = store.find_checkpoint(&tables).await?;
    let stored = checkpoint.map_or(0, |checkpoint| checkpoint.position);
    if told.position <= stored {
        return Ok(true);
    }
    let holds = match place {
        Some(place) => log.holds(place).await?,
        None => false,
    };
    if !holds && watermark.progress().position != told.position {
        return Ok(false);
    }
    if !holds {
        watermark.reset(Progress {
            position: stored,
            ..told
        });
    }
    Ok(true)
}

/// The edition of a generation, and whether the log has the commit that its checkpoint stands on.
async fn holds(
    store: &Store,
    view: &ViewDescription,
    log: &EventLog,
    generation: Generation,
    era: u32,
) -> Result<(Edition, bool), RefreshError> {
    let tables = ViewTables::generation(view, generation)?;
    let Some(checkpoint) = store.find_checkpoint(&tables).await? else {
        return Ok((Edition::default(), true));
    };
    let edition = Edition::of(generation, era, checkpoint.log, checkpoint.exchanges);
    let holds = log.holds(checkpoint.place()).await? && log.holds(checkpoint.begun()).await?;
    Ok((edition, holds))
}
