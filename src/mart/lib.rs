//! The mart: the reference domain, a quick-commerce grocery with many branches.
//!
//! Everything below is pure: aggregates decide, views fold, processes react, and none knows a clock, a random
//! source, a database or the runtime that calls it: this crate depends on none.

pub mod catalogue;
pub mod display;
pub mod fulfilment;
pub mod ids;
pub mod member;
pub mod order;
pub mod product;
pub mod rules;
pub mod shop;
pub mod stock;
pub mod view;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod wire;
