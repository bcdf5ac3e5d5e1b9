//! The clients that follow one view, and what has changed lately.

use super::{
    Condition, EventId, LiveEvent, LiveKind, MAX_GROWN, ReadDocument,
    change::{Change, by_position, parse},
    client::{Client, Followed, Place, Subscription},
    topics::{TopicId, Topics},
};
use crate::{
    problem::Problem,
    read_model::{
        announcement::Applied,
        parameters::ListQuery,
        visible::Visible,
        watermark::{FreshDocument, Observer},
    },
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::Notify, time::Instant};

/// For how many changes back a client that comes again can be told what it missed.
const RECENT: usize = 8_192;
/// The number of changes that may wait to be read. Beyond, all that is followed is read again: it is cheaper.
const MAX_BACKLOG: usize = 65_536;
/// The time to stay away from a list that has grown too large, in seconds.
const GROWN_RETRY: u32 = 60;

/// The clients of one view, and its changes.
#[derive(Default)]
pub(in crate::read_model) struct ViewLive {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    documents: HashMap<String, Vec<Arc<Client>>>,
    lists: Topics,
    backlog: Log,
    recent: Log,
    /// The position after which `recent` has every change.
    recent_from: u64,
    /// The position of the last change that was told.
    position: u64,
    /// The number of times that anything may have changed, by what was not told or not in its turn. What was read
    /// before such a break says nothing of what is there after it.
    breaks: u64,
    /// The position of a break that has not been made up for.
    broken: Option<u64>,
    /// The position that is sent from, and up to where everything has been offered; not known while nobody follows.
    done: Option<EventId>,
    /// True if somebody works on the backlog.
    running: bool,
    closed: bool,
}

#[derive(Default)]
struct Log {
    entries: VecDeque<Arc<Applied>>,
    ids: usize,
}

impl Log {
    fn push(&mut self, applied: Arc<Applied>) {
        self.ids += applied.ids.len();
        self.entries.push_back(applied);
    }

    fn pop(&mut self) -> Option<Arc<Applied>> {
        let applied = self.entries.pop_front()?;
        self.ids -= applied.ids.len();
        Some(applied)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl State {
    fn is_followed(&self) -> bool {
        !(self.lists.is_empty() && self.documents.is_empty())
    }

    fn clients(&self) -> impl Iterator<Item = &Arc<Client>> {
        let documents = self.documents.values().flatten();
        self.lists.clients().chain(documents)
    }

    /// Notes that anything may have changed up to a position.
    fn break_at(&mut self, position: u64) {
        self.breaks += 1;
        self.backlog.clear();
        if self.is_followed() {
            self.broken = Some(position);
        } else {
            self.done = None;
        }
    }

    fn done_to(&mut self, position: u64) {
        if let Some(done) = &mut self.done
            && done.position < position
        {
            *done = done.at(position);
        }
    }
}

/// The documents to be read, and offered to those who follow them.
pub(in crate::read_model) enum Work {
    /// These documents have changed by a transaction that came to this position.
    Changed { ids: Vec<String>, position: u64 },
    /// Anything may have changed: all that is followed is to be read.
    Again(Again),
    /// Nothing for now.
    Wait,
    /// Nothing any more.
    Closed,
}

/// A break that is to be made up for.
pub(in crate::read_model) struct Again {
    /// Which break it is.
    pub(in crate::read_model) epoch: u64,
    /// The position that the view had come to.
    pub(in crate::read_model) position: u64,
    /// The documents that are followed one by one.
    pub(in crate::read_model) ids: Vec<String>,
    /// The lists that are followed.
    pub(in crate::read_model) lists: Vec<(TopicId, Arc<ListQuery>)>,
}

/// The view is not followed any more.
#[derive(Debug)]
pub(in crate::read_model) struct Closed;

impl ViewLive {
    /// A view that is at this position.
    pub(in crate::read_model) fn new(position: u64) -> Arc<Self> {
        let live = Self::default();
        let mut state = live.lock();
        (state.recent_from, state.position) = (position, position);
        drop(state);
        Arc::new(live)
    }

    /// Follows one document. Changes are kept for the client from now on, and sent once it is started.
    pub(in crate::read_model) fn follow_document(
        self: &Arc<Self>,
        id: &str,
    ) -> Result<Subscription, Closed> {
        self.join(|state, client| {
            let clients = state.documents.entry(id.to_owned()).or_default();
            clients.push(client);
            Followed::Document(id.into())
        })
    }

    /// Follows the documents that fulfil all conditions, which are the filters of `query`.
    pub(in crate::read_model) fn follow_list(
        self: &Arc<Self>,
        query: &Arc<ListQuery>,
        conditions: Vec<Condition>,
    ) -> Result<Subscription, Closed> {
        self.join(|state, client| Followed::List(state.lists.join(query, conditions, client)))
    }

    fn join(
        self: &Arc<Self>,
        add: impl FnOnce(&mut State, Arc<Client>) -> Followed,
    ) -> Result<Subscription, Closed> {
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        let client = Arc::new(Client::default());
        let what = add(&mut state, Arc::clone(&client));
        Ok(Subscription {
            client,
            place: Some(Place {
                view: Arc::clone(self),
                what,
            }),
            epoch: state.breaks,
            visible: Visible::All,
            hidden: false,
        })
    }

    /// Begins to send to a client, unless anything may have changed since it joined.
    pub(super) fn start(
        &self,
        subscription: &Subscription,
        what: &Followed,
        initial: Vec<Arc<LiveEvent>>,
        has: &[Arc<LiveEvent>],
        from: EventId,
    ) -> bool {
        let mut state = self.lock();
        if state.breaks != subscription.epoch {
            return false;
        }
        if state.broken.is_none() && state.done.is_none() {
            state.done = Some(from.clone());
        }
        if let Followed::List(topic) = what {
            let ids = has.iter().map(|event| &event.id);
            state.lists.start(*topic, ids);
        }
        let client = &subscription.client;
        client.start(initial, has, from, subscription.epoch);
        true
    }

    /// Returns whether nobody works for the view yet; the caller then does, with [`ViewLive::next`].
    pub(in crate::read_model) fn begin(&self) -> bool {
        !std::mem::replace(&mut self.lock().running, true)
    }

    /// Takes a client away from what it follows.
    pub(super) fn leave(&self, client: &Arc<Client>, what: &Followed) {
        let mut state = self.lock();
        match what {
            Followed::Document(id) => {
                if let Some(clients) = state.documents.get_mut(&**id)
                    && let Some(at) = clients.iter().position(|c| Arc::ptr_eq(c, client))
                {
                    clients.swap_remove(at);
                    if clients.is_empty() {
                        state.documents.remove(&**id);
                    }
                }
            }
            Followed::List(topic) => state.lists.leave(*topic, client),
        }
    }

    /// Returns what has changed after `position`, if that is known.
    pub(in crate::read_model) fn changed_since(&self, position: u64) -> Option<Vec<Arc<Applied>>> {
        let state = self.lock();
        let entries = state.recent.entries.iter();
        (position >= state.recent_from).then(|| {
            let later = entries.filter(|applied| applied.is_after(position));
            later.cloned().collect()
        })
    }

    /// Up to where everything has been offered.
    pub(super) fn done(&self) -> Option<EventId> {
        self.lock().done.clone()
    }

    /// Waits for something to do.
    pub(in crate::read_model) async fn next(&self) -> Work {
        loop {
            match self.take() {
                Work::Wait => self.wake.notified().await,
                work => return work,
            }
        }
    }

    fn take(&self) -> Work {
        let mut state = self.lock();
        if state.closed {
            return Work::Closed;
        }
        if let Some(position) = state.broken.take() {
            let lists = &state.lists;
            let query = |id| Some((id, Arc::clone(&lists.get(id)?.query)));
            return Work::Again(Again {
                epoch: state.breaks,
                position,
                ids: state.documents.keys().cloned().collect(),
                lists: lists.ids().filter_map(query).collect(),
            });
        }
        while let Some(applied) = state.backlog.pop() {
            let ids = applied.ids.iter();
            let ids: Vec<_> = if state.lists.is_empty() {
                let followed = ids.filter(|id| state.documents.contains_key(*id));
                followed.cloned().collect()
            } else {
                ids.cloned().collect()
            };
            let position = applied.position;
            if !ids.is_empty() {
                return Work::Changed { ids, position };
            }
            state.done_to(position);
        }
        Work::Wait
    }

    /// Offers documents as they are now to all who follow them. `position` is what the transaction
    /// came to that they were read after.
    pub(in crate::read_model) fn offer(&self, mut documents: Vec<ReadDocument>, position: u64) {
        by_position(&mut documents, position);
        let now = Instant::now();
        let mut state = self.lock();
        let edition = state.edition();
        let mut lists: HashMap<TopicId, Vec<Arc<LiveEvent>>> = HashMap::new();
        let mut grown = HashSet::new();
        for (id, document) in &documents {
            let change = Change::new(&edition, id, document.as_ref(), position, None);
            state.offer_document(id, &change, now);
            if state.lists.is_empty() {
                continue;
            }
            let json = document.as_ref().map(|document| parse(&document.body));
            for topic in state.lists.concerned(id, json.as_ref()) {
                let holds = |json| {
                    state
                        .lists
                        .get(topic)
                        .is_some_and(|topic| topic.holds(json))
                };
                let event = match &json {
                    Some(json) if holds(json) => {
                        if state.lists.enter(topic, id) > MAX_GROWN {
                            grown.insert(topic);
                        }
                        Arc::clone(&change.now)
                    }
                    Some(_) => {
                        state.lists.exit(topic, id);
                        change.left()
                    }
                    None => {
                        state.lists.exit(topic, id);
                        Arc::clone(&change.now)
                    }
                };
                lists.entry(topic).or_default().push(event);
            }
        }
        for (topic, events) in lists {
            match grown.contains(&topic) {
                true => state.refuse(topic),
                false => state.offer_list(topic, &events, now),
            }
        }
        state.done_to(position);
    }

    /// Offers documents that were read because anything may have changed to all who follow them one
    /// by one.
    pub(in crate::read_model) fn offer_again(
        &self,
        documents: &[ReadDocument],
        from: &EventId,
        epoch: u64,
    ) {
        let now = Instant::now();
        let state = self.lock();
        for (id, document) in documents {
            let change = Change::new(from, id, document.as_ref(), from.position, Some(epoch));
            state.offer_document(id, &change, now);
        }
    }

    /// Offers a list that was read because anything may have changed to all who follow it; what is not
    /// in it is not in it any more.
    pub(in crate::read_model) fn offer_list_again(
        &self,
        topic: TopicId,
        mut documents: Vec<ReadDocument>,
        from: &EventId,
        epoch: u64,
    ) {
        by_position(&mut documents, from.position);
        let now = Instant::now();
        let mut state = self.lock();
        let there: HashSet<_> = documents.iter().map(|(id, _)| id).collect();
        let others = state.lists.get(topic).map(|topic| topic.others(&there));
        let mut events = Vec::with_capacity(documents.len());
        for (id, document) in &documents {
            state.lists.enter(topic, id);
            let again = Some(epoch);
            let change = Change::new(from, id, document.as_ref(), from.position, again);
            events.push(Arc::clone(&change.now));
        }
        for id in others.into_iter().flatten() {
            state.lists.exit(topic, &id);
            let left = LiveEvent::gone(LiveKind::Leave, &id, from.clone(), from.position);
            events.push(Arc::new(left.again(Some(epoch))));
        }
        state.offer_list(topic, &events, now);
    }

    /// Says that a list has grown too large to be followed.
    pub(in crate::read_model) fn refuse_list(&self, topic: TopicId) {
        self.lock().refuse(topic);
    }

    /// Notes that a break has been made up for, from this edition and up to this position. One that
    /// has come meanwhile will be.
    pub(in crate::read_model) fn made_up(&self, from: EventId, epoch: u64) {
        let mut state = self.lock();
        if state.breaks == epoch {
            state.done = Some(from);
        }
    }

    /// Has all that is followed read again.
    pub(in crate::read_model) fn doubt(&self) {
        let mut state = self.lock();
        let position = state.position;
        state.break_at(position);
        drop(state);
        self.wake.notify_one();
    }

    /// Ends all who follow something, and takes nobody any more.
    pub(in crate::read_model) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.clients().for_each(|client| client.end());
        drop(state);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns what changes are sent as of.
    fn edition(&self) -> EventId {
        let unknown = || EventId::new("".into(), 0);
        self.done.clone().unwrap_or_else(unknown)
    }

    fn offer_document(&self, id: &str, change: &Change<'_>, now: Instant) {
        if let Some(clients) = self.documents.get(id) {
            let event = [change.alone()];
            clients.iter().for_each(|client| client.offer(&event, now));
        }
    }

    fn offer_list(&self, topic: TopicId, events: &[Arc<LiveEvent>], now: Instant) {
        let topic = self.lists.get(topic);
        let clients = topic.into_iter().flat_map(|topic| &topic.clients);
        clients.for_each(|client| client.offer(events, now));
    }

    fn refuse(&self, topic: TopicId) {
        let problem = Problem {
            retry_after: Some(GROWN_RETRY),
            ..too_many()
        };
        let topic = self.lists.get(topic);
        let clients = topic.into_iter().flat_map(|topic| &topic.clients);
        clients.for_each(|client| client.refuse(&problem));
    }
}

/// More documents fulfil the filters than can be followed.
pub(in crate::read_model) fn too_many() -> Problem {
    let most = super::MAX_LIVE_DOCUMENTS;
    Problem::malformed(
        None,
        format!("more than {most} documents fulfil this; filter further"),
    )
}

impl Observer for ViewLive {
    fn changed(&self, applied: &Applied, _: &[FreshDocument]) {
        let applied = Arc::new(applied.clone());
        let mut state = self.lock();
        state.position = applied.position;
        state.recent.push(Arc::clone(&applied));
        while state.recent.ids > RECENT
            && let Some(oldest) = state.recent.pop()
        {
            state.recent_from = oldest.through();
        }
        if !state.is_followed() {
            return state.done_to(applied.position);
        }
        state.backlog.push(applied);
        if state.backlog.ids > MAX_BACKLOG {
            let position = state.position;
            state.break_at(position);
        }
        drop(state);
        self.wake.notify_one();
    }

    fn lost(&self, position: u64) {
        let mut state = self.lock();
        state.recent.clear();
        // What has changed where the view is already is not known by its position.
        let moved = position > state.position;
        state.recent_from = if moved { position } else { position + 1 };
        state.position = position;
        state.break_at(position);
        drop(state);
        self.wake.notify_one();
    }

    fn is_followed(&self) -> bool {
        self.lock().is_followed()
    }
}
