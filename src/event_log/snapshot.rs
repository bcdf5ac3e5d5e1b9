//! Snapshots: a shortcut past old events, never the truth.
//!
//! They stand in the key-value bucket `snapshots` under `<aggregate>.<id>`, compressed. What does not fit
//! into one message stands in several: the further ones under `<aggregate>.<id>.<number>`, each with the
//! tag of the whole, so that parts of two snapshots are never put together. One that is missing or damaged
//! is as good as none. Whether it is of this log is for its reader to see.

use super::{EventLog, ack};
use crate::stable_hash;
use bytes::Bytes;
use futures::future::try_join_all;
use lz4_flex::block::{compress_prepend_size, decompress_size_prepended};
use metrics::{Counter, Histogram, counter, histogram};
use std::sync::LazyLock;

const BUCKET: &str = "snapshots";
/// The first byte of a message of a snapshot: the version of this form.
const FORM: &[u8; 3] = b"HS1";
/// The form, how many parts there are, and the tag of the whole.
const HEAD: usize = FORM.len() + 1 + 8;
/// The bytes of one part: half of what a message holds on a server with the usual settings.
const PART: usize = 512 * 1024;
/// The most parts of a snapshot, 32 MiB compressed.
const MAX_PARTS: usize = 64;
/// The most bytes of a snapshot before it is compressed. More is taken for damage when it is read.
const MAX_BYTES: usize = 256 << 20;

struct Measures {
    written: Counter,
    failed: Counter,
    bytes: Histogram,
}

static MEASURES: LazyLock<Measures> = LazyLock::new(|| {
    let writes = |result| counter!("headwater_snapshots_written_total", "result" => result);
    Measures {
        written: writes("written"),
        failed: writes("failed"),
        bytes: histogram!("headwater_snapshot_bytes"),
    }
});

/// A snapshot that was not written. The one before it, if any, stands.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The bucket does not take it now.
    #[error("the bucket of snapshots does not take it: {0}")]
    Refused(String),
    /// It is larger than a snapshot may be.
    #[error("the snapshot has {bytes} bytes, and the most are {MAX_BYTES}, or {MAX_PARTS} parts")]
    TooLarge {
        /// Its bytes before it was compressed.
        bytes: usize,
    },
}

impl EventLog {
    /// Reads the latest snapshot's body. An outage or damage reads as "none": the log is folded instead.
    pub async fn snapshot(&self, aggregate: &str, id: &str) -> Option<Vec<u8>> {
        let key = format!("{aggregate}.{id}");
        let first = self.part(&key).await?;
        let (count, tag, bytes) = read_head(&first)?;
        let further = (1..count).map(async |number| {
            let part = self.part(&format!("{key}.{number}")).await.ok_or(())?;
            match read_head(&part) {
                Some((_, of, _)) if of == tag => Ok(part.slice(HEAD..)),
                _ => Err(()),
            }
        });
        let further = try_join_all(further).await.ok()?;
        let mut compressed = bytes.to_vec();
        for part in further {
            compressed.extend_from_slice(&part);
        }
        decompress(&compressed, tag)
    }

    async fn part(&self, key: &str) -> Option<Bytes> {
        let direct = format!("DIRECT.GET.KV_{BUCKET}.$KV.{BUCKET}.{key}");
        let subject = self.0.api.subject(&direct);
        let request = async_nats::Request::new().payload(Bytes::new());
        let reply = self.ask(subject, request, self.0.timeouts.load).await;
        let reply = reply.ok()?;
        reply.status.is_none().then_some(reply.payload)
    }

    /// Writes a snapshot, and returns once the bucket has it.
    ///
    /// # Errors
    ///
    /// Returns [`SnapshotError`]; it is counted, and the log has all that the snapshot would have had
    /// but the outcomes of commands without events.
    pub async fn write_snapshot(
        &self,
        aggregate: &str,
        id: &str,
        body: &[u8],
    ) -> Result<(), SnapshotError> {
        let written = self.write_parts(&format!("{aggregate}.{id}"), body).await;
        match &written {
            Ok(bytes) => {
                MEASURES.written.increment(1);
                MEASURES.bytes.record(*bytes as f64);
            }
            Err(_) => MEASURES.failed.increment(1),
        }
        written.map(|_| ())
    }

    async fn write_parts(&self, key: &str, body: &[u8]) -> Result<usize, SnapshotError> {
        let too_large = SnapshotError::TooLarge { bytes: body.len() };
        if body.len() > MAX_BYTES {
            return Err(too_large);
        }
        let compressed = compress_prepend_size(body);
        let tag = stable_hash::of_bytes(&compressed);
        let room = self.client().server_info().max_payload.saturating_sub(1024);
        let parts: Vec<&[u8]> = compressed.chunks(PART.min(room).max(1)).collect();
        let count = u8::try_from(parts.len()).ok();
        let Some(count) = count.filter(|count| usize::from(*count) <= MAX_PARTS) else {
            return Err(too_large);
        };
        let message = |part: &[u8]| {
            let head = [&FORM[..], &[count], &tag.to_le_bytes(), part];
            Bytes::from(head.concat())
        };
        // The first part comes last: with it the others become the snapshot.
        for (number, part) in parts.iter().enumerate().skip(1) {
            self.put(&format!("{key}.{number}"), message(part)).await?;
        }
        self.put(key, message(parts[0])).await?;
        Ok(compressed.len())
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<(), SnapshotError> {
        let request = async_nats::Request::new().payload(body);
        let subject = self.0.api.key_subject(&format!("$KV.{BUCKET}.{key}"));
        let asking = self.0.first.send_request(subject, request.timeout(None));
        let within = self.0.timeouts.append;
        let answer = tokio::time::timeout(within, asking).await;
        let answer = answer.map_err(|late| SnapshotError::Refused(late.to_string()))?;
        let answer = answer.map_err(|error| SnapshotError::Refused(error.to_string()))?;
        ack::stored_in(&format!("KV_{BUCKET}"), &answer).map_err(SnapshotError::Refused)
    }
}

/// The number of parts, the tag, and the rest.
fn read_head(message: &[u8]) -> Option<(u8, u64, &[u8])> {
    let (count, rest) = message.strip_prefix(FORM)?.split_first()?;
    let (tag, rest) = rest.split_first_chunk::<8>()?;
    Some((*count, u64::from_le_bytes(*tag), rest))
}

fn decompress(compressed: &[u8], tag: u64) -> Option<Vec<u8>> {
    let size = u32::from_le_bytes(*compressed.first_chunk()?) as usize;
    if size > MAX_BYTES || stable_hash::of_bytes(compressed) != tag {
        return None;
    }
    decompress_size_prepended(compressed).ok()
}
