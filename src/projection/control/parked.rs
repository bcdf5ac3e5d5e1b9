//! Operators' requests about what is parked: shown page by page, tried again, and left out.

use super::{Ask, ControlError, ParkedCursor, ParkedPage, ParkedReport, ReplyBody, Settled};
use crate::{
    event_log::{
        StoredMessage,
        reader::Commit,
        subject::{self, Id},
    },
    projection::{
        keeper::Shared,
        projector::{Retried, Try},
    },
    read_model::{Generation, schema::ViewTables, store::parked::Of},
    view::PartKey,
};
use serde_json::Value;
use std::collections::HashMap;
use tokio_util::sync::CancellationToken;

/// The most commits of a page, and the most with their events.
const PAGE: usize = 500;
const PAGE_WITH_EVENTS: usize = 50;
/// The number of bytes of JSON a page has at most: half of what a message may be unless NATS is told otherwise.
const PAGE_BYTES: usize = if cfg!(test) { 8 << 10 } else { 512 << 10 };
/// The number of bytes of one commit's events that are shown.
const EVENTS_BYTES: usize = PAGE_BYTES / 8;
/// The number of documents that are named that are behind because of an aggregate.
const DOCUMENTS: usize = 100;
/// Of how many aggregates that are parked still it is told when many are tried again.
const LEFT: usize = 100;

impl Shared {
    /// The next page of what is parked.
    pub(super) async fn parked(
        &self,
        tables: &ViewTables,
        ask: &Ask,
    ) -> Result<ParkedPage, ControlError> {
        let with_events = ask.id.is_some();
        let most = if with_events { PAGE_WITH_EVENTS } else { PAGE };
        let limit = ask.limit.map_or(most, |limit| limit.clamp(1, most));
        let of = Of {
            aggregate: ask.aggregate.as_deref(),
            id: ask.id.as_deref(),
        };
        let after = ask.after.clone().map(ParkedCursor::into_key);
        let store = &self.options.store;
        let mut rows = store
            .parked_page(tables, of, after.as_ref(), limit + 1)
            .await?;
        let mut more = rows.len() > limit;
        rows.truncate(limit);
        let mut messages = HashMap::new();
        let (mut page, mut bytes, total) = (ParkedPage::default(), 0, rows.len());
        for (number, parked) in rows.into_iter().enumerate() {
            let key = parked.aggregate.clone();
            let mut report = ParkedReport {
                aggregate: parked.aggregate.0,
                id: parked.aggregate.1,
                position: parked.position,
                from_event: parked.from_event,
                reason: parked.reason,
                unknown: parked.unknown,
                documents: Vec::new(),
                at: parked.at,
                events: Vec::new(),
            };
            if with_events && parked.first {
                let behind = store.behind_because_of(tables, &key, DOCUMENTS).await?;
                report.documents = behind;
            }
            if with_events {
                report.events = self.events(&report, &mut messages).await?;
            }
            bytes += serde_json::to_vec(&report).map_or(0, |json| json.len());
            page.items.push(report);
            if bytes > PAGE_BYTES {
                more |= number + 1 < total;
                break;
            }
        }
        page.next = page.items.last().filter(|_| more).map(ParkedCursor::of);
        Ok(page)
    }

    /// The events of a parked commit from the log, as far as they can be read.
    async fn events(
        &self,
        parked: &ParkedReport,
        messages: &mut HashMap<u64, StoredMessage>,
    ) -> Result<Vec<Value>, ControlError> {
        let other = |error| ControlError::Other(Box::new(error));
        let log = &self.options.log;
        if !messages.contains_key(&parked.position) {
            messages.clear();
            let found = match Id::new(parked.id.as_str()) {
                Ok(id) => {
                    let subject = subject::events_of(&parked.aggregate, &id);
                    let next = log.next_messages(&subject, parked.position - 1, u64::MAX);
                    next.await.map_err(other)?
                }
                Err(_) => {
                    let found = log.message_at(parked.position).await.map_err(other)?;
                    found.into_iter().collect()
                }
            };
            messages.extend(found.into_iter().map(|message| (message.position, message)));
        }
        Ok(messages.get(&parked.position).map_or_else(Vec::new, shown))
    }

    /// Tries again what is chosen of what is parked, a part after the other.
    pub(super) async fn try_again(
        &self,
        generation: Generation,
        ask: &Ask,
        skip: bool,
        tell: &(dyn Fn(u64, u64) + Send + Sync),
        cancelled: &CancellationToken,
    ) -> Result<ReplyBody, ControlError> {
        if ask.id.is_none() && !ask.all {
            return Err(ControlError::Unnamed);
        }
        let how = match (skip, ask.all) {
            (false, _) => Try::Again,
            (true, false) => Try::WithoutFirst,
            (true, true) => Try::WithoutAny,
        };
        let tables = self.tables(generation)?;
        let parked = self.options.store.parked(&tables).await?.into_keys();
        let mut parked: Vec<PartKey> = parked.filter(|key| ask.concerns(key)).collect();
        parked.sort();
        if parked.is_empty() && ask.id.is_some() {
            return Err(ControlError::NotParked);
        }
        let mut settled = Settled::default();
        let total = parked.len() as u64;
        for (number, aggregate) in (0..).zip(parked) {
            if cancelled.is_cancelled() {
                return Err(ControlError::Cancelled);
            }
            tell(number, total);
            let tell = || tell(number, total);
            let tried = self.retry_all(generation, &aggregate, how, &tell).await?;
            let (name, id) = aggregate;
            if ask.id.is_some() {
                return Ok(ReplyBody::Retried(vec![(name, id, tried)]));
            }
            settled.aggregates += 1;
            settled.applied += tried.applied;
            if tried.parked > 0 {
                settled.still_parked += 1;
                if settled.left.len() < LEFT {
                    settled.left.push((name, id, tried));
                }
            }
        }
        Ok(ReplyBody::Settled(settled))
    }

    /// Tries again all that is parked of one aggregate.
    async fn retry_all(
        &self,
        generation: Generation,
        aggregate: &PartKey,
        mut how: Try,
        tell: &(dyn Fn() + Send + Sync),
    ) -> Result<Retried, ControlError> {
        let mut all = Retried::default();
        loop {
            let next = self.retry(generation, aggregate.clone(), how).await;
            let next = next
                .ok_or(ControlError::NotKept)?
                .map_err(|error| ControlError::Other(Box::new(error)))?;
            all.applied += next.applied;
            (all.parked, all.reason) = (next.parked, next.reason);
            if !next.more {
                return Ok(all);
            }
            if how == Try::WithoutFirst {
                how = Try::Again;
            }
            tell();
        }
    }
}

/// The events of a message, or what it holds where it cannot be read; the beginning of what is long.
fn shown(message: &StoredMessage) -> Vec<Value> {
    let Ok(events) = Commit::of(message).events else {
        let text = String::from_utf8_lossy(&message.payload);
        let end = text.floor_char_boundary(EVENTS_BYTES.min(text.len()));
        return vec![text[..end].into()];
    };
    let mut left = EVENTS_BYTES;
    let events = events.into_iter().map(|event| {
        let data = event.data.get();
        let data = match left.checked_sub(data.len()) {
            Some(rest) => {
                left = rest;
                serde_json::to_value(&event.data).unwrap_or_default()
            }
            None => format!("{} bytes", data.len()).into(),
        };
        serde_json::json!({"type": event.event_type, "version": event.version,
            "time": event.time, "data": data})
    });
    events.collect()
}
