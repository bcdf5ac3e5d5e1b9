//! The live aggregates of one arbiter: starts actors on first use and passivates idle ones.
//!
//! Actors, their registry and all that they share live on one thread. An actor is passivated only
//! when nothing waits for it, and is forgotten before it is told to stop, so a command that comes
//! meanwhile starts a new one and is never lost.

use super::{
    actor::{AggregateActor, Execute, Passivate},
    measure::MEASURES,
    placement::Placement,
    turn::Desk,
};
use crate::{
    aggregate::Aggregate,
    event_log::{EventLog, subject::Id},
    membership::Home,
};
use actix::{ArbiterHandle, prelude::*};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    marker::PhantomData,
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// One kind of aggregate, erased: how to start the actor of one of them.
pub trait Kind: Send + Sync {
    /// The aggregate's name.
    fn name(&self) -> &'static str;

    /// Starts the actor of the aggregate with this id on the current arbiter.
    fn start(&self, log: EventLog, id: Id, waiting: Rc<Cell<usize>>) -> Live;
}

/// Aggregate `A` as a [`Kind`].
pub struct KindOf<A>(PhantomData<fn() -> A>);

impl<A> Default for KindOf<A> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<A: Aggregate> Kind for KindOf<A> {
    fn name(&self) -> &'static str {
        A::NAME
    }

    fn start(&self, log: EventLog, id: Id, waiting: Rc<Cell<usize>>) -> Live {
        let actor = AggregateActor::<A>::new(Desk { log, id }, waiting.clone()).start();
        Live {
            execute: actor.clone().recipient(),
            passivate: actor.recipient(),
            waiting,
            used: Instant::now(),
        }
    }
}

/// A live actor.
pub struct Live {
    execute: Recipient<Execute>,
    passivate: Recipient<Passivate>,
    waiting: Rc<Cell<usize>>,
    used: Instant,
}

impl Live {
    fn give(&mut self, execute: Execute) {
        self.used = Instant::now();
        self.waiting.set(self.waiting.get() + 1);
        self.execute.do_send(execute);
    }
}

/// When actors are passivated.
#[derive(Debug, Clone, Copy)]
pub struct RegistryOptions {
    /// An actor that was not used for so long is passivated.
    pub idle: Duration,
    /// The most live actors of one arbiter; past it the least recently used idle ones go first.
    pub max_actors: usize,
}

/// A command on its way to the actor of its aggregate.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Dispatch {
    /// The index of the aggregate's kind, and its id.
    pub aggregate: (usize, Id),
    /// The command.
    pub execute: Execute,
}

/// Where the registry of one arbiter is reached.
#[derive(Clone)]
pub struct RegistryHandle {
    number: u64,
    address: Addr<Registry>,
}

impl RegistryHandle {
    /// Gives it a command: at once on its own thread to an actor that lives, by its mailbox from other
    /// threads and where an actor is to be started, which not every task of the thread may do.
    pub fn dispatch(&self, dispatch: Dispatch) {
        let own = HERE.with_borrow(|(number, table)| match *number == self.number {
            true => table.upgrade(),
            false => None,
        });
        let not_given = match own {
            Some(table) => table.borrow_mut().give(dispatch),
            None => Some(dispatch),
        };
        if let Some(dispatch) = not_given {
            self.address.do_send(dispatch);
        }
    }

    /// Asks it to let go of what is idle, and of what has its home elsewhere.
    pub fn sweep(&self) {
        self.address.do_send(Sweep);
    }
}

thread_local! {
    /// The registry of this thread, with its number; none has the number 0.
    static HERE: RefCell<(u64, Weak<RefCell<Table>>)> = const { RefCell::new((0, Weak::new())) };
}

/// The registry of one arbiter.
pub struct Registry {
    number: u64,
    table: Rc<RefCell<Table>>,
}

struct Table {
    log: EventLog,
    kinds: Arc<[Arc<dyn Kind>]>,
    options: RegistryOptions,
    /// Where homes are; `None` when all are here.
    placement: Option<Placement>,
    live: HashMap<(usize, Id), Live>,
}

/// Asks for the passivation of what is idle, and of what has its home elsewhere.
#[derive(Message)]
#[rtype(result = "()")]
struct Sweep;

impl Registry {
    /// Starts an empty registry on an arbiter.
    #[must_use]
    pub fn start(
        arbiter: &ArbiterHandle,
        log: EventLog,
        kinds: Arc<[Arc<dyn Kind>]>,
        options: RegistryOptions,
        placement: Option<Placement>,
    ) -> RegistryHandle {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let address = Self::start_in_arbiter(arbiter, move |_| Self {
            number,
            table: Rc::new(RefCell::new(Table {
                log,
                kinds,
                options,
                placement,
                live: HashMap::new(),
            })),
        });
        RegistryHandle { number, address }
    }
}

impl Table {
    fn passivate(&mut self, which: impl Fn(&(usize, Id), &Live) -> bool) {
        let before = self.live.len();
        self.live.retain(|key, live| {
            let goes = live.waiting.get() == 0 && which(key, live);
            if goes {
                live.passivate.do_send(Passivate);
            }
            !goes
        });
        MEASURES.live.decrement((before - self.live.len()) as f64);
    }

    fn sweep(&mut self) {
        let idle = self.options.idle;
        let (kinds, placement) = (self.kinds.clone(), self.placement.clone());
        self.passivate(|(kind, id), live| {
            let elsewhere = |placement: &Placement| {
                matches!(placement.home(kinds[*kind].name(), id), Home::At(_))
            };
            live.used.elapsed() >= idle || placement.as_ref().is_some_and(elsewhere)
        });
    }

    /// Makes room for one more actor by passivating the least recently used tenth.
    fn make_room(&mut self) {
        let mut used: Vec<Instant> = self
            .live
            .values()
            .filter(|live| live.waiting.get() == 0)
            .map(|live| live.used)
            .collect();
        if used.is_empty() {
            return;
        }
        let tenth = used.len() / 10;
        let (_, &mut horizon, _) = used.select_nth_unstable(tenth);
        self.passivate(|_, live| live.used <= horizon);
    }

    /// Gives a command to the actor of its aggregate; returns it when none lives.
    fn give(&mut self, dispatch: Dispatch) -> Option<Dispatch> {
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
    fn start(&mut self, Dispatch { aggregate, execute }: Dispatch) {
        if self.live.len() >= self.options.max_actors && !self.live.contains_key(&aggregate) {
            self.make_room();
        }
        // An actor whose task ended unexpectedly is replaced: the log has all that it had.
        if self.live.remove(&aggregate).is_none() {
            MEASURES.live.increment(1.0);
        }
        let (kind, id) = &aggregate;
        let mut live = self.kinds[*kind].start(self.log.clone(), id.clone(), Rc::default());
        live.give(execute);
        self.live.insert(aggregate, live);
    }
}

impl Actor for Registry {
    type Context = actix::Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(1024);
        HERE.set((self.number, Rc::downgrade(&self.table)));
        let often = self.table.borrow().options.idle / 4;
        let often = often.max(Duration::from_millis(10));
        context.run_interval(often, |registry, _| registry.table.borrow_mut().sweep());
    }
}

impl Handler<Sweep> for Registry {
    type Result = ();

    fn handle(&mut self, _: Sweep, _: &mut Self::Context) {
        self.table.borrow_mut().sweep();
    }
}

impl Handler<Dispatch> for Registry {
    type Result = ();

    fn handle(&mut self, dispatch: Dispatch, _: &mut Self::Context) {
        let mut table = self.table.borrow_mut();
        if let Some(dispatch) = table.give(dispatch) {
            table.start(dispatch);
        }
    }
}
