//! Looking up in the store which generation of a view is live, and how far it is.

use crate::event_log::LoadError;

use super::{
    Progress, ViewDescription, Watermark,
    exchange::Checkpoint,
    generation::{Edition, GenerationState, Generations},
    schema::{SchemaError, ViewTables},
    serving::{Seen, Turned},
    store::{Store, StoreError},
};

/// The number of times that another program may come first before it is given up.
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
    let before = serving.seen();
    if serving.live().is_some() && generations.revision <= before.generations {
        return Ok(());
    }
    follow(store, view, watermark, (before, generations)).await
}

/// Looks in the store what is live, which edition that is and how far it has come, and serves that. Also
/// where it is behind what was served: the store was restored from a backup then.
pub(crate) async fn look(
    store: &Store,
    view: &ViewDescription,
    watermark: &Watermark,
) -> Result<(), RefreshError> {
    let before = watermark.serving().seen();
    let generations = store.generations(view.name).await?;
    follow(store, view, watermark, (before, &generations)).await
}

/// `before` was known before the store was asked for the generations, or else they are news.
async fn follow(
    store: &Store,
    view: &ViewDescription,
    watermark: &Watermark,
    (before, generations): (Seen, &Generations),
) -> Result<(), RefreshError> {
    let serving = watermark.serving();
    let known = watermark.progress().position;
    let Some(live) = generations.find(GenerationState::Live) else {
        // One that is live no more is of another log; a view that never had one is not prepared yet.
        if generations.revision > 0 {
            watermark.lose(&before.edition);
        }
        return Ok(());
    };
    let mut tables = ViewTables::generation(view, live)?;
    let served = serving.live();
    let served = served.filter(|served| served.documents == tables.documents);
    let same_tables = served.is_some();
    match served {
        _ if tables.indexed => {}
        Some(served) => tables = ViewTables::clone(&served),
        None => store.look_into(&mut tables).await?,
    }
    let checkpoint = store.find_checkpoint(&tables).await?;
    // Without one, nothing of it is written yet.
    let edition = checkpoint
        .as_ref()
        .map(|checkpoint| Edition::of(live, generations.era, checkpoint.log, checkpoint.exchanges));
    let place = checkpoint.as_ref().map(Checkpoint::place);
    let place = place.unwrap_or_default();
    let (position, revision) = checkpoint.map_or((0, 0), |at| (at.position, at.revision));
    let found = Seen::of(edition.unwrap_or_default(), generations.revision, revision);
    // By an exchange alone the view does not go back.
    let exchanged = found.edition != before.edition && position < known;
    let went_back = same_tables && (found.revision < before.revision || exchanged);
    let news = !same_tables || found.edition != before.edition;
    if news || went_back {
        // Before the turn: this is asked once more, and not between it and what follows from it.
        let parked = store.behind(&tables).await?;
        if serving.turn(&before, tables, found) == Turned::Overtaken {
            return Ok(());
        }
        serving.park(revision, parked);
        // After the turn: a copy that is taken from now on is one of the new documents.
        watermark.replaced();
    } else if found.generations != before.generations {
        serving.turn(&before, tables, found);
    } else {
        serving.heard_of(found.revision);
    }
    let progress = Progress {
        position,
        behind_since: watermark.progress().behind_since,
    };
    // Going back is what an operator asked for, when the program of the generation is gone, or the store
    // itself has gone back.
    if (went_back || !same_tables) && progress.position < watermark.progress().position {
        watermark.reset(progress);
        watermark.stands_on(place);
    } else {
        watermark.stands_on(place);
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
    #[error(transparent)]
    Log(#[from] LoadError),
}
