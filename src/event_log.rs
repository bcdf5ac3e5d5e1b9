//! The log: the only module that speaks JetStream.
//!
//! It owns subjects, the stored form of commits, appending with an expected sequence, loading one
//! aggregate's history, snapshots and the durable reader that projectors follow the log with. It
//! knows nothing of what events mean.

pub mod codec;
pub mod subject;
pub mod topology;
