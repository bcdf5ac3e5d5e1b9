//! The events of an order: its storage format.

use serde::{Deserialize, Serialize};

/// One product of an order, as it is stored: a field that a later build adds is no fault here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// The product.
    pub sku: String,
    /// The quantity.
    pub quantity: i64,
    /// The price of one in whole won, as the shopper saw it.
    pub unit_price: i64,
}

/// An event of an order.
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
        /// The order.
        lines: Vec<OrderLine>,
        /// The total, in whole won.
        total: i64,
    },
    /// The branch has everything and set it aside.
    #[serde(rename = "order.confirmed.v1")]
    Confirmed {},
    /// The branch cannot deliver it.
    #[serde(rename = "order.rejected.v1")]
    Rejected {
        /// The reason.
        reason: String,
    },
    /// It was paid.
    #[serde(rename = "order.paid.v1")]
    Paid {
        /// The payment's reference.
        payment: String,
        /// The amount paid, in whole won.
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
        /// The reason.
        reason: String,
    },
}
