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
    mart::product::Event,
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

/// The event that follows so many of a product: it is registered, then given prices in turn.
pub(super) fn event_of(product: usize, version: u64) -> Event {
    match version {
        0 => Event::Registered {
            name: format!("Gala apples, bag {product}"),
            name_en: None,
            price: 4_900,
            category: "fruit".to_owned(),
            unit: Some("bag".to_owned()),
            barcode: None,
            description: None,
        },
        version => Event::Repriced {
            price: 4_900 + version as i64,
        },
    }
}

/// The events of one command to an aggregate of this version.
pub(super) fn command_of<A: Aggregate>(
    id: &Id,
    version: u64,
    time: Timestamp,
    events: &[A::Event],
) -> Result<CommandEvents, BenchError> {
    let encoded = events.iter().map(EncodedEvent::of::<A>);
    Ok(CommandEvents {
        command_id: format!("{id}-{version}").into(),
        command_hash: None,
        caller_id: None,
        lineage: None,
        time,
        version_before: version,
        claims: Vec::new(),
        events: encoded.collect::<Result<_, _>>().map_err(BenchError::new)?,
    })
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
        let command = command_of::<A>(&self.id, self.version, Timestamp::now(), events)?;
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
