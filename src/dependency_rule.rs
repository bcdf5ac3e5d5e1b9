//! The part of the dependency rule that the compiler does not hold: only `event_log` speaks JetStream,
//! only `read_model` speaks to SurrealDB.
//!
//! That the vocabulary, the test kit and the mart are pure is held by their being crates of their own.

use std::{fs, path::Path};

#[test]
fn only_the_event_log_speaks_jetstream() {
    only("jetstream", "event_log");
}

#[test]
fn only_the_read_model_speaks_to_surrealdb() {
    only("surrealdb", "read_model");
}

#[test]
fn only_the_read_model_speaks_to_tantivy() {
    only("tantivy", "read_model");
}

/// Holds every file beside `owner` to not naming this module of another crate, in a path or an import.
#[track_caller]
fn only(module: &str, owner: &str) {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut folders = vec![root.to_path_buf()];
    let (mut owners, mut others) = (0, 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|kind| kind != "rs") {
                continue;
            }
            let named = names(&fs::read_to_string(&path).unwrap(), module);
            let top = path.strip_prefix(root).unwrap().iter().next().unwrap();
            if Path::new(top).with_extension("") == Path::new(owner) {
                owners += usize::from(named);
            } else {
                others += 1;
                assert!(!named, "{} names {module}", path.display());
            }
        }
    }
    assert!(owners > 0 && others > 0, "nothing was looked at");
}

/// Returns whether code, not a comment, has the module in a path (`module::`) or in a list of imports.
fn names(source: &str, module: &str) -> bool {
    source.lines().any(|line| {
        let code = line.split("//").next().unwrap_or_default();
        let rests = code.match_indices(module).map(|(at, _)| {
            let before = code[..at].chars().next_back();
            (before, code[at + module.len()..].trim_start())
        });
        rests.into_iter().any(|(before, rest)| {
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"')
                && (rest.starts_with("::") || rest.starts_with([',', '}', ';']))
        })
    })
}

#[test]
fn paths_and_imports_are_found_and_comments_are_not() {
    for code in [
        "use engine::Engine;",
        "let a = engine::opt::Config::new();",
        "use {engine, serde};",
        "    engine,",
    ] {
        assert!(names(code, "engine"), "{code}");
    }
    for code in [
        "// use engine::Engine;",
        "/// [`engine::Engine`]",
        "engine_server::start();",
        "let name = \"engine\";",
    ] {
        assert!(!names(code, "engine"), "{code}");
    }
}
