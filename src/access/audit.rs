//! The record of who was refused.
//!
//! One line of the log for each 401 and 403, of a target of its own, with who asked for what and why it is
//! refused. Nothing of a token is in it but the subject of one that is believed.

use super::Identified;
use crate::{
    caller::{Action, Caller},
    problem::Problem,
};

/// The target of the lines that say who was refused, and what operators do.
pub const AUDIT: &str = "headwater::audit";

/// Puts it on record, if that is why the request is refused.
pub(super) fn refused(who: &Identified, action: Option<Action<'_>>, problem: &Problem) {
    if !matches!(problem.status, 401 | 403) {
        return;
    }
    let by = who.caller.subject().unwrap_or("nobody known");
    tracing::info!(
        target: AUDIT,
        by,
        from = who.from.map(tracing::field::display),
        doing = action.map(tracing::field::display),
        status = problem.status,
        reason = %problem.detail,
        "a caller is refused"
    );
}

/// Puts it on record that a rule of the domain refuses a caller, if that is why the command is refused.
pub fn refused_by_rule(caller: &Caller, aggregate: &str, problem: &Problem) {
    if problem.status != 403 {
        return;
    }
    let by = caller.subject().unwrap_or("nobody known");
    tracing::info!(
        target: AUDIT,
        by,
        doing = format!("cmd:{aggregate}"),
        status = problem.status,
        reason = %problem.detail,
        "a caller is refused by a rule"
    );
}
