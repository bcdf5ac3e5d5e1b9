//! A kit for testing aggregates, views and processes without any server, in memory and in no time.
//!
//! [`Given`] tests an aggregate: given these events, when this command comes, then these events
//! follow, or this refusal. [`ViewFold`] folds a [`Log`] into a view's documents one event at a
//! time, in the most naive way there is, which makes it the oracle for faster ways. [`Story`] tests a
//! process: events come, its commands are answered, time passes, and this follows.
//!
//! Everything panics where the caller stands, with what was expected and what came.

mod given;
mod log;
mod names;
mod story;
mod view_fold;

pub use given::{Given, When};
pub use log::{Log, interleavings};
pub use names::{command_names, event_types};
pub use story::Story;
pub use view_fold::ViewFold;

#[cfg(test)]
mod tests;
