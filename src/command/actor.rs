//! One actor per live aggregate: it queues commands and runs one turn at a time.

use super::{
    measure::MEASURES,
    request::{CommandHeaders, Outcome},
    room::Place,
    traces,
    turn::{self, Desk, Loaded, Pending},
};
use crate::{aggregate::Aggregate, problem::Problem};
use actix::prelude::*;
use bytes::Bytes;
use std::{cell::Cell, collections::VecDeque, rc::Rc, time::Instant};
use tokio::sync::oneshot;

/// The most commands that wait for one aggregate; the next is answered `overloaded`.
pub const MAX_QUEUE: usize = 4096;

/// A command for the actor's aggregate, and where the answer goes.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Execute {
    /// The command's name.
    pub command: String,
    /// Its fields as JSON.
    pub body: Bytes,
    /// Its headers.
    pub headers: CommandHeaders,
    /// When it came.
    pub arrived: Instant,
    /// Where the answer goes.
    pub reply: Reply,
}

/// Where the answer to one command goes, and the place that the command takes up until then.
pub struct Reply {
    sender: oneshot::Sender<Result<Outcome, Problem>>,
    _place: Place,
}

impl Reply {
    /// Pairs the caller with the command's place.
    #[must_use]
    pub(super) fn new(sender: oneshot::Sender<Result<Outcome, Problem>>, place: Place) -> Self {
        Self {
            sender,
            _place: place,
        }
    }

    /// Answers. The caller may have gone; what was appended stands all the same.
    pub fn send(self, outcome: Result<Outcome, Problem>) {
        let _ = self.sender.send(outcome);
    }
}

/// Asks an idle actor to write what is worth a snapshot and stop.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Passivate;

/// The actor of one live aggregate.
pub struct AggregateActor<A: Aggregate> {
    desk: Desk,
    /// `None` before the first turn, and whenever the state is not known to be the log's.
    loaded: Option<Loaded<A>>,
    queue: VecDeque<Pending<A>>,
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
            queue: VecDeque::new(),
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
        let mut queue = std::mem::take(&mut self.queue);
        let taken = queue.len();
        let begun = Instant::now();
        for pending in &queue {
            let waited = begun.saturating_duration_since(pending.arrived);
            MEASURES.queue.record(waited.as_secs_f64());
            traces::took("queue", std::iter::once(&pending.headers), pending.arrived);
        }
        let turn = async move { turn::run(desk, loaded, &mut queue).await };
        context.spawn(turn.into_actor(self).map(move |loaded, actor, context| {
            actor.loaded = loaded;
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
            execute.arrived,
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
        let worth = |loaded: &Loaded<A>| loaded.events_since_snapshot() >= turn::WORTH_A_SNAPSHOT;
        if self.busy || !self.loaded.as_ref().is_some_and(worth) {
            self.start_turn(context);
            return;
        }
        self.busy = true;
        let desk = self.desk.clone();
        let loaded = self.loaded.take();
        let write = async move {
            if let Some(mut loaded) = loaded {
                turn::write_snapshot(&desk, &mut loaded).await;
            }
        };
        context.spawn(write.into_actor(self).map(|(), actor, context| {
            actor.busy = false;
            actor.start_turn(context);
        }));
    }
}
