//! Group commit: appends of different aggregates that wait at the same time become one atomic batch
//! (ADR-50), which a server that syncs before it acknowledges writes with one sync.
//!
//! One append or batch is in flight at a time; what comes meanwhile is the next batch. A batch with a
//! conflict in it stored nothing, and its members are appended one by one, so that it costs only its
//! owner: the claims of keys first, and the commits one by one only where they are refused without those.
//! After any other failure a part may be stored: every member is in doubt, and settled by its owner. What has waited for
//! longer than an append may take is not sent any more.

use super::{EventLog, ack::AppendError, ack::Published, append::Append};
use futures::future::join_all;
use metrics::{Counter, Histogram, counter, histogram};
use rustc_hash::FxBuildHasher;
use std::{collections::HashSet, hash::BuildHasher, time::Instant};
use tokio::sync::{mpsc, oneshot};

/// The most messages of one batch, the server's own bound.
const MAX_MESSAGES: usize = 1_000;
/// Past this many bytes nothing further joins a batch.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// An append that waits for its group.
struct Waiting {
    append: Append,
    since: Instant,
    done: oneshot::Sender<Result<u64, AppendError>>,
}

impl Waiting {
    fn is_claim(&self) -> bool {
        self.append.subject.starts_with("claim.")
    }
}

/// The queue in which appends wait for their group.
#[derive(Debug, Clone)]
pub(super) struct Grouping(mpsc::UnboundedSender<Waiting>);

impl Grouping {
    /// Starts the task that groups, on the current runtime. It ends with the last handle.
    pub(super) fn start(log: EventLog) -> Self {
        // Not bounded here: every aggregate has one append under way at most, and commands are bounded.
        let (sender, waiting) = mpsc::unbounded_channel();
        let group = Group {
            log,
            waiting,
            held: None,
            sizes: histogram!("headwater_append_group_appends"),
            refused: counter!("headwater_append_groups_refused_total"),
        };
        tokio::spawn(group.run());
        Self(sender)
    }

    /// Appends with whatever else waits.
    pub(super) async fn append(&self, append: Append) -> Result<u64, AppendError> {
        let gone = || AppendError::Unavailable("the log is being closed".to_owned());
        let (done, result) = oneshot::channel();
        let since = Instant::now();
        self.0
            .send(Waiting {
                append,
                since,
                done,
            })
            .map_err(|_| gone())?;
        result
            .await
            .unwrap_or_else(|_| Err(AppendError::InDoubt("the group was dropped".to_owned())))
    }
}

struct Group {
    log: EventLog,
    waiting: mpsc::UnboundedReceiver<Waiting>,
    /// Did not fit into the last batch.
    held: Option<Waiting>,
    sizes: Histogram,
    refused: Counter,
}

impl Group {
    async fn run(mut self) {
        while let Some(members) = self.next_group().await {
            self.sizes.record(members.len() as f64);
            match <[Waiting; 1]>::try_from(members) {
                Ok([alone]) => append_alone(&self.log, alone).await,
                Err(members) => self.append_together(members).await,
            }
        }
    }

    /// All that waits, as far as it fits. Waits for the first.
    async fn next_group(&mut self) -> Option<Vec<Waiting>> {
        let first = loop {
            let next = match self.held.take() {
                Some(held) => held,
                None => self.waiting.recv().await?,
            };
            if let Some(next) = self.in_time(next) {
                break next;
            }
        };
        let mut bytes = first.append.payload.len();
        let mut members = vec![first];
        // A subject can have an expected sequence only once in a batch. Two aggregates may be after one
        // key, and one may end what another has left undone.
        let mut subjects = HashSet::new();
        subjects.insert(hash_of(&members[0].append));
        while let Ok(next) = self.waiting.try_recv() {
            let Some(next) = self.in_time(next) else {
                continue;
            };
            if members.len() == MAX_MESSAGES || bytes + next.append.payload.len() > MAX_BYTES {
                self.held = Some(next);
                break;
            }
            if !subjects.insert(hash_of(&next.append)) {
                // The one before it is first, and both expect the same.
                let _ = next.done.send(Err(AppendError::LostRace));
                continue;
            }
            bytes += next.append.payload.len();
            members.push(next);
        }
        Some(members)
    }

    /// The append, unless it has waited for too long: then it is told so.
    fn in_time(&self, waiting: Waiting) -> Option<Waiting> {
        if waiting.since.elapsed() < self.log.0.timeouts.append {
            return Some(waiting);
        }
        let late = AppendError::Unavailable("the log is too slow".to_owned());
        let _ = waiting.done.send(Err(late));
        None
    }

    async fn append_together(&self, members: Vec<Waiting>) {
        match self.publish(&members).await {
            Ok(last) => {
                // The batch has the last positions up to the acknowledged one, in its order.
                let mut behind = members.len() as u64;
                for member in members {
                    behind -= 1;
                    let _ = member.done.send(Ok(last - behind));
                }
            }
            Err(AppendError::NoStream) => {
                for member in members {
                    let _ = member.done.send(Err(AppendError::NoStream));
                }
            }
            // A server that runs out of room in the middle keeps what it has stored.
            Err(AppendError::InDoubt(reason) | AppendError::Unavailable(reason)) => {
                for member in members {
                    let _ = member.done.send(Err(AppendError::InDoubt(reason.clone())));
                }
            }
            Err(error) => {
                tracing::debug!(%error, size = members.len(), "a group was refused");
                self.refused.increment(1);
                // Two are after one key more often than after one aggregate: that costs the others a batch.
                let (claims, commits): (Vec<_>, Vec<_>) =
                    members.into_iter().partition(Waiting::is_claim);
                let alone = |members: Vec<Waiting>| {
                    join_all(members.into_iter().map(|one| append_alone(&self.log, one)))
                };
                if claims.is_empty() || commits.len() < 2 {
                    alone(claims).await;
                    alone(commits).await;
                } else {
                    alone(claims).await;
                    Box::pin(self.append_together(commits)).await;
                }
            }
        }
    }

    /// Publishes all as one batch and returns the position of its last message.
    async fn publish(&self, members: &[Waiting]) -> Result<u64, AppendError> {
        let mut batch = self.log.batch();
        let (last, others) = members.split_last().expect("a group has members");
        for member in others {
            batch.add(member.append.clone()).await?;
        }
        let count = members.len();
        let Published {
            position,
            count: stored,
        } = batch.commit(last.append.clone()).await?;
        if stored.is_some_and(|stored| stored != count as u64) {
            return Err(AppendError::InDoubt(
                "another number of messages was stored".to_owned(),
            ));
        }
        Ok(position)
    }
}

/// The hash of the subject that an append writes.
fn hash_of(append: &Append) -> u64 {
    FxBuildHasher.hash_one(&append.subject)
}

async fn append_alone(log: &EventLog, member: Waiting) {
    let _ = member.done.send(log.append_alone(member.append).await);
}
