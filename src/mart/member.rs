//! A member: somebody who orders.
//!
//! An e-mail address is one member's at a time, without regard to case and to how its letters are composed. Withdrawing gives it up,
//! forgets the personal data in the state, and is final.

use super::rules::{self, Invalid, event_if};
use headwater_core::{
    aggregate::{self, Aggregate, Context, Decision},
    text,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The scope that e-mail addresses are unique within.
pub const EMAIL_SCOPE: &str = "member_email";

/// An event of a member.
///
/// These names and fields are the storage format. None is renamed, removed or given another
/// meaning: a new shape is a new version, and the old one is upcast on read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    /// Somebody became a member.
    #[serde(rename = "member.registered.v1")]
    Registered {
        /// The name.
        name: String,
        /// The e-mail address as it was given.
        email: String,
        /// The address to deliver to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
    },
    /// The member moved.
    #[serde(rename = "member.address_changed.v1")]
    AddressChanged {
        /// The address to deliver to.
        address: String,
    },
    /// The member left.
    #[serde(rename = "member.withdrawn.v1")]
    Withdrawn {},
}

/// The state that a member decides by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Member {
    /// Nobody yet.
    #[default]
    Unknown,
    /// A member.
    Registered {
        /// The e-mail address as it was given.
        email: String,
        /// The address to deliver to.
        address: Option<String>,
    },
    /// Somebody who left; nothing personal is kept.
    Withdrawn,
}

/// A command to a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Makes somebody a member.
    Register {
        /// The name.
        #[schema(min_length = 1, max_length = 200, example = "김하늘")]
        name: String,
        /// The e-mail address: no other member's, upper and lower case being the same.
        #[schema(min_length = 3, max_length = 254, format = Email, example = "haneul@example.com")]
        email: String,
        /// The address to deliver to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(min_length = 1, max_length = 500, example = "서울 강남구 테헤란로 1")]
        address: Option<String>,
    },
    /// Changes the address to deliver to.
    ChangeAddress {
        /// The address to deliver to.
        #[schema(min_length = 1, max_length = 500, example = "서울 성동구 왕십리로 2")]
        address: String,
    },
    /// Ends the membership for good, and makes the e-mail address free.
    Withdraw {},
}

impl Aggregate for Member {
    const NAME: &'static str = "member";

    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    fn decide(&self, command: Command, at: &Context) -> Result<Decision<Event>, Rejection> {
        if !rules::is_theirs(&at.caller, &at.id) {
            return Err(Rejection::StaffOnly);
        }
        Ok(match (self, command) {
            (
                Self::Unknown,
                Command::Register {
                    name,
                    email,
                    address,
                },
            ) => {
                let name = rules::line("invalid_name", &name, 1..=200)?;
                let email = valid_email(&email)?;
                let address = address.as_deref().map(valid_address).transpose()?;
                let key = email_key(&email);
                Decision::event(Event::Registered {
                    name,
                    email,
                    address,
                })
                .claim(EMAIL_SCOPE, key)
            }
            (Self::Unknown, Command::ChangeAddress { .. } | Command::Withdraw {}) => {
                return Err(Rejection::NotFound);
            }
            (Self::Withdrawn, _) => return Err(Rejection::Withdrawn),
            (Self::Registered { .. }, Command::Register { .. }) => {
                return Err(Rejection::AlreadyRegistered);
            }
            (
                Self::Registered {
                    address: current, ..
                },
                Command::ChangeAddress { address },
            ) => {
                let address = valid_address(&address)?;
                let changes = current.as_ref() != Some(&address);
                event_if(changes, Event::AddressChanged { address })
            }
            (Self::Registered { email, .. }, Command::Withdraw {}) => {
                Decision::event(Event::Withdrawn {}).release(EMAIL_SCOPE, email_key(email))
            }
        })
    }

    fn evolve(&mut self, event: &Event) {
        match event {
            Event::Registered { email, address, .. } => {
                *self = Self::Registered {
                    email: email.clone(),
                    address: address.clone(),
                };
            }
            Event::AddressChanged { address: new } => {
                if let Self::Registered { address, .. } = self {
                    *address = Some(new.clone());
                }
            }
            Event::Withdrawn {} => *self = Self::Withdrawn,
        }
    }
}

/// The form in which addresses are compared: what is the same mailbox is the same, however it was typed.
///
/// It is a storage format: unique keys are found by it for as long as the log lives.
fn email_key(email: &str) -> String {
    let (mailbox, host) = email.split_once('@').unwrap_or((email, ""));
    format!("{}@{}", text::caseless(mailbox), text::host(host))
}

/// The longest address, in bytes.
const MAX_EMAIL: usize = 254;

fn valid_email(email: &str) -> Result<String, Invalid> {
    // Not even white space around it makes it longer than the published schema has it.
    let fits = email.chars().count() <= MAX_EMAIL;
    let email = email.trim();
    let plausible = fits
        && email.len() <= MAX_EMAIL
        && !email
            .chars()
            .any(|c| c.is_whitespace() || text::is_unseen(c))
        && email.split_once('@').is_some_and(|(mailbox, host)| {
            let host = text::host(host);
            !mailbox.is_empty() && !host.contains('@') && host.split('.').all(|l| !l.is_empty())
        });
    if plausible {
        return Ok(email.to_owned());
    }
    let must =
        "an e-mail address of at most 254 bytes, with one @ and without invisible characters";
    Err(Invalid::new("invalid_email", must))
}

fn valid_address(address: &str) -> Result<String, Invalid> {
    rules::lines("invalid_address", address, 1..=500)
}

/// The reason why a member refuses a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, aggregate::Rejection)]
pub enum Rejection {
    /// Only staff may do that.
    #[error("only staff may do that")]
    #[rejection(scope = rules::STAFF)]
    StaffOnly,
    /// Nobody has registered under this id.
    #[error("there is no such member")]
    #[refuses(except(Register))]
    NotFound,
    /// The id is taken by a member.
    #[error("the member is registered already")]
    #[refuses(Register)]
    AlreadyRegistered,
    /// The member left.
    #[error("the member has withdrawn")]
    Withdrawn,
    /// A field is out of bounds.
    #[error(transparent)]
    #[refuses(Register, codes("invalid_name", "invalid_email", "invalid_address"))]
    #[refuses(ChangeAddress, codes("invalid_address"))]
    Invalid(#[from] Invalid),
}

#[cfg(test)]
mod tests;
