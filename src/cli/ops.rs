//! The answers of `/ops`, for the shell: asked of a gateway (`--ops`), or made here, by the same functions, of what the
//! projectors tell over NATS and what stands in the log. They are printed as JSON.

mod gateway;

use super::Failure;
use crate::{
    config::{ControlConfig, OpsAddress},
    ops::{
        Job, JobOrder, JobState, ParkedCommits, ParkedFilter, Projectors, ToldView, ToldViews,
        carry_out, statuses,
    },
    platform::Domain,
    problem::Problem,
    projection::{Ask, Verb},
    read_model::ViewDescription,
};
use gateway::Gateway;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::process::ExitCode;

/// The number of items of a page.
pub(super) const PAGE: u64 = 200;

/// Prints JSON: in one line where it is asked for as JSON, else as people read it.
pub(super) fn print(text: &str, json: bool) -> Result<(), Failure> {
    if json {
        println!("{text}");
        return Ok(());
    }
    let value: Value = serde_json::from_str(text).map_err(Failure::operation)?;
    println!("{value:#}");
    Ok(())
}

/// Writes what is told as `/ops` writes it.
pub(super) fn written(told: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(told).map_err(Failure::operation)
}

fn refused(problem: Problem) -> Failure {
    Failure::operation(problem)
}

/// The gateway that is asked, if one is.
pub(super) struct Asked(Gateway);

impl Asked {
    /// The gateway of `--ops`, if it is given.
    pub(super) fn of(ops: &OpsAddress, token: Option<&str>) -> Result<Option<Self>, Failure> {
        let gateway = ops.ops.as_ref().map(|base| Gateway::new(base, token));
        Ok(gateway.transpose()?.map(Self))
    }

    /// Asks for what stands at a path below `/ops`.
    pub(super) async fn get(
        &self,
        path: &[&str],
        query: &[(&str, Option<String>)],
    ) -> Result<String, Failure> {
        self.0.get(path, query).await
    }

    /// Changes something.
    pub(super) async fn post(&self, path: &[&str], body: &Value) -> Result<String, Failure> {
        self.0.post(path, body).await
    }

    /// Prints a list page by page, and hands each to `seen`. `at` is the parameter that continues.
    pub(super) async fn pages(
        &self,
        path: &[&str],
        query: &[(&str, Option<String>)],
        (at, limit): (&str, u64),
        mut seen: impl FnMut(&str, &Value) -> Result<u64, Failure>,
    ) -> Result<(), Failure> {
        let (mut left, mut next) = (limit, None);
        while left > 0 {
            let mut query = query.to_vec();
            query.retain(|(name, _)| *name != at || next.is_none());
            query.push(("limit", Some(left.min(PAGE).to_string())));
            if next.is_some() {
                query.push((at, next.clone()));
            }
            let text = self.get(path, &query).await?;
            let page: Value = serde_json::from_str(&text).map_err(Failure::operation)?;
            left = left.saturating_sub(seen(&text, &page)?);
            next = match &page["next"] {
                Value::Null => return Ok(()),
                Value::String(next) => Some(next.clone()),
                other => Some(other.to_string()),
            };
        }
        Ok(())
    }
}

/// The views and what they have parked, as somebody tells of them.
pub(super) struct Views {
    source: Source,
    known: Vec<ViewDescription>,
    json: bool,
}

enum Source {
    Gateway(Asked),
    Nats {
        client: async_nats::Client,
        authorization: Option<String>,
        replica: Option<String>,
    },
}

impl Views {
    /// Connects to whoever is to be asked.
    pub(super) async fn connect(domain: &Domain, control: &ControlConfig) -> Result<Self, Failure> {
        let source = match Asked::of(&control.ops, control.token.as_deref())? {
            Some(_) if control.replica.is_some() => {
                let reason = "--ops asks all replicas: leave out --replica, or ask over NATS";
                return Err(Failure::configuration(reason));
            }
            Some(gateway) => Source::Gateway(gateway),
            None => Source::Nats {
                client: super::connect(&control.nats, "control").await?,
                authorization: control.token.as_ref().map(|it| format!("Bearer {it}")),
                replica: control.replica.clone(),
            },
        };
        let views = domain.views().iter();
        Ok(Self {
            source,
            known: views.map(|view| view.description().clone()).collect(),
            json: control.json,
        })
    }

    fn known(&self, name: &str) -> Result<&ViewDescription, Problem> {
        let mut known = self.known.iter();
        known.find(|known| known.name == name).ok_or_else(|| {
            let detail = format!("there is no view named {name:?}");
            Problem::not_found("unknown_view", detail)
        })
    }

    /// Prints how all views are.
    pub(super) async fn list(&self) -> Result<(), Failure> {
        let text = match &self.source {
            Source::Gateway(gateway) => gateway.get(&["views"], &[]).await?,
            Source::Nats {
                client,
                authorization,
                replica,
            } => {
                let asked = statuses(client, replica.as_deref(), None, authorization.as_deref());
                let answers = asked.await.map_err(refused)?;
                written(&ToldViews::of(&self.known, answers, None))?
            }
        };
        print(&text, self.json)
    }

    /// Prints how a view is.
    pub(super) async fn status(&self, name: &str) -> Result<(), Failure> {
        let text = match &self.source {
            Source::Gateway(gateway) => gateway.get(&["views", name], &[]).await?,
            Source::Nats {
                client,
                authorization,
                replica,
            } => {
                let view = self.known(name).map_err(refused)?;
                let replica = replica.as_deref();
                let asked = statuses(client, replica, Some(name), authorization.as_deref());
                written(&ToldView::of(view, &asked.await.map_err(refused)?, None))?
            }
        };
        print(&text, self.json)
    }

    /// Prints what is parked, page by page.
    pub(super) async fn parked(
        &self,
        mut filter: ParkedFilter,
        limit: Option<u64>,
    ) -> Result<(), Failure> {
        let limit = limit.unwrap_or(u64::MAX);
        let counted = |page: &Value| page["items"].as_array().map_or(0, Vec::len) as u64;
        let (client, authorization, replica) = match &self.source {
            Source::Gateway(gateway) => {
                let generation = filter.generation.map(|it| it.to_string());
                let query = [
                    ("view", filter.view),
                    ("aggregate", filter.aggregate),
                    ("id", filter.id),
                    ("generation", generation),
                ];
                let seen = |text: &str, page: &Value| {
                    print(text, self.json)?;
                    Ok(counted(page))
                };
                return gateway
                    .pages(&["parked"], &query, ("cursor", limit), seen)
                    .await;
            }
            Source::Nats {
                client,
                authorization,
                replica,
            } => (client, authorization, replica),
        };
        let projectors = Projectors {
            client,
            authorization: authorization.as_deref(),
        };
        let mut left = limit;
        while left > 0 {
            filter.limit = usize::try_from(left.min(PAGE)).unwrap_or(1);
            filter.replica.clone_from(replica);
            let known = |view: &str| self.known(view).map(|_| ());
            let page = ParkedCommits::read(&projectors, &filter, known).await;
            let page = page.map_err(refused)?;
            print(&written(&page)?, self.json)?;
            left = left.saturating_sub(page.items.len() as u64);
            match page.next {
                Some(next) => filter.cursor = Some(next),
                None => break,
            }
        }
        Ok(())
    }

    /// Has something done to a view, or to each, and prints each job once it has ended, or once it is begun. Ends well where
    /// nothing has failed, nothing differs and nothing is parked still.
    pub(super) async fn carry_out(
        &self,
        view: Option<&str>,
        (verb, ask): (Verb, Ask),
        waits: bool,
    ) -> Result<ExitCode, Failure> {
        let views: Vec<_> = match view {
            Some(view) => vec![view.to_owned()],
            None => self.known.iter().map(|it| it.name.to_owned()).collect(),
        };
        let mut well = true;
        for view in views {
            let job = self.job(view, verb, ask.clone(), waits).await?;
            print(&written(&job)?, self.json)?;
            well &= is_well(&job);
        }
        Ok(match well {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }

    async fn job(&self, view: String, verb: Verb, ask: Ask, waits: bool) -> Result<Job, Failure> {
        let (client, authorization, replica) = match &self.source {
            Source::Gateway(Asked(gateway)) => {
                let (path, body) = order(&view, verb, &ask);
                let path: Vec<_> = path.iter().map(String::as_str).collect();
                let begun = gateway.post(&path, &body).await?;
                let job = serde_json::from_str(&begun).map_err(Failure::operation)?;
                return match waits {
                    true => gateway.end_of(job).await,
                    false => Ok(job),
                };
            }
            Source::Nats {
                client,
                authorization,
                replica,
            } => (client, authorization, replica),
        };
        self.known(&view).map_err(refused)?;
        let order = JobOrder {
            verb,
            view,
            ask,
            replica: replica.clone(),
            authorization: authorization.clone(),
            by: None,
        };
        Ok(carry_out(client.clone(), order, waits).await)
    }
}

/// The path and the body that `/ops` takes an order with.
fn order(view: &str, verb: Verb, ask: &Ask) -> (Vec<String>, Value) {
    let parked = |verb: &str| {
        let body = json!({
            "view": view, "aggregate": ask.aggregate, "id": ask.id, "all": ask.all, "generation": ask.generation,
        });
        (vec!["parked".to_owned(), verb.to_owned()], body)
    };
    let of_view = |verb: &str, body| {
        let path = ["views", view, verb].map(str::to_owned);
        (path.to_vec(), body)
    };
    let accepting = json!({ "accept_parked": ask.accept_parked });
    let (path, body) = match verb {
        Verb::Retry => parked("retry"),
        Verb::Skip => parked("skip"),
        Verb::TakeOver => of_view("take-over", accepting),
        Verb::Rollback => of_view("rollback", json!({})),
        Verb::Drop => of_view("drop", json!({ "generation": ask.generation })),
        Verb::Verify => of_view("verify", json!({ "sample": ask.sample })),
        _ => of_view("rebuild", accepting),
    };
    let given = body.as_object().cloned().unwrap_or_default();
    let given: Map<_, _> = given.into_iter().filter(|(_, it)| !it.is_null()).collect();
    (path, Value::Object(given))
}

/// Returns whether a job has come to what was wanted.
fn is_well(job: &Job) -> bool {
    let results = job.parts.iter().filter_map(|part| part.result.as_ref());
    let faults = results.flat_map(|result| {
        let counts = result.pointer("/counts/different");
        [result.get("different"), counts, result.get("still_parked")]
    });
    let faults = faults.flatten().filter_map(Value::as_u64);
    !matches!(job.state, JobState::Failed | JobState::Cancelled) && faults.sum::<u64>() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_the_fields_that_are_given() {
        let ask = Ask {
            all: true,
            ..Ask::default()
        };
        let (path, body) = order("order", Verb::Skip, &ask);
        assert_eq!(path, ["parked", "skip"]);
        assert_eq!(body, json!({"view": "order", "all": true}));
        let (path, body) = order("order", Verb::Verify, &Ask::default());
        assert_eq!(path, ["views", "order", "verify"]);
        assert_eq!(body, json!({}));
    }
}
