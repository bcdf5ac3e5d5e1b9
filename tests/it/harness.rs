//! What every test stands on: real servers, the real binary, and deadlines instead of sleeps.
//!
//! [`nats::Nats`] is a nats-server of the test's own or, through [`nats::shared`], of the whole run;
//! [`service::Service`] is the `headwater` binary as a child process; [`api::Api`] talks to it over
//! HTTP or NATS with the same calls and the same answers. Everything ends when it is dropped, and
//! when the test process ends, however it ends.

// Not every helper is used by every selection of tests.
#![allow(dead_code)]

pub mod api;
pub mod backup;
pub mod certificates;
pub mod chances;
pub mod cluster;
pub mod history;
pub mod log;
pub mod metrics;
pub mod nats;
pub mod otlp;
pub mod poll;
pub mod proxy;
pub mod replica;
pub mod seed;
pub mod service;
pub mod streams;
pub mod surreal;
pub mod tokens;
pub mod writers;

use std::sync::atomic::{AtomicU32, Ordering};

/// An id that no other test of this run uses: `<prefix>-<process>-<n>`.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{n}", std::process::id())
}
