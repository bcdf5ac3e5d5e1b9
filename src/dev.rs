//! What `headwater dev` needs around the platform: a folder of its own and a nats-server child.
//!
//! Nothing here is used in production, where NATS runs on its own.

pub mod data_dir;
pub mod nats_server;
