//! The stored form of an instance: its process's facts, and the runtime's own records.
//!
//! The names and fields are a storage format. None is renamed, removed or given another meaning.

use super::{Arrived, Cause, Deadline, Process, Sending};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, de::Error};
use serde_json::value::RawValue;
use std::fmt;

/// One event of a process instance. Its storage name is `<process>.<record>.v1`.
#[derive(Clone)]
pub enum Record<P: Process> {
    /// `stepped`: an input was reacted to. The facts of the step follow in the same commit.
    Stepped(Step),
    /// `held`: an input waits, since the instance is parked or suspended.
    Held {
        /// The input.
        input: Arrived,
    },
    /// `parked`: an input could not be reacted to. It is the first of those that wait.
    Parked {
        /// The reason.
        reason: String,
        /// The input, unless it waits already.
        input: Option<Arrived>,
    },
    /// `skipped`: an operator has dropped the first input that waited.
    Skipped {
        /// The input.
        input: Cause,
        /// The reason.
        reason: String,
    },
    /// `suspended`: an operator has stopped the instance; its inputs wait.
    Suspended {
        /// The reason.
        reason: String,
    },
    /// `resumed`: an operator lets it go on.
    Resumed {},
    /// `ended`: an operator has ended it.
    Ended {
        /// The reason.
        reason: String,
        /// The deadlines that were cancelled.
        cancel: Vec<Deadline>,
    },
    /// A fact of the process.
    Fact(P::Fact),
}

/// The record of one step: what came, and what is carried out because of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The instance's version with this step: its number.
    pub step: u64,
    /// The input.
    pub input: Cause,
    /// The commands to send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub send: Vec<Sending>,
    /// The deadlines to set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<Deadline>,
    /// The deadlines that are cancelled or moved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancel: Vec<Deadline>,
    /// True if the instance has ended with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

/// The names of the runtime's own records.
const OWN: [&str; 7] = [
    "stepped",
    "held",
    "parked",
    "skipped",
    "suspended",
    "resumed",
    "ended",
];

/// Returns which of the runtime's own records has this storage name.
pub(super) fn own<P: Process>(event_type: &str) -> Option<&'static str> {
    let rest = event_type.strip_prefix(P::NAME)?.strip_prefix('.')?;
    let name = rest.strip_suffix(".v1")?;
    OWN.into_iter().find(|own| *own == name)
}

#[derive(Serialize, Deserialize)]
struct Held<I> {
    input: I,
}

#[derive(Serialize, Deserialize)]
struct Parked<R, I> {
    reason: R,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<I>,
}

#[derive(Serialize, Deserialize)]
struct Skipped<I, R> {
    input: I,
    reason: R,
}

#[derive(Serialize, Deserialize)]
struct Reason<R> {
    reason: R,
}

#[derive(Serialize, Deserialize)]
struct Ended<R, D> {
    reason: R,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    cancel: Option<D>,
}

#[derive(Serialize, Deserialize)]
struct Nothing {}

#[derive(Serialize)]
struct Tagged<D> {
    r#type: String,
    data: D,
}

/// Shows it as it is stored.
impl<P: Process> fmt::Debug for Record<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        f.write_str(&json)
    }
}

impl<P: Process> Serialize for Record<P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn tagged<P: Process, D>(name: &str, data: D) -> Tagged<D> {
            Tagged {
                r#type: format!("{}.{name}.v1", P::NAME),
                data,
            }
        }
        match self {
            Self::Stepped(step) => tagged::<P, _>("stepped", step).serialize(serializer),
            Self::Held { input } => tagged::<P, _>("held", Held { input }).serialize(serializer),
            Self::Parked { reason, input } => {
                let input = input.as_ref();
                tagged::<P, _>("parked", Parked { reason, input }).serialize(serializer)
            }
            Self::Skipped { input, reason } => {
                tagged::<P, _>("skipped", Skipped { input, reason }).serialize(serializer)
            }
            Self::Suspended { reason } => {
                tagged::<P, _>("suspended", Reason { reason }).serialize(serializer)
            }
            Self::Resumed {} => tagged::<P, _>("resumed", Nothing {}).serialize(serializer),
            Self::Ended { reason, cancel } => {
                let cancel = (!cancel.is_empty()).then_some(cancel);
                tagged::<P, _>("ended", Ended { reason, cancel }).serialize(serializer)
            }
            Self::Fact(fact) => fact.serialize(serializer),
        }
    }
}

impl<'de, P: Process> Deserialize<'de> for Record<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Read {
            r#type: String,
            data: Box<RawValue>,
        }
        #[derive(Serialize)]
        struct Fact<'a> {
            r#type: &'a str,
            data: &'a RawValue,
        }
        fn data<T: DeserializeOwned, E: Error>(data: &RawValue) -> Result<T, E> {
            serde_json::from_str(data.get()).map_err(E::custom)
        }
        let Read { r#type, data: raw } = Read::deserialize(deserializer)?;
        Ok(match own::<P>(&r#type) {
            Some("stepped") => Self::Stepped(data(&raw)?),
            Some("held") => {
                let Held { input } = data(&raw)?;
                Self::Held { input }
            }
            Some("parked") => {
                let Parked { reason, input } = data(&raw)?;
                Self::Parked { reason, input }
            }
            Some("skipped") => {
                let Skipped { input, reason } = data(&raw)?;
                Self::Skipped { input, reason }
            }
            Some("suspended") => {
                let Reason { reason } = data(&raw)?;
                Self::Suspended { reason }
            }
            Some("resumed") => Self::Resumed {},
            Some("ended") => {
                let Ended { reason, cancel } = data::<Ended<_, Vec<_>>, _>(&raw)?;
                let cancel = cancel.unwrap_or_default();
                Self::Ended { reason, cancel }
            }
            _ => {
                let fact = Fact {
                    r#type: &r#type,
                    data: &raw,
                };
                let fact = serde_json::to_string(&fact).map_err(D::Error::custom)?;
                Self::Fact(serde_json::from_str(&fact).map_err(D::Error::custom)?)
            }
        })
    }
}
