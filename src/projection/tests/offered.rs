//! Every list that the mart's views offer is served by an index, in order.

use super::world::open_store;
use crate::{
    mart::view::{OrderView, ProductView, SalesView, StorefrontView},
    projection::RegisteredView,
    read_model::{parameters::ListQuery, schema::ViewTables},
    view::Kind,
};
use std::collections::BTreeMap;

/// Every combination of a view's filters under each of its orders, on the first page and on a later
/// one.
#[tokio::test]
async fn no_list_that_a_view_offers_scans_its_table_or_sorts() {
    let store = open_store("mem://").await;
    let mut asked = 0;
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
                let mut query = ListQuery::read(name, &view.query, &parameters).unwrap();
                for page in 0..2 {
                    let plan = store.explain(&tables, &query).await.unwrap();
                    let shown = format!("{} {parameters:?} page {page}\n{plan}", view.name);
                    assert!(plan.contains("IndexScan"), "{shown}");
                    assert!(!plan.contains("TableScan"), "{shown}");
                    assert!(!plan.contains("Sort"), "{shown}");
                    asked += 1;
                    let key = match view.query.sorts[0].kind {
                        Kind::Integer => 5.into(),
                        Kind::Text | Kind::Boolean => "5".into(),
                    };
                    query.after = Some((Some(key), "a".to_owned()));
                }
            }
        }
        if !view.query.search.is_empty() {
            // Best match first is an order that no index has: those found by the index are sorted.
            let parameters = BTreeMap::from([("q".to_owned(), "사과".to_owned())]);
            let name = (view.name, view.version);
            let query = ListQuery::read(name, &view.query, &parameters).unwrap();
            let plan = store.explain(&tables, &query).await.unwrap();
            assert!(
                plan.contains("FullTextScan") && !plan.contains("TableScan"),
                "{plan}"
            );
        }
    }
    assert!(asked > 200, "{asked}");
}
