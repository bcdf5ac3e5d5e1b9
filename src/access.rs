//! Who asks, and what they may, the same on both surfaces.
//!
//! A request says who asks by `Authorization: Bearer <JWT>`. A token is believed when one of the issuer's
//! keys has signed it ([`keys`]), and it is of the right issuer, for this service, and of now ([`token`]).
//! What was believed once is remembered until it ends ([`remembered`]), so that a request costs a hash.
//! Nothing is read or decoded of a request before it is known that its sender may send it, and no token
//! gets into a log line, a problem or a figure.

mod keys;
mod remembered;
mod token;

pub use keys::KeySource;

use crate::{
    caller::{Action, Caller},
    problem::Problem,
    request_headers::RequestHeaders,
};
use keys::{Found, Keys};
use remembered::Remembered;
use std::{sync::Arc, time::Duration};
use token::{Claims, Signed};

/// The header that says who asks.
pub const AUTHORIZATION: &str = "Authorization";
/// The longest token, in bytes.
const LONGEST_TOKEN: usize = 8 * 1024;
/// The number of requests at once that wait for the keys of the issuer.
const WAITING: usize = 1_024;

/// How it is found out who asks.
#[derive(Debug, Clone)]
pub struct AccessOptions {
    /// The place where the keys are that sign tokens.
    pub keys: KeySource,
    /// Who issues tokens (`iss`); anybody with such a key unless given.
    pub issuer: Option<String>,
    /// For whom tokens are (`aud`); for anybody unless given.
    pub audience: Option<String>,
    /// By how much the clocks of the issuer and of this machine may differ.
    pub leeway: Duration,
    /// The scopes of who shows no token.
    pub anonymous: Vec<String>,
}

/// Finds out who asks. Cheap to clone.
#[derive(Clone, Default)]
pub struct Access(Option<Arc<Guarded>>);

struct Guarded {
    keys: Keys,
    issuer: Option<String>,
    audience: Option<String>,
    leeway: Duration,
    anonymous: Caller,
    remembered: Remembered,
    waiting: tokio::sync::Semaphore,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_open() {
            "Access(open)"
        } else {
            "Access(guarded)"
        })
    }
}

/// Who asks, and until when that is so.
#[derive(Debug, Clone, Default)]
pub struct Identified {
    /// Who asks.
    pub caller: Caller,
    /// The last second in which the token counts, in seconds of Unix time; `None` for good.
    pub until: Option<i64>,
}

impl Identified {
    /// Returns who asks, if they may do this.
    ///
    /// # Errors
    ///
    /// Returns `unauthenticated` for who has not said who they are, `forbidden` for who has.
    pub fn may(self, action: Action<'_>) -> Result<Self, Problem> {
        if self.caller.may(action) {
            return Ok(self);
        }
        // It has an end when it came with a token.
        Err(match self.until {
            None => Problem::unauthenticated(),
            Some(_) => Problem::forbidden(action.to_string()),
        })
    }

    /// Returns whether the caller has said who they are, or need not.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.until.is_some() || self.caller.is_unrestricted()
    }

    /// Returns what to answer about something that is not there: who has not said who they are is told nothing of
    /// what is.
    #[must_use]
    pub fn refused(&self, problem: Problem) -> Problem {
        match self.is_known() {
            true => problem,
            false => Problem::unauthenticated(),
        }
    }

    /// Returns how long it is still so; `None` for good.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let until = self.until?;
        let left = until.saturating_add(1) - token::now();
        Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
    }
}

/// What is known at once of who asks.
pub enum Identity {
    /// Who it is, or why they are refused.
    Known(Result<Identified, Problem>),
    /// The keys that are there do not suffice to tell.
    Unknown(Pending),
}

/// A token that is signed with a key which is not there yet.
pub struct Pending {
    guarded: Arc<Guarded>,
    token: String,
}

impl Access {
    /// Everybody may everything.
    #[must_use]
    pub fn open() -> Self {
        Self(None)
    }

    /// Only who shows a good token, and what nobody needs one for. Keys in a file are read at once.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the keys.
    pub fn guarded(options: AccessOptions) -> Result<Self, String> {
        Ok(Self(Some(Arc::new(Guarded {
            keys: Keys::new(options.keys)?,
            issuer: options.issuer,
            audience: options.audience,
            leeway: options.leeway,
            anonymous: Caller::new(None, options.anonymous),
            remembered: Remembered::new(),
            waiting: tokio::sync::Semaphore::new(WAITING),
        }))))
    }

    /// Returns whether everybody may everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.is_none()
    }

    /// Returns who shows no token.
    #[must_use]
    pub fn anonymous(&self) -> Caller {
        self.0
            .as_ref()
            .map_or_else(Caller::default, |guarded| guarded.anonymous.clone())
    }

    /// Finds out who asks, without waiting for anything.
    pub fn identify(&self, headers: &impl RequestHeaders) -> Identity {
        let Some(guarded) = &self.0 else {
            return Identity::Known(Ok(Identified::default()));
        };
        let token = match bearer(headers) {
            Ok(Some(token)) => token,
            Ok(None) => {
                return Identity::Known(Ok(Identified {
                    caller: guarded.anonymous.clone(),
                    until: None,
                }));
            }
            Err(problem) => return Identity::Known(Err(problem)),
        };
        match guarded.verify(token) {
            Verified::Is(identified) => Identity::Known(Ok(identified)),
            Verified::Wrong(problem) => Identity::Known(Err(problem)),
            Verified::KeyUnknown => Identity::Unknown(Pending {
                guarded: Arc::clone(guarded),
                token: token.to_owned(),
            }),
        }
    }

    /// As [`Access::identify`], and waits for the issuer's keys where those that are there do not suffice.
    ///
    /// # Errors
    ///
    /// Returns `malformed` where the header is given twice, `unauthenticated` where the token is not
    /// believed, `unavailable` where it cannot be told.
    pub async fn identified(&self, headers: &impl RequestHeaders) -> Result<Identified, Problem> {
        match self.identify(headers) {
            Identity::Known(known) => known,
            Identity::Unknown(pending) => Box::pin(pending.settle()).await,
        }
    }

    /// Keeps the keys fresh for as long as it is awaited.
    pub async fn keep(self) {
        if let Some(guarded) = self.0 {
            guarded.keys.keep().await;
        }
    }
}

impl Pending {
    /// Asks for the keys once more, unless that was done a moment ago, and tells who asks.
    ///
    /// # Errors
    ///
    /// As [`Access::identified`].
    pub async fn settle(self) -> Result<Identified, Problem> {
        let Self { guarded, token } = self;
        {
            let Ok(_waiting) = guarded.waiting.try_acquire() else {
                return Err(Problem::unavailable(
                    "too many requests wait for the issuer's keys",
                ));
            };
            guarded.keys.look_again().await;
        }
        match guarded.verify(&token) {
            Verified::Is(identified) => Ok(identified),
            Verified::Wrong(problem) => Err(problem),
            Verified::KeyUnknown if guarded.keys.are_there() => Err(Problem::invalid_token(
                "it is signed with a key that is not known",
            )),
            Verified::KeyUnknown => Err(Problem::unavailable(
                "the keys of the issuer cannot be read now",
            )),
        }
    }
}

enum Verified {
    Is(Identified),
    Wrong(Problem),
    KeyUnknown,
}

impl Guarded {
    fn verify(&self, token: &str) -> Verified {
        if token.len() > LONGEST_TOKEN {
            return Verified::Wrong(Problem::invalid_token("it is too long"));
        }
        let now = token::now();
        let set = self.keys.number();
        if let Some(known) = self.remembered.find(token, set, now) {
            return Verified::Is(known);
        }
        let wrong = |reason: &str| Verified::Wrong(Problem::invalid_token(reason));
        let signed = match Signed::read(token) {
            Ok(signed) => signed,
            Err(reason) => return wrong(reason),
        };
        // What is cheap comes first: who makes up tokens makes us ask the issuer for nothing.
        let claims = match Claims::read(signed.claims) {
            Ok(claims) => claims,
            Err(reason) => return wrong(reason),
        };
        let (issuer, audience) = (self.issuer.as_deref(), self.audience.as_deref());
        if let Err(reason) = claims.check(issuer, audience, self.leeway, now) {
            return wrong(reason);
        }
        match self.keys.verify(&signed) {
            Found::Verified => {}
            Found::Wrong => return wrong("its signature is wrong"),
            Found::Unknown => return Verified::KeyUnknown,
        }
        let identified = match claims.identified(self.leeway) {
            Ok(identified) => identified,
            Err(reason) => return wrong(reason),
        };
        self.remembered.put(token, set, &identified);
        Verified::Is(identified)
    }
}

/// The token of a request; `None` when it says nothing of who asks.
fn bearer(headers: &impl RequestHeaders) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.single(AUTHORIZATION)? else {
        return Ok(None);
    };
    let (scheme, token) = value.trim().split_once(' ').unwrap_or((value, ""));
    let token = token.trim_start();
    match scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty() {
        true => Ok(Some(token)),
        false => Err(Problem::invalid_token(
            "Authorization is Bearer and a token",
        )),
    }
}

#[cfg(test)]
mod tests;
