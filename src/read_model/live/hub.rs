//! Who follows what of one view, and what has changed lately.

use super::{Client, Condition, LiveEvent, LiveKind, Subscription};
use crate::read_model::{
    ServedDocument,
    announcement::Applied,
    watermark::{FreshDocument, Observer},
};
use serde_json::{Value, value::RawValue};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// For how many changes back a client that comes again can be told what it missed.
const RECENT: usize = 8_192;
/// How many changes may wait to be read. Beyond, who follows is told to look again: it is cheaper.
const MAX_BACKLOG: usize = 65_536;

/// What is followed of one view.
#[derive(Default)]
pub(in crate::read_model) struct ViewLive {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    documents: HashMap<String, Vec<Arc<Client>>>,
    lists: Vec<Topic>,
    backlog: Log,
    /// Whether changes were missed.
    lost: bool,
    recent: Log,
    /// The position after which `recent` has every change.
    recent_from: u64,
    /// Whether somebody works on the backlog.
    running: bool,
    closed: bool,
}

/// All who follow the same list.
struct Topic {
    conditions: Vec<Condition>,
    clients: Vec<Arc<Client>>,
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

/// What is to be read, and offered to who follows it.
pub(in crate::read_model) enum Work {
    /// These documents have changed by a transaction that came to this position.
    Changed { ids: Vec<String>, position: u64 },
    /// These documents are followed and may have changed; lists have been ended.
    Lost { ids: Vec<String> },
    /// Nothing for now.
    Wait,
    /// Nothing any more.
    Closed,
}

/// The view is not followed any more.
pub(in crate::read_model) struct Closed;

impl ViewLive {
    /// A view that is at this position.
    pub(in crate::read_model) fn new(position: u64) -> Arc<Self> {
        let live = Self::default();
        live.lock().recent_from = position;
        Arc::new(live)
    }

    /// Follows one document. Changes are kept for the client from now on, and sent once it is started.
    pub(in crate::read_model) fn follow_document(
        self: &Arc<Self>,
        id: &str,
    ) -> Result<Subscription, Closed> {
        self.join(Some(id), |state, client| {
            let clients = state.documents.entry(id.to_owned()).or_default();
            clients.push(client);
        })
    }

    /// Follows the documents that fulfil all conditions.
    pub(in crate::read_model) fn follow_list(
        self: &Arc<Self>,
        conditions: Vec<Condition>,
    ) -> Result<Subscription, Closed> {
        self.join(None, |state, client| {
            let mut topics = state.lists.iter_mut();
            match topics.find(|topic| topic.conditions == conditions) {
                Some(topic) => topic.clients.push(client),
                None => state.lists.push(Topic {
                    conditions,
                    clients: vec![client],
                }),
            }
        })
    }

    fn join(
        self: &Arc<Self>,
        document: Option<&str>,
        add: impl FnOnce(&mut State, Arc<Client>),
    ) -> Result<Subscription, Closed> {
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        let client = Arc::new(Client::default());
        add(&mut state, Arc::clone(&client));
        Ok(Subscription {
            client,
            view: Some(Arc::clone(self)),
            document: document.map(Into::into),
        })
    }

    /// Whether nobody works for the view yet; the caller then does, with [`ViewLive::next`].
    pub(in crate::read_model) fn begin(&self) -> bool {
        !std::mem::replace(&mut self.lock().running, true)
    }

    /// Takes a client away, from the document that it follows or else from its list.
    pub(super) fn leave(&self, client: &Arc<Client>, document: Option<&str>) {
        let remove = |clients: &mut Vec<Arc<Client>>| {
            let at = clients.iter().position(|other| Arc::ptr_eq(other, client));
            at.map(|at| clients.swap_remove(at)).is_some()
        };
        let mut state = self.lock();
        match document {
            Some(id) => {
                if let Some(clients) = state.documents.get_mut(id)
                    && remove(clients)
                    && clients.is_empty()
                {
                    state.documents.remove(id);
                }
            }
            None => {
                let mut topics = state.lists.iter_mut();
                if topics.any(|topic| remove(&mut topic.clients)) {
                    state.lists.retain(|topic| !topic.clients.is_empty());
                }
            }
        }
    }

    /// The ids that have changed after `position`, if that is known.
    pub(in crate::read_model) fn changed_since(&self, position: u64) -> Option<HashSet<String>> {
        let state = self.lock();
        let entries = state.recent.entries.iter();
        (position >= state.recent_from).then(|| {
            let later = entries.filter(|applied| applied.position > position);
            later.flat_map(|applied| applied.ids.clone()).collect()
        })
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
        if std::mem::take(&mut state.lost) {
            let lists = std::mem::take(&mut state.lists);
            let clients = lists.iter().flat_map(|topic| &topic.clients);
            clients.for_each(|client| client.end());
            let ids = state.documents.keys().cloned().collect();
            return Work::Lost { ids };
        }
        while let Some(applied) = state.backlog.pop() {
            let ids = applied.ids.iter();
            let ids: Vec<_> = if state.lists.is_empty() {
                let followed = ids.filter(|id| state.documents.contains_key(*id));
                followed.cloned().collect()
            } else {
                ids.cloned().collect()
            };
            if !ids.is_empty() {
                return Work::Changed {
                    ids,
                    position: applied.position,
                };
            }
        }
        Work::Wait
    }

    /// Offers a document as it is now to all who follow it. `position` is what the transaction came
    /// to that it was read after.
    pub(in crate::read_model) fn offer(
        &self,
        id: &str,
        document: Option<&ServedDocument>,
        position: u64,
    ) {
        let state = self.lock();
        let version = document.map_or(position, |document| document.version);
        // It may be newer than what the transaction made of it, and changes between the two are
        // still to come for others of a list: it can only be gone on from the transaction.
        let position = position.min(version);
        let put =
            document.map(|document| LiveEvent::put(id, position, version, document.body.clone()));
        let deleted = LiveEvent::gone(LiveKind::Delete, id, position, version);
        if let Some(clients) = state.documents.get(id) {
            let event = match document {
                // Here nothing else is to come: what it is now is all of it.
                Some(document) if version > position => {
                    &LiveEvent::put(id, version, version, document.body.clone())
                }
                _ => put.as_ref().unwrap_or(&deleted),
            };
            clients.iter().for_each(|client| client.offer(event));
        }
        if state.lists.is_empty() {
            return;
        }
        let Some(put) = put else {
            let clients = state.lists.iter().flat_map(|topic| &topic.clients);
            return clients.for_each(|client| client.offer(&deleted));
        };
        let left = LiveEvent::gone(LiveKind::Leave, id, position, version);
        let json = parse(&put.body);
        for topic in &state.lists {
            let mut conditions = topic.conditions.iter();
            let event = match conditions.all(|condition| condition.holds(&json)) {
                true => &put,
                false => &left,
            };
            topic.clients.iter().for_each(|client| client.offer(event));
        }
    }

    /// Ends all who follow something; they may come again.
    pub(in crate::read_model) fn end_all(&self) {
        let state = self.lock();
        let lists = state.lists.iter().flat_map(|topic| &topic.clients);
        let clients = lists.chain(state.documents.values().flatten());
        clients.for_each(|client| client.end());
    }

    /// Ends all who follow something, and takes nobody any more.
    pub(in crate::read_model) fn close(&self) {
        self.lock().closed = true;
        self.end_all();
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for ViewLive {
    fn changed(&self, applied: &Applied, _: &[FreshDocument]) {
        let applied = Arc::new(applied.clone());
        let mut state = self.lock();
        state.recent.push(Arc::clone(&applied));
        while state.recent.ids > RECENT
            && let Some(oldest) = state.recent.pop()
        {
            state.recent_from = oldest.position;
        }
        if state.lists.is_empty() && state.documents.is_empty() {
            return;
        }
        state.backlog.push(applied);
        if state.backlog.ids > MAX_BACKLOG {
            state.backlog.clear();
            state.lost = true;
        }
        drop(state);
        self.wake.notify_one();
    }

    fn lost(&self, position: u64) {
        let mut state = self.lock();
        state.recent.clear();
        state.recent_from = position;
        state.backlog.clear();
        state.lost = true;
        drop(state);
        self.wake.notify_one();
    }

    fn is_followed(&self) -> bool {
        let state = self.lock();
        !(state.lists.is_empty() && state.documents.is_empty())
    }
}

/// The document within a served one.
fn parse(body: &[u8]) -> Value {
    #[derive(serde::Deserialize)]
    struct Served<'a> {
        #[serde(borrow)]
        document: &'a RawValue,
    }
    let served: Result<Served<'_>, _> = serde_json::from_slice(body);
    served
        .and_then(|served| serde_json::from_str(served.document.get()))
        .unwrap_or_default()
}
