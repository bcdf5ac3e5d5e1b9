//! `headwater parked list|show|retry|skip`.

use super::{
    Failure,
    control::{Control, place},
    ops,
    progress::Progress,
};
use crate::{
    config::{ParkedAction, ParkedAggregate, ParkedChoice},
    ops::ParkedFilter,
    platform::Domain,
    projection::{Ask, ParkedReport, Reply, ReplyBody, Retried, Verb},
    read_model::Generation,
};
use std::process::ExitCode;

pub(super) async fn run(domain: &Domain, action: ParkedAction) -> Result<ExitCode, Failure> {
    let control = action.control();
    if control.json || control.ops.ops.is_some() {
        return tell(&ops::Views::connect(domain, control).await?, action).await;
    }
    match action {
        ParkedAction::List {
            view,
            generation,
            limit,
            control,
        } => {
            let control = Control::connect(control).await?;
            let ask = Ask {
                generation,
                ..Ask::default()
            };
            list(&control, view.as_deref(), ask, limit).await
        }
        ParkedAction::Show { which, control } => {
            let control = Control::connect(control).await?;
            let ParkedAggregate {
                view,
                aggregate,
                id,
                generation,
            } = which;
            let ask = about(Some(aggregate), Some(id), generation);
            list(&control, Some(&view), ask, None).await
        }
        ParkedAction::Retry { which, control } => {
            let control = Control::connect(control).await?;
            settle(&control, Verb::Retry, which).await
        }
        ParkedAction::Skip { which, control } => {
            let control = Control::connect(control).await?;
            settle(&control, Verb::Skip, which).await
        }
    }
}

/// Does it, and prints what `/ops` answers.
async fn tell(views: &ops::Views, action: ParkedAction) -> Result<ExitCode, Failure> {
    match action {
        ParkedAction::List {
            view,
            generation,
            limit,
            ..
        } => {
            let filter = ParkedFilter {
                view,
                generation,
                ..ParkedFilter::default()
            };
            views.parked(filter, limit).await?;
        }
        ParkedAction::Show { which, .. } => {
            let filter = ParkedFilter {
                view: Some(which.view),
                aggregate: Some(which.aggregate),
                id: Some(which.id),
                generation: which.generation,
                ..ParkedFilter::default()
            };
            views.parked(filter, None).await?;
        }
        ParkedAction::Retry { which, .. } => return settled(views, Verb::Retry, which).await,
        ParkedAction::Skip { which, .. } => return settled(views, Verb::Skip, which).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn settled(views: &ops::Views, verb: Verb, which: ParkedChoice) -> Result<ExitCode, Failure> {
    let view = which.view.clone();
    let order = (verb, chosen(which));
    views.carry_out(view.as_deref(), order, true).await
}

fn chosen(which: ParkedChoice) -> Ask {
    Ask {
        all: which.all,
        ..about(which.aggregate, which.id, which.generation)
    }
}

fn about(aggregate: Option<String>, id: Option<String>, generation: Option<Generation>) -> Ask {
    Ask {
        aggregate,
        id,
        generation,
        ..Ask::default()
    }
}

/// Shows what is parked, page by page.
async fn list(
    control: &Control,
    view: Option<&str>,
    mut ask: Ask,
    limit: Option<u64>,
) -> Result<ExitCode, Failure> {
    let mut left = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    ask.limit = limit.map(|_| left);
    let first = control.ask(view, Verb::Parked, &ask, |_, _, _| {}).await?;
    let mut nothing = true;
    for reply in &first {
        let place = place(reply, &first);
        let mut page = reply.clone();
        while let ReplyBody::Parked(parked) = &page.body {
            nothing &= parked.items.is_empty();
            print_parked(&place, parked.items.iter().take(left));
            left = left.saturating_sub(parked.items.len());
            let Some(next) = parked.next.clone().filter(|_| left > 0) else {
                break;
            };
            ask.after = Some(next);
            ask.limit = limit.map(|_| left);
            let answered = control
                .ask_replica(
                    &reply.replica,
                    Some(&reply.view),
                    Verb::Parked,
                    &ask,
                    |_, _, _| {},
                )
                .await?;
            let Some(answer) = answered.into_iter().next() else {
                break;
            };
            page = answer;
        }
    }
    if nothing {
        println!("nothing is parked");
    }
    Ok(ExitCode::SUCCESS)
}

fn print_parked<'a>(place: &str, parked: impl Iterator<Item = &'a ParkedReport>) {
    for commit in parked {
        let at = commit
            .at
            .map_or_else(String::new, |at| format!(", since {at:.0}"));
        let unknown = match commit.unknown {
            true => ", tried again by the next program that opens the view",
            false => "",
        };
        println!(
            "{place}  {} {}  position {}, event {}{at}: {}{unknown}",
            commit.aggregate, commit.id, commit.position, commit.from_event, commit.reason
        );
        if !commit.documents.is_empty() {
            println!("    behind: {}", commit.documents.join(" "));
        }
        for (index, event) in commit.events.iter().enumerate() {
            println!("    {index}: {event}");
        }
    }
}

/// Tries again, or leaves out, what is chosen.
async fn settle(control: &Control, verb: Verb, which: ParkedChoice) -> Result<ExitCode, Failure> {
    let view = which.view.clone();
    let ask = chosen(which);
    let mut progress = Progress::new();
    let replies = control
        .ask(view.as_deref(), verb, &ask, |reply, done, total| {
            progress.show(&format!("{} ({})", reply.view, reply.replica), done, total);
        })
        .await?;
    drop(progress);
    let mut still_parked = false;
    for reply in &replies {
        still_parked |= print_settled(reply, &replies);
    }
    Ok(match still_parked {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// Returns whether something is parked still.
fn print_settled(reply: &Reply, replies: &[Reply]) -> bool {
    let place = place(reply, replies);
    match &reply.body {
        ReplyBody::Retried(all) => {
            for (aggregate, id, retried) in all {
                print_retried(&place, aggregate, id, retried);
            }
            all.iter().any(|(_, _, retried)| retried.parked > 0)
        }
        ReplyBody::Settled(settled) => {
            for (aggregate, id, retried) in &settled.left {
                print_retried(&place, aggregate, id, retried);
            }
            println!(
                "{place}  {} aggregates tried, {} commits applied, {} aggregates parked still",
                settled.aggregates, settled.applied, settled.still_parked
            );
            settled.still_parked > 0
        }
        _ => false,
    }
}

fn print_retried(place: &str, aggregate: &str, id: &str, retried: &Retried) {
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
