//! The subjects that each user of NATS may publish and subscribe: one table for everybody who connects.
//!
//! `headwater nats-config` writes it as a server's configuration, the section "Permissions" of
//! `nats/SUBJECTS.md` is it, and the tests walk it on a real server. Nobody has more than what their part takes:
//! what NATS lets through is all that the replicas take on trust of each other.

mod config;
mod files;

pub use config::{User, render};
pub use files::{UserFiles, create_private, make_private_folder};

use Party::{Client, Command, Gateway, Operator, Process, Projector};
use std::fmt::Write;

/// A user of NATS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A replica that decides commands.
    Command,
    /// A replica that keeps the views' documents.
    Projector,
    /// A replica that serves HTTP, and queries.
    Gateway,
    /// A replica that runs processes.
    Process,
    /// The user of `headwater topology`, `views`, `parked` and `events`.
    Operator,
    /// A caller from outside: a template, which places orders and reads products and orders.
    Client,
}

impl Party {
    /// All of them, as they are shown.
    pub const ALL: [Self; 6] = [Command, Projector, Gateway, Process, Operator, Client];

    /// The name of the user.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Command => "command",
            Projector => "projector",
            Gateway => "gateway",
            Process => "process",
            Operator => "operator",
            Client => "client",
        }
    }
}

/// Some subjects, and who may do what with them.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The subjects, as NATS writes them.
    pub subject: &'static str,
    /// The users that may publish there.
    pub publish: &'static [Party],
    /// The users that may subscribe there.
    pub subscribe: &'static [Party],
}

const NOBODY: &[Party] = &[];
const REPLICAS: &[Party] = &[Command, Projector, Gateway, Process];
/// Those that answer somebody.
const ANSWER: &[Party] = &[Command, Projector, Gateway];

const fn rule(
    subject: &'static str,
    publish: &'static [Party],
    subscribe: &'static [Party],
) -> Rule {
    Rule {
        subject,
        publish,
        subscribe,
    }
}

/// The place where the client of the template takes its answers: what `--inbox-prefix` tells the replicas.
pub const CLIENT_INBOX: &str = "_INBOX_client";

/// The table.
pub const TABLE: &[Rule] = &[
    // What clients ask.
    rule("cmd.>", &[Command, Gateway, Process], &[Command]),
    rule("cmd.order.*.place", &[Client], NOBODY),
    rule("cmd.order.*.cancel", &[Client], NOBODY),
    // Many in one request. To whom one kind of aggregate is open here, all of its commands are: nobody by default.
    rule("cmds.*", NOBODY, &[Command]),
    // A replica with documents answers queries, whether or not it serves HTTP.
    rule("qry.>", NOBODY, &[Projector, Gateway]),
    rule("qry.product", &[Client], NOBODY),
    rule("qry.product.*", &[Client], NOBODY),
    rule("qry.order", &[Client], NOBODY),
    rule("qry.order.*", &[Client], NOBODY),
    rule("$SRV.>", &[Operator, Client], ANSWER),
    // Answers. A client has a prefix of its own, or it could read those of others.
    rule(
        "_INBOX.>",
        REPLICAS,
        &[Command, Projector, Gateway, Process, Operator],
    ),
    rule("_INBOX_client.>", ANSWER, &[Client]),
    // Between replicas. Here it is taken on trust who gives a command.
    rule("own.>", &[Command, Gateway, Process], &[Command]),
    rule("member.*", REPLICAS, REPLICAS),
    rule("applied.*", &[Projector], &[Projector, Gateway]),
    // For operators.
    rule("ctl.projector.>", &[Gateway, Operator], &[Projector]),
    rule("ctl.process.>", &[Gateway, Operator], &[Process]),
    rule("ctl.replica.>", &[Gateway], &[Command, Gateway]),
    // What is told of process instances, to who may read it, and to callers who wait for their own.
    rule("prc.>", &[Command, Gateway, Operator], &[Process]),
    // The log.
    rule("evt.>", &[Command, Operator], NOBODY),
    rule("claim.>", &[Command], NOBODY),
    rule("log.>", &[Command], NOBODY),
    rule("log.excluded.>", &[Operator], NOBODY),
    rule("log.process.*", &[Process], NOBODY),
    rule("log.unplaced.>", &[Process], NOBODY),
    rule("$KV.snapshots.>", &[Command], NOBODY),
    // The alarms of processes. What is due comes from the server.
    rule("sched.>", &[Process], NOBODY),
    rule("armed.*", &[Process], NOBODY),
    // JetStream's own.
    rule(
        "$JS.API.INFO",
        &[Command, Projector, Gateway, Process, Operator],
        NOBODY,
    ),
    rule(
        "$JS.API.STREAM.INFO.*",
        &[Command, Projector, Gateway, Process, Operator],
        NOBODY,
    ),
    rule("$JS.API.STREAM.CREATE.*", &[Operator], NOBODY),
    rule("$JS.API.STREAM.UPDATE.*", &[Operator], NOBODY),
    rule(
        "$JS.API.STREAM.MSG.GET.EVENTS",
        &[Command, Projector, Gateway, Process, Operator],
        NOBODY,
    ),
    rule(
        "$JS.API.DIRECT.GET.EVENTS",
        &[Command, Projector, Gateway, Process, Operator],
        NOBODY,
    ),
    rule(
        "$JS.API.DIRECT.GET.EVENTS.>",
        &[Command, Projector, Gateway, Process, Operator],
        NOBODY,
    ),
    rule(
        "$JS.API.DIRECT.GET.KV_snapshots.>",
        &[Command, Gateway],
        NOBODY,
    ),
    rule(
        "$JS.API.CONSUMER.CREATE.EVENTS.>",
        &[Projector, Process, Operator],
        NOBODY,
    ),
    rule(
        "$JS.API.CONSUMER.INFO.EVENTS.>",
        &[Projector, Process, Operator],
        NOBODY,
    ),
    rule(
        "$JS.API.CONSUMER.RESET.EVENTS.>",
        &[Projector, Process, Operator],
        NOBODY,
    ),
    rule(
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS.>",
        &[Projector, Process, Operator],
        NOBODY,
    ),
    rule(
        "$JS.API.CONSUMER.DELETE.EVENTS.>",
        &[Projector, Process, Operator],
        NOBODY,
    ),
    rule("$JS.API.CONSUMER.LIST.EVENTS", &[Operator], NOBODY),
    // Copies of the log: a stream that is there cannot be restored over.
    rule("$JS.API.STREAM.SNAPSHOT.EVENTS", &[Operator], NOBODY),
    rule("$JS.SNAPSHOT.ACK.EVENTS.>", &[Operator], NOBODY),
    rule("$JS.API.STREAM.RESTORE.EVENTS", &[Operator], NOBODY),
    rule("$JS.SNAPSHOT.RESTORE.EVENTS.>", &[Operator], NOBODY),
    rule("$JS.API.STREAM.MSG.GET.DEADLINES", &[Process], NOBODY),
    rule("$JS.API.STREAM.MSG.DELETE.DEADLINES", &[Process], NOBODY),
    rule("$JS.API.STREAM.PURGE.DEADLINES", &[Process], NOBODY),
    rule("$JS.API.CONSUMER.CREATE.DEADLINES.>", &[Process], NOBODY),
    rule("$JS.API.CONSUMER.INFO.DEADLINES.>", &[Process], NOBODY),
    rule("$JS.API.CONSUMER.MSG.NEXT.DEADLINES.>", &[Process], NOBODY),
    rule("$JS.API.CONSUMER.DELETE.DEADLINES.>", &[Process], NOBODY),
    // With a domain and an account, or without: both forms of acknowledgements (ADR-15).
    rule("$JS.ACK.EVENTS.>", &[Projector, Process, Operator], NOBODY),
    rule(
        "$JS.ACK.*.*.EVENTS.>",
        &[Projector, Process, Operator],
        NOBODY,
    ),
    rule("$JS.ACK.DEADLINES.>", &[Process], NOBODY),
    rule("$JS.ACK.*.*.DEADLINES.>", &[Process], NOBODY),
    rule("$JS.EVENT.ADVISORY.STREAM.*.EVENTS", NOBODY, REPLICAS),
];

/// The permissions on a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doing {
    /// To send there.
    Publish,
    /// To receive what is sent there.
    Subscribe,
}

/// Returns whether one of these may do something with a subject, which may have wildcards.
#[must_use]
pub fn allows(parties: &[Party], doing: Doing, subject: &str) -> bool {
    subjects(parties, doing).any(|pattern| covers(pattern, subject))
}

/// The subjects with which one of these may do something.
pub fn subjects(parties: &[Party], doing: Doing) -> impl Iterator<Item = &'static str> {
    let allowed = move |rule: &&Rule| {
        let allowed = match doing {
            Doing::Publish => rule.publish,
            Doing::Subscribe => rule.subscribe,
        };
        allowed.iter().any(|party| parties.contains(party))
    };
    TABLE.iter().filter(allowed).map(|rule| rule.subject)
}

/// Returns whether all that a subject stands for is covered by a pattern.
fn covers(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(token)) if token != ">" => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// The table as `nats/SUBJECTS.md` has it.
#[must_use]
pub fn as_markdown() -> String {
    let mut text = String::from("| subject | publish | subscribe |\n|---|---|---|\n");
    let names = |parties: &[Party]| {
        let names: Vec<_> = parties.iter().map(|party| party.name()).collect();
        names.join(", ")
    };
    for rule in TABLE {
        let (publish, subscribe) = (names(rule.publish), names(rule.subscribe));
        writeln!(text, "| `{}` | {publish} | {subscribe} |", rule.subject)
            .expect("a string takes all that is written");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subjects_that_are_documented_are_these() {
        let documented = include_str!("../nats/SUBJECTS.md");
        assert!(
            documented.contains(&as_markdown()),
            "write this:\n{}",
            as_markdown()
        );
    }

    #[test]
    fn a_pattern_covers_what_it_stands_for() {
        for (pattern, subject, covered) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.b", "a", false),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a.*", true),
            ("a.*", "a.>", false),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a.>", true),
            ("a.>", "a", false),
            ("a.*.c", "a.b.c", true),
        ] {
            assert_eq!(covers(pattern, subject), covered, "{pattern} {subject}");
        }
    }

    /// Rules that hold whatever else the table comes to say.
    #[test]
    fn nobody_from_outside_writes_what_is_believed() {
        for subject in [
            "evt.order.o-1",
            "claim.member_email.x",
            "log.secret",
            "$KV.snapshots.order.o-1",
            "own.r1.order.o-1.place",
            "own.r1.group",
            "cmds.order",
            "member.r1",
            "applied.order",
            "ctl.projector.all.all.rebuild",
            "ctl.replica.r1.cancel",
            "_INBOX.a.b",
            "$JS.API.STREAM.DELETE.EVENTS",
            "$JS.API.STREAM.PURGE.EVENTS",
        ] {
            assert!(!allows(&[Client], Doing::Publish, subject), "{subject}");
        }
        for subject in ["_INBOX.>", "cmd.>", "own.>", "evt.>", ">", "_INBOX_client"] {
            assert!(!allows(&[Client], Doing::Subscribe, subject), "{subject}");
        }
        for party in [Projector, Gateway, Process] {
            assert!(
                !allows(&[party], Doing::Publish, "evt.order.o-1"),
                "{party:?}"
            );
        }
        for subject in [
            "$JS.API.STREAM.DELETE.EVENTS",
            "$JS.API.STREAM.PURGE.EVENTS",
        ] {
            assert!(!allows(&Party::ALL, Doing::Publish, subject), "{subject}");
        }
    }
}
