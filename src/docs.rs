//! The pages in `docs/` and `README.md`, held to what they show.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A block says after `rust` which file it is a part of: ```` ```rust src/mart/member.rs ````.
#[test]
fn every_piece_of_rust_stands_in_the_file_that_it_names() {
    let mut held = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for block in text.split("```rust").skip(1) {
            let (file, code) = block.split_once('\n').unwrap();
            let code = code.split("```").next().unwrap_or_default();
            let page = page.display();
            let file = file.trim();
            assert!(
                !file.is_empty(),
                "{page} has a block without a file:\n{code}"
            );
            let source = fs::read_to_string(root().join(file))
                .unwrap_or_else(|error| panic!("{page}: {file}: {error}"));
            let lines = plain(&source);
            let shown = plain(code);
            assert!(
                lines.windows(shown.len()).any(|window| window == shown),
                "{page}: this does not stand in {file}:\n{code}"
            );
            held += 1;
        }
    }
    assert!(held > 10, "{held} blocks were found");
}

#[test]
fn every_page_is_in_the_book_and_every_link_leads_somewhere() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    for page in pages() {
        let within = page.strip_prefix(root().join("docs"));
        if let Ok(within) = within
            && !within.starts_with("decisions")
            && within != Path::new("SUMMARY.md")
        {
            let link = format!("]({})", within.display());
            assert!(summary.contains(&link), "SUMMARY.md has no {link}");
        }
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1) {
            let link = link.split([')', '#', ' ']).next().unwrap_or_default();
            if link.is_empty() || link.contains("://") {
                continue;
            }
            let there = page.parent().unwrap().join(link);
            assert!(there.exists(), "{} links to {link}", page.display());
        }
    }
}

/// The lines without their indentation, and without what makes them a part of a doc comment.
fn plain(code: &str) -> Vec<&str> {
    let lines = code.lines().map(str::trim);
    let uncommented = lines.map(|line| line.strip_prefix("///").unwrap_or(line).trim());
    uncommented.filter(|line| !line.is_empty()).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "md") {
                pages.push(path);
            }
        }
    }
    pages
}
