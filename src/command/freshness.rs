//! The earliest moment at which a message can have been sent to a subscription of this process.
//!
//! A message says nothing of when it was sent. It may have waited in a socket while this process or the
//! network stood still. So the connection is asked again and again for an echo: the server sends
//! everything to one connection in order, so what comes after an echo was sent after that echo was asked
//! for.

use crate::connection::is_up;
use async_nats::{Client, SubscribeError, Subscriber};
use futures::StreamExt;
use std::time::{Duration, Instant};
use tokio::time::{Instant as Alarm, sleep_until};

/// The pause between two echoes.
const OFTEN: Duration = Duration::from_millis(500);
/// The same while none has come for a while.
const OFTENER: Duration = Duration::from_millis(50);
/// The most messages that wait between the connection and who takes them from a subscription: the
/// client library's bound, past which it drops them.
const BEHIND: usize = 65_536;

/// The freshness of what comes by a subscription.
pub(super) struct Freshness {
    nats: Client,
    inbox: String,
    echoes: Subscriber,
    begun: Instant,
    next: Alarm,
    /// A moment that all that is taken now was sent after.
    since: Instant,
    /// The time when the latest echo that came was asked for.
    echoed: Option<Instant>,
    /// An earlier echo, and how many messages may still wait that came before it.
    behind: Option<(Instant, usize)>,
}

impl Freshness {
    /// Begins with a subscription that was just made on this connection.
    pub async fn begin(nats: Client) -> Result<Self, SubscribeError> {
        let inbox = nats.new_inbox();
        let echoes = nats.subscribe(inbox.clone()).await?;
        let now = Instant::now();
        Ok(Self {
            nats,
            inbox,
            echoes,
            begun: now,
            next: Alarm::now(),
            since: now,
            echoed: None,
            behind: None,
        })
    }

    /// Returns the moment before which nothing was sent of what is taken now.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Waits until there is an echo, and asks for more meanwhile. It may be dropped and called again.
    pub async fn echo(&mut self) {
        loop {
            tokio::select! {
                biased;
                echo = self.echoes.next() => {
                    let Some(echo) = echo else { return std::future::pending().await };
                    let text = str::from_utf8(&echo.payload).ok();
                    let Some(asked) = text.and_then(|text| text.parse().ok()) else { continue };
                    let asked = self.begun + Duration::from_micros(asked);
                    self.echoed = Some(asked);
                    self.behind.get_or_insert((asked, BEHIND));
                    return;
                }
                () = sleep_until(self.next) => self.ask().await,
            }
        }
    }

    async fn ask(&mut self) {
        let late = self.since.elapsed() > 2 * OFTEN;
        self.next = Alarm::now() + if late { OFTENER } else { OFTEN };
        // What is asked while the connection is away would be sent later, and tell nothing.
        if is_up(&self.nats) {
            let asked = self.begun.elapsed().as_micros().to_string();
            let _ = self.nats.publish(self.inbox.clone(), asked.into()).await;
        }
    }

    /// Notes that a message was taken.
    pub fn taken(&mut self) {
        if let Some((asked, left)) = &mut self.behind {
            *left -= 1;
            if *left == 0 {
                self.since = *asked;
                self.behind = None;
            }
        }
    }

    /// Notes that there was nothing left to take, and so nothing that came before the latest echo.
    pub fn emptied(&mut self) {
        if let Some(echoed) = self.echoed.take() {
            self.since = echoed;
            self.behind = None;
        }
    }
}
