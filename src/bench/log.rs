//! A log that a bench fills by itself, without commands.

use super::{BenchError, LoadThreads, processes::Scratch};
use crate::{
    aggregate::Aggregate,
    event_log::{
        EventLog, Timeouts,
        append::Append,
        codec::{self, CommandEvents, EncodedEvent},
        subject::{self, Id},
        topology::Topology,
    },
};
use jiff::Timestamp;
use std::marker::PhantomData;

/// The number of appends that are under way while the log is made.
pub(super) const MAKING: usize = 256;

/// Opens the log of a server that has just been started, by a connection that the load's threads serve.
pub(super) async fn open(scratch: &Scratch, threads: &LoadThreads) -> Result<EventLog, BenchError> {
    let nats = scratch.nats();
    let connecting = threads
        .handle()
        .spawn(async move { crate::platform::connect(&nats, "bench").await });
    let nats = connecting.await.map_err(BenchError::new)?;
    let nats = nats.map_err(BenchError::new)?;
    let topology = Topology::embedded();
    topology.apply(&nats).await.map_err(BenchError::new)?;
    Ok(EventLog::new(nats, Timeouts::default()))
}

/// The commits of one aggregate that is new.
pub(super) struct Appends<A> {
    log: EventLog,
    id: Id,
    version: u64,
    expected: u64,
    of: PhantomData<fn() -> A>,
}

impl<A: Aggregate> Appends<A> {
    pub(super) fn new(log: &EventLog, id: &str) -> Result<Self, BenchError> {
        Ok(Self {
            log: log.clone(),
            id: Id::new(id).map_err(BenchError::new)?,
            version: 0,
            expected: 0,
            of: PhantomData,
        })
    }

    /// Appends the events of one command; returns their position.
    pub(super) async fn append(&mut self, events: &[A::Event]) -> Result<u64, BenchError> {
        let encoded = events.iter().map(EncodedEvent::of::<A>);
        let command = CommandEvents {
            command_id: format!("{}-{}", self.id, self.version).into(),
            command_hash: None,
            caller_id: None,
            lineage: None,
            time: Timestamp::now(),
            version_before: self.version,
            claims: Vec::new(),
            events: encoded.collect::<Result<_, _>>().map_err(BenchError::new)?,
        };
        let payload = codec::encode(A::NAME, self.id.as_str(), &[command]);
        let appended = self.log.append(Append {
            subject: subject::events_of(A::NAME, &self.id),
            expected: self.expected,
            payload: payload.map_err(BenchError::new)?.into(),
            headers: async_nats::HeaderMap::new(),
        });
        self.expected = appended.await.map_err(BenchError::new)?;
        self.version += events.len() as u64;
        Ok(self.expected)
    }
}
