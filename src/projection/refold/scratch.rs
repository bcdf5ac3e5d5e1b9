//! The place where a view that is folded again is kept meanwhile: in memory while it is small, then in files of its
//! own, so that what it takes of memory does not grow with the view.
//!
//! Nothing here lasts. A folder of a process that was killed is removed when the next one starts.

mod disk;
mod memory;

pub(in crate::projection) use memory::Memory;

use crate::read_model::exchange::{Changes, Found, Needs};
use disk::Disk;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Beyond so many bytes of documents and parts they are kept in files. Few in tests, which are to go
/// beyond.
const IN_MEMORY: usize = if cfg!(test) { 4 << 10 } else { 16 << 20 };

/// The documents and parts of a view that is folded again.
pub(in crate::projection) struct Scratch {
    folder: PathBuf,
    routes: Vec<Vec<&'static str>>,
    kept: Kept,
}

enum Kept {
    Memory(Memory),
    Disk(Disk),
}

/// The documents that are folded again cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// The files cannot be written or read.
    #[error("the folder for what is folded again cannot be used: {0}")]
    Folder(#[from] std::io::Error),
    /// The files that keep it failed.
    #[error("what is folded again cannot be kept: {0}")]
    Engine(#[from] surrealkv::Error),
    /// The contents that were kept are not what was given.
    #[error("what was kept of a fold cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl Scratch {
    /// An empty one. Its files, if it comes to that, are in a folder of their own inside `folder`.
    pub(super) fn new(folder: &Path, routes: &[Vec<&'static str>]) -> Self {
        Self {
            folder: folder.to_owned(),
            routes: routes.to_vec(),
            kept: Kept::Memory(Memory::new(routes)),
        }
    }

    /// Returns what of these there is.
    pub(super) fn find(&self, needs: &Needs) -> Result<Found, ScratchError> {
        match &self.kept {
            Kept::Memory(memory) => Ok(memory.find(needs)),
            Kept::Disk(disk) => disk.find(needs),
        }
    }

    /// Takes what a batch changes.
    pub(super) async fn change(&mut self, changes: Changes) -> Result<(), ScratchError> {
        match &mut self.kept {
            Kept::Memory(memory) => {
                memory.change(changes);
                if memory.bytes() <= IN_MEMORY {
                    return Ok(());
                }
                let mut disk = Disk::create(&self.folder, &self.routes)?;
                let (documents, parts) = std::mem::take(memory).into_parts();
                disk.fill(documents, parts).await?;
                self.kept = Kept::Disk(disk);
                Ok(())
            }
            Kept::Disk(disk) => disk.change(changes).await,
        }
    }

    /// The documents after one id and up to another, in the order of ids, at most so many.
    pub(super) fn range(
        &self,
        after: Option<&str>,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, ScratchError> {
        match &self.kept {
            Kept::Memory(memory) => Ok(memory.range(after, last, limit)),
            Kept::Disk(disk) => disk.range(after, last, limit),
        }
    }

    /// A document.
    pub(super) fn document(&self, id: &str) -> Result<Option<Value>, ScratchError> {
        match &self.kept {
            Kept::Memory(memory) => Ok(memory.documents.get(id).cloned()),
            Kept::Disk(disk) => disk.document(id),
        }
    }

    /// Removes its files.
    pub(super) async fn discard(self) {
        if let Kept::Disk(disk) = self.kept {
            disk.discard().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        read_model::exchange::{DocumentChange, Led, PartChange},
        view::PartKey,
    };
    use proptest::prelude::*;
    use serde_json::json;

    /// A change of a document, by its owners, or its removal; and one of a part.
    type Seed = (u8, Option<Vec<u8>>, Option<u8>);

    fn changes(seeds: &[Seed]) -> Changes {
        let mut changes = Changes::default();
        for (id, owners, part) in seeds {
            let document = owners.as_ref().map(|owners| {
                let owners = owners
                    .iter()
                    .map(|owner| json!({"id": format!("o{}", owner % 3)}));
                json!({"owners": owners.collect::<Vec<_>>(), "pad": "x".repeat(300)})
            });
            let id = format!("d{}", id % 16);
            changes.documents.retain(|change| change.id != id);
            changes.parts.retain(|change| change.key.1 != id);
            changes.parts.push(PartChange {
                key: ("a".to_owned(), id.clone()),
                exists: false,
                part: part.map(|part| part.to_string()),
            });
            changes.documents.push(DocumentChange {
                id,
                position: 1,
                exists: false,
                before: None,
                document,
            });
        }
        changes
    }

    fn needs() -> Needs {
        let mut needs = Needs::default();
        for number in 0..16 {
            needs.documents.insert(format!("d{number}"));
            needs.parts.insert(("a".to_owned(), format!("d{number}")));
        }
        for number in 0..3 {
            needs
                .routes
                .insert(vec![("owners[].id", format!("o{number}"))]);
        }
        needs
    }

    type Everything = (
        Vec<(PartKey, String)>,
        Vec<(String, Value)>,
        Vec<(crate::read_model::exchange::RouteKey, Vec<(String, Value)>)>,
    );

    fn sorted(mut found: Found) -> Everything {
        found.parts.sort();
        found.documents.sort_by(|a, b| a.0.cmp(&b.0));
        found.routes.sort_by(|a, b| a.0.cmp(&b.0));
        let routes = found.routes.into_iter().map(|(route, led)| match led {
            Led::To(mut documents) => {
                documents.sort_by(|a, b| a.0.cmp(&b.0));
                (route, documents)
            }
            Led::Crowd | Led::Many => (route, Vec::new()),
        });
        (found.parts, found.documents, routes.collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn files_hold_what_memory_would(
            batches in prop::collection::vec(
                prop::collection::vec(any::<Seed>(), 1..20), 1..12),
        ) {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let folder = tempfile::tempdir().unwrap();
                let routes = [vec!["owners[].id"]];
                let mut scratch = Scratch::new(folder.path(), &routes);
                let mut memory = Memory::new(&routes);
                for batch in &batches {
                    scratch.change(changes(batch)).await.unwrap();
                    memory.change(changes(batch));
                    prop_assert_eq!(sorted(scratch.find(&needs()).unwrap()), sorted(memory.find(&needs())));
                    for (after, last, limit) in [
                        (None, None, 100), (Some("d1"), Some("d3"), 100), (Some("d2"), None, 3),
                    ] {
                        let found = scratch.range(after, last, limit).unwrap();
                        prop_assert_eq!(found, memory.range(after, last, limit));
                    }
                }
                scratch.discard().await;
                prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
                Ok(())
            })?;
        }
    }
}
