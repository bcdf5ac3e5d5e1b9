//! The durable consumer of a reader: its configuration, and making it.

use super::{ReadError, ReaderOptions};
use crate::event_log::subject;
use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
};
use std::time::Duration;

/// The number of bytes that are asked for at a time, unless one message may be larger. While what was asked for
/// first comes in, as much is asked for again, so twice this is under way at the most.
const PREFETCH_BYTES: usize = 4 << 20;
/// The bound on delivered and not yet acknowledged messages: what is prefetched, what is being
/// applied, and room for the pull requests that overlap.
const MAX_ACK_PENDING: i64 = 30_000;
/// After this long without an acknowledgement the server delivers again. Repeats are skipped, so
/// it only has to be longer than all that is read ahead takes where the store is slow.
const ACK_WAIT: Duration = Duration::from_secs(600);

/// Returns how many bytes to ask for at a time: a message that is larger would never be sent. What counts is the
/// whole message, with its subject and headers.
pub(super) fn prefetch_bytes(max_payload: usize) -> usize {
    PREFETCH_BYTES.max(max_payload.saturating_mul(2))
}

/// Creates the consumer, or brings an existing one to the same configuration.
pub(super) async fn create(
    stream: &jetstream::stream::Stream,
    options: &ReaderOptions,
) -> Result<PullConsumer, ReadError> {
    let config = pull::Config {
        durable_name: Some(options.name.clone()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::All,
        ack_wait: ACK_WAIT,
        max_ack_pending: MAX_ACK_PENDING,
        inactive_threshold: options.inactive,
        filter_subjects: options
            .aggregates
            .iter()
            .map(|aggregate| subject::events_of_all(aggregate))
            .collect(),
        ..Default::default()
    };
    match stream.create_consumer(config.clone()).await {
        Ok(consumer) => Ok(consumer),
        // An older consumer of the name that cannot be changed into this one. Nothing is lost with
        // it: where to begin is the caller's knowledge.
        Err(error)
            if matches!(
                error.kind(),
                jetstream::stream::ConsumerErrorKind::JetStream(_)
            ) =>
        {
            stream
                .delete_consumer(&options.name)
                .await
                .map_err(ReadError::unavailable)?;
            stream
                .create_consumer(config)
                .await
                .map_err(ReadError::unavailable)
        }
        Err(error) => Err(ReadError::unavailable(error)),
    }
}
