//! Commands that go to the same home at the same moment go there together.
//!
//! What is to go to a home waits until what was to run on the thread before has run: so long, and no longer, others may
//! join it. One that is alone then goes in a message of its own, as to a home of an older build, which takes no groups.
//! They leave in the order in which they were given, one message after the other.

use super::{
    age::{AGE, Arrival},
    asks::{Asked, Asks, Awaited, Unanswered},
    frames::{self, HEAD},
    grouped::{CommandHead, GROUP, MOST_BYTES, MOST_COMMANDS},
    measure::MEASURES,
    request::{CommandRequest, Lineage},
};
use crate::membership::{GROUP_FORM, Membership};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::task::yield_now;

/// The time a message waits for its place in the connection's queue.
const SENDING: Duration = Duration::from_secs(2);

/// The commands that are to go to other replicas.
#[derive(Debug)]
pub(super) struct Groups {
    asks: Arc<Asks>,
    membership: Membership,
    /// The waiting commands, by home. There is an entry as long as somebody sends what is in it.
    leaving: Mutex<HashMap<Arc<str>, Vec<Leaving>>>,
}

/// A command that is to go.
#[derive(Debug)]
struct Leaving {
    request: CommandRequest,
    arrival: Arrival,
    asked: Asked,
}

impl Leaving {
    /// More bytes than it takes in a group, but for names and traces that are very long.
    fn size(&self) -> usize {
        let headers = &self.request.headers;
        let long = [&headers.traceparent, &headers.tracestate];
        let long = long.into_iter().flatten().map(String::len).sum::<usize>();
        let scopes = headers.caller.scopes().map(|scope| 2 * scope.len() + 3);
        let caller = headers.caller.subject().map_or(0, |name| 6 * name.len());
        let lineage = headers.lineage.as_ref().map_or(0, Lineage::size);
        2 * HEAD + 2 * long + scopes.sum::<usize>() + caller + 2 * lineage + self.request.body.len()
    }
}

impl Groups {
    pub(super) fn new(asks: Arc<Asks>, membership: Membership) -> Self {
        Self {
            asks,
            membership,
            leaving: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Vec<Leaving>>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a command go to a home. It does not go if what is returned is dropped before.
    pub(super) fn give(
        self: &Arc<Self>,
        home: &Arc<str>,
        request: CommandRequest,
        arrival: Arrival,
    ) -> Awaited {
        let (asked, awaited) = self.asks.begin();
        let leaving = Leaving {
            request,
            arrival,
            asked,
        };
        let first = {
            let mut all = self.lock();
            match all.get_mut(home) {
                Some(others) => {
                    others.push(leaving);
                    false
                }
                None => {
                    all.insert(home.clone(), vec![leaving]);
                    true
                }
            }
        };
        if first {
            let sender = Sender {
                groups: self.clone(),
                home: home.clone(),
                is_done: false,
            };
            tokio::spawn(sender.run());
        }
        awaited
    }

    async fn send(&self, home: &Arc<str>, mut all: Vec<Leaving>) {
        all.retain(|leaving| !leaving.asked.is_given_up());
        let form = self.membership.group_form_of(home);
        // Those of later forms take this one too.
        let together = form >= GROUP_FORM;
        let most = MOST_BYTES.min(self.asks.max_payload());
        let mut all = all.into_iter().peekable();
        while let Some(first) = all.next() {
            let mut size = first.size();
            let mut group = vec![first];
            while together && group.len() < MOST_COMMANDS {
                let fits = all.next_if(|next| size + next.size() <= most);
                let Some(next) = fits else { break };
                size += next.size();
                group.push(next);
            }
            match group.pop() {
                Some(one) if group.is_empty() => self.send_one(home, one).await,
                Some(last) => {
                    group.push(last);
                    self.send_group(home, group, size).await;
                }
                None => {}
            }
        }
    }

    async fn send_one(&self, home: &str, leaving: Leaving) {
        let Leaving {
            request,
            arrival,
            asked,
        } = leaving;
        let CommandRequest {
            aggregate,
            id,
            command,
            body,
            headers,
        } = request;
        let mut headers = headers.written(true);
        let age = arrival.age().map_or(u64::MAX, |age| age.as_millis() as u64);
        headers.insert(AGE, age.to_string());
        let subject = format!("own.{home}.{aggregate}.{id}.{command}");
        let until = Instant::now() + SENDING;
        self.asks.send(subject, headers, body, asked, until).await;
    }

    async fn send_group(&self, home: &str, group: Vec<Leaving>, size: usize) {
        let mut message = Vec::with_capacity(size);
        let mut asked = Vec::with_capacity(group.len());
        MEASURES.group_commands.record(group.len() as f64);
        for leaving in group {
            let Leaving {
                request, arrival, ..
            } = &leaving;
            let head = CommandHead::of(leaving.asked.number, request, arrival);
            frames::put(&mut message, &head, &request.body);
            asked.push(leaving.asked);
        }
        let subject = format!("own.{home}.{GROUP}");
        let until = Instant::now() + SENDING;
        let sending = self.asks.send_group(subject, message.into(), asked, until);
        sending.await;
    }
}

/// Sends what is to go to one home.
struct Sender {
    groups: Arc<Groups>,
    home: Arc<str>,
    /// True if another may have taken its place.
    is_done: bool,
}

impl Sender {
    async fn run(mut self) {
        // Behind what is to run on this thread now, and may have more.
        yield_now().await;
        loop {
            let all = {
                let mut leaving = self.groups.lock();
                let all = leaving.get_mut(&self.home).map(std::mem::take);
                match all.filter(|all| !all.is_empty()) {
                    Some(all) => all,
                    None => {
                        leaving.remove(&self.home);
                        self.is_done = true;
                        return;
                    }
                }
            };
            self.groups.send(&self.home, all).await;
        }
    }
}

impl Drop for Sender {
    /// With its runtime, where it was not done: nobody else sends what is left.
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let left = self.groups.lock().remove(&self.home);
        for leaving in left.into_iter().flatten() {
            leaving.asked.tell(Err(Unanswered::NotSent));
        }
    }
}
