//! Given, when, then: the story of one process instance.

use super::{given::through_json, log::stored};
use crate::{
    aggregate::{Aggregate, Context, Decision, Rejection},
    outcome::Outcome,
    problem::Problem,
    process::{
        Answer, Arrived, Deadline, Instance, InstanceCommand, Process, Record, Sending, Sent,
        Status, Step,
    },
    recorded::decode_event,
    testkit::Log,
};
use jiff::{Span, Timestamp};
use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Debug,
    sync::Arc,
};

/// One process instance, from its first input on.
///
/// Whatever passes through is also written as JSON and read back, since that is what happens to it in the
/// log. Each input is given twice: the second time it must change nothing.
///
/// It is 2027-01-01T00:00:00Z when the story begins, and time stands still but for [`Story::after`].
#[derive(Clone)]
pub struct Story<P: Process> {
    instance: Instance<P>,
    context: Context,
    settings: P::Settings,
    log: Log,
    /// The consequences of the last input.
    last: Vec<Record<P>>,
    /// The commands of the last step that no `then_sends` has named yet.
    unnamed: VecDeque<Sending>,
}

impl<P: Process> Story<P>
where
    P::Fact: PartialEq + Debug,
{
    /// The instance with this id, to which nothing has come yet.
    #[must_use]
    pub fn of(id: impl Into<Arc<str>>) -> Self {
        Self {
            instance: Instance::default(),
            context: Context {
                id: id.into(),
                version: 0,
                command_id: "command-1".into(),
                now: "2027-01-01T00:00:00Z".parse().expect("a timestamp"),
                caller: crate::caller::Caller::default(),
            },
            settings: P::Settings::default(),
            log: Log::new(),
            last: Vec::new(),
            unnamed: VecDeque::new(),
        }
    }

    /// The deployment has these settings.
    #[must_use]
    pub fn settings(mut self, settings: P::Settings) -> Self {
        self.settings = settings;
        self
    }

    /// An event comes that belongs to the instance.
    ///
    /// # Panics
    ///
    /// Panics when the process does not follow the aggregate, or the event belongs to another instance.
    #[must_use]
    #[track_caller]
    pub fn when_event<A: Aggregate>(mut self, id: &str, event: A::Event) -> Self {
        assert!(
            P::AGGREGATES.contains(&A::NAME),
            "{} does not follow {}",
            P::NAME,
            A::NAME
        );
        self.log = self.log.add::<A>(id, [event]);
        let event = self.log.events().last().expect("one was added").clone();
        let belongs = P::correlate(&event);
        assert_eq!(
            belongs.as_deref(),
            Some(&*self.context.id),
            "the instance of {}",
            event.event_type
        );
        self.handle(Arrived::Event(event))
    }

    /// The oldest open command to this aggregate is accepted.
    ///
    /// # Panics
    ///
    /// Panics when there is none.
    #[must_use]
    #[track_caller]
    pub fn when_accepted<A: Aggregate>(self, id: &str) -> Self {
        let sent = self.open::<A>(id).clone();
        let outcome = Outcome {
            aggregate: A::NAME.into(),
            id: id.into(),
            version: 1,
            position: 1,
            events: Vec::new(),
            replayed: false,
        };
        self.answered(&sent, Answer::Accepted(outcome))
    }

    /// The oldest open command to this aggregate is refused with this code, which is one that the
    /// aggregate publishes for the command, or `version_mismatch` where it asked for a version.
    ///
    /// # Panics
    ///
    /// Panics when there is no such command, or it is never refused with this code.
    #[must_use]
    #[track_caller]
    pub fn when_refused<A: Aggregate>(self, id: &str, code: &str) -> Self {
        let sent = self.open::<A>(id).clone();
        let published = A::Rejection::codes(&sent.command);
        let of_version = code == "version_mismatch" && sent.expected.is_some();
        assert!(
            of_version || published.contains(&code),
            "{code} is not among the published codes of {}: {published:?}",
            sent.command
        );
        let problem = Problem::refused(code, code);
        self.answered(&sent, Answer::Refused(problem))
    }

    /// So much time passes. The deadlines that come meanwhile are acted on, each at its time.
    ///
    /// # Panics
    ///
    /// Panics when a time is out of bounds.
    #[must_use]
    #[track_caller]
    pub fn after(mut self, span: Span) -> Self {
        let until = self.context.now.checked_add(span).expect("a time");
        self.last.clear();
        self.unnamed.clear();
        // One that comes while the instance is parked waits, and is still set.
        let mut rung = BTreeSet::new();
        loop {
            let due = self.instance.deadlines().values();
            let due = due.filter(|one| one.at <= until && !rung.contains(&one.armed));
            let next = due.min_by_key(|one| one.at).cloned();
            let Some(Deadline { name, at, armed }) = next else {
                break;
            };
            rung.insert(armed);
            self.context.now = self.context.now.max(at);
            self = self.handle(Arrived::Due { name, armed });
        }
        self.context.now = until;
        self
    }

    /// An operator lets the instance go on with what waits.
    #[must_use]
    #[track_caller]
    pub fn when_resumed(self) -> Self {
        let settings = serde_json::to_value(&self.settings).expect("settings are plain data");
        self.ask(InstanceCommand::Resume { settings })
    }

    /// Of the commands that the last input led to, the next is this one.
    #[track_caller]
    pub fn then_sends<A: Aggregate>(mut self, id: &str, command: A::Command) -> Self {
        let next = self.unnamed.pop_front();
        let next = next.map(|sending| Sending {
            expected: None,
            ..sending
        });
        assert_eq!(next, Some(Sending::of::<A>(id, &command)), "the command");
        self
    }

    /// The last input led to no other commands than those that were named.
    #[track_caller]
    pub fn then_sends_no_more(self) -> Self {
        let rest: Vec<_> = self.unnamed.iter().collect();
        assert!(rest.is_empty(), "more commands: {rest:?}");
        self
    }

    /// The last input led to exactly these facts.
    #[track_caller]
    pub fn then_facts(self, expected: impl IntoIterator<Item = P::Fact>) -> Self {
        let expected: Vec<_> = expected.into_iter().collect();
        let facts = self.last.iter().filter_map(|record| match record {
            Record::Fact(fact) => Some(fact),
            _ => None,
        });
        let facts: Vec<_> = facts.cloned().collect();
        assert_eq!(facts, expected, "the facts");
        self
    }

    /// Nothing followed from the last input.
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        let steps = self.last.iter().filter_map(step);
        for step in steps {
            let empty = step.send.is_empty() && step.set.is_empty() && step.cancel.is_empty();
            assert!(empty && !step.ended, "something followed: {step:?}");
        }
        self.then_facts([])
    }

    /// The instance has this deadline, so long after now.
    #[track_caller]
    pub fn then_deadline(self, name: &str, span: Span) -> Self {
        let at: Timestamp = self.context.now.checked_add(span).expect("a time");
        let deadline = self.instance.deadlines().get(name);
        assert_eq!(deadline.map(|one| one.at), Some(at), "the deadline {name}");
        self
    }

    /// The instance has no deadline.
    #[track_caller]
    pub fn then_no_deadline(self) -> Self {
        let deadlines = self.instance.deadlines();
        assert!(deadlines.is_empty(), "{deadlines:?}");
        self
    }

    /// The instance has ended, and waits for no answer.
    #[track_caller]
    pub fn then_ended(self) -> Self {
        assert_eq!(*self.instance.status(), Status::Ended);
        assert!(self.instance.deadlines().is_empty(), "a deadline is left");
        self
    }

    /// The instance goes on.
    #[track_caller]
    pub fn then_running(self) -> Self {
        assert_eq!(*self.instance.status(), Status::Running);
        self
    }

    /// The instance is parked for a reason that has this in it.
    #[track_caller]
    pub fn then_parked(self, reason: &str) -> Self {
        match self.instance.status() {
            Status::Parked(parked) if parked.reason.contains(reason) => {}
            status => panic!("expected to be parked for {reason:?}, but it is {status:?}"),
        }
        self
    }

    /// The instance as it is now.
    #[must_use]
    pub fn instance(&self) -> &Instance<P> {
        &self.instance
    }

    /// Returns what the last input has stored.
    #[must_use]
    pub fn last(&self) -> &[Record<P>] {
        &self.last
    }

    #[track_caller]
    fn open<A: Aggregate>(&self, id: &str) -> &Sent {
        let mut open = self.instance.open().iter();
        let found = open.find(|sent| sent.is::<A>() && sent.id == id);
        found.unwrap_or_else(|| panic!("no command to {} {id} is open", A::NAME))
    }

    #[track_caller]
    fn answered(self, sent: &Sent, answer: Answer) -> Self {
        self.handle(Arrived::Answered {
            step: sent.step,
            number: sent.number,
            answer,
        })
    }

    #[track_caller]
    fn handle(mut self, input: Arrived) -> Self {
        let settings = serde_json::to_value(&self.settings).expect("settings are plain data");
        let command = InstanceCommand::Handle { input, settings };
        self = self.ask(command.clone());
        let again = self.decide(&command);
        // An event that nothing followed from left no trace, and may come again.
        assert!(
            again.events.is_empty() || self.last.is_empty(),
            "the same input came again, and had an effect: {:?}",
            again.events
        );
        self
    }

    #[track_caller]
    fn ask(mut self, command: InstanceCommand) -> Self {
        let decision = self.decide(&command);
        self.last.clear();
        self.unnamed.clear();
        for record in decision.events {
            let (event_type, data) = stored::<Instance<P>>(&record);
            let read = decode_event::<Instance<P>>(&event_type, &data);
            let read = read.unwrap_or_else(|error| panic!("it cannot be read back: {error}"));
            self.instance.evolve(&read);
            self.context.version += 1;
            if let Some(step) = step(&read) {
                assert_eq!(step.step, self.context.version, "the number of the step");
                self.unnamed.extend(step.send.iter().cloned());
            }
            self.last.push(read);
        }
        self.instance = through_json("instance", &self.instance);
        self
    }

    #[track_caller]
    fn decide(&self, command: &InstanceCommand) -> Decision<Record<P>> {
        let command = through_json("command", command);
        let decided = self.instance.decide(command, &self.context);
        decided.unwrap_or_else(|rejection| panic!("{}: {rejection}", rejection.code()))
    }
}

fn step<P: Process>(record: &Record<P>) -> Option<&Step> {
    match record {
        Record::Stepped(step) => Some(step),
        _ => None,
    }
}
