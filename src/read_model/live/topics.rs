//! The lists that are followed, and which of them a change concerns.
//!
//! A change concerns the lists that its document is in, and those whose filters it fulfils. The first
//! are known by the document's id. Of the others only those are tried whose first filter by equality
//! asks for a value that the document has, and those without such a filter.

use super::{Condition, client::Client};
use crate::read_model::{parameters::ListQuery, schema::FieldPath, visible::Visibility};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// The number of a list that is followed.
pub(in crate::read_model) type TopicId = u64;

/// All clients that follow the same list.
pub(super) struct Topic {
    pub(super) query: Arc<ListQuery>,
    conditions: Vec<Condition>,
    pub(super) clients: Vec<Arc<Client>>,
    /// The documents that some client may have.
    members: HashSet<Arc<str>>,
    /// The number of clients that have not begun: what they will have is not known yet.
    starting: usize,
    /// Under what it is found, beside its members.
    entry: Entry,
}

#[derive(Clone)]
enum Entry {
    Plain,
    Equal(&'static str, String),
}

/// The topics that ask for one value each of the same field.
struct ByValue {
    path: FieldPath,
    topics: HashMap<String, Vec<TopicId>>,
}

#[derive(Default)]
pub(super) struct Topics {
    all: HashMap<TopicId, Topic>,
    next: TopicId,
    by_filters: HashMap<String, TopicId>,
    by_value: HashMap<&'static str, ByValue>,
    plain: Vec<TopicId>,
    starting: Vec<TopicId>,
    holders: HashMap<Arc<str>, Vec<TopicId>>,
}

impl Topics {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = TopicId> {
        self.all.keys().copied()
    }

    pub(super) fn get(&self, id: TopicId) -> Option<&Topic> {
        self.all.get(&id)
    }

    pub(super) fn clients(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.all.values().flat_map(|topic| &topic.clients)
    }

    /// Adds a client that has not begun to those of a list.
    pub(super) fn join(
        &mut self,
        query: &Arc<ListQuery>,
        conditions: Vec<Condition>,
        client: Arc<Client>,
    ) -> TopicId {
        let filters = list_key(query);
        let id = match self.by_filters.get(&filters) {
            Some(id) => *id,
            None => self.add(filters, query, conditions),
        };
        if let Some(topic) = self.all.get_mut(&id) {
            topic.clients.push(client);
            topic.starting += 1;
            if topic.starting == 1 {
                self.starting.push(id);
            }
        }
        id
    }

    fn add(
        &mut self,
        filters: String,
        query: &Arc<ListQuery>,
        conditions: Vec<Condition>,
    ) -> TopicId {
        let id = self.next;
        self.next += 1;
        self.by_filters.insert(filters, id);
        let mut equal = conditions.iter().filter_map(Condition::equals);
        let entry = match equal.next() {
            Some((field, path, value)) => {
                let by_value = self.by_value.entry(field).or_insert_with(|| ByValue {
                    path: path.clone(),
                    topics: HashMap::new(),
                });
                let topics = by_value.topics.entry(value.clone()).or_default();
                topics.push(id);
                Entry::Equal(field, value)
            }
            None => {
                self.plain.push(id);
                Entry::Plain
            }
        };
        let topic = Topic {
            query: Arc::clone(query),
            conditions,
            clients: Vec::new(),
            members: HashSet::new(),
            starting: 0,
            entry,
        };
        self.all.insert(id, topic);
        id
    }

    /// Takes a client away, and the list with the last one.
    pub(super) fn leave(&mut self, id: TopicId, client: &Arc<Client>) {
        let Some(topic) = self.all.get_mut(&id) else {
            return;
        };
        let at = topic.clients.iter().position(|c| Arc::ptr_eq(c, client));
        let Some(at) = at else { return };
        topic.clients.swap_remove(at);
        let gone = topic.clients.is_empty();
        if !client.is_started() {
            self.begun(id);
        }
        if gone {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: TopicId) {
        let Some(topic) = self.all.remove(&id) else {
            return;
        };
        self.by_filters.remove(&list_key(&topic.query));
        match &topic.entry {
            Entry::Plain => self.plain.retain(|other| *other != id),
            Entry::Equal(field, value) => {
                let by_value = self.by_value.get_mut(field);
                if let Some(by_value) = by_value
                    && let Some(topics) = by_value.topics.get_mut(value)
                {
                    topics.retain(|other| *other != id);
                    if topics.is_empty() {
                        by_value.topics.remove(value);
                    }
                }
            }
        }
        for member in &topic.members {
            release(&mut self.holders, member, id);
        }
    }

    /// A client begins, with these documents.
    pub(super) fn start<'a>(&mut self, id: TopicId, has: impl Iterator<Item = &'a Arc<str>>) {
        for document in has {
            self.enter(id, document);
        }
        self.begun(id);
    }

    fn begun(&mut self, id: TopicId) {
        if let Some(topic) = self.all.get_mut(&id) {
            topic.starting = topic.starting.saturating_sub(1);
            if topic.starting == 0 {
                self.starting.retain(|other| *other != id);
            }
        }
    }

    /// Notes that a document is in the list now. Returns how many there are.
    pub(super) fn enter(&mut self, id: TopicId, document: &Arc<str>) -> usize {
        let Some(topic) = self.all.get_mut(&id) else {
            return 0;
        };
        if topic.members.insert(Arc::clone(document)) {
            let holders = self.holders.entry(Arc::clone(document)).or_default();
            holders.push(id);
        }
        topic.members.len()
    }

    /// Notes that a document is not in the list any more.
    pub(super) fn exit(&mut self, id: TopicId, document: &str) {
        if let Some(topic) = self.all.get_mut(&id)
            && topic.members.remove(document)
        {
            release(&mut self.holders, document, id);
        }
    }

    /// The lists that a change of a document may concern.
    pub(super) fn concerned(&self, document: &str, now: Option<&Value>) -> Vec<TopicId> {
        let holders = self.holders.get(document).into_iter().flatten();
        let mut topics: Vec<_> = holders.chain(&self.starting).copied().collect();
        if let Some(now) = now {
            topics.extend(&self.plain);
            for by_value in self.by_value.values() {
                by_value.path.each(now, &mut |found| {
                    let key = Condition::key(found);
                    let asking = key.and_then(|key| by_value.topics.get(&key));
                    topics.extend(asking.into_iter().flatten());
                });
            }
        }
        topics.sort_unstable();
        topics.dedup();
        topics
    }
}

impl Topic {
    /// Returns whether a document is in the list.
    pub(super) fn holds(&self, document: &Value) -> bool {
        if self.query.visible == Visibility::Nothing {
            return false;
        }
        let mut conditions = self.conditions.iter();
        conditions.all(|condition| condition.holds(document))
    }

    /// The documents that some client may have, other than these.
    pub(super) fn others(&self, there: &HashSet<&Arc<str>>) -> Vec<Arc<str>> {
        let members = self.members.iter();
        let others = members.filter(|member| !there.contains(member));
        others.cloned().collect()
    }
}

fn release(holders: &mut HashMap<Arc<str>, Vec<TopicId>>, document: &str, id: TopicId) {
    if let Some(topics) = holders.get_mut(document) {
        topics.retain(|other| *other != id);
        if topics.is_empty() {
            holders.remove(document);
        }
    }
}

/// Returns what tells the lists of a view apart.
pub(in crate::read_model) fn list_key(query: &ListQuery) -> String {
    let filters = query.filters.iter();
    let filters: Vec<_> = filters
        .map(|(filter, value)| (filter.name, value))
        .collect();
    let nothing = query.visible == Visibility::Nothing;
    serde_json::to_string(&(nothing, filters)).unwrap_or_default()
}
