//! Looking at the log twice a second: is it there, does it take anything, is it the same.

use super::{LogHealth, Trouble};
use crate::event_log::{EventLog, subject::STREAM, version};
use async_nats::{Client, client::RequestErrorKind, connection::State};
use futures::StreamExt;
use serde::Deserialize;
use std::time::Duration;
use tokio::{sync::Notify, time::MissedTickBehavior};

/// The pause between two looks.
const INTERVAL: Duration = Duration::from_millis(500);
/// The time an answer is waited for. A log that is very busy takes this long now and then.
const PATIENCE: Duration = Duration::from_secs(1);
/// The number of looks in a row without an answer that are a trouble.
const SILENT: u32 = 2;

/// A task that looks at the log for as long as the replica lives.
#[derive(Debug)]
pub struct Monitor {
    log: EventLog,
    health: LogHealth,
    connections: Vec<Client>,
    silent: u32,
    last: Option<Seen>,
}

/// The answer to `STREAM.INFO`, as far as it matters.
#[derive(Deserialize)]
struct Info {
    error: Option<InfoError>,
    #[serde(default)]
    created: String,
    #[serde(default)]
    config: Config,
    #[serde(default)]
    state: StreamState,
}

#[derive(Deserialize)]
struct InfoError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    sealed: bool,
    max_msgs: i64,
    max_bytes: i64,
    discard: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StreamState {
    messages: u64,
    bytes: u64,
    last_seq: u64,
}

/// Which log it was, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    created: String,
    last_seq: u64,
}

impl Monitor {
    /// Looks at the log by the connection of `log`, and at all these connections.
    #[must_use]
    pub fn new(log: EventLog, connections: Vec<Client>) -> Self {
        Self {
            health: log.health().clone(),
            log,
            connections,
            silent: 0,
            last: None,
        }
    }

    /// Looks again and again. It ends with the threads that it runs on.
    pub async fn run(mut self) {
        let available = metrics::gauge!("headwater_log_available");
        let advisories = format!("$JS.EVENT.ADVISORY.STREAM.*.{STREAM}");
        // Without them a change is noticed at the next look.
        let advised = self.log.client().subscribe(advisories).await;
        let advised = match advised {
            Ok(advised) => advised.boxed(),
            Err(_) => futures::stream::pending().boxed(),
        };
        let (health, again) = (self.health.clone(), Notify::new());
        // Beside the looks, which may take long: whoever reads is to know of a change at once.
        let told = advised.for_each(|advice| {
            if is_a_change(advice.subject.as_str()) {
                health.suspect("the server told of a change of the stream");
                if change_of(advice.subject.as_str()) == ELECTED {
                    health.elected();
                }
                again.notify_one();
            }
            std::future::ready(())
        });
        let looks = async {
            let mut ticks = tokio::time::interval(INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = again.notified() => {}
                }
                let trouble = self.look().await;
                self.health.watched(trouble);
                available.set(if self.health.trouble().is_none() {
                    1.0
                } else {
                    0.0
                });
            }
        };
        tokio::join!(told, looks);
    }

    async fn look(&mut self) -> Option<Trouble> {
        let away = |client: &Client| client.connection_state() != State::Connected;
        if self.connections.iter().any(away) {
            return Some(Trouble::NotConnected);
        }
        for client in &self.connections {
            if let Err(error) = version::check_connected(client) {
                return Some(Trouble::TooOld(error));
            }
        }
        let subject = self.log.0.api.subject(&format!("STREAM.INFO.{STREAM}"));
        let answer = self.log.ask(subject, async_nats::Request::new(), PATIENCE);
        let reason = match answer.await {
            Ok(answer) => match serde_json::from_slice::<Info>(&answer.payload) {
                Ok(info) => {
                    self.silent = 0;
                    return self.judge(info);
                }
                Err(error) => return Some(Trouble::NoJetStream(error.to_string())),
            },
            Err(RequestErrorKind::NoResponders) => {
                return Some(Trouble::NoJetStream("it is off or not ready".to_owned()));
            }
            Err(reason) => reason,
        };
        tracing::debug!(%reason, "the stream does not answer");
        self.silent += 1;
        (self.silent >= SILENT).then_some(Trouble::NoAnswer)
    }

    fn judge(&mut self, info: Info) -> Option<Trouble> {
        if let Some(error) = info.error {
            // Whatever comes back in its place is another log until it is known to be the same.
            self.suspect("the stream is not there");
            let trouble = Trouble::of_error(error.err_code, &error.description);
            return Some(trouble.unwrap_or(Trouble::NoJetStream(error.description)));
        }
        let seen = Seen {
            created: info.created,
            last_seq: info.state.last_seq,
        };
        if let Some(last) = &self.last {
            if last.created != seen.created {
                self.suspect("the stream was made anew");
            } else if last.last_seq > seen.last_seq {
                self.suspect("the stream got shorter");
            }
        }
        self.last = Some(seen);
        if info.config.sealed {
            return Some(Trouble::Sealed);
        }
        full(&info.config, &info.state).map(Trouble::Full)
    }

    /// Tells that the log may be another one than the one that is remembered.
    fn suspect(&self, reason: &str) {
        self.health.suspect(reason);
    }
}

/// The advisory of a stream's copies that have agreed on a leader.
const ELECTED: &str = "LEADER_ELECTED";

/// Returns whether an advisory is of what is done to a stream, and not of what is done with it, such as a snapshot
/// for a backup.
fn is_a_change(subject: &str) -> bool {
    ["CREATED", "DELETED", "UPDATED", "RESTORE_COMPLETE", ELECTED].contains(&change_of(subject))
}

fn change_of(subject: &str) -> &str {
    subject.rsplit('.').nth(1).unwrap_or_default()
}

/// The bound that a stream has reached. A log that forgets its oldest when it is full is never full.
fn full(config: &Config, state: &StreamState) -> Option<String> {
    let reached =
        |bound: i64, has: u64| u64::try_from(bound).is_ok_and(|bound| bound > 0 && has >= bound);
    if config.discard != "new" {
        None
    } else if reached(config.max_msgs, state.messages) {
        Some(format!("max_msgs is {}", config.max_msgs))
    } else if reached(config.max_bytes, state.bytes) {
        Some(format!("max_bytes is {}", config.max_bytes))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_full_at_a_bound_that_it_has() {
        let config = |max_msgs, max_bytes| Config {
            max_msgs,
            max_bytes,
            discard: "new".to_owned(),
            sealed: false,
        };
        let state = StreamState {
            messages: 10,
            bytes: 1_000,
            last_seq: 10,
        };
        assert_eq!(full(&config(-1, -1), &state), None);
        assert_eq!(full(&config(11, 1_001), &state), None);
        assert_eq!(full(&config(10, -1), &state).unwrap(), "max_msgs is 10");
        assert_eq!(full(&config(-1, 999), &state).unwrap(), "max_bytes is 999");
        let forgets = Config {
            discard: "old".to_owned(),
            ..config(10, -1)
        };
        assert_eq!(full(&forgets, &state), None);
    }
}
