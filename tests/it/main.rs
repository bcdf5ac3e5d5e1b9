//! The integration tests: one binary, against real servers on free ports.

mod harness;

mod append;
mod bad_input_http;
mod bad_input_nats;
mod cache;
mod commands;
mod dev_nats_server;
mod dev_run;
mod http;
mod live;
mod membership;
mod serve_run;
mod topology;
mod views;
