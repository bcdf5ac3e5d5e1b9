//! The place of JetStream's API: in another domain, or under a prefix that an account imports.

use async_nats::{Client, jetstream};
use std::{fmt, sync::Arc};

const DEFAULT: &str = "$JS.API";

/// The prefix of JetStream's API. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiPrefix(Arc<str>);

impl Default for ApiPrefix {
    /// `$JS.API`: the JetStream of the server that is connected to, or of its cluster.
    fn default() -> Self {
        Self(DEFAULT.into())
    }
}

impl fmt::Display for ApiPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ApiPrefix {
    /// A prefix as it is written, such as `$JS.hub.API`.
    ///
    /// # Errors
    ///
    /// Returns what is wrong when it cannot begin a subject.
    pub fn new(prefix: &str) -> Result<Self, String> {
        if prefix.split('.').all(is_token) {
            Ok(Self(prefix.into()))
        } else {
            Err("not the beginning of a subject: tokens without white space, * and >, joined by dots".to_owned())
        }
    }

    /// The API of a JetStream domain, which a leaf node's clients reach as `$JS.<domain>.API`.
    ///
    /// # Errors
    ///
    /// Returns what is wrong when it is no domain.
    pub fn of_domain(domain: &str) -> Result<Self, String> {
        if is_token(domain) && !domain.contains('.') {
            Ok(Self(format!("$JS.{domain}.API").into()))
        } else {
            Err("not a domain: one token without white space, dots, * and >".to_owned())
        }
    }

    /// The subject of a request.
    #[must_use]
    pub fn subject(&self, request: &str) -> String {
        format!("{}.{request}", self.0)
    }

    /// The subject of a key of a bucket, to write it. Key-value subjects do not cross the border of a
    /// domain, but the API's do, and lead to them (nats-server, `generateJSMappingTable`).
    #[must_use]
    pub(super) fn key_subject(&self, subject: &str) -> String {
        match &*self.0 {
            DEFAULT => subject.to_owned(),
            _ => self.subject(subject),
        }
    }

    /// The client library's context.
    pub(super) fn context(&self, client: Client) -> jetstream::Context {
        match &*self.0 {
            DEFAULT => jetstream::new(client),
            prefix => jetstream::with_prefix(client, prefix),
        }
    }
}

fn is_token(token: &str) -> bool {
    !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || c == '*' || c == '>')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_and_a_prefix_lead_to_subjects() {
        let subject = |api: ApiPrefix| api.subject("STREAM.INFO.EVENTS");
        assert_eq!(subject(ApiPrefix::default()), "$JS.API.STREAM.INFO.EVENTS");
        let hub = ApiPrefix::of_domain("hub").unwrap();
        assert_eq!(hub.key_subject("$KV.b.k"), "$JS.hub.API.$KV.b.k");
        assert_eq!(subject(hub), "$JS.hub.API.STREAM.INFO.EVENTS");
        let other = ApiPrefix::new("JS.other").unwrap();
        assert_eq!(subject(other), "JS.other.STREAM.INFO.EVENTS");
        assert_eq!(ApiPrefix::default().key_subject("$KV.b.k"), "$KV.b.k");
    }

    #[test]
    fn what_is_no_beginning_of_a_subject_is_refused() {
        for wrong in ["", "a..b", "a.", "a b", "a.>", "*"] {
            assert!(ApiPrefix::new(wrong).is_err(), "{wrong:?}");
            assert!(ApiPrefix::of_domain(wrong).is_err(), "{wrong:?}");
        }
        assert!(ApiPrefix::of_domain("a.b").is_err());
    }
}
