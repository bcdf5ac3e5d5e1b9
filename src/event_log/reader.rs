//! Follows the log in order, from a position on: what projectors read with.
//!
//! A [`Reader`] is one durable pull consumer. It trusts the position that it is opened at, not what
//! the consumer remembers: opening resets the consumer to it. It hands every commit out once and in
//! stream order, or ends with an error: a gap in the consumer's own numbering (a delivery that was
//! lost with a connection, another reader on the same consumer) is an error, after which the owner
//! opens a new reader at what it has safely applied.

mod commit;
mod consumer;
mod error;

pub use super::decoded::Events;
pub use commit::Commit;
pub use error::ReadError;

use super::{EventLog, Mark, decoded::Following, subject};
use async_nats::jetstream::{self, Message, consumer::pull};
use commit::decode;
use consumer::{create, prefetch_bytes};
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use std::{
    collections::VecDeque,
    pin::pin,
    time::{Duration, Instant},
};
use tokio::{task::coop::unconstrained, time::timeout};

/// The number of messages that are asked for ahead of what has been handed out. Two of the largest batches of a
/// projector: one can be on its way while the other is being applied.
const PREFETCH: usize = 8_000;
/// The time one pull request stands.
const EXPIRES: Duration = Duration::from_secs(30);
/// The pause between two signs of life of the server; two missed ones are an error.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The time to wait for a next message that the server has said is there.
const LINGER: Duration = Duration::from_millis(5);
/// The time deliveries that the server has said are there may take to come. They may have gone to
/// another reader of the consumer, which has left.
const STARVED: Duration = Duration::from_secs(3);
/// A batch ends at this many bytes of bodies. One is in its owner's hands, one is read ahead.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// The messages that a reader follows, and its name.
#[derive(Debug, Clone)]
pub struct ReaderOptions {
    /// The stream, normally [`subject::STREAM`].
    pub stream: String,
    /// The durable consumer's name. Two readers with one name disturb each other.
    pub name: String,
    /// The aggregates whose commits are read.
    pub aggregates: Vec<String>,
    /// The number of messages that are asked for ahead of what has been handed out: fewer where each takes long.
    pub prefetch: usize,
    /// After this long without a reader the server removes the consumer. Nothing is lost with it: a
    /// reader is opened at a position that its owner knows.
    pub inactive: Duration,
}

impl ReaderOptions {
    /// The number of messages that are asked for ahead where all is read as fast as it goes.
    pub const PREFETCH: usize = PREFETCH;
    /// For how long a consumer may be left alone that somebody is to read from again.
    pub const LASTING: Duration = Duration::from_secs(3_600);
    /// The same for one that is read once.
    pub const PASSING: Duration = Duration::from_secs(120);
}

/// Follows the commits of some aggregates.
pub struct Reader {
    stream: jetstream::stream::Stream,
    name: String,
    messages: pull::Stream,
    client: async_nats::Client,
    /// The reply subjects of what was handed out and not acknowledged.
    unacknowledged: VecDeque<(u64, async_nats::Subject)>,
    delivered: u64,
    position: u64,
    pending: u64,
    /// For how long nothing has come although something is pending.
    starved: Duration,
    /// Messages that have come and were not handed out, and the reason why nothing more can come.
    ahead: Batch,
    failed: Option<ReadError>,
    following: Following,
}

/// Commits that are handed out together.
#[derive(Default)]
struct Batch {
    commits: Vec<Commit>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, (commit, bytes): (Commit, usize)) {
        self.commits.push(commit);
        self.bytes += bytes;
    }

    fn is_full(&self, max: usize) -> bool {
        self.commits.len() >= max || self.bytes >= MAX_BATCH_BYTES
    }
}

impl Reader {
    /// Opens a reader that begins with the first commit after position `after`. Creates the
    /// consumer, or brings an existing one to the same configuration, and resets it.
    ///
    /// # Errors
    ///
    /// Returns a terminal error when the log ends before `after`, so that it cannot be the log that
    /// was read, and a retryable one when JetStream does not answer.
    pub async fn open(
        log: &EventLog,
        options: &ReaderOptions,
        after: u64,
    ) -> Result<Self, ReadError> {
        let stream = log
            .jetstream()
            .get_stream(&options.stream)
            .await
            .map_err(ReadError::unavailable)?;
        let last = stream.cached_info().state.last_sequence;
        if after > last {
            return Err(ReadError::Replaced { after, last });
        }
        let mut consumer = create(&stream, options).await?;
        if consumer.cached_info().num_waiting > 0 {
            // Somebody else reads by this name, or hangs: what comes would go there until their pull
            // request expires. They are told, and open another reader if it is still theirs to.
            stream
                .delete_consumer(&options.name)
                .await
                .map_err(ReadError::unavailable)?;
            consumer = create(&stream, options).await?;
        }
        let reset = stream
            .reset_consumer(&options.name, Some(after + 1))
            .await
            .map_err(ReadError::unavailable)?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(options.prefetch)
            .max_bytes_per_batch(prefetch_bytes(log.client().server_info().max_payload))
            .expires(EXPIRES)
            .heartbeat(HEARTBEAT)
            .messages()
            .await
            .map_err(ReadError::unavailable)?;
        Ok(Self {
            stream,
            name: options.name.clone(),
            messages,
            client: log.client().clone(),
            unacknowledged: VecDeque::new(),
            delivered: 0,
            position: after,
            pending: reset.info.num_pending,
            starved: Duration::ZERO,
            ahead: Batch::default(),
            failed: None,
            following: log.decoded().follow(&options.stream, &options.aggregates),
        })
    }

    /// Returns the position up to which a reader of this name has acknowledged all; `None` when there never
    /// was one, or its consumer is gone.
    ///
    /// # Errors
    ///
    /// Returns a retryable error when JetStream does not answer.
    pub async fn acknowledged(
        log: &EventLog,
        stream: &str,
        name: &str,
    ) -> Result<Option<u64>, ReadError> {
        use jetstream::context::ConsumerInfoErrorKind;
        let stream = log.jetstream().get_stream_no_info(stream).await;
        let stream = stream.map_err(ReadError::unavailable)?;
        match stream.consumer_info(name).await {
            Ok(info) => Ok(Some(info.ack_floor.stream_sequence)),
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => Ok(None),
            Err(error) => Err(ReadError::unavailable(error)),
        }
    }

    /// Waits at most `max_wait` for the next commit, then returns it with all that follow without
    /// waiting, at most `max` of them. None at all means that the wait is over. Cancelling it loses
    /// nothing: what has come is handed out by the next call.
    ///
    /// # Errors
    ///
    /// Returns a retryable error when the connection or the consumer failed. The reader is of no
    /// use then, and commits that it had read ahead are read again by the next one.
    pub async fn next_batch(
        &mut self,
        max: usize,
        max_wait: Duration,
    ) -> Result<Vec<Commit>, ReadError> {
        if self.ahead.commits.is_empty() {
            if let Some(failed) = self.failed.take() {
                return Err(failed);
            }
            let started = Instant::now();
            let Ok(first) = timeout(max_wait, self.next_unseen()).await else {
                self.starved = match self.pending {
                    0 => Duration::ZERO,
                    _ => self.starved + started.elapsed(),
                };
                return match self.starved < STARVED {
                    true => Ok(Vec::new()),
                    false => Err(ReadError::Starved {
                        pending: self.pending,
                    }),
                };
            };
            self.ahead.push(first?);
        }
        self.starved = Duration::ZERO;
        while !self.ahead.is_full(max) && self.failed.is_none() {
            // A task's budget must not make a full channel look empty.
            let next = match unconstrained(self.next_unseen()).now_or_never() {
                Some(next) => next,
                None if self.pending > 0 => match timeout(LINGER, self.next_unseen()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
                None => break,
            };
            self.ahead.push(next?);
        }
        Ok(std::mem::take(&mut self.ahead).commits)
    }

    /// Does `work`, and meanwhile reads ahead: what comes, at most `max` commits, is the beginning of
    /// the next batch.
    pub async fn ahead<T>(&mut self, max: usize, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        while !self.ahead.is_full(max) && self.failed.is_none() {
            tokio::select! {
                biased;
                done = &mut work => return done,
                next = self.next_unseen() => match next {
                    Ok(next) => self.ahead.push(next),
                    Err(error) => self.failed = Some(error),
                },
            }
        }
        work.await
    }

    /// Deletes the consumer of this name, of a reader that will not be opened again.
    ///
    /// # Errors
    ///
    /// Returns a retryable error when JetStream does not answer.
    pub async fn forget(log: &EventLog, stream: &str, name: &str) -> Result<(), ReadError> {
        use jetstream::stream::ConsumerErrorKind;
        let stream = log.jetstream().get_stream_no_info(stream).await;
        let stream = stream.map_err(ReadError::unavailable)?;
        match stream.delete_consumer(name).await {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), ConsumerErrorKind::JetStream(_)) => Ok(()),
            Err(error) => Err(ReadError::unavailable(error)),
        }
    }

    /// Acknowledges everything up to `position`, which must be one that was handed out.
    ///
    /// # Errors
    ///
    /// Returns a retryable error when the connection is closed. Nothing depends on an
    /// acknowledgement having arrived.
    pub async fn ack(&mut self, position: u64) -> Result<(), ReadError> {
        let mut reply = None;
        while let Some((at, _)) = self.unacknowledged.front() {
            if *at > position {
                break;
            }
            reply = self.unacknowledged.pop_front();
        }
        if let Some((_, reply)) = reply {
            self.client
                .publish(reply, "+ACK".into())
                .await
                .map_err(ReadError::unavailable)?;
        }
        Ok(())
    }

    /// The position at which the log ended a moment ago, if all that this reader follows up to there
    /// was acknowledged.
    ///
    /// # Errors
    ///
    /// Returns a retryable error when JetStream does not answer.
    pub async fn read_up_to(&self) -> Result<Option<u64>, ReadError> {
        let log = self.stream.get_info().await;
        let end = log.map_err(ReadError::unavailable)?.state.last_sequence;
        // After the end: what has come since is pending, or was delivered.
        let consumer = self.stream.consumer_info(&self.name).await;
        let consumer = consumer.map_err(ReadError::unavailable)?;
        let done = consumer.num_pending == 0 && consumer.num_ack_pending == 0;
        Ok(done.then_some(end))
    }

    /// Has the server deliver the oldest unacknowledged commit again, as it does after a while.
    #[cfg(test)]
    pub(crate) async fn refuse_oldest(&mut self) {
        let (_, reply) = self.unacknowledged.front().expect("something was read");
        let refused = self.client.publish(reply.clone(), "-NAK".into()).await;
        refused.expect("the connection is open");
    }

    /// Returns how many commits are waiting in the log after the last one handed out, as far as is known.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// The next commit that this reader has not handed out yet, and its size in bytes.
    async fn next_unseen(&mut self) -> Result<(Commit, usize), ReadError> {
        loop {
            let message = match self.messages.next().await {
                Some(message) => message.map_err(ReadError::unavailable)?,
                None => return Err(ReadError::Ended),
            };
            if let Some(commit) = self.accept(&message)? {
                return Ok((commit, message.payload.len()));
            }
        }
    }

    fn accept(&mut self, message: &Message) -> Result<Option<Commit>, ReadError> {
        let info = message.info().map_err(ReadError::unavailable)?;
        // The server numbers deliveries from 1 after a reset, repeats included.
        if info.consumer_sequence != self.delivered + 1 {
            return Err(ReadError::Gap {
                expected: self.delivered + 1,
                found: info.consumer_sequence,
            });
        }
        self.delivered += 1;
        if info.stream_sequence <= self.position {
            return Ok(None);
        }
        self.position = info.stream_sequence;
        self.pending = info.pending;
        let commit = self.read(message, &info);
        if let Some(reply) = &message.reply {
            self.unacknowledged
                .push_back((commit.position, reply.clone()));
        }
        Ok(Some(commit))
    }

    /// Decodes a message, unless another reader of this process has.
    fn read(&self, message: &Message, info: &jetstream::message::Info<'_>) -> Commit {
        let (aggregate, id) = subject::parse_events(&message.subject).unwrap_or_default();
        let (position, payload) = (info.stream_sequence, &message.payload);
        let mark = Mark::of(payload);
        let decode = || decode(&message.subject, position, payload);
        let place = (position, mark);
        let following = &self.following;
        Commit {
            position,
            mark,
            aggregate: aggregate.to_owned(),
            id: id.to_owned(),
            published: Timestamp::from_nanosecond(info.published.unix_timestamp_nanos())
                .unwrap_or_default(),
            pending: info.pending,
            events: following.events(place, (aggregate, id), payload.len(), decode),
        }
    }
}
