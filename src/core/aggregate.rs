//! The pure vocabulary of the command side: what a service developer writes an aggregate with.
//!
//! Nothing here knows a clock, a random source, a database or a runtime. The runtime hands time and
//! identity in through [`Context`], stores what [`Aggregate::decide`] returns, and folds it back
//! with [`Aggregate::evolve`]. The same inputs therefore always give the same decision, which is
//! what lets a lost race be decided again and a history be replayed.

use crate::caller::Caller;
pub use headwater_derive::Rejection;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;
use utoipa::ToSchema;

/// A consistency boundary: one state, folded from its own events, that accepts or refuses commands.
///
/// # Wire shapes
///
/// - `Command` is an externally tagged enum whose variant names in snake case are the command names
///   (`#[serde(rename_all = "snake_case", deny_unknown_fields)]`); every variant has named fields
///   (`Discontinue {}` where there are none), since a command's body is always a JSON object.
/// - `Event` is an adjacently tagged enum (`#[serde(tag = "type", content = "data")]`) whose variants
///   are renamed to their full storage names, `"<aggregate>.<event>.v<k>"`, for example
///   `"order.placed.v1"`. A storage name is never changed: a new shape gets a new `v`.
///
/// # Example
///
/// A counter that is counted up to ten:
///
/// ```
/// use headwater_core::{
///     aggregate::{Aggregate, Context, Decision, Rejection},
///     testkit::Given,
/// };
/// use serde::{Deserialize, Serialize};
/// use utoipa::ToSchema;
///
/// #[derive(Clone, Serialize, Deserialize, ToSchema)]
/// #[serde(rename_all = "snake_case", deny_unknown_fields)]
/// enum Command {
///     /// Counts on.
///     Count { by: u32 },
/// }
///
/// #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
/// #[serde(tag = "type", content = "data")]
/// enum Event {
///     #[serde(rename = "counter.counted.v1")]
///     Counted { count: u32 },
/// }
///
/// #[derive(Debug, thiserror::Error, Rejection)]
/// #[error("a counter ends at 10")]
/// struct Full;
///
/// #[derive(Default, Clone, Serialize, Deserialize)]
/// struct Counter {
///     count: u32,
/// }
///
/// impl Aggregate for Counter {
///     const NAME: &'static str = "counter";
///     type Command = Command;
///     type Event = Event;
///     type Rejection = Full;
///
///     fn decide(&self, command: Command, _: &Context) -> Result<Decision<Event>, Full> {
///         let Command::Count { by } = command;
///         let count = self.count.saturating_add(by);
///         match count {
///             _ if by == 0 => Ok(Decision::nothing()),
///             0..=10 => Ok(Decision::event(Event::Counted { count })),
///             _ => Err(Full),
///         }
///     }
///
///     fn evolve(&mut self, event: &Event) {
///         let Event::Counted { count } = event;
///         self.count = *count;
///     }
/// }
///
/// let counter = Given::<Counter>::events([Event::Counted { count: 8 }]);
/// let count = |by| counter.when(Command::Count { by });
/// count(2).then_events([Event::Counted { count: 10 }]);
/// count(0).then_nothing();
/// count(3).then_rejected("full");
/// ```
pub trait Aggregate:
    Default + Clone + Serialize + DeserializeOwned + Send + Unpin + 'static
{
    /// The name in subjects and paths, for example `"order"`. Lower case letters, digits and `_`.
    const NAME: &'static str;
    /// The version of the *state's* own shape. Raise it when the state changes shape: snapshots
    /// taken under another number are ignored and the state is folded from the log again.
    const STATE_VERSION: u32 = 1;

    /// The commands that can be asked of the aggregate.
    type Command: Serialize + DeserializeOwned + ToSchema + Clone + Send + Unpin + 'static;
    /// The events that can have happened to it.
    type Event: Serialize + DeserializeOwned + Clone + Send + 'static;
    /// The rules that can refuse a command.
    type Rejection: Rejection;

    /// Decides a command against the current state. Pure: it appends nothing and changes nothing.
    ///
    /// # Errors
    ///
    /// Returns the rule that refuses the command. Nothing is appended then.
    fn decide(
        &self,
        command: Self::Command,
        at: &Context,
    ) -> Result<Decision<Self::Event>, Self::Rejection>;

    /// Folds one event into the state. It must accept every event that `decide` ever returned.
    fn evolve(&mut self, event: &Self::Event);

    /// Turns an event of an older storage version into the one that [`Aggregate::Event`] knows.
    ///
    /// Called on read with the stored `type` and `data`; `None`, the default, leaves both as they are.
    ///
    /// ```
    /// # use headwater_core::{aggregate::{Aggregate, Context, Decision}, recorded::decode_event};
    /// # use serde::{Deserialize, Serialize};
    /// # use utoipa::ToSchema;
    /// use serde_json::{Value, json, value::RawValue};
    ///
    /// # #[derive(Clone, Serialize, Deserialize, ToSchema)]
    /// # enum Command { Count { by: u32 } }
    /// #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    /// #[serde(tag = "type", content = "data")]
    /// enum Event {
    ///     #[serde(rename = "counter.counted.v2")]
    ///     Counted { count: u32, by: u32 },
    /// }
    ///
    /// /// The first version did not say by how much.
    /// #[derive(Deserialize)]
    /// struct CountedV1 {
    ///     count: u32,
    /// }
    ///
    /// # #[derive(Default, Clone, Serialize, Deserialize)]
    /// # struct Counter { count: u32 }
    /// impl Aggregate for Counter {
    /// #   const NAME: &'static str = "counter";
    /// #   type Command = Command;
    /// #   type Event = Event;
    /// #   type Rejection = std::convert::Infallible;
    /// #   fn decide(&self, _: Command, _: &Context) -> Result<Decision<Event>, Self::Rejection> {
    /// #       Ok(Decision::nothing())
    /// #   }
    /// #   fn evolve(&mut self, event: &Event) {
    /// #       let Event::Counted { count, .. } = event;
    /// #       self.count = *count;
    /// #   }
    ///     // …
    ///     fn upcast(event_type: &str, data: &RawValue) -> Option<(&'static str, Value)> {
    ///         if event_type != "counter.counted.v1" {
    ///             return None;
    ///         }
    ///         let old: CountedV1 = serde_json::from_str(data.get()).ok()?;
    ///         Some(("counter.counted.v2", json!({ "count": old.count, "by": 1 })))
    ///     }
    /// }
    ///
    /// let stored = RawValue::from_string(r#"{"count":3}"#.to_owned())?;
    /// let read = decode_event::<Counter>("counter.counted.v1", &stored)?;
    /// assert_eq!(read, Event::Counted { count: 3, by: 1 });
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    fn upcast(
        event_type: &str,
        data: &serde_json::value::RawValue,
    ) -> Option<(&'static str, serde_json::Value)> {
        let _ = (event_type, data);
        None
    }
}

/// A refusal in the words of the domain.
///
/// It is derived: a code is the name of its variant in snake case, and an attribute says which
/// commands it refuses.
///
/// ```
/// use headwater_core::aggregate::Rejection;
///
/// enum Command {
///     Open { owner: String },
///     Withdraw { amount: u32 },
/// }
///
/// #[derive(Debug, thiserror::Error, Rejection)]
/// enum Refusal {
///     #[error("the account is not open")]
///     #[refuses(except(Open))]
///     NotFound,
///     #[error("the balance is {balance}")]
///     #[refuses(Withdraw)]
///     InsufficientFunds { balance: i64 },
/// }
///
/// let refusal = Refusal::InsufficientFunds { balance: 30 };
/// assert_eq!(refusal.code(), "insufficient_funds");
/// assert_eq!(Refusal::codes("withdraw"), ["not_found", "insufficient_funds"]);
/// assert_eq!(Refusal::codes("open"), [""; 0]);
/// ```
pub trait Rejection: std::error::Error + Send + 'static {
    /// The stable snake case code that clients match on, for example `"out_of_stock"`.
    fn code(&self) -> &'static str;

    /// Returns whether the refusal means that the aggregate has no events yet, which clients see as 404
    /// rather than 409.
    fn is_not_found(&self) -> bool {
        self.code() == "not_found"
    }

    /// The scope that the caller would have to have, where that is why: clients then see 403 `forbidden`,
    /// which names it. Such a refusal has no code of its own in what is published.
    fn missing_scope(&self) -> Option<&'static str> {
        None
    }

    /// Every code that the named command can be refused with, for the published API description.
    fn codes(command: &str) -> &'static [&'static str];
}

/// An aggregate that refuses nothing.
impl Rejection for std::convert::Infallible {
    fn code(&self) -> &'static str {
        match *self {}
    }

    fn codes(_command: &str) -> &'static [&'static str] {
        &[]
    }
}

/// The inputs of a decision besides the state, which the runtime hands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The aggregate's id.
    pub id: Arc<str>,
    /// The version of the state that decides: the number of events folded into it.
    pub version: u64,
    /// The command's id: its `Idempotency-Key`, or a generated one.
    pub command_id: Arc<str>,
    /// The time of the decision. It becomes the `time` of the events.
    pub now: Timestamp,
    /// The caller. They may everything where nobody is asked who they are.
    pub caller: Caller,
}

/// The outcome of an accepted command: the events to append, and the unique keys to take or give up
/// with them. A decision without events takes and gives up none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<E> {
    /// The events, in order. None at all is a right answer: the command changes nothing.
    pub events: Vec<E>,
    /// Unique keys taken: held exactly if the events are stored.
    pub claims: Vec<Claim>,
    /// Unique keys given up: free exactly if the events are stored. One that is taken as well is kept.
    pub releases: Vec<Claim>,
}

impl<E> Decision<E> {
    /// The command is right but changes nothing.
    #[must_use]
    pub fn nothing() -> Self {
        Self::events(Vec::new())
    }

    /// One event.
    #[must_use]
    pub fn event(event: E) -> Self {
        Self::events(vec![event])
    }

    /// Several events, in order, appended together or not at all.
    #[must_use]
    pub fn events(events: Vec<E>) -> Self {
        Self {
            events,
            claims: Vec::new(),
            releases: Vec::new(),
        }
    }

    /// Takes a unique key: the append is refused with `claim_taken` when another aggregate holds it.
    #[must_use]
    pub fn claim(mut self, scope: &'static str, key: impl Into<String>) -> Self {
        self.claims.push(Claim {
            scope,
            key: key.into(),
        });
        self
    }

    /// Gives up a unique key that this aggregate holds.
    #[must_use]
    pub fn release(mut self, scope: &'static str, key: impl Into<String>) -> Self {
        self.releases.push(Claim {
            scope,
            key: key.into(),
        });
        self
    }
}

/// A key that at most one aggregate holds at a time, such as an e-mail address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The name that the key is unique within, for example `"member_email"`: 1 to 32 letters, digits and `_`. A command whose decision has
    /// another scope fails.
    pub scope: &'static str,
    /// The key, already in the form that is compared (lower case, trimmed: the domain's choice). However its
    /// letters are composed, it is one key.
    pub key: String,
}
