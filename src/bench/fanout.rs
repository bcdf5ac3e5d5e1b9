//! `bench fanout`: one event that changes very many documents, against updating these documents in the same
//! store.

use super::{
    Bench, BenchError, Figures, LoadThreads, load::once_each, processes::Scratch,
    queries::QueriesOptions, report::common_settings, sample,
};
use crate::{
    aggregate::Aggregate,
    event_log::{
        EventLog, Timeouts,
        append::Append,
        codec::{self, CommandEvents, EncodedEvent},
        subject::{self, Id},
        topology::Topology,
    },
    mart::{
        order::{self, Order},
        product::{self, Product},
        view::OrderView,
    },
    projection::{ProjectorOptions, RegisteredView, ViewHandle, ViewPlacement},
    read_model::{Watermark, floor::Floor},
};
use actix::Arbiter;
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How many appends are under way while the log is made.
const MAKING: usize = 256;
/// The longest that the view may take to come to a position.
const LIMIT: Duration = Duration::from_secs(600);
/// The product that is on every order.
const SKU: &str = "milk";

/// Measures how fast a rename of a product reaches the orders that it is on, as many as there are
/// documents.
///
/// # Errors
///
/// Returns [`BenchError`] when the servers cannot be started or the view does not get on.
pub async fn run(options: QueriesOptions) -> Result<Bench, BenchError> {
    let scratch = options.scratch().await?;
    let measured = measure(&scratch, &options).await;
    scratch.stop().await;
    measured
}

async fn measure(scratch: &Scratch, options: &QueriesOptions) -> Result<Bench, BenchError> {
    let threads = LoadThreads::start()?;
    let url = scratch.nats_url();
    let connecting = threads
        .handle()
        .spawn(async move { async_nats::connect(url).await });
    let nats = connecting.await.map_err(BenchError::new)?;
    let nats = nats.map_err(BenchError::new)?;
    let topology = Topology::embedded();
    topology.apply(&nats).await.map_err(BenchError::new)?;
    let log = EventLog::new(nats, Timeouts::default());
    let mut product = Appends::<Product>::new(&log, SKU)?;
    let position = product.append(&registered()).await?;
    let orders = fill(&log, &threads, options.documents).await?;

    let view = RegisteredView::of::<OrderView>();
    let folder = scratch.folder().join("view").display().to_string();
    let url = format!("surrealkv://{folder}?sync=1s");
    let store = Floor::open(&url, view.description()).await;
    let store = store.map_err(BenchError::new)?;
    let following = Following::start(view, &store, &log);
    following.reach(position.max(orders)).await?;

    let (mut ours, mut floors, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.rounds.max(1) {
        let begun = Instant::now();
        let renamed = product.append(&renamed(round)).await?;
        following.reach(renamed).await?;
        let spreading = rate(options.documents, begun.elapsed());
        let documents = store.documents().await.map_err(BenchError::new)?;
        if documents.len() != options.documents {
            let found = documents.len();
            return Err(BenchError::new(format!("{found} documents came of it")));
        }
        let begun = Instant::now();
        let updated = store.bulk_update(documents).await;
        updated.map_err(BenchError::new)?;
        let updating = rate(options.documents, begun.elapsed());
        ratios.push(spreading.per_second / updating.per_second);
        ours.push(spreading);
        floors.push(updating);
    }
    following.stop().await;
    let mut settings = common_settings();
    settings.extend([
        ("documents".to_owned(), options.documents.into()),
        ("rounds".to_owned(), options.rounds.into()),
        ("per_second".to_owned(), "documents".into()),
    ]);
    Ok(Bench {
        bench: "fanout",
        ours: Figures::medians(&ours),
        floors: BTreeMap::from([("bulk_update", Figures::medians(&floors))]),
        ratios: BTreeMap::from([("bulk_update", sample::median(ratios))]),
        settings,
    })
}

/// One long operation: its time is every quantile.
fn rate(count: usize, elapsed: Duration) -> Figures {
    let ms = elapsed.as_secs_f64() * 1e3;
    Figures {
        per_second: count as f64 / elapsed.as_secs_f64(),
        p50_ms: ms,
        p95_ms: ms,
        p99_ms: ms,
        p999_ms: ms,
    }
}

fn registered() -> product::Event {
    product::Event::Registered {
        name: "Milk".to_owned(),
        name_en: None,
        price: 2_900,
        category: "dairy".to_owned(),
        unit: None,
        barcode: None,
        description: None,
    }
}

fn renamed(round: u32) -> product::Event {
    product::Event::Renamed {
        name: format!("Fresh milk {round}"),
        name_en: None,
    }
}

/// Appends the orders; returns the last position.
async fn fill(log: &EventLog, threads: &LoadThreads, orders: usize) -> Result<u64, BenchError> {
    let (given, others) = (log.clone(), orders.saturating_sub(1));
    once_each(
        threads.handle(),
        MAKING.min(others.max(1)),
        others,
        move |number| {
            let log = given.clone();
            async move {
                let placed = order::Event::Placed {
                    member: format!("m-{}", number % 1_000),
                    branch: "b1".to_owned(),
                    lines: [SKU, "bread"].map(line).to_vec(),
                    total: 5_800,
                };
                Appends::<Order>::new(&log, &format!("o-{number}"))?
                    .append(&placed)
                    .await?;
                Ok(())
            }
        },
    )
    .await?;
    // All are there; whichever was the last.
    let mut last = Appends::<Order>::new(log, "last")?;
    last.append(&order::Event::Placed {
        member: "m-0".to_owned(),
        branch: "b1".to_owned(),
        lines: vec![line(SKU)],
        total: 2_900,
    })
    .await
}

fn line(sku: &str) -> order::OrderLine {
    order::OrderLine {
        sku: sku.to_owned(),
        quantity: 1,
        unit_price: 2_900,
    }
}

/// The commits of one aggregate.
struct Appends<'a, A> {
    log: &'a EventLog,
    id: Id,
    version: u64,
    expected: u64,
    of: std::marker::PhantomData<A>,
}

impl<'a, A: Aggregate> Appends<'a, A> {
    fn new(log: &'a EventLog, id: &str) -> Result<Self, BenchError> {
        Ok(Self {
            log,
            id: Id::new(id).map_err(BenchError::new)?,
            version: 0,
            expected: 0,
            of: std::marker::PhantomData,
        })
    }

    /// Appends one event; returns its position.
    async fn append(&mut self, event: &A::Event) -> Result<u64, BenchError> {
        let command = CommandEvents {
            command_id: format!("bench-{}-{}", self.id.as_str(), self.version).into(),
            command_hash: None,
            time: Timestamp::now(),
            version_before: self.version,
            claims: Vec::new(),
            events: vec![EncodedEvent::of::<A>(event).map_err(BenchError::new)?],
        };
        let payload = codec::encode(A::NAME, self.id.as_str(), &[command]);
        let appended = self.log.append(Append {
            subject: subject::events_of(A::NAME, &self.id),
            expected: self.expected,
            payload: payload.map_err(BenchError::new)?.into(),
            headers: async_nats::HeaderMap::new(),
        });
        self.expected = appended.await.map_err(BenchError::new)?;
        self.version += 1;
        Ok(self.expected)
    }
}

/// The view, kept up to date.
struct Following {
    watermark: Watermark,
    projector: ViewHandle,
    arbiter: Arbiter,
}

impl Following {
    fn start(view: RegisteredView, store: &Floor, log: &EventLog) -> Self {
        let watermark = Watermark::default();
        let store = store.store().clone();
        let mut options = ProjectorOptions::new(view, store, log.clone(), watermark.clone());
        options.replica = Some("bench".to_owned());
        let arbiter = Arbiter::new();
        let projector = ViewHandle::start(options, ViewPlacement::here(), &arbiter.handle());
        Self {
            watermark,
            projector,
            arbiter,
        }
    }

    /// Waits until the view has come to a position.
    async fn reach(&self, position: u64) -> Result<(), BenchError> {
        match self.watermark.reached(position, LIMIT).await {
            true => Ok(()),
            false => Err(BenchError::new("the view did not get on in time")),
        }
    }

    async fn stop(self) {
        self.projector.stop().await;
        self.arbiter.stop();
    }
}
