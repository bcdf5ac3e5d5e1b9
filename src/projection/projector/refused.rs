//! The projector's way with what the store cannot write: it tries with half of it, and half of that,
//! until it has the one event that cannot be written, and sets that one aside like any other that cannot be
//! applied.
//!
//! A store that is away, or busy, says nothing about the contents, and is waited for. What may be the
//! contents or not, such as a failure within the store, counts only when it comes again and again with the
//! same words, and when at last the same store takes a transaction without the event, but not with it.

use super::{Projector, ProjectorError};
use crate::{
    event_log::reader::Commit,
    projection::fold::Limits,
    read_model::exchange::{Changes, Within},
};

/// The number of times that a transaction fails with the same words before it is tried with less.
const PATIENCE: u32 = 3;

/// The obstacle that keeps a projector from getting on.
#[derive(Debug)]
pub(super) struct Trouble {
    /// The words of the store.
    words: String,
    /// The number of times that it has said so.
    times: u32,
    /// With how much it is tried.
    less: Less,
}

/// Less than is usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Less {
    commits: usize,
    one_event: bool,
    rows: usize,
}

/// The last try.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    /// The number of commits, and of the events of the first of them.
    commits: usize,
    events: usize,
    /// The number of rows.
    rows: usize,
    /// The place where it began.
    begins: Option<Within>,
}

impl Projector {
    /// The part of a batch that is tried, while something of it cannot be written.
    pub(super) fn some_of<'a>(&self, batch: &'a [Commit]) -> &'a [Commit] {
        let most = self
            .trouble
            .as_ref()
            .map_or(usize::MAX, |it| it.less.commits);
        &batch[..batch.len().min(most)]
    }

    /// Notes what is about to be tried.
    pub(super) fn tries(&mut self, batch: &[Commit], within: Option<&Within>) {
        let first = batch.first();
        self.attempt = Attempt {
            commits: batch.len(),
            events: first.map_or(0, |commit| {
                commit.events.as_ref().map_or(1, |events| events.len())
            }),
            rows: self.fold.rows(),
            begins: first.map(|commit| match within {
                Some(within) => within.clone(),
                None => Within::before(commit.place()),
            }),
        };
    }

    /// Notes how much is about to be written.
    pub(super) fn writes(&mut self, commits: usize, rows: usize) {
        self.attempt.commits = commits.max(1);
        self.attempt.rows = rows.max(1);
    }

    /// Takes note of a failure; returns whether there is something else to try at once.
    pub(in crate::projection) async fn learn(&mut self, error: &ProjectorError) -> bool {
        let ProjectorError::Store(store) = error else {
            return false;
        };
        if !store.may_be_the_contents() {
            return false;
        }
        let words = store.to_string();
        let all = self.all();
        let trouble = self.trouble.get_or_insert_with(|| Trouble {
            words: words.clone(),
            times: 0,
            less: all,
        });
        trouble.times += 1;
        if trouble.words != words {
            // Ids and counts of rows may be in them: it is still the same if it comes of less.
            if trouble.less == all {
                trouble.times = 1;
            }
            trouble.words = words;
        }
        if trouble.times < PATIENCE {
            return false;
        }
        match trouble.less.half(&self.attempt) {
            Some(less) => {
                trouble.less = less;
                self.limit();
                true
            }
            None => self.set_aside().await,
        }
    }

    /// Goes back, step by step, to the usual amount.
    pub(super) fn recover(&mut self) {
        let all = self.all();
        let Some(trouble) = &mut self.trouble else {
            return;
        };
        trouble.less = trouble.less.double(all);
        if trouble.less == all {
            self.trouble = None;
        }
        self.limit();
    }

    fn all(&self) -> Less {
        Less {
            commits: self.options.batch,
            one_event: false,
            rows: self.options.limits.rows,
        }
    }

    fn limit(&mut self) {
        let less = self.trouble.as_ref().map(|trouble| trouble.less);
        let usual = self.options.limits;
        self.fold.limit(less.map_or(usual, |less| Limits {
            rows: less.rows,
            one_event: less.one_event,
            ..usual
        }));
    }

    /// Sets the one event aside that was tried last, if the store takes a transaction without it.
    async fn set_aside(&mut self) -> bool {
        let (Some(place), Some(trouble)) = (self.attempt.begins.clone(), &self.trouble) else {
            return false;
        };
        let words = trouble.words.clone();
        if let Err(error) = self.write_nothing().await {
            tracing::debug!(view.name = self.view(), %error, "nothing at all can be written");
            self.close();
            return false;
        }
        self.fold
            .refuse(&place, format!("it cannot be written: {words}"));
        true
    }

    /// Writes a transaction that changes nothing.
    async fn write_nothing(&mut self) -> Result<(), ProjectorError> {
        // Nothing is left of what was tried.
        self.close();
        self.ensure_open().await?;
        let gate = std::sync::Arc::clone(&self.options.gate);
        let _turn = gate.lock().await;
        match self.here() {
            Some(here) => self.commit(here, Changes::default()).await.map(drop),
            None => Ok(()),
        }
    }
}

impl Less {
    /// Half of what was tried; none if it was as little as can be.
    fn half(self, tried: &Attempt) -> Option<Self> {
        if tried.commits > 1 && self.commits > 1 {
            let commits = (self.commits.min(tried.commits) / 2).max(1);
            return Some(Self { commits, ..self });
        }
        if tried.events > 1 && !self.one_event {
            return Some(Self {
                commits: 1,
                one_event: true,
                ..self
            });
        }
        (self.rows > 1).then(|| Self {
            commits: 1,
            one_event: true,
            rows: (self.rows.min(tried.rows) / 2).max(1),
        })
    }

    fn double(self, all: Self) -> Self {
        let rows = self.rows.saturating_mul(2).min(all.rows);
        let commits = match rows == all.rows {
            true => self.commits.saturating_mul(2).min(all.commits),
            false => 1,
        };
        Self {
            commits,
            one_event: self.one_event && rows < all.rows,
            rows,
        }
    }
}
