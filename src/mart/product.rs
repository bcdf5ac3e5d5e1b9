//! A product of the range, the same in all branches. Its id is its SKU.
//!
//! A barcode, when it has one, is unique over all products. A discontinued product can only be
//! relisted; its barcode stays its own. `check` changes nothing: it tells whether an order may go on.

use super::rules::{self, Invalid, event_if};
use headwater_core::aggregate::{self, Aggregate, Context, Decision};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use utoipa::ToSchema;

/// The scope that barcodes are unique within.
pub const BARCODE_SCOPE: &str = "product_barcode";
/// The prices that a product can have, in whole won.
pub const PRICES: RangeInclusive<i64> = 1..=100_000_000;

/// An event of a product.
///
/// These names and fields are the storage format. None is renamed, removed or given another
/// meaning: a new shape is a new version, and the old one is upcast on read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    /// It came into the range.
    #[serde(rename = "product.registered.v1")]
    Registered {
        /// The Korean name.
        name: String,
        /// The English name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name_en: Option<String>,
        /// The price in whole won.
        price: i64,
        /// The category.
        category: String,
        /// The amount that the price is for, for example `1kg`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unit: Option<String>,
        /// The barcode.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        barcode: Option<String>,
        /// The description.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
    },
    /// It got other names: both as they are from now on.
    #[serde(rename = "product.renamed.v1")]
    Renamed {
        /// The Korean name.
        name: String,
        /// The English name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name_en: Option<String>,
    },
    /// It got another price.
    #[serde(rename = "product.repriced.v1")]
    Repriced {
        /// The price in whole won.
        price: i64,
    },
    /// It was moved to another category.
    #[serde(rename = "product.recategorized.v1")]
    Recategorized {
        /// The category.
        category: String,
    },
    /// It got another description, or, when that is empty, none.
    #[serde(rename = "product.described.v1")]
    Described {
        /// The description.
        description: String,
    },
    /// It is no longer sold.
    #[serde(rename = "product.discontinued.v1")]
    Discontinued {},
    /// It is sold again.
    #[serde(rename = "product.relisted.v1")]
    Relisted {},
}

/// The state that a product decides by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    listing: Option<Listing>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Listing {
    name: String,
    name_en: Option<String>,
    price: i64,
    category: String,
    description: String,
    discontinued: bool,
}

/// A command to a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Takes a new product into the range.
    Register {
        /// The Korean name.
        #[schema(min_length = 1, max_length = 200, example = "사과 1kg")]
        name: String,
        /// The English name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(min_length = 1, max_length = 200, example = "Apple 1kg")]
        name_en: Option<String>,
        /// The price in whole won.
        #[schema(minimum = 1, maximum = 100_000_000, example = 4900)]
        price: i64,
        /// The category.
        #[schema(min_length = 1, max_length = 60, example = "fruit")]
        category: String,
        /// The amount that the price is for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(min_length = 1, max_length = 40, example = "1kg")]
        unit: Option<String>,
        /// The barcode: visible ASCII, and no other product's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(min_length = 1, max_length = 64, example = "8801234500017")]
        barcode: Option<String>,
        /// The description.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(max_length = 4000)]
        description: Option<String>,
    },
    /// Gives a product another name. Without an English name the one that it has stays.
    Rename {
        /// The Korean name.
        #[schema(min_length = 1, max_length = 200, example = "꿀사과 1kg")]
        name: String,
        /// The English name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(min_length = 1, max_length = 200, example = "Honey apple 1kg")]
        name_en: Option<String>,
    },
    /// Gives a product another price.
    Reprice {
        /// The price in whole won.
        #[schema(minimum = 1, maximum = 100_000_000, example = 5200)]
        price: i64,
    },
    /// Moves a product to another category.
    Recategorize {
        /// The category.
        #[schema(min_length = 1, max_length = 60, example = "fruit")]
        category: String,
    },
    /// Gives a product another description; an empty one takes it away.
    Describe {
        /// The description.
        #[schema(max_length = 4000)]
        description: String,
    },
    /// Takes a product out of the range. Its history and its barcode stay.
    Discontinue {},
    /// Takes a discontinued product into the range again.
    Relist {},
    /// Asks whether the product is sold at this price. Changes nothing.
    Check {
        /// The price of one in whole won.
        #[schema(minimum = 1, maximum = 100_000_000, example = 4900)]
        unit_price: i64,
    },
}

impl Aggregate for Product {
    const NAME: &'static str = "product";

    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    fn decide(&self, command: Command, at: &Context) -> Result<Decision<Event>, Rejection> {
        if !at.caller.has(rules::STAFF) {
            return Err(Rejection::StaffOnly);
        }
        Ok(match (&self.listing, command) {
            (
                None,
                Command::Register {
                    name,
                    name_en,
                    price,
                    category,
                    unit,
                    barcode,
                    description,
                },
            ) => {
                let barcode = barcode.map(valid_barcode).transpose()?;
                let decision = Decision::event(Event::Registered {
                    name: valid_name(&name)?,
                    name_en: name_en.as_deref().map(valid_name_en).transpose()?,
                    price: valid_price(price)?,
                    category: valid_category(&category)?,
                    unit: unit.as_deref().map(valid_unit).transpose()?,
                    barcode: barcode.clone(),
                    description: description
                        .as_deref()
                        .map(valid_description)
                        .transpose()?
                        .filter(|text| !text.is_empty()),
                });
                match barcode {
                    Some(barcode) => decision.claim(BARCODE_SCOPE, barcode),
                    None => decision,
                }
            }
            (None, _) => return Err(Rejection::NotFound),
            (Some(_), Command::Register { .. }) => return Err(Rejection::AlreadyRegistered),
            (Some(listing), Command::Relist {}) => {
                event_if(listing.discontinued, Event::Relisted {})
            }
            (Some(listing), _) if listing.discontinued => return Err(Rejection::Discontinued),
            (Some(listing), Command::Rename { name, name_en }) => {
                let name = valid_name(&name)?;
                let name_en = match name_en {
                    Some(name_en) => Some(valid_name_en(&name_en)?),
                    None => listing.name_en.clone(),
                };
                let changes = name != listing.name || name_en != listing.name_en;
                event_if(changes, Event::Renamed { name, name_en })
            }
            (Some(listing), Command::Reprice { price }) => {
                let price = valid_price(price)?;
                event_if(price != listing.price, Event::Repriced { price })
            }
            (Some(listing), Command::Recategorize { category }) => {
                let category = valid_category(&category)?;
                let changes = category != listing.category;
                event_if(changes, Event::Recategorized { category })
            }
            (Some(listing), Command::Describe { description }) => {
                let description = valid_description(&description)?;
                let changes = description != listing.description;
                event_if(changes, Event::Described { description })
            }
            (Some(_), Command::Discontinue {}) => Decision::event(Event::Discontinued {}),
            (Some(listing), Command::Check { unit_price }) => {
                rules::number("invalid_unit_price", unit_price, PRICES)?;
                if unit_price != listing.price {
                    let price = listing.price;
                    return Err(Rejection::PriceChanged { price });
                }
                Decision::nothing()
            }
        })
    }

    fn evolve(&mut self, event: &Event) {
        match (&mut self.listing, event) {
            (
                listing,
                Event::Registered {
                    name,
                    name_en,
                    price,
                    category,
                    description,
                    ..
                },
            ) => {
                *listing = Some(Listing {
                    name: name.clone(),
                    name_en: name_en.clone(),
                    price: *price,
                    category: category.clone(),
                    description: description.clone().unwrap_or_default(),
                    discontinued: false,
                });
            }
            // `decide` never lets another event be the first.
            (None, _) => {}
            (Some(listing), Event::Renamed { name, name_en }) => {
                listing.name.clone_from(name);
                listing.name_en.clone_from(name_en);
            }
            (Some(listing), Event::Repriced { price }) => listing.price = *price,
            (Some(listing), Event::Recategorized { category }) => {
                listing.category.clone_from(category);
            }
            (Some(listing), Event::Described { description }) => {
                listing.description.clone_from(description);
            }
            (Some(listing), Event::Discontinued {}) => listing.discontinued = true,
            (Some(listing), Event::Relisted {}) => listing.discontinued = false,
        }
    }
}

fn valid_name(name: &str) -> Result<String, Invalid> {
    rules::line("invalid_name", name, 1..=200)
}

fn valid_name_en(name: &str) -> Result<String, Invalid> {
    rules::line("invalid_name_en", name, 1..=200)
}

fn valid_price(price: i64) -> Result<i64, Invalid> {
    rules::number("invalid_price", price, PRICES)
}

fn valid_category(category: &str) -> Result<String, Invalid> {
    rules::line("invalid_category", category, 1..=60)
}

fn valid_unit(unit: &str) -> Result<String, Invalid> {
    rules::line("invalid_unit", unit, 1..=40)
}

fn valid_description(description: &str) -> Result<String, Invalid> {
    rules::lines("invalid_description", description, 0..=4_000)
}

fn valid_barcode(barcode: String) -> Result<String, Invalid> {
    let visible = barcode.bytes().all(|byte| byte.is_ascii_graphic());
    if visible && (1..=64).contains(&barcode.len()) {
        return Ok(barcode);
    }
    let must = "1 to 64 visible ASCII characters";
    Err(Invalid::new("invalid_barcode", must))
}

/// The reason why a product refuses a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, aggregate::Rejection)]
pub enum Rejection {
    /// Only staff may do that.
    #[error("only staff may do that")]
    #[rejection(scope = rules::STAFF)]
    StaffOnly,
    /// No product has been registered under this id.
    #[error("there is no such product")]
    #[refuses(except(Register))]
    NotFound,
    /// The id is taken by a product, perhaps a discontinued one.
    #[error("the product is registered already")]
    #[refuses(Register)]
    AlreadyRegistered,
    /// The product is discontinued, and can only be relisted.
    #[error("the product is discontinued")]
    #[refuses(except(Register, Relist))]
    Discontinued,
    /// It is sold at another price.
    #[error("the price is {price} now")]
    #[refuses(Check)]
    PriceChanged {
        /// The price in whole won.
        price: i64,
    },
    /// A field is out of bounds.
    #[error(transparent)]
    #[refuses(
        Register,
        codes(
            "invalid_name",
            "invalid_name_en",
            "invalid_price",
            "invalid_category",
            "invalid_unit",
            "invalid_barcode",
            "invalid_description"
        )
    )]
    #[refuses(Rename, codes("invalid_name", "invalid_name_en"))]
    #[refuses(Reprice, codes("invalid_price"))]
    #[refuses(Recategorize, codes("invalid_category"))]
    #[refuses(Describe, codes("invalid_description"))]
    #[refuses(Check, codes("invalid_unit_price"))]
    Invalid(#[from] Invalid),
}

#[cfg(test)]
mod tests;
