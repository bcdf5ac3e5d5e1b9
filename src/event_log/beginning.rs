//! The position where a process begins to follow the log: `log.process.<name>`, written once.
//!
//! A process that is added to a log with a history follows what comes from then on: what has happened before
//! was settled without it.

use super::{Append, AppendError, EventLog, LoadError};
use async_nats::HeaderMap;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Beginning {
    after: u64,
}

impl EventLog {
    /// Returns the position after which a process follows the log. The first to ask decides it: it is where
    /// the log ends then.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read or written.
    pub async fn beginning_of(&self, process: &str) -> Result<u64, LoadError> {
        let subject = format!("log.process.{process}");
        // Another one may be first, and an append in doubt is settled by reading.
        let mut refused = String::new();
        for _ in 0..3 {
            if let Some(message) = self.last_message(&subject).await? {
                let read = serde_json::from_slice::<Beginning>(&message.payload);
                let read = read.map_err(|error| LoadError::Unreadable {
                    position: message.position,
                    reason: error.to_string(),
                });
                return read.map(|beginning| beginning.after);
            }
            let after = self.end().await?;
            let body = serde_json::to_vec(&Beginning { after })
                .map_err(|error| LoadError::Corrupt(error.to_string()))?;
            let append = Append {
                subject: subject.clone(),
                expected: 0,
                payload: body.into(),
                headers: HeaderMap::new(),
            };
            match self.append(append).await {
                Ok(_) => return Ok(after),
                Err(AppendError::LostRace) => {}
                Err(error) => refused = error.to_string(),
            }
        }
        Err(LoadError::Unavailable(refused))
    }
}
