//! Which documents would change if this build took over: each view is folded from the whole log by this build, and
//! compared with what the running replicas serve.

use crate::{
    cli::{Failure, progress::Progress},
    event_log::{EventLog, reader::Commit, subject},
    platform::Domain,
    projection::{Difference, Preview, same_document},
    stable_hash,
};
use async_nats::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{collections::HashSet, time::Duration};

/// The number of documents that are asked for at once: the most that a list has.
const PAGE: usize = 200;
/// The number of times that a page is asked for while no replica can answer.
const ATTEMPTS: u32 = 10;
/// The time an answer is waited for: replicas wait up to 30 s for the position.
const WAIT: Duration = Duration::from_secs(40);
/// The pause before it is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// The result of comparing one view.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    /// The view.
    pub(super) view: &'static str,
    /// The number of documents that were compared.
    pub(super) compared: u64,
    /// The number that would change.
    pub(super) different: u64,
    /// The number that have changed since, and were not compared.
    pub(super) moved: u64,
    /// The number of aggregates that this build could not apply, each from some event on.
    pub(super) parked: u64,
    /// The first of those that would change: `stored` is what is served, `folded` what this build makes.
    pub(super) differences: Vec<Difference>,
}

/// The way the replicas are asked.
pub(super) struct Asking<'a> {
    pub(super) log: &'a EventLog,
    pub(super) token: Option<String>,
    /// The most differences of one view that are told.
    pub(super) limit: usize,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Item>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    id: String,
    version: u64,
    document: Value,
}

/// A view with the last commit that it has folded.
struct Folding {
    preview: Preview,
    last: Option<(String, u64)>,
    waiting: Vec<Commit>,
}

/// Folds all views of the domain from the log as it is now, and compares each.
pub(super) async fn compare(
    domain: &Domain,
    asking: &Asking<'_>,
) -> Result<Vec<Compared>, Failure> {
    let folder = tempfolder().map_err(Failure::operation)?;
    let done = compare_in(domain, asking, &folder).await;
    let _ = std::fs::remove_dir_all(&folder);
    done
}

fn tempfolder() -> std::io::Result<std::path::PathBuf> {
    let name = format!("headwater-check-{}", uuid::Uuid::now_v7().simple());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir(&folder)?;
    Ok(folder)
}

async fn compare_in(
    domain: &Domain,
    asking: &Asking<'_>,
    folder: &std::path::Path,
) -> Result<Vec<Compared>, Failure> {
    let log = asking.log;
    let extent = log.extent().await.map_err(Failure::operation)?;
    let mut views = Vec::new();
    for view in domain.views() {
        let description = view.description();
        let excluded = log.excluded_positions(description.aggregates).await;
        let excluded = excluded.map_err(Failure::operation)?;
        views.push(Folding {
            preview: Preview::new(view, &folder.join(description.name), &excluded),
            last: None,
            waiting: Vec::new(),
        });
    }
    let mut progress = Progress::new();
    let mut read = 0;
    let mut whole = log.whole(extent.first.saturating_sub(1), extent.last);
    while let Some(messages) = whole.next().await.map_err(Failure::operation)? {
        read += messages.len() as u64;
        for logged in messages {
            let Some((aggregate, _)) = subject::parse_events(&logged.message.subject) else {
                continue;
            };
            for view in &mut views {
                if view
                    .preview
                    .view()
                    .description()
                    .aggregates
                    .contains(&aggregate)
                {
                    view.last = Some((aggregate.to_owned(), logged.message.position));
                    view.waiting.push(Commit::of(&logged.message));
                }
            }
        }
        for view in &mut views {
            let commits = std::mem::take(&mut view.waiting);
            view.preview
                .apply(&commits)
                .await
                .map_err(Failure::operation)?;
        }
        progress.show("messages folded by views", read, extent.messages);
    }
    drop(progress);
    let mut compared = Vec::new();
    for view in views {
        compared.push(view.compare(asking, extent.last).await?);
        view.preview.discard().await;
    }
    Ok(compared)
}

impl Folding {
    async fn compare(&self, asking: &Asking<'_>, end: u64) -> Result<Compared, Failure> {
        let name = self.preview.view().description().name;
        let mut compared = Compared {
            view: name,
            compared: 0,
            different: 0,
            moved: 0,
            parked: self.preview.parked() as u64,
            differences: Vec::new(),
        };
        let mut seen = HashSet::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = json!({ "limit": PAGE });
            if let Some(cursor) = &cursor {
                query["cursor"] = cursor.as_str().into();
            }
            let page = self.ask(asking, format!("qry.{name}"), &query).await?;
            let page: Page = serde_json::from_value(page.unwrap_or_default())
                .map_err(|error| Failure::operation(format!("the list of {name}: {error}")))?;
            for item in page.items {
                seen.insert(stable_hash::of_bytes(item.id.as_bytes()));
                if item.version > end {
                    compared.moved += 1;
                    continue;
                }
                let folded = self
                    .preview
                    .document(&item.id)
                    .map_err(Failure::operation)?;
                compared.note(item.id, Some(item.document), folded, asking.limit);
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        self.missing(asking, end, &seen, &mut compared).await?;
        Ok(compared)
    }

    /// Looks for documents that this build makes and that were not in the list.
    async fn missing(
        &self,
        asking: &Asking<'_>,
        end: u64,
        seen: &HashSet<u64>,
        compared: &mut Compared,
    ) -> Result<(), Failure> {
        let name = self.preview.view().description().name;
        let mut after: Option<String> = None;
        loop {
            let page = self.preview.after(after.as_deref(), PAGE);
            let page = page.map_err(Failure::operation)?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after = Some(last.clone());
            for (id, folded) in page {
                if seen.contains(&stable_hash::of_bytes(id.as_bytes())) {
                    continue;
                }
                // It may have come, changed or gone while the list was read.
                let served = self
                    .ask(asking, format!("qry.{name}.{id}"), &Value::Null)
                    .await?;
                let served: Option<Item> = served.and_then(|it| serde_json::from_value(it).ok());
                match served {
                    Some(served) if served.version > end => compared.moved += 1,
                    Some(served) => {
                        compared.note(id, Some(served.document), Some(folded), asking.limit);
                    }
                    None => compared.note(id, None, Some(folded), asking.limit),
                }
            }
        }
    }

    /// Asks the replicas, at the last commit that was folded; `None` where there is no such document.
    async fn ask(
        &self,
        asking: &Asking<'_>,
        subject: String,
        query: &Value,
    ) -> Result<Option<Value>, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert("Headwater-Max-Wait-Ms", "30000");
        if let Some((aggregate, position)) = &self.last {
            headers.insert("Headwater-Min-Position", format!("{aggregate}@{position}"));
        }
        if let Some(token) = &asking.token {
            headers.insert("Authorization", format!("Bearer {token}"));
        }
        let body = match query {
            Value::Null => String::new(),
            query => query.to_string(),
        };
        let mut refused = String::new();
        for _ in 0..ATTEMPTS {
            let request = async_nats::Request::new()
                .payload(body.clone().into())
                .headers(headers.clone())
                .timeout(Some(WAIT));
            match asking
                .log
                .client()
                .send_request(subject.clone(), request)
                .await
            {
                Err(error) => refused = format!("no replica answers queries: {error}"),
                Ok(answer) => {
                    let headers = answer.headers.unwrap_or_default();
                    let status = headers.get("Nats-Service-Error-Code");
                    match status.map(|status| status.as_str()) {
                        None => {
                            let read = serde_json::from_slice(&answer.payload);
                            return read.map(Some).map_err(Failure::operation);
                        }
                        Some("404") if query.is_null() => return Ok(None),
                        Some(status) => {
                            let text = String::from_utf8_lossy(&answer.payload);
                            refused = format!("{subject} is refused: {text}");
                            if !["429", "503", "504"].contains(&status) {
                                break;
                            }
                        }
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(Failure::operation(refused))
    }
}

impl Compared {
    fn note(&mut self, id: String, stored: Option<Value>, folded: Option<Value>, limit: usize) {
        self.compared += 1;
        if same_document(stored.as_ref(), folded.as_ref()) {
            return;
        }
        self.different += 1;
        if self.differences.len() < limit {
            self.differences.push(Difference { id, stored, folded });
        }
    }
}
