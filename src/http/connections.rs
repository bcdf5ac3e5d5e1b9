//! The connections of clients: how many there may be, and which gives way to a new one.
//!
//! Each costs one descriptor, of which a process has only so many, and the store's files and NATS
//! need some too. So there is a limit below that. When it is reached, the connection that has been
//! idle the longest is closed for the new one. Where none is idle the new one is [`spare`]: it is
//! told that there are too many, unless it asks how the replica is.
//!
//! [`spare`]: Occupied::is_spare

mod explained;
mod refusal;
mod stream;
#[cfg(test)]
mod tests;
mod transport;

pub(super) use refusal::{refuse, too_many};
pub(super) use stream::ClientStream;
pub(super) use transport::Transport;

use crate::{access::network, problem::Problem};
use futures::task::AtomicWaker;
use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Connections beyond the limit, for those who ask how the replica is.
pub(super) const SPARE: usize = 16;
/// Connections that may be on their way out, beyond all others.
pub(super) const LEAVING: usize = 16;
/// One in so many of all connections gives way at once, so that the idle ones are not looked for each
/// time.
const SHARE: usize = 64;
/// The pause between two warnings that there are too many.
const TOLD_EVERY: Duration = Duration::from_secs(30);

/// The connections of one gateway. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: usize,
    /// The most of them that may be of one network; as many as there may be with `None`.
    of_one: Option<NonZeroU32>,
    /// The moment that the times of connections are counted from.
    epoch: Instant,
    /// True if each is to be closed after its next answer.
    draining: AtomicBool,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    regular: HashMap<u64, Arc<Connection>>,
    spare: HashMap<u64, Arc<Connection>>,
    /// The number of them that are of each network, where that is bounded.
    networks: HashMap<u64, u32>,
    told: Option<Instant>,
}

impl Connections {
    /// None yet, and at most so many.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self::bounded(limit, None)
    }

    /// As [`Connections::new`], and so many of one address at most; of IPv6, of one network (/64).
    #[must_use]
    pub fn bounded(limit: usize, of_one: Option<NonZeroU32>) -> Self {
        Self(Arc::new(Shared {
            limit: limit.max(1),
            of_one,
            epoch: Instant::now(),
            draining: AtomicBool::new(false),
            open: Mutex::default(),
        }))
    }

    /// Tells clients with their next answer to connect anew, to another replica.
    pub fn drain(&self) {
        self.0.draining.store(true, Relaxed);
    }

    /// Makes room for a connection from an address, or says why there is none: even those who ask how the replica
    /// is are too many, or those of this address.
    pub(super) fn admit(&self, from: Option<IpAddr>) -> Result<Place, Problem> {
        let mut open = self.0.open();
        let limit = self.0.limit;
        let network = self.0.of_one.and(from).map(network);
        let of_it = network.and_then(|network| open.networks.get(&network));
        if let (Some(most), Some(of_it)) = (self.0.of_one, of_it)
            && *of_it >= most.get()
        {
            metrics::counter!("headwater_http_connections_refused_total").increment(1);
            return Err(Problem::too_many_requests(
                1,
                "too many connections of this address are open",
            ));
        }
        if open.regular.len() >= limit {
            let share = limit.div_ceil(SHARE);
            close_idle(&mut open.regular, share);
        }
        let spare = open.regular.len() >= limit;
        if spare {
            tell(&mut open, limit);
            if open.spare.len() >= SPARE {
                close_idle(&mut open.spare, 1);
            }
            if open.spare.len() >= SPARE {
                metrics::counter!("headwater_http_connections_refused_total").increment(1);
                return Err(too_many());
            }
        }
        let number = open.next;
        open.next += 1;
        if let Some(network) = network {
            *open.networks.entry(network).or_default() += 1;
        }
        let connection = Arc::new(Connection {
            number,
            spare,
            network,
            shared: Arc::clone(&self.0),
            under_way: AtomicU32::new(0),
            blocked: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            active: AtomicU64::new(self.0.now()),
            task: AtomicWaker::new(),
        });
        let kind = if spare {
            &mut open.spare
        } else {
            &mut open.regular
        };
        kind.insert(number, Arc::clone(&connection));
        metrics::gauge!("headwater_http_connections").increment(1);
        Ok(Place(connection))
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Closes up to `count` of the connections that have been idle for the longest.
fn close_idle(connections: &mut HashMap<u64, Arc<Connection>>, count: usize) {
    let mut idle: Vec<_> = connections
        .values()
        .filter(|connection| connection.is_idle())
        .map(|connection| (connection.active.load(Relaxed), connection.number))
        .collect();
    if count < idle.len() {
        idle.select_nth_unstable(count);
        idle.truncate(count);
    }
    for (_, number) in idle {
        if let Some(connection) = connections.remove(&number) {
            metrics::counter!("headwater_http_connections_closed_total", "reason" => "idle")
                .increment(1);
            connection.cut();
        }
    }
}

fn tell(open: &mut Open, limit: usize) {
    if open.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
        open.told = Some(Instant::now());
        tracing::warn!(
            connections.limit = limit,
            "too many clients are connected and none of them is idle: further ones are refused"
        );
    }
}

/// One connection, as whoever answers on it sees it.
#[derive(Debug)]
pub(super) struct Connection {
    number: u64,
    spare: bool,
    /// The network that it comes from, where that is counted.
    network: Option<u64>,
    shared: Arc<Shared>,
    /// Requests that are being answered, and streams that go on.
    under_way: AtomicU32,
    /// True while the client has not taken what was written.
    blocked: AtomicBool,
    cut: AtomicBool,
    /// The time when it last began to be idle, in microseconds of the gateway's.
    active: AtomicU64,
    /// The task that serves it.
    task: AtomicWaker,
}

impl Connection {
    /// Ends it, even while the server waits for it to take what is written: a client that reads nothing
    /// would keep it, and its place, for as long as it likes.
    pub(super) fn cut(&self) {
        self.cut.store(true, Relaxed);
        self.task.wake();
    }

    /// Keeps it from being taken for idle until what is returned is dropped.
    pub(super) fn occupy(self: &Arc<Self>) -> Occupied {
        self.under_way.fetch_add(1, Relaxed);
        Occupied(Arc::clone(self))
    }

    fn is_idle(&self) -> bool {
        self.under_way.load(Relaxed) == 0 && !self.blocked.load(Relaxed)
    }
}

/// Something is under way on a connection.
#[derive(Debug)]
pub(super) struct Occupied(Arc<Connection>);

impl Occupied {
    /// Returns whether the connection is beyond the limit, and only there for those who ask how the replica is.
    pub(super) fn is_spare(&self) -> bool {
        self.0.spare
    }

    /// Returns whether the client is to connect anew after its next answer.
    pub(super) fn is_to_close(&self) -> bool {
        self.0.spare || self.0.shared.draining.load(Relaxed)
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.active.store(self.0.shared.now(), Relaxed);
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

/// The place of an open connection among all of them.
#[derive(Debug)]
pub(super) struct Place(Arc<Connection>);

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.0.shared.open();
        open.regular.remove(&self.0.number);
        open.spare.remove(&self.0.number);
        if let Some(network) = self.0.network
            && let Entry::Occupied(mut of_it) = open.networks.entry(network)
        {
            *of_it.get_mut() -= 1;
            if *of_it.get() == 0 {
                of_it.remove();
            }
        }
        metrics::gauge!("headwater_http_connections").decrement(1);
    }
}
