//! The kit tested on an aggregate and a view of its own.

use super::*;
use crate::{
    aggregate::{Aggregate, Context, Decision, Rejection},
    recorded::Recorded,
    view::{ApplyError, Change, Parts, Query, Route, View},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

#[derive(Default, Clone, Debug, Serialize, Deserialize)]
struct Lamp {
    lit: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum LampCommand {
    SwitchOn {},
    SwitchOff {},
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum LampEvent {
    #[serde(rename = "lamp.lit.v1")]
    Lit {},
    #[serde(rename = "lamp.darkened.v1")]
    Darkened {},
}

#[derive(Debug, thiserror::Error)]
#[error("refused")]
struct LampRejection(&'static str);

impl Rejection for LampRejection {
    fn code(&self) -> &'static str {
        self.0
    }

    fn codes(command: &str) -> &'static [&'static str] {
        match command {
            "switch_on" => &["already_lit"],
            _ => &[],
        }
    }
}

impl Aggregate for Lamp {
    const NAME: &'static str = "lamp";

    type Command = LampCommand;
    type Event = LampEvent;
    type Rejection = LampRejection;

    fn decide(
        &self,
        command: LampCommand,
        at: &Context,
    ) -> Result<Decision<LampEvent>, LampRejection> {
        match (command, self.lit) {
            (LampCommand::SwitchOn {}, true) => Err(LampRejection("already_lit")),
            (LampCommand::SwitchOn {}, false) => {
                Ok(Decision::event(LampEvent::Lit {}).claim("socket", &*at.id))
            }
            (LampCommand::SwitchOff {}, true) => {
                Ok(Decision::event(LampEvent::Darkened {}).release("socket", &*at.id))
            }
            (LampCommand::SwitchOff {}, false) => Err(LampRejection("unpublished")),
        }
    }

    fn evolve(&mut self, event: &LampEvent) {
        self.lit = *event == LampEvent::Lit {};
    }
}

#[test]
fn a_decision_is_compared_with_what_is_expected() {
    Given::<Lamp>::nothing()
        .id("desk")
        .when(LampCommand::SwitchOn {})
        .then_events([LampEvent::Lit {}])
        .then_claims([("socket", "desk")])
        .then_releases([]);
    Given::<Lamp>::events([LampEvent::Lit {}])
        .when(LampCommand::SwitchOff {})
        .then_events([LampEvent::Darkened {}])
        .then_releases([("socket", "id-1")]);
    Given::<Lamp>::events([LampEvent::Lit {}])
        .when(LampCommand::SwitchOn {})
        .then_rejected("already_lit");
}

#[test]
#[should_panic(expected = "events of switch_on")]
fn other_events_than_expected_fail() {
    Given::<Lamp>::nothing()
        .when(LampCommand::SwitchOn {})
        .then_events([LampEvent::Darkened {}]);
}

#[test]
#[should_panic(expected = "events of switch_on")]
fn events_where_nothing_is_expected_fail() {
    Given::<Lamp>::nothing()
        .when(LampCommand::SwitchOn {})
        .then_nothing();
}

#[test]
#[should_panic(expected = "claims")]
fn other_claims_than_expected_fail() {
    Given::<Lamp>::nothing()
        .when(LampCommand::SwitchOn {})
        .then_claims([]);
}

#[test]
#[should_panic(expected = "switch_on was refused with already_lit")]
fn a_refusal_where_events_are_expected_fails() {
    Given::<Lamp>::events([LampEvent::Lit {}])
        .when(LampCommand::SwitchOn {})
        .then_nothing();
}

#[test]
#[should_panic(expected = "expected already_lit, but switch_on was accepted")]
fn an_acceptance_where_a_refusal_is_expected_fails() {
    Given::<Lamp>::nothing()
        .when(LampCommand::SwitchOn {})
        .then_rejected("already_lit");
}

#[test]
#[should_panic(expected = "unpublished is not among the published codes of switch_off")]
fn a_code_that_is_not_published_fails() {
    Given::<Lamp>::nothing()
        .when(LampCommand::SwitchOff {})
        .then_rejected("unpublished");
}

#[test]
fn names_come_from_the_wire_enums() {
    assert_eq!(event_types::<Lamp>(), ["lamp.lit.v1", "lamp.darkened.v1"]);
    assert_eq!(command_names::<Lamp>(), ["switch_on", "switch_off"]);
}

#[test]
fn a_log_counts_positions_by_commit_and_versions_by_aggregate() {
    let log = Log::new()
        .add::<Lamp>("a", [LampEvent::Lit {}, LampEvent::Darkened {}])
        .at("2027-03-01T00:00:00Z")
        .add::<Lamp>("b", [LampEvent::Lit {}])
        .add::<Lamp>("a", [LampEvent::Lit {}]);
    let places: Vec<_> = log
        .events()
        .iter()
        .map(|event| (event.id.as_str(), event.position, event.version))
        .collect();
    assert_eq!(places, [("a", 1, 1), ("a", 1, 2), ("b", 2, 1), ("a", 3, 3)]);
    assert_eq!(log.events()[3].time.to_string(), "2027-03-01T00:00:01Z");
}

#[test]
fn interleavings_are_all_orders_that_keep_each_sequence() {
    assert_eq!(
        interleavings(&[vec![1, 2], vec![3]]),
        [[1, 2, 3], [1, 3, 2], [3, 1, 2]]
    );
}

/// Rooms with the number of lamps that are lit in them; a lamp's id is `<room>_<lamp>`.
struct Rooms;

#[derive(Clone, Serialize, Deserialize, ToSchema)]
struct Room {
    room: String,
    lit: i64,
}

impl View for Rooms {
    const NAME: &'static str = "rooms";
    const VERSION: u32 = 1;
    const AGGREGATES: &'static [&'static str] = &["lamp"];

    type Document = Room;
    type Part = u32;

    fn query() -> Query {
        Query {
            routes: vec![vec!["room"]],
            ..Query::default()
        }
    }

    fn remember(part: Option<u32>, event: &Recorded) -> Result<Change<u32>, ApplyError> {
        event.event::<Lamp>()?;
        Ok(Change::Put(part.unwrap_or_default() + 1))
    }

    fn route(event: &Recorded, parts: &Parts<u32>) -> Result<Route, ApplyError> {
        let (room, _) = event.id.split_once('_').unwrap_or_default();
        Ok(match parts.get("lamp", &event.id) {
            Some(1) => Route::id(room),
            Some(9) => Route::when("colour", "red"),
            _ => Route::when("room", room),
        })
    }

    fn apply(
        id: &str,
        document: Option<Room>,
        event: &Recorded,
        _parts: &Parts<u32>,
    ) -> Result<Change<Room>, ApplyError> {
        let mut room = document.unwrap_or_else(|| Room {
            room: id.to_owned(),
            lit: 0,
        });
        match event.event::<Lamp>()? {
            LampEvent::Lit {} => room.lit += 1,
            LampEvent::Darkened {} if room.lit == 1 => return Ok(Change::Delete),
            LampEvent::Darkened {} if room.lit == 0 => return Err(ApplyError::refused("dark")),
            LampEvent::Darkened {} => room.lit -= 1,
        }
        Ok(Change::Put(room))
    }
}

#[test]
fn a_view_is_folded_with_its_parts_and_routes() {
    let log = Log::new()
        .add::<Lamp>("hall_1", [LampEvent::Lit {}])
        .add::<Lamp>("hall_2", [LampEvent::Lit {}])
        .add::<Lamp>("attic_1", [LampEvent::Lit {}])
        .add::<Lamp>("attic_1", [LampEvent::Darkened {}])
        .add::<Lamp>("hall_1", [LampEvent::Darkened {}]);
    let fold = ViewFold::<Rooms>::of(log.events());
    assert_eq!(
        fold.json("hall"),
        Some(&json!({ "room": "hall", "lit": 1 }))
    );
    assert_eq!(fold.version("hall"), Some(5));
    assert_eq!(fold.get("hall").map(|room| room.lit), Some(1));
    assert_eq!(fold.documents().len(), 1);
    assert_eq!(fold.parts().len(), 3);
}

#[test]
fn a_refused_event_changes_nothing_not_even_the_parts() {
    let log = Log::new()
        .add::<Lamp>("hall_1", [LampEvent::Darkened {}])
        .add::<Lamp>("hall_1", [LampEvent::Lit {}]);
    let mut fold = ViewFold::<Rooms>::new();
    assert!(fold.apply(&log.events()[0]).is_err());
    assert!(fold.documents().is_empty() && fold.parts().is_empty());
    assert!(fold.apply(&log.events()[1]).is_ok());
}

#[test]
#[should_panic(expected = "is not a declared route")]
fn a_route_that_the_view_does_not_declare_fails() {
    let log = Log::new().add::<Lamp>("hall_1", vec![LampEvent::Lit {}; 9]);
    let _ = ViewFold::<Rooms>::of(log.events());
}

#[test]
#[should_panic(expected = "is not the id of a document")]
fn an_id_that_no_document_can_have_fails() {
    let log = Log::new().add::<Lamp>("h.ll_1", [LampEvent::Lit {}]);
    let _ = ViewFold::<Rooms>::of(log.events());
}
