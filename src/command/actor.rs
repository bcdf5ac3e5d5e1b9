//! One actor per live aggregate: it queues commands and runs one turn at a time.

use super::{
    answer::Reply,
    measure::MEASURES,
    request::CommandHeaders,
    traces,
    turn::{self, Desk, Kept, Loaded, Pending, Queue},
};
use crate::{aggregate::Aggregate, problem::Problem};
use actix::prelude::*;
use bytes::Bytes;
use std::{cell::Cell, iter::once, rc::Rc, sync::Arc, time::Instant};

/// The most commands that wait for one aggregate; the next is answered `overloaded`.
pub const MAX_QUEUE: usize = 4096;

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
    /// Where the answer goes.
    pub reply: Reply,
}

/// Asks an idle actor to write what is worth a snapshot and stop.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Passivate;

/// The actor of one live aggregate.
pub struct AggregateActor<A: Aggregate> {
    desk: Desk,
    /// `None` before the first turn, and whenever the state is not known to be the log's. Boxed, since
    /// every turn takes it and gives it back.
    loaded: Option<Box<Loaded<A>>>,
    /// What is kept of a state that was thrown away.
    kept: Kept,
    queue: Queue<A>,
    busy: bool,
    stopping: bool,
    /// How many commands are on their way here, waiting or under way. The registry counts them in
    /// and the actor counts them out, so the registry can tell an idle actor.
    waiting: Rc<Cell<usize>>,
}

impl<A: Aggregate> AggregateActor<A> {
    /// Makes the actor of one aggregate. Nothing is loaded yet.
    #[must_use]
    pub fn new(desk: Desk, waiting: Rc<Cell<usize>>) -> Self {
        Self {
            desk,
            loaded: None,
            kept: Kept::default(),
            queue: Queue::new(),
            busy: false,
            stopping: false,
            waiting,
        }
    }

    fn count_out(&self, answered: usize) {
        self.waiting
            .set(self.waiting.get().saturating_sub(answered));
    }

    fn start_turn(&mut self, context: &mut actix::Context<Self>) {
        if self.busy {
            return;
        }
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
        let begun = Instant::now();
        for pending in &queue {
            let waited = begun.saturating_duration_since(pending.reply.arrived());
            MEASURES.queue.record(waited.as_secs_f64());
            traces::took("queue", once(&pending.headers), pending.reply.arrived());
        }
        // Boxed at once: it is large, and would be moved several times on its way.
        let turn = Box::pin(async move {
            let loaded = turn::run(desk, loaded, &mut queue, &mut kept).await;
            (loaded, kept)
        });
        context.spawn(turn.into_actor(self).map(move |left, actor, context| {
            (actor.loaded, actor.kept) = left;
            actor.busy = false;
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

impl<A: Aggregate> Handler<Passivate> for AggregateActor<A> {
    type Result = ();

    fn handle(&mut self, _: Passivate, context: &mut Self::Context) {
        self.stopping = true;
        let worth = self.loaded.as_mut().filter(|one| one.is_worth_a_snapshot());
        let Some(loaded) = worth.filter(|_| !self.busy) else {
            self.start_turn(context);
            return;
        };
        let write = turn::write_snapshot(&self.desk, loaded);
        self.loaded = None;
        self.busy = true;
        context.spawn(write.into_actor(self).map(|_, actor, context| {
            actor.busy = false;
            actor.start_turn(context);
        }));
    }
}
