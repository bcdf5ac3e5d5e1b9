//! Copies of a stream, and putting them back: what makes a log another one.

use super::{
    nats::Nats,
    poll::eventually,
    service::{headwater, run},
};
use async_nats::{Client, jetstream};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);

/// A stream as its server's API hands it out (ADR-40 tells no more than the server's source).
#[derive(Debug, Clone)]
pub struct Backup {
    stream: String,
    config: Value,
    state: Value,
    chunks: Vec<Bytes>,
}

impl Backup {
    /// Takes one while the server runs.
    pub async fn take(client: &Client, stream: &str) -> Self {
        let inbox = client.new_inbox();
        let mut incoming = client.subscribe(inbox.clone()).await.unwrap();
        let asked = json!({"deliver_subject": inbox, "no_consumers": true, "chunk_size": 65_536});
        let answer = api(client, &format!("STREAM.SNAPSHOT.{stream}"), &asked).await;
        let mut chunks = Vec::new();
        loop {
            let next = tokio::time::timeout(LIMIT, incoming.next());
            let chunk = next.await.expect("a backup comes").expect("connected");
            if chunk.payload.is_empty() {
                break;
            }
            chunks.push(chunk.payload);
            if let Some(reply) = chunk.reply {
                client.publish(reply, Bytes::new()).await.unwrap();
            }
        }
        Self {
            stream: stream.to_owned(),
            config: answer["config"].clone(),
            state: answer["state"].clone(),
            chunks,
        }
    }

    /// Puts it in the place of the stream, which must not be there.
    pub async fn restore(&self, client: &Client) {
        let asked = json!({"config": self.config, "state": self.state});
        let answer = api(client, &format!("STREAM.RESTORE.{}", self.stream), &asked).await;
        let to = answer["deliver_subject"].as_str().unwrap().to_owned();
        for chunk in &self.chunks {
            client.request(to.clone(), chunk.clone()).await.unwrap();
        }
        let done = client.request(to, Bytes::new()).await.unwrap();
        let done: Value = serde_json::from_slice(&done.payload).unwrap();
        assert_eq!(done["error"], Value::Null, "{done}");
    }
}

async fn api(client: &Client, verb: &str, body: &Value) -> Value {
    let subject = format!("$JS.API.{verb}");
    let answer = client.request(subject, body.to_string().into()).await;
    let answer: Value = serde_json::from_slice(&answer.unwrap().payload).unwrap();
    assert_eq!(answer["error"], Value::Null, "{verb}: {answer}");
    answer
}

/// What the log was, to be put back in its place.
pub enum Kept {
    /// What the server finds after the machine has lost power.
    Files(TempDir),
    /// What an operator restores while the server runs.
    Backup(Backup),
    /// Nothing, so that it is made anew.
    Nothing,
}

impl Kept {
    /// Puts it in the place of the log.
    pub async fn put_back(&self, nats: &mut Nats, client: &Client) {
        match self {
            Self::Files(copy) => {
                nats.kill();
                nats.put_back("EVENTS", copy);
                nats.start_again();
                eventually("the log is back", || async {
                    let jetstream = jetstream::new(client.clone());
                    jetstream.get_stream("EVENTS").await.ok().map(|_| ())
                })
                .await;
            }
            Self::Backup(backup) => {
                delete(client, "EVENTS").await;
                backup.restore(client).await;
            }
            Self::Nothing => {
                delete(client, "EVENTS").await;
                recreate(&nats.url()).await;
            }
        }
    }
}

/// Makes the stream anew as an operator does.
pub async fn recreate(nats_url: &str) {
    let mut apply = headwater(["topology", "apply", "--nats", nats_url]);
    let applied = tokio::task::spawn_blocking(move || run(&mut apply));
    let applied = applied.await.unwrap();
    assert!(applied.status.success(), "{applied:?}");
}

/// Deletes a stream.
pub async fn delete(client: &Client, stream: &str) {
    let jetstream = jetstream::new(client.clone());
    jetstream.delete_stream(stream).await.unwrap();
}

/// The position of a stream's last message.
pub async fn last_position(client: &Client, stream: &str) -> u64 {
    let jetstream = jetstream::new(client.clone());
    let stream = jetstream.get_stream(stream).await.unwrap();
    stream.cached_info().state.last_sequence
}

impl Nats {
    fn stream_folder(&self, stream: &str) -> PathBuf {
        self.folder().join("jetstream/$G/streams").join(stream)
    }

    /// Copies a stream's files as they stand, while the server is stopped or held for a moment.
    pub fn copy_stream(&self, stream: &str) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        self.pause();
        copy_folder(&self.stream_folder(stream), copy.path());
        self.resume();
        copy
    }

    /// Puts a copy in the place of a stream's files. The server must not run.
    pub fn put_back(&self, stream: &str, copy: &TempDir) {
        let folder = self.stream_folder(stream);
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        copy_folder(copy.path(), &folder);
    }
}

pub(super) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
