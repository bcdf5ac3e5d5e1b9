//! The projector's part in exchanging documents in place that are not what the log says: it stands
//! still, tells where, and writes what it is given.

use super::{Projector, ProjectorError};
use crate::read_model::exchange::{Changes, DocumentChange};
use std::{sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::timeout};

/// The longest time that it stands still for what it is to write.
const HELD: Duration = Duration::from_secs(5);

/// Documents that are to be exchanged.
pub(in crate::projection) struct Amend {
    held: oneshot::Sender<u64>,
    changes: oneshot::Receiver<Vec<DocumentChange>>,
    done: oneshot::Sender<Result<(), ProjectorError>>,
}

impl Amend {
    /// `held` hears the position at which the projector stands still, `changes` then brings what is to be
    /// written, and `done` hears what came of it. If nothing is brought in time it goes on.
    pub(in crate::projection) fn new(
        held: oneshot::Sender<u64>,
        changes: oneshot::Receiver<Vec<DocumentChange>>,
        done: oneshot::Sender<Result<(), ProjectorError>>,
    ) -> Self {
        Self {
            held,
            changes,
            done,
        }
    }
}

impl Projector {
    /// Exchanges documents in place.
    pub(in crate::projection) async fn amend(&mut self, amend: Amend) {
        let Amend {
            held,
            changes,
            done,
        } = amend;
        let amended = self.try_amend(held, changes).await;
        // What it remembers of the documents is of before.
        self.close();
        // Who has asked may be gone.
        let _ = done.send(amended);
    }

    async fn try_amend(
        &mut self,
        held: oneshot::Sender<u64>,
        changes: oneshot::Receiver<Vec<DocumentChange>>,
    ) -> Result<(), ProjectorError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.open().await?,
        };
        self.open = Some(open);
        let Some(here) = self.here().filter(|here| here.within.is_none()) else {
            // The documents are of no position while a commit is applied in part.
            return Ok(());
        };
        let gate = Arc::clone(&self.options.gate);
        let _turn = gate.lock().await;
        if held.send(here.place.position).is_err() {
            return Ok(());
        }
        let Ok(Ok(documents)) = timeout(HELD, changes).await else {
            return Ok(());
        };
        if documents.is_empty() {
            return Ok(());
        }
        let changes = Changes {
            documents,
            in_place: true,
            ..Changes::default()
        };
        let applied = self.commit(here, changes).await?;
        if self.live().is_some() {
            self.options.watermark.note(&applied);
        }
        self.publish(&applied).await
    }
}
