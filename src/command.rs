//! The command side: from a request to an appended commit.
//!
//! A command comes in by NATS ([`endpoint`]) or from within the process ([`client`]), goes to the
//! replica that is its aggregate's home ([`placement`]), finds the actor of its aggregate there
//! ([`registry`], [`actor`]), is decoded ([`decode`]), decided and appended ([`turn`]), and its
//! outcome is remembered ([`memory`]). One aggregate's commands are serial; different aggregates
//! share nothing. A caller may wait for the process that a command has started ([`waits`]).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::sync::Arc;

pub mod actor;
mod admission;
mod age;
mod aggregates;
mod answer;
mod asks;
pub mod author;
#[cfg(test)]
mod cart;
pub mod client;
pub mod decode;
pub mod describe;
mod drain;
pub mod endpoint;
mod frames;
mod freshness;
mod grouped;
mod groups;
mod local;
pub mod many;
mod measure;
pub mod memory;
mod options;
mod passed_on;
pub mod placement;
pub mod refusals;
pub mod registry;
pub mod request;
mod table;
pub(crate) mod tally;
pub mod threads;
mod traces;
pub mod turn;
pub mod waits;

/// Makes up the id of a command that came without one: 22 characters that no other command has, in the
/// order of time.
pub(crate) fn generated_id() -> Arc<str> {
    URL_SAFE_NO_PAD
        .encode(uuid::Uuid::now_v7().as_bytes())
        .into()
}

/// Makes up the id of a command without a key that is passed on to another replica. A copy of it may come
/// late, so it is told from one that cannot: it is longer.
pub(crate) fn given_id() -> Arc<str> {
    uuid::Uuid::now_v7().to_string().into()
}

/// Returns whether an id is one that [`given_id`] has made up.
pub(crate) fn is_given_id(id: &str) -> bool {
    id.len() == 36
}
