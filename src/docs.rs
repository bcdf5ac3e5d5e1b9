//! The pages in `docs/` and `README.md`, held to what they show.

mod command_line;
mod metrics;
mod references;

use std::{
    fmt::Write,
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

#[test]
fn the_page_of_flags_is_what_the_program_says() {
    is_made_from_the_program("docs/flags.md", |_| flags());
}

/// Holds a page to what the program makes of it. After a change of the program,
/// `HEADWATER_WRITE_DOCS=1 cargo test --lib docs` writes it.
fn is_made_from_the_program(page: &str, make: impl Fn(&str) -> String) {
    let file = root().join(page);
    let text = fs::read_to_string(&file).unwrap();
    let said = make(&text);
    if std::env::var_os("HEADWATER_WRITE_DOCS").is_some() {
        fs::write(&file, &said).unwrap();
        return;
    }
    assert!(text == said, "{page} is not what the program says");
}

#[test]
fn every_code_of_a_problem_is_told() {
    let page = fs::read_to_string(root().join("docs/problems.md")).unwrap();
    let source = fs::read_to_string(root().join("src/core/problem.rs")).unwrap();
    let source = source.split("#[cfg(test)]").next().unwrap();
    let words = source.split('"').skip(1).step_by(2);
    // Titles have capitals, details have spaces, attributes are not between quotes but `Option::is_none`.
    let is_code =
        |word: &&str| word.len() > 3 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let mut told = 0;
    for code in words.filter(is_code) {
        assert!(
            page.contains(&format!("| `{code}` |")),
            "docs/problems.md has no {code}"
        );
        told += 1;
    }
    assert!(told > 12, "{told} codes were found");
}

fn flags() -> String {
    let mut page = "# Flags\n\nMade from the program. Each flag is also a variable: `--http-addr` is \
        `HEADWATER_HTTP_ADDR`. The flag wins. A value that cannot be read ends the program with 2, before anything is begun.\n"
        .to_owned();
    describe(&program(), &mut page);
    page
}

/// The program, as its command line is read.
fn program() -> clap::Command {
    let mut program = crate::cli::command_line();
    program.build();
    program
}

fn describe(command: &clap::Command, page: &mut String) {
    let shown: Vec<_> = command
        .get_arguments()
        .filter(|flag| {
            !flag.is_hide_set() && !["help", "version"].contains(&flag.get_id().as_str())
        })
        .filter(|flag| command.get_name() == "headwater" || !flag.is_global_set())
        .collect();
    if !shown.is_empty() {
        let name = command.get_bin_name().unwrap_or("headwater");
        write!(page, "\n## `{name}`\n\n").unwrap();
        if let Some(about) = command.get_about() {
            write!(page, "{about}.\n\n").unwrap();
        }
        page.push_str("| flag | unless given | meaning |\n|---|---|---|\n");
        for flag in shown {
            let values = flag.get_value_names().unwrap_or_default();
            let takes = flag.get_action().takes_values();
            let values: String = match takes {
                true => values.iter().map(|value| format!(" <{value}>")).collect(),
                false => String::new(),
            };
            let name = match flag.get_long() {
                Some(long) => format!("--{long}{values}"),
                None => values.trim().to_owned(),
            };
            let default = flag.get_default_values().join(std::ffi::OsStr::new(","));
            let default = match default.to_string_lossy() {
                none if none.is_empty() || !takes => String::new(),
                value => format!("`{value}`"),
            };
            let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
            let help = help
                .replace('\n', " ")
                .replace('|', "\\|")
                .replace('<', "&lt;");
            writeln!(page, "| `{name}` | {default} | {help} |").unwrap();
        }
    }
    for command in command.get_subcommands() {
        if command.get_name() != "help" {
            describe(command, page);
        }
    }
}

/// The code is the very same, and each heading has its counterpart; the text between them is for people to hold.
#[test]
fn the_korean_pages_have_the_headings_and_the_code_of_the_english_ones() {
    for (english, korean) in [
        ("README.md", "README.ko.md"),
        ("docs/tutorial.md", "docs/tutorial.ko.md"),
    ] {
        let english = parts(&fs::read_to_string(root().join(english)).unwrap());
        let page = fs::read_to_string(root().join(korean)).unwrap();
        let translated = parts(&page);
        assert_eq!(
            translated.headings, english.headings,
            "headings of {korean}"
        );
        for (number, block) in english.blocks.iter().enumerate() {
            let counterpart = translated.blocks.get(number);
            assert_eq!(counterpart, Some(block), "block {number} of {korean}");
        }
        assert_eq!(translated.blocks.len(), english.blocks.len(), "{korean}");
        assert!(
            page.contains(['가', '다', '니']),
            "{korean} is not in Korean"
        );
    }
}

struct PageParts {
    /// The levels of the headings.
    headings: Vec<usize>,
    blocks: Vec<String>,
}

fn parts(page: &str) -> PageParts {
    let (mut headings, mut blocks) = (Vec::new(), Vec::new());
    let mut block: Option<String> = None;
    for line in page.lines() {
        match (&mut block, line.starts_with("```")) {
            (Some(_), true) => blocks.extend(block.take()),
            (Some(block), false) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, true) => block = Some(format!("{line}\n")),
            (None, false) if line.starts_with('#') => {
                headings.push(line.chars().take_while(|c| *c == '#').count());
            }
            (None, false) => {}
        }
    }
    PageParts { headings, blocks }
}
