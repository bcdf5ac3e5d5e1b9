//! The flags of `headwater token`.

use crate::access::TokenClaims;
use clap::Args;
use jiff::SignedDuration;
use std::{path::PathBuf, time::Duration};

/// The longest that a token may count: a year, and a day more.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3_600);

/// `headwater token`.
#[derive(Debug, Clone, Args)]
pub struct TokenConfig {
    /// The file with the private key that signs it, in PEM: of Ed25519, of P-256 or P-384, or of RSA
    #[arg(long, env = "HEADWATER_SIGNING_KEY")]
    pub signing_key: PathBuf,
    /// Make the key where the file is not there, and write the key set that --auth-jwks takes beside it, as
    /// <file>.jwks.json
    #[arg(long, env = "HEADWATER_NEW_KEY")]
    pub new_key: bool,
    /// The name of the key in the issuer's set (kid), where it is not the thumbprint
    #[arg(long, env = "HEADWATER_KEY_ID")]
    pub key_id: Option<String>,
    /// Whom it is about (sub): in the mart, the member's id
    #[arg(long, env = "HEADWATER_SUBJECT")]
    pub subject: String,
    /// Their scopes, such as qry:product, separated by commas
    #[arg(long, env = "HEADWATER_SCOPES", value_delimiter = ',', value_parser = super::auth::scope)]
    pub scopes: Vec<String>,
    /// The time that it counts, such as 15m or 12h
    #[arg(long, env = "HEADWATER_LIFETIME", default_value = "1h", value_parser = lifetime)]
    pub lifetime: Duration,
    /// The issuer (iss)
    #[arg(long, env = "HEADWATER_AUTH_ISSUER")]
    pub auth_issuer: Option<String>,
    /// For whom it is (aud)
    #[arg(long, env = "HEADWATER_AUTH_AUDIENCE")]
    pub auth_audience: Option<String>,
}

impl TokenConfig {
    /// Returns what the token says.
    #[must_use]
    pub fn claims(&self) -> TokenClaims {
        TokenClaims {
            subject: self.subject.clone(),
            scopes: self.scopes.clone(),
            lifetime: self.lifetime,
            issuer: self.auth_issuer.clone(),
            audience: self.auth_audience.clone(),
        }
    }
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let wrong = "a time such as 15m or 12h, a second at least and a year at most";
    let read: SignedDuration = text.parse().map_err(|_| wrong.to_owned())?;
    let read = Duration::try_from(read).map_err(|_| wrong.to_owned())?;
    match (Duration::from_secs(1)..=LONGEST).contains(&read) {
        true => Ok(read),
        false => Err(wrong.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_bounded() {
        assert_eq!(lifetime("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(lifetime("12h"), Ok(Duration::from_secs(43_200)));
        for wrong in ["", "0s", "-1h", "400d", "10000h", "15", "1h1"] {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
    }
}
