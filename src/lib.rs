//! Headwater: CQRS on NATS.

pub mod aggregate;
pub mod problem;
pub mod recorded;
pub mod view;

pub mod mart;

pub mod command;
pub mod event_log;
pub mod read_model;

#[cfg(test)]
mod dependency_rule;
pub mod testkit;
