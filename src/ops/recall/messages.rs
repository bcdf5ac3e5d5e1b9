//! The messages by which replicas ask each other, as JSON.

use super::{PATIENCE, PATIENCE_WITH_ONE};
use crate::problem::Problem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;

/// The last token of the subject: what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ops) enum RecallVerb {
    /// Tell the latest commands that were refused; with an id, of that command.
    Refusals,
    /// Tell the jobs that were given to it; with an id, that job.
    Jobs,
    /// Cancel the job with the id.
    Cancel,
}

impl RecallVerb {
    /// The token of the subject.
    pub(super) fn token(self) -> &'static str {
        match self {
            Self::Refusals => "refusals",
            Self::Jobs => "jobs",
            Self::Cancel => "cancel",
        }
    }

    /// Reads the token of a subject.
    pub(super) fn of(token: &str) -> Option<Self> {
        [Self::Refusals, Self::Jobs, Self::Cancel]
            .into_iter()
            .find(|verb| verb.token() == token)
    }

    /// The time that an answer may take.
    pub(super) fn patience(self) -> Duration {
        match self {
            Self::Refusals | Self::Jobs => PATIENCE,
            Self::Cancel => PATIENCE_WITH_ONE,
        }
    }
}

/// The body of a request.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::ops) struct RecallAsk {
    /// The command's id, or the job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::ops) id: Option<String>,
    /// The number of things to tell at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::ops) limit: Option<usize>,
}

/// An answer, or a part of one.
#[derive(Debug, Deserialize)]
pub(super) struct RecallReply<T> {
    /// The things.
    #[serde(default = "Vec::new")]
    pub(super) items: Vec<T>,
    /// True if another message follows.
    #[serde(default)]
    pub(super) more: bool,
    /// The reason why it is not told, or not done.
    #[serde(default)]
    pub(super) problem: Option<Problem>,
}

/// An answer as it is written.
#[derive(Debug, Serialize)]
pub(super) struct RecallPart<'a> {
    pub(super) replica: &'a str,
    pub(super) items: &'a [Box<RawValue>],
    pub(super) more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<&'a Problem>,
}

/// Deals things out to messages that have room for so many bytes of them. Of one that is larger than that nothing can
/// be said; the last list may be empty.
pub(super) fn deal(items: Vec<Box<RawValue>>, room: usize) -> Vec<Vec<Box<RawValue>>> {
    let mut dealt = vec![Vec::new()];
    let mut taken = 0;
    for item in items {
        // A comma comes between two.
        let bytes = item.get().len() + 1;
        if bytes > room {
            continue;
        }
        if taken + bytes > room {
            dealt.push(Vec::new());
            taken = 0;
        }
        taken += bytes;
        if let Some(last) = dealt.last_mut() {
            last.push(item);
        }
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(bytes: usize) -> Box<RawValue> {
        serde_json::value::to_raw_value(&"x".repeat(bytes - 2)).unwrap()
    }

    #[test]
    fn things_are_dealt_out_in_their_order_and_no_message_is_too_large() {
        let sizes = |dealt: Vec<Vec<Box<RawValue>>>| {
            let lengths = dealt.into_iter();
            let lengths =
                lengths.map(|part| part.iter().map(|one| one.get().len()).collect::<Vec<_>>());
            lengths.collect::<Vec<_>>()
        };
        let dealt = deal(vec![raw(4), raw(4), raw(9), raw(100), raw(3)], 10);
        assert_eq!(sizes(dealt), [vec![4, 4], vec![9], vec![3]]);
        assert_eq!(sizes(deal(Vec::new(), 10)), [Vec::<usize>::new()]);
    }

    #[test]
    fn a_verb_is_read_as_it_is_written() {
        for verb in [RecallVerb::Refusals, RecallVerb::Jobs, RecallVerb::Cancel] {
            assert_eq!(RecallVerb::of(verb.token()), Some(verb));
        }
        assert_eq!(RecallVerb::of("rebuild"), None);
    }
}
