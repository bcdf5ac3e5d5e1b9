//! Requests to other replicas, and their answers.
//!
//! The client library keeps what was asked and never answered for good, and waits without a bound for a
//! connection to take a request. So answers come by a subscription of our own: to a request, on a subject that ends
//! with a number that is used once, to what goes in groups, many in a message on a subject for all. What is not waited
//! for any more is forgotten.

use super::{
    answer::PeerAnswer,
    frames::Frames,
    grouped::{ANSWERS, AnswerHead},
};
use crate::{connection::is_up, problem::Problem};
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

/// The reason why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// Nobody got the command: it can be given to another replica.
    Nobody,
    /// The connection is away or does not take it: nobody will ever get it.
    NotSent,
    /// It was sent and no answer came: it may have been accepted.
    InDoubt,
}

impl From<Unanswered> for Problem {
    fn from(unanswered: Unanswered) -> Self {
        Self::unavailable(match unanswered {
            Unanswered::Nobody => "no replica serves commands now; nothing was done",
            Unanswered::NotSent => "NATS is away; nothing was done",
            Unanswered::InDoubt => {
                "no replica answered in time; retry with the same Idempotency-Key"
            }
        })
    }
}

type Answer = Result<PeerAnswer, Unanswered>;

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Asks {
    nats: Client,
    /// Opened when it is needed first, and again when the runtime that served it has gone.
    inbox: RwLock<Option<Arc<Inbox>>>,
    waiting: Arc<Waiting>,
    /// The numbers of the last that was asked, and of the last message with a group.
    last: [AtomicU64; 2],
}

#[derive(Debug)]
struct Inbox {
    subject: String,
    receiving: JoinHandle<()>,
}

/// Those that wait for answers.
#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<u64, Sent>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Sent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, number: u64, answer: Answer) {
        let sent = self.lock().remove(&number);
        if let Some(sent) = sent {
            sent.asked.tell(answer);
        }
    }

    /// Nobody got this group.
    fn nobody(&self, group: u64) {
        let gone: Vec<Sent> = {
            let mut waiting = self.lock();
            let of_group = waiting.extract_if(|_, sent| sent.group == Some(group));
            of_group.map(|(_, sent)| sent).collect()
        };
        for sent in gone {
            sent.asked.tell(Err(Unanswered::Nobody));
        }
    }
}

/// One that was sent.
#[derive(Debug)]
struct Sent {
    asked: Asked,
    group: Option<u64>,
}

/// One that is asked: where its answer goes.
#[derive(Debug)]
pub(super) struct Asked {
    /// Tells it from all others.
    pub number: u64,
    answer: oneshot::Sender<Answer>,
}

impl Asked {
    /// Returns whether nobody waits for the answer.
    pub(super) fn is_given_up(&self) -> bool {
        self.answer.is_closed()
    }

    /// Tells what became of it.
    pub(super) fn tell(self, answer: Answer) {
        // Whoever asked may have gone.
        let _ = self.answer.send(answer);
    }
}

/// One that is waited for. It is forgotten when this is dropped.
pub(super) struct Awaited {
    number: u64,
    answer: oneshot::Receiver<Answer>,
    waiting: Arc<Waiting>,
    answered: bool,
}

impl Awaited {
    /// Waits for the answer until then.
    pub(super) async fn answer(mut self, until: Instant) -> Answer {
        match timeout_at(until.into(), &mut self.answer).await {
            Ok(Ok(answer)) => {
                self.answered = true;
                answer
            }
            Ok(Err(_)) | Err(_) => Err(Unanswered::InDoubt),
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if !self.answered {
            // Before it is looked for: if it is not there yet, it is not put there later.
            self.answer.close();
            self.waiting.lock().remove(&self.number);
        }
    }
}

impl Asks {
    pub(super) fn new(nats: Client) -> Self {
        Self {
            nats,
            inbox: RwLock::default(),
            waiting: Arc::default(),
            last: Default::default(),
        }
    }

    /// The connection.
    pub(super) fn nats(&self) -> &Client {
        &self.nats
    }

    /// Something that is about to be asked, and what waits for its answer.
    pub(super) fn begin(&self) -> (Asked, Awaited) {
        let number = self.last[0].fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let asked = Asked {
            number,
            answer: sender,
        };
        let awaited = Awaited {
            number,
            answer,
            waiting: self.waiting.clone(),
            answered: false,
        };
        (asked, awaited)
    }

    /// Returns the most bytes of a message.
    pub(super) fn max_payload(&self) -> usize {
        self.nats.server_info().max_payload
    }

    /// Sends a request, or tells that it was not sent by then.
    pub(super) async fn send(
        &self,
        subject: String,
        headers: HeaderMap,
        body: Bytes,
        asked: Asked,
        until: Instant,
    ) {
        let number = asked.number;
        let outgoing = Outgoing {
            subject,
            reply: number.to_string(),
            headers: Some(headers),
            body,
            group: None,
        };
        self.send_as(outgoing, vec![asked], until).await;
    }

    /// Sends many requests in the body of one message, or tells that they were not sent by then.
    pub(super) async fn send_group(
        &self,
        subject: String,
        body: Bytes,
        asked: Vec<Asked>,
        until: Instant,
    ) {
        let group = self.last[1].fetch_add(1, Ordering::Relaxed);
        let outgoing = Outgoing {
            subject,
            reply: format!("g{group}"),
            headers: None,
            body,
            group: Some(group),
        };
        self.send_as(outgoing, asked, until).await;
    }

    async fn send_as(&self, outgoing: Outgoing, asked: Vec<Asked>, until: Instant) {
        let tell = |asked: Vec<Asked>, unanswered| {
            for one in asked {
                one.tell(Err(unanswered));
            }
        };
        if !is_up(&self.nats) {
            return tell(asked, Unanswered::NotSent);
        }
        let until = until.into();
        let inbox = match timeout_at(until, self.open()).await {
            Ok(Ok(inbox)) => inbox,
            Ok(Err(_)) | Err(_) => return tell(asked, Unanswered::NotSent),
        };
        let group = outgoing.group;
        let numbers: Vec<u64> = asked.iter().map(|one| one.number).collect();
        {
            let mut waiting = self.waiting.lock();
            for asked in asked.into_iter().filter(|one| !one.is_given_up()) {
                waiting.insert(asked.number, Sent { asked, group });
            }
        }
        let unsent = |unanswered| {
            for number in &numbers {
                self.waiting.answer(*number, Err(unanswered));
            }
        };
        let reply = format!("{}.{}", inbox.subject, outgoing.reply);
        let Outgoing { subject, body, .. } = outgoing;
        let sending = async {
            match outgoing.headers {
                Some(headers) => {
                    let nats = &self.nats;
                    nats.publish_with_reply_and_headers(subject, reply, headers, body)
                        .await
                }
                None => self.nats.publish_with_reply(subject, reply, body).await,
            }
        };
        match timeout_at(until, sending).await {
            Ok(Ok(())) => {}
            // Too large, or of a form that no subject has, or the connection has ended.
            Ok(Err(_)) => unsent(Unanswered::Nobody),
            // What waits for a place in the connection's queue and is dropped is not sent.
            Err(_) => unsent(Unanswered::NotSent),
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
        let receiving = receive(answers, subject.len() + 1, self.waiting.clone());
        let opened = Arc::new(Inbox {
            subject,
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

/// A message that is about to be sent.
struct Outgoing {
    subject: String,
    /// The last token of the subject of its answer.
    reply: String,
    headers: Option<HeaderMap>,
    body: Bytes,
    group: Option<u64>,
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
        let Some(to) = answer.subject.get(prefix..) else {
            continue;
        };
        let nobody = answer.status == Some(StatusCode::NO_RESPONDERS);
        if to == ANSWERS {
            hand_out(answer, &waiting);
        } else if let Some(group) = to.strip_prefix('g') {
            // That nobody got it, or what an older build answers that does not know groups.
            if let Ok(group) = group.parse() {
                waiting.nobody(group);
            }
        } else if let Ok(number) = to.parse() {
            let answer = match nobody {
                true => Err(Unanswered::Nobody),
                false => Ok(PeerAnswer::Alone(answer)),
            };
            waiting.answer(number, answer);
        }
    }
}

/// Hands out the answers of one message.
fn hand_out(message: Message, waiting: &Waiting) {
    for frame in Frames(message.payload) {
        let read = frame.map_err(|error| error.to_string());
        let read = read.and_then(|(head, body)| {
            let head: AnswerHead =
                serde_json::from_slice(&head).map_err(|error| error.to_string())?;
            Ok((head, body))
        });
        match read {
            Ok((head, body)) => waiting.answer(head.number, Ok(head.answer(body))),
            // Who waits for it is told of a doubt in time.
            Err(error) => tracing::warn!(error, "a replica answered in a form that is not known"),
        }
    }
}
