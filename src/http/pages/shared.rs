//! The files that pages share, and the licences of those that are not ours.

use crate::pages::PageFile;

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(PageFile::new($name, include_bytes!(concat!("assets/", $name)))),+]
    };
}

/// The files below `/assets`. The vendored ones are fetched by `tools/vendor_pages.py`, which has their
/// versions.
pub(super) const FILES: &[PageFile] = files![
    "api.js",
    "base.css",
    "icon.svg",
    "live.js",
    "page.js",
    "text.js",
    "vendor/htm.js",
    "vendor/hooks.js",
    "vendor/licences.txt",
    "vendor/preact.js",
    "vendor/uplot.css",
    "vendor/uplot.js",
];
