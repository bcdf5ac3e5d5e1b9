//! The dependency rule, held against the source text.
//!
//! The pure vocabulary, the mart and the test kit import nothing of the runtime; only `event_log`
//! speaks JetStream, only `read_model` speaks to SurrealDB.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What is pure, files and folders alike, and all of this crate that it may use.
const PURE: [&str; 7] = [
    "aggregate",
    "recorded",
    "text",
    "view",
    "process",
    "mart",
    "testkit",
];
/// Words that only a runtime needs.
const IMPURE_WORDS: [&str; 14] = [
    "actix",
    "actix_web",
    "async_nats",
    "futures",
    "metrics",
    "reqwest",
    "surrealdb",
    "tokio",
    "tokio_stream",
    "tokio_util",
    "tracing",
    "uuid",
    "Instant",
    "SystemTime",
];

#[test]
fn the_pure_modules_import_nothing_of_the_runtime() {
    for (path, code) in sources(|module| PURE.contains(&module)) {
        let words = words(&code);
        for word in IMPURE_WORDS {
            assert!(!words.contains(&word), "{} has {word}", path.display());
        }
        for module in crate_modules(&code) {
            assert!(
                PURE.contains(&module.as_str()),
                "{} uses crate::{module}",
                path.display()
            );
        }
        // jiff can read the clock too.
        assert!(!code.contains("::now("), "{} reads a clock", path.display());
    }
}

#[test]
fn only_the_event_log_speaks_jetstream() {
    only("jetstream", "event_log");
}

#[test]
fn only_the_read_model_speaks_to_surrealdb() {
    only("surrealdb", "read_model");
}

#[track_caller]
fn only(word: &str, owner: &str) {
    for (path, code) in sources(|module| module != owner) {
        assert!(
            !words(&code).contains(&word),
            "{} has {word}",
            path.display()
        );
    }
}

/// The code of the top modules that are asked for, without comments and string literals.
fn sources(wanted: impl Fn(&str) -> bool) -> Vec<(PathBuf, String)> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let top = path.strip_prefix(root).unwrap().iter().next().unwrap();
            let top = Path::new(top).with_extension("");
            if path.extension().is_some_and(|kind| kind == "rs") && wanted(top.to_str().unwrap()) {
                let code = strip(&fs::read_to_string(&path).unwrap());
                found.push((path, code));
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// The code without comments, and with every string literal empty.
fn strip(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_string(rest)
            && !code.ends_with(|c: char| c.is_alphanumeric() || c == '_')
        {
            length
        } else if next == '"' {
            quoted(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with("'\\") {
            4
        } else {
            code.push(next);
            next.len_utf8()
        };
        rest = &rest[skipped.min(rest.len())..];
    }
    code
}

/// The length of the raw string literal at the beginning, if there is one.
fn raw_string(source: &str) -> Option<usize> {
    let hashes = source.strip_prefix('r')?;
    let body = hashes.trim_start_matches('#');
    let end = format!("\"{}", &hashes[..hashes.len() - body.len()]);
    let body = body.strip_prefix('"')?;
    Some(source.len() - body.len() + body.find(&end)? + end.len())
}

/// The length of the string literal at the beginning.
fn quoted(source: &str) -> usize {
    let mut escaped = false;
    for (at, c) in source.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    source.len()
}

fn words(code: &str) -> Vec<&str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .collect()
}

/// The top modules of this crate that are named as `crate::module` or `crate::{module, …}`.
fn crate_modules(code: &str) -> Vec<String> {
    let compact: String = code.split_whitespace().collect();
    let mut modules = Vec::new();
    for path in compact.split("crate::").skip(1) {
        let Some(list) = path.strip_prefix('{') else {
            modules.push(first_word(path));
            continue;
        };
        let mut depth = 0;
        let mut item = true;
        for (at, c) in list.char_indices() {
            if item && depth == 0 && c.is_alphabetic() {
                modules.push(first_word(&list[at..]));
                item = false;
            }
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => item = true,
                _ => {}
            }
        }
    }
    modules
}

fn first_word(code: &str) -> String {
    words(code).first().copied().unwrap_or_default().to_owned()
}

#[test]
fn comments_and_strings_are_not_code() {
    let source = r##"
        //! tokio
        use a; // tokio
        /* tokio */
        let b = "tokio \" tokio"; let c = '"'; let d = '\''; let e = r#"tokio "tokio"#; let f = "x";
    "##;
    let code = strip(source);
    assert!(!code.contains("tokio"), "{code}");
    for name in ["a", "b", "c", "d", "e", "f"] {
        assert!(words(&code).contains(&name), "{name} in {code}");
    }
}

#[test]
fn imports_are_found_alone_and_in_groups() {
    let code = "use crate::a::b; use crate::{\n    c,\n    d::{e, f},\n    g::h,\n}; crate::i::j()";
    assert_eq!(crate_modules(code), ["a", "c", "d", "g", "i"]);
}
