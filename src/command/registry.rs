//! The live aggregates of one arbiter: starts actors on first use and passivates idle ones.
//!
//! Actors, their registry and all that they share live on one thread. An actor is passivated only
//! when nothing waits for it and nothing that it holds would be lost, and is forgotten before it is told
//! to stop, so a command that comes meanwhile starts a new one and is never lost.

mod table;

use super::{
    actor::{AggregateActor, Execute, Parting},
    placement::Placement,
    turn::Desk,
};
use crate::{
    aggregate::Aggregate,
    event_log::{EventLog, subject::Id},
};
use actix::{ArbiterHandle, prelude::*};
use std::{
    cell::{Cell, RefCell},
    marker::PhantomData,
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use table::Table;

/// One kind of aggregate, erased: how to start the actor of one of them.
pub trait Kind: Send + Sync {
    /// The aggregate's name.
    fn name(&self) -> &'static str;

    /// Starts the actor of the aggregate with this id on the current arbiter.
    fn start(&self, log: EventLog, id: Id, status: Rc<Status>) -> Live;
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

    fn start(&self, log: EventLog, id: Id, status: Rc<Status>) -> Live {
        let actor = AggregateActor::<A>::new(Desk { log, id }, status.clone()).start();
        Live {
            execute: actor.clone().recipient(),
            parting: actor.recipient(),
            status,
            used: Instant::now(),
        }
    }
}

/// A live actor.
pub struct Live {
    execute: Recipient<Execute>,
    parting: Recipient<Parting>,
    status: Rc<Status>,
    used: Instant,
}

/// Knowledge that an actor and its registry share of each other.
#[derive(Debug, Default)]
pub struct Status {
    /// The number of commands that are on their way to the actor, wait there or are under way. The registry counts
    /// them in and the actor counts them out.
    pub waiting: Cell<usize>,
    /// True while the actor holds what would be lost with it, or be slow to find again.
    pub unsaved: Cell<bool>,
    /// True while the actor is saving.
    saving: Cell<bool>,
    /// The number of failures in a row, and the time of the next try.
    failures: Cell<u32>,
    again: Cell<Option<Instant>>,
}

impl Live {
    fn give(&mut self, execute: Execute) {
        self.used = Instant::now();
        let waiting = &self.status.waiting;
        waiting.set(waiting.get() + 1);
        self.execute.do_send(execute);
    }
}

/// The rules by which actors are passivated.
#[derive(Debug, Clone, Copy)]
pub struct RegistryOptions {
    /// An actor that was not used for so long is passivated.
    pub idle: Duration,
    /// The most live actors of one arbiter; past it the least recently used idle ones go first.
    pub max_actors: usize,
    /// The most actors of one arbiter that save what they hold at once.
    pub saving: usize,
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

/// The way to the registry of one arbiter.
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

    /// Returns how many actors are to be saved before it lets go of them.
    pub async fn parting(&self) -> usize {
        self.address.send(CountParting).await.unwrap_or(0)
    }
}

thread_local! {
    /// The registry of this thread, with its number; none has the number 0.
    static HERE: RefCell<(u64, Weak<RefCell<Table>>)> = const { RefCell::new((0, Weak::new())) };
}

/// Tells the registry of this thread whether an actor has saved what it holds.
pub(super) fn saved(aggregate: &(usize, Id), used: Instant, saved: bool) {
    // A message to an actor that has ended is dropped while the registry sends it: the next sweep sees that.
    let own = HERE.try_with(|here| here.borrow().1.upgrade());
    if let Ok(Some(table)) = own
        && let Ok(mut table) = table.try_borrow_mut()
    {
        table.saved(aggregate, used, saved);
    }
}

/// The registry of one arbiter.
pub struct Registry {
    number: u64,
    table: Rc<RefCell<Table>>,
}

/// Asks for the passivation of what is idle, and of what has its home elsewhere.
#[derive(Message)]
#[rtype(result = "()")]
struct Sweep;

/// Asks how many actors are to be saved before they go.
#[derive(Message)]
#[rtype(result = "usize")]
struct CountParting;

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
            table: Rc::new(RefCell::new(Table::new(log, kinds, options, placement))),
        });
        RegistryHandle { number, address }
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

impl Handler<CountParting> for Registry {
    type Result = usize;

    fn handle(&mut self, _: CountParting, _: &mut Self::Context) -> usize {
        self.table.borrow().parting()
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
