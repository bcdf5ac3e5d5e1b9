//! The integration tests: one binary, against real servers on free ports.

mod harness;

mod bad_input_http;
mod dev_nats_server;
mod dev_run;
mod http;
mod serve_run;
mod topology;
mod views;
mod views_ops;
