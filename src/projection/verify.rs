//! Folds a view again from the log, in memory, and compares the documents with those in the store.
//!
//! First all of them while the view goes on; then those that seemed to differ once more, while the
//! view is held still, so that nothing is reported that was merely on its way.

use super::{
    fold::{Fold, FoldError, Folded},
    keeper::Shared,
    working_set::keys,
};
use crate::{
    event_log::{
        LoadError,
        reader::{Commit, ReadError, Reader},
    },
    read_model::{
        GenerationState,
        exchange::{Changes, Found, Needs, RouteKey},
        refresh::RefreshError,
        schema::ViewTables,
        store::{Row, StoreError},
    },
    view::PartKey,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// How many commits are folded at a time.
const BATCH: usize = 2_000;
/// How many documents are compared at a time.
const PAGE: usize = 500;
/// The most documents that are kept in memory.
const MOST: usize = 1_000_000;
/// The most differences that are reported one by one.
const REPORTED: usize = 100;
/// How long the log may take to answer.
const WAIT: Duration = Duration::from_secs(5);

/// What came of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// How many documents were compared.
    pub checked: u64,
    /// How many differ.
    pub different: u64,
    /// The first hundred of those.
    pub differences: Vec<Difference>,
}

/// A document that is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Its id.
    pub id: String,
    /// What the store has, if anything.
    pub stored: Option<Value>,
    /// What it should be, if anything.
    pub folded: Option<Value>,
}

/// A view cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// What is live cannot be folded by this program.
    #[error("what is live is of another version than this program has")]
    Foreign,
    /// There are too many documents.
    #[error("the view has more than {MOST} documents")]
    TooMany,
    /// The log has less than the view has applied.
    #[error("the log ends before what the view has applied")]
    Short,
    /// The log failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log failed, when it was asked for what is excluded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be told what is live.
    #[error("{0}")]
    Refresh(String),
    /// The view's data do not fit its types.
    #[error(transparent)]
    Fold(#[from] FoldError),
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
) -> Result<Verified, VerifyError> {
    let consumer = format!("verify-{}", uuid::Uuid::now_v7().simple());
    let verified = compare(shared, &consumer, sample, tell).await;
    let options = &shared.options;
    if let Err(error) = Reader::forget(&options.log, &options.stream, &consumer).await {
        tracing::warn!(%error, "a consumer stays behind");
    }
    verified
}

async fn compare(
    shared: &Shared,
    consumer: &str,
    sample: Option<u64>,
    tell: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<Verified, VerifyError> {
    let (options, store) = (&shared.options, &shared.options.store);
    let view = options.view.description();
    let generations = store.generations(view.name).await?;
    let live = generations.find(GenerationState::Live);
    let live = live.filter(|live| live.version == view.version);
    let live = live.ok_or(VerifyError::Foreign)?;
    let tables = shared.tables(live)?;
    let reader = options.reader(consumer.to_owned());
    let mut again = Again {
        reader: Reader::open(&options.log, &reader, 0).await?,
        fold: options.view.fold(),
        memory: Memory::new(&view.query.routes),
        ahead: Vec::new(),
        position: 0,
    };
    let skipped = store.skipped(&tables).await?;
    again.fold.reset(HashSet::new(), skipped);
    let excluded = options.log.excluded_positions(view.aggregates).await?;
    again.fold.exclude(&excluded);
    let target = store.checkpoint(&tables).await?.position;
    again.up_to(target, tell).await?;

    let share = sample.map_or(1, |sample| {
        (again.memory.documents.len() as u64 / sample.max(1)).max(1)
    });
    let wanted = |id: &str| {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        hasher.finish().is_multiple_of(share)
    };
    let (mut verified, mut doubtful) = (Verified::default(), BTreeSet::new());
    let mut unseen: HashSet<String> = again.memory.documents.keys().cloned().collect();
    let mut after: Option<String> = None;
    loop {
        let rows = store
            .documents_after(&tables, after.as_deref(), PAGE)
            .await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.id.clone());
        for row in rows {
            unseen.remove(&row.id);
            if wanted(&row.id) {
                verified.checked += 1;
                if again.memory.documents.get(&row.id) != Some(&row.document) {
                    doubtful.insert(row.id);
                }
            }
        }
    }
    let unseen = unseen.into_iter().filter(|id| wanted(id));
    doubtful.extend(unseen.inspect(|_| verified.checked += 1));
    if !doubtful.is_empty() {
        let _still = shared.hold(live).await;
        let target = store.checkpoint(&tables).await?.position;
        again.up_to(target, tell).await?;
        report(shared, &tables, &again.memory, doubtful, &mut verified).await?;
    }
    Ok(verified)
}

/// The view, folded again.
struct Again {
    reader: Reader,
    fold: Box<dyn Fold>,
    memory: Memory,
    /// What was read and is not folded yet.
    ahead: Vec<Commit>,
    position: u64,
}

impl Again {
    /// Folds up to a position of the log, and no further.
    async fn up_to(
        &mut self,
        target: u64,
        tell: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<(), VerifyError> {
        while self.position < target {
            if self.ahead.is_empty() {
                self.ahead = self.reader.next_batch(BATCH, WAIT).await?;
            }
            if self.ahead.is_empty() {
                return Err(VerifyError::Short);
            }
            let after = self
                .ahead
                .iter()
                .position(|commit| commit.position > target);
            let later = self.ahead.split_off(after.unwrap_or(self.ahead.len()));
            let now = std::mem::replace(&mut self.ahead, later);
            let Some(last) = now.last() else {
                return Err(VerifyError::Short);
            };
            self.position = last.position;
            self.apply(&now)?;
            self.reader.ack(self.position).await?;
            tell(self.position, target);
            if self.memory.documents.len() > MOST {
                return Err(VerifyError::TooMany);
            }
        }
        Ok(())
    }

    fn apply(&mut self, commits: &[Commit]) -> Result<(), FoldError> {
        loop {
            match self.fold.apply(commits)? {
                Folded::Needs(needs) => {
                    let found = self.memory.find(&needs);
                    self.fold.supply(needs, found)?;
                }
                Folded::Changes(changes) => {
                    self.fold.committed();
                    self.memory.change(changes);
                    return Ok(());
                }
            }
        }
    }
}

/// Reports which of the doubtful documents differ.
async fn report(
    shared: &Shared,
    tables: &ViewTables,
    memory: &Memory,
    doubtful: BTreeSet<String>,
    verified: &mut Verified,
) -> Result<(), StoreError> {
    for id in doubtful {
        let stored: Option<Row> = shared.options.store.get(tables, &id).await?;
        let stored = stored.map(|row| row.document);
        let folded = memory.documents.get(&id).cloned();
        if stored == folded {
            continue;
        }
        verified.different += 1;
        if verified.differences.len() < REPORTED {
            verified.differences.push(Difference { id, stored, folded });
        }
    }
    Ok(())
}

/// A store in memory, as far as a fold needs one.
pub(super) struct Memory {
    pub(super) documents: BTreeMap<String, Value>,
    parts: HashMap<PartKey, String>,
    routes: Vec<Vec<&'static str>>,
    routed: HashMap<RouteKey, BTreeSet<String>>,
}

impl Memory {
    pub(super) fn new(routes: &[Vec<&'static str>]) -> Self {
        let mut routes = routes.to_vec();
        for fields in &mut routes {
            fields.sort_unstable();
        }
        Self {
            documents: BTreeMap::new(),
            parts: HashMap::new(),
            routes,
            routed: HashMap::new(),
        }
    }

    pub(super) fn find(&self, needs: &Needs) -> Found {
        let document = |id: &String| Some((id.clone(), self.documents.get(id)?.clone()));
        let routed = |route: &RouteKey| {
            let ids = self.routed.get(route).into_iter().flatten();
            (route.clone(), ids.filter_map(document).collect())
        };
        Found {
            parts: needs
                .parts
                .iter()
                .filter_map(|key| Some((key.clone(), self.parts.get(key)?.clone())))
                .collect(),
            documents: needs.documents.iter().filter_map(document).collect(),
            routes: needs.routes.iter().map(routed).collect(),
        }
    }

    pub(super) fn change(&mut self, changes: Changes) {
        for change in changes.documents {
            if let Some(before) = self.documents.remove(&change.id) {
                for key in self.routes.iter().flat_map(|route| keys(route, &before)) {
                    if let Some(ids) = self.routed.get_mut(&key) {
                        ids.remove(&change.id);
                    }
                }
            }
            if let Some(document) = change.document {
                for key in self.routes.iter().flat_map(|route| keys(route, &document)) {
                    self.routed
                        .entry(key)
                        .or_default()
                        .insert(change.id.clone());
                }
                self.documents.insert(change.id, document);
            }
        }
        for change in changes.parts {
            match change.part {
                Some(part) => self.parts.insert(change.key, part),
                None => self.parts.remove(&change.key),
            };
        }
    }
}
