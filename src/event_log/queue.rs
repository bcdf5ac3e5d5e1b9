//! Messages that several replicas share, each handled by one of them: a durable consumer whose messages are
//! acknowledged one by one.
//!
//! A message that nobody acknowledges in time comes again, to whoever asks next. So it is handled at least
//! once, in no order. What its handling does must be safe to do again.

use super::{EventLog, reader::ReadError};
use async_nats::jetstream::{
    AckKind, Message,
    consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
    stream::ConsumerErrorKind,
};
use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The number of messages that are asked for ahead of those that are handled.
const PREFETCH: usize = 64;
/// The most messages, of all replicas, that are handled or wait to come again. Past it no other comes.
const MAX_ACK_PENDING: i64 = 65_536;
/// The time one pull request stands.
const EXPIRES: Duration = Duration::from_secs(30);
/// The pause between two signs of life of the server; two missed ones are an error.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// The messages that are shared, and the name they are shared under.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    /// The stream.
    pub stream: &'static str,
    /// The durable consumer's name, the same for all who share it.
    pub name: String,
    /// The subjects of the messages.
    pub subject: String,
    /// The place where a consumer begins that is not there yet: after this position.
    pub after: u64,
    /// After how long without a sign of life a message comes again.
    pub ack_wait: Duration,
}

/// One replica's share of the messages.
pub struct Queue {
    messages: pull::Stream,
}

/// One message to handle.
pub struct Delivery {
    /// Its subject.
    pub subject: String,
    /// Its position in its stream.
    pub position: u64,
    /// Its body.
    pub payload: Bytes,
    /// True if it has come before, as far as the server remembers. A server that is killed, or a new leader, does not
    /// remember the latest deliveries.
    pub repeated: bool,
    /// The time that it has been stored, by the server's clock and this machine's.
    pub age: Duration,
    message: Message,
}

impl Queue {
    /// Begins to ask for messages. Makes the consumer if it is not there.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError`] when JetStream does not answer, or the stream is not there.
    pub async fn open(log: &EventLog, options: &QueueOptions) -> Result<Self, ReadError> {
        let stream = log.jetstream().get_stream_no_info(options.stream).await;
        let stream = stream.map_err(ReadError::unavailable)?;
        let consumer: PullConsumer = match stream.get_consumer(&options.name).await {
            Ok(consumer) => consumer,
            Err(_) => {
                let config = pull::Config {
                    durable_name: Some(options.name.clone()),
                    deliver_policy: match options.after {
                        0 => DeliverPolicy::All,
                        after => DeliverPolicy::ByStartSequence {
                            start_sequence: after + 1,
                        },
                    },
                    ack_policy: AckPolicy::Explicit,
                    ack_wait: options.ack_wait,
                    max_ack_pending: MAX_ACK_PENDING,
                    filter_subject: options.subject.clone(),
                    ..Default::default()
                };
                let created = stream.create_consumer(config).await;
                match created {
                    Ok(consumer) => consumer,
                    // Another replica was faster.
                    Err(error) if matches!(error.kind(), ConsumerErrorKind::JetStream(_)) => {
                        let consumer = stream.get_consumer(&options.name).await;
                        consumer.map_err(ReadError::unavailable)?
                    }
                    Err(error) => return Err(ReadError::unavailable(error)),
                }
            }
        };
        let messages = consumer
            .stream()
            .max_messages_per_batch(PREFETCH)
            .expires(EXPIRES)
            .heartbeat(HEARTBEAT)
            .messages()
            .await
            .map_err(ReadError::unavailable)?;
        Ok(Self { messages })
    }

    /// Handles each message that comes, up to `most` of them at once, for as long as there is a queue.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError`] when the connection or the consumer failed; another queue is to be opened then.
    /// What is under way is dropped, and comes again.
    pub async fn for_each<F: Future<Output = ()>>(
        mut self,
        most: usize,
        handle: impl Fn(Delivery) -> F,
    ) -> Result<(), ReadError> {
        let mut under_way = FuturesUnordered::new();
        loop {
            let room = under_way.len() < most;
            tokio::select! {
                biased;
                _ = under_way.next(), if !under_way.is_empty() => {}
                delivery = self.next(), if room => under_way.push(handle(delivery?)),
            }
        }
    }

    /// Waits for the next message. Cancelling it loses nothing.
    async fn next(&mut self) -> Result<Delivery, ReadError> {
        let message = match self.messages.next().await {
            Some(message) => message.map_err(ReadError::unavailable)?,
            None => return Err(ReadError::Ended),
        };
        let info = message.info().map_err(ReadError::unavailable)?;
        Ok(Delivery {
            subject: message.subject.to_string(),
            position: info.stream_sequence,
            payload: message.payload.clone(),
            repeated: info.delivered > 1,
            age: age_of(info.published.unix_timestamp_nanos()),
            message,
        })
    }
}

/// The time since a moment, given in nanoseconds since the epoch; none where that is yet to come.
fn age_of(published: i128) -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let age = since.unwrap_or_default().as_nanos() as i128 - published;
    Duration::from_nanos(u64::try_from(age.max(0)).unwrap_or(u64::MAX))
}

impl Delivery {
    /// Says that it is handled.
    pub async fn done(&self) {
        self.acknowledge(AckKind::Ack).await;
    }

    /// Does the work, and says all the while that the message is being handled.
    pub async fn while_working<T>(&self, every: Duration, work: impl Future<Output = T>) -> T {
        let signs = async {
            loop {
                tokio::time::sleep(every).await;
                self.working().await;
            }
        };
        tokio::select! {
            done = work => done,
            never = signs => never,
        }
    }

    async fn working(&self) {
        self.acknowledge(AckKind::Progress).await;
    }

    /// Gives it back, to come again after a pause.
    pub async fn later(&self, pause: Duration) {
        self.acknowledge(AckKind::Nak(Some(pause))).await;
    }

    /// A message that is not heard comes again.
    async fn acknowledge(&self, kind: AckKind) {
        if let Err(error) = self.message.ack_with(kind).await {
            tracing::debug!(%error, "not acknowledged");
        }
    }
}
