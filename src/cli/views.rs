//! `headwater views list|status|rebuild|rollback|drop|verify`.

use super::{
    Failure,
    control::{Control, place, print_json},
    progress::Progress,
};
use crate::{
    config::ViewsAction,
    projection::{Ask, Reply, ReplyBody, Verb},
    read_model::{Generation, GenerationState},
};
use std::{collections::BTreeMap, process::ExitCode, time::Duration};

/// How often a rebuild is looked at.
const LOOK: Duration = Duration::from_millis(200);

pub(super) async fn run(action: ViewsAction) -> Result<ExitCode, Failure> {
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
            control
                .ask(Some(&view), Verb::Rebuild, &ask, |_, _, _| {})
                .await?;
            if !no_wait {
                follow_rebuild(&control, &view).await?;
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
            control
                .ask(Some(&view), Verb::TakeOver, &ask, |_, _, _| {})
                .await?;
            follow_rebuild(&control, &view).await?;
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

async fn status(control: &Control, view: Option<&str>) -> Result<Vec<Reply>, Failure> {
    control
        .ask(view, Verb::Status, &Ask::default(), |_, _, _| {})
        .await
}

async fn show(control: &Control, view: Option<&str>) -> Result<(), Failure> {
    let replies = status(control, view).await?;
    if control.prints_json() {
        return print_json(&replies);
    }
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
            println!(
                "{}  {} {}  at {}, {lag}{parked}{stalled}{waiting}",
                place(reply, &replies),
                generation.generation,
                state.as_str().unwrap_or_default(),
                generation.position
            );
        }
    }
    Ok(())
}

/// Shows how far the rebuilt generations are, until each has taken over.
async fn follow_rebuild(control: &Control, view: &str) -> Result<(), Failure> {
    let mut building: BTreeMap<String, Generation> = BTreeMap::new();
    let mut progress = Progress::new();
    loop {
        let replies = status(control, Some(view)).await?;
        let mut left = 0;
        for reply in &replies {
            let ReplyBody::Status(report) = &reply.body else {
                continue;
            };
            for one in &report.generations {
                if one.state == GenerationState::Building {
                    if let Some(reason) = &one.waiting {
                        let place = place(reply, &replies);
                        return Err(Failure::operation(format!("{place}: {reason}")));
                    }
                    building.insert(reply.store.clone(), one.generation);
                    left += 1;
                    let total = one.position + one.lag_commits.unwrap_or(0);
                    let what = format!("{} {}", place(reply, &replies), one.generation);
                    progress.show(&what, one.position, total);
                }
            }
            let expected = building.get(&reply.store);
            let live = report
                .generations
                .iter()
                .any(|one| Some(&one.generation) == expected && one.state == GenerationState::Live);
            if live && expected.is_some() {
                progress.finish(&format!(
                    "{} {}",
                    place(reply, &replies),
                    building[&reply.store]
                ));
            }
        }
        if left == 0 {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
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
    if control.prints_json() {
        print_json(&replies)?;
    }
    let mut different = 0;
    for reply in &replies {
        let ReplyBody::Verified(verified) = &reply.body else {
            continue;
        };
        different += verified.different;
        if control.prints_json() {
            continue;
        }
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
        println!(
            "{place}  {} documents compared, {} differ",
            verified.checked, verified.different
        );
    }
    Ok(match different {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
