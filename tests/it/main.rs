//! The integration tests: one binary, against real servers on free ports.

mod harness;

mod dev_nats_server;
mod dev_run;
mod serve_run;
mod topology;
