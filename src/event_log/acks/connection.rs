//! A connection that goes takes with it the acknowledgements that were to come by it.
//!
//! They are not waited for until it is too late: as soon as there is a connection again, each such append is
//! in doubt, and settled from the log. What was sent after the loss waits in the client and is sent by the new one.

use super::window::Window;
use async_nats::{Client, connection::State};
use std::sync::atomic::Ordering;

/// One client's connection, as far as it was looked at.
pub(super) struct Connection {
    client: Client,
    /// The number of times that it had been made when it was looked at last.
    made: u64,
    /// The number of the first append that was sent after it had been lost.
    lost_before: Option<u64>,
}

impl Connection {
    pub(super) fn of(client: &Client) -> Self {
        Self {
            client: client.clone(),
            made: made(client),
            lost_before: None,
        }
    }

    /// Looks at the connection, which may have been lost or made anew, and ends the wait of those whose
    /// acknowledgements went with the one before.
    pub(super) fn end_lost(&mut self, window: &mut Window) {
        let made = made(&self.client);
        if made != self.made {
            self.made = made;
            let first = self.lost_before.take().unwrap_or_else(|| window.next());
            window.end_before(first, "the connection was lost before its acknowledgement");
        } else if self.client.connection_state() != State::Connected {
            self.lost_before.get_or_insert_with(|| window.next());
        }
    }
}

fn made(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}
