//! Callers and what they may do, the same on both surfaces.
//!
//! A request says who asks by `Authorization: Bearer <JWT>`. A token is believed when one of the issuer's
//! keys has signed it ([`keys`]), and it is of the right issuer, for this service, and of now ([`token`]).
//! What was believed once is remembered until it ends ([`remembered`]), so that a request costs a hash.
//! Nothing is read or decoded of a request before it is known that its sender may send it, and no token
//! gets into a log line, a problem or a figure.

mod audit;
mod keys;
mod limits;
mod remembered;
mod signing;
mod token;

pub use audit::{AUDIT, refused_by_rule};
pub use keys::KeySource;
pub use limits::{Limits, UnderWay, network};
pub use signing::{Signer, TokenClaims};

use crate::{
    caller::{Action, Caller},
    problem::Problem,
    request_headers::RequestHeaders,
};
use keys::{Found, Keys};
use remembered::Remembered;
use std::{net::IpAddr, sync::Arc, time::Duration};
use token::{Claims, Signed};

/// The header that says who asks.
pub const AUTHORIZATION: &str = "Authorization";
/// The longest token, in bytes.
const LONGEST_TOKEN: usize = 8 * 1024;
/// The number of requests at once that wait for the keys of the issuer.
const WAITING: usize = 1_024;

/// The way in which callers are found out.
#[derive(Debug, Clone)]
pub struct AccessOptions {
    /// The place where the keys are that sign tokens.
    pub keys: KeySource,
    /// The issuer of tokens (`iss`); anybody with such a key unless given.
    pub issuer: Option<String>,
    /// For whom tokens are (`aud`); for anybody unless given.
    pub audience: Option<String>,
    /// By how much the clocks of the issuer and of this machine may differ.
    pub leeway: Duration,
    /// The scopes of who shows no token.
    pub anonymous: Vec<String>,
}

/// Finds out who asks, and holds each to how much they may ask for. Cheap to clone.
#[derive(Clone, Default)]
pub struct Access {
    guarded: Option<Arc<Guarded>>,
    limits: Limits,
}

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

/// A caller, and until when they are believed.
#[derive(Debug, Clone, Default)]
pub struct Identified {
    /// The caller.
    pub caller: Caller,
    /// The last second in which the token counts, in seconds of Unix time; `None` for good.
    pub until: Option<i64>,
    /// The address that the request comes from, where that is known.
    from: Option<IpAddr>,
    /// The request among those of the caller that are under way.
    under_way: Option<Arc<UnderWay>>,
}

impl Identified {
    /// A caller who was found out elsewhere, until this second; who showed no token with `None`.
    #[must_use]
    pub fn told(caller: Caller, until: Option<i64>) -> Self {
        Self {
            caller,
            until,
            ..Self::default()
        }
    }

    /// Takes the request out, for what goes on after this is dropped.
    #[must_use]
    pub fn under_way(&mut self) -> Option<Arc<UnderWay>> {
        self.under_way.take()
    }

    /// Returns who asks, if they may do this.
    ///
    /// # Errors
    ///
    /// Returns `unauthenticated` for who has not said who they are, `forbidden` for who has.
    pub fn may(self, action: Action<'_>) -> Result<Self, Problem> {
        self.check(action).map(|()| self)
    }

    /// Looks whether who asks may do this.
    ///
    /// # Errors
    ///
    /// As [`Identified::may`].
    pub fn check(&self, action: Action<'_>) -> Result<(), Problem> {
        if self.caller.may(action) {
            return Ok(());
        }
        // It has an end when it came with a token.
        let problem = match self.until {
            None => Problem::unauthenticated(),
            Some(_) => Problem::forbidden(action.to_string()),
        };
        audit::refused(self, Some(action), &problem);
        Err(problem)
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
            false => {
                let problem = Problem::unauthenticated();
                audit::refused(self, None, &problem);
                problem
            }
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

/// Everything that is known of a caller at once.
pub enum Identity {
    /// The caller, or the reason why they are refused.
    Known(Result<Identified, Problem>),
    /// The keys that are there do not suffice to tell.
    Unknown(Pending),
}

/// A token that is signed with a key which is not there yet.
pub struct Pending {
    access: Access,
    guarded: Arc<Guarded>,
    token: String,
    from: Option<IpAddr>,
}

impl Access {
    /// Everybody may everything.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// Only who shows a good token, and what nobody needs one for. Keys in a file are read at once.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the keys.
    pub fn guarded(options: AccessOptions) -> Result<Self, String> {
        let guarded = Guarded {
            keys: Keys::new(options.keys)?,
            issuer: options.issuer,
            audience: options.audience,
            leeway: options.leeway,
            anonymous: Caller::new(None, options.anonymous),
            remembered: Remembered::new(),
            waiting: tokio::sync::Semaphore::new(WAITING),
        };
        Ok(Self {
            guarded: Some(Arc::new(guarded)),
            limits: Limits::default(),
        })
    }

    /// Holds each caller to how much they may ask for.
    #[must_use]
    pub fn limited(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Returns whether everybody may everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.guarded.is_none()
    }

    /// Returns who shows no token.
    #[must_use]
    pub fn anonymous(&self) -> Caller {
        self.guarded
            .as_ref()
            .map_or_else(Caller::default, |guarded| guarded.anonymous.clone())
    }

    /// Takes one more command of a request with many, each of which counts as a request of its own: it is under way
    /// until what is returned is dropped.
    ///
    /// # Errors
    ///
    /// Returns `overloaded` (429) where it is one too many, with when to come again.
    pub fn admit_another(&self, who: &Identified) -> Result<Option<UnderWay>, Problem> {
        self.limits.admit(&who.caller, who.from)
    }

    /// Finds out who asks from this address, without waiting for anything, and whether it is not too much.
    pub fn identify(&self, headers: &impl RequestHeaders, from: Option<IpAddr>) -> Identity {
        let Some(guarded) = &self.guarded else {
            return Identity::Known(self.admitted(Ok(Identified::default()), from));
        };
        let known = match bearer(headers) {
            Ok(Some(token)) => match guarded.verify(token) {
                Verified::Is(identified) => Ok(identified),
                Verified::Wrong(problem) => Err(problem),
                Verified::KeyUnknown => {
                    return Identity::Unknown(Pending {
                        access: self.clone(),
                        guarded: Arc::clone(guarded),
                        token: token.to_owned(),
                        from,
                    });
                }
            },
            Ok(None) => Ok(Identified::told(guarded.anonymous.clone(), None)),
            Err(problem) => Err(problem),
        };
        Identity::Known(self.admitted(known, from))
    }

    /// Takes a request of who was found to ask, or was not, if it is not one too many.
    fn admitted(
        &self,
        known: Result<Identified, Problem>,
        from: Option<IpAddr>,
    ) -> Result<Identified, Problem> {
        let admit = |caller: &Caller| self.limits.admit(caller, from);
        match known {
            Ok(who) => Ok(Identified {
                from,
                under_way: admit(&who.caller)?.map(Arc::new),
                ..who
            }),
            Err(problem) => {
                let nobody = Identified {
                    from,
                    ..Identified::default()
                };
                audit::refused(&nobody, None, &problem);
                // Whoever tries tokens is known by the address alone.
                admit(&nobody.caller).and(Err(problem))
            }
        }
    }

    /// As [`Access::identify`], and waits for the issuer's keys where those that are there do not suffice.
    ///
    /// # Errors
    ///
    /// Returns `malformed` where the header is given twice, `unauthenticated` where the token is not
    /// believed, `unavailable` where it cannot be told, `overloaded` where the caller asks for too much.
    pub async fn identified(
        &self,
        headers: &impl RequestHeaders,
        from: Option<IpAddr>,
    ) -> Result<Identified, Problem> {
        match self.identify(headers, from) {
            Identity::Known(known) => known,
            Identity::Unknown(pending) => Box::pin(pending.settle()).await,
        }
    }

    /// Keeps the keys fresh for as long as it is awaited.
    pub async fn keep(self) {
        if let Some(guarded) = self.guarded {
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
        let Self {
            access,
            guarded,
            token,
            from,
        } = self;
        // Made-up keys are asked for by somebody: until it is known by whom, by the address.
        let _asking = access.limits.admit(&Caller::default(), from)?;
        {
            let Ok(_waiting) = guarded.waiting.try_acquire() else {
                return Err(Problem::unavailable(
                    "too many requests wait for the issuer's keys",
                ));
            };
            guarded.keys.look_again().await;
        }
        let known = match guarded.verify(&token) {
            Verified::Is(identified) => Ok(identified),
            Verified::Wrong(problem) => Err(problem),
            Verified::KeyUnknown if guarded.keys.are_there() => Err(Problem::invalid_token(
                "it is signed with a key that is not known",
            )),
            Verified::KeyUnknown => Err(Problem::unavailable(
                "the keys of the issuer cannot be read now",
            )),
        };
        access.admitted(known, from)
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
