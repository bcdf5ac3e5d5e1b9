//! The pure vocabulary of processes: flows over several aggregates that survive every crash.
//!
//! A [`Process`] is written as an aggregate is, only that its inputs are not commands: they are events of
//! other aggregates, the answers to the commands that it has sent, and its deadlines. Each input is one
//! *step*: [`Process::react`] says what follows, and the step is stored as one commit of the process
//! instance before anything of it is carried out. The log is the outbox.
//!
//! Nothing here knows a clock, a random source or a runtime. [`Instance`] is the aggregate that a process
//! instance is stored as.
//!
//! ```
//! # use headwater_core::{aggregate::{Aggregate, Decision, Rejection}, recorded::Recorded};
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Debug, thiserror::Error, Rejection)] #[error("broken")] struct Broken;
//! # #[derive(Default, Clone, Serialize, Deserialize)] struct Door;
//! # #[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)] #[serde(rename_all = "snake_case")]
//! # enum DoorCommand { Open {} }
//! # #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)] #[serde(tag = "type", content = "data")]
//! # enum DoorEvent { #[serde(rename = "door.opened.v1")] Opened {} }
//! # impl Aggregate for Door {
//! #     const NAME: &'static str = "door";
//! #     type Command = DoorCommand; type Event = DoorEvent; type Rejection = Broken;
//! #     fn decide(&self, _: DoorCommand, _: &Context) -> Result<Decision<DoorEvent>, Broken> {
//! #         Ok(Decision::event(DoorEvent::Opened {}))
//! #     }
//! #     fn evolve(&mut self, _: &DoorEvent) {}
//! # }
//! # #[derive(Default, Clone, Serialize, Deserialize)] struct Lamp;
//! # #[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)] #[serde(rename_all = "snake_case")]
//! # enum LampCommand { Light {}, Darken {} }
//! # impl Aggregate for Lamp {
//! #     const NAME: &'static str = "lamp";
//! #     type Command = LampCommand; type Event = DoorEvent; type Rejection = Broken;
//! #     fn decide(&self, _: LampCommand, _: &Context) -> Result<Decision<DoorEvent>, Broken> {
//! #         Ok(Decision::nothing())
//! #     }
//! #     fn evolve(&mut self, _: &DoorEvent) {}
//! # }
//! use headwater_core::{
//!     aggregate::Context,
//!     process::{Input, Process, ReactError, Reaction},
//!     testkit::Story,
//! };
//! use jiff::ToSpan;
//!
//! /// Lights the lamp of a room when its door opens, and darkens it ten minutes later.
//! #[derive(Default, Clone, Serialize, Deserialize)]
//! struct Porter;
//!
//! #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
//! #[serde(tag = "type", content = "data")]
//! enum Fact {
//!     #[serde(rename = "porter.lamp_broken.v1")]
//!     LampBroken {},
//! }
//!
//! impl Process for Porter {
//!     const NAME: &'static str = "porter";
//!     const AGGREGATES: &'static [&'static str] = &["door"];
//!     const TARGETS: &'static [&'static str] = &["lamp"];
//!     type Fact = Fact;
//!     type Settings = ();
//!
//!     fn correlate(event: &Recorded) -> Option<String> {
//!         Some(event.id.clone())
//!     }
//!
//!     fn react(&self, input: &Input, (): &(), at: &Context) -> Result<Reaction<Fact>, ReactError> {
//!         let lamp = &*at.id;
//!         Ok(match input {
//!             Input::Event(event) => match event.event::<Door>()? {
//!                 DoorEvent::Opened {} => Reaction::nothing()
//!                     .send::<Lamp>(lamp, LampCommand::Light {})
//!                     .deadline("dark", at.now + 10.minutes()),
//!             },
//!             Input::Due(_) => Reaction::nothing().send::<Lamp>(lamp, LampCommand::Darken {}),
//!             Input::Accepted(..) => Reaction::nothing(),
//!             Input::Refused(..) => Reaction::fact(Fact::LampBroken {}).end(),
//!         })
//!     }
//!
//!     fn evolve(&mut self, _: &Fact) {}
//! }
//!
//! let story = Story::<Porter>::of("hall")
//!     .when_event::<Door>("hall", DoorEvent::Opened {})
//!     .then_sends::<Lamp>("hall", LampCommand::Light {})
//!     .then_deadline("dark", 10.minutes());
//!
//! story.clone()
//!     .when_accepted::<Lamp>("hall")
//!     .after(10.minutes())
//!     .then_sends::<Lamp>("hall", LampCommand::Darken {});
//!
//! story
//!     .when_refused::<Lamp>("hall", "broken")
//!     .then_facts([Fact::LampBroken {}])
//!     .then_ended();
//! ```

mod input;
mod instance;
mod reaction;
mod record;
mod rehearsal;
mod step;

pub use input::{Answer, Arrived, Cause, Deadline, Input, Sent, command_id};
pub use instance::{Instance, InstanceCommand, InstanceRejection, Parked, Status};
pub use reaction::{ReactError, Reaction, Sending};
pub use record::{Record, Step};
pub use rehearsal::{Account, Folding, InstanceFold, Otherwise, Rehearsed, rehearse};
pub use step::{MAX_DEADLINES, MAX_HELD, MAX_SENDS, MAX_STEPS};

use crate::{aggregate::Context, recorded::Recorded};
use serde::{Serialize, de::DeserializeOwned};

/// A flow over several aggregates: one state for each instance, folded from its own facts, that reacts to
/// events, answers and deadlines.
///
/// # Facts
///
/// `Fact` is written as an aggregate's events are: an adjacently tagged enum whose variants are renamed to
/// their full storage names, `"<process>.<fact>.v<k>"`. `stepped`, `held`, `parked`, `skipped`, `suspended`,
/// `resumed` and `ended` are the runtime's own.
///
/// # Changing a process
///
/// The state is a fold of facts, so another `react` changes only what happens next: nothing is replayed,
/// and instances that run need not be drained.
pub trait Process: Default + Clone + Serialize + DeserializeOwned + Send + Unpin + 'static {
    /// The name in subjects and paths, for example `"fulfilment"`. Lower case letters, digits and `_`, and
    /// no aggregate's.
    const NAME: &'static str;
    /// The version of the *state's* own shape, as [`crate::aggregate::Aggregate::STATE_VERSION`].
    const STATE_VERSION: u32 = 1;
    /// The aggregates whose events it follows.
    const AGGREGATES: &'static [&'static str];
    /// The aggregates that it sends commands to. One that the domain does not have is found at the start.
    const TARGETS: &'static [&'static str];

    /// The facts that it notes down.
    type Fact: Serialize + DeserializeOwned + Clone + Send + 'static;
    /// The settings of a deployment, such as how long a payment is waited for. It is handed in with every
    /// input, as the time is.
    type Settings: Default + Clone + Serialize + DeserializeOwned + Send + Sync + Unpin + 'static;

    /// Returns the instance that an event belongs to, if any: 1 to 64 of `A-Z a-z 0-9 _ -`. An event that
    /// belongs to an instance which is not there begins it, if `react` answers it with something.
    fn correlate(event: &Recorded) -> Option<String>;

    /// Decides what follows from an input. Pure: nothing is sent before the step is stored.
    ///
    /// # Errors
    ///
    /// Returns [`ReactError`] when the input makes no sense to it. The instance is parked then, as it is
    /// after a panic: this input and all that come after wait, in order, until an operator lets it go on.
    fn react(
        &self,
        input: &Input,
        settings: &Self::Settings,
        at: &Context,
    ) -> Result<Reaction<Self::Fact>, ReactError>;

    /// Folds one fact into the state. It must accept every fact that `react` ever returned.
    fn evolve(&mut self, fact: &Self::Fact);

    /// Turns a fact of an older storage version into the one that [`Process::Fact`] knows, as
    /// [`crate::aggregate::Aggregate::upcast`] does for events.
    fn upcast(
        event_type: &str,
        data: &serde_json::value::RawValue,
    ) -> Option<(&'static str, serde_json::Value)> {
        let _ = (event_type, data);
        None
    }
}

#[cfg(test)]
mod tests;
