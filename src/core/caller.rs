//! Callers, as the domain is told of them with a command or a query.
//!
//! The runtime finds out who it is; nothing here checks a signature or a date.

use std::{fmt, sync::Arc};

/// A caller and their scopes. Cheap to clone.
///
/// The default is the program itself, which may everything, and so may everybody where nobody is asked
/// who they are.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Caller {
    subject: Option<Arc<str>>,
    /// `None` for everything.
    scopes: Option<Arc<[Box<str>]>>,
}

impl fmt::Debug for Caller {
    /// Scopes alone: the subject may say something of a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.subject.as_ref().map(|_| "…");
        f.debug_struct("Caller")
            .field("subject", &named)
            .field("scopes", &self.scopes)
            .finish()
    }
}

impl Caller {
    /// A caller who is known by `subject`, and has these scopes alone.
    #[must_use]
    pub fn new(subject: Option<&str>, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let scopes = scopes.into_iter().map(|scope| scope.into().into());
        Self {
            subject: subject.map(Arc::from),
            scopes: Some(scopes.collect()),
        }
    }

    /// The name by which the caller is known; `None` when it is not.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// As [`Caller::subject`], to be kept.
    #[must_use]
    pub fn shared_subject(&self) -> Option<&Arc<str>> {
        self.subject.as_ref()
    }

    /// Returns whether everything is allowed.
    #[must_use]
    pub fn is_unrestricted(&self) -> bool {
        self.scopes.is_none()
    }

    /// The scopes; none where everything is allowed.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes
            .iter()
            .flat_map(|all| all.iter())
            .map(|one| &**one)
    }

    /// Returns whether the caller has this very scope. Who may everything has each.
    #[must_use]
    pub fn has(&self, scope: &str) -> bool {
        self.is_unrestricted() || self.scopes().any(|one| one == scope)
    }

    /// Returns whether the caller may do this.
    #[must_use]
    pub fn may(&self, action: Action<'_>) -> bool {
        self.is_unrestricted() || self.scopes().any(|scope| action.is_allowed_by(scope))
    }
}

/// Something that only some may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// To give a command.
    Command {
        /// The aggregate's name.
        aggregate: &'a str,
        /// The command's name.
        command: &'a str,
    },
    /// To give commands, one or another: each is asked for by itself too.
    SomeCommand,
    /// To read a view.
    Query {
        /// The view's name.
        view: &'a str,
    },
    /// To see how the service does.
    Inspect,
    /// To change how the service does.
    Operate,
}

impl Action<'_> {
    /// Returns whether this scope is enough.
    #[must_use]
    pub fn is_allowed_by(self, scope: &str) -> bool {
        match self {
            Self::Command { aggregate, command } => {
                scope.strip_prefix("cmd:").is_some_and(|rest| {
                    rest == "*"
                        || rest.split_once(':').is_some_and(|(of, which)| {
                            of == aggregate && (which == "*" || which == command)
                        })
                })
            }
            Self::SomeCommand => scope.starts_with("cmd:"),
            Self::Query { view } => scope
                .strip_prefix("qry:")
                .is_some_and(|which| which == "*" || which == view),
            Self::Inspect => scope == "ops:read" || scope == "ops:write",
            Self::Operate => scope == "ops:write",
        }
    }
}

impl fmt::Display for Action<'_> {
    /// The least scope that is enough.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command { aggregate, command } => write!(f, "cmd:{aggregate}:{command}"),
            Self::SomeCommand => f.write_str("cmd:*"),
            Self::Query { view } => write!(f, "qry:{view}"),
            Self::Inspect => f.write_str("ops:read"),
            Self::Operate => f.write_str("ops:write"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Action<'_> = Action::Command {
        aggregate: "order",
        command: "place",
    };
    const ORDERS: Action<'_> = Action::Query { view: "order" };

    #[test]
    fn a_scope_allows_what_it_names_and_nothing_else() {
        let allowed = |action: Action<'_>, scope: &str| Caller::new(None, [scope]).may(action);
        for scope in ["cmd:order:place", "cmd:order:*", "cmd:*"] {
            assert!(allowed(PLACE, scope), "{scope}");
            assert!(!allowed(ORDERS, scope), "{scope}");
        }
        for scope in [
            "",
            "*",
            "cmd",
            "cmd:",
            "cmd:order",
            "cmd:order:",
            "cmd:order:cancel",
            "cmd:order:place:",
            "cmd:order:place:*",
            "cmd:order:plac*",
            "cmd:*:place",
            "cmd:*:*",
            "cmd:orders:*",
            "CMD:*",
            "qry:*",
            "qry:order",
            "ops:write",
        ] {
            assert!(!allowed(PLACE, scope), "{scope}");
        }
        for (scope, some) in [("cmd:order:place", true), ("cmd:*", true), ("qry:*", false)] {
            assert_eq!(allowed(Action::SomeCommand, scope), some, "{scope}");
        }
        for scope in ["qry:order", "qry:*"] {
            assert!(allowed(ORDERS, scope), "{scope}");
        }
        for scope in ["qry:", "qry:orders", "qry:order:*", "cmd:*", "ops:read"] {
            assert!(!allowed(ORDERS, scope), "{scope}");
        }
        for (scope, read, write) in [
            ("ops:read", true, false),
            ("ops:write", true, true),
            ("ops:*", false, false),
        ] {
            assert_eq!(allowed(Action::Inspect, scope), read, "{scope}");
            assert_eq!(allowed(Action::Operate, scope), write, "{scope}");
        }
    }

    #[test]
    fn each_action_is_allowed_by_the_scope_that_it_names() {
        for action in [
            PLACE,
            ORDERS,
            Action::SomeCommand,
            Action::Inspect,
            Action::Operate,
        ] {
            assert!(Caller::new(Some("a"), [action.to_string()]).may(action));
            assert!(Caller::default().may(action));
            assert!(!Caller::new(Some("a"), [""; 0]).may(action));
        }
    }

    #[test]
    fn who_may_everything_has_every_scope() {
        assert!(Caller::default().has("staff") && Caller::default().is_unrestricted());
        let staff = Caller::new(Some("s-1"), ["staff"]);
        assert!(staff.has("staff") && !staff.has("staf") && !staff.is_unrestricted());
        assert_eq!(staff.subject(), Some("s-1"));
        assert!(!format!("{staff:?}").contains("s-1"));
    }
}
