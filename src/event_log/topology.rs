//! The streams and buckets that Headwater needs, from the very files in `nats/`.
//!
//! The files are compiled in and sent to the server as they stand, through the raw JetStream API, so
//! that no client library's idea of a default gets between what is reviewed and what runs.
//! [`Topology::apply`] changes a server, [`Topology::verify`] only looks. Settings that a file does
//! not mention are the operator's, and so are the bounds of [`setting`]: they are told, and never
//! changed. Each stream says in its metadata which revision of its file it was brought to; an older
//! program changes nothing of it.

mod difference;
mod durability;
mod setting;

pub use difference::{Difference, Whose};
pub use durability::Durability;

use super::{ApiPrefix, health::Trouble};
use async_nats::{Client, RequestErrorKind};
use difference::{compare, told};
use serde_json::{Map, Value};
use setting::{METADATA, REPLICAS, is_operators, revision};
use std::time::Duration;

const FILES: [(&str, &str); 2] = [
    (
        "nats/streams/EVENTS.json",
        include_str!("../../nats/streams/EVENTS.json"),
    ),
    (
        "nats/kv/snapshots.json",
        include_str!("../../nats/kv/snapshots.json"),
    ),
];

/// Needed only where there are processes.
const DEADLINES: (&str, &str) = (
    "nats/streams/DEADLINES.json",
    include_str!("../../nats/streams/DEADLINES.json"),
);

const STREAM_NOT_FOUND: u64 = 10059;
const STREAM_NAME_IN_USE: u64 = 10058;
/// A cluster that has just formed does not know all of its members.
const NO_PEERS: u64 = 10005;
/// Creating a stream on a loaded cluster takes longer than a request usually does.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The wanted configuration of every stream.
#[derive(Debug, Clone)]
pub struct Topology {
    streams: Vec<Map<String, Value>>,
    replicas: Option<u8>,
    api: ApiPrefix,
}

/// The result of [`Topology::apply`] for one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It did not exist.
    Created,
    /// It existed with other settings.
    Updated,
    /// It was already as wanted.
    Unchanged,
    /// A newer program brought it to a newer file; it was left as it is.
    Newer,
}

impl Default for Topology {
    fn default() -> Self {
        Self::embedded()
    }
}

impl Topology {
    /// The topology of the files that were compiled in.
    ///
    /// # Panics
    ///
    /// Never in a build whose tests pass: the files are checked there.
    #[must_use]
    pub fn embedded() -> Self {
        Self::of(FILES)
    }

    /// Only the stream of the alarms of processes.
    ///
    /// # Panics
    ///
    /// As [`Topology::embedded`].
    #[must_use]
    pub fn deadlines() -> Self {
        Self::of([DEADLINES])
    }

    /// Wants the stream of the alarms of processes as well.
    ///
    /// # Panics
    ///
    /// As [`Topology::embedded`].
    #[must_use]
    pub fn with_deadlines(mut self) -> Self {
        self.streams.extend(Self::deadlines().streams);
        self
    }

    fn of(files: impl IntoIterator<Item = (&'static str, &'static str)>) -> Self {
        let parse = |(path, text): (&str, &str)| match serde_json::from_str(text) {
            Ok(Value::Object(stream)) => stream,
            Ok(_) => panic!("{path} is not a JSON object"),
            Err(error) => panic!("{path} is not JSON: {error}"),
        };
        Self {
            streams: files.into_iter().map(parse).collect(),
            replicas: None,
            api: ApiPrefix::default(),
        }
    }

    /// Asks for this many replicas (1 to 5) of every stream. Without it a new stream starts with
    /// what its file says, and an existing one keeps what it has.
    #[must_use]
    pub fn with_replicas(mut self, replicas: u8) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// Reaches JetStream under another prefix.
    #[must_use]
    pub fn with_api(mut self, api: ApiPrefix) -> Self {
        self.api = api;
        self
    }

    /// Creates what is missing and changes what differs, but for an operator's own bounds. Applying
    /// twice changes nothing, and so does applying from two places at once. What a newer program has
    /// brought to a newer file is left as it is.
    ///
    /// # Errors
    ///
    /// Returns [`TopologyError`]; the streams before the one that failed are done, and applying
    /// again goes on from there.
    pub async fn apply(&self, client: &Client) -> Result<Vec<(String, Change)>, TopologyError> {
        let mut done = Vec::with_capacity(self.streams.len());
        for file in &self.streams {
            let change = self.apply_stream(client, file).await?;
            done.push((name_of(file).to_owned(), change));
        }
        Ok(done)
    }

    /// Compares every setting in the files with the server's. Empty means that all is as wanted;
    /// [`Difference::whose`] tells what is wrong from what is an operator's own.
    ///
    /// # Errors
    ///
    /// Returns [`TopologyError`] when the server cannot be asked.
    pub async fn verify(&self, client: &Client) -> Result<Vec<Difference>, TopologyError> {
        let mut differences = Vec::new();
        for file in &self.streams {
            let wanted = self.wanted(file);
            match found(client, &self.api, name_of(file)).await? {
                Some(found) => {
                    differences.extend(compare(&wanted, &found));
                    differences.extend(told(name_of(file), &wanted, &found));
                }
                None => differences.push(Difference::missing(name_of(file))),
            }
        }
        Ok(differences)
    }

    /// Returns what must hold of an existing stream.
    fn wanted(&self, file: &Map<String, Value>) -> Map<String, Value> {
        let mut wanted = file.clone();
        match self.replicas {
            Some(replicas) => wanted.insert(REPLICAS.to_owned(), replicas.into()),
            None => wanted.remove(REPLICAS),
        };
        wanted
    }

    async fn apply_stream(
        &self,
        client: &Client,
        file: &Map<String, Value>,
    ) -> Result<Change, TopologyError> {
        let name = name_of(file);
        let wanted = self.wanted(file);
        if found(client, &self.api, name).await?.is_none() {
            let mut new = file.clone();
            new.extend(wanted.clone());
            match request(client, &self.api, "CREATE", name, &new).await {
                Ok(_) => return Ok(Change::Created),
                // Another replica was faster, with an older or newer file.
                Err(TopologyError::Refused { code, .. }) if code == STREAM_NAME_IN_USE => {}
                Err(error) => return Err(error),
            }
        }
        let mut config =
            found(client, &self.api, name)
                .await?
                .ok_or_else(|| TopologyError::Vanished {
                    stream: name.to_owned(),
                })?;
        if revision(&config) > revision(file) {
            return Ok(Change::Newer);
        }
        let differs = |difference: &Difference| difference.whose == Whose::Program;
        if !compare(&wanted, &config).iter().any(differs) {
            return Ok(Change::Unchanged);
        }
        for (field, value) in wanted {
            match (config.get_mut(&field), value) {
                _ if is_operators(&field, self.replicas.is_some()) => {}
                (Some(Value::Object(found)), Value::Object(value)) if field == METADATA => {
                    found.extend(value);
                }
                (_, value) => {
                    config.insert(field, value);
                }
            }
        }
        request(client, &self.api, "UPDATE", name, &config).await?;
        Ok(Change::Updated)
    }
}

/// Returns whether JetStream answers within a second: a server that has just started takes connections a
/// little before, and a cluster without a leader does not answer at all.
pub async fn is_ready(client: &Client) -> bool {
    let request = async_nats::Request::new().timeout(Some(Duration::from_secs(1)));
    client.send_request("$JS.API.INFO", request).await.is_ok()
}

/// Returns how many copies NATS keeps of the log.
///
/// # Errors
///
/// Returns [`TopologyError`] when the server cannot be asked, or the stream is not there.
pub async fn replicas(client: &Client, api: &ApiPrefix) -> Result<u64, TopologyError> {
    let stream = super::subject::STREAM;
    let found = found(client, api, stream).await?;
    let config = found.ok_or_else(|| TopologyError::Vanished {
        stream: stream.to_owned(),
    })?;
    // The server leaves out what is zero, and zero copies are one.
    Ok(config.get(REPLICAS).and_then(Value::as_u64).unwrap_or(1))
}

fn name_of(file: &Map<String, Value>) -> &str {
    file.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// The server's configuration of a stream, or `None` when there is no such stream.
async fn found(
    client: &Client,
    api: &ApiPrefix,
    stream: &str,
) -> Result<Option<Map<String, Value>>, TopologyError> {
    match request(client, api, "INFO", stream, &Map::new()).await {
        Ok(config) => Ok(Some(config)),
        Err(TopologyError::Refused { code, .. }) if code == STREAM_NOT_FOUND => Ok(None),
        Err(error) => Err(error),
    }
}

/// Asks `STREAM.<verb>.<stream>`, and answers with the configuration that it returns.
async fn request(
    client: &Client,
    api: &ApiPrefix,
    verb: &'static str,
    stream: &str,
    body: &Map<String, Value>,
) -> Result<Map<String, Value>, TopologyError> {
    let subject = api.subject(&format!("STREAM.{verb}.{stream}"));
    let body = serde_json::to_vec(body).expect("a JSON object serialises");
    let request = async_nats::Request::new()
        .payload(body.into())
        .timeout(Some(REQUEST_TIMEOUT));
    let reply = client
        .send_request(subject, request)
        .await
        .map_err(|error| TopologyError::NoAnswer {
            stream: stream.to_owned(),
            reason: match error.kind() {
                RequestErrorKind::NoResponders => "JetStream is off or not ready".to_owned(),
                RequestErrorKind::TimedOut => "no answer in time".to_owned(),
                _ => error.to_string(),
            },
        })?;
    let mut reply: Map<String, Value> =
        serde_json::from_slice(&reply.payload).map_err(|source| TopologyError::Unreadable {
            stream: stream.to_owned(),
            source,
        })?;
    if let Some(error) = reply.get("error") {
        return Err(TopologyError::Refused {
            verb,
            stream: stream.to_owned(),
            status: error["code"].as_u64().unwrap_or_default(),
            code: error["err_code"].as_u64().unwrap_or_default(),
            description: error["description"].as_str().unwrap_or_default().to_owned(),
        });
    }
    match reply.remove("config") {
        Some(Value::Object(config)) => Ok(config),
        _ => Ok(Map::new()),
    }
}

/// The reason why a topology could not be applied or verified.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The server did not answer. Retryable.
    #[error("cannot ask for the stream {stream}: {reason}")]
    NoAnswer {
        /// The stream's name.
        stream: String,
        /// The outcome instead.
        reason: String,
    },
    /// The server refused. Retryable only when it says that it is short of something for now.
    #[error("the server refused {verb} of the stream {stream}: {description} (code {code})")]
    Refused {
        /// `CREATE`, `UPDATE` or `INFO`.
        verb: &'static str,
        /// The stream's name.
        stream: String,
        /// The status, as HTTP's.
        status: u64,
        /// The server's own code.
        code: u64,
        /// The server's own words.
        description: String,
    },
    /// The answer is not what JetStream answers. Terminal.
    #[error("the answer for the stream {stream} cannot be read: {source}")]
    Unreadable {
        /// The stream's name.
        stream: String,
        /// The fault.
        source: serde_json::Error,
    },
    /// The stream was deleted while it was looked at. Retryable.
    #[error("the stream {stream} was deleted while it was being set up")]
    Vanished {
        /// The stream's name.
        stream: String,
    },
}

impl TopologyError {
    /// Returns whether trying again, later, can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoAnswer { .. } | Self::Vanished { .. } => true,
            Self::Refused {
                status,
                code,
                description,
                ..
            } => {
                *status == 503
                    || *code == NO_PEERS
                    || Trouble::of_error(*code, description).is_some()
            }
            Self::Unreadable { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_name_the_streams_that_the_program_uses() {
        let topology = Topology::embedded().with_deadlines();
        let names: Vec<_> = topology.streams.iter().map(name_of).collect();
        let deadlines = super::super::alarms::STREAM;
        assert_eq!(
            names,
            [super::super::subject::STREAM, "KV_snapshots", deadlines]
        );
        for stream in &topology.streams {
            assert_eq!(stream[REPLICAS], 1, "where a new stream starts");
            assert!(revision(stream) > 0, "{}", name_of(stream));
        }
    }
}
