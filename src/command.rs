//! The command side: from a request to an appended commit.
//!
//! A command comes in by NATS ([`endpoint`]) or from within the process ([`client`]), goes to the
//! replica that is its aggregate's home ([`placement`]), finds the actor of its aggregate there
//! ([`registry`], [`actor`]), is decoded ([`decode`]), decided and appended ([`turn`]), and its
//! outcome is remembered ([`memory`]). One aggregate's commands are serial; different aggregates
//! share nothing.

pub mod actor;
mod answer;
pub mod client;
pub mod decode;
pub mod describe;
mod discovery;
mod drain;
pub mod endpoint;
mod local;
mod measure;
pub mod memory;
pub mod placement;
pub mod registry;
pub mod request;
mod room;
pub mod threads;
mod traces;
pub mod turn;
