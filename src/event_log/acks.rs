//! Waiting for the acknowledgements of appends.
//!
//! They all come by one subscription, each on a subject of its own that ends with a number. Numbers are
//! given out in turn, never twice, and all acknowledgements are waited for equally long: so those that
//! are waited for are a window that moves on, and one timer is enough for all of them.

use super::append::AppendError;
use async_nats::{
    Client, HeaderMap, Message, PublishError, StatusCode, SubscribeError, Subscriber,
    client::PublishErrorKind,
};
use bytes::Bytes;
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Either, select},
};
use std::{
    collections::VecDeque,
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

/// So many acknowledgements are handed on before others have their turn on the thread.
const PORTION: usize = 64;

/// The acknowledgement of a message, which may be a refusal.
pub(super) type Answer = Result<Message, AppendError>;

/// Where the acknowledgements of one connection are waited for.
#[derive(Debug)]
pub(super) struct Acks {
    client: Client,
    /// How long one is waited for.
    within: Duration,
    /// Opened when it is needed first, and again when the runtime that served it has gone.
    inbox: RwLock<Option<Arc<Inbox>>>,
}

impl Acks {
    pub(super) fn new(client: Client, within: Duration) -> Self {
        Self {
            client,
            within,
            inbox: RwLock::default(),
        }
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
        let opening = Inbox::open(&self.client, self.within);
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
        let added = inbox.window().add(Waiting { until, sender });
        let number = added.ok_or_else(closed)?;
        let reply = inbox.reply_subject(number);
        let client = &self.client;
        let mut publishing = client
            .publish_with_reply_and_headers(subject, reply, headers, payload)
            .boxed();
        // Almost always the connection has room, and nothing of the message is held any longer.
        let publishing = match unconstrained(&mut publishing).now_or_never() {
            Some(Ok(())) => None,
            Some(Err(error)) => {
                inbox.window().take(number);
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
    async fn open(client: &Client, within: Duration) -> Result<Self, SubscribeError> {
        let subject = client.new_inbox();
        let acks = client.subscribe(format!("{subject}.*")).await?;
        let window = Arc::new(Mutex::new(Window {
            open: true,
            first: 0,
            waiting: VecDeque::new(),
        }));
        let receiving = receive(acks, subject.len() + 1, Receiving(window.clone()), within);
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
struct Receiving(Arc<Mutex<Window>>);

impl Receiving {
    /// Hands an acknowledgement to the one that waits for it. Its number stands after the prefix.
    fn hand_on(&self, prefix: usize, ack: Message) {
        let number = ack.subject.get(prefix..).and_then(|it| it.parse().ok());
        let waiting = number.and_then(|number| lock(&self.0).take(number));
        let Some(waiting) = waiting else { return };
        waiting.tell(match ack.status {
            Some(StatusCode::NO_RESPONDERS) => Err(AppendError::Unavailable(
                "no stream takes the subject".to_owned(),
            )),
            _ => Ok(ack),
        });
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let mut window = lock(&self.0);
        window.open = false;
        // Whoever waits is told by the sender that goes.
        window.waiting.clear();
    }
}

/// Hands acknowledgements to those that wait for them, and tells them when it has taken too long.
async fn receive(mut acks: Subscriber, prefix: usize, window: Receiving, within: Duration) {
    // It never rings too late for what comes after it was set: all wait equally long.
    let mut alarm = pin!(sleep(within));
    loop {
        tokio::select! {
            biased;
            ack = acks.next() => {
                let Some(ack) = ack else { break };
                window.hand_on(prefix, ack);
                // What came with it.
                for _ in 1..PORTION {
                    let Some(Some(ack)) = unconstrained(acks.next()).now_or_never() else { break };
                    window.hand_on(prefix, ack);
                }
            }
            () = &mut alarm => {
                let now = Instant::now();
                let next = lock(&window.0).end_late(now);
                alarm.as_mut().reset(next.unwrap_or(now + within));
            }
        }
    }
}

/// One that waits.
#[derive(Debug)]
struct Waiting {
    until: Instant,
    sender: oneshot::Sender<Answer>,
}

impl Waiting {
    fn tell(self, answer: Answer) {
        // Who does not wait any more does not matter.
        let _ = self.sender.send(answer);
    }
}

/// Those that wait, by number; the first of them is always there.
#[derive(Debug)]
struct Window {
    open: bool,
    /// The number of the first.
    first: u64,
    waiting: VecDeque<Option<Waiting>>,
}

impl Window {
    /// Adds one and returns its number; `None` when nobody receives any more.
    fn add(&mut self, waiting: Waiting) -> Option<u64> {
        if !self.open {
            return None;
        }
        self.waiting.push_back(Some(waiting));
        Some(self.first + self.waiting.len() as u64 - 1)
    }

    fn take(&mut self, number: u64) -> Option<Waiting> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let taken = self.waiting.get_mut(index)?.take();
        self.move_on();
        taken
    }

    fn move_on(&mut self) {
        while let Some(None) = self.waiting.front() {
            self.waiting.pop_front();
            self.first += 1;
        }
    }

    /// Ends what has waited too long, and tells until when the next may wait.
    fn end_late(&mut self, now: Instant) -> Option<Instant> {
        loop {
            match self.waiting.front_mut()? {
                Some(first) if first.until > now => return Some(first.until),
                first => {
                    if let Some(late) = first.take() {
                        late.tell(Err(AppendError::InDoubt(
                            "there was no acknowledgement in time".to_owned(),
                        )));
                    }
                    self.move_on();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        Window {
            open: true,
            first: 0,
            waiting: VecDeque::new(),
        }
    }

    fn one(until: Instant) -> (Waiting, oneshot::Receiver<Answer>) {
        let (sender, answer) = oneshot::channel();
        (Waiting { until, sender }, answer)
    }

    #[test]
    fn each_number_is_taken_once_and_the_window_moves_on() {
        let mut window = window();
        let now = Instant::now();
        for number in 0..4 {
            assert_eq!(window.add(one(now).0), Some(number));
        }
        assert!(window.take(1).is_some());
        assert_eq!((window.first, window.waiting.len()), (0, 4));
        assert!(window.take(1).is_none());
        assert!(window.take(0).is_some());
        assert_eq!((window.first, window.waiting.len()), (2, 2));
        assert!(window.take(0).is_none(), "an answer that comes twice");
        assert!(window.take(7).is_none(), "a number that was not given out");
        assert!(window.take(3).is_some() && window.take(2).is_some());
        assert_eq!((window.first, window.waiting.len()), (4, 0));
        assert_eq!(window.add(one(now).0), Some(4));
    }

    #[test]
    fn who_waits_too_long_is_told_and_the_others_go_on() {
        let mut window = window();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let (late, mut told) = one(now);
        window.add(late).unwrap();
        window.add(one(now).0).unwrap();
        let (waits, mut waiting) = one(later);
        window.add(waits).unwrap();
        window.take(1).unwrap();
        assert_eq!(window.end_late(now), Some(later));
        let told = told.try_recv().unwrap();
        assert!(matches!(told, Err(AppendError::InDoubt(_))));
        assert!(waiting.try_recv().is_err());
        assert_eq!(window.end_late(later), None);
        assert!(waiting.try_recv().unwrap().is_err());
    }
}
