//! The `product` view: the range, one document per product.

use super::{no_document, put_if_changed};
use crate::product::{Event, Product};
use headwater_core::{
    aggregate::Aggregate,
    recorded::Recorded,
    view::{ApplyError, Change, Filter, Parts, Query, Route, Sort, View},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// See the [module](self).
pub struct ProductView;

/// A product as it is looked up and searched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProductDocument {
    /// The product's id.
    pub sku: String,
    /// The Korean name.
    pub name: String,
    /// The English name.
    #[schema(required)]
    pub name_en: Option<String>,
    /// The price in whole won.
    pub price: i64,
    /// The category.
    pub category: String,
    /// The amount that the price is for.
    #[schema(required)]
    pub unit: Option<String>,
    /// The barcode.
    #[schema(required)]
    pub barcode: Option<String>,
    /// The description.
    #[schema(required)]
    pub description: Option<String>,
    /// Listed, or discontinued.
    pub status: ProductStatus,
}

/// The status of a product: listed, or discontinued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProductStatus {
    /// It is sold.
    Listed,
    /// It is no longer sold.
    Discontinued,
}

impl View for ProductView {
    const NAME: &'static str = "product";
    const VERSION: u32 = 1;
    const AGGREGATES: &'static [&'static str] = &[Product::NAME];

    type Document = ProductDocument;
    type Part = ();

    fn query() -> Query {
        Query {
            filters: vec![
                Filter::equal("barcode"),
                Filter::equal("category"),
                Filter::equal("status"),
                Filter::at_least("price_min", "price").integer(),
                Filter::at_most("price_max", "price").integer(),
            ],
            sorts: vec![Sort::by("price").integer(), Sort::by("name")],
            counted: vec![vec!["category", "status"]],
            combined: vec![vec!["category", "status"]],
            search: vec!["name", "name_en"],
            routes: Vec::new(),
        }
    }

    fn route(event: &Recorded, _parts: &Parts<()>) -> Result<Route, ApplyError> {
        Ok(Route::id(&event.id))
    }

    fn apply(
        id: &str,
        document: Option<ProductDocument>,
        event: &Recorded,
        _parts: &Parts<()>,
    ) -> Result<Change<ProductDocument>, ApplyError> {
        let after = match (document.clone(), event.event::<Product>()?) {
            (
                _,
                Event::Registered {
                    name,
                    name_en,
                    price,
                    category,
                    unit,
                    barcode,
                    description,
                },
            ) => ProductDocument {
                sku: id.to_owned(),
                name,
                name_en,
                price,
                category,
                unit,
                barcode,
                description,
                status: ProductStatus::Listed,
            },
            (None, _) => return Err(no_document(id, event)),
            (Some(before), Event::Renamed { name, name_en }) => ProductDocument {
                name,
                name_en,
                ..before
            },
            (Some(before), Event::Repriced { price }) => ProductDocument { price, ..before },
            (Some(before), Event::Recategorized { category }) => {
                ProductDocument { category, ..before }
            }
            (Some(before), Event::Described { description }) => ProductDocument {
                description: Some(description).filter(|text| !text.is_empty()),
                ..before
            },
            (Some(before), Event::Discontinued {}) => ProductDocument {
                status: ProductStatus::Discontinued,
                ..before
            },
            (Some(before), Event::Relisted {}) => ProductDocument {
                status: ProductStatus::Listed,
                ..before
            },
        };
        Ok(put_if_changed(document.as_ref(), after))
    }
}

#[cfg(test)]
mod tests;
