//! The command lines, flags and variables that pages show, held to what the program takes.

use super::{references::all_pages, root};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

/// The flags of other programs.
const FOREIGN: &[&str] = &[
    "--check",
    "--config",
    "--debug",
    "--example",
    "--http_port",
    "--lib",
    "--memory",
    "--nocapture",
    "--ops",
    "--pictures",
    "--release",
    "--signal",
    "--test",
    "--version",
    "--help",
];
/// The variables that are no flags: of tests, of the scripts and of examples.
const OTHERS: &[&str] = &[
    "HEADWATER_WRITE_DOCS",
    "HEADWATER_ARMED",
    "HEADWATER_URL",
    "HEADWATER_FLAG",
];

/// A command of the program, by its whole name: the flags, and what each is unless given.
type Commands = BTreeMap<String, BTreeMap<String, String>>;

fn commands() -> Commands {
    let mut commands = Commands::new();
    let mut left = vec![("headwater".to_owned(), super::program())];
    while let Some((name, command)) = left.pop() {
        let flags = command.get_arguments().filter_map(|flag| {
            let default = flag.get_default_values().join(std::ffi::OsStr::new(","));
            let default = if flag.get_action().takes_values() {
                default.to_string_lossy().into_owned()
            } else {
                String::new()
            };
            // What is a setting of a process is read by the process: its help says what it is.
            let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
            let told = help
                .split_once("[default: ")
                .and_then(|(_, told)| told.split_once(']'));
            let default = match told {
                Some((told, _)) if default.is_empty() => told.to_owned(),
                _ => default,
            };
            Some((format!("--{}", flag.get_long()?), default))
        });
        let flags = flags.collect();
        for below in command.get_subcommands() {
            left.push((format!("{name} {}", below.get_name()), below.clone()));
        }
        commands.insert(name, flags);
    }
    commands
}

#[test]
fn command_lines_in_pages_are_ones_that_the_program_takes() {
    let commands = commands();
    let (mut looked_at, mut wrong) = (0, BTreeSet::new());
    for page in all_pages() {
        let text = fs::read_to_string(&page).unwrap();
        for line in lines(&text) {
            looked_at += 1;
            if let Err(why) = takes(&commands, line) {
                wrong.insert(format!("{}: `{line}`: {why}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(looked_at > 150, "{looked_at} command lines were found");
}

/// The command lines of a page: in blocks from the beginning of a line or behind a pipe, in a sentence between backticks.
fn lines(page: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut is_block = false;
    for line in page.lines() {
        if line.starts_with("```") {
            is_block = !is_block;
        } else if is_block {
            // What stands before the program are variables.
            let commands = line.split(" | ").filter_map(|part| {
                let at = part.find("headwater ")?;
                let before = part[..at].trim();
                let is_begun = before.is_empty() || before.starts_with("HEADWATER_");
                is_begun.then(|| part[at..].split(" #").next().unwrap_or_default())
            });
            lines.extend(commands);
        } else {
            let spans = line.split('`').skip(1).step_by(2);
            lines.extend(spans.filter(|span| span.starts_with("headwater ")));
        }
    }
    // Not the banner of a start, nor a name with a version.
    lines.retain(|line| {
        let next = line["headwater ".len()..].trim_start();
        next.starts_with(|c: char| c.is_ascii_lowercase() || c == '-')
    });
    lines
}

fn takes(commands: &Commands, line: &str) -> Result<(), String> {
    let mut words = line.split_whitespace().skip(1).peekable();
    let mut names = vec!["headwater".to_owned()];
    // `topology apply|verify` are two command lines.
    while let Some(word) = words.peek() {
        let alternatives = word.split('|');
        let below = |word: &str| {
            names
                .iter()
                .map(move |name| format!("{name} {word}"))
                .collect::<Vec<_>>()
        };
        let next: Vec<_> = alternatives.flat_map(below).collect();
        let known = next
            .iter()
            .filter(|name| commands.contains_key(*name))
            .count();
        match known {
            0 => break,
            _ if known == next.len() => names = next,
            _ => return Err("one of these commands is not there".to_owned()),
        }
        words.next();
    }
    let is_group = |name: &String| {
        commands
            .keys()
            .any(|other| other.starts_with(&format!("{name} ")))
    };
    if names == ["headwater"] {
        let only = words.next().unwrap_or_default();
        let is_flag = only.starts_with("--");
        return if is_flag {
            Ok(())
        } else {
            Err("there is no such command".to_owned())
        };
    }
    if let Some(word) = words.peek()
        && names.iter().all(is_group)
        && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
        && !word.starts_with('-')
    {
        return Err(format!("there is no {word}"));
    }
    for word in words {
        let flag: String = word
            .trim_start_matches('[')
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '-')
            .collect();
        if !flag.starts_with("--") || FOREIGN.contains(&&*flag) {
            continue;
        }
        let has = |name: &String| {
            let of_group = format!("{name} ");
            let takes = |other: &String| other == name || other.starts_with(&of_group);
            commands["headwater"].contains_key(&flag)
                || commands
                    .iter()
                    .any(|(other, flags)| takes(other) && flags.contains_key(&flag))
        };
        if !names.iter().any(has) {
            return Err(format!("it takes no {flag}"));
        }
    }
    Ok(())
}

#[test]
fn flags_and_variables_in_pages_are_those_of_the_program() {
    let commands = commands();
    let flags: BTreeSet<_> = commands
        .values()
        .flat_map(BTreeMap::keys)
        .cloned()
        .collect();
    let (mut looked_at, mut missing) = (0, BTreeSet::new());
    for page in all_pages() {
        let text = fs::read_to_string(&page).unwrap();
        for span in text
            .lines()
            .flat_map(|line| line.split('`').skip(1).step_by(2))
        {
            // `--nats-…` stands for several.
            if span.ends_with('…') {
                continue;
            }
            let is_word = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_');
            let word = span.split(is_word).next().unwrap_or_default();
            let flag = match word.strip_prefix("HEADWATER_") {
                Some("") => continue,
                Some(name) => format!("--{}", name.to_lowercase().replace('_', "-")),
                None if word.len() > 2 && word.starts_with("--") => word.to_owned(),
                None => continue,
            };
            looked_at += 1;
            if !flags.contains(&flag) && !FOREIGN.contains(&&*flag) && !OTHERS.contains(&word) {
                missing.insert(format!("{}: `{span}`", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "not there: {missing:#?}");
    assert!(
        looked_at > 150,
        "{looked_at} flags and variables were found"
    );
}

/// A row of the table shows a flag with a value in `<…>`, or with the one that it has unless given.
#[test]
fn the_tables_of_the_readme_say_what_flags_are_unless_given() {
    let commands = commands();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for command in ["headwater dev", "headwater serve"] {
        let begins = format!("| `{command}`");
        let table = readme.lines().skip_while(|line| !line.starts_with(&begins));
        let rows = table.skip(2).take_while(|line| line.starts_with('|'));
        let mut shown = 0;
        for row in rows {
            let cell = row.split('|').nth(1).unwrap_or_default();
            let variables = row.split('|').nth(2).unwrap_or_default();
            for span in cell.split('`').skip(1).step_by(2) {
                let (flag, value) = span.split_once(' ').unwrap_or((span, ""));
                let default = commands[command]
                    .get(flag)
                    .or(commands["headwater"].get(flag));
                let default = default.unwrap_or_else(|| panic!("{command} has no {flag}"));
                // What is too long for the first column is told in the last.
                let is_told = value.starts_with('<') && row.ends_with("unless given |");
                let said = if value.starts_with('<') { "" } else { value };
                assert!(is_told || said == default, "{command} {flag}: {default}");
                let variable =
                    format!("`HEADWATER_{}`", flag[2..].to_uppercase().replace('-', "_"));
                assert!(
                    variables.contains(&variable),
                    "{command} {flag}: {variable}"
                );
                shown += 1;
            }
        }
        assert!(shown > 10, "{shown} flags of {command} were found");
    }
}
