//! `headwater events check`: what this build makes of the whole log.

mod documents;

use super::{connect, plain};
use crate::{
    cli::{Failure, progress::Progress},
    config::CheckConfig,
    platform::Domain,
    replay::{self, ReplayOptions, Report},
};
use documents::{Asking, Compared};
use serde_json::json;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

pub(super) async fn run(domain: &Domain, config: CheckConfig) -> Result<ExitCode, Failure> {
    let log = connect(&config.log).await?;
    let mut options = ReplayOptions {
        memory: (config.memory_mib as usize) << 20,
        faults: config.limit as usize,
        left_out: config.given_up.leave_out,
        ..ReplayOptions::default()
    };
    options.threads = config.threads.map_or(options.threads, usize::from);
    let begun = Instant::now();
    let mut progress = Progress::new();
    let tell = |read, of| progress.show("messages", read, of);
    let report = replay::replay(&log, domain.stored_aggregates(), &options, tell).await;
    drop(progress);
    let report = report.map_err(Failure::operation)?;
    let took = begun.elapsed();
    let compared = match config.documents {
        true => {
            let asking = Asking {
                log: &log,
                token: config.token.map(|token| token.0),
                limit: config.limit as usize,
            };
            documents::compare(domain, &asking).await?
        }
        false => Vec::new(),
    };
    match config.json {
        true => {
            let mut told = as_json(&report, took);
            if config.documents {
                told["documents"] = json!(compared);
            }
            println!("{told}");
        }
        false => {
            print(&report, took);
            compared.iter().for_each(print_compared);
        }
    }
    let changes = compared.iter().any(|view| view.different > 0);
    Ok(match report.is_well() && !changes {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn as_json(report: &Report, took: Duration) -> serde_json::Value {
    let types = report.types.iter().map(|(name, counts)| {
        let (event, version) = split(name);
        let mut told = json!(counts);
        told["name"] = name.as_str().into();
        told["type"] = event.into();
        told["version"] = version.into();
        told
    });
    let types: Vec<_> = types.collect();
    let mut told = json!(report);
    told["types"] = types.into();
    told["well"] = report.is_well().into();
    told["seconds"] = took.as_secs_f64().into();
    told
}

fn print_compared(view: &Compared) {
    let Compared {
        view: name,
        compared,
        different,
        moved,
        parked,
        ..
    } = view;
    println!(
        "{name}: of {compared} documents {different} would change; {moved} have changed meanwhile; {parked} aggregates cannot be applied"
    );
    for it in &view.differences {
        let shown = |document: &Option<serde_json::Value>| match document {
            Some(document) => plain(&document.to_string()),
            None => "nothing".to_owned(),
        };
        println!("    {}: served   {}", plain(&it.id), shown(&it.stored));
        println!("    {}: by this  {}", plain(&it.id), shown(&it.folded));
    }
}

/// `order.placed.v1` is version 1 of `order.placed`.
fn split(name: &str) -> (&str, Option<u64>) {
    let parts = name.rsplit_once(".v");
    let parts = parts.and_then(|(event, version)| Some((event, version.parse().ok()?)));
    parts.map_or((name, None), |(event, version)| (event, Some(version)))
}

pub(in crate::cli) fn print(report: &Report, took: Duration) {
    let longest = report
        .types
        .keys()
        .map(String::len)
        .max()
        .unwrap_or(0)
        .max(4);
    if !report.types.is_empty() {
        println!(
            "{:longest$} {:>12} {:>12} {:>12} {:>12}",
            "type", "events", "decoded", "upcast", "folded"
        );
    }
    for (name, counts) in &report.types {
        println!(
            "{:longest$} {:>12} {:>12} {:>12} {:>12}",
            plain(name),
            counts.events,
            counts.decoded,
            counts.upcast,
            counts.folded
        );
    }
    let Report {
        events,
        commits,
        aggregates,
        excluded,
        claims,
        broken,
        ..
    } = report;
    let rate = *events as f64 / took.as_secs_f64().max(0.001);
    println!(
        "{events} events in {commits} commits ({excluded} excluded) of {aggregates} aggregates, and {claims} claims, up to position {}: {:.1} s, {rate:.0} events/s",
        report.log.last,
        took.as_secs_f64()
    );
    if report.readings > 1 {
        println!(
            "the log was read {} times, to fold it within --memory-mib",
            report.readings
        );
    }
    for fault in &report.faults {
        println!("broken: {}", plain(&fault.to_string()));
    }
    let told = report.faults.len() as u64;
    if *broken > told {
        println!("{} more: --limit tells them", broken - told);
    }
    match broken {
        0 => println!("this build can decode and fold all of it"),
        _ => println!("{broken} cannot be folded by this build"),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_storage_name_is_a_type_and_a_version() {
        assert_eq!(split("order.placed.v12"), ("order.placed", Some(12)));
        assert_eq!(split("order.placed"), ("order.placed", None));
        assert_eq!(split("order.placed.vx"), ("order.placed.vx", None));
    }
}
