//! Follows the events that a process reacts to, and gives each to its instance in the order of the log. What
//! cannot be placed is held by itself, and all others go on.

use super::{
    alarms,
    desk::{Desk, Tries},
    home,
    lanes::Lanes,
    waitlist::Waitlist,
};
use crate::{
    event_log::{
        LoadError,
        reader::{ReadError, Reader, ReaderOptions},
        subject::{Id, STREAM},
    },
    process::Arrived,
};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// The most inputs that are read and not settled. Past it nothing more is read until some are.
const MOST: usize = 4_096;
/// The number of commits that are read at once.
const BATCH: usize = 256;
/// The number of commits that are asked for ahead.
const PREFETCH: usize = 1_000;
/// The time a commit is waited for before it is looked whether there is something else to do.
const WAIT: Duration = Duration::from_secs(1);
/// The time what is under way is waited for when the process is to be followed elsewhere.
const LEAVING: Duration = Duration::from_secs(2);
/// The consumer is kept for as long as the process may be away: its place is the cursor.
const INACTIVE: Duration = Duration::from_secs(400 * 24 * 3_600);

/// The pause between two looks for missing alarms, and for what operators want of what is held.
const TENDING: Duration = Duration::from_secs(5);

/// The reason why a process cannot be followed now.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Alarms(#[from] alarms::RestoreError),
    #[error("the event at {position} cannot be given to an instance: {reason}")]
    Stuck { position: u64, reason: String },
}

/// The name of the consumer whose place tells which events have been given.
pub(super) fn consumer(process: &str) -> String {
    format!("process-{process}")
}

/// Follows whenever this replica is the one to do it, until it is told to stop.
pub(super) async fn run(desk: Arc<Desk>, stopping: CancellationToken) {
    let mut tries = Tries::begin();
    loop {
        tokio::select! {
            () = home::here(&desk.membership, desk.process.name) => {}
            () = stopping.cancelled() => return,
        }
        let failed = tokio::select! {
            followed = follow(&desk, &stopping) => followed.err(),
            () = stopping.cancelled() => return,
        };
        if let Some(error) = failed {
            let what = format!("following the log for the process {}", desk.process.name);
            tokio::select! {
                () = tries.failed(&what, &error) => {}
                () = stopping.cancelled() => return,
            }
        } else {
            tries = Tries::begin();
        }
    }
}

/// Follows for as long as this replica is the one to do it.
async fn follow(desk: &Arc<Desk>, stopping: &CancellationToken) -> Result<(), FollowError> {
    let mut armed = alarms::restore(desk).await?;
    let process = &desk.process;
    let options = ReaderOptions {
        stream: STREAM.to_owned(),
        name: consumer(process.name),
        aggregates: process
            .aggregates
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
        prefetch: PREFETCH,
        inactive: INACTIVE,
    };
    let beginning = desk.log.beginning_of(process.name).await?;
    let cursor = Reader::acknowledged(&desk.log, STREAM, &options.name).await?;
    let mut after = cursor.unwrap_or(0).max(beginning);
    if after > desk.log.end().await? {
        // Of another log.
        after = beginning;
    }
    let mut waitlist = Waitlist::open(desk, after).await?;
    let mut reader = Reader::open(&desk.log, &options, after).await?;
    let mut tending = tokio::time::interval(TENDING);
    let mut lanes = Lanes::after(after);
    let mut acknowledged = after;
    let mut under_way: FuturesUnordered<BoxFuture<'_, (u64, Id)>> = FuturesUnordered::new();
    let give = |position: u64, instance: Id, input: Arrived| -> BoxFuture<'_, (u64, Id)> {
        Box::pin(async move {
            desk.give_event(&instance, input).await;
            (position, instance)
        })
    };
    while home::is_here(&desk.membership, process.name) && !stopping.is_cancelled() {
        let room = lanes.len() < MOST;
        tokio::select! {
            biased;
            _ = tending.tick() => {
                match alarms::keep(desk, armed).await {
                    Ok(kept) => armed = kept,
                    // They are looked after again in a moment; what happens meanwhile is followed.
                    Err(error) => tracing::warn!(process.name = process.name, %error, "the alarms cannot be looked after"),
                }
                if !waitlist.is_empty() {
                    waitlist.follow_operators(desk, lanes.read()).await?;
                }
            }
            settled = under_way.next(), if !under_way.is_empty() => {
                if let Some((position, instance)) = settled
                    && let Some((position, input)) = lanes.settle(position, &instance)
                {
                    under_way.push(give(position, instance, input));
                }
            }
            batch = reader.next_batch(BATCH, WAIT), if room => {
                for commit in batch? {
                    let position = commit.position;
                    for (instance, input) in waitlist.inputs(desk, commit).await? {
                        if let Some((instance, input)) = lanes.put(position, instance, input) {
                            under_way.push(give(position, instance, input));
                        }
                    }
                    lanes.read_up_to(position);
                }
            }
        }
        let settled = lanes.settled();
        if settled > acknowledged {
            reader.ack(settled).await?;
            acknowledged = settled;
        }
    }
    // What is not finished in time is given again by whoever follows next.
    let finish = async { while under_way.next().await.is_some() {} };
    let _ = tokio::time::timeout(LEAVING, finish).await;
    Ok(())
}
