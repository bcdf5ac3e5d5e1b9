//! The `order` view: one document per order, with the names of its member and its products.
//!
//! Composed from order, member and product. A renamed product is renamed in every order; a
//! withdrawn member's name is gone from all of theirs, and from what the view remembers.

use super::{no_document, not_read, put_if_changed};
use crate::{
    member::{self, Member},
    order::{Event, Order, Status},
    product::{self, Product},
    rules::STAFF,
};
use headwater_core::{
    aggregate::Aggregate,
    caller::Caller,
    recorded::Recorded,
    view::{ApplyError, Change, Filter, Parts, Query, Route, Rows, Sort, View},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// See the [module](self).
pub struct OrderView;

/// An order as its member and its branch see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderDocument {
    /// The order's id.
    pub id: String,
    /// The status.
    pub status: Status,
    /// Whose it is.
    pub member: OrderMember,
    /// The branch that delivers it.
    pub branch: String,
    /// The order.
    pub lines: Vec<OrderDocumentLine>,
    /// The total, in whole won.
    pub total: i64,
    /// The payment's reference; `null` while it is not paid.
    #[schema(required)]
    pub payment: Option<String>,
    /// The reason why it was rejected or cancelled; `null` when it was not.
    #[schema(required)]
    pub reason: Option<String>,
    /// The time when it was placed: RFC 3339 in UTC, with microseconds.
    #[schema(format = DateTime)]
    pub placed_at: String,
    /// The statuses it has had, in order.
    pub timeline: Vec<OrderStep>,
}

/// The member of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderMember {
    /// The member's id.
    pub id: String,
    /// The name; `null` while the member is not known, and after they withdrew.
    #[schema(required)]
    pub name: Option<String>,
}

/// One product of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderDocumentLine {
    /// The product.
    pub sku: String,
    /// Its Korean name; `null` while it is not known.
    #[schema(required)]
    pub name: Option<String>,
    /// The quantity.
    pub quantity: i64,
    /// The price of one in whole won.
    pub unit_price: i64,
}

/// One step of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderStep {
    /// The status from then on.
    pub status: Status,
    /// The time: RFC 3339 in UTC, with microseconds.
    #[schema(format = DateTime)]
    pub at: String,
}

/// The view's memory of one member or product: its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamePart {
    name: String,
}

impl View for OrderView {
    const NAME: &'static str = "order";
    const VERSION: u32 = 1;
    const AGGREGATES: &'static [&'static str] = &[Order::NAME, Member::NAME, Product::NAME];

    type Document = OrderDocument;
    type Part = NamePart;

    fn query() -> Query {
        Query {
            filters: vec![
                Filter::equal("member.id").named("member"),
                Filter::equal("branch"),
                Filter::equal("status"),
            ],
            sorts: vec![Sort::by("placed_at")],
            search: Vec::new(),
            counted: vec![vec!["branch", "status"]],
            combined: vec![vec!["branch", "status"], vec!["member.id", "status"]],
            routes: vec![vec!["member.id"], vec!["lines[].sku"]],
        }
    }

    fn remember(_part: Option<NamePart>, event: &Recorded) -> Result<Change<NamePart>, ApplyError> {
        Ok(match event.aggregate.as_str() {
            Order::NAME => Change::Keep,
            Member::NAME => match event.event::<Member>()? {
                member::Event::Registered { name, .. } => Change::Put(NamePart { name }),
                member::Event::AddressChanged { .. } => Change::Keep,
                member::Event::Withdrawn {} => Change::Delete,
            },
            Product::NAME => match product_name(event)? {
                Some(name) => Change::Put(NamePart { name }),
                None => Change::Keep,
            },
            _ => return Err(not_read(event)),
        })
    }

    fn visible(caller: &Caller) -> Rows {
        match caller.subject() {
            _ if caller.has(STAFF) => Rows::All,
            Some(member) => Rows::Where("member.id", member.to_owned()),
            None => Rows::None,
        }
    }

    fn erases(event: &Recorded) -> bool {
        event.event_type.starts_with("member.withdrawn.")
    }

    fn route(event: &Recorded, _parts: &Parts<NamePart>) -> Result<Route, ApplyError> {
        Ok(match event.aggregate.as_str() {
            Order::NAME => Route::id(&event.id),
            Member::NAME => match event.event::<Member>()? {
                member::Event::Registered { .. } | member::Event::Withdrawn {} => {
                    Route::when("member.id", &event.id)
                }
                member::Event::AddressChanged { .. } => Route::Nothing,
            },
            Product::NAME => match product_name(event)? {
                Some(_) => Route::when("lines[].sku", &event.id),
                None => Route::Nothing,
            },
            _ => return Err(not_read(event)),
        })
    }

    fn apply(
        id: &str,
        document: Option<OrderDocument>,
        event: &Recorded,
        parts: &Parts<NamePart>,
    ) -> Result<Change<OrderDocument>, ApplyError> {
        if event.aggregate == Order::NAME {
            return apply_order(id, document, event, parts);
        }
        let Some(before) = document else {
            return Ok(Change::Keep);
        };
        let mut after = before.clone();
        let name = name(parts, &event.aggregate, &event.id);
        if event.aggregate == Member::NAME {
            after.member.name = name;
        } else {
            let lines = after.lines.iter_mut();
            for line in lines.filter(|line| line.sku == event.id) {
                line.name.clone_from(&name);
            }
        }
        Ok(put_if_changed(Some(&before), after))
    }
}

fn apply_order(
    id: &str,
    document: Option<OrderDocument>,
    event: &Recorded,
    parts: &Parts<NamePart>,
) -> Result<Change<OrderDocument>, ApplyError> {
    let at = micros(event.time);
    let mut after = match (document, event.event::<Order>()?) {
        (
            _,
            Event::Placed {
                member,
                branch,
                lines,
                total,
            },
        ) => OrderDocument {
            id: id.to_owned(),
            status: Status::Placed,
            member: OrderMember {
                name: name(parts, Member::NAME, &member),
                id: member,
            },
            branch,
            lines: lines
                .into_iter()
                .map(|line| OrderDocumentLine {
                    name: name(parts, Product::NAME, &line.sku),
                    sku: line.sku,
                    quantity: line.quantity,
                    unit_price: line.unit_price,
                })
                .collect(),
            total,
            payment: None,
            reason: None,
            placed_at: at.clone(),
            timeline: Vec::new(),
        },
        (None, _) => return Err(no_document(id, event)),
        (Some(before), Event::Confirmed {}) => before.now(Status::Confirmed),
        (Some(before), Event::Rejected { reason }) => OrderDocument {
            reason: Some(reason),
            ..before.now(Status::Rejected)
        },
        (Some(before), Event::Paid { payment, .. }) => OrderDocument {
            payment: Some(payment),
            ..before.now(Status::Paid)
        },
        (Some(before), Event::Shipped {}) => before.now(Status::Shipped),
        (Some(before), Event::Delivered {}) => before.now(Status::Delivered),
        (Some(before), Event::Cancelled { reason }) => OrderDocument {
            reason: Some(reason),
            ..before.now(Status::Cancelled)
        },
    };
    after.timeline.push(OrderStep {
        status: after.status,
        at,
    });
    Ok(Change::Put(after))
}

impl OrderDocument {
    fn now(self, status: Status) -> Self {
        Self { status, ..self }
    }
}

/// The name that the event gives the product, if it does.
fn product_name(event: &Recorded) -> Result<Option<String>, ApplyError> {
    Ok(match event.event::<Product>()? {
        product::Event::Registered { name, .. } | product::Event::Renamed { name, .. } => {
            Some(name)
        }
        product::Event::Repriced { .. }
        | product::Event::Recategorized { .. }
        | product::Event::Described { .. }
        | product::Event::Discontinued {}
        | product::Event::Relisted {} => None,
    })
}

fn name(parts: &Parts<NamePart>, aggregate: &str, id: &str) -> Option<String> {
    parts.get(aggregate, id).map(|part| part.name.clone())
}

/// The time with a fixed number of digits, so that comparing the texts compares the times.
fn micros(time: Timestamp) -> String {
    format!("{time:.6}")
}

#[cfg(test)]
mod tests;
