//! A subscription that can be ended without losing what the server has sent already.
//!
//! The client library forgets a subscription when it ends it, and drops what is still on its way. It keeps
//! one that is to end after a number of messages. The server ends a subscription at once when that
//! number is not above what it has delivered, and also when it has more than nine digits, which it does not
//! take for a number. So a number of ten digits ends it there and keeps it here. What the server sent
//! before comes before the answer to whatever it is asked next.

use crate::connection::round_trip;
use async_nats::{Client, Message, Subscriber};
use futures::{FutureExt, StreamExt};

/// A number of messages that no server counts to.
const NEVER: u64 = 9_999_999_999;

/// A subscription that can be drained.
pub struct Drainable {
    nats: Client,
    requests: Subscriber,
    /// True if the server sends no more, and all that it sent is here.
    complete: bool,
}

impl Drainable {
    /// Takes over a subscription that was just made.
    pub fn new(nats: Client, requests: Subscriber) -> Self {
        Self {
            nats,
            requests,
            complete: false,
        }
    }

    /// Returns the next message that is here already.
    pub fn ready(&mut self) -> Option<Message> {
        // Without the budget that has a busy task yield in between, which would look like the end.
        tokio::task::unconstrained(self.requests.next())
            .now_or_never()
            .flatten()
    }

    /// Returns the next message; `None` once it is drained.
    pub async fn next(&mut self) -> Option<Message> {
        if self.complete {
            return self.ready();
        }
        self.requests.next().await
    }

    /// Ends it: what the server has sent by now still comes, and then the end.
    pub async fn drain(&mut self) {
        if let Err(error) = self.requests.unsubscribe_after(NEVER).await {
            tracing::warn!(%error, "a subscription was not ended");
        }
        // While the connection is away nothing comes either.
        if let Err(error) = round_trip(&self.nats).await {
            tracing::warn!(%error, "a subscription was given up before its end came");
        }
        self.complete = true;
    }
}
