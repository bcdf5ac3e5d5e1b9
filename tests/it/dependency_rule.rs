//! The dependency rule: who may import what. It reads the sources, so that it fails by file and line.
//!
//! - The pure vocabulary and the reference domain import nothing of the runtime.
//! - Only `event_log` speaks JetStream, only `read_model` speaks to SurrealDB.
//! - Only `http` knows actix-web.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What pure code may not even mention.
const IMPURE: &[&str] = &[
    "actix",
    "async_nats",
    "surrealdb",
    "tokio",
    "futures::",
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "Zoned::now",
    "Uuid::",
    "crate::event_log",
    "crate::command",
    "crate::read_model",
    "crate::projection",
    "crate::process_manager",
    "crate::http",
    "crate::platform",
    "crate::dev",
    "async fn",
];

const PURE: &[&str] = &[
    "src/aggregate.rs",
    "src/recorded.rs",
    "src/view.rs",
    "src/process.rs",
    "src/mart.rs",
    "src/mart",
];

/// A word, and the only places that may use it.
const OWNERS: &[(&str, &[&str])] = &[
    (
        "async_nats::jetstream",
        &["src/event_log.rs", "src/event_log"],
    ),
    ("$JS.", &["src/event_log.rs", "src/event_log"]),
    ("surrealdb::", &["src/read_model.rs", "src/read_model"]),
    ("actix_web", &["src/http.rs", "src/http"]),
];

struct Line {
    file: PathBuf,
    number: usize,
    code: String,
}

/// Every line of code under `path`, a file or a folder, without comments and unit tests.
fn lines(path: &Path) -> Vec<Line> {
    if path.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        return entries.iter().flat_map(|entry| lines(entry)).collect();
    }
    if path.extension().is_none_or(|extension| extension != "rs") {
        return Vec::new();
    }
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .take_while(|line| line.trim() != "#[cfg(test)]")
        .enumerate()
        .map(|(index, line)| Line {
            file: path.to_owned(),
            number: index + 1,
            code: line.split("//").next().unwrap_or_default().to_owned(),
        })
        .collect()
}

fn complain(line: &Line, what: &str) -> String {
    format!(
        "{}:{}: {what}: {}",
        line.file.display(),
        line.number,
        line.code.trim()
    )
}

#[test]
fn pure_code_imports_nothing_of_the_runtime() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    let mut read = 0;
    for line in PURE
        .iter()
        .map(|path| root.join(path))
        .filter(|path| path.exists())
        .flat_map(|path| lines(&path))
    {
        read += 1;
        for word in IMPURE {
            if line.code.contains(word) {
                broken.push(complain(&line, word));
            }
        }
    }
    assert!(read > 100, "the pure code is not where it was");
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn each_outside_system_is_spoken_to_by_one_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    for line in lines(&root.join("src")) {
        let file = line.file.strip_prefix(root).unwrap();
        for (word, owners) in OWNERS {
            let allowed = owners.iter().any(|owner| file.starts_with(owner));
            if !allowed && line.code.contains(word) {
                broken.push(complain(&line, word));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}
