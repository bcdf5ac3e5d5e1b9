//! The integration tests: one binary, against real servers on free ports.

mod harness;

mod append;
mod append_choice;
mod bad_input_http;
mod bad_input_nats;
mod bench;
mod cache;
mod command_append;
mod command_drain;
mod command_limits;
mod command_placement;
mod command_property;
mod command_support;
mod commands;
mod crash;
mod dev_nats_server;
mod dev_run;
mod hot;
mod http;
mod in_doubt;
mod linearizability;
mod live;
mod membership;
mod metrics;
mod once;
mod other_log;
mod rebuild;
mod sales;
mod serve_run;
mod shared_store;
mod topology;
mod traces;
mod views;
mod views_ops;
