//! An aggregate made for tests of what reads commands.

use crate::aggregate::{Aggregate, Context, Decision, Rejection};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use utoipa::ToSchema;

#[derive(Default, Clone, Serialize, Deserialize)]
pub(super) struct Cart;

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema, PartialEq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum CartCommand {
    Place {
        lines: Vec<Line>,
        note: Option<String>,
        #[serde(default)]
        tags: HashMap<String, Option<u32>>,
        #[serde(default)]
        weight: f64,
    },
    Clear {},
    Empty {},
    Fill {},
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub sku: String,
    pub quantity: i64,
}

#[derive(Debug, thiserror::Error, Rejection)]
#[error("never")]
pub(super) struct Never;

impl Aggregate for Cart {
    const NAME: &'static str = "cart";
    type Command = CartCommand;
    type Event = ();
    type Rejection = Never;
    fn decide(&self, _: CartCommand, _: &Context) -> Result<Decision<()>, Never> {
        Ok(Decision::nothing())
    }
    fn evolve(&mut self, (): &()) {}
}
