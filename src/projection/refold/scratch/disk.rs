//! A store in files, as far as a fold needs one: a key-value tree with bounded buffers.
//!
//! Keys: `d<id>` a document, `p<aggregate>\0<id>` a part, `r<hash><id>` that a route leads to a document. A
//! hash may be of two routes: what is found by it is looked at.

use super::{ScratchError, memory::sorted};
use crate::{
    projection::working_set::keys,
    read_model::exchange::{Changes, Found, Led, Needs, Page, PageKey, RouteKey},
    view::PartKey,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};
use surrealkv::{Durability, LSMIterator, Mode, Transaction, Tree, TreeBuilder};

/// The number of documents a page has of a route that leads to many.
const PAGE: usize = 500;
/// The most that is written and not yet in a file of the tree: two such buffers.
const BUFFER: usize = 8 << 20;
/// The memory for the files that were read.
const CACHE: u64 = 8 << 20;
/// A transaction ends at this many bytes: it must fit a buffer.
const WRITTEN: usize = 512 << 10;

pub(super) struct Disk {
    tree: Tree,
    folder: Folder,
    routes: Vec<Vec<&'static str>>,
}

/// A folder that goes with its owner.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now is when the next process starts.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The bytes that a transaction has taken so far.
struct Writing {
    transaction: Transaction,
    bytes: usize,
}

impl Disk {
    pub(super) fn create(
        inside: &Path,
        routes: &[Vec<&'static str>],
    ) -> Result<Self, ScratchError> {
        let path = inside.join(uuid::Uuid::now_v7().simple().to_string());
        std::fs::create_dir_all(&path)?;
        let folder = Folder(path);
        let tree = TreeBuilder::new()
            .with_path(folder.0.clone())
            .with_max_memtable_size(BUFFER)
            .with_block_cache_capacity(CACHE)
            .with_flush_on_close(false)
            .build()?;
        Ok(Self {
            tree,
            folder,
            routes: sorted(routes),
        })
    }

    /// Takes documents and parts, where there are none yet.
    pub(super) async fn fill(
        &mut self,
        documents: BTreeMap<String, Value>,
        parts: HashMap<PartKey, String>,
    ) -> Result<(), ScratchError> {
        let mut writing = self.begin()?;
        for (id, document) in documents {
            self.put_document(&mut writing, &id, &document)?;
            self.go_on(&mut writing).await?;
        }
        for (key, part) in parts {
            writing.set(part_key(&key), part.into_bytes())?;
            self.go_on(&mut writing).await?;
        }
        writing.transaction.commit().await?;
        Ok(())
    }

    pub(super) fn find(&self, needs: &Needs) -> Result<Found, ScratchError> {
        let reading = self.tree.begin_with_mode(Mode::ReadOnly)?;
        let mut found = Found::default();
        for key in &needs.parts {
            if let Some(part) = reading.get(part_key(key))? {
                let part = String::from_utf8_lossy(&part).into_owned();
                found.parts.push((key.clone(), part));
            }
        }
        for id in &needs.documents {
            if let Some(document) = read(&reading, id)? {
                found.documents.push((id.clone(), document));
            }
        }
        for route in needs.routes.iter().chain(&needs.alone) {
            let ids = self.routed(&reading, route)?;
            let documents = self.documents_of(&reading, route, ids)?;
            found.routes.push((route.clone(), Led::To(documents)));
        }
        if let Some(PageKey { route, after }) = &needs.page {
            let mut ids = self.routed(&reading, route)?;
            ids.retain(|id| after.as_ref().is_none_or(|after| id > after));
            let more = ids.len() > PAGE;
            ids.truncate(PAGE);
            let through = ids.last().filter(|_| more).cloned();
            let documents = self.documents_of(&reading, route, ids)?;
            found.page = Some(Page { documents, through });
        }
        Ok(found)
    }

    /// Those of these documents that a route leads to.
    fn documents_of(
        &self,
        reading: &Transaction,
        route: &RouteKey,
        ids: Vec<String>,
    ) -> Result<Vec<(String, Value)>, ScratchError> {
        let mut documents = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(document) = read(reading, &id)?
                && self.keys(&document).any(|key| key == *route)
            {
                documents.push((id, document));
            }
        }
        Ok(documents)
    }

    pub(super) async fn change(&mut self, changes: Changes) -> Result<(), ScratchError> {
        let mut writing = self.begin()?;
        for change in changes.documents {
            if let Some(before) = read(&writing.transaction, &change.id)? {
                for key in self.keys(&before) {
                    writing.remove(route_key(&key, &change.id))?;
                }
                writing.remove(document_key(&change.id))?;
            }
            if let Some(document) = change.document {
                self.put_document(&mut writing, &change.id, &document)?;
            }
            self.go_on(&mut writing).await?;
        }
        for change in changes.parts {
            match change.part {
                Some(part) => writing.set(part_key(&change.key), part.into_bytes())?,
                None => writing.remove(part_key(&change.key))?,
            }
            self.go_on(&mut writing).await?;
        }
        writing.transaction.commit().await?;
        Ok(())
    }

    pub(super) fn document(&self, id: &str) -> Result<Option<Value>, ScratchError> {
        read(&self.tree.begin_with_mode(Mode::ReadOnly)?, id)
    }

    pub(super) fn range(
        &self,
        after: Option<&str>,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, ScratchError> {
        // An id has no byte that is below `\x01`.
        let beyond = |id: &str| [&document_key(id)[..], b"\x00"].concat();
        let from = after.map_or_else(|| b"d".to_vec(), beyond);
        let to = last.map_or_else(|| b"e".to_vec(), beyond);
        let mut found = Vec::new();
        if from >= to {
            return Ok(found);
        }
        let reading = self.tree.begin_with_mode(Mode::ReadOnly)?;
        let mut rows = reading.range(from, to)?;
        let mut more = rows.seek_first()?;
        while more && found.len() < limit {
            let id = String::from_utf8_lossy(&rows.key().user_key()[1..]).into_owned();
            found.push((id, serde_json::from_slice(&rows.value()?)?));
            more = rows.next()?;
        }
        Ok(found)
    }

    pub(super) async fn discard(self) {
        let Self { tree, folder, .. } = self;
        if let Err(error) = tree.close().await {
            tracing::debug!(%error, "what was folded again is not closed");
        }
        drop((tree, folder));
    }

    fn begin(&self) -> Result<Writing, ScratchError> {
        let transaction = self.tree.begin()?.with_durability(Durability::Eventual);
        Ok(Writing {
            transaction,
            bytes: 0,
        })
    }

    /// Begins another transaction when this one is large.
    async fn go_on(&self, writing: &mut Writing) -> Result<(), ScratchError> {
        if writing.bytes >= WRITTEN {
            writing.transaction.commit().await?;
            *writing = self.begin()?;
        }
        Ok(())
    }

    fn put_document(
        &self,
        writing: &mut Writing,
        id: &str,
        document: &Value,
    ) -> Result<(), ScratchError> {
        for key in self.keys(document) {
            writing.set(route_key(&key, id), b"1".to_vec())?;
        }
        writing.set(document_key(id), serde_json::to_vec(document)?)
    }

    fn keys<'a>(&'a self, document: &'a Value) -> impl Iterator<Item = RouteKey> + 'a {
        self.routes.iter().flat_map(|route| keys(route, document))
    }

    fn routed(&self, reading: &Transaction, route: &RouteKey) -> Result<Vec<String>, ScratchError> {
        let from = route_key(route, "");
        let to = [&from[..], b"\xff"].concat();
        let start = from.len();
        let mut ids = Vec::new();
        let mut rows = reading.range(from, to)?;
        let mut more = rows.seek_first()?;
        while more {
            ids.push(String::from_utf8_lossy(&rows.key().user_key()[start..]).into_owned());
            more = rows.next()?;
        }
        Ok(ids)
    }
}

impl Writing {
    fn set(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), ScratchError> {
        self.bytes += key.len() + value.len();
        Ok(self.transaction.set(key, value)?)
    }

    fn remove(&mut self, key: Vec<u8>) -> Result<(), ScratchError> {
        self.bytes += key.len();
        Ok(self.transaction.delete(key)?)
    }
}

fn read(reading: &Transaction, id: &str) -> Result<Option<Value>, ScratchError> {
    let stored = reading.get(document_key(id))?;
    Ok(stored
        .map(|text| serde_json::from_slice(&text))
        .transpose()?)
}

fn document_key(id: &str) -> Vec<u8> {
    [b"d", id.as_bytes()].concat()
}

fn part_key((aggregate, id): &PartKey) -> Vec<u8> {
    [b"p", aggregate.as_bytes(), b"\x00", id.as_bytes()].concat()
}

fn route_key(route: &RouteKey, id: &str) -> Vec<u8> {
    let mut hasher = DefaultHasher::new();
    route.hash(&mut hasher);
    [b"r", &hasher.finish().to_be_bytes()[..], id.as_bytes()].concat()
}
