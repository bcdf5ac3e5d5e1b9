//! Every list that the mart's views offer is served by an index, in order.

use super::world::open_store;
use crate::{
    mart::view::{OrderView, ProductView, SalesView, StorefrontView},
    projection::RegisteredView,
    read_model::{
        parameters::{ListQuery, Order},
        schema::ViewTables,
    },
    view::Kind,
};
use std::collections::BTreeMap;

/// Every combination of a view's filters under each of its orders, on the first page and on a later
/// one.
#[tokio::test]
async fn no_list_that_a_view_offers_scans_its_table_or_sorts() {
    let store = open_store("mem://").await;
    let (mut asked, mut searched) = (0, 0);
    for view in [
        RegisteredView::of::<ProductView>(),
        RegisteredView::of::<StorefrontView>(),
        RegisteredView::of::<OrderView>(),
        RegisteredView::of::<SalesView>(),
    ] {
        let view = view.description().clone();
        let tables = ViewTables::of(&view).unwrap();
        store.define(&tables).await.unwrap();
        let filters = &view.query.filters;
        let mut orders: Vec<Option<String>> = vec![None];
        for sort in &view.query.sorts {
            orders.extend([
                Some(sort.field.to_owned()),
                Some(format!("-{}", sort.field)),
            ]);
        }
        for chosen in 0..1_u32 << filters.len() {
            for order in &orders {
                let mut parameters = BTreeMap::new();
                for (number, filter) in filters.iter().enumerate() {
                    if chosen & 1 << number != 0 {
                        let value = match filter.kind {
                            Kind::Text => "2027-01-01",
                            Kind::Integer => "7",
                            Kind::Boolean => "true",
                        };
                        parameters.insert(filter.name.to_owned(), value.to_owned());
                    }
                }
                if let Some(order) = order {
                    parameters.insert("sort".to_owned(), order.clone());
                }
                let name = (view.name, view.version);
                if !view.query.search.is_empty() {
                    searched += 1;
                    let mut parameters = parameters.clone();
                    parameters.insert("q".to_owned(), "사과 1".to_owned());
                    let mut query = ListQuery::read(name, &view.query, &parameters).unwrap();
                    for page in 0..2 {
                        // Only what the text index finds is sorted: best match first is an order that
                        // no index has, and no index has a text and a field.
                        let plan = store.explain(&tables, &query).await.unwrap();
                        let shown = format!("{} {parameters:?} page {page}\n{plan}", view.name);
                        assert!(plan.contains("FullTextScan"), "{shown}");
                        assert!(!plan.contains("TableScan"), "{shown}");
                        let key = match query.order {
                            Order::Field { sort, .. } => key_of(sort.kind),
                            Order::Rank | Order::Id => 1.into(),
                        };
                        query.after = Some((Some(key), "a".to_owned()));
                    }
                }
                let mut query = ListQuery::read(name, &view.query, &parameters).unwrap();
                for page in 0..2 {
                    let plan = store.explain(&tables, &query).await.unwrap();
                    let shown = format!("{} {parameters:?} page {page}\n{plan}", view.name);
                    // A range that a cursor leaves nothing of is not read at all.
                    let nothing = plan.contains("EmptyScan");
                    assert!(nothing || plan.contains("IndexScan"), "{shown}");
                    assert!(!plan.contains("TableScan"), "{shown}");
                    assert!(nothing || !plan.contains("Sort"), "{shown}");
                    asked += 1;
                    let Order::Field { sort, .. } = query.order else {
                        panic!("{shown}");
                    };
                    query.after = Some((Some(key_of(sort.kind)), "a".to_owned()));
                }
            }
        }
    }
    assert!(asked > 200, "{asked}");
    assert!(searched > 50, "{searched}");
}

fn key_of(kind: Kind) -> serde_json::Value {
    match kind {
        Kind::Text => "2027-01-01".into(),
        Kind::Integer => 7.into(),
        Kind::Boolean => true.into(),
    }
}
