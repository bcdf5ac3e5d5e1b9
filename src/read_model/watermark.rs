//! The position of each view, and waiting until it has come far enough.
//!
//! A view's watermark moves when a transaction of its projector is in the store, never before, and
//! never back. The projector of the same process moves it directly; one of another process through
//! its announcements, as long as both speak of the same store.
//!
//! What keeps copies of documents observes the watermark: it learns what has changed *before* the
//! watermark moves, so whoever waited for a position never meets a copy from before it. A move whose
//! changes are not known, because an announcement was lost, tells it that anything may have changed.

use super::{ServedDocument, announcement::Applied, generation::Edition, serving::Serving};
use crate::event_log::Place;
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    fmt,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

/// The position of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The stream sequence of the last commit applied.
    pub position: u64,
    /// The time of the first commit that is known not to be applied; `None` when all are, as far as
    /// is known.
    pub behind_since: Option<Timestamp>,
}

impl Progress {
    /// Returns how far behind the log the view is at time `now`, in milliseconds.
    #[must_use]
    pub fn lag_ms(&self, now: Timestamp) -> u64 {
        self.behind_since.map_or(0, |since| {
            u64::try_from(now.duration_since(since).as_millis()).unwrap_or(0)
        })
    }
}

/// A part that keeps copies of a view's documents. It is told in order, and must not block.
pub(super) trait Observer: Send + Sync {
    /// A transaction that follows on the one told before has changed these documents. `fresh` are
    /// some of them as they are now.
    fn changed(&self, applied: &Applied, fresh: &[FreshDocument]);

    /// Up to `position`, any document may have changed.
    fn lost(&self, position: u64);

    /// Returns whether it has a copy of a document that it would like to have anew when it changes.
    fn wants(&self, _id: &str) -> bool {
        false
    }

    /// Returns whether somebody follows the view, and so waits for each change.
    fn is_followed(&self) -> bool {
        false
    }
}

/// A document as a transaction has left it.
#[derive(Debug, Clone)]
pub(crate) struct FreshDocument {
    /// The document's id.
    pub(crate) id: String,
    /// As a reader would now get it from the store.
    pub(crate) document: ServedDocument,
}

/// One view's progress, shared by who moves it and who waits on it.
#[derive(Clone, Default)]
pub struct Watermark {
    shared: Arc<Shared>,
}

struct Shared {
    progress: watch::Sender<Progress>,
    /// Told when somebody begins to wait.
    awaited: Notify,
    serving: Serving,
    /// The number of transactions of the commit after the position that are told, under the lock of the observers.
    pages: AtomicU32,
    /// The last message of the log that it is known to stand on, or to have stood on.
    place: Mutex<Place>,
    /// Held while the watermark moves, so that moves and what observers are told have one order.
    observers: Mutex<Vec<Arc<dyn Observer>>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            progress: watch::Sender::new(Progress::default()),
            awaited: Notify::new(),
            serving: Serving::default(),
            pages: AtomicU32::new(0),
            place: Mutex::default(),
            observers: Mutex::default(),
        }
    }
}

impl fmt::Debug for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watermark").field(&self.progress()).finish()
    }
}

impl Watermark {
    /// Returns how far the view has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        *self.shared.progress.borrow()
    }

    /// The message of the log that the view is told to have been applied up to; `None` where only its position
    /// is known.
    pub(crate) fn place(&self) -> Option<Place> {
        let position = self.progress().position;
        // It may be told a moment before the view has moved there.
        Some(*self.place_lock()).filter(|place| place.position >= position)
    }

    /// Takes note of what stands in the log at a position that the view has come to.
    pub(crate) fn stands_on(&self, place: Place) {
        let mut known = self.place_lock();
        if place.position >= known.position {
            *known = place;
        }
    }

    fn place_lock(&self) -> MutexGuard<'_, Place> {
        let place = self.shared.place.lock();
        place.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what the view is served from.
    pub(crate) fn serving(&self) -> &Serving {
        &self.shared.serving
    }

    /// Moves the watermark to where another generation of the view is, back too.
    pub(crate) fn reset(&self, to: Progress) {
        let observers = self.observers();
        for observer in observers.iter() {
            observer.lost(to.position);
        }
        self.shared.pages.store(0, Ordering::Relaxed);
        *self.place_lock() = Place::default();
        self.shared.progress.send_replace(to);
    }

    /// Serves nothing of the view any more: this edition is of another log, and a position in it means
    /// nothing.
    pub(crate) fn lose(&self, edition: &Edition) {
        if self.serving().lose(edition) {
            self.reset(Progress::default());
        }
    }

    /// Knows nothing any more: the store is another one.
    pub(crate) fn forget(&self) {
        self.serving().forget();
        self.reset(Progress::default());
    }

    /// Takes note of a transaction that is in the store: tells the observers, then moves on. One that
    /// does not follow on where the watermark is tells them that anything may have changed; one that
    /// is behind it was noted before.
    pub fn note(&self, applied: &Applied) {
        self.note_fresh(applied, &[]);
    }

    /// As [`Watermark::note`], with some of the documents as the transaction has left them.
    pub(crate) fn note_fresh(&self, applied: &Applied, fresh: &[FreshDocument]) {
        let observers = self.observers();
        let current = self.progress().position;
        let unnamed = applied.ids.is_empty() && !applied.all;
        // What is applied out of turn changes documents at the position that the view has.
        let in_place = applied.previous == applied.position && !unnamed && applied.page.is_none();
        let partial = applied.is_partial();
        let known = self.shared.pages.load(Ordering::Relaxed);
        let told = partial && applied.page < Some(known);
        if applied.position > current
            || ((in_place || partial) && applied.position == current && !told)
        {
            let follows = applied.previous == current
                && !in_place
                && !applied.all
                && applied.page.unwrap_or(0) == known;
            for observer in observers.iter() {
                if follows {
                    observer.changed(applied, fresh);
                } else {
                    observer.lost(applied.position);
                }
            }
            if !in_place {
                let pages = applied.page.filter(|_| partial);
                let pages = pages.map_or(0, |page| page.saturating_add(1));
                self.shared.pages.store(pages, Ordering::Relaxed);
            }
        }
        if let Some(mark) = applied.mark {
            let position = applied.position;
            self.stands_on(Place { position, mark });
        }
        self.move_to(Progress {
            position: applied.position,
            behind_since: applied.behind_since,
        });
    }

    /// Moves the watermark on, by changes that are not known. One that is further already stays.
    pub fn advance(&self, to: Progress) {
        let observers = self.observers();
        if to.position > self.progress().position {
            for observer in observers.iter() {
                observer.lost(to.position);
            }
            self.shared.pages.store(0, Ordering::Relaxed);
        }
        self.move_to(to);
    }

    /// Tells the observers that any document may have changed, where the watermark is now: a view's
    /// documents were exchanged as a whole.
    pub fn replaced(&self) {
        let observers = self.observers();
        let position = self.progress().position;
        for observer in observers.iter() {
            observer.lost(position);
        }
    }

    /// Returns whether somebody would like to have the document when it changes.
    pub(crate) fn wants(&self, id: &str) -> bool {
        self.observers().iter().any(|observer| observer.wants(id))
    }

    /// From now on, tells `observer` of each change.
    pub(super) fn observe(&self, observer: Arc<dyn Observer>) {
        self.observers().push(observer);
    }

    fn observers(&self) -> MutexGuard<'_, Vec<Arc<dyn Observer>>> {
        let observers = self.shared.observers.lock();
        observers.unwrap_or_else(PoisonError::into_inner)
    }

    fn move_to(&self, to: Progress) {
        self.shared.progress.send_if_modified(|progress| {
            let forward = to.position >= progress.position && to != *progress;
            if forward {
                *progress = to;
            }
            forward
        });
    }

    /// Notes since when the log has commits that are not applied, at the same position.
    pub fn fall_behind(&self, since: Option<Timestamp>) {
        self.shared.progress.send_if_modified(|progress| {
            let changed = progress.behind_since != since;
            progress.behind_since = since;
            changed
        });
    }

    /// Returns how many wait for a position now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.progress.receiver_count()
    }

    /// Waits until somebody waits for the view to come further.
    pub(crate) async fn awaited(&self) {
        let mut told = pin!(self.shared.awaited.notified());
        // First: who comes after the look is heard of.
        told.as_mut().enable();
        let followed = self
            .observers()
            .iter()
            .any(|observer| observer.is_followed());
        if !followed && self.waiting() == 0 {
            told.await;
        }
    }

    /// Waits at most `max_wait` until the view has applied `position`; whether it has.
    pub async fn reached(&self, position: u64, max_wait: Duration) -> bool {
        if self.progress().position >= position {
            return true;
        }
        let mut progress = self.shared.progress.subscribe();
        self.shared.awaited.notify_waiters();
        let reached = progress.wait_for(|progress| progress.position >= position);
        matches!(timeout(max_wait, reached).await, Ok(Ok(_)))
    }
}

/// The watermarks of all views.
#[derive(Debug, Clone, Default)]
pub struct Watermarks {
    views: Arc<BTreeMap<&'static str, Watermark>>,
}

impl Watermarks {
    /// One for each name, all at the beginning.
    #[must_use]
    pub fn new(views: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            views: Arc::new(
                views
                    .into_iter()
                    .map(|view| (view, Watermark::default()))
                    .collect(),
            ),
        }
    }

    /// The named view's.
    #[must_use]
    pub fn view(&self, view: &str) -> Option<&Watermark> {
        self.views.get(view)
    }

    /// Takes note of an announcement about this store.
    pub fn note(&self, applied: &Applied) {
        if let Some(watermark) = self.view(&applied.view) {
            watermark.note(applied);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn at(position: u64) -> Progress {
        Progress {
            position,
            behind_since: None,
        }
    }

    #[tokio::test]
    async fn a_wait_ends_when_the_position_is_reached() {
        let watermark = Watermark::default();
        let waiting = watermark.clone();
        let wait = tokio::spawn(async move { waiting.reached(7, Duration::from_secs(5)).await });
        watermark.advance(at(6));
        watermark.advance(at(8));
        assert!(wait.await.unwrap());
    }

    #[tokio::test]
    async fn a_wait_is_over_when_its_time_is() {
        let watermark = Watermark::default();
        watermark.advance(at(6));
        assert!(!watermark.reached(7, Duration::ZERO).await);
        assert!(watermark.reached(6, Duration::ZERO).await);
    }

    #[tokio::test]
    async fn it_is_known_when_somebody_waits() {
        let watermark = Watermark::default();
        assert_eq!(watermark.awaited().now_or_never(), None);
        let mut awaited = pin!(watermark.awaited());
        assert_eq!(awaited.as_mut().now_or_never(), None);
        let waiting = watermark.clone();
        let wait = tokio::spawn(async move { waiting.reached(7, Duration::from_secs(60)).await });
        awaited.await;
        watermark.awaited().await;
        watermark.advance(at(7));
        assert!(wait.await.unwrap());
        assert_eq!(watermark.awaited().now_or_never(), None);
    }

    #[test]
    fn a_watermark_never_moves_back() {
        let watermark = Watermark::default();
        watermark.advance(at(6));
        watermark.advance(at(5));
        assert_eq!(watermark.progress(), at(6));
    }

    #[derive(Default)]
    struct Told {
        what: Mutex<Vec<String>>,
        watermark: Watermark,
    }

    impl Told {
        fn tell(&self, what: String) {
            let before = self.watermark.progress().position;
            self.what
                .lock()
                .unwrap()
                .push(format!("{what}, when at {before}"));
        }
    }

    impl Observer for Told {
        fn changed(&self, applied: &Applied, _: &[FreshDocument]) {
            self.tell(format!("{:?} to {}", applied.ids, applied.position));
        }

        fn lost(&self, position: u64) {
            self.tell(format!("lost to {position}"));
        }
    }

    fn applied(previous: u64, position: u64) -> Applied {
        Applied {
            view: "v".to_owned(),
            previous,
            position,
            behind_since: None,
            ids: vec!["a".to_owned()],
            ..Applied::default()
        }
    }

    #[test]
    fn observers_are_told_before_the_watermark_moves_and_of_every_gap() {
        let watermark = Watermark::default();
        let told = Arc::new(Told {
            what: Mutex::default(),
            watermark: watermark.clone(),
        });
        watermark.observe(told.clone());
        watermark.advance(at(3));
        watermark.note(&applied(3, 5));
        watermark.note(&applied(3, 5));
        watermark.advance(at(5));
        watermark.note(&applied(6, 8));
        watermark.note(&applied(4, 9));
        watermark.replaced();
        assert_eq!(
            *told.what.lock().unwrap(),
            [
                "lost to 3, when at 0",
                "[\"a\"] to 5, when at 3",
                "lost to 8, when at 5",
                "lost to 9, when at 8",
                "lost to 9, when at 9",
            ]
        );
        assert_eq!(watermark.progress(), at(9));
    }

    fn page(position: u64, page: u32) -> Applied {
        Applied {
            page: Some(page),
            ..applied(position, position)
        }
    }

    #[test]
    fn the_transactions_of_one_commit_are_told_in_their_order_and_a_missing_one_is_noticed() {
        let watermark = Watermark::default();
        let told = Arc::new(Told {
            what: Mutex::default(),
            watermark: watermark.clone(),
        });
        watermark.advance(at(3));
        watermark.observe(told.clone());
        let last = |number| Applied {
            page: Some(number),
            ..applied(3, 5)
        };
        watermark.note(&page(3, 0));
        watermark.note(&page(3, 0));
        watermark.note(&page(3, 1));
        assert_eq!(watermark.progress(), at(3));
        watermark.note(&last(2));
        watermark.note(&page(3, 1));
        watermark.note(&page(5, 1));
        watermark.note(&page(5, 2));
        watermark.note(&Applied {
            page: Some(4),
            ..applied(5, 6)
        });
        watermark.note(&applied(6, 7));
        watermark.note(&Applied {
            all: true,
            ids: Vec::new(),
            ..applied(7, 8)
        });
        assert_eq!(
            *told.what.lock().unwrap(),
            [
                "[\"a\"] to 3, when at 3",
                "[\"a\"] to 3, when at 3",
                "[\"a\"] to 5, when at 3",
                "lost to 5, when at 5",
                "[\"a\"] to 5, when at 5",
                "lost to 6, when at 5",
                "[\"a\"] to 7, when at 6",
                "lost to 8, when at 7",
            ]
        );
    }

    #[test]
    fn an_announcement_that_is_too_large_says_that_anything_may_have_changed() {
        let mut applied = applied(3, 5);
        applied.ids = (0..100).map(|number| format!("id-{number}")).collect();
        let whole: Applied = serde_json::from_slice(&applied.body(10_000)).unwrap();
        assert_eq!(whole, applied);
        let body = applied.body(500);
        assert!(body.len() <= 500);
        let short: Applied = serde_json::from_slice(&body).unwrap();
        assert!(short.all && short.ids.is_empty());
        assert_eq!((short.previous, short.position), (3, 5));
    }
}
