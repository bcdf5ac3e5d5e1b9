//! The `sales` view: what a branch sold on a day, one document per branch and day.
//!
//! A sale is a paid order, on the day of its payment in Seoul. One that is cancelled after it was
//! paid is taken off the day it was paid on, whenever that was.

use super::no_document;
use crate::{
    order::{Event, Order},
    rules::STAFF,
};
use headwater_core::{
    aggregate::Aggregate,
    caller::Caller,
    recorded::Recorded,
    view::{ApplyError, Change, Filter, Parts, Query, Route, Rows, Sort, View},
};
use jiff::{Timestamp, civil::Date, tz};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// See the [module](self).
pub struct SalesView;

/// The sales of a branch on a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SalesDocument {
    /// The branch.
    pub branch: String,
    /// The day in Seoul, as `YYYY-MM-DD`.
    #[schema(format = Date)]
    pub day: String,
    /// The number of orders.
    pub orders: i64,
    /// The number of pieces in them.
    pub units: i64,
    /// The revenue, in whole won.
    pub revenue: i64,
}

/// The view's memory of an order that may still be paid or cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SalePart {
    branch: String,
    units: i64,
    total: i64,
    paid_on: Option<Date>,
}

impl View for SalesView {
    const NAME: &'static str = "sales";
    const VERSION: u32 = 1;
    const AGGREGATES: &'static [&'static str] = &[Order::NAME];

    type Document = SalesDocument;
    type Part = SalePart;

    fn visible(caller: &Caller) -> Rows {
        match caller.has(STAFF) {
            true => Rows::All,
            false => Rows::None,
        }
    }

    fn query() -> Query {
        Query {
            filters: vec![
                Filter::equal("branch"),
                Filter::at_least("day_min", "day"),
                Filter::at_most("day_max", "day"),
            ],
            sorts: vec![Sort::by("day")],
            ..Query::default()
        }
    }

    fn remember(part: Option<SalePart>, event: &Recorded) -> Result<Change<SalePart>, ApplyError> {
        Ok(match (part, event.event::<Order>()?) {
            (
                _,
                Event::Placed {
                    branch,
                    lines,
                    total,
                    ..
                },
            ) => Change::Put(SalePart {
                branch,
                units: lines.iter().map(|line| line.quantity).sum(),
                total,
                paid_on: None,
            }),
            (Some(part), Event::Paid { .. }) => Change::Put(SalePart {
                paid_on: Some(day_in_seoul(event.time)),
                ..part
            }),
            (None, Event::Paid { .. }) => return Err(no_document(&event.id, event)),
            // Nothing that counts can happen to the order any more.
            (_, Event::Rejected { .. } | Event::Shipped {}) => Change::Delete,
            (Some(SalePart { paid_on: None, .. }), Event::Cancelled { .. }) => Change::Delete,
            // `route` and `apply` have yet to see when a cancelled order was paid.
            (_, Event::Confirmed {} | Event::Delivered {} | Event::Cancelled { .. }) => {
                Change::Keep
            }
        })
    }

    fn route(event: &Recorded, parts: &Parts<SalePart>) -> Result<Route, ApplyError> {
        Ok(match change_of(event, parts)? {
            Some(change) => Route::id(format!("{}_{}", change.branch, change.day)),
            None => Route::Nothing,
        })
    }

    fn apply(
        _id: &str,
        document: Option<SalesDocument>,
        event: &Recorded,
        parts: &Parts<SalePart>,
    ) -> Result<Change<SalesDocument>, ApplyError> {
        let Some(change) = change_of(event, parts)? else {
            return Ok(Change::Keep);
        };
        let Some(before) = document else {
            return Ok(Change::Put(change));
        };
        Ok(Change::Put(SalesDocument {
            orders: before.orders + change.orders,
            units: before.units + change.units,
            revenue: before.revenue + change.revenue,
            ..before
        }))
    }
}

/// Returns what the event adds to a day, negative for what it takes off.
fn change_of(
    event: &Recorded,
    parts: &Parts<SalePart>,
) -> Result<Option<SalesDocument>, ApplyError> {
    let sign = match event.event::<Order>()? {
        Event::Paid { .. } => 1,
        Event::Cancelled { .. } => -1,
        Event::Placed { .. }
        | Event::Confirmed {}
        | Event::Rejected { .. }
        | Event::Shipped {}
        | Event::Delivered {} => return Ok(None),
    };
    let sale = parts.get(Order::NAME, &event.id);
    Ok(sale.and_then(|sale| {
        sale.paid_on.map(|day| SalesDocument {
            branch: sale.branch.clone(),
            day: day.to_string(),
            orders: sign,
            units: sign * sale.units,
            revenue: sign * sale.total,
        })
    }))
}

/// The day in Seoul. Its offset is fixed: Korea has had no daylight saving time since 1988.
fn day_in_seoul(time: Timestamp) -> Date {
    tz::offset(9).to_datetime(time).date()
}

#[cfg(test)]
mod tests;
