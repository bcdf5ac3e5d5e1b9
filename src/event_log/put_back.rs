//! Putting messages of another log where they stood: what an import writes with.
//!
//! Nothing else may write to the log meanwhile. Each batch says which position it comes after, so that it is stored
//! there and nowhere else, and once.

use super::{AppendError, EventLog, whole::LoggedMessage};
use async_nats::HeaderMap;

impl EventLog {
    /// Appends messages as one atomic batch, right after a position: at most as many as a batch takes. Their
    /// headers are those of their traces.
    ///
    /// # Errors
    ///
    /// Returns [`AppendError`]; a lost race means that the log does not end at that position.
    pub async fn put_back(
        &self,
        messages: &[LoggedMessage],
        after: u64,
    ) -> Result<(), AppendError> {
        let Some((last, others)) = messages.split_last() else {
            return Ok(());
        };
        let mut expected = Some(after);
        let mut batch = self.batch();
        for logged in others {
            let headers = headers(logged, expected.take());
            let message = &logged.message;
            batch.add_as_it_is(message, headers).await?;
        }
        let headers = headers(last, expected);
        let published = match others.is_empty() {
            true => {
                let acks = &self.0.acks;
                let message = &last.message;
                let publish =
                    acks.publish(message.subject.clone(), headers, message.payload.clone());
                publish.await?
            }
            false => batch.commit_as_it_is(&last.message, headers).await?,
        };
        let end = after + messages.len() as u64;
        match published.position == end {
            true => Ok(()),
            false => Err(AppendError::InDoubt(format!(
                "it was stored up to {}, and not {end}",
                published.position
            ))),
        }
    }
}

fn headers(logged: &LoggedMessage, after: Option<u64>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(after) = after {
        let name = async_nats::header::NATS_EXPECTED_LAST_SEQUENCE;
        headers.insert(name, after.to_string());
    }
    if let Some(trace) = &logged.trace {
        headers.insert("traceparent", trace.parent.as_str());
        if let Some(state) = &trace.state {
            headers.insert("tracestate", state.as_str());
        }
    }
    headers
}
