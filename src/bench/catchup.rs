//! `bench catchup`: a view is filled from a log that is there, against inserting the documents that come
//! of it.

use super::{
    Bench, BenchError, Figures, LoadThreads,
    load::once_each,
    log::{self, Appends, MAKING, event_of},
    queries::QueriesOptions,
    report::{common_settings, lines},
    sample,
};
use crate::{
    event_log::EventLog,
    mart::{product::Product, view::ProductView},
    projection::{ProjectorOptions, RegisteredView, ViewHandle, ViewPlacement},
    read_model::{Watermark, floor::Floor},
};
use actix::Arbiter;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The longest that filling a view may take.
const LIMIT: Duration = Duration::from_secs(600);

/// Measures how fast a view is filled: `events` of as many products as there are documents.
///
/// # Errors
///
/// Returns [`BenchError`] when the servers cannot be started or the view is not filled.
pub async fn run(options: QueriesOptions, events: usize) -> Result<Bench, BenchError> {
    let scratch = options.scratch().await?;
    let measured = async {
        let threads = LoadThreads::start()?;
        let log = log::open(&scratch, &threads).await?;
        fill(&log, &threads, options.documents, events).await?;

        let (mut ours, mut floors, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..options.rounds.max(1) {
            let folder = |what: &str| {
                let folder = scratch.folder().join(format!("{what}-{round}"));
                format!("surrealkv://{}?sync=1s", folder.display())
            };
            let view = RegisteredView::of::<ProductView>();
            let open = |url: String| {
                let view = view.clone();
                async move {
                    Floor::open(&url, view.description())
                        .await
                        .map_err(BenchError::new)
                }
            };
            let filled = open(folder("view")).await?;
            // A consumer of its own in each round.
            let replica = format!("bench{round}");
            let elapsed = fill_view(&filled, &log, &view, &replica, None)
                .await?
                .elapsed;
            let documents = filled.documents().await.map_err(BenchError::new)?;
            if documents.len() != options.documents {
                return Err(BenchError::new(format!(
                    "{} documents came of it",
                    documents.len()
                )));
            }
            let bulk = open(folder("floor")).await?;
            let begun = Instant::now();
            bulk.bulk_insert(documents).await.map_err(BenchError::new)?;
            let inserting = begun.elapsed();
            ours.push(Figures::of_one(events, elapsed));
            floors.push(Figures::of_one(options.documents, inserting));
            ratios.push(
                Figures::of_one(events, elapsed).per_second
                    / Figures::of_one(options.documents, inserting).per_second,
            );
        }
        let mut settings = common_settings();
        settings.extend([
            ("events".to_owned(), events.into()),
            ("aggregates".to_owned(), options.documents.into()),
            ("rounds".to_owned(), options.rounds.into()),
            (
                "per_second".to_owned(),
                "events of ours, documents of the floor".into(),
            ),
        ]);
        Ok(Bench {
            bench: "catchup",
            ours: Figures::medians(&ours),
            floors: BTreeMap::from([("bulk_insert", Figures::medians(&floors))]),
            rounds: lines(&ours, [(&"bulk_insert", &floors)].into_iter()),
            ratios: BTreeMap::from([("bulk_insert", sample::median(ratios))]),
            settings,
        })
    }
    .await;
    scratch.stop().await;
    measured
}

/// Appends one event a commit: each product is registered, then given prices in turn.
async fn fill(
    log: &EventLog,
    threads: &LoadThreads,
    products: usize,
    events: usize,
) -> Result<(), BenchError> {
    let log = log.clone();
    once_each(
        threads.handle(),
        MAKING.min(products),
        products,
        move |product| {
            let log = log.clone();
            async move {
                let mut appends = Appends::<Product>::new(&log, &format!("bench-{product}"))?;
                for version in 0..(events - product).div_ceil(products) as u64 {
                    let event = event_of(product, version);
                    appends.append(&[event]).await?;
                }
                Ok(())
            }
        },
    )
    .await
}

/// A view that was filled.
pub(super) struct Filled {
    pub(super) elapsed: Duration,
    /// The number of commits that it has applied.
    pub(super) commits: u64,
}

/// Runs a projector into an empty store until it has read the log to its end, in batches of so many commits
/// at most.
pub(super) async fn fill_view(
    store: &Floor,
    log: &EventLog,
    view: &RegisteredView,
    replica: &str,
    batch: Option<usize>,
) -> Result<Filled, BenchError> {
    let mut options = ProjectorOptions::new(
        view.clone(),
        store.store().clone(),
        log.clone(),
        Watermark::default(),
    );
    options.replica = Some(replica.to_owned());
    options.batch = batch.unwrap_or(options.batch);
    let arbiter = Arbiter::new();
    let begun = Instant::now();
    let projector = ViewHandle::start(options, ViewPlacement::here(), &arbiter.handle());
    let mut status = projector.watch();
    let ready = tokio::time::timeout(LIMIT, status.wait_for(|status| status.ready)).await;
    let elapsed = begun.elapsed();
    let ready = ready
        .map_err(|_| BenchError::new("the view was not filled in time"))?
        .map_err(BenchError::new)?;
    let commits = ready.commits;
    drop(ready);
    projector.stop().await;
    arbiter.stop();
    Ok(Filled { elapsed, commits })
}
