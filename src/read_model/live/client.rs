//! A client that follows something: what waits to be sent to it, and what it has.

use super::{Delivery, EventId, LiveEvent, LiveKind, hash, hub::ViewLive, pending::Pending};
use crate::{problem::Problem, read_model::visible::Visible};
use futures::Stream;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::time::Instant;

/// The number of documents that may wait to be sent to one client before it is cut off: more than a list has.
pub(super) const MAX_PENDING: usize = 4 * super::MAX_LIVE_DOCUMENTS;
/// The number of bytes that may wait to be sent to one client before it is cut off. Clients of the same
/// documents share them.
pub(super) const MAX_PENDING_BYTES: usize = 16 << 20;
/// The time something may wait for a client that takes nothing before it is cut off.
pub(super) const MAX_BEHIND: Duration = Duration::from_secs(10);

/// A client that follows something.
#[derive(Default)]
pub(in crate::read_model) struct Client {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// True if it has begun.
    started: bool,
    /// The beginning, once that has been read.
    start: Option<Start>,
    pending: Pending,
    /// Since when it has taken nothing of what waits.
    waiting: Option<Instant>,
    /// The client's knowledge of each document, by the hash of the id.
    seen: HashMap<u64, Seen>,
    ended: bool,
    waker: Option<Waker>,
    cut: Option<Box<dyn FnOnce() + Send>>,
}

struct Start {
    /// The documents that are there at the start.
    initial: VecDeque<Arc<LiveEvent>>,
    /// The position that it has everything of once it has that.
    from: EventId,
    /// The last break of which it needs nothing made up for: what is there was read after it.
    epoch: u64,
}

#[derive(Clone, Copy)]
struct Seen {
    version: u64,
    /// The hash of what was sent of it; none of what the client says that it has.
    print: Option<u64>,
}

impl Seen {
    fn of(event: &LiveEvent) -> Self {
        Self {
            version: event.version,
            print: Some(event.print),
        }
    }
}

impl Queue {
    /// Returns whether the event is news to the client; notes that it has it. In general the version tells. What
    /// makes up for a break may be of any version, and is news where it is not the same.
    fn admit(&mut self, event: &LiveEvent) -> bool {
        let key = hash(event.id.as_bytes());
        let seen = self.seen.get(&key).copied();
        let made_up = |epoch| {
            self.start
                .as_ref()
                .is_some_and(|start| start.epoch >= epoch)
        };
        if event.again.is_some_and(made_up) {
            return false;
        }
        match event.kind {
            LiveKind::Put => {
                let news = match event.again {
                    Some(_) => seen.is_none_or(|seen| seen.print != Some(event.print)),
                    None => seen.is_none_or(|seen| seen.version < event.version),
                };
                if news {
                    self.seen.insert(key, Seen::of(event));
                }
                news
            }
            LiveKind::Delete | LiveKind::Leave => {
                let news =
                    seen.is_some_and(|seen| event.again.is_some() || seen.version <= event.version);
                if news {
                    self.seen.remove(&key);
                }
                news
            }
            LiveKind::Reset | LiveKind::Problem => true,
        }
    }

    fn push(&mut self, event: &Arc<LiveEvent>, now: Instant) {
        self.waiting.get_or_insert(now);
        self.pending.push(Arc::clone(event));
    }

    fn is_behind(&self, now: Instant) -> bool {
        let started = self.start.is_some();
        let waits = |since| started && now.duration_since(since) > MAX_BEHIND;
        self.pending.len() > MAX_PENDING
            || (self.pending.bytes() > MAX_PENDING_BYTES && self.pending.len() > 1)
            || self.waiting.is_some_and(waits)
    }

    fn pop(&mut self) -> Option<Delivery> {
        let start = self.start.as_mut()?;
        let event = match start.initial.pop_front() {
            Some(event) => event,
            None => self.pending.pop()?,
        };
        if start.initial.is_empty() {
            start.initial = VecDeque::new();
        }
        let next = start.initial.front().or_else(|| self.pending.front());
        let resumes = next.is_none_or(|next| event.from.position < next.from.position);
        self.waiting = (!self.pending.is_empty()).then(Instant::now);
        Some(Delivery { event, resumes })
    }
}

impl Client {
    /// Begins with these events, the client then having these documents and everything up to `from`;
    /// what was offered meanwhile follows.
    pub(super) fn start(
        &self,
        initial: Vec<Arc<LiveEvent>>,
        has: &[Arc<LiveEvent>],
        from: EventId,
        epoch: u64,
    ) {
        let key = |event: &Arc<LiveEvent>| hash(event.id.as_bytes());
        let puts = initial.iter().filter(|event| event.kind == LiveKind::Put);
        let sent: HashSet<u64> = puts.map(key).collect();
        let mut queue = self.lock();
        queue.started = true;
        queue.start = Some(Start {
            initial: initial.into(),
            from,
            epoch,
        });
        let seen = |event: &Arc<LiveEvent>| {
            let (key, seen) = (key(event), Seen::of(event));
            let print = seen.print.filter(|_| sent.contains(&key));
            (key, Seen { print, ..seen })
        };
        queue.seen = has.iter().map(seen).collect();
        let mut meanwhile = std::mem::take(&mut queue.pending);
        queue.waiting = None;
        let now = Instant::now();
        while let Some(event) = meanwhile.pop() {
            if queue.admit(&event) {
                queue.push(&event, now);
            }
        }
    }

    /// Queues those of the events that are news. A client that is too far behind is cut off.
    pub(super) fn offer(&self, events: &[Arc<LiveEvent>], now: Instant) {
        let mut queue = self.lock();
        if queue.ended {
            return;
        }
        let mut news = false;
        for event in events {
            if queue.start.is_none() || queue.admit(event) {
                queue.push(event, now);
                news = true;
            }
        }
        if !news {
            return;
        }
        if queue.is_behind(now) {
            metrics::counter!("headwater_live_cut_total").increment(1);
            return end(queue, true);
        }
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends it after what is queued.
    pub(super) fn end(&self) {
        end(self.lock(), false);
    }

    /// Ends it after what is queued, and says why.
    pub(super) fn refuse(&self, problem: &Problem) {
        let mut queue = self.lock();
        if !queue.ended {
            let event = Arc::new(LiveEvent::problem(problem));
            queue.push(&event, Instant::now());
            end(queue, false);
        }
    }

    pub(super) fn is_started(&self) -> bool {
        self.lock().started
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(mut queue: MutexGuard<'_, Queue>, cut: bool) {
    queue.ended = true;
    let broken = cut.then(|| {
        queue.start = None;
        queue.pending = Pending::default();
        queue.cut.take()
    });
    let waker = queue.waker.take();
    drop(queue);
    if let Some(Some(broken)) = broken {
        broken();
    }
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The changes of what one client follows. It ends when the replica stops, when it is read too slowly,
/// or when what is followed has grown beyond bounds; who is told how far it came may follow again.
pub struct Subscription {
    pub(super) client: Arc<Client>,
    /// The place where the client is to be taken from when it goes.
    pub(super) place: Option<Place>,
    /// The last break before it began.
    pub(super) epoch: u64,
    /// The rows of the followed document that its client may see; a list has its filters for that.
    pub(super) visible: Visible,
    /// True if the document is not visible any more.
    pub(super) hidden: bool,
}

/// The documents that a client follows, and of which view.
pub(super) struct Place {
    pub(super) view: Arc<ViewLive>,
    pub(super) what: Followed,
}

/// A document or a list that is followed.
pub(super) enum Followed {
    Document(Box<str>),
    List(u64),
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

impl Subscription {
    /// Begins to send: these events, to a client that then has these documents, and everything up to
    /// `from`. Returns whether it has: where anything may have changed while they were read, they are
    /// to be read again.
    #[must_use]
    pub(in crate::read_model) fn start(
        &self,
        initial: Vec<Arc<LiveEvent>>,
        has: &[Arc<LiveEvent>],
        from: EventId,
    ) -> bool {
        match &self.place {
            Some(place) => place.view.start(self, &place.what, initial, has, from),
            None => false,
        }
    }

    /// Sends the document only as long as it is among these, and then that it is gone.
    pub(in crate::read_model) fn seen_by(mut self, visible: Visible) -> Self {
        self.visible = visible;
        self
    }

    /// Says what to do at once when this is read too slowly: its reader is not there to be told.
    pub fn on_cut(&self, cut: impl FnOnce() + Send + 'static) {
        self.client.lock().cut = Some(Box::new(cut));
    }

    /// Returns where to go on from now, if all that there was to send has been taken.
    #[must_use]
    pub fn reached(&self) -> Option<EventId> {
        // First: what is offered after this look is beyond it.
        let done = self.place.as_ref()?.view.done();
        let mut queue = self.client.lock();
        let idle = queue.pending.is_empty() && !queue.ended;
        let start = queue.start.as_mut()?;
        if !idle || !start.initial.is_empty() {
            return None;
        }
        Some(match done {
            Some(done) if done.edition != start.from.edition => done,
            Some(done) if done.position > start.from.position => done,
            _ => start.from.clone(),
        })
    }

    /// Some events, and then the end.
    #[cfg(test)]
    pub(crate) fn of(events: Vec<LiveEvent>) -> Self {
        let client = Arc::new(Client::default());
        let events = events.into_iter().map(Arc::new).collect();
        client.start(events, &[], EventId::new("".into(), 0), 0);
        client.end();
        Self {
            client,
            place: None,
            epoch: 0,
            visible: Visible::All,
            hidden: false,
        }
    }
}

impl Stream for Subscription {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.hidden {
            return Poll::Ready(None);
        }
        let client = Arc::clone(&self.client);
        let mut queue = client.lock();
        if let Some(delivery) = queue.pop() {
            drop(queue);
            let event = &delivery.event;
            if event.kind != LiveKind::Put || self.visible.shows(&event.body) {
                return Poll::Ready(Some(delivery));
            }
            let (id, from) = (&event.id, event.from.clone());
            let gone = LiveEvent::gone(LiveKind::Delete, id, from, event.version);
            let event = Arc::new(gone);
            self.hidden = true;
            return Poll::Ready(Some(Delivery { event, ..delivery }));
        }
        if queue.ended {
            return Poll::Ready(None);
        }
        queue.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            place.view.leave(&self.client, &place.what);
        }
    }
}

/// A list that is followed, and told what a test tells it.
#[cfg(test)]
pub(crate) struct Feed(Arc<ViewLive>);

#[cfg(test)]
impl Feed {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(ViewLive::new(0)))
    }

    pub(crate) fn follow(&self) -> Subscription {
        let following = self.0.follow_list(&super::tests::everything(), Vec::new());
        let following = following.unwrap_or_else(|_| unreachable!("it is not closed"));
        let from = EventId::new("v1".into(), 0);
        assert!(following.start(Vec::new(), &[], from));
        following
    }

    pub(crate) fn put(&self, id: &str, version: u64, document: &str) {
        let document = crate::read_model::ServedDocument::new("v", id, version, document);
        self.0.offer(vec![(id.into(), Some(document))], version);
    }
}
