//! Compares a view's documents with the log because an operator asks for it. [`super::refold`] is how.

use super::{
    keeper::Shared,
    refold::{Difference, Pace, Refold, RefoldError},
    sample::Sample,
};
use crate::{
    event_log::reader::ReaderOptions,
    read_model::{
        ComparedCounts, GenerationState, refresh::RefreshError, schema::ViewTables,
        store::StoreError,
    },
};
use serde::{Deserialize, Serialize};
use std::{pin::pin, time::Duration};
use tokio_util::sync::CancellationToken;

/// The most differences that are reported one by one.
const REPORTED: usize = 100;
/// The most bytes of documents that are reported: an answer is one message.
const REPORTED_BYTES: usize = 400 << 10;
/// The number of new beginnings because what is parked was changed meanwhile.
const ATTEMPTS: usize = 3;
/// The pause between two signs of life to those who wait.
const WAITING: Duration = Duration::from_secs(5);

/// The result of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The number of documents that were compared.
    pub checked: u64,
    /// The number that differ.
    pub different: u64,
    /// The first of those: at most a hundred, and fewer where they are large.
    pub differences: Vec<Difference>,
    /// The number of aggregates that are parked. Documents were compared as they are without what is parked.
    #[serde(default)]
    pub parked: u64,
    /// The counts that are kept of the documents, compared with them. None where only some documents were.
    #[serde(default)]
    pub counts: ComparedCounts,
}

impl Verified {
    fn note(&mut self, difference: Difference, bytes: &mut usize) {
        self.different += 1;
        let size = |document: &Option<serde_json::Value>| {
            document.as_ref().map_or(0, |it| it.to_string().len())
        };
        *bytes += size(&difference.stored) + size(&difference.folded);
        if self.differences.len() < REPORTED && *bytes <= REPORTED_BYTES {
            self.differences.push(difference);
        }
    }
}

/// A view cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The live generation cannot be folded by this program.
    #[error("what is live is of another version than this program has")]
    Foreign,
    /// Somebody settles what is parked.
    #[error("what is parked or skipped changes again and again meanwhile; try later")]
    Unsettled,
    /// It was cancelled.
    #[error("it was cancelled")]
    Cancelled,
    /// Another document is being explained.
    #[error("another document is being explained here; try again in a moment")]
    Busy,
    /// The log is too long for it.
    #[error("the log could not be read again within {} s", .0.as_secs())]
    TooLong(Duration),
    /// It cannot be folded again.
    #[error(transparent)]
    Refold(#[from] RefoldError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be told what is live.
    #[error("{0}")]
    Refresh(String),
}

impl From<RefreshError> for VerifyError {
    fn from(error: RefreshError) -> Self {
        Self::Refresh(error.to_string())
    }
}

/// Compares a view's live documents, about `sample` of them if given, with the log. `tell` hears how
/// far the fold is, and how far it has to go.
pub(super) async fn verify(
    shared: &Shared,
    sample: Option<u64>,
    tell: &(dyn Fn(u64, u64) + Send + Sync),
    cancelled: &CancellationToken,
) -> Result<Verified, VerifyError> {
    let options = &shared.options;
    let _turn = tokio::select! {
        turn = alive(tell, options.verify.asked.lock()) => turn,
        () = cancelled.cancelled() => return Err(VerifyError::Cancelled),
    };
    for _ in 0..ATTEMPTS {
        let tables = live(shared).await?;
        let sample = match sample {
            Some(sample) => {
                let all = options.store.documents(&tables).await?;
                Sample::OneIn((all / sample.max(1)).max(1))
            }
            None => Sample::All,
        };
        // The documents are not counted for the sake of a few of them.
        let counted = matches!(sample, Sample::All).then(|| tables.clone());
        let mut refold = Refold::open(options, tables, sample, ReaderOptions::PREFETCH).await?;
        let comparing = async {
            let mut compared = compare(&mut refold, tell).await?;
            if let (Some(verified), Some(counted)) = (&mut compared, &counted) {
                let counts = options.store.compare_counts(counted);
                verified.counts = alive(tell, counts).await?;
            }
            Ok(compared)
        };
        let compared = tokio::select! {
            compared = comparing => compared,
            () = cancelled.cancelled() => Err(VerifyError::Cancelled),
        };
        refold.discard().await;
        if let Some(verified) = compared? {
            return Ok(verified);
        }
    }
    Err(VerifyError::Unsettled)
}

/// `None` when what it was based on has changed.
async fn compare(
    refold: &mut Refold,
    tell: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<Option<Verified>, VerifyError> {
    let mut pace = Pace::unbounded(tell);
    let (mut verified, mut bytes) = (Verified::default(), 0);
    verified.parked = refold.parked() as u64;
    let note = |difference| verified.note(difference, &mut bytes);
    verified.checked = refold.compare(&mut pace, note).await?;
    if verified.different > 0 && !refold.is_still_given().await? {
        return Ok(None);
    }
    Ok(Some(verified))
}

/// The tables of what is live, where this program can fold it.
pub(super) async fn live(shared: &Shared) -> Result<ViewTables, VerifyError> {
    let view = shared.options.view.description();
    let generations = shared.options.store.generations(view.name).await?;
    let live = generations.find(GenerationState::Live);
    let live = live.filter(|live| live.version == view.version);
    Ok(shared.tables(live.ok_or(VerifyError::Foreign)?)?)
}

/// Does what takes long. Who asked hears now and then that it is still being done.
async fn alive<T>(tell: &(dyn Fn(u64, u64) + Send + Sync), work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        match tokio::time::timeout(WAITING, &mut work).await {
            Ok(done) => return done,
            Err(_) => tell(0, 0),
        }
    }
}
