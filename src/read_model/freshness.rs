//! A reader's demands on the age of an answer, and the request headers that say them.
//!
//! The names and limits are the same on NATS and on HTTP.

use crate::{
    caller::Caller,
    command::request::Outcome,
    event_log::subject::is_name,
    problem::Problem,
    request_headers::{DEFAULT_WAIT, RequestHeaders, parse_digits},
};
use std::time::Duration;

/// `Headwater-Min-Position: <aggregate>@<sequence>`, or several with commas between them.
pub const MIN_POSITION: &str = "Headwater-Min-Position";

/// The most positions that a reader may ask for at once.
pub const MAX_POSITIONS: usize = 32;

/// A reader's demands on the age of the answer, and who the reader is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freshness {
    /// `Headwater-Min-Position: <aggregate>@<sequence>, …`: wait until the view has applied each of them.
    pub min_positions: Vec<(String, u64)>,
    /// `Headwater-Max-Wait-Ms`: how long to wait at most.
    pub max_wait: Duration,
    /// The reader: what they may not see is not there. The program itself by default, which sees all.
    pub caller: Caller,
}

impl Default for Freshness {
    /// Whatever is there; 2 s where a position is asked for.
    fn default() -> Self {
        Self {
            min_positions: Vec::new(),
            max_wait: DEFAULT_WAIT,
            caller: Caller::default(),
        }
    }
}

impl Freshness {
    /// At least what an accepted command has brought about; waits for it at most 2 s.
    #[must_use]
    pub fn at_least(outcome: &Outcome) -> Self {
        Self {
            min_positions: vec![(outcome.aggregate.to_string(), outcome.position)],
            ..Self::default()
        }
    }

    /// And at least what another accepted command has brought about.
    #[must_use]
    pub fn and(mut self, outcome: &Outcome) -> Self {
        let position = (outcome.aggregate.to_string(), outcome.position);
        self.min_positions.push(position);
        self
    }

    /// Reads the two headers of a request of this caller.
    ///
    /// # Errors
    ///
    /// Returns a `malformed` problem that names the header.
    pub fn read(headers: &impl RequestHeaders, caller: Caller) -> Result<Self, Problem> {
        let min_positions = headers
            .single(MIN_POSITION)?
            .map(|tokens| {
                parse_positions(tokens).ok_or_else(|| {
                    Problem::malformed(
                        MIN_POSITION.to_owned(),
                        "a position is <aggregate>@<sequence>, as a command answered it; several, \
                         32 at most, have commas between them",
                    )
                })
            })
            .transpose()?;
        Ok(Self {
            min_positions: min_positions.unwrap_or_default(),
            max_wait: headers.max_wait()?,
            caller,
        })
    }
}

/// A list as RFC 9110 writes one (5.6.1): white space around the commas, and nothing between two of them,
/// count for nothing.
fn parse_positions(tokens: &str) -> Option<Vec<(String, u64)>> {
    let tokens = tokens
        .split(',')
        .map(|token| token.trim_matches([' ', '\t']));
    let tokens = tokens.filter(|token| !token.is_empty());
    let positions: Option<Vec<_>> = tokens.map(parse_position).collect();
    positions.filter(|positions| (1..=MAX_POSITIONS).contains(&positions.len()))
}

fn parse_position(token: &str) -> Option<(String, u64)> {
    let (aggregate, sequence) = token.split_once('@')?;
    (is_name(aggregate)).then(|| Some((aggregate.to_owned(), parse_digits(sequence)?)))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_headers::MAX_WAIT;

    fn read(min_position: Option<&str>, max_wait: Option<&str>) -> Result<Freshness, Problem> {
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in [(MIN_POSITION, min_position), (MAX_WAIT, max_wait)] {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        Freshness::read(&Some(headers), Caller::default())
    }

    #[test]
    fn nothing_asked_is_two_seconds_and_no_position() {
        assert_eq!(read(None, None), Ok(Freshness::default()));
    }

    #[test]
    fn a_position_and_a_wait_are_read() {
        let asked = read(Some("order@4711"), Some("30000")).unwrap();
        assert_eq!(asked.min_positions, [("order".to_owned(), 4711)]);
        assert_eq!(asked.max_wait, Duration::from_secs(30));
    }

    #[test]
    fn several_positions_are_a_list() {
        let two = [("order".to_owned(), 7), ("stock".to_owned(), 9)];
        for list in [
            "order@7,stock@9",
            "order@7, stock@9",
            ", order@7 ,, stock@9,",
        ] {
            assert_eq!(read(Some(list), None).unwrap().min_positions, two, "{list}");
        }
        let many = ["a@1"; MAX_POSITIONS].join(",");
        assert_eq!(read(Some(&many), None).unwrap().min_positions.len(), 32);
        for list in [
            &format!("{many},a@1"),
            ",",
            "order@7,stock",
            "order@7 stock@9",
            "order@7;a@1",
        ] {
            let problem = read(Some(list), None).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(MIN_POSITION), "{list}");
        }
    }

    #[test]
    fn a_position_of_another_form_names_its_header() {
        for token in [
            "", "order", "@1", "order@", "order@-1", "order@+1", "Order@1", "a.b@1",
        ] {
            let problem = read(Some(token), None).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(MIN_POSITION), "{token}");
        }
    }

    #[test]
    fn a_wait_of_another_form_or_too_long_names_its_header() {
        for wait in ["", "-1", "1.5", "30001", "soon", "99999999999999999999"] {
            let problem = read(None, Some(wait)).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(MAX_WAIT), "{wait}");
        }
    }
}
