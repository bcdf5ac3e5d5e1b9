//! The whole system on one page. Gathered once a second at the most, whoever asks.

use super::{Operations, ToldGeneration, ToldView};
use crate::{
    event_log::{AppendMode, LogName, LogState, topology::Durability},
    http::Readiness,
    membership::{ReplicaLoad, ToldReplica},
    processes,
    read_model::GenerationState,
};
use jiff::Timestamp;
use serde::Serialize;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use utoipa::ToSchema;

/// For how long what was gathered is told to others who ask.
const FRESH: Duration = Duration::from_millis(900);
/// The stretch of time that the rate of commits is of.
const WINDOW: Duration = Duration::from_secs(10);
/// The oldest sample that a rate is told from.
const OLDEST: Duration = Duration::from_secs(30);

/// The whole system.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Overview {
    /// When it was gathered.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// The replica that answers.
    pub replica: String,
    /// The version of its program.
    pub version: String,
    /// The log.
    pub log: OverviewLog,
    /// The live replicas.
    pub replicas: Vec<OverviewReplica>,
    /// The commands that the replicas have decided lately, together.
    pub commands: ReplicaLoad,
    /// The views.
    pub views: Vec<OverviewView>,
    /// The processes.
    pub processes: Vec<OverviewProcess>,
    /// The readiness of the replica that answers, as `/readyz` says it.
    #[schema(value_type = Object)]
    pub readiness: Readiness,
}

/// The log. What is not known while it cannot be asked is null.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct OverviewLog {
    /// Its identity: a log that is made anew has another.
    pub name: Option<String>,
    /// When it was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created: Option<Timestamp>,
    /// The position of its last message.
    pub last: Option<u64>,
    /// The number of its messages.
    pub messages: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
    /// The number of servers that keep it.
    pub replicas: Option<u8>,
    /// When its last message was stored.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_at: Option<Timestamp>,
    /// The messages a second that came lately; null until it was looked at twice.
    pub commits_per_s: Option<f64>,
    /// The worth of an acknowledged append: `dev`, `single_durable` or `cluster`; null where that is not known.
    pub durability: Option<String>,
    /// The same in words.
    pub promise: Option<String>,
    /// The way that appends reach it, from the replica that answers.
    pub append: Option<OverviewAppend>,
    /// The fault of it.
    pub trouble: Option<String>,
}

/// The way appends reach the log.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct OverviewAppend {
    /// `pipelined` or `grouped`.
    pub mode: String,
    /// The reason for it.
    pub reason: String,
}

/// A replica.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct OverviewReplica {
    /// Its name.
    pub replica: String,
    /// True if it is the one that answers.
    pub here: bool,
    /// The version of its program; null of a build that does not tell.
    pub version: Option<String>,
    /// Its roles.
    pub roles: Vec<String>,
    /// When its process began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// True if it is leaving.
    pub leaving: bool,
    /// The views that it can fold, by their versions.
    pub views: BTreeMap<String, u32>,
    /// The commands that it has decided lately.
    pub load: Option<ReplicaLoad>,
}

/// A view: its live generation, where it is furthest behind.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct OverviewView {
    /// Its name.
    pub view: String,
    /// The version that the program has.
    pub version: u32,
    /// The replicas that keep it.
    pub keepers: Vec<String>,
    /// The stream sequence of the last commit applied; null where nothing is live.
    pub position: Option<u64>,
    /// The number of commits it is behind.
    pub lag_commits: Option<u64>,
    /// The milliseconds that it is behind.
    pub lag_ms: Option<u64>,
    /// The commits a second that it has applied lately.
    pub rate_per_s: Option<f64>,
    /// The number of aggregates it has parked.
    pub parked: usize,
    /// The reason why it does not get on.
    pub stalled: Option<String>,
    /// Since when it has not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub stalled_since: Option<Timestamp>,
    /// The generation that is being filled.
    pub building: Option<OverviewBuilding>,
}

/// A generation that is being filled.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct OverviewBuilding {
    /// Which one.
    pub generation: String,
    /// The position reached.
    pub done: u64,
    /// The position to reach.
    pub total: u64,
    /// The reason why it waits for an operator, if it does.
    pub waiting: Option<String>,
}

/// A process.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct OverviewProcess {
    /// Its name.
    pub process: String,
    /// The replica that follows the log for it.
    pub home: Option<String>,
}

/// The overview as it was gathered last.
#[derive(Default)]
pub(super) struct Gathered {
    latest: Option<(Instant, Arc<Overview>)>,
    /// The ends that the log had lately, and which log it was.
    ends: VecDeque<(Instant, LogName, u64)>,
}

impl Operations {
    /// Gathers the overview, or returns what was gathered a moment ago.
    pub async fn overview(&self, authorization: Option<&str>) -> Arc<Overview> {
        let mut gathered = self.0.gathered.lock().await;
        if let Some((at, overview)) = &gathered.latest
            && at.elapsed() < FRESH
        {
            return Arc::clone(overview);
        }
        let options = self.options();
        let (state, views) =
            futures::future::join(options.log.state(), self.views(authorization)).await;
        let state = state.inspect_err(|error| tracing::debug!(%error, "the log does not tell"));
        let state = state.ok();
        let rate = state.as_ref().and_then(|state| gathered.rate(state));
        let told = options.membership.told();
        let views = views.map_or_else(|_| Vec::new(), |views| views.items);
        let overview = Arc::new(Overview {
            time: Timestamp::now(),
            replica: options.membership.replica().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            log: self.log(state, rate),
            commands: together(&told),
            replicas: told.into_iter().map(|told| self.replica(told)).collect(),
            views: views.iter().map(summary).collect(),
            processes: self.homes_of_processes(),
            readiness: (options.readiness)(),
        });
        gathered.latest = Some((Instant::now(), Arc::clone(&overview)));
        overview
    }

    fn log(&self, state: Option<LogState>, commits_per_s: Option<f64>) -> OverviewLog {
        let options = self.options();
        let append = options.append.as_ref();
        let copies = state.as_ref().map_or(1, |state| state.replicas);
        let durability = append
            .and_then(|append| append.durability)
            .or(options.durability)
            .or((copies > 1).then_some(Durability::Cluster));
        let trouble = options.log.health().trouble();
        let trouble = trouble.map(|trouble| trouble.to_string());
        let known = OverviewLog {
            commits_per_s,
            durability: durability.map(|it| it.name().replace(' ', "_")),
            promise: durability.map(|it| it.promise().to_owned()),
            append: append.map(|append| OverviewAppend {
                mode: match append.mode {
                    AppendMode::Pipelined => "pipelined".to_owned(),
                    AppendMode::Grouped => "grouped".to_owned(),
                },
                reason: append.reason.clone(),
            }),
            trouble,
            ..OverviewLog::default()
        };
        let Some(state) = state else {
            let silent = || Some("it does not answer".to_owned());
            return OverviewLog {
                trouble: known.trouble.clone().or_else(silent),
                ..known
            };
        };
        OverviewLog {
            name: Some(state.name.to_string()),
            created: state.created,
            last: Some(state.last),
            messages: Some(state.messages),
            bytes: Some(state.bytes),
            replicas: Some(state.replicas),
            last_at: state.last_at,
            ..known
        }
    }

    fn replica(&self, told: ToldReplica) -> OverviewReplica {
        OverviewReplica {
            here: told.replica == self.options().membership.replica(),
            replica: told.replica,
            version: told.version,
            roles: told.roles,
            since: told.since,
            leaving: told.leaving,
            views: told.views,
            load: told.load,
        }
    }

    fn homes_of_processes(&self) -> Vec<OverviewProcess> {
        let all = self.options().processes.iter();
        let all = all.map(|process| OverviewProcess {
            process: process.name.to_owned(),
            home: processes::home_of(&self.options().membership, process.name),
        });
        all.collect()
    }
}

impl Gathered {
    /// The messages a second that the log has got lately.
    fn rate(&mut self, state: &LogState) -> Option<f64> {
        let now = Instant::now();
        let is_before = |(at, name, last): &(Instant, LogName, u64)| {
            *name == state.name && *last <= state.last && now - *at < OLDEST
        };
        self.ends.retain(is_before);
        self.ends.push_back((now, state.name, state.last));
        while self.ends.get(1).is_some_and(|(at, ..)| now - *at >= WINDOW) {
            self.ends.pop_front();
        }
        let (begin, _, first) = self.ends.front()?;
        let seconds = (now - *begin).as_secs_f64();
        (seconds > 0.0).then(|| (state.last - first) as f64 / seconds)
    }
}

/// Sums up the commands that the replicas have decided, with the latency of the slowest.
fn together(told: &[ToldReplica]) -> ReplicaLoad {
    let loads = told.iter().filter_map(|told| told.load.as_ref());
    let slower = |one: Option<f64>, other: Option<f64>| match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    };
    loads.fold(ReplicaLoad::default(), |all, one| ReplicaLoad {
        accepted_per_s: all.accepted_per_s + one.accepted_per_s,
        refused_per_s: all.refused_per_s + one.refused_per_s,
        failed_per_s: all.failed_per_s + one.failed_per_s,
        p50_ms: slower(all.p50_ms, one.p50_ms),
        p99_ms: slower(all.p99_ms, one.p99_ms),
    })
}

/// A view by its live generation, where that is furthest behind.
fn summary(view: &ToldView) -> OverviewView {
    let stores = || view.stores.iter();
    let of_state = |state: GenerationState| {
        let all = stores().flat_map(|store| &store.generations);
        all.filter(move |one| one.state == state)
    };
    let behind = |one: &&ToldGeneration| {
        let unread = one.stalled.is_some();
        (unread, one.lag_ms, one.lag_commits, u64::MAX - one.position)
    };
    let live = of_state(GenerationState::Live).max_by_key(behind);
    let building = of_state(GenerationState::Building).min_by_key(|one| one.position);
    OverviewView {
        view: view.view.clone(),
        version: view.version,
        keepers: stores().filter_map(|store| store.replica.clone()).collect(),
        position: live.map(|live| live.position),
        lag_commits: live.and_then(|live| live.lag_commits),
        lag_ms: live.and_then(|live| live.lag_ms),
        rate_per_s: live.and_then(|live| live.rate_per_s),
        parked: of_state(GenerationState::Live)
            .map(|live| live.parked)
            .sum(),
        stalled: live.and_then(|live| live.stalled.clone()),
        stalled_since: live.and_then(|live| live.stalled_since),
        building: building.map(|one| OverviewBuilding {
            generation: one.generation.clone(),
            done: one.position,
            total: one.position + one.lag_commits.unwrap_or(0),
            waiting: one.waiting.clone(),
        }),
    }
}
