//! The actors of one arbiter, and in which order they go.
//!
//! Snapshots go by the connections that appends go by. So of the actors that have something to save a few
//! save at once, and each goes when it says that it is saved; the others of them wait. One that could not
//! save stays, and tries again later, unless there are too many actors.

use super::{Dispatch, Kind, Live, RegistryOptions, Status};
use crate::{
    command::{
        actor::{Parting, Saving},
        measure::MEASURES,
        placement::Placement,
    },
    event_log::{EventLog, subject::Id},
    membership::Home,
};
use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// The longest that an actor waits before it tries to save again.
const PATIENCE: Duration = Duration::from_secs(60);

/// The number of a kind, and an id.
type Key = (usize, Id);

/// The live actors of one arbiter.
pub(super) struct Table {
    log: EventLog,
    kinds: Arc<[Arc<dyn Kind>]>,
    pub(super) options: RegistryOptions,
    /// The place where homes are; `None` when all are here.
    placement: Option<Placement>,
    live: HashMap<Key, Live>,
    /// Those that go when they are saved and were not told to save yet.
    parting: VecDeque<Key>,
    saving: usize,
    counted: usize,
    /// Room is made when there are so many.
    full: usize,
}

impl Table {
    pub(super) fn new(
        log: EventLog,
        kinds: Arc<[Arc<dyn Kind>]>,
        options: RegistryOptions,
        placement: Option<Placement>,
    ) -> Self {
        Self {
            log,
            kinds,
            placement,
            live: HashMap::new(),
            parting: VecDeque::new(),
            saving: 0,
            counted: 0,
            full: options.max_actors,
            options,
        }
    }

    /// Returns how many are to be saved before they go.
    pub(super) fn parting(&self) -> usize {
        self.parting.len() + self.saving
    }

    /// Lets go of what is idle, and of what has its home elsewhere.
    pub(super) fn sweep(&mut self) {
        // One that ended unexpectedly never says that it is saved.
        self.live.retain(|_, live| live.execute.connected());
        let saving = self.live.values().filter(|live| live.status.saving.get());
        self.saving = saving.count();
        self.parting.clear();
        let idle = self.options.idle;
        let (kinds, placement) = (self.kinds.clone(), self.placement.clone());
        self.let_go(|(kind, id), live| {
            let elsewhere = |placement: &Placement| {
                matches!(placement.home(kinds[*kind].name(), id), Home::At(_))
            };
            live.used.elapsed() >= idle || placement.as_ref().is_some_and(elsewhere)
        });
    }

    /// Lets go of the idle actors that are meant: at once, or when they are saved.
    fn let_go(&mut self, which: impl Fn(&Key, &Live) -> bool) {
        let parting = &mut self.parting;
        self.live.retain(|key, live| {
            if !live.is_idle() || !which(key, live) {
                return true;
            }
            if live.status.unsaved.get() {
                parting.push_back(key.clone());
                return true;
            }
            live.parting.do_send(Parting::Stop);
            false
        });
        self.count();
        self.save();
    }

    /// Counts the live actors. Several registries share the gauge, so each tells its differences.
    fn count(&mut self) {
        let before = std::mem::replace(&mut self.counted, self.live.len());
        MEASURES
            .live
            .increment(self.live.len() as f64 - before as f64);
    }

    /// Tells as many to save as may at once.
    fn save(&mut self) {
        while self.saving < self.options.saving
            && let Some(key) = self.parting.pop_front()
        {
            let Some(live) = self.live.get(&key) else {
                continue;
            };
            let soon = live
                .status
                .again
                .get()
                .is_some_and(|again| again > Instant::now());
            if !live.is_idle() || soon {
                continue;
            }
            live.status.saving.set(true);
            self.saving += 1;
            let saving = Saving::new(key, live.used);
            live.parting.do_send(Parting::Save(saving));
        }
    }

    /// An actor says that it is saved, or that it could not.
    pub(super) fn saved(&mut self, key: &Key, used: Instant, saved: bool) {
        self.saving = self.saving.saturating_sub(1);
        if let Some(live) = self.live.get(key) {
            let status = &live.status;
            status.saving.set(false);
            if saved {
                status.failures.set(0);
                status.again.set(None);
            } else {
                let failures = status.failures.get() + 1;
                status.failures.set(failures);
                let wait = Duration::from_secs(1 << failures.min(6)).min(PATIENCE);
                status.again.set(Some(Instant::now() + wait));
            }
            // One that was used meanwhile is no longer meant.
            if saved && live.is_idle() && live.used == used && !status.unsaved.get() {
                live.parting.do_send(Parting::Stop);
                self.live.remove(key);
                self.count();
            }
        }
        self.save();
    }

    /// Makes room for more by letting go of the least recently used tenth. Past another tenth above the bound
    /// those go too that could not save what they hold.
    fn make_room(&mut self) {
        let idle = self.live.values().filter(|live| live.is_idle());
        let mut used: Vec<Instant> = idle.map(|live| live.used).collect();
        if !used.is_empty() {
            let tenth = used.len() / 10;
            let (_, &mut horizon, _) = used.select_nth_unstable(tenth);
            self.parting.clear();
            self.let_go(|_, live| live.used <= horizon);
            let most = self.options.max_actors + self.options.max_actors / 10;
            if self.live.len() > most {
                self.drop_unsaved(horizon);
            }
        }
        let step = self.options.max_actors / 100 + 1;
        self.full = self.options.max_actors.max(self.live.len() + step);
    }

    fn drop_unsaved(&mut self, horizon: Instant) {
        let before = self.live.len();
        self.live.retain(|_, live| {
            let goes = live.is_idle() && live.used <= horizon;
            if goes {
                live.parting.do_send(Parting::Stop);
            }
            !goes
        });
        let dropped = before - self.live.len();
        MEASURES.unsaved.increment(dropped as u64);
        self.count();
        tracing::warn!(
            dropped,
            "too many actors that cannot save what they hold: outcomes without events are forgotten"
        );
    }

    /// Gives a command to the actor of its aggregate; returns it when none lives.
    pub(super) fn give(&mut self, dispatch: Dispatch) -> Option<Dispatch> {
        let connected = |live: &&mut Live| live.execute.connected();
        match self.live.get_mut(&dispatch.aggregate).filter(connected) {
            Some(live) => {
                live.give(dispatch.execute);
                None
            }
            None => Some(dispatch),
        }
    }

    /// Starts the actor of an aggregate and gives it its first command.
    pub(super) fn start(&mut self, Dispatch { aggregate, execute }: Dispatch) {
        if self.live.len() >= self.full && !self.live.contains_key(&aggregate) {
            self.make_room();
        }
        let (kind, id) = &aggregate;
        let status = Rc::<Status>::default();
        let mut live = self.kinds[*kind].start(self.log.clone(), id.clone(), status);
        live.give(execute);
        // An actor whose task ended unexpectedly is replaced: the log has all that it had.
        self.live.insert(aggregate, live);
        self.count();
    }
}

impl Live {
    /// Returns whether nothing waits for it, and it is not saving.
    fn is_idle(&self) -> bool {
        self.status.waiting.get() == 0 && !self.status.saving.get()
    }
}
