//! The query parameters of what operators ask, each read strictly.

use crate::{
    event_log::subject::{self, Id},
    problem::Problem,
};
use std::{collections::BTreeMap, fmt::Display, str::FromStr};

/// The number of items of a page unless another is asked for, and the most.
const PAGE: (usize, usize) = (50, 200);

/// Query parameters.
#[derive(Debug)]
pub(super) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// These, all of which must be known.
    pub(super) fn of(given: BTreeMap<String, String>, known: &[&str]) -> Result<Self, Problem> {
        match given.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(Self(given)),
            Some(name) => {
                let there = match known {
                    [] => "it takes none".to_owned(),
                    known => format!("there is: {}", known.join(", ")),
                };
                let detail = format!("there is no parameter {name} here; {there}");
                Err(Problem::malformed(name.clone(), detail))
            }
        }
    }

    /// Reads one.
    pub(super) fn read<T: FromStr<Err: Display>>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, Problem> {
        let read = self.text(name).map(|text| {
            let wrong = |error| Problem::malformed(name.to_owned(), format!("{name}: {error}"));
            text.parse().map_err(wrong)
        });
        read.transpose()
    }

    /// One as it was given.
    pub(super) fn text(&self, name: &'static str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The number of items of a page.
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        let (usual, most) = PAGE;
        let limit = self.read("limit")?.unwrap_or(usual);
        match (1..=most).contains(&limit) {
            true => Ok(limit),
            false => {
                let detail = format!("a limit is 1 to {most}");
                Err(Problem::malformed("limit".to_owned(), detail))
            }
        }
    }

    /// A position of the log.
    pub(super) fn position(&self, name: &'static str) -> Result<Option<u64>, Problem> {
        let position = self.read::<u64>(name)?;
        // The server's numbers have a sign.
        match position.filter(|position| *position > i64::MAX as u64) {
            None => Ok(position),
            Some(_) => {
                let detail = format!("{name} is a position of the log");
                Err(Problem::malformed(name.to_owned(), detail))
            }
        }
    }

    /// The id of an aggregate.
    pub(super) fn id(&self) -> Result<Option<Id>, Problem> {
        let id = self.text("id").map(Id::new).transpose();
        id.map_err(|error| Problem::malformed("id".to_owned(), error.to_string()))
    }

    /// The name of an aggregate, which may be of another build.
    pub(super) fn aggregate(&self) -> Result<Option<String>, Problem> {
        match self.text("aggregate") {
            Some(name) if !subject::is_name(name) => {
                let detail = format!("{name:?} is not the name of an aggregate");
                Err(Problem::malformed("aggregate".to_owned(), detail))
            }
            name => Ok(name.map(str::to_owned)),
        }
    }
}
