//! The replicas as operators see them: what each tells of itself beside what placement takes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use utoipa::ToSchema;

/// The number of replicas that are told of at the most: whoever may publish heartbeats may make names up.
const MOST: usize = 1_000;

/// The commands that a replica has decided in the last ten seconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct ReplicaLoad {
    /// Accepted ones a second.
    pub accepted_per_s: f64,
    /// Those a second that were refused because of what they are.
    pub refused_per_s: f64,
    /// Those a second that were refused through no fault of theirs: `overloaded`, `unavailable`, `internal`.
    pub failed_per_s: f64,
    /// The time that half of them took at most, in milliseconds.
    pub p50_ms: Option<f64>,
    /// The time that 99 of a hundred took at most, in milliseconds.
    pub p99_ms: Option<f64>,
}

/// A replica as it tells of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct ToldReplica {
    /// Its name.
    pub replica: String,
    /// The version of its program; `None` of a build that does not tell.
    pub version: Option<String>,
    /// Its roles by name, those too that this build does not know.
    pub roles: Vec<String>,
    /// The views that it can fold, by their versions.
    pub views: BTreeMap<String, u32>,
    /// When its process began.
    pub since: Option<Timestamp>,
    /// True if it is leaving.
    pub leaving: bool,
    /// The load of a replica that decides commands.
    pub load: Option<ReplicaLoad>,
}

/// The replicas that were heard, and when.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<String, (ToldReplica, Instant)>);

impl Told {
    pub(super) fn hear(&mut self, told: ToldReplica) {
        if self.0.len() < MOST || self.0.contains_key(&told.replica) {
            self.0.insert(told.replica.clone(), (told, Instant::now()));
        }
    }

    /// All that were heard within this time, and `myself`.
    pub(super) fn all(&mut self, myself: ToldReplica, within: Duration) -> Vec<ToldReplica> {
        self.0.retain(|_, (_, heard)| heard.elapsed() < within);
        let others = self.0.values().map(|(told, _)| told);
        let others = others.filter(|told| told.replica != myself.replica);
        let mut all: Vec<_> = others.cloned().collect();
        all.push(myself);
        all.sort_by(|one, other| one.replica.cmp(&other.replica));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(name: &str) -> ToldReplica {
        ToldReplica {
            replica: name.to_owned(),
            version: None,
            roles: Vec::new(),
            views: BTreeMap::new(),
            since: None,
            leaving: false,
            load: None,
        }
    }

    #[test]
    fn who_is_silent_is_not_told_of_and_made_up_names_are_bounded() {
        let mut told = Told::default();
        for number in 0..2 * MOST {
            told.hear(replica(&format!("r{number}")));
        }
        let all = told.all(replica("me"), Duration::from_secs(60));
        assert_eq!(all.len(), MOST + 1);
        let all = told.all(replica("me"), Duration::ZERO);
        assert_eq!(all, [replica("me")]);
    }
}
