//! One actor per live aggregate: it queues commands and runs one turn at a time.

use super::{
    answer::Reply,
    measure::MEASURES,
    registry::{self, Status},
    request::CommandHeaders,
    traces,
    turn::{self, Desk, Kept, Loaded, Pending, Queue},
};
use crate::{aggregate::Aggregate, event_log::subject::Id, problem::Problem};
use actix::prelude::*;
use bytes::Bytes;
use std::{iter::once, rc::Rc, sync::Arc, time::Instant};

/// The most commands that wait for one aggregate; the next is answered `overloaded`.
pub const MAX_QUEUE: usize = 4096;

/// The queue of an aggregate that is not busy has room for so many at most.
const KEPT_QUEUE: usize = 16;

/// A command for the actor's aggregate, and where the answer goes.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Execute {
    /// The command's name.
    pub command: Arc<str>,
    /// Its fields as JSON.
    pub body: Bytes,
    /// Its headers.
    pub headers: CommandHeaders,
    /// The place where the answer goes.
    pub reply: Reply,
}

/// Tells an actor what to do before it goes.
#[derive(Message)]
#[rtype(result = "()")]
pub enum Parting {
    /// To save what it holds.
    Save(Saving),
    /// To stop. Nothing waits for it, and nothing that it holds is worth saving.
    Stop,
}

/// Tells the registry of the actor's thread whether the actor has saved what it holds: not, when dropped.
pub struct Saving {
    aggregate: (usize, Id),
    used: Instant,
    saved: bool,
}

impl Saving {
    /// Pairs the actor's key in the registry with when it was used last.
    pub(super) fn new(aggregate: (usize, Id), used: Instant) -> Self {
        Self {
            aggregate,
            used,
            saved: false,
        }
    }

    fn tell(mut self, saved: bool) {
        self.saved = saved;
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        registry::saved(&self.aggregate, self.used, self.saved);
    }
}

/// The actor of one live aggregate.
pub struct AggregateActor<A: Aggregate> {
    desk: Desk,
    /// `None` before the first turn, and whenever the state is not known to be the log's. Boxed, since
    /// every turn takes it and gives it back.
    loaded: Option<Box<Loaded<A>>>,
    /// The part that is kept of a state that was thrown away.
    kept: Kept,
    queue: Queue<A>,
    busy: bool,
    stopping: bool,
    /// The registry's knowledge of it.
    status: Rc<Status>,
}

impl<A: Aggregate> AggregateActor<A> {
    /// Makes the actor of one aggregate. Nothing is loaded yet.
    #[must_use]
    pub fn new(desk: Desk, status: Rc<Status>) -> Self {
        Self {
            desk,
            loaded: None,
            kept: Kept::default(),
            queue: Queue::new(),
            busy: false,
            stopping: false,
            status,
        }
    }

    fn count_out(&self, answered: usize) {
        let waiting = &self.status.waiting;
        waiting.set(waiting.get().saturating_sub(answered));
    }

    /// Tells the registry whether it holds what is worth saving.
    fn tell_unsaved(&self) {
        let worth = |loaded: &Loaded<A>| loaded.is_worth_a_snapshot();
        let unsaved = self.kept.is_worth_saving() || self.loaded.as_deref().is_some_and(worth);
        self.status.unsaved.set(unsaved);
    }

    /// Answers what has waited for too long: nobody waits for it any more, and another replica may have
    /// been asked for it.
    fn answer_expired(&mut self, now: Instant) {
        let expired = |pending: &Pending<A>| pending.reply.arrival().is_expired_at(now);
        if !self.queue.iter().any(|pending| expired(pending)) {
            return;
        }
        for pending in std::mem::take(&mut self.queue) {
            if expired(&pending) {
                pending.reply.send(Err(Problem::expired()));
                self.count_out(1);
            } else {
                self.queue.push_back(pending);
            }
        }
    }

    /// Takes back a queue that is empty, for the next command: unless it has grown large, or others wait.
    fn reuse(&mut self, queue: Queue<A>) {
        let small = queue.capacity() <= KEPT_QUEUE;
        if small && queue.is_empty() && self.queue.capacity() == 0 {
            self.queue = queue;
        }
    }

    fn start_turn(&mut self, context: &mut actix::Context<Self>) {
        if self.busy {
            return;
        }
        let begun = Instant::now();
        self.answer_expired(begun);
        if self.queue.is_empty() {
            if self.stopping {
                context.stop();
            }
            return;
        }
        self.busy = true;
        let desk = self.desk.clone();
        let loaded = self.loaded.take();
        let mut kept = std::mem::take(&mut self.kept);
        let mut queue = std::mem::take(&mut self.queue);
        let taken = queue.len();
        for pending in &queue {
            let waited = begun.saturating_duration_since(pending.reply.arrived());
            MEASURES.queue.record(waited.as_secs_f64());
            traces::took("queue", once(&pending.headers), pending.reply.arrived());
        }
        // Boxed at once: it is large, and would be moved several times on its way.
        let turn = Box::pin(async move {
            let loaded = turn::run(desk, loaded, &mut queue, &mut kept).await;
            (loaded, kept, queue)
        });
        context.spawn(turn.into_actor(self).map(move |left, actor, context| {
            let (loaded, kept, queue) = left;
            (actor.loaded, actor.kept) = (loaded, kept);
            actor.reuse(queue);
            actor.busy = false;
            actor.tell_unsaved();
            actor.count_out(taken);
            actor.start_turn(context);
        }));
    }
}

impl<A: Aggregate> Actor for AggregateActor<A> {
    type Context = actix::Context<Self>;
}

impl<A: Aggregate> Handler<Execute> for AggregateActor<A> {
    type Result = ();

    fn handle(&mut self, execute: Execute, context: &mut Self::Context) {
        if self.queue.len() >= MAX_QUEUE {
            execute.reply.send(Err(Problem::overloaded()));
            self.count_out(1);
            return;
        }
        match Pending::decode(
            &execute.command,
            &execute.body,
            execute.headers,
            execute.reply,
        ) {
            Ok(pending) => self.queue.push_back(pending),
            Err((problem, reply)) => {
                reply.send(Err(problem));
                self.count_out(1);
            }
        }
        self.start_turn(context);
    }
}

impl<A: Aggregate> Handler<Parting> for AggregateActor<A> {
    type Result = ();

    fn handle(&mut self, parting: Parting, context: &mut Self::Context) {
        match parting {
            Parting::Save(saving) => self.save(saving, context),
            Parting::Stop => {
                self.stopping = true;
                self.start_turn(context);
            }
        }
    }
}

impl<A: Aggregate> AggregateActor<A> {
    /// Writes a snapshot. Commands go on meanwhile.
    fn save(&mut self, saving: Saving, context: &mut actix::Context<Self>) {
        // What was carried over is saved with the state that it belongs to, once that is loaded again.
        let Some(loaded) = self.loaded.as_mut().filter(|_| !self.busy) else {
            return saving.tell(false);
        };
        let write = turn::write_snapshot(&self.desk, loaded);
        context.spawn(write.into_actor(self).map(|written, actor, _| {
            if !actor.busy {
                actor.tell_unsaved();
            }
            if let Err(error) = &written {
                tracing::warn!(aggregate.name = A::NAME, aggregate.id = %actor.desk.id, %error, "snapshot not written");
            }
            saving.tell(written.is_ok());
        }));
    }
}
