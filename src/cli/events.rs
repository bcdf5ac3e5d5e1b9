//! `headwater events`: what stands in the log, of one aggregate or all, and leaving out of it what cannot be
//! read. Needs nothing but NATS.

mod check;
mod files;

pub(super) use check::print as print_report;

use super::{Failure, ops};
use crate::{
    config::{EventsAction, ExcludeConfig, LogAddress, OneAggregate, ShowEventsConfig},
    event_log::{
        EventLog, Place, Timeouts,
        exclusion::{ExcludeError, Exclusion, LONGEST},
        subject::{self, Id},
    },
    ops::{
        AggregateHistory,
        history::{Entry, History},
    },
    platform::Domain,
};
use jiff::Timestamp;
use serde_json::Value;
use std::process::ExitCode;

/// The most characters that are shown of what is no commit.
const SHOWN: usize = 500;

pub(super) async fn run(domain: &Domain, action: EventsAction) -> Result<ExitCode, Failure> {
    match action {
        EventsAction::Show(config) => show(domain, config).await,
        EventsAction::Exclude(config) => exclude(domain, config).await,
        EventsAction::Check(config) => check::run(domain, config).await,
        EventsAction::Export(config) => files::export(config).await,
        EventsAction::Import(config) => files::import(domain, config).await,
    }
}

async fn show(domain: &Domain, config: ShowEventsConfig) -> Result<ExitCode, Failure> {
    let id = id_of(&config.which)?;
    if config.json || config.ops.ops.is_some() {
        return tell(domain, &config, &id).await;
    }
    let name = config.which.aggregate;
    let log = connect(&config.log).await?;
    let mut history = open(domain, &log, &name, &id).await?;
    let (mut shown, mut last) = (0, 0);
    while let Some(entry) = history.next().await.map_err(Failure::operation)? {
        if entry.message.position <= config.after {
            continue;
        }
        if shown == config.limit {
            println!("there is more: --after {last}");
            return Ok(ExitCode::SUCCESS);
        }
        print(&entry);
        (shown, last) = (shown + 1, entry.message.position);
    }
    match shown {
        0 => Err(Failure::operation(format!(
            "{name} {id} has no commits after position {}",
            config.after
        ))),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Prints the history page by page, as `/ops` answers it.
async fn tell(domain: &Domain, config: &ShowEventsConfig, id: &Id) -> Result<ExitCode, Failure> {
    let name = config.which.aggregate.as_str();
    let token = config.token.as_ref().map(|token| token.0.as_str());
    if let Some(gateway) = ops::Asked::of(&config.ops, token)? {
        let path = ["aggregates", name, id.as_str()];
        let query = [("after", Some(config.after.to_string()))];
        let seen = |text: &str, page: &Value| {
            ops::print(text, config.json)?;
            Ok(page["commits"].as_array().map_or(0, Vec::len) as u64)
        };
        let limit = ("after", config.limit);
        gateway.pages(&path, &query, limit, seen).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut known = domain.stored_aggregates();
    let described = known.find(|it| it.name == name).ok_or_else(|| {
        let reason = "this program does not know it: leave out --json to see what stands there";
        Failure::operation(format!("{name}: {reason}"))
    })?;
    let log = connect(&config.log).await?;
    let (mut after, mut left) = (config.after, config.limit);
    while left > 0 {
        let limit = usize::try_from(left.min(ops::PAGE)).unwrap_or(1);
        let page = AggregateHistory::read(&log, described, id, after, limit).await;
        let page = page.map_err(Failure::operation)?;
        ops::print(&ops::written(&page)?, config.json)?;
        left = left.saturating_sub(page.commits.len() as u64);
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn exclude(domain: &Domain, config: ExcludeConfig) -> Result<ExitCode, Failure> {
    let id = id_of(&config.which)?;
    let (name, position) = (config.which.aggregate, config.position);
    let reason = config.reason.trim().to_owned();
    let by = config.by.unwrap_or_else(user);
    for (flag, text) in [("--reason", &reason), ("--by", &by)] {
        if text.is_empty() || text.chars().count() > LONGEST {
            return Err(Failure::configuration(format!(
                "{flag} has 1 to {LONGEST} characters"
            )));
        }
    }
    let log = connect(&config.log).await?;
    let found = log.message_at(position).await.map_err(Failure::operation)?;
    let found = found
        .ok_or_else(|| Failure::operation(format!("the log has nothing at position {position}")))?;
    if found.subject != subject::events_of(&name, &id) {
        return Err(Failure::operation(format!(
            "position {position} is no commit of {name} {id}: it stands on {}",
            plain(&found.subject)
        )));
    }
    let mut history = open(domain, &log, &name, &id).await?;
    let entry = history.at(position).await.map_err(Failure::operation)?;
    let entry = entry.ok_or_else(|| {
        Failure::operation(format!("{name} {id} has nothing at {position}; try again"))
    })?;
    if entry.fault.is_none() && entry.excluded.is_none() && !config.force {
        return Err(Failure::operation(format!(
            "the commit at {position} can be read; --force excludes it all the same"
        )));
    }
    let exclusion = Exclusion {
        position,
        mark: Place::of(&found).mark,
        reason,
        by,
        at: Timestamp::now(),
    };
    let excluded = log.exclude(&name, &id, &exclusion).await;
    excluded.map_err(|error| match error {
        ExcludeError::NoReason | ExcludeError::TooLong => Failure::configuration(error),
        _ => Failure::operation(error),
    })?;
    println!("{name} {id}: position {position} is excluded, for commands and for all views");
    if entry.events.is_some() {
        println!("a view that has applied it keeps what it made of it until `views rebuild`");
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes sure that the aggregate can be one, before anything is asked.
fn id_of(which: &OneAggregate) -> Result<Id, Failure> {
    if !subject::is_name(&which.aggregate) {
        return Err(Failure::configuration(format!(
            "{:?} is not the name of an aggregate",
            which.aggregate
        )));
    }
    Id::new(which.id.as_str()).map_err(Failure::configuration)
}

async fn connect(log: &LogAddress) -> Result<EventLog, Failure> {
    let client = super::connect(&log.nats, "events").await?;
    Ok(EventLog::new(client, Timeouts::default()).with_api(log.api()))
}

async fn open(domain: &Domain, log: &EventLog, name: &str, id: &Id) -> Result<History, Failure> {
    let mut known = domain.aggregates().iter();
    let read_event = known.find(|it| it.name == name).map(|it| it.read_event);
    let history = History::open(log, name, id, read_event).await;
    history.map_err(Failure::operation)
}

fn user() -> String {
    let named = ["USER", "LOGNAME"].into_iter();
    let mut named = named.filter_map(|name| std::env::var(name).ok());
    named
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}

fn print(entry: &Entry) {
    let Entry { message, .. } = entry;
    let time = Timestamp::from_second(message.time).unwrap_or_default();
    println!("position {}  {time}", message.position);
    for event in entry.events.iter().flatten() {
        let event = &event.recorded;
        let (kind, command) = (plain(&event.event_type), plain(&event.command_id));
        let data = plain(event.data.get());
        let caller = event.caller_id.as_deref().map(plain);
        let caller = caller.map_or_else(String::new, |caller| format!(" of {caller}"));
        println!(
            "    {}  {kind}  by command {command}{caller}  {data}",
            event.version
        );
    }
    if entry.events.is_none() {
        println!("    {}", body(entry));
    }
    if let Some(fault) = &entry.fault {
        println!("    cannot be read: {}", plain(fault));
    }
    if let Some(excluded) = &entry.excluded {
        let (by, reason) = (plain(&excluded.by), plain(&excluded.reason));
        println!("    excluded by {by} at {:.0}: {reason}", excluded.at);
    }
}

/// The beginning of what is no commit.
fn body(entry: &Entry) -> String {
    let text = String::from_utf8_lossy(&entry.message.payload);
    plain(&text).chars().take(SHOWN).collect()
}

/// A text of somebody else's, as it may be written to a terminal.
fn plain(text: &str) -> String {
    let sign = |sign: char| {
        if sign.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            sign
        }
    };
    text.chars().map(sign).collect()
}
