//! The answers of a request with many commands.

use crate::{command::answer::Answered, outcome::position_token, problem::Problem};
use std::{borrow::Cow, collections::BTreeMap};

/// The bytes that each answer takes at the most, where its words are left out: so many commands go in a request as
/// have room for that.
pub(crate) const LEAST_ANSWER: usize = 512;
/// The most positions of one `Headwater-Position`, as `Headwater-Min-Position` takes them.
const MOST_POSITIONS: usize = 32;

/// Writes a list of what is JSON already.
pub(crate) fn array<'a>(items: impl Iterator<Item = Cow<'a, [u8]>>) -> Vec<u8> {
    let mut json = vec![b'['];
    for item in items {
        if json.len() > 1 {
            json.push(b',');
        }
        json.extend_from_slice(&item);
    }
    json.push(b']');
    json
}

/// Writes answers within so many bytes. Where they do not fit the words of problems are left out, and where that does
/// not help the events of outcomes.
pub(crate) fn written(answers: &[Result<Answered, Problem>], most: usize) -> Vec<u8> {
    let whole = array(answers.iter().map(whole));
    if whole.len() <= most {
        return whole;
    }
    let wordless = array(answers.iter().map(|answer| match answer {
        Err(problem) => Cow::Owned(without_words(problem)),
        Ok(_) => self::whole(answer),
    }));
    if wordless.len() <= most {
        return wordless;
    }
    array(answers.iter().map(|answer| match answer {
        Err(problem) => Cow::Owned(without_words(problem)),
        Ok(_) => Cow::Owned(without_events(&self::whole(answer))),
    }))
}

fn whole(answer: &Result<Answered, Problem>) -> Cow<'_, [u8]> {
    match answer {
        Ok(Answered::Here(outcome)) => outcome.to_json().into(),
        Ok(Answered::There(message)) => Cow::Borrowed(&message.payload),
        Ok(Answered::Among(accepted)) => Cow::Borrowed(&accepted.body),
        Err(problem) => problem.to_json().into(),
    }
}

fn without_words(problem: &Problem) -> Vec<u8> {
    let problem = Problem {
        detail: String::new(),
        field: None,
        ..problem.clone()
    };
    problem.to_json()
}

/// An outcome without its events, or a problem of another replica without its words.
fn without_events(json: &[u8]) -> Vec<u8> {
    let mut answer: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
    if let Some(answer) = answer.as_object_mut() {
        for member in ["events", "detail", "field"] {
            answer.remove(member);
        }
    }
    answer.to_string().into()
}

/// Writes how far the log has to be applied to show all that was accepted, an entry for each kind of aggregate;
/// `None` where nothing was.
pub(crate) fn positions<'a>(accepted: impl Iterator<Item = (&'a str, u64)>) -> Option<String> {
    let mut last = BTreeMap::new();
    for (aggregate, position) in accepted {
        let known = last.entry(aggregate).or_insert(position);
        *known = position.max(*known);
    }
    let tokens: Vec<String> = last
        .into_iter()
        .map(|(aggregate, position)| position_token(aggregate, position))
        .collect();
    (1..=MOST_POSITIONS)
        .contains(&tokens.len())
        .then(|| tokens.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Outcome, OutcomeEvent};
    use serde_json::{Value, json};

    fn accepted(events: u64) -> Result<Answered, Problem> {
        Ok(Answered::Here(Outcome {
            aggregate: "cart".into(),
            id: "a".repeat(64).into(),
            version: u64::MAX,
            position: u64::MAX,
            events: (1..=events)
                .map(|version| OutcomeEvent {
                    r#type: "cart.cleared.v1".into(),
                    version,
                })
                .collect(),
            replayed: false,
        }))
    }

    fn read(answers: &[Result<Answered, Problem>], most: usize) -> Vec<Value> {
        let written = written(answers, most);
        assert!(written.len() <= most, "{} of {most}", written.len());
        serde_json::from_slice(&written).unwrap()
    }

    #[test]
    fn answers_stand_in_their_order_and_whole_where_they_fit() {
        let problem = Problem::version_mismatch(7);
        let answers = [accepted(1), Err(problem.clone()), accepted(0)];
        let read = read(&answers, 4_096);
        assert_eq!(read[0]["events"].as_array().unwrap().len(), 1);
        assert_eq!(read[1], serde_json::to_value(problem).unwrap());
        assert_eq!(read[2]["events"], json!([]));
        assert_eq!(written(&[], 2), b"[]");
    }

    #[test]
    fn what_does_not_fit_loses_its_words_before_its_events() {
        let wordy = Problem::malformed("f".repeat(200), "\u{1}".repeat(500));
        let answers = [accepted(2), Err(wordy)];
        let wordless = read(&answers, 700);
        assert_eq!(wordless[0]["events"].as_array().unwrap().len(), 2);
        assert_eq!(wordless[1]["code"], "malformed");
        assert_eq!(wordless[1]["detail"], "");
        let many: Vec<_> = (0..20).map(|_| accepted(100)).collect();
        for answer in read(&many, 20 * LEAST_ANSWER) {
            assert_eq!(answer["version"], u64::MAX);
            assert_eq!(answer.get("events"), None);
        }
    }

    #[test]
    fn the_last_position_of_each_kind_is_told() {
        let tokens = positions([("order", 3), ("cart", 9), ("order", 7), ("order", 5)].into_iter());
        assert_eq!(tokens.as_deref(), Some("cart@9, order@7"));
        assert_eq!(positions(std::iter::empty()), None);
        let names: Vec<String> = (0..33).map(|number| format!("a{number}")).collect();
        assert_eq!(positions(names.iter().map(|name| (name.as_str(), 1))), None);
    }
}
