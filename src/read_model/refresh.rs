//! Looking up in the store which generation of a view is live, and how far it is.

use super::{
    Progress, ViewDescription, Watermark,
    generation::{GenerationState, Generations},
    schema::{SchemaError, ViewTables},
    store::{Store, StoreError},
};

/// How often another program may come first before it is given up.
const ATTEMPTS: usize = 8;

/// Makes sure that the view has a live generation, and one of its own version.
pub(crate) async fn join(
    store: &Store,
    view: &ViewDescription,
) -> Result<Generations, RefreshError> {
    for _ in 0..ATTEMPTS {
        let stored = store.generations(view.name).await?;
        let Some(next) = stored.joined(view.version) else {
            return Ok(stored);
        };
        match store.change_generations(view.name, &next).await {
            Ok(()) => return Ok(next),
            Err(StoreError::Fenced | StoreError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::Fenced.into())
}

/// Serves the view from the generation that is live by `generations`, if that is news.
pub(crate) async fn serve(
    store: &Store,
    view: &ViewDescription,
    watermark: &Watermark,
    generations: &Generations,
) -> Result<(), RefreshError> {
    let serving = watermark.serving();
    let known = serving.live().is_some();
    if known && generations.revision <= serving.revision() {
        return Ok(());
    }
    let Some(live) = generations.find(GenerationState::Live) else {
        return Ok(());
    };
    let tables = ViewTables::generation(view, live)?;
    let checkpoint = store.find_checkpoint(&tables).await?;
    let parked = store.parked_documents(&tables).await?;
    let turned = serving.turn(generations.revision, tables);
    serving.park(0, parked);
    if turned {
        // After the turn: a copy that is taken from now on is one of the new tables.
        watermark.replaced();
    }
    let Some(checkpoint) = checkpoint else {
        return Ok(());
    };
    let progress = Progress {
        position: checkpoint.position,
        behind_since: watermark.progress().behind_since,
    };
    // Going back is what an operator asked for, when the program of the generation is gone.
    if turned && progress.position < watermark.progress().position {
        watermark.reset(progress);
    } else {
        watermark.advance(progress);
    }
    Ok(())
}

/// It cannot be told which generation is live.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshError {
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Store(#[from] StoreError),
}
