//! Requests to other replicas, and their answers.
//!
//! The client library keeps what was asked and never answered for good, and waits without a bound for a
//! connection to take a request. So answers come by a subscription of our own, each on a subject that ends
//! with a number that is used once, and what is not waited for any more is forgotten.

use super::placement::Unanswered;
use crate::connection::is_up;
use async_nats::{Client, HeaderMap, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout_at};

/// What is asked by one connection.
#[derive(Debug)]
pub(super) struct Asks {
    nats: Client,
    /// Opened when it is needed first, and again when the runtime that served it has gone.
    inbox: RwLock<Option<Arc<Inbox>>>,
}

#[derive(Debug)]
struct Inbox {
    subject: String,
    waiting: Arc<Waiting>,
    receiving: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    last: AtomicU64,
    for_answers: Mutex<HashMap<u64, oneshot::Sender<Message>>>,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Message>>> {
        self.for_answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that is waited for. It is forgotten when this is dropped.
struct Awaited {
    waiting: Arc<Waiting>,
    number: u64,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.number);
    }
}

impl Asks {
    pub(super) fn new(nats: Client) -> Self {
        Self {
            nats,
            inbox: RwLock::default(),
        }
    }

    /// The connection.
    pub(super) fn nats(&self) -> &Client {
        &self.nats
    }

    /// Sends a request and waits for its answer until then.
    pub(super) async fn ask(
        &self,
        subject: String,
        headers: HeaderMap,
        body: Bytes,
        until: Instant,
    ) -> Result<Message, Unanswered> {
        if !is_up(&self.nats) {
            return Err(Unanswered::NotSent);
        }
        let until = until.into();
        let opening = timeout_at(until, self.open());
        let inbox = opening.await.map_err(|_| Unanswered::NotSent)??;
        let number = inbox.waiting.last.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        inbox.waiting.lock().insert(number, sender);
        let _awaited = Awaited {
            waiting: inbox.waiting.clone(),
            number,
        };
        let reply = format!("{}.{number}", inbox.subject);
        let sending = self
            .nats
            .publish_with_reply_and_headers(subject, reply, headers, body);
        match timeout_at(until, sending).await {
            Ok(Ok(())) => {}
            // Too large, or of a form that no subject has, or the connection has ended.
            Ok(Err(_)) => return Err(Unanswered::Nobody),
            // What waits for a place in the connection's queue and is dropped is not sent.
            Err(_) => return Err(Unanswered::NotSent),
        }
        match timeout_at(until, answer).await {
            Ok(Ok(answer)) if answer.status == Some(StatusCode::NO_RESPONDERS) => {
                Err(Unanswered::Nobody)
            }
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(Unanswered::InDoubt),
        }
    }

    async fn open(&self) -> Result<Arc<Inbox>, Unanswered> {
        let is_open = |inbox: &&Arc<Inbox>| !inbox.receiving.is_finished();
        {
            let inbox = self.inbox.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(inbox) = inbox.as_ref().filter(is_open) {
                return Ok(inbox.clone());
            }
        }
        let subject = self.nats.new_inbox();
        let answers = self.nats.subscribe(format!("{subject}.*")).await;
        let answers = answers.map_err(|_| Unanswered::NotSent)?;
        let waiting = Arc::new(Waiting::default());
        let receiving = receive(answers, subject.len() + 1, waiting.clone());
        let opened = Arc::new(Inbox {
            subject,
            waiting,
            receiving: tokio::spawn(receiving),
        });
        let mut inbox = self.inbox.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(faster) = inbox.as_ref().filter(is_open) {
            opened.receiving.abort();
            return Ok(faster.clone());
        }
        *inbox = Some(opened.clone());
        Ok(opened)
    }
}

impl Drop for Asks {
    fn drop(&mut self) {
        let inbox = self.inbox.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(inbox) = inbox.take() {
            inbox.receiving.abort();
        }
    }
}

/// Hands answers to those that wait for them.
async fn receive(mut answers: Subscriber, prefix: usize, waiting: Arc<Waiting>) {
    while let Some(answer) = answers.next().await {
        let number = answer.subject.get(prefix..).and_then(|it| it.parse().ok());
        let Some(number) = number else { continue };
        let sender = waiting.lock().remove(&number);
        if let Some(sender) = sender {
            let _ = sender.send(answer);
        }
    }
}
