//! While an older version of a view is live, a newer program answers from what that version has.

use super::{
    cache::model,
    named,
    world::{Account, Owner, Statements, World, deposited, opened},
};
use crate::{
    projection::RegisteredView,
    read_model::{DEFAULT_LIST_CACHE, Freshness, ReadModel, ReadModelOptions, Watermarks},
};
use std::{collections::BTreeMap, time::Duration};

/// A program that has the version that is live.
async fn older(world: &World) {
    model(world, &Watermarks::new(["statement"])).await;
}

/// A program that has the next version of the statements, which follows payments and no owners.
async fn newer(world: &World) -> ReadModel {
    let mut view = RegisteredView::of::<Statements>().description().clone();
    view.version += 1;
    view.aggregates = &["account", "payment"];
    ReadModel::open(ReadModelOptions {
        store: world.store.clone(),
        views: vec![view],
        aggregates: vec!["account", "owner", "payment"],
        watermarks: Watermarks::new(["statement"]),
        cache: 0,
        list_cache: DEFAULT_LIST_CACHE,
        prepares: false,
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn the_version_that_is_live_says_which_positions_it_can_have() {
    let world = World::new().await;
    older(&world).await;
    let mut projector = world.projector();
    world.commit::<Owner>("o", &[named("김하늘")]).await;
    let applied = world
        .commit::<Account>("a", &[opened("o"), deposited(1)])
        .await;
    world.drain(&mut projector).await;
    let model = newer(&world).await;
    let read = async |positions: &[(&str, u64)]| {
        let positions = positions.iter();
        let freshness = Freshness {
            min_positions: positions
                .map(|(aggregate, position)| ((*aggregate).to_owned(), *position))
                .collect(),
            max_wait: Duration::from_millis(1),
            ..Freshness::default()
        };
        model.get("statement", "a", &freshness).await
    };
    for answered in [
        &[("account", applied), ("owner", applied)][..],
        // It never has anything of those.
        &[("payment", applied + 9)],
        &[("account", applied), ("payment", applied + 9)],
    ] {
        assert!(read(answered).await.is_ok(), "{answered:?}");
    }
    for refused in [
        &[("owner", applied + 9)][..],
        &[("account", applied), ("owner", applied + 9)],
        &[("account", applied + 9), ("owner", applied)],
    ] {
        let problem = read(refused).await.unwrap_err();
        assert_eq!((problem.status, &*problem.code), (504, "not_yet_applied"));
    }
    for unknown in [&[("nobody", 1)][..], &[("account", 1), ("nobody", 1)]] {
        let problem = read(unknown).await.unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("Headwater-Min-Position"));
    }
}

#[tokio::test]
async fn the_version_that_is_live_is_searched() {
    let world = World::new().await;
    older(&world).await;
    let mut projector = world.projector();
    world.commit::<Owner>("o", &[named("김하늘")]).await;
    world.commit::<Account>("a", &[opened("o")]).await;
    world.drain(&mut projector).await;
    let model = newer(&world).await;
    let found = async |q: &str| {
        let parameters = BTreeMap::from([("q".to_owned(), q.to_owned())]);
        let freshness = Freshness::default();
        let list = model.list("statement", &parameters, &freshness);
        list.await.map(|page| page.value.items.len())
    };
    assert_eq!(found("하늘").await.unwrap(), 1);
    assert_eq!(found("바다").await.unwrap(), 0);
    // One that was not made to be searched says so.
    world.store.remove_search(&world.tables()).await;
    let model = newer(&world).await;
    let parameters = BTreeMap::from([("q".to_owned(), "하늘".to_owned())]);
    let freshness = Freshness::default();
    let refused = model.list("statement", &parameters, &freshness);
    let problem = refused.await.unwrap_err();
    assert_eq!((problem.status, &*problem.code), (503, "unavailable"));
}
