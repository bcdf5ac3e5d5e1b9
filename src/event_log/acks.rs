//! Waiting for the acknowledgements of appends.
//!
//! They all come by one subscription, each on a subject of its own that ends with a number. All are
//! waited for equally long: so those that are waited for are a window that moves on, and one timer is
//! enough for all of them.
//!
//! A number is never given out again, since a second acknowledgement, or a late refusal by a server that
//! was cut off, may come at any time: it would be taken for somebody else's.

mod connection;
mod window;

use super::{
    ack::{self, AppendError, Published},
    health::LogHealth,
};
use async_nats::{
    Client, HeaderMap, Message, PublishError, SubscribeError, Subscriber, client::PublishErrorKind,
};
use bytes::Bytes;
use connection::Connection;
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Either, select},
};
use std::{
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    task::{AbortHandle, coop::unconstrained},
    time::{Instant, sleep},
};
use window::Window;

/// So many acknowledgements are handed on before others have their turn on the thread.
const PORTION: usize = 64;

/// The fate of a message.
pub(super) type Answer = Result<Published, AppendError>;

/// The acknowledgements of one connection, and those who wait for them.
#[derive(Debug)]
pub(super) struct Acks {
    client: Client,
    /// The time one is waited for.
    within: Duration,
    /// Is told what the server refuses.
    health: LogHealth,
    /// Opened when it is needed first, and again when the runtime that served it has gone.
    inbox: RwLock<Option<Arc<Inbox>>>,
}

impl Acks {
    pub(super) fn new(client: Client, within: Duration, health: LogHealth) -> Self {
        Self {
            client,
            within,
            health,
            inbox: RwLock::default(),
        }
    }

    /// The same by another connection.
    pub(super) fn over(&self, client: Client) -> Arc<Self> {
        Arc::new(Self::new(client, self.within, self.health.clone()))
    }

    /// Publishes a message and waits for its acknowledgement.
    pub(super) async fn publish(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Answer {
        self.open().await?;
        self.send(subject, headers, payload)?.acked().await
    }

    /// Makes sure that acknowledgements are received.
    pub(super) async fn open(&self) -> Result<(), AppendError> {
        if self.is_open() {
            return Ok(());
        }
        let away = |reason: &dyn fmt::Display| AppendError::Unavailable(reason.to_string());
        let opening = Inbox::open(&self.client, self.within, &self.health);
        let opened = tokio::time::timeout(self.within, opening).await;
        let opened = opened.map_err(|late| away(&late))?;
        let opened = opened.map_err(|refused| away(&refused))?;
        let mut inbox = self.inbox.write().unwrap_or_else(PoisonError::into_inner);
        // Who has been faster may have been asked for something already.
        if inbox.as_ref().is_none_or(|faster| !faster.window().open) {
            *inbox = Some(Arc::new(opened));
        }
        Ok(())
    }

    pub(super) fn is_open(&self) -> bool {
        self.inbox().is_some_and(|inbox| inbox.window().open)
    }

    fn inbox(&self) -> Option<Arc<Inbox>> {
        let inbox = self.inbox.read().unwrap_or_else(PoisonError::into_inner);
        inbox.clone()
    }

    /// Sends a message on its way. What is returned waits for its acknowledgement, so long at most,
    /// counted from now, also while the connection is away and takes nothing.
    pub(super) fn send(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Sending<'_>, AppendError> {
        let closed = || AppendError::Unavailable("acknowledgements are not received".to_owned());
        let inbox = self.inbox().ok_or_else(closed)?;
        let (sender, answer) = oneshot::channel();
        let until = Instant::now() + self.within;
        let number = inbox.window().add(until, sender).ok_or_else(closed)?;
        let reply = inbox.reply_subject(number);
        let client = &self.client;
        let mut publishing = client
            .publish_with_reply_and_headers(subject, reply, headers, payload)
            .boxed();
        // Almost always the connection has room, and nothing of the message is held any longer.
        let publishing = match unconstrained(&mut publishing).now_or_never() {
            Some(Ok(())) => None,
            Some(Err(error)) => {
                inbox.window().take_back(number);
                return Err(not_sent(&error));
            }
            None => Some(publishing),
        };
        Ok(Sending { publishing, answer })
    }
}

/// A message on its way.
pub(super) struct Sending<'a> {
    /// Until the connection has taken it.
    publishing: Option<BoxFuture<'a, Result<(), PublishError>>>,
    answer: oneshot::Receiver<Answer>,
}

impl Sending<'_> {
    /// Waits for the acknowledgement.
    pub(super) async fn acked(self) -> Answer {
        let gone = |_| AppendError::InDoubt("acknowledgements are not received".to_owned());
        let mut answer = self.answer;
        if let Some(publishing) = self.publishing {
            match select(publishing, &mut answer).await {
                Either::Left((Ok(()), _)) => {}
                Either::Left((Err(error), _)) => return Err(not_sent(&error)),
                Either::Right((late, _)) => return late.map_err(gone)?,
            }
        }
        answer.await.map_err(gone)?
    }
}

fn not_sent(error: &PublishError) -> AppendError {
    match error.kind() {
        PublishErrorKind::Send => AppendError::Unavailable(error.to_string()),
        PublishErrorKind::InvalidSubject | PublishErrorKind::MaxPayloadExceeded => {
            AppendError::Refused(error.to_string())
        }
    }
}

/// A subscription for acknowledgements, and those that are waited for.
#[derive(Debug)]
struct Inbox {
    subject: String,
    window: Arc<Mutex<Window>>,
    receiving: AbortHandle,
}

impl Inbox {
    /// Subscribes, and receives from then on.
    async fn open(
        client: &Client,
        within: Duration,
        health: &LogHealth,
    ) -> Result<Self, SubscribeError> {
        let subject = client.new_inbox();
        let acks = client.subscribe(format!("{subject}.*")).await?;
        let window = Arc::new(Mutex::new(Window::default()));
        let receiver = Receiving {
            window: window.clone(),
            prefix: subject.len() + 1,
            health: health.clone(),
        };
        let receiving = receive(acks, receiver, Connection::of(client), within);
        Ok(Self {
            subject,
            window,
            receiving: tokio::spawn(receiving).abort_handle(),
        })
    }

    fn reply_subject(&self, number: u64) -> String {
        let mut subject = String::with_capacity(self.subject.len() + 21);
        subject.push_str(&self.subject);
        subject.push('.');
        subject.push_str(itoa::Buffer::new().format(number));
        subject
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        lock(&self.window)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.receiving.abort();
    }
}

fn lock(window: &Mutex<Window>) -> MutexGuard<'_, Window> {
    window.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Closes the window when nobody receives any more.
struct Receiving {
    window: Arc<Mutex<Window>>,
    /// The place where the number stands in the subject of an acknowledgement.
    prefix: usize,
    health: LogHealth,
}

impl Receiving {
    /// Hands an acknowledgement to the one that waits for it.
    fn hand_on(&self, ack: Message) {
        let number = ack.subject.get(self.prefix..);
        let number = number.and_then(|it| it.parse().ok());
        let Some(number) = number else { return };
        let answer = ack::read(&ack, &self.health);
        lock(&self.window).answer(number, answer);
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        lock(&self.window).close();
    }
}

/// Hands acknowledgements to those that wait for them, and tells them when it has taken too long.
async fn receive(
    mut acks: Subscriber,
    receiver: Receiving,
    mut connection: Connection,
    within: Duration,
) {
    // It never rings too late for what comes after it was set: all wait equally long.
    let mut alarm = pin!(sleep(within));
    let mut denials = receiver.health.denials();
    let mut connections = receiver.health.connections();
    let mut elections = receiver.health.elections();
    loop {
        tokio::select! {
            biased;
            ack = acks.next() => {
                let Some(ack) = ack else { break };
                receiver.hand_on(ack);
                // What came with it.
                for _ in 1..PORTION {
                    let Some(Some(ack)) = unconstrained(acks.next()).now_or_never() else { break };
                    receiver.hand_on(ack);
                }
            }
            Ok(()) = denials.changed() => {
                // It does not say which. What is stored all the same is found in the log.
                lock(&receiver.window).end_all("the server does not permit to append");
            }
            Ok(()) = connections.changed() => {
                connection.end_lost(&mut lock(&receiver.window));
            }
            Ok(()) = elections.changed() => {
                // The leader before takes its acknowledgements with it. What it has stored is found in the log.
                lock(&receiver.window).end_all("the log has got another leader");
            }
            () = &mut alarm => {
                let now = Instant::now();
                let next = lock(&receiver.window).end_late(now);
                alarm.as_mut().reset(next.unwrap_or(now + within));
            }
        }
    }
}
