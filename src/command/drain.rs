//! A subscription that can be ended without losing what the server has sent already.
//!
//! The client library forgets a subscription when it ends it, and drops what is still on its way.
//! So the server is told to end it after a number of messages instead, a little more than it can
//! have sent, and the rest of that number is made up by messages that mean nothing. The server then
//! stops at exactly that message, and the client waits for exactly that many.
//!
//! Only on the connection on which it was begun do both count alike. After a reconnection the
//! subscription is ended the client library's way: what the server sends in the moment until it hears of
//! that is not answered, and is for whoever sent it as if it had been lost on the network.

use crate::connection::flush;
use async_nats::{Client, Message, Subscriber};
use futures::{FutureExt, StreamExt};
use std::{sync::atomic::Ordering, time::Duration};
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};

/// More than the server can have sent since the reader took what there was: a good hundred
/// milliseconds of it at the rate that a thread of this program can take.
const SLACK: u64 = 16_384;
/// How many meaningless messages are sent at once.
const PORTION: u64 = 256;
/// How long the end may take to come, before what is left is given up: the connection is away then.
const PATIENCE: Duration = Duration::from_secs(5);

/// A subscription that can be drained.
pub struct Drainable {
    nats: Client,
    requests: Subscriber,
    /// A subject that the subscription takes and that means nothing.
    filler: String,
    taken: u64,
    /// The connection on which it was begun: another one counts anew.
    connection: u64,
    draining: Option<Draining>,
}

struct Draining {
    filling: Option<JoinHandle<()>>,
    until: Instant,
}

impl Drainable {
    /// Takes over a subscription that was just made.
    pub fn new(nats: Client, requests: Subscriber, filler: String) -> Self {
        Self {
            connection: connections(&nats),
            nats,
            requests,
            filler,
            taken: 0,
            draining: None,
        }
    }

    /// The next message that is here already.
    pub fn ready(&mut self) -> Option<Message> {
        // Without the budget that has a busy task yield in between, which would look like the end.
        tokio::task::unconstrained(self.next())
            .now_or_never()
            .flatten()
    }

    /// The next message; `None` once it is drained.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            let next = match &self.draining {
                None => self.requests.next().await,
                Some(draining) => {
                    let next = tokio::time::timeout_at(draining.until, self.requests.next());
                    next.await.unwrap_or_else(|_| {
                        tracing::warn!("a subscription was given up before its end came");
                        None
                    })
                }
            };
            self.taken += 1;
            match next {
                Some(message) if *message.subject == *self.filler => {}
                Some(message) => return Some(message),
                None => {
                    self.stop_filling();
                    return None;
                }
            }
        }
    }

    /// Ends it: what the server has sent by now still comes, and then the end.
    pub async fn drain(&mut self) {
        let whole = self.connection == connections(&self.nats);
        let ended = if whole {
            self.requests.unsubscribe_after(self.taken + SLACK).await
        } else {
            self.requests.drain().await
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "a subscription was not ended");
        }
        let (nats, filler) = (self.nats.clone(), self.filler.clone());
        self.draining = Some(Draining {
            filling: whole.then(|| tokio::spawn(fill(nats, filler))),
            until: Instant::now() + PATIENCE,
        });
    }

    fn stop_filling(&mut self) {
        let filling = self.draining.as_mut().and_then(|one| one.filling.take());
        if let Some(filling) = filling {
            filling.abort();
        }
    }
}

impl Drop for Drainable {
    fn drop(&mut self) {
        self.stop_filling();
    }
}

/// Sends what means nothing until it is aborted: little by little, since commands queue behind it.
async fn fill(nats: Client, filler: String) {
    let mut portions = tokio::time::interval(Duration::from_millis(1));
    portions.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        portions.tick().await;
        for _ in 0..PORTION {
            if nats.publish(filler.clone(), "".into()).await.is_err() {
                return;
            }
        }
        if flush(&nats).await.is_err() {
            return;
        }
    }
}

fn connections(nats: &Client) -> u64 {
    nats.statistics().connects.load(Ordering::Relaxed)
}
