//! `headwater views list|status|rebuild|rollback|drop|verify`.

mod rebuild;

use super::{
    Failure,
    control::{Control, place},
    ops,
    progress::Progress,
};
use crate::{
    config::ViewsAction,
    platform::Domain,
    projection::{Ask, DriftReport, Reply, ReplyBody, Verb},
    read_model::ComparedCounts,
};
use std::process::ExitCode;

pub(super) async fn run(domain: &Domain, action: ViewsAction) -> Result<ExitCode, Failure> {
    let control = action.control();
    match control.json || control.ops.ops.is_some() {
        true => tell(&ops::Views::connect(domain, control).await?, action).await,
        false => show_or_do(action).await,
    }
}

/// Does it, and shows people what came of it.
async fn show_or_do(action: ViewsAction) -> Result<ExitCode, Failure> {
    let nothing = Ask::default();
    match action {
        ViewsAction::List(control) => {
            let control = Control::connect(control).await?;
            show(&control, None).await?;
        }
        ViewsAction::Status { view, control } => {
            let control = Control::connect(control).await?;
            show(&control, Some(&view)).await?;
        }
        ViewsAction::Rebuild {
            view,
            no_wait,
            accept_parked,
            control,
        } => {
            let control = Control::connect(control).await?;
            let ask = Ask {
                accept_parked,
                ..Ask::default()
            };
            let begun = control
                .ask(Some(&view), Verb::Rebuild, &ask, |_, _, _| {})
                .await?;
            if !no_wait {
                rebuild::follow(&control, &view, &begun).await?;
            }
            show(&control, Some(&view)).await?;
        }
        ViewsAction::TakeOver {
            view,
            accept_parked,
            control,
        } => {
            let control = Control::connect(control).await?;
            let ask = Ask {
                accept_parked,
                ..Ask::default()
            };
            let begun = control
                .ask(Some(&view), Verb::TakeOver, &ask, |_, _, _| {})
                .await?;
            rebuild::follow(&control, &view, &begun).await?;
            show(&control, Some(&view)).await?;
        }
        ViewsAction::Rollback { view, control } => {
            let control = Control::connect(control).await?;
            control
                .ask(Some(&view), Verb::Rollback, &nothing, |_, _, _| {})
                .await?;
            show(&control, Some(&view)).await?;
        }
        ViewsAction::Drop {
            view,
            generation,
            control,
        } => {
            let control = Control::connect(control).await?;
            let ask = Ask {
                generation,
                ..Ask::default()
            };
            control
                .ask(Some(&view), Verb::Drop, &ask, |_, _, _| {})
                .await?;
            show(&control, Some(&view)).await?;
        }
        ViewsAction::Verify {
            view,
            sample,
            control,
        } => {
            let control = Control::connect(control).await?;
            return verify(&control, view.as_deref(), sample).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Does it, and prints what `/ops` answers.
async fn tell(views: &ops::Views, action: ViewsAction) -> Result<ExitCode, Failure> {
    let accepting = |accept_parked| Ask {
        accept_parked,
        ..Ask::default()
    };
    let (view, order, waits) = match action {
        ViewsAction::List(_) => return views.list().await.map(|()| ExitCode::SUCCESS),
        ViewsAction::Status { view, .. } => {
            return views.status(&view).await.map(|()| ExitCode::SUCCESS);
        }
        ViewsAction::Rebuild {
            view,
            no_wait,
            accept_parked,
            ..
        } => {
            let order = (Verb::Rebuild, accepting(accept_parked));
            (Some(view), order, !no_wait)
        }
        ViewsAction::TakeOver {
            view,
            accept_parked,
            ..
        } => (Some(view), (Verb::TakeOver, accepting(accept_parked)), true),
        ViewsAction::Rollback { view, .. } => (Some(view), (Verb::Rollback, Ask::default()), true),
        ViewsAction::Drop {
            view, generation, ..
        } => {
            let ask = Ask {
                generation,
                ..Ask::default()
            };
            (Some(view), (Verb::Drop, ask), true)
        }
        ViewsAction::Verify { view, sample, .. } => {
            let ask = Ask {
                sample,
                ..Ask::default()
            };
            (view, (Verb::Verify, ask), true)
        }
    };
    views.carry_out(view.as_deref(), order, waits).await
}

async fn status(control: &Control, view: Option<&str>) -> Result<Vec<Reply>, Failure> {
    control
        .ask(view, Verb::Status, &Ask::default(), |_, _, _| {})
        .await
}

async fn show(control: &Control, view: Option<&str>) -> Result<(), Failure> {
    let replies = status(control, view).await?;
    for reply in &replies {
        let ReplyBody::Status(report) = &reply.body else {
            continue;
        };
        for generation in &report.generations {
            let state = serde_json::to_value(generation.state).unwrap_or_default();
            let lag = match (generation.lag_commits, generation.lag_ms) {
                (Some(0), _) => "up to date".to_owned(),
                (Some(commits), Some(ms)) => format!("{commits} commits, {ms} ms behind"),
                _ => "not kept up to date by this version".to_owned(),
            };
            let parked = match generation.parked {
                0 => String::new(),
                parked => format!(", {parked} aggregates parked"),
            };
            let stalled = match &generation.stalled {
                Some(reason) => {
                    let seconds = generation.stalled_ms.unwrap_or(0) / 1_000;
                    format!(", stalled for {seconds} s: {reason}")
                }
                None => String::new(),
            };
            let waiting = generation.waiting.as_ref();
            let waiting = waiting.map_or_else(String::new, |reason| format!(", waits: {reason}"));
            let drift = generation.drift.as_ref().map_or_else(String::new, drift);
            println!(
                "{}  {} {}  at {}, {lag}{parked}{stalled}{waiting}{drift}",
                place(reply, &replies),
                generation.generation,
                state.as_str().unwrap_or_default(),
                generation.position
            );
        }
    }
    Ok(())
}

/// Returns what came of comparing the documents with the log all the time.
fn drift(report: &DriftReport) -> String {
    let DriftReport {
        checked,
        different,
        repaired,
        at,
        ids,
    } = report;
    let mut shown = format!(", {checked} documents compared by itself until {at:.0}");
    if *different > 0 {
        let ids = ids.join(" ");
        shown += &format!(": {different} DIFFERED, {repaired} set right, the last ones {ids}");
    }
    shown
}

/// Prints what came of comparing the counts that are kept of a view's documents.
fn show_counts(place: &str, counts: &ComparedCounts) {
    for difference in &counts.differences {
        let values = serde_json::to_string(&difference.values).unwrap_or_default();
        println!(
            "{place}  {} {values}: {} are counted, there are {}",
            difference.fields, difference.stored, difference.documents
        );
    }
    let mended = match counts.different {
        0 => "",
        _ => "; `headwater views rebuild` counts anew",
    };
    if counts.checked > 0 {
        println!(
            "{place}  {} counts compared, {} differ{mended}",
            counts.checked, counts.different
        );
    }
}

async fn verify(
    control: &Control,
    view: Option<&str>,
    sample: Option<u64>,
) -> Result<ExitCode, Failure> {
    let ask = Ask {
        sample,
        ..Ask::default()
    };
    let mut progress = Progress::new();
    let replies = control
        .ask(view, Verb::Verify, &ask, |reply, done, total| {
            progress.show(&format!("{} ({})", reply.view, reply.replica), done, total);
        })
        .await?;
    drop(progress);
    let mut different = 0;
    for reply in &replies {
        let ReplyBody::Verified(verified) = &reply.body else {
            continue;
        };
        different += verified.different + verified.counts.different;
        let place = place(reply, &replies);
        for difference in &verified.differences {
            let shown = |document: &Option<serde_json::Value>| {
                document
                    .as_ref()
                    .map_or_else(|| "nothing".to_owned(), ToString::to_string)
            };
            println!("{place}  {}", difference.id);
            println!("    stored: {}", shown(&difference.stored));
            println!("    folded: {}", shown(&difference.folded));
        }
        let parked = match verified.parked {
            0 => String::new(),
            parked => format!(", as they are without what is parked of {parked} aggregates"),
        };
        println!(
            "{place}  {} documents compared{parked}, {} differ",
            verified.checked, verified.different
        );
        show_counts(&place, &verified.counts);
    }
    Ok(match different {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
