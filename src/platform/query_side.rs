//! The query side of a replica: its store, its projectors, and what answers queries.

use super::{
    Domain, Platform, PlatformOptions, StartError, io::IoThreads, start::joined, waiting::Waiting,
};
use crate::{
    config::Role,
    event_log::EventLog,
    projection::{ControlEndpoint, ProjectorOptions, ViewHandle, ViewPlacement, meters},
    read_model::{
        QueryEndpoint, ReadModel, ReadModelOptions, Store, StoreOptions, Watermarks, set_aside,
    },
    request_reply::ReplyGuard,
};
use actix::Arbiter;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Opens the documents, and starts the projectors over them and what answers queries from them.
pub(super) async fn start(
    domain: &Domain,
    options: &PlatformOptions,
    log: &EventLog,
    threads: &IoThreads,
    guard: &ReplyGuard,
    waiting: &Waiting,
    platform: &mut Platform,
) -> Result<(), StartError> {
    let io = &threads.handle();
    let descriptions: Vec<_> = domain
        .views
        .iter()
        .map(|view| view.description().clone())
        .collect();
    let watermarks = Watermarks::new(descriptions.iter().map(|view| view.name));
    let store = open_store(options, &threads.store(), waiting).await?;
    let aggregates = domain.aggregates.descriptions();
    // A gateway may be there before the first projector.
    let queries = waiting
        .until("store", "has no documents yet", async || {
            let opened = ReadModel::open(ReadModelOptions {
                store: store.clone(),
                views: descriptions.clone(),
                aggregates: aggregates.iter().map(|aggregate| aggregate.name).collect(),
                watermarks: watermarks.clone(),
                cache: options.cache,
                list_cache: options.list_cache,
                prepares: options.prepares(),
            });
            Ok(opened.await?)
        })
        .await?;
    // Before anything is answered.
    waiting
        .until("views", "not compared with the log yet", async || {
            Ok(queries.compare_with(log, options.prepares()).await?)
        })
        .await?;

    if options.has(Role::Projector) {
        let arbiter = Arbiter::new();
        let writer = format!("{}-{}", options.replica, uuid::Uuid::now_v7().simple());
        for view in &domain.views {
            let name = view.description().name;
            let watermark = watermarks.view(name).cloned().unwrap_or_default();
            let mut projector =
                ProjectorOptions::new(view.clone(), store.clone(), log.clone(), watermark);
            projector.replica = (!options.is_shared()).then(|| options.replica.clone());
            projector.writer.clone_from(&writer);
            projector.verify = options.verify.clone();
            let description = view.description();
            let home = match options.is_shared() {
                true => ViewPlacement::among(&platform.membership, description),
                false => ViewPlacement::here(),
            };
            let kept = ViewHandle::start(projector, home, &arbiter.handle());
            platform.projectors.push(kept);
        }
        platform.projector_arbiter = Some(arbiter);
        io.spawn(meters::keep(platform.projectors.clone()));
        let control = waiting
            .until("control", "not subscribed to yet", async || {
                let (nats, views) = (platform.nats.clone(), platform.projectors.clone());
                let (membership, guard) = (platform.membership.clone(), guard.clone());
                let access = options.access.clone();
                let opening = io.spawn(async move {
                    ControlEndpoint::open(&nats, &membership, views, guard, access).await
                });
                joined(opening).await?.map_err(unsubscribed)
            })
            .await?;
        let stopping = CancellationToken::new();
        let running = io.spawn(control.run(stopping.clone()));
        platform.control = Some((stopping, running));
    }

    if options.is_shared() {
        let following = waiting
            .until("announcements", "not subscribed to yet", async || {
                let (nats, queries) = (platform.nats.clone(), queries.clone());
                let opening = io.spawn(async move { queries.follow(&nats).await });
                joined(opening).await?.map_err(unsubscribed)
            })
            .await?;
        io.spawn(following);
    }
    let endpoint = waiting
        .until("queries", "not subscribed to yet", async || {
            let (nats, queries) = (platform.nats.clone(), queries.clone());
            let (guard, access) = (guard.clone(), options.access.clone());
            let opening =
                io.spawn(async move { QueryEndpoint::open(&nats, queries, guard, access).await });
            joined(opening).await?.map_err(unsubscribed)
        })
        .await?;
    let stopping = CancellationToken::new();
    let running = io.spawn(endpoint.run(stopping.clone()));
    platform.query_endpoint = Some((stopping, running));
    platform.queries = Some(queries);
    Ok(())
}

fn unsubscribed(error: impl std::fmt::Display) -> StartError {
    StartError::Queries(error.to_string())
}

async fn open_store(
    options: &PlatformOptions,
    threads: &Handle,
    waiting: &Waiting,
) -> Result<Store, StartError> {
    // Nothing comes by itself to a store of one's own.
    let may_pass = |error: &StartError| options.is_shared() && error.is_retryable();
    waiting
        .until_when("store", "not open yet", may_pass, async || {
            let mut store = StoreOptions::new(&options.store, threads.clone());
            store.credentials.clone_from(&options.credentials);
            store.prepares = options.prepares();
            store.search_memory = options.search_memory;
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
