//! Counts and times of the command side. `docs/metrics.md` is the table of all of it.
//!
//! Handles are looked up once and kept, so that measuring a command costs a few atomic operations.
//! Label values come from what the program declares, never from input.

use super::{
    describe::AggregateDescription,
    request::Outcome,
    tally::{self, Ended},
};
use crate::problem::Problem;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use std::{sync::LazyLock, time::Duration};

/// The measures that are not told apart by command.
pub struct Measures {
    /// From a command's arrival at its aggregate to the begin of its turn.
    pub queue: Histogram,
    /// Deciding all commands of a turn.
    pub decide: Histogram,
    /// From the sending of a commit to its acknowledgement, settling of doubts included.
    pub append: Histogram,
    /// Folding an aggregate from its snapshot and the log.
    pub load: Histogram,
    /// The commands of one commit.
    pub commands_per_commit: Histogram,
    /// Appends that were refused because another was first.
    pub lost_races: Counter,
    /// Loads of a state that had been live and was thrown away.
    pub reloads: Counter,
    /// Live actors.
    pub live: Gauge,
    /// Appends in doubt that turned out stored.
    pub doubts_stored: Counter,
    /// Appends in doubt that turned out lost to another.
    pub doubts_lost: Counter,
    /// Appends in doubt of which nothing was found.
    pub doubts_open: Counter,
    /// Commands that panicked.
    pub panics: Counter,
    /// Commands that were passed on to their home and answered there.
    pub passed_on: Counter,
    /// The commands of a message that passes several on.
    pub group_commands: Histogram,
    /// Commands whose home had gone, and that were given to another replica.
    pub homeless: Counter,
    /// Commands whose home went silent, and that were asked of another.
    pub asked_again: Counter,
    /// Actors that were let go although what they held could not be saved.
    pub unsaved: Counter,
}

/// The handles.
pub static MEASURES: LazyLock<Measures> = LazyLock::new(|| {
    let doubts = |result| counter!("headwater_appends_in_doubt_total", "result" => result);
    Measures {
        queue: histogram!("headwater_command_queue_seconds"),
        decide: histogram!("headwater_command_decide_seconds"),
        append: histogram!("headwater_command_append_seconds"),
        load: histogram!("headwater_aggregate_load_seconds"),
        commands_per_commit: histogram!("headwater_commit_commands"),
        lost_races: counter!("headwater_lost_races_total"),
        reloads: counter!("headwater_aggregate_reloads_total"),
        live: gauge!("headwater_live_actors"),
        doubts_stored: doubts("stored"),
        doubts_lost: doubts("lost"),
        doubts_open: doubts("open"),
        panics: counter!("headwater_command_panics_total"),
        passed_on: counter!("headwater_commands_passed_on_total", "result" => "answered"),
        group_commands: histogram!("headwater_passed_on_commands"),
        homeless: counter!("headwater_commands_passed_on_total", "result" => "no_home"),
        asked_again: counter!("headwater_commands_passed_on_total", "result" => "asked_again"),
        unsaved: counter!("headwater_actors_unsaved_total"),
    }
});

/// The ends of commands of one name.
pub struct CommandMeasures {
    whole: Histogram,
    outcomes: [Counter; OUTCOMES.len()],
}

/// An end of a command, in a word.
const OUTCOMES: [&str; 9] = [
    "accepted",
    "unchanged",
    "replayed",
    "refused",
    "conflict",
    "malformed",
    "overloaded",
    "unavailable",
    "internal",
];

impl CommandMeasures {
    /// The handles of every command of an aggregate, in the order of its description.
    pub fn of(aggregate: &AggregateDescription) -> Vec<Self> {
        let commands = aggregate.commands.iter();
        commands
            .map(|command| {
                let name = command.name.clone();
                Self {
                    whole: histogram!(
                        "headwater_command_seconds",
                        "aggregate" => aggregate.name, "command" => name.clone()
                    ),
                    outcomes: OUTCOMES.map(|outcome| {
                        counter!(
                            "headwater_commands_total",
                            "aggregate" => aggregate.name,
                            "command" => name.clone(),
                            "outcome" => outcome
                        )
                    }),
                }
            })
            .collect()
    }

    /// Counts one answered command, and how long it took.
    pub fn answered(&self, outcome: &Result<Outcome, Problem>, took: Duration) {
        self.whole.record(took.as_secs_f64());
        let index = index_of(outcome);
        self.outcomes[index].increment(1);
        tally::answered(ended(index), took);
    }
}

/// The outcomes are in this order: accepted ones, refused ones, failed ones.
fn ended(index: usize) -> Ended {
    match index {
        0..3 => Ended::Accepted,
        3..6 => Ended::Refused,
        _ => Ended::Failed,
    }
}

fn index_of(outcome: &Result<Outcome, Problem>) -> usize {
    match outcome {
        Ok(outcome) if outcome.replayed => 2,
        Ok(outcome) if outcome.events.is_empty() => 1,
        Ok(_) => 0,
        Err(problem) => match (problem.status, problem.code.as_str()) {
            (409, "claim_taken" | "key_reused") | (412, _) => 4,
            (404 | 409, _) => 3,
            (429, _) => 6,
            (503, _) => 7,
            (500, _) => 8,
            _ => 5,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_word() {
        let word = |problem| OUTCOMES[index_of(&Err(problem))];
        assert_eq!(word(Problem::refused("out_of_stock", "")), "refused");
        assert_eq!(word(Problem::not_found("not_found", "")), "refused");
        assert_eq!(word(Problem::claim_taken("email")), "conflict");
        assert_eq!(word(Problem::version_mismatch(1)), "conflict");
        assert_eq!(word(Problem::malformed("id".to_owned(), "")), "malformed");
        assert_eq!(word(Problem::too_large(1)), "malformed");
        assert_eq!(word(Problem::overloaded()), "overloaded");
        assert_eq!(word(Problem::unavailable("")), "unavailable");
        assert_eq!(word(Problem::internal()), "internal");
    }
}
