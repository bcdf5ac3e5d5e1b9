//! A token taken apart: a JWT (RFC 7519) in the compact form (RFC 7515), and what it has to say.
//!
//! Everything is read strictly. What a date is is a number, what a scope is is a text; nothing is taken for
//! something that it is not.

use super::Identified;
use crate::caller::Caller;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde::{Deserialize, de::IgnoredAny};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest subject, in bytes.
const LONGEST_SUBJECT: usize = 256;
/// The most scopes of a token.
const MOST_SCOPES: usize = 256;

/// The time, in seconds of Unix time.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// A token in its parts, of which nothing is believed yet.
pub(super) struct Signed<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    /// The signed part.
    pub(super) message: &'a [u8],
    pub(super) signature: &'a str,
    /// The claims, encoded.
    pub(super) claims: &'a str,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

impl<'a> Signed<'a> {
    pub(super) fn read(token: &'a str) -> Result<Self, &'static str> {
        let no_token = "it is no JWT";
        let (message, signature) = token.rsplit_once('.').ok_or(no_token)?;
        let (header, claims) = message.split_once('.').ok_or(no_token)?;
        if claims.contains('.') {
            return Err(no_token);
        }
        let header: Header = decoded(header).ok_or(no_token)?;
        if header.crit.is_some() {
            // What has to be understood and is not (RFC 7515, 4.1.11).
            return Err("it has a critical header that is not understood");
        }
        let algorithm = header.alg.parse();
        Ok(Self {
            // `none` is no algorithm here.
            algorithm: algorithm.map_err(|_| "its algorithm is not taken")?,
            key_id: header.kid,
            message: message.as_bytes(),
            signature,
            claims,
        })
    }
}

fn decoded<T: for<'a> Deserialize<'a>>(part: &str) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The claims of a token that are read.
#[derive(Deserialize)]
pub(super) struct Claims {
    #[serde(default)]
    iss: Option<String>,
    #[serde(default)]
    sub: Option<String>,
    #[serde(default)]
    aud: Option<Texts>,
    #[serde(default)]
    exp: Option<f64>,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    scope: Option<Texts>,
    #[serde(default)]
    scp: Option<Texts>,
}

/// One text or several, as issuers differ.
#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Several(Vec<String>),
}

impl Texts {
    fn each(&self) -> impl Iterator<Item = &str> {
        let all = match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Several(texts) => texts,
        };
        all.iter().map(String::as_str)
    }
}

impl Claims {
    pub(super) fn read(part: &str) -> Result<Self, &'static str> {
        decoded(part).ok_or("its claims are not of the right form")
    }

    /// Looks whether it is of the right issuer, for the right audience, and of now.
    pub(super) fn check(
        &self,
        issuer: Option<&str>,
        audience: Option<&str>,
        leeway: Duration,
        now: i64,
    ) -> Result<(), &'static str> {
        if issuer.is_some() && self.iss.as_deref() != issuer {
            return Err("it is of another issuer");
        }
        if let Some(audience) = audience
            && !self
                .aud
                .iter()
                .flat_map(Texts::each)
                .any(|one| one == audience)
        {
            return Err("it is for another audience");
        }
        let (now, leeway) = (now as f64, leeway.as_secs() as f64);
        let expires = self.exp.ok_or("it does not say when it ends")?;
        if !expires.is_finite() || now >= expires + leeway {
            return Err("it has ended");
        }
        if self
            .nbf
            .is_some_and(|from| !from.is_finite() || now + leeway < from)
        {
            return Err("it has not begun");
        }
        Ok(())
    }

    /// Returns who it is about.
    pub(super) fn identified(&self, leeway: Duration) -> Result<Identified, &'static str> {
        let subject = self.sub.as_deref();
        let is_name = |name: &str| {
            (1..=LONGEST_SUBJECT).contains(&name.len()) && !name.chars().any(char::is_control)
        };
        if subject.is_some_and(|subject| !is_name(subject)) {
            return Err("its subject is not of the right form");
        }
        let scopes = self.scope.iter().chain(&self.scp).flat_map(Texts::each);
        let scopes = scopes.flat_map(str::split_ascii_whitespace);
        let scopes: Vec<&str> = scopes.take(MOST_SCOPES + 1).collect();
        if scopes.len() > MOST_SCOPES {
            return Err("it has too many scopes");
        }
        // The last whole second in which `now < exp + leeway`.
        let end = self.exp.unwrap_or_default() + leeway.as_secs() as f64;
        let until = end.ceil() as i64 - 1;
        Ok(Identified::told(Caller::new(subject, scopes), Some(until)))
    }
}
