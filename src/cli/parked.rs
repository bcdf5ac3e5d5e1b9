//! `headwater parked list|show|retry|skip`.

use super::{
    Failure,
    control::{Control, place, print_json},
};
use crate::{
    config::{ParkedAction, ParkedAggregate},
    projection::{Ask, ParkedReport, Reply, ReplyBody, Verb},
};
use std::process::ExitCode;

pub(super) async fn run(action: ParkedAction) -> Result<ExitCode, Failure> {
    let (control, view, verb, ask) = match action {
        ParkedAction::List { view, control } => (control, view, Verb::Parked, Ask::default()),
        ParkedAction::Show { which, control } => about(control, which, Verb::Parked),
        ParkedAction::Retry { which, control } => about(control, which, Verb::Retry),
        ParkedAction::Skip { which, control } => about(control, which, Verb::Skip),
    };
    let control = Control::connect(control).await?;
    let replies = control
        .ask(view.as_deref(), verb, &ask, |_, _, _| {})
        .await?;
    if control.prints_json() {
        print_json(&replies)?;
    }
    let mut still_parked = false;
    let mut nothing = true;
    for reply in &replies {
        match &reply.body {
            ReplyBody::Parked(parked) => {
                nothing &= parked.is_empty();
                if !control.prints_json() {
                    print_parked(&place(reply, &replies), parked);
                }
            }
            ReplyBody::Retried(_) => {
                nothing = false;
                still_parked |= print_retried(reply, &replies, control.prints_json());
            }
            _ => {}
        }
    }
    if nothing && !control.prints_json() {
        println!("nothing is parked");
    }
    Ok(match still_parked {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

type Question = (crate::config::ControlConfig, Option<String>, Verb, Ask);

fn about(control: crate::config::ControlConfig, which: ParkedAggregate, verb: Verb) -> Question {
    let ask = Ask {
        aggregate: Some(which.aggregate),
        id: Some(which.id),
        ..Ask::default()
    };
    (control, Some(which.view), verb, ask)
}

fn print_parked(place: &str, parked: &[ParkedReport]) {
    for commit in parked {
        let at = commit
            .at
            .map_or_else(String::new, |at| format!(", since {at:.0}"));
        println!(
            "{place}  {} {}  position {}, event {}{at}: {}",
            commit.aggregate, commit.id, commit.position, commit.from_event, commit.reason
        );
        if commit.events.is_empty() {
            continue;
        }
        println!("    behind: {}", commit.documents.join(" "));
        for (index, event) in commit.events.iter().enumerate() {
            println!("    {index}: {event}");
        }
    }
}

/// Returns whether something is parked still.
fn print_retried(reply: &Reply, replies: &[Reply], json: bool) -> bool {
    let ReplyBody::Retried(all) = &reply.body else {
        return false;
    };
    for (aggregate, id, retried) in all.iter().filter(|_| !json) {
        let place = place(reply, replies);
        let reason = retried.reason.as_deref().unwrap_or_default();
        match retried.parked {
            0 => println!(
                "{place}  {aggregate} {id}: {} commits applied",
                retried.applied
            ),
            parked => println!(
                "{place}  {aggregate} {id}: {} commits applied, {parked} parked still: {reason}",
                retried.applied
            ),
        }
    }
    all.iter().any(|(_, _, retried)| retried.parked > 0)
}
