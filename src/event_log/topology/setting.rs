//! The settings of a stream, and whose they are. `nats/README.md` has the table for people.

use serde_json::{Map, Value};

/// Replicas are the deployment's choice, not the file's: the file only says where a stream starts.
pub(super) const REPLICAS: &str = "num_replicas";
pub(super) const METADATA: &str = "metadata";
/// Under which name a stream's metadata say which revision of its file it was brought to.
const REVISION: &str = "headwater.topology";

/// The settings that an operator may bound or choose. The files say where a new stream starts.
const OPERATORS: [&str; 6] = [
    "description",
    "max_msgs",
    "max_bytes",
    "max_age",
    "max_consumers",
    "compression",
];

/// Settings that no file mentions and that are told where an operator has set them.
pub(super) const TOLD: [&str; 8] = [
    "placement",
    "republish",
    "mirror",
    "sources",
    "subject_transform",
    "consumer_limits",
    "allow_msg_ttl",
    "subject_delete_marker_ttl",
];

/// Without these the log is not the log, whichever program set them otherwise.
const NEEDED: [&str; 15] = [
    "name",
    "subjects",
    "storage",
    "retention",
    "discard",
    "discard_new_per_subject",
    "max_msgs_per_subject",
    "allow_direct",
    "allow_atomic",
    "allow_msg_schedules",
    "allow_rollup_hdrs",
    "deny_delete",
    "deny_purge",
    "no_ack",
    "sealed",
];

/// Returns whether a setting is the operator's. Replicas are, unless a number is asked for.
pub(super) fn is_operators(field: &str, replicas_asked: bool) -> bool {
    OPERATORS.contains(&field) || (field == REPLICAS && !replicas_asked)
}

pub(super) fn is_needed(field: &str) -> bool {
    NEEDED.contains(&field)
}

/// The revision of the file that a stream was brought to; 0 when it does not say.
pub(super) fn revision(config: &Map<String, Value>) -> u64 {
    config
        .get(METADATA)
        .and_then(|metadata| metadata[REVISION].as_str()?.parse().ok())
        .unwrap_or(0)
}
