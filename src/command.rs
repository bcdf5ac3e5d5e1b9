//! The command side: from a request to an appended commit.

pub mod describe;
pub mod request;
