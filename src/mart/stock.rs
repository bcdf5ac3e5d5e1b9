//! The stock of one product in one branch. Its id is `<branch>_<sku>`; a branch has no `_` in it.
//!
//! What is on hand is either available or reserved for an order. Available never falls below zero.
//! `reserve`, `release` and `ship` have their effect once per order: repeated, they are accepted and
//! change nothing. That holds for every open reservation, and for the last [`REMEMBERED`] orders
//! that were released or shipped; an older one counts as never seen.

use super::{
    ids::OrderId,
    rules::{self, Invalid},
};
use headwater_core::aggregate::{self, Aggregate, Context, Decision};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use utoipa::ToSchema;

/// The number of released or shipped orders that are remembered, the latest.
pub const REMEMBERED: usize = 1_000;
/// The most that one command can move.
pub const MAX_QUANTITY: i64 = 1_000_000;
/// The most that can be on hand, available and reserved together.
pub const MAX_ON_HAND: i64 = 1_000_000_000;

/// Splits a stock's id into its branch and its SKU.
#[must_use]
pub fn split_id(id: &str) -> Option<(&str, &str)> {
    let (branch, sku) = id.split_once('_')?;
    (rules::is_prefix(branch) && rules::is_id(sku)).then_some((branch, sku))
}

/// An event of a stock. `available` is always the quantity available afterwards.
///
/// These names and fields are the storage format. None is renamed, removed or given another
/// meaning: a new shape is a new version, and the old one is upcast on read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    /// Goods came in.
    #[serde(rename = "stock.received.v1")]
    Received {
        /// The quantity.
        quantity: i64,
        /// The quantity available now.
        available: i64,
    },
    /// Goods were set aside for an order.
    #[serde(rename = "stock.reserved.v1")]
    Reserved {
        /// The order.
        order: String,
        /// The quantity.
        quantity: i64,
        /// The quantity available now.
        available: i64,
    },
    /// Goods set aside for an order became available again.
    #[serde(rename = "stock.released.v1")]
    Released {
        /// The order.
        order: String,
        /// The quantity.
        quantity: i64,
        /// The quantity available now.
        available: i64,
    },
    /// Goods set aside for an order left the branch.
    #[serde(rename = "stock.shipped.v1")]
    Shipped {
        /// The order.
        order: String,
        /// The quantity.
        quantity: i64,
        /// The quantity available, as before.
        available: i64,
    },
    /// The count was corrected.
    #[serde(rename = "stock.adjusted.v1")]
    Adjusted {
        /// The difference.
        delta: i64,
        /// The reason.
        reason: String,
        /// The quantity available now.
        available: i64,
    },
}

/// The state that a stock decides by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    received: bool,
    available: i64,
    reserved: i64,
    /// Quantities by order.
    reservations: BTreeMap<Arc<str>, i64>,
    /// Orders released or shipped, the latest last.
    settled: VecDeque<(Arc<str>, Settled)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Settled {
    Released,
    Shipped,
}

impl Stock {
    fn settled(&self, order: &str) -> Option<Settled> {
        let mut latest_first = self.settled.iter().rev();
        latest_first.find_map(|(settled, how)| (**settled == *order).then_some(*how))
    }

    fn settle(&mut self, order: &str, quantity: i64, how: Settled) {
        self.reservations.remove(order);
        self.reserved -= quantity;
        if self.settled.len() == REMEMBERED {
            self.settled.pop_front();
        }
        self.settled.push_back((order.into(), how));
    }
}

/// A command to a stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Takes in goods. The first delivery begins the stock.
    Receive {
        /// The quantity.
        #[schema(minimum = 1, maximum = 1_000_000, example = 100)]
        quantity: i64,
    },
    /// Sets goods aside for an order, once per order.
    Reserve {
        /// The order.
        order: OrderId,
        /// The quantity.
        #[schema(minimum = 1, maximum = 1_000_000, example = 2)]
        quantity: i64,
    },
    /// Makes what was set aside for an order available again, once per order.
    Release {
        /// The order.
        order: OrderId,
    },
    /// Hands out what was set aside for an order, once per order.
    Ship {
        /// The order.
        order: OrderId,
    },
    /// Corrects the available quantity, for example after counting.
    Adjust {
        /// The difference: negative for what is missing.
        #[schema(minimum = -1_000_000, maximum = 1_000_000, example = -3)]
        delta: i64,
        /// The reason.
        #[schema(min_length = 1, max_length = 500, example = "spoiled")]
        reason: String,
    },
}

impl Aggregate for Stock {
    const NAME: &'static str = "stock";

    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    fn decide(&self, command: Command, at: &Context) -> Result<Decision<Event>, Rejection> {
        if !at.caller.has(rules::STAFF) {
            return Err(Rejection::StaffOnly);
        }
        if split_id(&at.id).is_none() {
            return Err(Rejection::InvalidId);
        }
        if !self.received && !matches!(command, Command::Receive { .. }) {
            return Err(Rejection::NotFound);
        }
        Ok(match command {
            Command::Receive { quantity } => {
                rules::number("invalid_quantity", quantity, 1..=MAX_QUANTITY)?;
                let available = self.plus(quantity)?;
                Decision::event(Event::Received {
                    quantity,
                    available,
                })
            }
            Command::Reserve { order, quantity } => {
                let order = order.valid()?;
                rules::number("invalid_quantity", quantity, 1..=MAX_QUANTITY)?;
                if self.settled(&order).is_some() {
                    return Ok(Decision::nothing());
                }
                match self.reservations.get(order.as_str()) {
                    Some(&reserved) if reserved == quantity => return Ok(Decision::nothing()),
                    Some(&reserved) => return Err(Rejection::AlreadyReserved { order, reserved }),
                    None => {}
                }
                let available = self.plus(-quantity)?;
                Decision::event(Event::Reserved {
                    order,
                    quantity,
                    available,
                })
            }
            Command::Release { order } => match self.reservation(order, Settled::Released)? {
                Some((order, quantity)) => Decision::event(Event::Released {
                    order,
                    quantity,
                    available: self.available + quantity,
                }),
                None => Decision::nothing(),
            },
            Command::Ship { order } => match self.reservation(order, Settled::Shipped)? {
                Some((order, quantity)) => Decision::event(Event::Shipped {
                    order,
                    quantity,
                    available: self.available,
                }),
                None => Decision::nothing(),
            },
            Command::Adjust { delta, reason } => {
                rules::number("invalid_delta", delta, -MAX_QUANTITY..=MAX_QUANTITY)?;
                let reason = rules::lines("invalid_reason", &reason, 1..=500)?;
                let available = self.plus(delta)?;
                rules::event_if(
                    delta != 0,
                    Event::Adjusted {
                        delta,
                        reason,
                        available,
                    },
                )
            }
        })
    }

    fn evolve(&mut self, event: &Event) {
        self.received = true;
        match event {
            Event::Received { available, .. } | Event::Adjusted { available, .. } => {
                self.available = *available;
            }
            Event::Reserved {
                order,
                quantity,
                available,
            } => {
                self.available = *available;
                self.reserved += quantity;
                self.reservations.insert(order.as_str().into(), *quantity);
            }
            Event::Released {
                order,
                quantity,
                available,
            } => {
                self.available = *available;
                self.settle(order, *quantity, Settled::Released);
            }
            Event::Shipped {
                order,
                quantity,
                available,
            } => {
                self.available = *available;
                self.settle(order, *quantity, Settled::Shipped);
            }
        }
    }
}

impl Stock {
    /// Returns what is available after this difference.
    fn plus(&self, delta: i64) -> Result<i64, Rejection> {
        let available = self.available + delta;
        if available < 0 {
            return Err(Rejection::OutOfStock {
                available: self.available,
            });
        }
        if available + self.reserved > MAX_ON_HAND {
            return Err(Rejection::TooMuchStock);
        }
        Ok(available)
    }

    /// The reservation to settle, or nothing when it has been settled in this way already.
    fn reservation(
        &self,
        order: OrderId,
        how: Settled,
    ) -> Result<Option<(String, i64)>, Rejection> {
        let order = order.valid()?;
        match self.reservations.get(order.as_str()) {
            Some(&quantity) => Ok(Some((order, quantity))),
            None if self.settled(&order) == Some(how) => Ok(None),
            None => Err(Rejection::NotReserved { order }),
        }
    }
}

/// The reason why a stock refuses a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, aggregate::Rejection)]
pub enum Rejection {
    /// Only staff may do that.
    #[error("only staff may do that")]
    #[rejection(scope = rules::STAFF)]
    StaffOnly,
    /// The branch has never received the product.
    #[error("there is no such stock")]
    #[refuses(except(Receive))]
    NotFound,
    /// The id is not that of a stock.
    #[error("the id of a stock is <branch>_<sku>, where the branch has no _")]
    InvalidId,
    /// Fewer are available than asked for.
    #[error("only {available} available")]
    #[refuses(Reserve, Adjust)]
    OutOfStock {
        /// The quantity available.
        available: i64,
    },
    /// More would be on hand than a stock can hold.
    #[error("a stock holds at most {MAX_ON_HAND}")]
    #[refuses(Receive, Adjust)]
    TooMuchStock,
    /// Another quantity is set aside for the order.
    #[error("{reserved} are reserved for order {order} already")]
    #[refuses(Reserve)]
    AlreadyReserved {
        /// The order.
        order: String,
        /// The quantity set aside.
        reserved: i64,
    },
    /// Nothing is set aside for the order.
    #[error("nothing is reserved for order {order}")]
    #[refuses(Release, Ship)]
    NotReserved {
        /// The order.
        order: String,
    },
    /// A field is out of bounds.
    #[error(transparent)]
    #[refuses(Receive, codes("invalid_quantity"))]
    #[refuses(Reserve, codes("invalid_order", "invalid_quantity"))]
    #[refuses(Release, Ship, codes("invalid_order"))]
    #[refuses(Adjust, codes("invalid_delta", "invalid_reason"))]
    Invalid(#[from] Invalid),
}

#[cfg(test)]
mod tests;
