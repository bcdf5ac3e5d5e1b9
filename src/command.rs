//! The command side: from a request to an appended commit.
//!
//! A command comes in by NATS ([`endpoint`]) or from within the process ([`client`]), finds the
//! actor of its aggregate ([`registry`], [`actor`]), is decoded ([`decode`]), decided and appended
//! ([`turn`]), and its outcome is remembered ([`memory`]). One aggregate's commands are serial;
//! different aggregates share nothing.

pub mod actor;
pub mod client;
pub mod decode;
pub mod describe;
pub mod endpoint;
pub mod memory;
pub mod registry;
pub mod remote;
pub mod request;
pub mod turn;
