//! Instances as `/ops` tells of them, and changes them: at a gateway, or read from the log by the same functions.

use super::{connect, is_chosen, known, named};
use crate::{
    cli::{Failure, ops},
    config::{InstanceConfig, ProcessesListConfig},
    event_log::subject::Id,
    platform::Domain,
    problem::Problem,
    processes::{Index, ListAsk, ShowAsk, ToldStatus, show as shown},
};
use serde_json::{Map, Value, json};
use std::process::ExitCode;

/// The most times that an answer is asked for again which came before the log was read: each goes on where the last one ended.
const READINGS: u32 = 60;

/// The gateway of `--ops`, if it is given.
pub(super) fn gateway(config: &InstanceConfig) -> Result<Option<ops::Asked>, Failure> {
    ops::Asked::of(&config.ops, config.token.as_deref())
}

fn items(page: &Value, name: &str) -> u64 {
    page[name].as_array().map_or(0, Vec::len) as u64
}

pub(super) async fn list(
    domain: &Domain,
    config: &ProcessesListConfig,
) -> Result<ExitCode, Failure> {
    let process = known(domain, &config.process)?;
    let token = config.token.as_ref().map(|token| token.0.as_str());
    if let Some(gateway) = ops::Asked::of(&config.ops, token)? {
        let seen = |text: &str, page: &Value| {
            ops::print(text, config.json)?;
            Ok(items(page, "items"))
        };
        let query = [("status", config.status.map(status))];
        let path = ["processes", process];
        let limit = ("cursor", config.limit);
        gateway.pages(&path, &query, limit, seen).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let log = connect(&config.log).await?;
    let index = Index::new(process);
    let (mut left, mut cursor, mut readings) = (config.limit, None, 0);
    while left > 0 {
        let ask = ListAsk {
            status: config.status,
            limit: usize::try_from(left.min(ops::PAGE)).ok(),
            cursor,
        };
        let page = match index.page(&log, &ask).await {
            Ok(page) => ops::written(&page)?,
            Err(Problem { status: 503, .. }) if readings < READINGS => {
                readings += 1;
                cursor = ask.cursor;
                continue;
            }
            Err(problem) => return Err(Failure::operation(problem)),
        };
        ops::print(&page, config.json)?;
        let page: Value = serde_json::from_str(&page).map_err(Failure::operation)?;
        left = left.saturating_sub(items(&page, "items"));
        cursor = page["next"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The name of a status, as a parameter.
fn status(status: ToldStatus) -> String {
    let name = serde_json::to_value(status).unwrap_or_default();
    name.as_str().unwrap_or_default().to_owned()
}

pub(super) async fn show(domain: &Domain, config: &InstanceConfig) -> Result<ExitCode, Failure> {
    let (process, id) = named(domain, config)?;
    if let Some(gateway) = gateway(config)? {
        let seen = |text: &str, page: &Value| {
            ops::print(text, config.json)?;
            Ok(items(page, "steps"))
        };
        let path = ["processes", &process, id.as_str()];
        gateway
            .pages(&path, &[], ("cursor", u64::MAX), seen)
            .await?;
        return Ok(ExitCode::SUCCESS);
    }
    let log = connect(&config.log).await?;
    let mut ask = ShowAsk {
        limit: usize::try_from(ops::PAGE).ok(),
        cursor: None,
    };
    loop {
        let page = shown(&log, &process, id.as_str(), &ask).await;
        let page = page.map_err(Failure::operation)?;
        ops::print(&ops::written(&page)?, config.json)?;
        ask.cursor = page["next"].as_u64();
        if ask.cursor.is_none() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Has a gateway change an instance, or with `--all` every one that is chosen, and prints each outcome.
pub(super) async fn act(
    domain: &Domain,
    gateway: &ops::Asked,
    config: &InstanceConfig,
    verb: &str,
) -> Result<ExitCode, Failure> {
    let fields = [("reason", &config.reason), ("unplaced", &config.unplaced)];
    let given = fields.into_iter().filter_map(|(name, value)| {
        let value = value.as_ref()?;
        Some((name.to_owned(), json!(value)))
    });
    let body = Value::Object(given.collect::<Map<_, _>>());
    if !config.all {
        let (process, id) = named(domain, config)?;
        let path = ["processes", &process, id.as_str(), verb];
        ops::print(&gateway.post(&path, &body).await?, config.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let process = known(domain, &config.process)?;
    let mut chosen = Vec::new();
    let choose = |_: &str, page: &Value| {
        for one in page["items"].as_array().into_iter().flatten() {
            let now = serde_json::from_value(one["status"].clone()).map_err(Failure::operation)?;
            if let Some(id) = one["id"].as_str()
                && is_chosen(config, verb, now, one["reason"].as_str())
            {
                chosen.push(Id::new(id).map_err(Failure::operation)?);
            }
        }
        Ok(items(page, "items"))
    };
    let query = [("status", config.status.map(status))];
    let path = ["processes", process];
    let all = ("cursor", u64::MAX);
    gateway.pages(&path, &query, all, choose).await?;
    let mut well = true;
    for id in chosen {
        let path = ["processes", process, id.as_str(), verb];
        match gateway.post(&path, &body).await {
            Ok(outcome) => ops::print(&outcome, config.json)?,
            Err(failure) => {
                well = false;
                eprintln!("{process} {id}: {failure}");
            }
        }
    }
    Ok(match well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
