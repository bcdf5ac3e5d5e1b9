//! Which of the programs that share a store keeps a view.
//!
//! The one that does says so on `home.<view>` twice a second; the others stand by, and one of them
//! takes the view over when it has heard nothing for two seconds, or at once when the home says that
//! it leaves. Where two find that both do, the one whose name comes first stays. None of this is
//! what keeps the documents right: that is the fence of each checkpoint.

use async_nats::Client;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::{
    runtime::Handle,
    sync::{Mutex, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// How often the home says that it is there.
const BEAT: Duration = Duration::from_millis(500);
/// After how long without a word another takes over.
const SILENT: Duration = Duration::from_secs(2);

/// Whether this program keeps a view.
pub struct Home {
    here: Option<Mutex<watch::Receiver<bool>>>,
    contest: Option<Contest>,
}

struct Contest {
    client: Client,
    beat: Beat,
    stopping: CancellationToken,
}

impl Drop for Contest {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

/// What is said on `home.<view>`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Beat {
    store: String,
    view: String,
    /// The version of the view that is kept: programs that have another keep that.
    version: u32,
    writer: String,
    leaving: bool,
}

impl Beat {
    fn contends(&self, other: &Self) -> bool {
        other.writer != self.writer
            && other.store == self.store
            && other.view == self.view
            && other.version == self.version
    }

    fn subject(&self) -> String {
        format!("home.{}", self.view)
    }

    fn body(&self) -> bytes::Bytes {
        let body = serde_json::to_vec(self).expect("a beat is plain data");
        body.into()
    }
}

impl Home {
    /// Always: no other program writes the store.
    #[must_use]
    pub fn always() -> Self {
        Self {
            here: None,
            contest: None,
        }
    }

    /// Whoever is there. Programs are told apart by `writer`, and only those that have the same
    /// version of the view in the same store contend.
    #[must_use]
    pub fn contended(
        client: &Client,
        (view, version): (&str, u32),
        store: &str,
        writer: &str,
        runtime: &Handle,
    ) -> Self {
        let beat = Beat {
            store: store.to_owned(),
            view: view.to_owned(),
            version,
            writer: writer.to_owned(),
            leaving: false,
        };
        let (here, heard) = watch::channel(false);
        let stopping = CancellationToken::new();
        let contending = contend(client.clone(), beat.clone(), here);
        let stop = stopping.clone();
        runtime.spawn(async move {
            tokio::select! {
                () = contending => {}
                () = stop.cancelled() => {}
            }
        });
        Self {
            here: Some(Mutex::new(heard)),
            contest: Some(Contest {
                client: client.clone(),
                beat,
                stopping,
            }),
        }
    }

    /// Whether it does now.
    pub(super) async fn is_here(&self) -> bool {
        match &self.here {
            Some(here) => *here.lock().await.borrow_and_update(),
            None => true,
        }
    }

    /// Waits until that changes.
    pub(super) async fn changed(&self) {
        if let Some(here) = &self.here
            && here.lock().await.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    /// Lets another take over at once, when nothing is kept here any more.
    pub(super) async fn leave(&self) {
        if let Some(contest) = &self.contest
            && self.is_here().await
        {
            contest.stopping.cancel();
            let beat = Beat {
                leaving: true,
                ..contest.beat.clone()
            };
            // If it is not heard, the silence will be.
            let _ = contest.client.publish(beat.subject(), beat.body()).await;
        }
    }
}

async fn contend(client: Client, beat: Beat, here: watch::Sender<bool>) {
    let mut others = loop {
        match client.subscribe(beat.subject()).await {
            Ok(others) => break others,
            Err(error) => tracing::warn!(view.name = beat.view, %error, "cannot listen for homes"),
        }
        tokio::time::sleep(SILENT).await;
    };
    let mut heard = Some(Instant::now());
    let mut ticks = tokio::time::interval(BEAT);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                if heard.is_none_or(|at| at.elapsed() >= SILENT) && !*here.borrow() {
                    tracing::info!(view.name = beat.view, "this program keeps the view");
                    here.send_replace(true);
                }
                if *here.borrow() {
                    // If it is not heard, another tries, and the fence refuses one of the two.
                    let _ = client.publish(beat.subject(), beat.body()).await;
                }
            }
            message = others.next() => {
                let Some(message) = message else { return };
                let Ok(other) = serde_json::from_slice::<Beat>(&message.payload) else {
                    continue;
                };
                if !beat.contends(&other) {
                    continue;
                }
                if other.leaving {
                    heard = None;
                } else if !*here.borrow() {
                    heard = Some(Instant::now());
                } else if other.writer < beat.writer {
                    tracing::info!(view.name = beat.view, "another program keeps the view");
                    heard = Some(Instant::now());
                    here.send_replace(false);
                }
            }
        }
    }
}
