//! The explanation of a document: the view is folded again from the log, and each change of this one document is
//! noted with its event.

use super::{
    explained::{Explained, Explaining},
    keeper::Shared,
    refold::{Pace, Refold},
    sample::Sample,
    verify::{VerifyError, live},
};
use crate::{event_log::reader::ReaderOptions, read_model::schema::ViewTables};
use serde_json::Value;
use std::time::Duration;

/// The time that it may take.
const WITHIN: Duration = Duration::from_secs(30);
/// The times that the document is read again because it has changed meanwhile.
const ATTEMPTS: usize = 5;

/// Folds the live generation again for one document. `tell` hears how far the fold is.
pub(super) async fn explain(
    shared: &Shared,
    id: &str,
    tell: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<Explained, VerifyError> {
    let options = &shared.options;
    let Ok(_turn) = options.verify.explaining.try_lock() else {
        return Err(VerifyError::Busy);
    };
    let tables = live(shared).await?;
    let sample = Sample::One(id.to_owned());
    let mut refold = Refold::open(options, tables.clone(), sample, ReaderOptions::PREFETCH).await?;
    refold.observe(Explaining::new(id));
    let explaining = fold(shared, &tables, &mut refold, id, tell);
    let explained = tokio::time::timeout(WITHIN, explaining).await;
    let observed = refold.take_observed();
    refold.discard().await;
    let found = explained.map_err(|_| VerifyError::TooLong(WITHIN))??;
    let behind = options.store.behind(&tables).await?;
    let explained = observed.map(Explaining::end).unwrap_or_default();
    Ok(Explained {
        generation: tables.generation.to_string(),
        position: found.position,
        equal: found.equal,
        served: found.served,
        version: found.version,
        parked: behind.vague || behind.documents.contains(id),
        ..explained
    })
}

/// The document as it is served, and whether it is what was folded.
struct Served {
    served: Option<Value>,
    version: Option<u64>,
    position: u64,
    equal: bool,
}

/// Folds up to where the view is. What is read of the document afterwards is as it was there, or of a later
/// change, up to which it is folded then.
async fn fold(
    shared: &Shared,
    tables: &ViewTables,
    refold: &mut Refold,
    id: &str,
    tell: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<Served, VerifyError> {
    let store = &shared.options.store;
    let mut pace = Pace::unbounded(tell);
    let mut attempts = 0;
    loop {
        let checkpoint = store.checkpoint(tables).await?.place().position;
        refold.up_to(checkpoint, &mut pace).await?;
        let row = store.get(tables, id).await?;
        if let Some(row) = &row {
            refold
                .up_to(row.position.max(checkpoint), &mut pace)
                .await?;
        }
        let (served, version) = row.map(|row| (row.document, row.position)).unzip();
        let equal = refold.is_folded_as(id, served.as_ref())?;
        attempts += 1;
        if equal || attempts == ATTEMPTS {
            return Ok(Served {
                served,
                version,
                position: refold.position(),
                equal,
            });
        }
    }
}
