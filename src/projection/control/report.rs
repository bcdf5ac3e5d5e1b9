//! The state of a view's generations, as operators are told it.

use super::{ControlError, DriftReport, GenerationReport, ViewReport};
use crate::{
    projection::keeper::Shared,
    read_model::{Generation, GenerationState, Generations, schema::ViewTables, store::StoreError},
};

/// The number of documents that differed from the log and are named.
const DRIFTED: usize = 10;

impl Shared {
    fn waits_if(
        &self,
        generations: &Generations,
        generation: Generation,
        state: GenerationState,
    ) -> Option<String> {
        let building = state == GenerationState::Building;
        // What the keeper has noted may be of before somebody accepted it.
        let accepted = generations.accepts_parked == Some(generation);
        (building && !accepted)
            .then(|| self.waits(generation))
            .flatten()
    }

    pub(super) async fn report(
        &self,
        generations: &Generations,
    ) -> Result<ViewReport, ControlError> {
        let view = self.options.view.description();
        let mut all = Vec::new();
        for (generation, state) in &generations.all {
            let tables = self.tables(*generation)?;
            let status = self.status_of(*generation);
            let status = status.as_ref();
            let checkpoint = match self.options.store.find_checkpoint(&tables).await {
                Ok(checkpoint) => checkpoint.map(|checkpoint| checkpoint.position),
                Err(error) if error.is_retryable() => status.map(|status| status.applied),
                Err(error) => return Err(error.into()),
            };
            let now = jiff::Timestamp::now();
            let stalled = status.and_then(|status| status.stalled.as_ref());
            all.push(GenerationReport {
                generation: *generation,
                state: *state,
                position: checkpoint.unwrap_or(0),
                lag_commits: status.map(|status| status.lag_commits),
                lag_ms: status.map(|status| status.lag_ms(now)),
                parked: status.map_or(0, |status| status.parked),
                waiting: self.waits_if(generations, *generation, *state),
                stalled: stalled.map(|stalled| stalled.reason.clone()),
                drift: self.drift(&tables).await?,
                stalled_ms: stalled.map(|stalled| stalled.age_ms(now)),
                stalled_since: stalled.map(|stalled| stalled.since),
                rate_per_s: self.rates.of(*generation),
            });
        }
        Ok(ViewReport {
            version: view.version,
            generations: all,
        })
    }

    /// Returns what comparing a generation with the log all the time has come to, unless the store is away.
    async fn drift(&self, tables: &ViewTables) -> Result<Option<DriftReport>, ControlError> {
        let store = &self.options.store;
        let found = async {
            let verified = store.verification(tables).await?;
            Ok((verified, store.evidence(tables, DRIFTED).await?))
        };
        let (verified, evidence) = match found.await {
            Ok(found) => found,
            Err(StoreError::Silent | StoreError::Unavailable(_)) => return Ok(None),
            Err(error) => return Err(ControlError::from(error)),
        };
        Ok((verified.checked > 0).then(|| DriftReport {
            checked: verified.checked,
            different: verified.different,
            repaired: verified.repaired,
            at: verified.at,
            ids: evidence.into_iter().map(|it| it.id).collect(),
        }))
    }
}
