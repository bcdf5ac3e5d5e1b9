//! `bench fanout`: one event that changes very many documents, against updating these documents in the same
//! store.

use super::{
    Bench, BenchError, Figures, LoadThreads,
    load::once_each,
    log::{self, Appends, MAKING},
    processes::Scratch,
    queries::QueriesOptions,
    report::{common_settings, lines},
    sample,
};
use crate::{
    event_log::EventLog,
    mart::{
        order::{self, Order},
        product::{self, Product},
        view::OrderView,
    },
    projection::{ProjectorOptions, RegisteredView, ViewHandle, ViewPlacement},
    read_model::{Watermark, floor::Floor},
};
use actix::Arbiter;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

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
    let log = log::open(scratch, &threads).await?;
    let mut product = Appends::<Product>::new(&log, SKU)?;
    let position = product.append(&[registered()]).await?;
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
        let renamed = product.append(&[renamed(round)]).await?;
        following.reach(renamed).await?;
        let spreading = Figures::of_one(options.documents, begun.elapsed());
        let documents = store.documents().await.map_err(BenchError::new)?;
        if documents.len() != options.documents {
            let found = documents.len();
            return Err(BenchError::new(format!("{found} documents came of it")));
        }
        let begun = Instant::now();
        let updated = store.bulk_update(documents).await;
        updated.map_err(BenchError::new)?;
        let updating = Figures::of_one(options.documents, begun.elapsed());
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
        rounds: lines(&ours, [(&"bulk_update", &floors)].into_iter()),
        ratios: BTreeMap::from([("bulk_update", sample::median(ratios))]),
        settings,
    })
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
                    .append(&[placed])
                    .await?;
                Ok(())
            }
        },
    )
    .await?;
    // All are there; whichever was the last.
    let mut last = Appends::<Order>::new(log, "last")?;
    last.append(&[order::Event::Placed {
        member: "m-0".to_owned(),
        branch: "b1".to_owned(),
        lines: vec![line(SKU)],
        total: 2_900,
    }])
    .await
}

fn line(sku: &str) -> order::OrderLine {
    order::OrderLine {
        sku: sku.to_owned(),
        quantity: 1,
        unit_price: 2_900,
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
