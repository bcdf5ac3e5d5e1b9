//! Answers queries about lists: one page, at least as fresh as asked.

use super::{
    Answer, Edition, Facet, Freshness, Page, ReadModel, ServedPage, StoredDocument,
    answers::{Inner, READS, Served, Unread, answer, unavailable},
    list_cache::{Begin, FoundPage},
    list_slots::ListCost,
    parameters::{ListQuery, MAX_COUNT, cursor::Cursor},
    store::{Listed, Row, StoreError},
    visible::Visibility,
};
use crate::problem::Problem;
use serde_json::value::RawValue;
use std::{collections::BTreeMap, sync::Arc};

impl ReadModel {
    /// Reads a page of a list. The parameters are the view's filters, `q`, `sort` (`price` or
    /// `-price`), `limit` (1 to 200, 20 unless given) and `cursor`, all in their text form.
    ///
    /// # Errors
    ///
    /// Returns `unknown_view` (404), `malformed` (400) naming the parameter or header,
    /// `not_yet_applied` (504) and `unavailable` (503) as [`ReadModel::get`] does; `overloaded` (429) when
    /// too many lists are being read.
    pub async fn list(
        &self,
        view: &str,
        parameters: &BTreeMap<String, String>,
        freshness: &Freshness,
    ) -> Result<Answer<Page>, Problem> {
        let answer = self.page(view, parameters, freshness).await?;
        let value = serde_json::from_slice(&answer.value.body)
            .map_err(|_| unavailable(view, &StoreError::Shape("a page".to_owned())))?;
        Ok(Answer {
            value,
            applied: answer.applied,
            lag_ms: answer.lag_ms,
            parked: answer.parked,
        })
    }

    /// Reads a page of a list as it goes out: from memory, if no document of the view has changed since it
    /// was read.
    ///
    /// # Errors
    ///
    /// As [`ReadModel::list`].
    pub async fn page(
        &self,
        view: &str,
        parameters: &BTreeMap<String, String>,
        freshness: &Freshness,
    ) -> Result<Answer<ServedPage>, Problem> {
        let served = self.served(view)?;
        let answer = async {
            for _ in 1..READS {
                match self.served_page(&served, parameters, freshness).await {
                    Err(Unread::GoneBack) => {}
                    page => return Ok(page?),
                }
            }
            Ok(self.served_page(&served, parameters, freshness).await?)
        };
        answer.await.map_err(|problem| served.aged(problem))
    }

    async fn served_page(
        &self,
        served: &Served<'_>,
        parameters: &BTreeMap<String, String>,
        freshness: &Freshness,
    ) -> Result<Answer<ServedPage>, Unread> {
        let name = (served.view.name, served.view.version);
        let query = ListQuery::read_of(
            name,
            &served.view.query,
            parameters,
            &(served.view.visible)(&freshness.caller),
        )?;
        self.wait(served, freshness).await?;
        let serving = served.watermark.serving();
        let edition = serving.edition();
        if query.log.as_ref().is_some_and(|log| log != edition.log()) {
            return Err(Unread::Refused(Problem::malformed(
                "cursor".to_owned(),
                "the cursor is of another log than there is now: begin the list again",
            )));
        }
        // Before anything is looked for: what is found is at least as new as that.
        let progress = served.watermark.progress();
        let FoundPage { page, newest } = self.find_page(served, query, edition).await?;
        // What is parked may be missing here, too.
        Ok(answer(page, progress, newest, serving.has_parked()))
    }

    /// The page from memory, or together with others who ask for it, or read for this one alone.
    async fn find_page(
        &self,
        served: &Served<'_>,
        query: ListQuery,
        edition: Edition,
    ) -> Result<FoundPage, Unread> {
        let Some(lists) = served.lists else {
            if let Some(page) = self.inner.sorted_page(served, &query, &edition).await? {
                return Ok(page);
            }
            let cost = self.inner.cost(served, &query);
            let _slot = self.inner.lists.take(cost).await?;
            return self.read_page(served, &query, &edition).await;
        };
        let (model, name) = (self.clone(), served.view.name);
        let (asked, of) = (query.clone(), edition.clone());
        let read = move |begin: Begin| async move {
            let served = model.served(name)?;
            begin.now();
            if let Some(page) = model.inner.sorted_page(&served, &asked, &of).await? {
                return Ok(page);
            }
            let cost = model.inner.cost(&served, &asked);
            let _slot = model.inner.lists.take(cost).await?;
            begin.now();
            model.read_page(&served, &asked, &of).await
        };
        lists.find(&edition, &query, read).await
    }

    /// Reads a page of all documents from the store itself; none where that has no sorted lists beside it, or does
    /// not have them ready.
    #[cfg(test)]
    pub(crate) async fn stored_page(
        &self,
        view: &str,
        parameters: &BTreeMap<String, String>,
    ) -> Option<ServedPage> {
        let served = self.served(view).ok()?;
        let (name, rows) = (
            (served.view.name, served.view.version),
            crate::view::Rows::All,
        );
        let query = ListQuery::read_of(name, &served.view.query, parameters, &rows).ok()?;
        if !self.inner.store.is_sorted(&*served.tables().ok()?) {
            return None;
        }
        let edition = served.watermark.serving().edition();
        let page = self.read_page(&served, &query, &edition).await;
        page.ok().map(|found| found.page)
    }

    /// Returns whether there are sorted lists beside the store.
    #[cfg(test)]
    pub(crate) fn sorts(&self) -> bool {
        self.inner.store.sorts()
    }

    async fn read_page(
        &self,
        served: &Served<'_>,
        query: &ListQuery,
        edition: &Edition,
    ) -> Result<FoundPage, Unread> {
        let name = (served.view.name, served.view.version);
        let found = self.inner.list(served, query).await;
        let Listed {
            mut rows,
            count,
            facets,
            by,
            read,
        } = found.map_err(|error| Unread::of(name.0, &error))?;
        metrics::counter!("headwater_lists_total", "view" => name.0, "by" => by).increment(1);
        let more = rows.len() > query.limit;
        rows.truncate(query.limit);
        if let Some(read) = read {
            metrics::counter!("headwater_list_rows_read_total", "view" => name.0).increment(read);
            metrics::counter!("headwater_list_rows_answered_total", "view" => name.0)
                .increment(rows.len() as u64);
        }
        let next = rows.last().filter(|_| more).map(|last| {
            let key = last.key(query.order);
            Cursor::new(name, edition.log(), query, key, last.id.clone()).to_text()
        });
        let newest = rows.iter().map(|row| row.position).max().unwrap_or(0);
        let items = rows.into_iter().map(|row| stored(row, name.0));
        let facets = query.facets.iter().zip(facets);
        let page = Page {
            items: items.collect::<Result<_, _>>()?,
            next,
            count: count.map(|count| count.min(MAX_COUNT as u64)),
            count_capped: count.is_some_and(|count| count > MAX_COUNT as u64),
            facets: facets
                .map(|(filter, found)| {
                    let facet = Facet::new(found.counts, found.capped);
                    (filter.name.to_owned(), facet)
                })
                .collect(),
        };
        Ok(FoundPage {
            page: ServedPage::new(&page),
            newest,
        })
    }
}

impl Inner {
    /// Returns what a list costs. One that cannot be read costs nothing: the reading says why.
    pub(super) fn cost(&self, served: &Served<'_>, query: &ListQuery) -> ListCost {
        let tables = served.watermark.serving().fenced();
        match tables.is_ok_and(|(tables, _)| self.store.walks(&tables, query)) {
            true => ListCost::Walk,
            false => ListCost::Answer,
        }
    }

    /// Reads a page of a list, and one document more if there is one; and what is to be counted.
    pub(super) async fn list(
        &self,
        served: &Served<'_>,
        query: &ListQuery,
    ) -> Result<Listed, StoreError> {
        if query.visible == Visibility::Nothing {
            return Ok(Listed::nothing(query));
        }
        let serving = served.watermark.serving();
        let (mut tables, mut fence) = serving.fenced()?;
        loop {
            let error = match self.store.list(&tables, Some(&fence), query).await {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            let now = serving.fenced()?;
            if Arc::ptr_eq(&now.0, &tables) {
                return self.unless_gone_back(served, Err(error)).await;
            }
            (tables, fence) = now;
        }
    }
}

fn stored(row: Row, view: &str) -> Result<StoredDocument, Problem> {
    let document = serde_json::value::to_raw_value(&row.document)
        .map_err(|_| unavailable(view, &StoreError::Shape("a document".to_owned())))?;
    Ok(StoredDocument {
        id: row.id,
        version: row.position,
        document: Arc::<RawValue>::from(document),
    })
}
