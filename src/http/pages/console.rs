//! The console: what operators see of the whole system, and do with it. It is a client of `/ops`, and of nothing else.

use crate::pages::PageFile;

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(PageFile::new($name, include_bytes!(concat!("console/", $name)))),+]
    };
}

/// The files of `/console`.
pub(super) const FILES: &[PageFile] = files![
    "index.html",
    "aggregate.js",
    "blocks.js",
    "command.js",
    "console.css",
    "data.js",
    "document.js",
    "jobs.js",
    "main.js",
    "overview.js",
    "parked.js",
    "parts.js",
    "plot.js",
    "processes.js",
    "refusals.js",
    "replicas.js",
    "search.js",
    "tail.js",
    "texts.js",
    "views.js",
];
