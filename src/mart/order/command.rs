//! The commands of an order.

use crate::{
    ids::{Branch, MemberId, Sku},
    rules,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One product of an order, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLine {
    /// The product.
    pub sku: Sku,
    /// The quantity.
    #[schema(minimum = 1, maximum = 99, example = 2)]
    pub quantity: i64,
    /// The price of one in whole won, as the shopper saw it.
    #[schema(minimum = 1, maximum = 100_000_000, example = 4900)]
    pub unit_price: i64,
}

/// A command to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Places an order.
    Place {
        /// The member.
        member: MemberId,
        /// The branch that delivers it.
        branch: Branch,
        /// The lines, each product once.
        #[serde(deserialize_with = "rules::objects")]
        #[schema(min_items = 1, max_items = 50)]
        lines: Vec<NewLine>,
    },
    /// Promises a placed order: everything is set aside.
    Confirm {},
    /// Turns a placed order down.
    Reject {
        /// The reason.
        #[schema(min_length = 1, max_length = 500, example = "out of stock: apple-1kg")]
        reason: String,
    },
    /// Records the payment of a confirmed order.
    Pay {
        /// The payment's reference.
        #[schema(min_length = 1, max_length = 128, example = "pay-20270101-0001")]
        payment: String,
        /// The amount paid, in whole won: the order's total.
        #[schema(minimum = 1, example = 9800)]
        amount: i64,
    },
    /// Hands a paid order over for delivery.
    Ship {},
    /// Records that a shipped order arrived.
    Deliver {},
    /// Calls an order off that has not been shipped.
    Cancel {
        /// The reason.
        #[schema(min_length = 1, max_length = 500, example = "ordered by mistake")]
        reason: String,
    },
}
