//! The table as a configuration of nats-server.

use super::{Doing, Party, subjects};
use std::fmt::Write;

/// A user of NATS.
#[derive(Debug, Clone)]
pub struct User {
    /// Its name, which is only a comment: NATS knows it by its key.
    pub name: String,
    /// The parts that it has.
    pub parties: Vec<Party>,
    /// Its public key, `U…`.
    pub key: String,
}

impl User {
    /// The users that there are, and the parts of each: one a party, and one for replicas of all roles.
    #[must_use]
    pub fn names() -> Vec<(String, Vec<Party>)> {
        let replica = vec![
            Party::Command,
            Party::Projector,
            Party::Gateway,
            Party::Process,
        ];
        let one = |party: Party| (party.name().to_owned(), vec![party]);
        let all = Party::ALL.into_iter().map(one);
        std::iter::once(("replica".to_owned(), replica))
            .chain(all)
            .collect()
    }
}

/// Returns what a server's configuration includes: an account of its own, and its users.
#[must_use]
pub fn render(users: &[User]) -> String {
    let mut text = String::from(
        "# Written by `headwater nats-config`; include it in the configuration of nats-server. Each user may do what\n\
         # its part takes, and nothing else; the seeds are in the files beside this one.\n\
         accounts {\n  HEADWATER {\n    jetstream: enabled\n    users: [\n",
    );
    for user in users {
        let list = |doing| {
            let subjects: Vec<_> = subjects(&user.parties, doing)
                .map(|subject| format!("            \"{subject}\""))
                .collect();
            subjects.join("\n")
        };
        let (publish, subscribe) = (list(Doing::Publish), list(Doing::Subscribe));
        write!(
            text,
            "      # {}\n      {{\n        nkey: {}\n        permissions {{\n          publish {{ allow: [\n{publish}\n          ] }}\n          \
             subscribe {{ allow: [\n{subscribe}\n          ] }}\n        }}\n      }}\n",
            user.name, user.key
        )
        .expect("a string takes all that is written");
    }
    text.push_str("    ]\n  }\n}\n");
    text
}
