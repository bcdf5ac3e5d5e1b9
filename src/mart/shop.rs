//! The shop: the mart as a shopper sees it, and as a branch that serves them does.
//!
//! It is a client like any other. It uses the public API alone, follows the views live, and reads what it has
//! written by its position.

use headwater_core::pages::{PageFile, Pages};

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(PageFile::new($name, include_bytes!(concat!("shop/", $name)))),+]
    };
}

/// The pages, at `/shop`.
pub const SHOP: Pages = Pages {
    path: "shop",
    title: "Open the shop",
    files: files![
        "index.html",
        "basket.js",
        "branch.js",
        "data.js",
        "main.js",
        "orders.js",
        "shop.css",
        "store.js",
        "texts.js",
        "who.js",
    ],
};
