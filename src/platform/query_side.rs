//! The query side of a replica: its store, its projectors, and what answers queries.

use super::{Platform, RunningEndpoint, StartError, starting::Starting};
use crate::{
    config::Role,
    event_log::EventLog,
    projection::{ControlEndpoint, ProjectorOptions, ViewHandle, ViewPlacement, gauges},
    read_model::{
        QueryEndpoint, ReadModel, ReadModelOptions, Store, StoreOptions, Watermarks, set_aside,
    },
};
use actix::Arbiter;
use tokio_util::sync::CancellationToken;

/// Opens the documents, and starts the projectors over them and what answers queries from them.
pub(super) async fn start(
    starting: &Starting<'_>,
    log: &EventLog,
    platform: &mut Platform,
) -> Result<(), StartError> {
    let options = starting.options;
    let views = starting.domain.views.iter();
    let watermarks = Watermarks::new(views.map(|view| view.description().name));
    let store = open_store(starting).await?;
    let queries = open_queries(starting, log, &store, &watermarks).await?;
    if options.has(Role::Projector) {
        start_projectors(starting, log, &store, &watermarks, platform);
        platform.control = Some(open_control(starting, platform).await?);
    }
    if options.is_shared() {
        follow_others(starting, &platform.nats, &queries).await?;
    }
    platform.query_endpoint = Some(open_endpoint(starting, &platform.nats, &queries).await?);
    platform.queries = Some(queries);
    Ok(())
}

/// Opens what answers queries, and compares the documents with the log before anything is answered.
async fn open_queries(
    starting: &Starting<'_>,
    log: &EventLog,
    store: &Store,
    watermarks: &Watermarks,
) -> Result<ReadModel, StartError> {
    let (domain, options) = (starting.domain, starting.options);
    let aggregates = domain.aggregates.descriptions();
    // A gateway may be there before the first projector.
    let queries = starting
        .waiting
        .until("store", "has no documents yet", async || {
            let views = domain.views.iter();
            let opened = ReadModel::open(ReadModelOptions {
                store: store.clone(),
                views: views.map(|view| view.description().clone()).collect(),
                aggregates: aggregates.iter().map(|aggregate| aggregate.name).collect(),
                watermarks: watermarks.clone(),
                cache: options.cache,
                list_cache: options.list_cache,
                prepares: options.prepares(),
            });
            Ok(opened.await?)
        })
        .await?;
    starting
        .waiting
        .until("views", "not compared with the log yet", async || {
            Ok(queries.compare_with(log, options.prepares()).await?)
        })
        .await?;
    Ok(queries)
}

/// Starts a projector for each view, all on one thread.
fn start_projectors(
    starting: &Starting<'_>,
    log: &EventLog,
    store: &Store,
    watermarks: &Watermarks,
    platform: &mut Platform,
) {
    let options = starting.options;
    let arbiter = Arbiter::new();
    let writer = format!("{}-{}", options.replica, uuid::Uuid::now_v7().simple());
    for view in &starting.domain.views {
        let description = view.description();
        let watermark = watermarks.view(description.name);
        let watermark = watermark.cloned().unwrap_or_default();
        let mut projector =
            ProjectorOptions::new(view.clone(), store.clone(), log.clone(), watermark);
        projector.replica = (!options.is_shared()).then(|| options.replica.clone());
        projector.writer.clone_from(&writer);
        projector.verify = options.verify.clone();
        let home = match options.is_shared() {
            true => ViewPlacement::among(&platform.membership, description),
            false => ViewPlacement::here(),
        };
        let kept = ViewHandle::start(projector, home, &arbiter.handle());
        platform.projectors.push(kept);
    }
    platform.projector_arbiter = Some(arbiter);
    starting
        .io()
        .spawn(gauges::keep(platform.projectors.clone()));
}

/// Begins to take from NATS what operators ask of the projectors.
async fn open_control(
    starting: &Starting<'_>,
    platform: &Platform,
) -> Result<RunningEndpoint, StartError> {
    let control = starting
        .waiting
        .until("control", "not subscribed to yet", async || {
            let (nats, views) = (platform.nats.clone(), platform.projectors.clone());
            let membership = platform.membership.clone();
            let (guard, access) = (starting.guard.clone(), starting.options.access.clone());
            let opening = async move {
                ControlEndpoint::open(&nats, &membership, views, guard, access).await
            };
            starting.on_io(opening).await?.map_err(unsubscribed)
        })
        .await?;
    let stopping = CancellationToken::new();
    let running = starting.io().spawn(control.run(stopping.clone()));
    Ok((stopping, running))
}

/// Hears of what other replicas write to the shared store.
async fn follow_others(
    starting: &Starting<'_>,
    nats: &async_nats::Client,
    queries: &ReadModel,
) -> Result<(), StartError> {
    let following = starting
        .waiting
        .until("announcements", "not subscribed to yet", async || {
            let (nats, queries) = (nats.clone(), queries.clone());
            let opening = async move { queries.follow(&nats).await };
            starting.on_io(opening).await?.map_err(unsubscribed)
        })
        .await?;
    starting.io().spawn(following);
    Ok(())
}

/// Begins to answer queries over NATS.
async fn open_endpoint(
    starting: &Starting<'_>,
    nats: &async_nats::Client,
    queries: &ReadModel,
) -> Result<RunningEndpoint, StartError> {
    let endpoint = starting
        .waiting
        .until("queries", "not subscribed to yet", async || {
            let (nats, queries) = (nats.clone(), queries.clone());
            let (guard, access) = (starting.guard.clone(), starting.options.access.clone());
            let opening = async move { QueryEndpoint::open(&nats, queries, guard, access).await };
            starting.on_io(opening).await?.map_err(unsubscribed)
        })
        .await?;
    let stopping = CancellationToken::new();
    let running = starting.io().spawn(endpoint.run(stopping.clone()));
    Ok((stopping, running))
}

fn unsubscribed(error: impl std::fmt::Display) -> StartError {
    StartError::Queries(error.to_string())
}

async fn open_store(starting: &Starting<'_>) -> Result<Store, StartError> {
    let options = starting.options;
    // Nothing comes by itself to a store of one's own.
    let may_pass = |error: &StartError| options.is_shared() && error.is_retryable();
    starting
        .waiting
        .until_when("store", "not open yet", may_pass, async || {
            let mut store = StoreOptions::new(&options.store, starting.threads.store());
            store.credentials.clone_from(&options.credentials);
            store.prepares = options.prepares();
            store.search_memory = options.search_memory;
            store.list_index = options.list_index;
            let opened = Store::open(store.clone()).await;
            let Err(error) = &opened else {
                return Ok(opened?);
            };
            // It holds nothing that the log does not.
            match set_aside(&options.store, error) {
                Ok(Some(aside)) => tracing::error!(
                    %error,
                    store.aside = %aside.display(),
                    "the documents cannot be opened; they were set aside, and the views are filled anew"
                ),
                Ok(None) => return Ok(opened?),
                Err(cause) => {
                    tracing::error!(%cause, "the documents cannot be opened, and not be set aside");
                    return Ok(opened?);
                }
            }
            Ok(Store::open(store).await?)
        })
        .await
}
