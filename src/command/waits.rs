//! Waiting, with a command, for the process that it has started: `Headwater-Wait: <process>`.
//!
//! The command is answered when the instance has come to rest or ended. It is a replica that runs the process
//! that tells (`prc.<process>.rest`): it reads the log, and is asked again every few seconds, so that one that
//! goes away leaves nobody behind. Whoever waits has a place before the command is given, so that too many are
//! refused while nothing has been done.

use super::{placement::Placement, request::Outcome};
use crate::{problem::Problem, request_headers::RequestHeaders};
use async_nats::Client;
use serde::{Deserialize, Serialize};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The request header that names the process to wait for.
pub const WAIT: &str = "Headwater-Wait";
/// The answer's header that says how the process is: `<process>/<id> <status>`.
pub const PROCESS: &str = "Headwater-Process";

/// The most commands of one replica that wait for a process.
const MOST: usize = 1_024;
/// The time one replica is asked to wait before it is asked again, perhaps another one.
const ROUND: Duration = Duration::from_secs(2);
/// The time an answer may be late.
const LATE: Duration = Duration::from_secs(1);
/// The pauses after an answer that did not come, or told nothing.
const PAUSES: [u64; 4] = [20, 50, 200, 500];
/// The most instances that are told of in one answer.
const TOLD: usize = 16;

/// The question to a replica that runs a process: the events of a command, and how long it may wait.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RestAsk {
    /// The aggregate of the command.
    pub aggregate: String,
    /// The aggregate's id.
    pub id: String,
    /// The position of its commit.
    pub position: u64,
    /// The version of its first event.
    pub first: u64,
    /// The version of its last event.
    pub last: u64,
    /// The longest wait, in milliseconds.
    pub wait_ms: u64,
}

/// The answer of that replica.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct RestAnswer {
    /// True if all instances are at rest, or there are none.
    pub at_rest: bool,
    /// The instances that the events belong to.
    pub instances: Vec<RestInstance>,
}

/// One instance as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RestInstance {
    /// Its id.
    pub id: String,
    /// Its status: `running`, `waiting`, `parked`, `suspended` or `ended`.
    pub status: String,
}

/// The commands of a replica that wait for processes.
#[derive(Clone)]
pub struct ProcessWaits(Arc<Inner>);

struct Inner {
    nats: Option<Client>,
    /// The processes that there are.
    processes: Vec<&'static str>,
    places: Arc<Semaphore>,
    stopping: CancellationToken,
}

/// One command that is to wait.
pub struct ProcessWait {
    waits: Arc<Inner>,
    process: &'static str,
    most: Duration,
    _place: OwnedSemaphorePermit,
}

/// The state of a process by the time that its caller is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rested {
    /// False if the time was over before it came to rest.
    pub at_rest: bool,
    /// The value of [`PROCESS`]; `None` where nothing was started, or nothing is known of it.
    pub told: Option<String>,
}

impl ProcessWaits {
    /// Waits for these processes, with the replicas that are reached like this.
    #[must_use]
    pub(super) fn new(processes: Vec<&'static str>, placement: Option<&Placement>) -> Self {
        let nats = placement.map(|placement| placement.nats().clone());
        Self(Arc::new(Inner {
            processes: if nats.is_some() {
                processes
            } else {
                Vec::new()
            },
            nats,
            places: Arc::new(Semaphore::new(MOST)),
            stopping: CancellationToken::new(),
        }))
    }

    /// There is no process to wait for.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Vec::new(), None)
    }

    /// Returns the processes that can be waited for.
    #[must_use]
    pub fn processes(&self) -> &[&'static str] {
        &self.0.processes
    }

    /// Reads what a request says of waiting, and takes a place; `None` when it says nothing.
    ///
    /// # Errors
    ///
    /// Returns `malformed` with the header's name where there is no such process or the time is of another
    /// form, `overloaded` where too many wait.
    pub fn begin(&self, headers: &impl RequestHeaders) -> Result<Option<ProcessWait>, Problem> {
        // Of the wrong form it is refused whether or not something is waited for.
        let most = headers.max_wait()?;
        let Some(name) = headers.single(WAIT)? else {
            return Ok(None);
        };
        let mut processes = self.0.processes.iter();
        let known = processes.find(|process| **process == name);
        let process = known.copied().ok_or_else(|| {
            let there = match self.0.processes.is_empty() {
                true => "there are no processes here".to_owned(),
                false => format!("there is: {}", self.0.processes.join(", ")),
            };
            let detail = format!("there is no process of this name; {there}");
            Problem::malformed(WAIT.to_owned(), detail)
        })?;
        let place = self.0.places.clone().try_acquire_owned();
        let place = place.map_err(|_| Problem::overloaded())?;
        Ok(Some(ProcessWait {
            waits: self.0.clone(),
            process,
            most,
            _place: place,
        }))
    }

    /// Has all that wait answered as they are, and all that come.
    pub(crate) fn stop(&self) {
        self.0.stopping.cancel();
    }
}

impl ProcessWait {
    /// Waits until what an accepted command has started is at rest, or the time is over.
    pub async fn rest(self, outcome: &Outcome) -> Rested {
        let nothing = Rested {
            at_rest: true,
            told: None,
        };
        let (Some(nats), Some(first), Some(last)) = (
            &self.waits.nats,
            outcome.events.first(),
            outcome.events.last(),
        ) else {
            return nothing;
        };
        let ask = RestAsk {
            aggregate: outcome.aggregate.to_string(),
            id: outcome.id.to_string(),
            position: outcome.position,
            first: first.version,
            last: last.version,
            wait_ms: 0,
        };
        let end = Instant::now() + self.most;
        let mut known = RestAnswer::default();
        let asking = async {
            let mut pauses = PAUSES.iter();
            let mut pause = PAUSES[0];
            loop {
                let left = end.saturating_duration_since(Instant::now());
                match ask_once(nats, self.process, &ask, left.min(ROUND)).await {
                    Some(answer) if answer.at_rest => {
                        known = answer;
                        return;
                    }
                    Some(answer) if !answer.instances.is_empty() => known = answer,
                    _ => {
                        pause = pauses.next().copied().unwrap_or(pause);
                        tokio::time::sleep(Duration::from_millis(pause)).await;
                    }
                }
                if Instant::now() >= end {
                    return;
                }
            }
        };
        tokio::select! {
            () = asking => {}
            () = tokio::time::sleep(self.most + LATE) => {}
            () = self.waits.stopping.cancelled() => {}
        }
        Rested {
            at_rest: known.at_rest,
            told: self.told(&known.instances),
        }
    }

    fn told(&self, instances: &[RestInstance]) -> Option<String> {
        let told = instances.iter().take(TOLD);
        let told = told.map(|one| format!("{}/{} {}", self.process, one.id, one.status));
        let told: Vec<_> = told.collect();
        (!told.is_empty()).then(|| told.join(", "))
    }
}

/// Asks one of the replicas that run the process; `None` when none tells.
async fn ask_once(
    nats: &Client,
    process: &str,
    ask: &RestAsk,
    wait: Duration,
) -> Option<RestAnswer> {
    let ask = RestAsk {
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        ..ask.clone()
    };
    let body = serde_json::to_vec(&ask).ok()?;
    let request = async_nats::Request::new()
        .payload(body.into())
        .timeout(Some(wait + LATE));
    let subject = format!("prc.{process}.rest");
    let asking = nats.send_request(subject, request);
    // The channel of the connection has no bound of its own.
    let answer = tokio::time::timeout(wait + LATE, asking).await.ok()?.ok()?;
    serde_json::from_slice(&answer.payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_nats::HeaderMap;

    fn waits() -> ProcessWaits {
        ProcessWaits(Arc::new(Inner {
            nats: None,
            processes: vec!["fulfilment"],
            places: Arc::new(Semaphore::new(1)),
            stopping: CancellationToken::new(),
        }))
    }

    fn headers(given: &[(&str, &str)]) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, *value);
        }
        Some(headers)
    }

    #[test]
    fn who_does_not_ask_does_not_wait() {
        assert!(waits().begin(&headers(&[])).unwrap().is_none());
        let time = [("Headwater-Max-Wait-Ms", "50")];
        assert!(waits().begin(&headers(&time)).unwrap().is_none());
        let bad_time = headers(&[("Headwater-Max-Wait-Ms", "soon")]);
        let problem = waits().begin(&bad_time).err().expect("a refusal");
        assert_eq!(problem.field.as_deref(), Some("Headwater-Max-Wait-Ms"));
    }

    #[test]
    fn what_cannot_be_waited_for_names_its_header() {
        let named = |given: &[(&str, &str)]| {
            let begun = waits().begin(&headers(given));
            let problem = begun.err().expect("a refusal");
            (problem.status, problem.field.unwrap_or_default())
        };
        let wait = (400, WAIT.to_owned());
        assert_eq!(named(&[(WAIT, "order")]), wait);
        assert_eq!(named(&[(WAIT, "")]), wait);
        assert_eq!(named(&[(WAIT, "fulfilment, fulfilment")]), wait);
        assert_eq!(named(&[(WAIT, "fulfilment"), (WAIT, "fulfilment")]), wait);
        let time = [(WAIT, "fulfilment"), ("headwater-max-wait-ms", "30001")];
        assert_eq!(named(&time), (400, "Headwater-Max-Wait-Ms".to_owned()));
        let none = ProcessWaits::none().begin(&headers(&[(WAIT, "fulfilment")]));
        assert_eq!(none.err().unwrap().field.as_deref(), Some(WAIT));
    }

    #[test]
    fn no_more_wait_than_there_are_places() {
        let waits = waits();
        let wanted = headers(&[("headwater-wait", "fulfilment")]);
        let first = waits.begin(&wanted).unwrap();
        assert!(first.is_some());
        assert_eq!(waits.begin(&wanted).err().unwrap().status, 429);
        drop(first);
        assert!(waits.begin(&wanted).unwrap().is_some());
    }
}
