//! Commands that come in a group, each taken as if it had come alone, and the way back of their answers.

use super::{
    Desk,
    answers::{Sender, Way},
};
use crate::{
    access::Identified,
    caller::Action,
    command::{
        age::Arrival,
        answer::Answered,
        frames::{self, Frames},
        grouped::{ANSWERS, AnswerHead, CommandHead, MOST_BYTES, Numbered},
    },
    problem::Problem,
};
use async_nats::{Client, Message, Subject};
use bytes::Bytes;
use futures::FutureExt;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::{
    runtime::Handle,
    sync::mpsc,
    task::{coop::unconstrained, yield_now},
};

impl Desk {
    /// Takes the commands of a group, in their order.
    pub(super) fn take_group(
        self: &Arc<Self>,
        message: &Message,
        since: Instant,
        under_way: &mpsc::Sender<()>,
    ) {
        let inbox = message.reply.as_deref().and_then(|reply| {
            let (inbox, _) = reply.rsplit_once('.')?;
            Some(Arc::from(format!("{inbox}.{ANSWERS}")))
        });
        let Some(to) = inbox else {
            tracing::debug!("a group of commands names no inbox");
            return;
        };
        for frame in Frames(message.payload.clone()) {
            match frame {
                Ok((head, body)) => self.take_grouped(&head, body, &to, since, under_way),
                // Who asked for it is told of a doubt in time.
                Err(error) => tracing::warn!(%error, "a group of commands is not whole"),
            }
        }
    }

    fn take_grouped(
        self: &Arc<Self>,
        head: &[u8],
        body: Bytes,
        to: &Arc<str>,
        since: Instant,
        under_way: &mpsc::Sender<()>,
    ) {
        let sender = |number, arrived| Sender {
            desk: self.clone(),
            entry: None,
            way: Way::InGroup(to.clone(), number),
            arrived,
            under_way: under_way.clone(),
            asked: None,
        };
        match serde_json::from_slice::<CommandHead<'_>>(head) {
            Ok(head) => {
                let arrival = Arrival::aged(since, head.age(), true);
                let sender = sender(head.number, arrival.read());
                self.decide_grouped(head, body, sender, arrival);
            }
            Err(error) => {
                tracing::warn!(%error, "a command of a group is of a form that is not known");
                if let Ok(Numbered { number }) = serde_json::from_slice(head) {
                    let detail = "a replica passed it on in a form that is not known";
                    sender(number, Instant::now()).answer(Err(Problem::unavailable(detail)));
                }
            }
        }
    }

    fn decide_grouped(
        &self,
        head: CommandHead<'_>,
        body: Bytes,
        mut sender: Sender,
        arrival: Arrival,
    ) {
        let who = match (self.access.is_open(), head.caller()) {
            (true, _) => Identified::default(),
            (false, told) => self.told(told),
        };
        let (aggregate, command) = (head.aggregate, head.command);
        let entry = match self.client.entry(aggregate, command) {
            Ok(entry) => entry.clone(),
            Err(problem) => return sender.answer(Err(who.refused(problem))),
        };
        sender.entry = Some(entry.clone());
        let read = who.may(Action::Command { aggregate, command });
        let read = read.and_then(|who| {
            let names = (entry.aggregate, entry.command.clone());
            head.request(names, who.caller, body)
        });
        match read {
            Ok(request) => self.give(entry, request, (sender, None), arrival),
            Err(problem) => sender.answer(Err(problem)),
        }
    }
}

/// Answers to commands that came in groups. Those that are there at the same moment go in one message.
pub(super) struct GroupAnswers {
    nats: Client,
    /// The answers that wait, by where they go. There is an entry as long as somebody is about to send what is in it.
    leaving: Mutex<HashMap<Arc<str>, Leaving>>,
}

#[derive(Default)]
struct Leaving {
    message: Vec<u8>,
    /// Dropped once they have been sent.
    under_way: Vec<mpsc::Sender<()>>,
}

impl GroupAnswers {
    pub(super) fn new(nats: Client) -> Arc<Self> {
        Arc::new(Self {
            nats,
            leaving: Mutex::default(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Leaving>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has an answer go with others that go to the same replica at this moment.
    pub(super) fn give(
        self: &Arc<Self>,
        to: Arc<str>,
        number: u64,
        answered: &Result<Answered, Problem>,
        under_way: mpsc::Sender<()>,
    ) {
        let (head, body) = AnswerHead::of(number, answered);
        let (first, full) = {
            let mut all = self.lock();
            let first = !all.contains_key(&to);
            let leaving = all.entry(to.clone()).or_default();
            let full = leaving.message.len() + body.len() > MOST_BYTES;
            let full = full.then(|| std::mem::take(leaving));
            frames::put(&mut leaving.message, &head, &body);
            leaving.under_way.push(under_way);
            (first, full)
        };
        if let Some(full) = full.filter(|full| !full.message.is_empty()) {
            self.send(to.clone(), full);
        }
        if !first {
            return;
        }
        match Handle::try_current() {
            Ok(runtime) => {
                // Dropped with its runtime too.
                let flush = Flush(self.clone(), to);
                runtime.spawn(async move {
                    // Behind what is to run on this thread now, and may have more.
                    yield_now().await;
                    drop(flush);
                });
            }
            Err(_) => drop(Flush(self.clone(), to)),
        }
    }

    fn send(&self, to: Arc<str>, Leaving { message, under_way }: Leaving) {
        let message = Bytes::from(message);
        let to = Subject::from(&*to);
        let sending = self.nats.publish(to.clone(), message.clone());
        // Almost always the connection has room, and there is nothing to wait for.
        if unconstrained(sending).now_or_never().is_none()
            && let Ok(runtime) = Handle::try_current()
        {
            let nats = self.nats.clone();
            runtime.spawn(async move {
                let _ = nats.publish(to, message).await;
                drop(under_way);
            });
        }
    }
}

/// Sends what is there, at its end: with its runtime too.
struct Flush(Arc<GroupAnswers>, Arc<str>);

impl Drop for Flush {
    fn drop(&mut self) {
        let Self(answers, to) = self;
        let leaving = answers.lock().remove(to);
        if let Some(leaving) = leaving {
            answers.send(to.clone(), leaving);
        }
    }
}
