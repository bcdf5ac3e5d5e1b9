//! Documents that are followed: what they are now, then each change.
//!
//! One [`hub::ViewLive`] a view observes its watermark, reads what has changed once, and offers it to
//! all who follow it. Each of them has a [`Client`]: a short queue in which a newer state of a document
//! replaces the one before. Who does not keep up is cut off; nothing is buffered without bound.
//!
//! The position of an event is one to go on from: everything up to it has been sent before it.

mod condition;
pub(super) mod hub;

pub(super) use condition::Condition;

use bytes::Bytes;
use futures::Stream;
use hub::ViewLive;
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::{BuildHasher, RandomState},
    pin::Pin,
    sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
};

/// How many documents may wait to be sent to one client before it is cut off.
const MAX_PENDING: usize = 256;
/// How many bytes may wait to be sent to one client before it is cut off.
const MAX_PENDING_BYTES: usize = 1 << 20;

/// What has become of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveKind {
    /// It is there, and this is it.
    Put,
    /// It is gone.
    Delete,
    /// It is there, but is not what is followed any more.
    Leave,
    /// What was sent before the connection broke is to be forgotten: all documents follow again.
    Reset,
}

/// One change as it is sent.
#[derive(Debug)]
pub struct LiveEvent {
    /// What has become of the document.
    pub kind: LiveKind,
    /// The document's id; empty for a reset.
    pub id: Arc<str>,
    /// Where to go on from once this has been received.
    pub position: u64,
    /// A stored document as JSON; an object with the id alone where there is none.
    pub body: Bytes,
    /// The position of the document's last change, or up to which it is known to be gone.
    version: u64,
    rendered: OnceLock<Bytes>,
}

impl LiveEvent {
    pub(crate) fn put(id: &str, position: u64, version: u64, body: Bytes) -> Arc<Self> {
        Self::new(LiveKind::Put, id, position, version, body)
    }

    pub(crate) fn gone(kind: LiveKind, id: &str, position: u64, version: u64) -> Arc<Self> {
        // An id has nothing in it that JSON would escape.
        let body = Bytes::from(format!(r#"{{"id":"{id}"}}"#));
        Self::new(kind, id, position, version, body)
    }

    pub(super) fn reset() -> Arc<Self> {
        Self::new(LiveKind::Reset, "", 0, 0, Bytes::from_static(b"{}"))
    }

    fn new(kind: LiveKind, id: &str, position: u64, version: u64, body: Bytes) -> Arc<Self> {
        Arc::new(Self {
            kind,
            id: id.into(),
            position,
            body,
            version,
            rendered: OnceLock::new(),
        })
    }

    /// The event as a surface writes it, made once for all clients.
    pub fn rendered(&self, render: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.rendered.get_or_init(|| render(self)).clone()
    }
}

/// Who follows something.
#[derive(Default)]
pub(super) struct Client {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// Whether what is there at the start has been read.
    started: bool,
    /// What is there at the start.
    initial: VecDeque<Arc<LiveEvent>>,
    pending: VecDeque<Arc<LiveEvent>>,
    pending_bytes: usize,
    /// The documents that the client has, by the hash of their ids, and their versions.
    seen: HashMap<u64, u64>,
    ended: bool,
    waker: Option<Waker>,
    cut: Option<Box<dyn FnOnce() + Send>>,
}

/// Ids are told apart by a hash: 8 bytes instead of a string for each document of each client.
fn key(id: &str) -> u64 {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    HASHER.hash_one(id)
}

impl Queue {
    /// Whether the event is news to the client; notes that it has it.
    fn admit(&mut self, event: &LiveEvent) -> bool {
        let key = key(&event.id);
        let seen = self.seen.get(&key).copied();
        match event.kind {
            LiveKind::Put => {
                let news = seen.is_none_or(|seen| seen < event.version);
                if news {
                    self.seen.insert(key, event.version);
                }
                news
            }
            LiveKind::Delete | LiveKind::Leave => {
                let news = seen.is_some_and(|seen| seen <= event.version);
                if news {
                    self.seen.remove(&key);
                }
                news
            }
            LiveKind::Reset => true,
        }
    }

    /// Puts the event last, instead of an older one of the same document.
    fn push(&mut self, event: &Arc<LiveEvent>) {
        if let Some(older) = self.pending.iter().position(|other| other.id == event.id)
            && let Some(older) = self.pending.remove(older)
        {
            self.pending_bytes -= older.body.len();
        }
        self.pending_bytes += event.body.len();
        self.pending.push_back(Arc::clone(event));
    }

    fn is_behind(&self) -> bool {
        self.pending.len() > MAX_PENDING
            || (self.pending_bytes > MAX_PENDING_BYTES && self.pending.len() > 1)
    }

    fn pop(&mut self) -> Option<Arc<LiveEvent>> {
        if let Some(event) = self.initial.pop_front() {
            if self.initial.is_empty() {
                self.initial = VecDeque::new();
            }
            return Some(event);
        }
        let event = self.started.then(|| self.pending.pop_front())??;
        self.pending_bytes -= event.body.len();
        Some(event)
    }
}

impl Client {
    /// Begins with these events, the client then having these documents; what was offered
    /// meanwhile follows.
    fn start(&self, initial: Vec<Arc<LiveEvent>>, has: &[(String, u64)]) {
        let mut queue = self.lock();
        queue.started = true;
        queue.initial = initial.into();
        queue.seen = has
            .iter()
            .map(|(id, version)| (key(id), *version))
            .collect();
        let meanwhile = std::mem::take(&mut queue.pending);
        queue.pending_bytes = 0;
        for event in &meanwhile {
            if queue.admit(event) {
                queue.push(event);
            }
        }
    }

    /// Queues the event if it is news. A client that is too far behind is cut off.
    fn offer(&self, event: &Arc<LiveEvent>) {
        let mut queue = self.lock();
        if queue.ended || (queue.started && !queue.admit(event)) {
            return;
        }
        queue.push(event);
        if queue.is_behind() {
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
    fn end(&self) {
        end(self.lock(), false);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(mut queue: MutexGuard<'_, Queue>, cut: bool) {
    queue.ended = true;
    let broken = cut.then(|| {
        queue.initial.clear();
        queue.pending.clear();
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

/// The changes of what one client follows. It ends when the replica stops, when changes may have been
/// missed, or when it is read too slowly; one who is told how far they were may follow again.
pub struct Subscription {
    client: Arc<Client>,
    /// Where the client is to be taken from when it goes.
    view: Option<Arc<ViewLive>>,
    /// The document that is followed; a list where it is none.
    document: Option<Box<str>>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

impl Subscription {
    /// Begins to send: these events, to a client that then has these documents at these versions.
    pub(super) fn start(&self, initial: Vec<Arc<LiveEvent>>, has: &[(String, u64)]) {
        self.client.start(initial, has);
    }

    /// What to do at once when this is read too slowly: its reader is not there to be told.
    pub fn on_cut(&self, cut: impl FnOnce() + Send + 'static) {
        self.client.lock().cut = Some(Box::new(cut));
    }

    /// Some events, and then the end.
    #[cfg(test)]
    pub(crate) fn of(events: Vec<Arc<LiveEvent>>) -> Self {
        let client = Arc::new(Client::default());
        client.start(events, &[]);
        client.end();
        Self {
            client,
            view: None,
            document: None,
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
        let following = self.0.follow_list(Vec::new());
        let following = following.unwrap_or_else(|_| unreachable!("it is not closed"));
        following.start(Vec::new(), &[]);
        following
    }

    pub(crate) fn put(&self, id: &str, version: u64, document: &str) {
        let document = super::ServedDocument::new("v", id, version, document);
        self.0.offer(id, Some(&document), version);
    }
}

impl Stream for Subscription {
    type Item = Arc<LiveEvent>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut queue = self.client.lock();
        if let Some(event) = queue.pop() {
            return Poll::Ready(Some(event));
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
        if let Some(view) = &self.view {
            view.leave(&self.client, self.document.as_deref());
        }
    }
}

#[cfg(test)]
mod tests;
