//! The projector's knowledge of what is parked, so that a batch needs to read nothing of it: which
//! aggregates, and which documents are behind because of each.

use crate::{
    read_model::{
        BehindChange,
        exchange::{Changes, ParkedHead, TriedAgain},
        serving::Behind,
    },
    view::PartKey,
};
use std::collections::{BTreeSet, HashMap, HashSet};

/// The number of documents that are known to be behind because of one aggregate. Of more it is only known that
/// there are.
const BEHIND: usize = if cfg!(test) { 50 } else { 10_000 };
/// The number of documents an announcement names at most; beyond, readers read them all.
const TOLD: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct ParkedSet {
    heads: HashMap<PartKey, ParkedHead>,
    behind: HashMap<PartKey, HashSet<String>>,
    /// Because of how many aggregates a document is behind.
    reasons: HashMap<String, usize>,
    vague: usize,
}

/// The changes of a transaction to it.
pub(super) struct ParkedChanges {
    heads: Vec<(PartKey, ParkedHead)>,
    behind: Vec<(PartKey, String)>,
    retried: Option<TriedAgain>,
}

impl ParkedSet {
    pub(super) fn new(
        heads: HashMap<PartKey, ParkedHead>,
        behind: HashMap<PartKey, HashSet<String>>,
    ) -> Self {
        let mut reasons = HashMap::new();
        for document in behind.values().flatten() {
            *reasons.entry(document.clone()).or_insert(0) += 1;
        }
        Self {
            vague: heads.values().filter(|head| head.vague).count(),
            heads,
            behind,
            reasons,
        }
    }

    pub(super) fn heads(&self) -> &HashMap<PartKey, ParkedHead> {
        &self.heads
    }

    /// All that readers are told.
    pub(super) fn told(&self) -> Behind {
        Behind {
            aggregates: self.heads.len(),
            vague: self.vague > 0,
            documents: self.reasons.keys().cloned().collect(),
        }
    }

    /// Leaves out of `changes` what is known of the documents that are behind, and takes the rest down.
    pub(super) fn prepare(&self, changes: &mut Changes) -> ParkedChanges {
        let mut behind: BTreeSet<(PartKey, String)> =
            std::mem::take(&mut changes.behind).into_iter().collect();
        for parked in &mut changes.parked {
            if let (true, Some(head)) = (
                parked.first && parked.documents.is_empty(),
                self.heads.get(&parked.aggregate),
            ) {
                parked.vague |= head.vague;
            }
            let known = self.behind.get(&parked.aggregate).map_or(0, HashSet::len);
            for (number, document) in std::mem::take(&mut parked.documents)
                .into_iter()
                .enumerate()
            {
                if known + number < BEHIND {
                    behind.insert((parked.aggregate.clone(), document));
                } else {
                    parked.vague = true;
                }
            }
        }
        behind.retain(|(aggregate, document)| {
            let known = self.behind.get(aggregate);
            known.is_none_or(|known| known.len() < BEHIND && !known.contains(document))
        });
        changes.behind = behind.into_iter().collect();
        self.make_vague(changes);
        let firsts = changes.parked.iter().filter(|parked| parked.first);
        let heads = firsts.map(|parked| {
            let head = ParkedHead {
                position: parked.position,
                from_event: parked.from_event,
                unknown: parked.unknown,
                vague: parked.vague,
            };
            (parked.aggregate.clone(), head)
        });
        let mut heads: Vec<_> = heads.collect();
        // Those that only wait for one that was set aside before.
        for parked in changes.parked.iter().filter(|it| !it.first && it.vague) {
            let known = heads.iter().any(|(key, _)| *key == parked.aggregate);
            if let (false, Some(head)) = (known, self.heads.get(&parked.aggregate)) {
                let vague = true;
                heads.push((
                    parked.aggregate.clone(),
                    ParkedHead {
                        vague,
                        ..head.clone()
                    },
                ));
            }
        }
        ParkedChanges {
            heads,
            behind: changes.behind.clone(),
            retried: changes.retried.clone(),
        }
    }

    /// One commit may concern more documents than can be told; then so does the first of its aggregate that
    /// is set aside with it.
    fn make_vague(&self, changes: &mut Changes) {
        let vague = changes.parked.iter().filter(|parked| parked.vague);
        let vague: HashSet<_> = vague.map(|parked| parked.aggregate.clone()).collect();
        for parked in changes.parked.iter_mut().filter(|parked| parked.first) {
            parked.vague |= vague.contains(&parked.aggregate);
        }
        // What is known to be vague need not be written again.
        for parked in changes.parked.iter_mut().filter(|parked| !parked.first) {
            let head = self.heads.get(&parked.aggregate);
            parked.vague &= head.is_some_and(|head| !head.vague);
        }
    }

    /// Takes over what is written now; returns what readers are to be told, if anything, of a change of
    /// what was told as of the transaction `from`.
    pub(super) fn commit(&mut self, changes: ParkedChanges, from: u64) -> Option<BehindChange> {
        let before = (self.heads.len(), self.vague > 0);
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        if let Some(again) = changes.retried {
            let fails = changes.heads.iter().any(|(key, _)| *key == again.aggregate);
            if again.last && !fails {
                removed = self.forget(&again.aggregate);
            } else if let (false, Some(head)) = (fails, self.heads.get_mut(&again.aggregate)) {
                head.position = again.through + 1;
                head.from_event = 0;
                head.unknown = true;
            }
        }
        for (key, head) in changes.heads {
            self.vague += usize::from(head.vague);
            let before = self.heads.insert(key, head);
            self.vague -= usize::from(before.is_some_and(|before| before.vague));
        }
        for (key, document) in changes.behind {
            if !self.heads.contains_key(&key) {
                continue;
            }
            if self.behind.entry(key).or_default().insert(document.clone()) {
                let reasons = self.reasons.entry(document.clone()).or_insert(0);
                *reasons += 1;
                if *reasons == 1 {
                    added.push(document);
                }
            }
        }
        let after = (self.heads.len(), self.vague > 0);
        if before == after && added.is_empty() && removed.is_empty() {
            return None;
        }
        let whole = added.len() + removed.len() > TOLD;
        Some(BehindChange {
            from: (!whole).then_some(from),
            aggregates: after.0,
            vague: after.1,
            added: if whole { Vec::new() } else { added },
            removed: if whole { Vec::new() } else { removed },
        })
    }

    /// Forgets an aggregate of which nothing is parked any more; returns which documents are behind no
    /// more.
    fn forget(&mut self, key: &PartKey) -> Vec<String> {
        if let Some(head) = self.heads.remove(key) {
            self.vague -= usize::from(head.vague);
        }
        let documents = self.behind.remove(key).unwrap_or_default().into_iter();
        let gone = documents.filter(|document| {
            let Some(reasons) = self.reasons.get_mut(document) else {
                return false;
            };
            *reasons -= 1;
            let gone = *reasons == 0;
            if gone {
                self.reasons.remove(document);
            }
            gone
        });
        gone.collect()
    }
}
