//! An order of a member at a branch.
//!
//! placed → confirmed → paid → shipped → delivered. A placed order can be rejected instead, and one
//! that has not been shipped can be cancelled. What is paid is the total, no more and no less.

use super::{
    product::PRICES,
    rules::{self, Invalid},
};
use headwater_core::{
    aggregate::{self, Aggregate, Context, Decision},
    caller::Caller,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, ops::RangeInclusive};
use utoipa::ToSchema;

/// The most lines of an order.
pub const MAX_LINES: usize = 50;
/// The quantities of a line.
pub const QUANTITIES: RangeInclusive<i64> = 1..=99;

/// The largest total that the bounds above allow is far from the limits of the type, and exact in
/// every JSON reader.
const _: () = assert!(MAX_LINES as i64 * *QUANTITIES.end() * *PRICES.end() < 1 << 53);

/// One product of an order, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLine {
    /// The product.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = "^(?!live$)[A-Za-z0-9_-]+$",
        example = "apple-1kg"
    )]
    pub sku: String,
    /// How many.
    #[schema(minimum = 1, maximum = 99, example = 2)]
    pub quantity: i64,
    /// The price of one in whole won, as the shopper saw it.
    #[schema(minimum = 1, maximum = 100_000_000, example = 4900)]
    pub unit_price: i64,
}

/// One product of an order, as it is stored: a field that a later build adds is no fault here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// The product.
    pub sku: String,
    /// How many.
    pub quantity: i64,
    /// The price of one in whole won, as the shopper saw it.
    pub unit_price: i64,
}

impl From<NewLine> for OrderLine {
    fn from(line: NewLine) -> Self {
        Self {
            sku: line.sku,
            quantity: line.quantity,
            unit_price: line.unit_price,
        }
    }
}

/// What happened to an order.
///
/// These names and fields are the storage format. None is renamed, removed or given another
/// meaning: a new shape is a new version, and the old one is upcast on read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    /// It was placed.
    #[serde(rename = "order.placed.v1")]
    Placed {
        /// The member.
        member: String,
        /// The branch that delivers it.
        branch: String,
        /// What was ordered.
        lines: Vec<OrderLine>,
        /// What it costs, in whole won.
        total: i64,
    },
    /// The branch has everything and set it aside.
    #[serde(rename = "order.confirmed.v1")]
    Confirmed {},
    /// The branch cannot deliver it.
    #[serde(rename = "order.rejected.v1")]
    Rejected {
        /// Why.
        reason: String,
    },
    /// It was paid.
    #[serde(rename = "order.paid.v1")]
    Paid {
        /// The payment's reference.
        payment: String,
        /// What was paid, in whole won.
        amount: i64,
    },
    /// It left the branch.
    #[serde(rename = "order.shipped.v1")]
    Shipped {},
    /// It arrived.
    #[serde(rename = "order.delivered.v1")]
    Delivered {},
    /// It was called off.
    #[serde(rename = "order.cancelled.v1")]
    Cancelled {
        /// Why.
        reason: String,
    },
}

/// The state that an order decides by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    status: Option<Status>,
    total: i64,
    member: String,
}

/// How far an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OrderStatus)]
pub enum Status {
    /// It waits for the branch.
    Placed,
    /// It waits for the payment.
    Confirmed,
    /// The branch could not deliver it.
    Rejected,
    /// It waits to be shipped.
    Paid,
    /// It is on its way.
    Shipped,
    /// It arrived.
    Delivered,
    /// It was called off.
    Cancelled,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Placed => "placed",
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
            Self::Paid => "paid",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        })
    }
}

/// What can be asked of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Places an order.
    Place {
        /// The member.
        #[schema(
            min_length = 1,
            max_length = 64,
            pattern = "^(?!live$)[A-Za-z0-9_-]+$",
            example = "m-haneul"
        )]
        member: String,
        /// The branch that delivers it.
        #[schema(
            min_length = 1,
            max_length = 64,
            pattern = "^(?!live$)[A-Za-z0-9-]+$",
            example = "gangnam"
        )]
        branch: String,
        /// What is ordered, each product once.
        #[serde(deserialize_with = "rules::objects")]
        #[schema(min_items = 1, max_items = 50)]
        lines: Vec<NewLine>,
    },
    /// Promises a placed order: everything is set aside.
    Confirm {},
    /// Turns a placed order down.
    Reject {
        /// Why.
        #[schema(min_length = 1, max_length = 500, example = "out of stock: apple-1kg")]
        reason: String,
    },
    /// Records the payment of a confirmed order.
    Pay {
        /// The payment's reference.
        #[schema(min_length = 1, max_length = 128, example = "pay-20270101-0001")]
        payment: String,
        /// What was paid, in whole won: the order's total.
        #[schema(minimum = 1, example = 9800)]
        amount: i64,
    },
    /// Hands a paid order over for delivery.
    Ship {},
    /// Records that a shipped order arrived.
    Deliver {},
    /// Calls an order off that has not been shipped.
    Cancel {
        /// Why.
        #[schema(min_length = 1, max_length = 500, example = "ordered by mistake")]
        reason: String,
    },
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
                let member = rules::id("invalid_member", member)?;
                let branch = rules::branch(branch)?;
                let total = valid_total(&lines)?;
                Event::Placed {
                    member,
                    branch,
                    lines: lines.into_iter().map(OrderLine::from).collect(),
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
            Command::Place { member, .. } => rules::is_theirs(caller, member),
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

fn valid_total(lines: &[NewLine]) -> Result<i64, Rejection> {
    if !(1..=MAX_LINES).contains(&lines.len()) {
        let must = format!("1 to {MAX_LINES} lines, but are {}", lines.len());
        return Err(Invalid::new("invalid_lines", must).into());
    }
    let mut total = 0;
    let mut skus = BTreeSet::new();
    for (index, line) in lines.iter().enumerate() {
        let within = |invalid: Invalid| invalid.within("lines", index);
        rules::id("invalid_sku", line.sku.clone()).map_err(within)?;
        rules::number("invalid_quantity", line.quantity, QUANTITIES).map_err(within)?;
        rules::number("invalid_unit_price", line.unit_price, PRICES).map_err(within)?;
        if !skus.insert(&line.sku) {
            let sku = line.sku.clone();
            return Err(Rejection::DuplicateSku { sku });
        }
        total += line.quantity * line.unit_price;
    }
    Ok(total)
}

fn valid_reason(reason: &str) -> Result<String, Invalid> {
    rules::lines("invalid_reason", reason, 1..=500)
}

/// Why an order refuses a command.
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
        /// What was paid.
        amount: i64,
        /// What the order costs.
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
