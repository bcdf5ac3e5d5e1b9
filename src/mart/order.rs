//! An order of a member at a branch.
//!
//! placed → confirmed → paid → shipped → delivered. A placed order can be rejected instead, and one
//! that has not been shipped can be cancelled. What is paid is the total, no more and no less.

mod command;
mod event;
mod status;

pub use command::{Command, NewLine};
pub use event::{Event, OrderLine};
pub use status::Status;

use super::{
    product::PRICES,
    rules::{self, Invalid},
};
use headwater_core::{
    aggregate::{self, Aggregate, Context, Decision},
    caller::Caller,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, ops::RangeInclusive};

/// The most lines of an order.
pub const MAX_LINES: usize = 50;
/// The quantities of a line.
pub const QUANTITIES: RangeInclusive<i64> = 1..=99;

/// The largest total that the bounds above allow is far from the limits of the type, and exact in
/// every JSON reader.
const _: () = assert!(MAX_LINES as i64 * *QUANTITIES.end() * *PRICES.end() < 1 << 53);

/// The state that an order decides by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    status: Option<Status>,
    total: i64,
    member: String,
}

impl Aggregate for Order {
    const NAME: &'static str = "order";
    /// 2: whose it is.
    const STATE_VERSION: u32 = 2;

    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    fn decide(&self, command: Command, at: &Context) -> Result<Decision<Event>, Rejection> {
        use Status::{Confirmed, Paid, Placed, Shipped};

        self.check_caller(&command, &at.caller)?;

        let event = match (self.status, command) {
            (
                None,
                Command::Place {
                    member,
                    branch,
                    lines,
                },
            ) => {
                let member = member.valid()?;
                let branch = branch.valid()?;
                let (lines, total) = valid_lines(lines)?;
                Event::Placed {
                    member,
                    branch,
                    lines,
                    total,
                }
            }
            (None, _) => return Err(Rejection::NotFound),
            (Some(_), Command::Place { .. }) => return Err(Rejection::AlreadyPlaced),
            (Some(Placed), Command::Confirm {}) => Event::Confirmed {},
            (Some(Placed), Command::Reject { reason }) => Event::Rejected {
                reason: valid_reason(&reason)?,
            },
            (Some(Confirmed), Command::Pay { payment, amount }) => {
                let payment = rules::line("invalid_payment", &payment, 1..=128)?;
                if amount != self.total {
                    let total = self.total;
                    return Err(Rejection::WrongAmount { amount, total });
                }
                Event::Paid { payment, amount }
            }
            (Some(Paid), Command::Ship {}) => Event::Shipped {},
            (Some(Shipped), Command::Deliver {}) => Event::Delivered {},
            (Some(Placed | Confirmed | Paid), Command::Cancel { reason }) => Event::Cancelled {
                reason: valid_reason(&reason)?,
            },
            (
                Some(status),
                Command::Confirm {}
                | Command::Reject { .. }
                | Command::Pay { .. }
                | Command::Ship {}
                | Command::Deliver {}
                | Command::Cancel { .. },
            ) => return Err(Rejection::IllegalTransition { status }),
        };
        Ok(Decision::event(event))
    }

    fn evolve(&mut self, event: &Event) {
        self.status = Some(match event {
            Event::Placed { total, member, .. } => {
                self.total = *total;
                self.member.clone_from(member);
                Status::Placed
            }
            Event::Confirmed {} => Status::Confirmed,
            Event::Rejected { .. } => Status::Rejected,
            Event::Paid { .. } => Status::Paid,
            Event::Shipped {} => Status::Shipped,
            Event::Delivered {} => Status::Delivered,
            Event::Cancelled { .. } => Status::Cancelled,
        });
    }
}

impl Order {
    /// Members place, pay and cancel their own orders; the rest is for staff. An order of somebody else is
    /// none, to a member.
    fn check_caller(&self, command: &Command, caller: &Caller) -> Result<(), Rejection> {
        let theirs = match command {
            Command::Place { member, .. } => rules::is_theirs(caller, member.as_str()),
            Command::Pay { .. } | Command::Cancel { .. } => {
                return match rules::is_theirs(caller, &self.member) {
                    true => Ok(()),
                    false => Err(Rejection::NotFound),
                };
            }
            Command::Confirm {}
            | Command::Reject { .. }
            | Command::Ship {}
            | Command::Deliver {} => caller.has(rules::STAFF),
        };
        match theirs {
            true => Ok(()),
            false => Err(Rejection::StaffOnly),
        }
    }
}

/// The lines as they are stored, and what they cost.
fn valid_lines(lines: Vec<NewLine>) -> Result<(Vec<OrderLine>, i64), Rejection> {
    if !(1..=MAX_LINES).contains(&lines.len()) {
        let must = format!("1 to {MAX_LINES} lines, but are {}", lines.len());
        return Err(Invalid::new("invalid_lines", must).into());
    }
    let mut valid = Vec::with_capacity(lines.len());
    let mut total = 0;
    let mut skus = BTreeSet::new();
    for (index, line) in lines.into_iter().enumerate() {
        let within = |invalid: Invalid| invalid.within("lines", index);
        let sku = line.sku.valid().map_err(within)?;
        let quantity = rules::number("invalid_quantity", line.quantity, QUANTITIES);
        let quantity = quantity.map_err(within)?;
        let unit_price = rules::number("invalid_unit_price", line.unit_price, PRICES);
        let unit_price = unit_price.map_err(within)?;
        if !skus.insert(sku.clone()) {
            return Err(Rejection::DuplicateSku { sku });
        }
        total += quantity * unit_price;
        valid.push(OrderLine {
            sku,
            quantity,
            unit_price,
        });
    }
    Ok((valid, total))
}

fn valid_reason(reason: &str) -> Result<String, Invalid> {
    rules::lines("invalid_reason", reason, 1..=500)
}

/// The reason why an order refuses a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, aggregate::Rejection)]
pub enum Rejection {
    /// Only staff may do that.
    #[error("only staff may do that")]
    #[rejection(scope = rules::STAFF)]
    StaffOnly,
    /// No order has been placed under this id.
    #[error("there is no such order")]
    #[refuses(except(Place))]
    NotFound,
    /// The id is taken by an order.
    #[error("the order is placed already")]
    #[refuses(Place)]
    AlreadyPlaced,
    /// A product stands on two lines.
    #[error("{sku} stands on more than one line")]
    #[refuses(Place)]
    DuplicateSku {
        /// The product.
        sku: String,
    },
    /// Another amount was paid than the total.
    #[error("the amount is {amount}, but the total is {total}")]
    #[refuses(Pay)]
    WrongAmount {
        /// The amount paid.
        amount: i64,
        /// The total of the order.
        total: i64,
    },
    /// The order is not where the command applies.
    #[error("that cannot be done to an order that is {status}")]
    #[refuses(except(Place))]
    IllegalTransition {
        /// The place where the order is.
        status: Status,
    },
    /// A field is out of bounds.
    #[error(transparent)]
    #[refuses(
        Place,
        codes(
            "invalid_member",
            "invalid_branch",
            "invalid_lines",
            "invalid_sku",
            "invalid_quantity",
            "invalid_unit_price"
        )
    )]
    #[refuses(Reject, Cancel, codes("invalid_reason"))]
    #[refuses(Pay, codes("invalid_payment"))]
    Invalid(#[from] Invalid),
}

#[cfg(test)]
mod tests;
