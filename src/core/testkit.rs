//! A kit for testing aggregates and views without any server, in memory and in no time.
//!
//! [`Given`] tests an aggregate: given these events, when this command comes, then these events
//! follow, or this refusal. [`ViewFold`] folds a [`Log`] into a view's documents one event at a
//! time, in the most naive way there is, which makes it the oracle for faster ways.
//!
//! Everything panics where the caller stands, with what was expected and what came.

mod given;
mod log;
mod names;
mod view_fold;

pub use given::{Given, When};
pub use log::{Log, interleavings};
pub use names::{command_names, event_types};
pub use view_fold::ViewFold;

#[cfg(test)]
mod tests;
