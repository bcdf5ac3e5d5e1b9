//! Progress of long work: bars on a terminal, plain lines otherwise.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::{
    collections::BTreeMap,
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

/// The pause between two plain lines.
const LINE: Duration = Duration::from_secs(2);

/// Progress of several things, each by its name. Cleared when dropped.
pub(super) struct Progress {
    bars: Option<MultiProgress>,
    shown: BTreeMap<String, ProgressBar>,
    printed: BTreeMap<String, Instant>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            bars: stderr().is_terminal().then(MultiProgress::new),
            shown: BTreeMap::new(),
            printed: BTreeMap::new(),
        }
    }

    /// `done` of `total` of the named work is done.
    pub(super) fn show(&mut self, name: &str, done: u64, total: u64) {
        let Some(bars) = &self.bars else {
            let due = self.printed.get(name).is_none_or(|at| at.elapsed() >= LINE);
            if due {
                eprintln!("{name}: {done} of {total}");
                self.printed.insert(name.to_owned(), Instant::now());
            }
            return;
        };
        let bar = self.shown.entry(name.to_owned()).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(total));
            let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(name.to_owned());
            bar
        });
        bar.set_length(total);
        bar.set_position(done);
    }

    /// The named work is done.
    pub(super) fn finish(&mut self, name: &str) {
        if let Some(bar) = self.shown.remove(name) {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        for bar in self.shown.values() {
            bar.finish_and_clear();
        }
    }
}
