//! A display: a curated section of a branch, with ranked products and, when it is limited, a
//! period. Its id is the section's, which has no `_`: that is what ends it in the ids of its documents.
//!
//! A product is in a section at most once; two products may share a rank. A closed section stays
//! closed and refuses everything.

use super::{
    ids::{Branch, Sku},
    rules::{self, Invalid, event_if},
};
use headwater_core::aggregate::{self, Aggregate, Context, Decision};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::RangeInclusive};
use utoipa::ToSchema;

/// The most products that a section shows.
pub const MAX_PRODUCTS: usize = 500;
/// The ranks within a section; the lowest comes first.
pub const RANKS: RangeInclusive<i64> = 1..=10_000;

/// An event of a section.
///
/// These names and fields are the storage format. None is renamed, removed or given another
/// meaning: a new shape is a new version, and the old one is upcast on read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    /// It was set up.
    #[serde(rename = "display.opened.v1")]
    Opened {
        /// The branch.
        branch: String,
        /// The title that shoppers see.
        title: String,
    },
    /// A product was put into it.
    #[serde(rename = "display.placed.v1")]
    Placed {
        /// The product.
        sku: String,
        /// Its rank.
        rank: i64,
    },
    /// A product got another rank.
    #[serde(rename = "display.moved.v1")]
    Moved {
        /// The product.
        sku: String,
        /// Its rank.
        rank: i64,
    },
    /// A product was taken out of it.
    #[serde(rename = "display.removed.v1")]
    Removed {
        /// The product.
        sku: String,
    },
    /// It was limited to a period.
    #[serde(rename = "display.scheduled.v1")]
    Scheduled {
        /// The beginning.
        from: Timestamp,
        /// The end, which is not in the period.
        until: Timestamp,
    },
    /// It was closed for good.
    #[serde(rename = "display.closed.v1")]
    Closed {},
}

/// The state that a section decides by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Display {
    section: Option<Section>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Section {
    /// Ranks by SKU.
    products: BTreeMap<String, i64>,
    period: Option<(Timestamp, Timestamp)>,
    closed: bool,
}

/// A command to a section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Sets up a section of a branch.
    Open {
        /// The branch.
        branch: Branch,
        /// The title that shoppers see.
        #[schema(min_length = 1, max_length = 200, example = "오늘의 과일")]
        title: String,
    },
    /// Puts a product into the section.
    Place {
        /// The product.
        sku: Sku,
        /// Its rank: the lowest comes first.
        #[schema(minimum = 1, maximum = 10_000, example = 1)]
        rank: i64,
    },
    /// Gives a product of the section another rank.
    Move {
        /// The product.
        sku: Sku,
        /// Its rank: the lowest comes first.
        #[schema(minimum = 1, maximum = 10_000, example = 2)]
        rank: i64,
    },
    /// Takes a product out of the section.
    Remove {
        /// The product.
        sku: Sku,
    },
    /// Limits the section to a period.
    Schedule {
        /// The beginning.
        #[schema(value_type = String, format = DateTime, example = "2027-01-01T00:00:00Z")]
        from: Timestamp,
        /// The end, which is later than the beginning and not in the period.
        #[schema(value_type = String, format = DateTime, example = "2027-02-01T00:00:00Z")]
        until: Timestamp,
    },
    /// Closes the section for good.
    Close {},
}

impl Aggregate for Display {
    const NAME: &'static str = "display";

    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    fn decide(&self, command: Command, at: &Context) -> Result<Decision<Event>, Rejection> {
        if !at.caller.has(rules::STAFF) {
            return Err(Rejection::StaffOnly);
        }
        // One that was opened before ids were checked can still be emptied and closed.
        let grows = self.section.is_none() || matches!(command, Command::Place { .. });
        if grows && !rules::is_prefix(&at.id) {
            return Err(Rejection::InvalidId);
        }
        Ok(match (&self.section, command) {
            (None, Command::Open { branch, title }) => Decision::event(Event::Opened {
                branch: branch.valid()?,
                title: rules::line("invalid_title", &title, 1..=200)?,
            }),
            (None, _) => return Err(Rejection::NotFound),
            (Some(section), _) if section.closed => return Err(Rejection::Closed),
            (Some(_), Command::Open { .. }) => return Err(Rejection::AlreadyOpened),
            (Some(section), Command::Place { sku, rank }) => {
                let sku = sku.valid()?;
                let rank = valid_rank(rank)?;
                if section.products.contains_key(&sku) {
                    return Err(Rejection::AlreadyDisplayed { sku });
                }
                if section.products.len() >= MAX_PRODUCTS {
                    return Err(Rejection::SectionFull);
                }
                Decision::event(Event::Placed { sku, rank })
            }
            (Some(section), Command::Move { sku, rank }) => {
                let sku = sku.valid()?;
                let rank = valid_rank(rank)?;
                match section.products.get(&sku) {
                    Some(&current) => event_if(rank != current, Event::Moved { sku, rank }),
                    None => return Err(Rejection::NotDisplayed { sku }),
                }
            }
            (Some(section), Command::Remove { sku }) => {
                let sku = sku.valid()?;
                if !section.products.contains_key(&sku) {
                    return Err(Rejection::NotDisplayed { sku });
                }
                Decision::event(Event::Removed { sku })
            }
            (Some(section), Command::Schedule { from, until }) => {
                if from >= until {
                    return Err(Rejection::InvalidPeriod);
                }
                let changes = section.period != Some((from, until));
                event_if(changes, Event::Scheduled { from, until })
            }
            (Some(_), Command::Close {}) => Decision::event(Event::Closed {}),
        })
    }

    fn evolve(&mut self, event: &Event) {
        match (&mut self.section, event) {
            (section, Event::Opened { .. }) => *section = Some(Section::default()),
            // `decide` never lets another event be the first.
            (None, _) => {}
            (Some(section), Event::Placed { sku, rank } | Event::Moved { sku, rank }) => {
                section.products.insert(sku.clone(), *rank);
            }
            (Some(section), Event::Removed { sku }) => {
                section.products.remove(sku);
            }
            (Some(section), Event::Scheduled { from, until }) => {
                section.period = Some((*from, *until));
            }
            (Some(section), Event::Closed {}) => section.closed = true,
        }
    }
}

fn valid_rank(rank: i64) -> Result<i64, Invalid> {
    rules::number("invalid_rank", rank, RANKS)
}

/// The reason why a section refuses a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, aggregate::Rejection)]
pub enum Rejection {
    /// Only staff may do that.
    #[error("only staff may do that")]
    #[rejection(scope = rules::STAFF)]
    StaffOnly,
    /// No section has been opened under this id.
    #[error("there is no such section")]
    #[refuses(except(Open))]
    NotFound,
    /// The id is not that of a section.
    #[error("the id of a section is 1 to 64 of A-Z a-z 0-9 -")]
    InvalidId,
    /// The id is taken by an open section.
    #[error("the section is open already")]
    #[refuses(Open)]
    AlreadyOpened,
    /// The section is closed for good.
    #[error("the section is closed")]
    Closed,
    /// The product is in the section.
    #[error("{sku} is in the section already")]
    #[refuses(Place)]
    AlreadyDisplayed {
        /// The product.
        sku: String,
    },
    /// The product is not in the section.
    #[error("{sku} is not in the section")]
    #[refuses(Move, Remove)]
    NotDisplayed {
        /// The product.
        sku: String,
    },
    /// The section shows as many products as it can.
    #[error("a section shows at most {MAX_PRODUCTS} products")]
    #[refuses(Place)]
    SectionFull,
    /// The period has no duration.
    #[error("from must be before until")]
    #[refuses(Schedule)]
    InvalidPeriod,
    /// A field is out of bounds.
    #[error(transparent)]
    #[refuses(Open, codes("invalid_branch", "invalid_title"))]
    #[refuses(Place, Move, codes("invalid_sku", "invalid_rank"))]
    #[refuses(Remove, codes("invalid_sku"))]
    Invalid(#[from] Invalid),
}

#[cfg(test)]
mod tests;
