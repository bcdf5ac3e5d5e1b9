//! Headwater: CQRS on NATS.

pub mod aggregate;
pub mod problem;
pub mod recorded;
pub mod view;

pub mod mart;

pub mod command;
pub mod event_log;
pub mod http;
pub mod read_model;

pub mod dev;

pub mod testkit;

#[cfg(test)]
mod dependency_rule;
