//! What holds of every process.

use super::*;
use crate::{
    aggregate::{Aggregate, Decision, Rejection},
    testkit::Story,
};
use jiff::ToSpan;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

/// A bell that can be rung.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Bell;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum BellCommand {
    /// Rings it.
    Ring { times: u32 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum BellEvent {
    #[serde(rename = "bell.pressed.v1")]
    Pressed { how: String },
}

#[derive(Debug, thiserror::Error, Rejection)]
#[error("broken")]
struct Broken;

impl Aggregate for Bell {
    const NAME: &'static str = "bell";
    type Command = BellCommand;
    type Event = BellEvent;
    type Rejection = Broken;
    fn decide(&self, _: BellCommand, _: &Context) -> Result<Decision<BellEvent>, Broken> {
        Ok(Decision::nothing())
    }
    fn evolve(&mut self, _: &BellEvent) {}
}

/// Does what the one who presses the bell says.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Butler {
    noted: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum ButlerFact {
    #[serde(rename = "butler.noted.v1")]
    Noted { what: String },
    #[serde(rename = "butler.held.v1")]
    Misnamed {},
}

fn noted(what: &str) -> ButlerFact {
    let what = what.to_owned();
    ButlerFact::Noted { what }
}

fn ring(times: u32) -> BellCommand {
    BellCommand::Ring { times }
}

impl Process for Butler {
    const NAME: &'static str = "butler";
    const AGGREGATES: &'static [&'static str] = &["bell"];
    const TARGETS: &'static [&'static str] = &["bell"];
    type Fact = ButlerFact;
    /// Whether what once failed works now.
    type Settings = bool;

    fn correlate(event: &Recorded) -> Option<String> {
        Some(event.id.clone())
    }

    fn react(
        &self,
        input: &Input,
        mended: &bool,
        at: &Context,
    ) -> Result<Reaction<ButlerFact>, ReactError> {
        let event = match input {
            Input::Event(event) => event.event::<Bell>()?,
            Input::Due(deadline) => return Ok(Reaction::fact(noted(&deadline.name))),
            Input::Refused(_, problem) => return Ok(Reaction::fact(noted(&problem.code))),
            Input::Accepted(sent, _) => {
                let Some(BellCommand::Ring { times }) = sent.command::<Bell>() else {
                    return Err(ReactError::failed("no ring"));
                };
                return Ok(match times {
                    0 => Reaction::nothing(),
                    times => Reaction::nothing().send::<Bell>("b", ring(times)),
                });
            }
        };
        let BellEvent::Pressed { how } = event;
        let later = |minutes: i64| at.now + minutes.minutes();
        Ok(match how.as_str() {
            "panic" if !mended => panic!("the tray falls"),
            "fail" if !mended => return Err(ReactError::failed("no butter")),
            "evolve" if !mended => Reaction::fact(noted("unbearable")),
            "misnamed" => Reaction::fact(ButlerFact::Misnamed {}),
            "stray" => Reaction::nothing().send::<Bell>("a.b", ring(0)),
            "many" => (0..101).fold(Reaction::nothing(), |reaction, _| {
                reaction.send::<Bell>("b", ring(0))
            }),
            "once" => Reaction::nothing().send::<Bell>("b", ring(0)),
            "without end" => Reaction::nothing().send::<Bell>("b", ring(1)),
            "set" => Reaction::nothing().deadline("tea", later(5)),
            "move" => Reaction::nothing().deadline("tea", later(10)),
            "cancel" => Reaction::nothing().cancel("tea"),
            "end" => Reaction::nothing().send::<Bell>("b", ring(0)).end(),
            "ignore" => Reaction::nothing(),
            how => Reaction::fact(noted(how)),
        })
    }

    fn evolve(&mut self, fact: &ButlerFact) {
        let ButlerFact::Noted { what } = fact else {
            return;
        };
        assert_ne!(what, "unbearable");
        self.noted.push(what.clone());
    }
}

fn butler() -> Story<Butler> {
    Story::of("b")
}

fn pressed(how: &str) -> BellEvent {
    let how = how.to_owned();
    BellEvent::Pressed { how }
}

trait Press {
    fn press(self, how: &str) -> Self;
    fn has_noted(self, what: &[&str]) -> Self;
}

impl Press for Story<Butler> {
    #[track_caller]
    fn press(self, how: &str) -> Self {
        self.when_event::<Bell>("b", pressed(how))
    }

    #[track_caller]
    fn has_noted(self, what: &[&str]) -> Self {
        assert_eq!(self.instance().process().noted, what);
        self
    }
}

#[test]
fn an_event_that_nothing_follows_from_leaves_no_trace() {
    let story = butler().press("ignore").then_nothing();
    assert!(story.last().is_empty());
}

#[test]
fn an_answer_closes_its_command_even_if_nothing_follows() {
    let story = butler()
        .press("once")
        .then_sends::<Bell>("b", ring(0))
        .when_accepted::<Bell>("b")
        .then_nothing();
    assert!(story.instance().open().is_empty());
    assert_eq!(story.last().len(), 1);
}

#[test]
fn an_instance_that_cannot_go_on_parks_with_its_inputs_in_order() {
    for (how, reason) in [
        ("panic", "the tray falls"),
        ("fail", "no butter"),
        ("evolve", "evolve panicked"),
    ] {
        let story = butler()
            .press("first")
            .press(how)
            .then_parked(reason)
            .press("second")
            .press("third")
            .then_parked(reason)
            .has_noted(&["first"])
            .when_resumed()
            .then_parked(reason)
            .has_noted(&["first"]);
        assert_eq!(story.instance().held().len(), 3);
        let expected: &[&str] = match how {
            "evolve" => &["first", "evolve", "second", "third"],
            "panic" => &["first", "panic", "second", "third"],
            _ => &["first", "fail", "second", "third"],
        };
        story
            .settings(true)
            .when_resumed()
            .then_running()
            .has_noted(expected);
    }
}

#[test]
fn an_answer_and_a_deadline_wait_too() {
    let story = butler()
        .press("once")
        .press("set")
        .press("fail")
        .when_refused::<Bell>("b", "broken")
        .after(5.minutes())
        .then_parked("no butter")
        .has_noted(&[]);
    assert_eq!(story.instance().held().len(), 3);
    let story = story.settings(true).when_resumed();
    let story = story.has_noted(&["fail", "broken", "tea"]);
    assert!(story.instance().open().is_empty());
    story.then_no_deadline();
}

#[test]
fn what_cannot_be_stored_or_sent_parks() {
    for (how, reason) in [
        ("misnamed", "is not the storage name of a fact"),
        ("stray", "is not the id of an aggregate"),
        ("many", "at most 100 commands"),
    ] {
        butler().press(how).then_parked(reason);
    }
}

#[test]
fn one_that_sends_without_end_is_stopped() {
    let mut story = butler().press("without end");
    for _ in 0..MAX_STEPS {
        story = story.when_accepted::<Bell>("b").then_running();
    }
    story.when_accepted::<Bell>("b").then_parked("1000 steps");
}

#[test]
fn a_deadline_is_set_moved_and_cancelled() {
    butler()
        .press("set")
        .then_deadline("tea", 5.minutes())
        .after(4.minutes())
        .press("move")
        .then_deadline("tea", 10.minutes())
        .after(9.minutes())
        .then_nothing()
        .after(1.minute())
        .then_facts([noted("tea")])
        .then_no_deadline()
        .press("set")
        .press("cancel")
        .then_no_deadline()
        .after(1.hour())
        .then_nothing();
}

#[test]
fn a_step_says_which_alarms_are_out_of_date() {
    let story = butler().press("set").press("move");
    let Some(Record::Stepped(step)) = story.last().first() else {
        panic!("a step");
    };
    assert_eq!((step.step, step.cancel[0].armed), (2, 1));
    let story = story.press("end").then_ended();
    let Some(Record::Stepped(step)) = story.last().first() else {
        panic!("a step");
    };
    assert_eq!(step.cancel[0].armed, 2);
}

#[test]
fn what_was_sent_with_the_end_is_answered_after_it() {
    let story = butler()
        .press("end")
        .then_sends::<Bell>("b", ring(0))
        .then_ended();
    assert_eq!(story.instance().open().len(), 1);
    let story = story.press("more").then_nothing();
    assert!(story.last().is_empty());
    let story = story.when_refused::<Bell>("b", "broken").then_nothing();
    assert!(story.instance().open().is_empty());
}

#[test]
fn a_command_takes_effect_once_by_an_id_that_says_where_it_is_from() {
    let story = butler().press("x").press("once");
    let sent = &story.instance().open()[0];
    assert_eq!(sent.command_id("butler", "b"), "butler/b/3/0");
    let longest = Sent {
        step: u64::MAX,
        number: 99,
        ..sent.clone()
    };
    let id = longest.command_id(&"p".repeat(32), &"i".repeat(64));
    assert!(id.len() <= 128, "{}", id.len());
}

/// These are stored for ever: never made to pass by changing what is expected.
#[test]
fn the_records_keep_their_storage_format() {
    let story = butler().press("set").press("move");
    let written = serde_json::to_value(&story.last()[0]).unwrap();
    assert_eq!(
        written,
        json!({ "type": "butler.stepped.v1", "data": {
            "step": 2,
            "input": { "event": {
                "aggregate": "bell", "id": "b", "type": "bell.pressed.v1", "version": 2, "position": 2,
            }},
            "set": [{ "name": "tea", "at": "2027-01-01T00:10:00Z", "armed": 2 }],
            "cancel": [{ "name": "tea", "at": "2027-01-01T00:05:00Z", "armed": 1 }],
        }})
    );
    let story = story.press("end");
    let written = serde_json::to_value(&story.last()[0]).unwrap();
    assert_eq!(
        written["data"]["send"],
        json!([{ "aggregate": "bell", "id": "b", "command": "ring", "body": { "times": 0 } }])
    );
    assert_eq!(written["data"]["ended"], true);
    let story = story.when_accepted::<Bell>("b");
    let written = serde_json::to_value(&story.last()[0]).unwrap();
    assert_eq!(
        written["data"]["input"],
        json!({ "accepted": { "step": 3, "number": 0, "version": 1, "position": 1 } })
    );
    let story = butler().press("fail").press("x");
    let written = serde_json::to_value(&story.last()[0]).unwrap();
    assert_eq!(written["type"], "butler.held.v1");
    assert_eq!(
        written["data"]["input"]["event"]["data"],
        json!({ "how": "x" })
    );
    for record in [
        json!({ "type": "butler.parked.v1", "data": { "reason": "r" } }),
        json!({ "type": "butler.skipped.v1", "data": {
            "input": { "due": { "name": "tea", "armed": 1 } }, "reason": "r",
        }}),
        json!({ "type": "butler.suspended.v1", "data": { "reason": "r" } }),
        json!({ "type": "butler.resumed.v1", "data": {} }),
        json!({ "type": "butler.ended.v1", "data": { "reason": "r", "cancel": [
            { "name": "tea", "at": "2027-01-01T00:05:00Z", "armed": 1 },
        ]}}),
        json!({ "type": "butler.noted.v1", "data": { "what": "w" } }),
    ] {
        let read: Record<Butler> = serde_json::from_value(record.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), record);
    }
    let unknown = json!({ "type": "butler.later.v1", "data": {} });
    let error = serde_json::from_value::<Record<Butler>>(unknown).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("unknown variant `butler.later.v1`")
    );
}

fn recorded(position: u64, version: u64, event_type: &str, data: serde_json::Value) -> Recorded {
    Recorded {
        aggregate: "bell".to_owned(),
        id: "b".to_owned(),
        event_type: event_type.to_owned(),
        version,
        position,
        time: jiff::Timestamp::UNIX_EPOCH,
        command_id: "c".to_owned(),
        correlation_id: "c".to_owned(),
        causation_id: "c".to_owned(),
        caller_id: None,
        data: serde_json::value::RawValue::from_string(data.to_string())
            .unwrap()
            .into(),
    }
}

fn pressed_at(position: u64, how: &str) -> Recorded {
    recorded(position, position, "bell.pressed.v1", json!({ "how": how }))
}

/// Gives an input to an instance, and returns what it has noted of it.
fn give(instance: &mut Instance<Butler>, input: Arrived) -> usize {
    let at = Context {
        id: "b".into(),
        version: 0,
        command_id: "c".into(),
        now: jiff::Timestamp::UNIX_EPOCH,
        caller: crate::caller::Caller::default(),
    };
    let settings = json!(false);
    let command = InstanceCommand::Handle { input, settings };
    let decision = instance.decide(command, &at).unwrap();
    for record in &decision.events {
        let json = serde_json::to_string(record).unwrap();
        instance.evolve(&serde_json::from_str(&json).unwrap());
    }
    decision.events.len()
}

#[test]
fn an_event_that_could_not_be_placed_in_its_time_is_taken_late_and_once() {
    let mut instance = Instance::<Butler>::default();
    assert_eq!(
        give(&mut instance, Arrived::Event(pressed_at(5, "five"))),
        2
    );
    // In its turn it is out of date; late it is not, and only once.
    assert_eq!(
        give(&mut instance, Arrived::Event(pressed_at(3, "three"))),
        0
    );
    assert_eq!(
        give(&mut instance, Arrived::Late(pressed_at(3, "three"))),
        2
    );
    assert_eq!(
        give(&mut instance, Arrived::Late(pressed_at(3, "three"))),
        0
    );
    assert_eq!(give(&mut instance, Arrived::Late(pressed_at(4, "four"))), 2);
    assert_eq!(give(&mut instance, Arrived::Late(pressed_at(6, "six"))), 2);
    assert_eq!(give(&mut instance, Arrived::Late(pressed_at(6, "six"))), 0);
    assert_eq!(give(&mut instance, Arrived::Event(pressed_at(6, "six"))), 0);
    assert_eq!(instance.process().noted, ["five", "three", "four", "six"]);
    // What it remembers of it outlives a snapshot, and one that waits is not late.
    let json = serde_json::to_string(&instance).unwrap();
    let mut read: Instance<Butler> = serde_json::from_str(&json).unwrap();
    assert_eq!(give(&mut read, Arrived::Late(pressed_at(4, "four"))), 0);
    assert_eq!(give(&mut read, Arrived::Event(pressed_at(7, "fail"))), 1);
    assert_eq!(read.late.len(), 3);
}

/// The records of an instance that has reacted to one press as `facts` say.
fn stored(how: &str, facts: &[&str]) -> (Vec<Recorded>, std::collections::BTreeMap<u64, Arrived>) {
    let event = pressed_at(9, how);
    let step = json!({ "step": 1, "input": Arrived::Event(event.clone()).cause() });
    let mut records = vec![recorded(20, 1, "butler.stepped.v1", step)];
    for (version, what) in (2..).zip(facts) {
        records.push(recorded(
            20,
            version,
            "butler.noted.v1",
            json!({ "what": what }),
        ));
    }
    (records, [(1, Arrived::Event(event))].into())
}

#[test]
fn a_rehearsal_tells_what_this_build_would_do_otherwise() {
    let rehearse = |how: &str, facts: &[&str], mended: bool| {
        let (records, inputs) = stored(how, facts);
        rehearse::<Butler>("b", &mended, &records, &inputs)
    };
    let same = rehearse("hello", &["hello"], false);
    assert!(same.is_the_same() && same.compared == 1, "{same:?}");
    let other = rehearse("hello", &["goodbye"], false);
    let otherwise = other.otherwise.as_ref().unwrap();
    assert_eq!(otherwise.step, 1);
    assert_eq!(otherwise.recorded["facts"][0]["data"]["what"], "goodbye");
    assert_eq!(otherwise.now["facts"][0]["data"]["what"], "hello");
    let parked = rehearse("fail", &["fail"], false);
    assert_eq!(parked.otherwise.unwrap().now["parked"], "no butter");
    // Without what came nothing is compared.
    let (records, _) = stored("hello", &["goodbye"]);
    let folded = super::rehearse::<Butler>("b", &false, &records, &[].into());
    assert!(folded.is_the_same() && folded.compared == 0);
}

#[test]
fn a_rehearsal_tells_what_cannot_be_folded_and_what_would_go_on() {
    let (mut records, inputs) = stored("hello", &["unbearable"]);
    let folded = rehearse::<Butler>("b", &false, &records, &inputs);
    assert_eq!(
        folded.unreadable.as_deref(),
        Some("version 2: evolve panicked")
    );
    records.remove(0);
    let gap = rehearse::<Butler>("b", &false, &records, &inputs);
    assert_eq!(gap.unreadable.as_deref(), Some("version 2 follows on 0"));

    let parked = json!({ "reason": "no butter", "input": Arrived::Event(pressed_at(9, "fail")) });
    let parked = [recorded(20, 1, "butler.parked.v1", parked)];
    let still = rehearse::<Butler>("b", &false, &parked, &[].into());
    assert!(still.is_the_same(), "{still:?}");
    let mended = rehearse::<Butler>("b", &true, &parked, &[].into());
    assert!(mended.would_go_on);
}
