//! Pages whose documents the sorted lists beside the store name: each document comes from memory, or is read by
//! its id, and the page is put together of what goes out for each of them.

use super::{
    Edition, ServedDocument, ServedPage,
    answers::{Inner, Served, Unread},
    list_cache::FoundPage,
    list_index::{Hit, Walked},
    list_slots::ListCost,
    parameters::{ListQuery, MAX_COUNT, Order, SortKey, cursor::Cursor},
    schema::{FieldPath, sort_key},
    store::StoreError,
    visible::Visibility,
};
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The number of times that a page is looked for of which a document changes before it is read.
const LOOKS: usize = 3;

/// The rest of a page beside its documents.
#[derive(Serialize)]
struct Rest {
    next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    count_capped: bool,
}

impl Served<'_> {
    /// A document that is in memory.
    fn remembers(&self, id: &str) -> Option<ServedDocument> {
        self.cache?.get(id)?
    }
}

impl Inner {
    /// Returns a page, as the store would have it, where the sorted lists know what is on it; none where they do
    /// not, or where its documents change again and again.
    pub(super) async fn sorted_page(
        &self,
        served: &Served<'_>,
        query: &ListQuery,
        edition: &Edition,
    ) -> Result<Option<FoundPage>, Unread> {
        if query.visible == Visibility::Nothing {
            return Ok(None);
        }
        for _ in 0..LOOKS {
            let Ok(tables) = served.tables() else {
                return Ok(None);
            };
            let Some(mut walked) = self.store.sorted(&tables, query) else {
                return Ok(None);
            };
            let more = walked.hits.len() > query.limit;
            walked.hits.truncate(query.limit);
            if let Some(documents) = self.documents_of(served, &walked.hits).await? {
                count(served, &walked, &documents);
                return Ok(Some(page(served, query, edition, &walked, documents, more)));
            }
        }
        Ok(None)
    }

    /// The documents as they were when they were found; none where one of them is another by now.
    async fn documents_of(
        &self,
        served: &Served<'_>,
        hits: &[Hit],
    ) -> Result<Option<Vec<ServedDocument>>, Unread> {
        let is_same =
            |hit: &Hit, document: &ServedDocument| document.fingerprint == hit.fingerprint;
        let mut documents: Vec<_> = hits
            .iter()
            .map(|hit| {
                let kept = served.remembers(&hit.id);
                kept.filter(|document| is_same(hit, document))
            })
            .collect();
        let missing: Vec<_> = (0..hits.len())
            .filter(|number| documents[*number].is_none())
            .collect();
        if !missing.is_empty() {
            let _slot = self.lists.take(ListCost::Answer).await?;
            let read = missing
                .iter()
                .map(|number| self.read_stored(served, &hits[*number].id));
            let read = try_join_all(read).await;
            let read = read.map_err(|error| Unread::of(served.view.name, &error))?;
            for (number, document) in missing.into_iter().zip(read) {
                documents[number] = document.filter(|document| is_same(&hits[number], document));
            }
        }
        Ok(documents.into_iter().collect())
    }

    /// Reads one document from the store, and keeps it in memory.
    pub(super) async fn read_stored(
        &self,
        served: &Served<'_>,
        id: &str,
    ) -> Result<Option<ServedDocument>, StoreError> {
        let begun = served.cache.map(|cache| (cache, cache.begin(id)));
        let document = served.reads.read(id).await;
        let document = self.unless_gone_back(served, document).await?;
        if let Some((cache, begun)) = begun {
            cache.keep(begun, id, document.clone());
        }
        Ok(document)
    }
}

fn count(served: &Served<'_>, walked: &Walked, documents: &[ServedDocument]) {
    let view = served.view.name;
    metrics::counter!("headwater_lists_total", "view" => view, "by" => "order").increment(1);
    let looks = walked.looks as u64;
    metrics::counter!("headwater_list_rows_read_total", "view" => view).increment(looks);
    let answered = documents.len() as u64;
    metrics::counter!("headwater_list_rows_answered_total", "view" => view).increment(answered);
}

fn page(
    served: &Served<'_>,
    query: &ListQuery,
    edition: &Edition,
    walked: &Walked,
    documents: Vec<ServedDocument>,
    more: bool,
) -> FoundPage {
    let name = (served.view.name, served.view.version);
    let last = walked.hits.last().zip(documents.last()).filter(|_| more);
    let next = last.map(|(hit, document)| {
        let key = key_of(query.order, document);
        Cursor::new(name, edition.log(), query, key, hit.id.clone()).to_text()
    });
    let most = MAX_COUNT as u64;
    let rest = Rest {
        next,
        count: walked.count.map(|count| count.min(most)),
        count_capped: walked.count.is_some_and(|count| count > most),
    };
    FoundPage {
        page: ServedPage::of_body(body(&documents, &rest)),
        newest: documents
            .iter()
            .map(|document| document.version)
            .max()
            .unwrap_or(0),
    }
}

/// The page as JSON: as [`super::Page`] is written, of documents that are written already.
fn body(documents: &[ServedDocument], rest: &Rest) -> Vec<u8> {
    let length: usize = documents.iter().map(|it| it.body.len() + 1).sum();
    let mut body = Vec::with_capacity(length + 512);
    body.extend(b"{\"items\":[");
    for (number, document) in documents.iter().enumerate() {
        if number > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&document.body);
    }
    body.extend(b"],");
    let rest = serde_json::to_vec(rest).expect("it is plain data");
    body.extend_from_slice(rest.strip_prefix(b"{").unwrap_or(&rest));
    body
}

/// The key that the next page goes on after.
fn key_of(order: Order, document: &ServedDocument) -> SortKey {
    #[derive(Deserialize)]
    struct Stored {
        document: Value,
    }
    let Order::Field { sort, .. } = order else {
        return None;
    };
    let path = FieldPath::parse(sort.field).ok()?;
    let stored: Stored = serde_json::from_slice(&document.body).ok()?;
    sort_key(&path, &stored.document)
}
