//! `headwater processes list|show|retry|resume|skip|suspend|end|try|verify`. What is shown is read from the log, and needs
//! nothing but NATS; with `--ops` a gateway is asked.

mod examine;
mod told;

use super::Failure;
use crate::{
    access::AUTHORIZATION,
    config::{InstanceConfig, LogAddress, ProcessesAction, ProcessesListConfig},
    event_log::{
        EventLog, Timeouts,
        subject::{self, Id},
    },
    outcome::Outcome,
    platform::Domain,
    problem::Problem,
    processes::{Index, ProcessAsk, ToldInstance, ToldInstances, ToldStatus},
};
use serde_json::json;
use std::{process::ExitCode, time::Duration};

/// The time an answer is waited for.
const ANSWER: Duration = Duration::from_secs(15);

pub(super) async fn run(domain: &Domain, action: ProcessesAction) -> Result<ExitCode, Failure> {
    match action {
        ProcessesAction::List(config) if config.json || config.ops.ops.is_some() => {
            told::list(domain, &config).await
        }
        ProcessesAction::Show(config) if config.json || config.ops.ops.is_some() => {
            told::show(domain, &config).await
        }
        ProcessesAction::List(config) => list(domain, config).await,
        ProcessesAction::Show(config) => show(domain, config).await,
        ProcessesAction::Retry(config) => act(domain, config, "retry").await,
        ProcessesAction::Resume(config) => act(domain, config, "resume").await,
        ProcessesAction::Skip(config) => act(domain, config, "skip").await,
        ProcessesAction::Suspend(config) => act(domain, config, "suspend").await,
        ProcessesAction::End(config) => act(domain, config, "end").await,
        ProcessesAction::Try(config) => examine::try_build(domain, config).await,
        ProcessesAction::Verify(config) => examine::verify_all(domain, config).await,
    }
}

fn known(domain: &Domain, process: &str) -> Result<&'static str, Failure> {
    let mut names = domain.processes().iter().map(|process| process.name);
    if let Some(known) = names.find(|name| *name == process) {
        return Ok(known);
    }
    let names: Vec<_> = domain.processes().iter().map(|it| it.name).collect();
    let there = names.join(", ");
    Err(Failure::configuration(format!(
        "there is no process {process:?}; there is: {there}"
    )))
}

async fn connect(log: &LogAddress) -> Result<EventLog, Failure> {
    let client = super::connect(&log.nats, "processes").await?;
    Ok(EventLog::new(client, Timeouts::default()).with_api(log.api()))
}

async fn list(domain: &Domain, config: ProcessesListConfig) -> Result<ExitCode, Failure> {
    let process = &config.process;
    let log = connect(&config.log).await?;
    let instances = read(domain, &log, process).await?;
    let chosen = instances
        .iter()
        .filter(|(_, told)| config.status.is_none_or(|status| told.status == status));
    let mut shown = 0;
    for (id, told) in chosen {
        if shown == config.limit {
            println!("there is more: --limit {}", 2 * config.limit);
            break;
        }
        shown += 1;
        print(process, id, told);
    }
    if config
        .status
        .is_none_or(|status| status == ToldStatus::Parked)
    {
        shown += print_unplaced(&log, process).await?;
    }
    if shown == 0 {
        println!("there is no such instance");
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the aggregates whose events the process cannot place, and returns how many there are.
async fn print_unplaced(log: &EventLog, process: &str) -> Result<u64, Failure> {
    let unplaced = log.unplaced(process).await.map_err(Failure::operation)?;
    for one in &unplaced {
        let (aggregate, id, from, reason) = (&one.aggregate, &one.id, one.from, &one.reason);
        println!(
            "{process} cannot place the events of {aggregate} {id} from position {from} on: {reason}"
        );
    }
    Ok(unplaced.len() as u64)
}

/// Folds all instances of a process.
async fn read(domain: &Domain, log: &EventLog, process: &str) -> Result<ToldInstances, Failure> {
    let process = known(domain, process)?;
    let instances = Index::new(process).all(log).await;
    instances.map_err(Failure::operation)
}

async fn show(domain: &Domain, config: InstanceConfig) -> Result<ExitCode, Failure> {
    let (process, id) = named(domain, &config)?;
    let log = connect(&config.log).await?;
    let subject = subject::events_of(&process, &id);
    let end = log.end().await.map_err(Failure::operation)?;
    let messages = log.messages(&subject, 0, end).await;
    let messages = messages.map_err(Failure::operation)?;
    let mut told = ToldInstance::default();
    let mut steps = Vec::new();
    for message in &messages {
        let commit = crate::event_log::reader::Commit::of(message);
        for event in commit.events.iter().flatten() {
            told.take(&process, event);
            let record = json!({
                "version": event.version, "time": event.time, "type": event.event_type, "data": event.data,
            });
            steps.push(record);
        }
    }
    if messages.is_empty() {
        let reason = format!("there is no instance {id} of {process}");
        return Err(Failure::operation(reason));
    }
    print(&process, id.as_str(), &told);
    for record in &steps {
        let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        let (time, kind) = (text("time"), text("type"));
        println!(
            "    {}  {time}  {kind}  {}",
            record["version"], record["data"]
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn named(domain: &Domain, config: &InstanceConfig) -> Result<(String, Id), Failure> {
    known(domain, &config.process)?;
    let id = config.id.as_deref().unwrap_or_default();
    let id = Id::new(id).map_err(Failure::configuration)?;
    Ok((config.process.clone(), id))
}

fn print(process: &str, id: &str, told: &ToldInstance) {
    let status = json!(told.status);
    let mut line = format!("{process} {id}  {}", status.as_str().unwrap_or_default());
    if let Some(reason) = &told.reason {
        line.push_str(&format!(": {reason}"));
    }
    line.push_str(&format!("  {} steps", told.steps));
    if let Some(last) = told.last {
        line.push_str(&format!(", last at {last:.0}"));
    }
    println!("{line}");
    for open in &told.open {
        let command = &open.command;
        println!(
            "    waits for {} {} {}",
            command.aggregate, command.id, command.command
        );
    }
    for deadline in &told.deadlines {
        println!("    {} at {:.0}", deadline.name, deadline.at);
    }
    if !told.held.is_empty() {
        println!("    {} inputs wait", told.held.len());
    }
}

async fn act(domain: &Domain, config: InstanceConfig, verb: &str) -> Result<ExitCode, Failure> {
    if let Some(gateway) = told::gateway(&config)? {
        return told::act(domain, &gateway, &config, verb).await;
    }
    let log = connect(&config.log).await?;
    if !config.all {
        let (process, id) = named(domain, &config)?;
        return match ask(&log, &config, &process, id.as_str(), verb).await? {
            Ok(outcome) if config.json => {
                super::ops::print(&super::ops::written(&outcome)?, true)?;
                Ok(ExitCode::SUCCESS)
            }
            Ok(outcome) => {
                println!("{process} {id}: {verb}, {} records", outcome.events.len());
                Ok(ExitCode::SUCCESS)
            }
            Err(problem) => Err(Failure::operation(format!("{process} {id}: {problem}"))),
        };
    }
    let instances = read(domain, &log, &config.process).await?;
    let chosen = instances
        .into_iter()
        .filter(|(_, told)| is_chosen(&config, verb, told.status, told.reason.as_deref()));
    let (mut done, mut refused) = (0, 0);
    for (id, _) in chosen {
        match ask(&log, &config, &config.process, &id, verb).await? {
            Ok(outcome) => {
                done += 1;
                if config.json {
                    super::ops::print(&super::ops::written(&outcome)?, true)?;
                }
            }
            Err(problem) => {
                refused += 1;
                eprintln!("{} {id}: {problem}", config.process);
            }
        }
    }
    if !config.json {
        println!("{}: {verb} of {done} instances", config.process);
    }
    Ok(match refused {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Returns whether a verb for many is for this one: it can be done with it, and it is what was asked for.
fn is_chosen(config: &InstanceConfig, verb: &str, now: ToldStatus, reason: Option<&str>) -> bool {
    use ToldStatus::{Parked, Running, Suspended, Waiting};
    let can: &[ToldStatus] = match verb {
        "suspend" => &[Running, Waiting],
        "retry" => &[Parked],
        "end" => &[Running, Waiting, Parked, Suspended],
        _ => &[Parked, Suspended],
    };
    // To end every instance that goes on is nothing that is meant by leaving something out.
    let named = config.status.is_some() || config.because.is_some() || verb != "end";
    let reason = reason.unwrap_or_default();
    named
        && can.contains(&now)
        && config.status.is_none_or(|status| now == status)
        && (config.because.as_deref()).is_none_or(|because| reason.contains(because))
}

/// Asks one of the replicas that run the process.
async fn ask(
    log: &EventLog,
    config: &InstanceConfig,
    process: &str,
    id: &str,
    verb: &str,
) -> Result<Result<Outcome, Problem>, Failure> {
    let reason = config.reason.clone();
    let unplaced = config.unplaced.clone();
    let body = serde_json::to_vec(&ProcessAsk { reason, unplaced }).map_err(Failure::operation)?;
    let mut headers = async_nats::HeaderMap::new();
    if let Some(token) = &config.token {
        headers.insert(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = async_nats::Request::new()
        .payload(body.into())
        .headers(headers)
        .timeout(Some(ANSWER));
    let subject = format!("ctl.process.{process}.{id}.{verb}");
    let answer = log.client().send_request(subject, request).await;
    let answer = answer.map_err(|error| {
        Failure::operation(format!("no replica that runs {process} answers: {error}"))
    })?;
    let refused = answer.headers.as_ref();
    let refused = refused.is_some_and(|headers| headers.get("Nats-Service-Error-Code").is_some());
    Ok(match refused {
        true => Err(serde_json::from_slice(&answer.payload).map_err(Failure::operation)?),
        false => Ok(serde_json::from_slice(&answer.payload).map_err(Failure::operation)?),
    })
}
