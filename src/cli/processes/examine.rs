//! `headwater processes try|verify`: reads all instances with this build, and writes nothing.

use super::{Failure, connect, known, read};
use crate::{
    cli::progress::Progress,
    config::{ProcessesTryConfig, ProcessesVerifyConfig},
    event_log::subject::Id,
    platform::Domain,
    process::Rehearsed,
    processes::{RegisteredProcess, ToldStatus, rehearse, verify},
};
use futures::{StreamExt, stream};
use serde_json::json;
use std::process::ExitCode;

/// The number of instances that are rehearsed at once.
const AT_ONCE: usize = 16;

/// Rehearses every instance that has not ended, and lists those that this build would treat otherwise.
pub(super) async fn try_build(
    domain: &Domain,
    config: ProcessesTryConfig,
) -> Result<ExitCode, Failure> {
    let mut domain = domain.clone();
    for setting in &config.set {
        let (name, value) = setting.split_once('=').ok_or_else(|| {
            Failure::configuration(format!("{setting:?} is not <setting>=<value>"))
        })?;
        let set = domain.set(&config.process, name, value);
        set.map_err(Failure::configuration)?;
    }
    let process = registered(&domain, &config.process)?;
    let log = connect(&config.log).await?;
    let instances = read(&domain, &log, process.name).await?;
    let those: Vec<String> = instances
        .into_iter()
        .filter(|(_, told)| told.status != ToldStatus::Ended)
        .map(|(id, _)| id)
        .collect();
    let total = those.len() as u64;
    let log = &log;
    let rehearsing = stream::iter(those).map(|id| async move {
        let instance = Id::new(id.as_str()).map_err(Failure::operation)?;
        let rehearsed = rehearse(log, process, &instance).await;
        Ok::<_, Failure>((id, rehearsed.map_err(Failure::operation)?))
    });
    let mut rehearsing = rehearsing.buffered(AT_ONCE);
    let (mut progress, mut done, mut steps, mut otherwise) = (Progress::new(), 0, 0, 0_u64);
    while let Some(rehearsed) = rehearsing.next().await {
        let (id, rehearsed) = rehearsed?;
        done += 1;
        steps += rehearsed.compared;
        progress.show(process.name, done, total);
        if rehearsed.is_the_same() {
            continue;
        }
        otherwise += 1;
        match config.json {
            true => println!(
                "{}",
                json!({ "process": process.name, "id": id, "rehearsed": rehearsed })
            ),
            false => print(process.name, &id, &rehearsed),
        }
    }
    progress.finish(process.name);
    if !config.json {
        println!(
            "{}: {otherwise} of {total} instances would go on otherwise with this build; {steps} steps were compared",
            process.name
        );
    }
    Ok(match otherwise {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn print(process: &str, id: &str, rehearsed: &Rehearsed) {
    println!("{process} {id}");
    if let Some(reason) = &rehearsed.unreadable {
        println!("    this build cannot go on with it: {reason}");
    }
    if let Some(step) = &rehearsed.otherwise {
        println!("    step {}, at {}", step.step, step.input);
        println!("        stored: {}", step.recorded);
        println!("        now:    {}", step.now);
    }
    for reason in &rehearsed.would_park {
        println!("    would park: {reason}");
    }
    if rehearsed.would_go_on {
        println!("    is parked, and would go on");
    }
}

/// Folds all instances, and compares them with what they have brought about.
pub(super) async fn verify_all(
    domain: &Domain,
    config: ProcessesVerifyConfig,
) -> Result<ExitCode, Failure> {
    let process = registered(domain, &config.process)?;
    let log = connect(&config.log).await?;
    let mut progress = Progress::new();
    let verified = verify(&log, process, |done, total| {
        progress.show(process.name, done, total);
    })
    .await;
    progress.finish(process.name);
    let verified = verified.map_err(Failure::operation)?;
    if config.json {
        println!(
            "{}",
            json!({ "process": process.name, "verified": verified })
        );
    } else {
        for finding in &verified.findings {
            println!("{} {}: {}", process.name, finding.id, finding.fault);
        }
        println!(
            "{}: {} instances, {} steps, {} commands, {} deadlines: {} faults",
            process.name,
            verified.instances,
            verified.steps,
            verified.commands,
            verified.deadlines,
            verified.findings.len()
        );
    }
    Ok(match verified.findings.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn registered<'a>(domain: &'a Domain, name: &str) -> Result<&'a RegisteredProcess, Failure> {
    known(domain, name)?;
    let mut processes = domain.processes().iter();
    let found = processes.find(|process| process.name == name);
    found.ok_or_else(|| Failure::configuration(format!("there is no process {name:?}")))
}
