//! The subjects to which answers may go.

use std::str::FromStr;

/// The place where clients take answers unless they are told otherwise; the replicas and the command line do.
const USUAL: &str = "_INBOX";
/// The prefix that a NATS server puts in the place of an inbox of another account. It takes no request of a client
/// that names such a subject itself, and publishes the answer in the other account, with the rights of
/// its export.
const OTHER_ACCOUNTS: &str = "_R_";
/// The first tokens of what the system itself reads or stores. An answer there would be a commit, a
/// command or a word between replicas.
const OWN: [&str; 12] = [
    "evt", "claim", "cmd", "cmds", "own", "qry", "member", "applied", "ctl", "log", "sched", "due",
];

/// The beginning of the inboxes of some clients, one or more whole tokens: what they give their NATS
/// library as its inbox prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxPrefix(String);

impl FromStr for InboxPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |token: &str| {
            let sign = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            !token.is_empty() && token.bytes().all(sign)
        };
        if text.len() > 128 || !text.split('.').all(plain) {
            return Err(
                "an inbox prefix is tokens of A-Z a-z 0-9 _ -, joined by full stops".into(),
            );
        }
        let first = text.split('.').next().unwrap_or_default();
        if OWN.contains(&first) {
            return Err(format!("{first} is a subject of the system itself"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The inboxes to which answers may go: `_INBOX.…`, and those of further prefixes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inboxes(Vec<InboxPrefix>);

impl Inboxes {
    /// The usual inboxes, and those with these prefixes.
    #[must_use]
    pub fn with(prefixes: impl IntoIterator<Item = InboxPrefix>) -> Self {
        Self(prefixes.into_iter().collect())
    }

    /// Returns whether a reply subject is an inbox.
    #[must_use]
    pub fn have(&self, reply: &str) -> bool {
        let begins = |prefix: &str| {
            let rest = reply.strip_prefix(prefix);
            rest.and_then(|rest| rest.strip_prefix('.'))
                .is_some_and(|rest| !rest.is_empty())
        };
        begins(USUAL)
            || begins(OTHER_ACCOUNTS)
            || self.0.iter().any(|InboxPrefix(prefix)| begins(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_is_told_by_whole_tokens() {
        let prefixes = ["shop.answers", "_INBOX_shop"].map(|text| text.parse().unwrap());
        let inboxes = Inboxes::with(prefixes);
        for inbox in [
            "_INBOX.a",
            "_INBOX.a.b",
            "_R_.a",
            "shop.answers.1",
            "_INBOX_shop.a.b",
        ] {
            assert!(inboxes.have(inbox), "{inbox}");
        }
        for other in [
            "",
            "_INBOX",
            "_INBOX.",
            "_INBOXES.a",
            "_inbox.a",
            "_R_",
            "_GR_.a.b.evt.order.o-1",
            "shop.a",
            "shop.answers",
            "shop.answersx.1",
            "evt.order.o-1",
            "claim.x.y",
            "cmd._INBOX.a",
            "$KV.snapshots.order.o-1",
            "$JS.API.STREAM.DELETE.EVENTS",
        ] {
            assert!(!inboxes.have(other), "{other}");
        }
        assert!(!Inboxes::default().have("shop.answers.1"));
    }

    #[test]
    fn a_prefix_is_plain_and_none_of_the_system_s_own() {
        for right in ["_INBOX", "_INBOX_shop", "shop.answers", "a-1"] {
            assert!(right.parse::<InboxPrefix>().is_ok(), "{right}");
        }
        for wrong in [
            "", ".", "a.", ".a", "a..b", "*", "a.>", "a b", "$JS", "$KV.x", "사과",
        ] {
            assert!(wrong.parse::<InboxPrefix>().is_err(), "{wrong}");
        }
        for own in OWN {
            for wrong in [own.to_owned(), format!("{own}.x")] {
                assert!(wrong.parse::<InboxPrefix>().is_err(), "{wrong}");
            }
        }
    }
}
