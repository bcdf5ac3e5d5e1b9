//! The names between backticks in pages, held to the repository: files, modules, words of the code, headers,
//! paths and targets.

use super::root;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Named here, and made or kept elsewhere.
const ELSEWHERE: &[&str] = &[
    "backup.json",
    "cluster.json",
    "deploy/crds.yml",
    "deploy/secret",
    "deploy/secrets",
    "headwater.cdx.json",
    "keys/headwater.conf",
    "package.json",
    "schema/compose-spec.json",
    "tests/browser/node_modules",
    "config/crd/bases/keda.sh_scaledobjects.yaml",
];
/// Words of others.
const FOREIGN: &[&str] = &["opentelemetry_sdk", "send_request", "PR_SET_PDEATHSIG"];
/// The folders at the top whose files pages name.
const TOP: &[&str] = &[
    "src", "tests", "docs", "tools", "deploy", "nats", "examples",
];

/// All that is kept in the repository, without what is built or fetched.
struct Repository {
    files: Vec<PathBuf>,
    /// All text of the code, of settings and of locks: what a word of a page can be a word of.
    text: String,
}

impl Repository {
    fn read() -> Self {
        let mut files = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(root().join(&folder)).unwrap() {
                let path = folder.join(entry.unwrap().file_name());
                let name = path.file_name().unwrap().to_string_lossy();
                let is_kept = !name.starts_with('.') || name == ".ci";
                let is_made = ["target", "data", "dist", "node_modules", "__pycache__"];
                if root().join(&path).is_dir() {
                    if is_kept && !is_made.contains(&&*name) {
                        folders.push(path);
                    }
                } else {
                    files.push(path);
                }
            }
        }
        let is_code = |path: &&PathBuf| {
            let kind = path.extension().and_then(|kind| kind.to_str());
            let kinds = ["rs", "toml", "lock", "json", "yaml", "conf", "py", "js"];
            kind.is_none_or(|kind| kinds.contains(&kind))
        };
        let texts = files.iter().filter(is_code);
        let texts = texts.filter_map(|file| fs::read_to_string(root().join(file)).ok());
        let text = texts.collect();
        Self { files, text }
    }

    fn has_file(&self, name: &str, page: &Path) -> bool {
        let name = name.trim_end_matches('/');
        let beside = page.parent().unwrap().join(name);
        beside.exists()
            || root().join(name).exists()
            || self.files.iter().any(|file| file.ends_with(name))
    }

    /// The texts of the files that a module is made of, whose path ends with these names.
    fn module(&self, names: &[&str]) -> String {
        let path: PathBuf = names.iter().collect();
        let file = path.with_extension("rs");
        let within = |candidate: &&PathBuf| {
            let is_source = candidate.starts_with("src") || candidate.starts_with("tests");
            let mut folders = candidate.ancestors().skip(1);
            is_source
                && (candidate.ends_with(&file) || folders.any(|folder| folder.ends_with(&path)))
        };
        let files = self.files.iter().filter(within);
        let texts = files.filter_map(|file| fs::read_to_string(root().join(file)).ok());
        texts.collect()
    }

    /// The texts of the files in which a type is declared or has its functions.
    fn type_named(&self, name: &str) -> String {
        let sources = self
            .files
            .iter()
            .filter(|file| file.extension().is_some_and(|kind| kind == "rs"));
        let texts = sources.filter_map(|file| fs::read_to_string(root().join(file)).ok());
        let declares = |text: &String| {
            text.lines().any(|line| {
                let line = line.trim_start().trim_start_matches("pub ");
                let kinds = ["struct ", "enum ", "trait ", "type ", "impl"];
                kinds.iter().any(|kind| line.starts_with(kind)) && has_word(line, name)
            })
        };
        texts.filter(declares).collect()
    }

    /// Returns whether a path of the code (`command::turn`, `Store::write`) leads somewhere.
    fn has_item(&self, item: &str) -> bool {
        let names: Vec<_> = item.split("::").collect();
        let leads = |text: &str, rest: &[&str]| {
            !text.is_empty() && rest.iter().all(|name| has_word(text, name))
        };
        let by_module = (1..=names.len()).rev().any(|depth| {
            let (module, rest) = names.split_at(depth);
            leads(&self.module(module), rest)
        });
        let is_type = |name: &&str| name.starts_with(char::is_uppercase);
        by_module
            || names.first().is_some_and(is_type) && leads(&self.type_named(names[0]), &names[1..])
            || names[0] == "headwater" && has_word(&self.text, names[names.len() - 1])
    }
}

fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[test]
fn what_pages_name_is_there() {
    let repository = Repository::read();
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let (mut looked_at, mut missing) = (0, BTreeSet::new());
    for page in all_pages() {
        for span in spans(&fs::read_to_string(&page).unwrap()) {
            let there = match Named::of(&span) {
                None => continue,
                Some(Named::File) => repository.has_file(&span, &page),
                Some(Named::Item) => repository.has_item(span.trim_end_matches("()")),
                Some(Named::Word) => has_word(&repository.text, &span),
                Some(Named::Header) => {
                    let header = span.split([':', ' ']).next().unwrap_or_default();
                    let text = repository.text.to_ascii_lowercase();
                    text.contains(&header.to_ascii_lowercase())
                }
                Some(Named::Path) => has_path(&repository.text, &span),
                Some(Named::Target) => {
                    let target = span.split(' ').nth(1).unwrap_or_default();
                    makefile.contains(&format!("\n{target}:"))
                }
            };
            looked_at += 1;
            if !there {
                missing.insert(format!("{}: `{span}`", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "not there: {missing:#?}");
    assert!(looked_at > 500, "{looked_at} names were found");
}

/// The kinds of names that can be looked up.
enum Named {
    File,
    Item,
    Word,
    Header,
    Path,
    Target,
}

impl Named {
    fn of(span: &str) -> Option<Self> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
        let kind = Path::new(span).extension().and_then(|kind| kind.to_str());
        let kinds = [
            "rs", "md", "json", "conf", "py", "yaml", "toml", "mjs", "sh", "proto",
        ];
        let first = span.split('/').next().unwrap_or_default();
        let is_below_top = span.contains('/') && TOP.contains(&first);
        let is_ident = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let item = span.trim_end_matches("()");
        if ELSEWHERE.contains(&span.trim_end_matches('/')) || FOREIGN.contains(&item) {
            None
        } else if span.chars().all(is_name)
            && (is_below_top || kind.is_some_and(|kind| kinds.contains(&kind)))
            && !span.starts_with('/')
        {
            Some(Self::File)
        } else if item.contains("::") && item.split("::").all(is_ident) {
            let foreign = item.split("::").any(|name| FOREIGN.contains(&name));
            // The target of log lines is no module.
            (!foreign && item != "headwater::audit").then_some(Self::Item)
        } else if is_ident(item) && item.contains('_') && !item.starts_with("_INBOX") {
            // Variables and metrics are looked up elsewhere.
            let elsewhere = ["HEADWATER_", "headwater_"];
            let is_elsewhere = elsewhere.iter().any(|start| item.starts_with(start));
            (!is_elsewhere && item == span).then_some(Self::Word)
        } else if span.starts_with("Headwater-") {
            Some(Self::Header)
        } else if ["GET /ops", "POST /ops", "DELETE /ops"]
            .iter()
            .any(|start| span.starts_with(start))
        {
            Some(Self::Path)
        } else if span.starts_with("make ") {
            Some(Self::Target)
        } else {
            None
        }
    }
}

/// Returns whether the code has a path of `/ops`. Where it stands for an example, its names are not those of the path.
fn has_path(code: &str, span: &str) -> bool {
    let path = span.split([' ', '?']).nth(1).unwrap_or_default();
    let known = code.split('"').filter(|text| text.starts_with("/ops/"));
    let matches = |known: &str| {
        let (mut known, mut said) = (known.split('/'), path.split('/'));
        loop {
            match (known.next(), said.next()) {
                (None, None) => return true,
                (Some(known), Some(said)) if known == said || known.starts_with('{') => {}
                _ => return false,
            }
        }
    };
    known.into_iter().any(matches)
}

/// The pieces between backticks on one line, outside blocks.
fn spans(page: &str) -> Vec<String> {
    let mut spans = Vec::new();
    let mut is_block = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_block = !is_block;
        } else if !is_block {
            spans.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    spans
}

/// All pages: those of the book, and those that stand beside what they are about.
pub(super) fn all_pages() -> Vec<PathBuf> {
    let mut pages = super::pages();
    let beside = [
        "README.ko.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "nats/README.md",
        "nats/SUBJECTS.md",
        "deploy/observability/README.md",
        "tools/deploy/README.md",
        "examples/typescript/README.md",
    ];
    pages.extend(beside.map(|page| root().join(page)));
    // It is made from the program.
    pages.retain(|page| !page.ends_with("docs/flags.md"));
    pages
}
