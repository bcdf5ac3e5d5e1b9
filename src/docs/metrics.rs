//! The table of metrics, held to the places that measure and to everybody who names one.

use super::{is_made_from_the_program, pages, root};
use crate::telemetry::metrics::{METRICS, Metric, MetricKind};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::PathBuf,
};

/// The table is made from the program, the text around it is written by hand.
#[test]
fn the_table_of_metrics_is_what_the_program_says() {
    is_made_from_the_program("docs/metrics.md", |page| {
        let (mut before, mut after) = (String::new(), String::new());
        let mut is_above = true;
        for line in page.lines() {
            let is_row = line.starts_with('|');
            is_above &= !is_row;
            if !is_row {
                let part = if is_above { &mut before } else { &mut after };
                writeln!(part, "{line}").unwrap();
            }
        }
        format!("{before}{}{after}", table())
    });
}

fn table() -> String {
    let mut table =
        "| metric | kind | labels | unit | what it measures |\n|---|---|---|---|---|\n".to_owned();
    for metric in METRICS {
        let labels = metric.labels.iter().map(|label| format!("`{label}`"));
        let labels = labels.collect::<Vec<_>>().join(", ");
        writeln!(
            table,
            "| `{}` | {} | {labels} | {} | {} |",
            metric.name,
            metric.kind.word(),
            metric.unit.word(),
            metric.meaning,
        )
        .unwrap();
    }
    table
}

#[test]
fn each_metric_is_described_once_and_by_its_name_as_prometheus_would_have_it() {
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len(), "a name stands twice");
    for Metric { name, kind, .. } in METRICS {
        let counts = matches!(kind, MetricKind::Counter);
        assert_eq!(name.ends_with("_total"), counts, "{name}");
    }
}

/// The program measures what is in the table, with these labels and of this kind, and nothing else.
#[test]
fn what_is_measured_is_in_the_table_and_the_other_way_round() {
    let mut described: BTreeMap<_, _> = METRICS
        .iter()
        .map(|metric| {
            let labels = metric.labels.iter().map(ToString::to_string).collect();
            (metric.name.to_owned(), (metric.kind.word(), labels))
        })
        .collect();
    let measured = measured();
    for (name, kind, labels) in &measured {
        let expected = described.get(name);
        let found = (*kind, labels.clone());
        assert_eq!(Some(&found), expected, "{name}, as it is measured");
    }
    for (name, ..) in &measured {
        described.remove(name);
    }
    assert!(described.is_empty(), "nobody measures {described:?}");
}

/// Each use of one of the macros that measure: the name, the kind and the labels.
fn measured() -> Vec<(String, &'static str, BTreeSet<String>)> {
    let mut uses = Vec::new();
    for file in files_in("src", "rs") {
        let source = fs::read_to_string(&file).unwrap();
        for kind in ["counter", "gauge", "histogram"] {
            let opening = format!("{kind}!(");
            for (at, _) in source.match_indices(&opening) {
                let is_described = source[..at].ends_with("describe_");
                let is_in_text = source[..at].ends_with(['"', '`']);
                if is_described || is_in_text {
                    continue;
                }
                let arguments = arguments(&source[at + opening.len()..]);
                let mut arguments = arguments.split(',').map(str::trim);
                let name = quoted(arguments.next().unwrap_or_default());
                let name = name.unwrap_or_else(|| panic!("{} has no name", file.display()));
                let labels = arguments.filter_map(|argument| {
                    let (label, _) = argument.split_once("=>")?;
                    quoted(label.trim())
                });
                let labels = labels.map(str::to_owned).collect();
                uses.push((name.to_owned(), kind, labels));
            }
        }
    }
    uses
}

/// The text up to the bracket that closes the macro.
fn arguments(rest: &str) -> &str {
    let mut open = 1;
    let end = rest.find(|character| {
        match character {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        open == 0
    });
    &rest[..end.unwrap_or(rest.len())]
}

fn quoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}

#[test]
fn alerts_dashboard_and_pages_name_no_other_metrics_and_no_other_labels() {
    let mut texts = pages();
    texts.push(root().join("README.ko.md"));
    texts.push(root().join("nats/SUBJECTS.md"));
    for kind in ["yaml", "json", "md"] {
        texts.extend(files_in("deploy", kind));
    }
    let mut named = 0;
    for file in texts {
        let text = fs::read_to_string(&file).unwrap();
        let file = file.strip_prefix(root()).unwrap().display();
        for (at, _) in text.match_indices("headwater_") {
            let is_inside = text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let end = text[at..].find(|c: char| !(c.is_ascii_lowercase() || c == '_'));
            let name = &text[at..end.map_or(text.len(), |end| at + end)];
            if is_inside || name == "headwater_" {
                continue;
            }
            let metric = described(name);
            let metric = metric.unwrap_or_else(|| panic!("{file} names {name}"));
            for label in labels(&text[at + name.len()..]) {
                let is_known = metric.labels.contains(&label) || ADDED.contains(&label);
                assert!(is_known, "{file} has {name} with the label {label}");
            }
            named += 1;
        }
    }
    assert!(named > 100, "{named} names were found");
}

/// The labels that Prometheus adds: of whom it has read, and of a bucket.
const ADDED: [&str; 3] = ["instance", "job", "le"];

fn described(name: &str) -> Option<&'static Metric> {
    let is_part = |metric: &&Metric| match metric.kind {
        MetricKind::Histogram(_) => {
            let parts = ["_bucket", "_sum", "_count"];
            parts
                .into_iter()
                .any(|part| name.strip_suffix(part) == Some(metric.name))
        }
        MetricKind::Counter | MetricKind::Gauge => false,
    };
    METRICS
        .iter()
        .find(|metric| metric.name == name || is_part(metric))
}

/// The labels that are chosen by right behind a name: `{outcome="internal", view!="x"}`.
fn labels(rest: &str) -> impl Iterator<Item = &str> {
    let chosen = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
    let chosen = chosen.map(|(chosen, _)| chosen).unwrap_or_default();
    chosen.split(',').filter_map(|one| {
        let label = one.trim().split(['=', '!']).next()?;
        (!label.is_empty()).then_some(label)
    })
}

fn files_in(folder: &str, ending: &str) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == ending) {
                files.push(path);
            }
        }
    }
    files
}
