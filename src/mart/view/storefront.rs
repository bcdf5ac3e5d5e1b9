//! The `storefront` view: what a shopper sees of a section, one document per product in it.
//!
//! Composed from display, product and stock. Where a product stands comes from the display's
//! events; what it is called, costs, and how many there are comes from what the view remembers, so
//! the document is the same in whatever order the three arrive. The documents of a closed section
//! are gone.

use super::{no_document, not_read, product::ProductStatus, put_if_changed};
use crate::{
    display::{self, Display},
    product::{self, Product},
    stock::{self, Stock},
};
use headwater_core::{
    aggregate::Aggregate,
    recorded::Recorded,
    view::{ApplyError, Change, Filter, Parts, Query, Route, Sort, View},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// See the [module](self).
pub struct StorefrontView;

/// One product in one section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StorefrontDocument {
    /// The branch.
    pub branch: String,
    /// The section.
    pub section: String,
    /// The section's title.
    pub title: String,
    /// The product.
    pub sku: String,
    /// Its rank in the section: the lowest comes first.
    pub rank: i64,
    /// The product's Korean name; `null` while the product is not known.
    #[schema(required)]
    pub name: Option<String>,
    /// The price in whole won; `null` while the product is not known.
    #[schema(required)]
    pub price: Option<i64>,
    /// The category; `null` while the product is not known.
    #[schema(required)]
    pub category: Option<String>,
    /// The status of the product; `null` while it is not known.
    #[schema(required)]
    pub status: Option<ProductStatus>,
    /// The quantity available at the branch; 0 when it never had any.
    pub available: i64,
    /// True if none is available.
    pub sold_out: bool,
    /// The beginning of the section's period; `null` when it is not limited.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub from: Option<Timestamp>,
    /// The end of the section's period; `null` when it is not limited.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub until: Option<Timestamp>,
}

/// The view's memory of one aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StorefrontPart {
    /// Of a section that is open.
    Display(SectionPart),
    /// Of a product.
    Product(ProductPart),
    /// Of a stock.
    Stock {
        /// The quantity available.
        available: i64,
    },
}

/// The view's memory of a section that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectionPart {
    branch: String,
    title: String,
    period: Option<(Timestamp, Timestamp)>,
}

/// The view's memory of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductPart {
    name: String,
    price: i64,
    category: String,
    status: ProductStatus,
}

impl View for StorefrontView {
    const NAME: &'static str = "storefront";
    const VERSION: u32 = 1;
    const AGGREGATES: &'static [&'static str] = &[Display::NAME, Product::NAME, Stock::NAME];

    type Document = StorefrontDocument;
    type Part = StorefrontPart;

    fn query() -> Query {
        Query {
            filters: vec![
                Filter::equal("section"),
                Filter::equal("branch"),
                Filter::equal("category"),
                Filter::equal("sold_out").boolean(),
            ],
            counted: vec![
                vec!["branch", "category", "sold_out"],
                vec!["section", "category", "sold_out"],
            ],
            combined: vec![
                vec!["branch", "category"],
                vec!["branch", "sold_out"],
                vec!["branch", "category", "sold_out"],
            ],
            sorts: vec![Sort::by("rank").integer(), Sort::by("price").integer()],
            search: Vec::new(),
            routes: vec![vec!["section"], vec!["sku"], vec!["branch", "sku"]],
        }
    }

    fn remember(
        part: Option<StorefrontPart>,
        event: &Recorded,
    ) -> Result<Change<StorefrontPart>, ApplyError> {
        match event.aggregate.as_str() {
            Display::NAME => remember_section(part, event),
            Product::NAME => remember_product(part, event),
            Stock::NAME => Ok(Change::Put(StorefrontPart::Stock {
                available: available(&event.event::<Stock>()?),
            })),
            _ => Err(not_read(event)),
        }
    }

    fn route(event: &Recorded, _parts: &Parts<StorefrontPart>) -> Result<Route, ApplyError> {
        Ok(match event.aggregate.as_str() {
            Display::NAME => match event.event::<Display>()? {
                display::Event::Opened { .. } => Route::Nothing,
                display::Event::Placed { sku, .. }
                | display::Event::Moved { sku, .. }
                | display::Event::Removed { sku } => Route::id(format!("{}_{sku}", event.id)),
                display::Event::Scheduled { .. } | display::Event::Closed {} => {
                    Route::when("section", &event.id)
                }
            },
            Product::NAME => match event.event::<Product>()? {
                product::Event::Described { .. } => Route::Nothing,
                product::Event::Registered { .. }
                | product::Event::Renamed { .. }
                | product::Event::Repriced { .. }
                | product::Event::Recategorized { .. }
                | product::Event::Discontinued {}
                | product::Event::Relisted {} => Route::when("sku", &event.id),
            },
            Stock::NAME => {
                let (branch, sku) = stock::split_id(&event.id).ok_or_else(|| {
                    ApplyError::refused(format_args!("{} is not the id of a stock", event.id))
                })?;
                Route::Where(vec![("branch", branch.to_owned()), ("sku", sku.to_owned())])
            }
            _ => return Err(not_read(event)),
        })
    }

    fn apply(
        id: &str,
        document: Option<StorefrontDocument>,
        event: &Recorded,
        parts: &Parts<StorefrontPart>,
    ) -> Result<Change<StorefrontDocument>, ApplyError> {
        if event.aggregate == Display::NAME {
            return apply_display(id, document, event, parts);
        }
        let Some(before) = document else {
            return Ok(Change::Keep);
        };
        let mut after = before.clone();
        match parts.get(&event.aggregate, &event.id) {
            Some(StorefrontPart::Product(product)) => after.show_product(product),
            Some(StorefrontPart::Stock { available }) => after.show_stock(*available),
            Some(StorefrontPart::Display(_)) | None => {}
        }
        Ok(put_if_changed(Some(&before), after))
    }
}

fn apply_display(
    id: &str,
    document: Option<StorefrontDocument>,
    event: &Recorded,
    parts: &Parts<StorefrontPart>,
) -> Result<Change<StorefrontDocument>, ApplyError> {
    let before = document.clone();
    let after = match (document, event.event::<Display>()?) {
        (_, display::Event::Opened { .. }) => return Ok(Change::Keep),
        (document, display::Event::Placed { sku, rank }) => {
            if let Some(other) = document {
                other.must_be(&event.id, &sku)?;
            }
            let Some(section) = section(parts, event) else {
                return Err(no_document(id, event));
            };
            compose(section, &event.id, sku, rank, parts)
        }
        (Some(before), display::Event::Moved { sku, rank }) => {
            before.must_be(&event.id, &sku)?;
            StorefrontDocument { rank, ..before }
        }
        (Some(before), display::Event::Removed { sku }) => {
            before.must_be(&event.id, &sku)?;
            return Ok(Change::Delete);
        }
        (None, display::Event::Moved { .. } | display::Event::Removed { .. }) => {
            return Err(no_document(id, event));
        }
        (Some(before), display::Event::Scheduled { from, until }) => StorefrontDocument {
            from: Some(from),
            until: Some(until),
            ..before
        },
        (Some(_), display::Event::Closed {}) => return Ok(Change::Delete),
        (None, display::Event::Scheduled { .. } | display::Event::Closed {}) => {
            return Ok(Change::Keep);
        }
    };
    Ok(put_if_changed(before.as_ref(), after))
}

/// The document of a product that has just been placed, from all that is remembered.
fn compose(
    section: &SectionPart,
    id: &str,
    sku: String,
    rank: i64,
    parts: &Parts<StorefrontPart>,
) -> StorefrontDocument {
    let stock = parts.get(Stock::NAME, &format!("{}_{sku}", section.branch));
    let product = parts.get(Product::NAME, &sku);
    let mut document = StorefrontDocument {
        branch: section.branch.clone(),
        section: id.to_owned(),
        title: section.title.clone(),
        sku,
        rank,
        name: None,
        price: None,
        category: None,
        status: None,
        available: 0,
        sold_out: true,
        from: section.period.map(|(from, _)| from),
        until: section.period.map(|(_, until)| until),
    };
    if let Some(StorefrontPart::Stock { available }) = stock {
        document.show_stock(*available);
    }
    if let Some(StorefrontPart::Product(product)) = product {
        document.show_product(product);
    }
    document
}

impl StorefrontDocument {
    fn show_stock(&mut self, available: i64) {
        self.available = available;
        self.sold_out = available <= 0;
    }

    fn show_product(&mut self, product: &ProductPart) {
        self.name = Some(product.name.clone());
        self.price = Some(product.price);
        self.category = Some(product.category.clone());
        self.status = Some(product.status);
    }

    /// A section has no `_`, so no two pairs make the same id. One that was opened before that was
    /// checked may: the second pair is refused rather than shown in the place of the first.
    fn must_be(&self, section: &str, sku: &str) -> Result<(), ApplyError> {
        if self.section == section && self.sku == sku {
            return Ok(());
        }
        Err(ApplyError::refused(format_args!(
            "{section}_{sku} is the document of {} in {} already",
            self.sku, self.section
        )))
    }
}

fn section<'a>(parts: &'a Parts<StorefrontPart>, event: &Recorded) -> Option<&'a SectionPart> {
    match parts.get(&event.aggregate, &event.id) {
        Some(StorefrontPart::Display(section)) => Some(section),
        _ => None,
    }
}

fn remember_section(
    part: Option<StorefrontPart>,
    event: &Recorded,
) -> Result<Change<StorefrontPart>, ApplyError> {
    let section = match (part, event.event::<Display>()?) {
        (_, display::Event::Opened { branch, title }) => SectionPart {
            branch,
            title,
            period: None,
        },
        (Some(StorefrontPart::Display(part)), display::Event::Scheduled { from, until }) => {
            SectionPart {
                period: Some((from, until)),
                ..part
            }
        }
        (_, display::Event::Scheduled { .. }) => return Err(no_document(&event.id, event)),
        (_, display::Event::Closed {}) => return Ok(Change::Delete),
        (
            _,
            display::Event::Placed { .. }
            | display::Event::Moved { .. }
            | display::Event::Removed { .. },
        ) => return Ok(Change::Keep),
    };
    Ok(Change::Put(StorefrontPart::Display(section)))
}

fn remember_product(
    part: Option<StorefrontPart>,
    event: &Recorded,
) -> Result<Change<StorefrontPart>, ApplyError> {
    use product::Event;

    let part = match part {
        Some(StorefrontPart::Product(part)) => Some(part),
        _ => None,
    };
    let product = match (part, event.event::<Product>()?) {
        (
            _,
            Event::Registered {
                name,
                price,
                category,
                ..
            },
        ) => ProductPart {
            name,
            price,
            category,
            status: ProductStatus::Listed,
        },
        (_, Event::Described { .. }) => return Ok(Change::Keep),
        (None, _) => return Err(no_document(&event.id, event)),
        (Some(part), Event::Renamed { name, .. }) => ProductPart { name, ..part },
        (Some(part), Event::Repriced { price }) => ProductPart { price, ..part },
        (Some(part), Event::Recategorized { category }) => ProductPart { category, ..part },
        (Some(part), Event::Discontinued {}) => ProductPart {
            status: ProductStatus::Discontinued,
            ..part
        },
        (Some(part), Event::Relisted {}) => ProductPart {
            status: ProductStatus::Listed,
            ..part
        },
    };
    Ok(Change::Put(StorefrontPart::Product(product)))
}

fn available(event: &stock::Event) -> i64 {
    match event {
        stock::Event::Received { available, .. }
        | stock::Event::Reserved { available, .. }
        | stock::Event::Released { available, .. }
        | stock::Event::Shipped { available, .. }
        | stock::Event::Adjusted { available, .. } => *available,
    }
}

#[cfg(test)]
mod tests;
