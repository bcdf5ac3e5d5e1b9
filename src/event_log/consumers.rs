//! The consumers of the log, and which of them nobody reads any more.

use super::{EventLog, LoadError, subject::STREAM};
use serde::Deserialize;
use std::{fmt, time::Duration};

/// The beginning of the names of the consumers that Headwater makes.
const OURS: [&str; 2] = ["view-", "verify-"];
/// The number that are asked for before it is given up: a server tells 256 at a time.
const PAGES: usize = 400;

/// A consumer of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// After how long without a reader the server removes it; never when `None`.
    pub inactive: Option<Duration>,
    /// True if somebody reads from it now.
    pub is_read: bool,
}

impl Consumer {
    /// Returns whether Headwater has made it and nobody reads from it: its reader is gone, or about to come back.
    #[must_use]
    pub fn is_stray(&self) -> bool {
        !self.is_read && OURS.iter().any(|start| self.name.starts_with(start))
    }
}

impl fmt::Display for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STREAM}: nobody reads from the consumer {}", self.name)?;
        match self.inactive {
            Some(after) => write!(f, "; it goes by itself after {} s", after.as_secs()),
            None => f.write_str("; it stays until it is deleted, which loses nothing"),
        }
    }
}

#[derive(Deserialize)]
struct Page {
    total: Option<usize>,
    #[serde(default)]
    consumers: Vec<Info>,
    error: Option<async_nats::jetstream::Error>,
}

#[derive(Deserialize)]
struct Info {
    name: String,
    config: Config,
    #[serde(default)]
    num_waiting: u64,
}

#[derive(Deserialize)]
struct Config {
    /// In nanoseconds.
    #[serde(default)]
    inactive_threshold: u64,
}

impl EventLog {
    /// Returns all consumers of the log.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be asked.
    pub async fn consumers(&self) -> Result<Vec<Consumer>, LoadError> {
        let mut all = Vec::new();
        for _ in 0..PAGES {
            let query = serde_json::json!({ "offset": all.len() });
            let page: Page = self.api(&format!("CONSUMER.LIST.{STREAM}"), &query).await?;
            if let Some(error) = page.error {
                return Err(LoadError::Unavailable(error.to_string()));
            }
            let last = page.consumers.is_empty();
            all.extend(page.consumers.into_iter().map(|info| Consumer {
                inactive: match info.config.inactive_threshold {
                    0 => None,
                    after => Some(Duration::from_nanos(after)),
                },
                is_read: info.num_waiting > 0,
                name: info.name,
            }));
            if last || page.total.is_none_or(|total| all.len() >= total) {
                break;
            }
        }
        Ok(all)
    }
}
