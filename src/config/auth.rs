//! The flags of who asks, and what they may.

use crate::access::{Access, AccessOptions, KeySource, Limits};
use clap::Args;
use std::{net::SocketAddr, num::NonZeroU32, time::Duration};

/// Callers, and what they may do.
#[derive(Debug, Clone, Args)]
pub struct AuthConfig {
    /// The keys that sign tokens, as a JWK set: a file, or an https address. With it, every command and
    /// every query takes a token with the scope for it
    #[arg(long, env = "HEADWATER_AUTH_JWKS", value_parser = KeySource::read)]
    pub auth_jwks: Option<KeySource>,
    /// The issuer of the tokens (iss); whoever has such a key unless given
    #[arg(long, env = "HEADWATER_AUTH_ISSUER", requires = "auth_jwks")]
    pub auth_issuer: Option<String>,
    /// For whom the tokens are (aud); for anybody unless given
    #[arg(long, env = "HEADWATER_AUTH_AUDIENCE", requires = "auth_jwks")]
    pub auth_audience: Option<String>,
    /// By how much the issuer's clock and this one may differ, in seconds
    #[arg(long, env = "HEADWATER_AUTH_LEEWAY_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=300))]
    pub auth_leeway_seconds: u64,
    /// The scopes of a caller who shows no token, such as qry:product, separated by commas
    #[arg(long, env = "HEADWATER_ANONYMOUS_SCOPES", value_delimiter = ',', value_parser = scope)]
    pub anonymous_scopes: Vec<String>,
    /// The number of requests a second that are taken of one caller, and at once, known by the token or else by the
    /// address; further ones are answered 429. As many as they like unless given
    // What is right depends on what a caller is: a shopper, or a proxy with many behind it.
    #[arg(long, env = "HEADWATER_MAX_REQUESTS_PER_SECOND")]
    pub max_requests_per_second: Option<NonZeroU32>,
    /// The number of requests of one caller that may be under way at once, live streams among them; further ones
    /// are answered 429. As many as they like unless given
    #[arg(long, env = "HEADWATER_MAX_REQUESTS_UNDER_WAY")]
    pub max_requests_under_way: Option<NonZeroU32>,
    /// Say that everybody who reaches --http-addr may do everything
    #[arg(long, env = "HEADWATER_INSECURE", conflicts_with_all = ["auth_jwks", "anonymous_scopes"])]
    pub insecure: bool,
}

impl AuthConfig {
    /// Finds out who asks, for a replica that serves HTTP at these addresses, each with the flag that says so.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the keys, or that nothing is said of who may do what where others than
    /// this machine can ask.
    pub fn access(
        &self,
        served: impl IntoIterator<Item = (&'static str, SocketAddr)>,
    ) -> Result<Access, String> {
        if self.auth_jwks.is_none() && self.anonymous_scopes.is_empty() {
            let beyond = |(_, address): &(_, SocketAddr)| !address.ip().is_loopback();
            return match served.into_iter().find(beyond) {
                Some((flag, address)) if !self.insecure => Err(format!(
                    "{flag} {address}: whoever reaches it could do everything; say who may do what with --auth-jwks, or that this is meant with --insecure"
                )),
                _ => Ok(Access::open().limited(self.limits())),
            };
        }
        if self.auth_jwks.is_some() && self.auth_audience.is_none() {
            tracing::warn!("--auth-audience is not given: tokens for other services are taken too");
        }
        let access = Access::guarded(AccessOptions {
            keys: self.auth_jwks.clone().unwrap_or(KeySource::None),
            issuer: self.auth_issuer.clone(),
            audience: self.auth_audience.clone(),
            leeway: Duration::from_secs(self.auth_leeway_seconds),
            anonymous: self.anonymous_scopes.clone(),
        });
        let access = access.map_err(|reason| format!("--auth-jwks {reason}"))?;
        Ok(access.limited(self.limits()))
    }

    /// Returns how much each caller may ask for.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits::new(self.max_requests_per_second, self.max_requests_under_way)
    }
}

/// Reads a scope.
pub(super) fn scope(text: &str) -> Result<String, String> {
    let text = text.trim();
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => {
            Err("a scope is visible ASCII without spaces; commas stand between two".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        auth: AuthConfig,
    }

    fn access(http: &str, flags: &[&str]) -> Result<Access, String> {
        let flags = std::iter::once(&"test").chain(flags);
        let flags = Flags::try_parse_from(flags).map_err(|error| error.to_string())?;
        flags.auth.access([("--http-addr", http.parse().unwrap())])
    }

    #[test]
    fn what_operators_are_served_at_is_looked_at_too() {
        let flags = Flags::try_parse_from(["test"]).unwrap();
        let here = ("--http-addr", "127.0.0.1:1".parse().unwrap());
        let beyond = ("--admin-addr", "0.0.0.0:1".parse().unwrap());
        let error = flags.auth.access([here, beyond]).unwrap_err();
        assert!(error.starts_with("--admin-addr 0.0.0.0:1"), "{error}");
        assert!(flags.auth.access([here, here]).unwrap().is_open());
    }

    #[test]
    fn what_others_can_reach_is_open_only_if_that_is_meant() {
        for here in ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1"] {
            assert!(access(here, &[]).unwrap().is_open(), "{here}");
        }
        for beyond in [
            "0.0.0.0:1",
            "[::]:1",
            "192.168.0.1:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            let error = access(beyond, &[]).unwrap_err();
            assert!(
                error.contains("--auth-jwks") && error.contains("--insecure"),
                "{error}"
            );
            assert!(
                access(beyond, &["--insecure"]).unwrap().is_open(),
                "{beyond}"
            );
            let closed = access(beyond, &["--anonymous-scopes", "qry:*"]).unwrap();
            assert!(!closed.is_open(), "{beyond}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for wrong in [
            &["--auth-jwks", "nowhere.json"][..],
            &["--auth-jwks", "http://issuer.example/keys"],
            &["--auth-issuer", "a"],
            &["--auth-audience", "a"],
            &["--insecure", "--anonymous-scopes", "qry:*"],
            &["--anonymous-scopes", "qry:* cmd:*"],
            &["--anonymous-scopes", ""],
            &["--auth-leeway-seconds", "301"],
        ] {
            assert!(access("127.0.0.1:1", wrong).is_err(), "{wrong:?}");
        }
    }
}
