//! `headwater bench`: what it starts, tells and leaves behind.

use crate::harness::{
    nats::Nats,
    service::{Service, headwater, run},
    tokens::{self, Signer},
};
use serde_json::Value;
use std::collections::BTreeSet;

fn bench(arguments: &[&str], words: &[&str]) -> Value {
    let temp = tempfile::tempdir().unwrap();
    let json = temp.path().join("bench.json");
    let rounds: &[&str] = match arguments[0] {
        "mixed" => &[],
        _ => &["--rounds", "1"],
    };
    let output = run(headwater(["bench"])
        .args(arguments)
        .args(["--seconds", "1"])
        .args(rounds)
        .arg("--nats-server")
        .arg(crate::harness::nats::binary())
        .arg("--json")
        .arg(&json)
        .env("TMPDIR", temp.path()));
    let (told, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(0), "{told}\n{error}");
    for word in words {
        assert!(told.contains(word), "{told}");
    }
    let result = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    std::fs::remove_file(&json).unwrap();
    let left: Vec<_> = std::fs::read_dir(temp.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    result
}

/// Asserts that a result has the form that all benches share, with these floors.
#[track_caller]
fn has_the_form(result: &Value, name: &str, floors: &[&str]) {
    assert_eq!(result["bench"], name);
    let all = ["bench", "ours", "floors", "ratios", "settings"];
    assert_eq!(keys(result), all.into());
    assert_eq!(keys(&result["floors"]), floors.iter().copied().collect());
    let figures = result["floors"].as_object().unwrap().values();
    for figures in figures.chain([&result["ours"]]) {
        let all = ["per_second", "p50_ms", "p95_ms", "p99_ms", "p999_ms"];
        assert_eq!(keys(figures), all.into());
        for figure in figures.as_object().unwrap().values() {
            assert!(figure.as_f64().unwrap() > 0.0, "{name}: {result}");
        }
    }
    for floor in floors {
        let ratio = result["ours"]["per_second"].as_f64().unwrap()
            / result["floors"][floor]["per_second"].as_f64().unwrap();
        let told = result["ratios"][floor].as_f64().unwrap();
        assert!((ratio - told).abs() < 1e-9, "{ratio} is told as {told}");
    }
}

fn keys(value: &Value) -> BTreeSet<&str> {
    let keys = value.as_object().unwrap().keys();
    keys.map(String::as_str).collect()
}

#[test]
fn a_bench_tells_ours_and_the_floors_of_the_same_run_in_one_form() {
    let few = ["--concurrency", "8"];
    for arguments in [
        &["commands", "--aggregates", "20"][..],
        &["commands", "--aggregates", "20", "--in-process"],
        &["hot", "--durable"],
    ] {
        let words = [
            "ours",
            "floor publish",
            "floor publish_slim",
            "floor request_reply",
            "ratio publish",
            "ratio publish_slim",
        ];
        let result = bench(&[arguments, &few].concat(), &words);
        let floors = ["publish", "publish_slim", "request_reply"];
        has_the_form(&result, arguments[0], &floors);
    }
}

#[test]
fn commands_with_a_token_are_measured_beside_the_same_without_it() {
    let (nats, signer) = (Nats::start(), Signer::new("k-1"));
    let (_service, _keys) = tokens::serve(&nats, &signer, &["--anonymous-scopes", "cmd:*,staff"]);
    let (url, token) = (nats.url(), signer.token("staff-1", "cmd:* staff"));
    let few = ["commands", "--aggregates", "20", "--concurrency", "8"];
    let there = ["--nats", &url, "--token", &token];
    let words = ["ratio without_token", "ratio unread_header"];
    let result = bench(&[&few[..], &there].concat(), &words);
    let alone = ["publish", "publish_slim", "request_reply"];
    let beside = ["unread_header", "without_token"];
    has_the_form(&result, "commands", &[&alone[..], &beside].concat());
}

#[test]
fn one_way_to_give_commands_is_measured_beside_another() {
    let few = ["commands", "--aggregates", "20", "--concurrency", "8"];
    for (way, floors, ratio) in [
        (&["--batch", "5"][..], &["single"][..], "cpu_to_cpu"),
        (&["--replicas", "2"], &["one_replica"], "cpu_to_cpu"),
        (
            &["--replicas", "3"],
            &["one_replica", "two_replicas"],
            "cpu_to_cpu",
        ),
        (&["--gateway-apart"], &["beside"], "cpu_to_cpu"),
        (&["--http"], &["bare", "publish_slim"], "floors_together"),
    ] {
        let result = bench(&[&few[..], way].concat(), &["ours", ratio]);
        has_the_form(&result, "commands", floors);
        assert!(result["ratios"][ratio].as_f64().unwrap() > 0.0, "{result}");
    }
}

#[test]
fn commands_are_measured_with_more_and_more_in_flight_and_drawn() {
    let temp = tempfile::tempdir().unwrap();
    let plot = temp.path().join("plot.svg");
    let plot = plot.to_str().unwrap();
    let few = ["commands", "--aggregates", "20", "--plot", plot];
    let result = bench(
        &[&few[..], &["--sweep=1,8", "--http"]].concat(),
        &["1 in flight", "8 in flight"],
    );
    assert_eq!(result["concurrency"], serde_json::json!([1, 8]));
    for step in result["steps"].as_array().unwrap() {
        has_the_form(step, "commands", &["bare", "publish_slim"]);
    }
    let drawn = std::fs::read_to_string(plot).unwrap();
    for word in ["ours", "publish_slim", "in flight", "Http"] {
        assert!(drawn.contains(word), "{drawn}");
    }
    bench(&[&few[..], &["--concurrency", "8"]].concat(), &["ours"]);
    assert!(std::fs::read_to_string(plot).unwrap().contains("round"));
    for wrong in ["--sweep=2,1", "--sweep=0"] {
        let refused = run(&mut headwater(["bench", "commands", wrong]));
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    }
}

#[test]
fn a_bench_of_claims_tells_what_registrations_cost_others() {
    for durable in [&[][..], &["--durable"]] {
        let few = [
            "claims",
            "--aggregates",
            "20",
            "--concurrency",
            "8",
            "--rate",
            "20",
        ];
        let result = bench(&[&few[..], durable].concat(), &["ratio beside_to_alone"]);
        has_the_form(&result, "claims", &["commands", "commands_beside"]);
        assert!(
            result["settings"]["beside_per_second"].as_f64().unwrap() > 10.0,
            "{result}"
        );
    }
}

#[test]
fn a_bench_of_the_query_side_starts_what_it_needs_and_tells_it_in_the_same_form() {
    let few = ["--connections", "4", "--documents", "20"];
    let result = bench(
        &[&["get"], &few[..]].concat(),
        &["floor bare", "ratio bare"],
    );
    has_the_form(&result, "get", &["bare"]);
    let arguments = [&["get", "--no-cache"], &few[..]].concat();
    let result = bench(&arguments, &["floor select", "ratio select"]);
    has_the_form(&result, "get_uncached", &["select"]);
    let result = bench(
        &[&["search"], &few[..]].concat(),
        &["floor list", "ratio list", "floor common word"],
    );
    let floors = ["list", "common word", "common word, sorted"];
    has_the_form(&result, "search", &floors);
    for aggregates in ["20", "200"] {
        let arguments = ["catchup", "--events", "200", "--aggregates", aggregates];
        let result = bench(&arguments, &["floor bulk_insert", "ratio bulk_insert"]);
        has_the_form(&result, "catchup", &["bulk_insert"]);
    }
    let result = bench(
        &["fanout", "--documents", "200"],
        &["floor bulk_update", "ratio bulk_update"],
    );
    has_the_form(&result, "fanout", &["bulk_update"]);
    let result = bench(&["fresh", "--rate", "20", "--connections", "4"], &["ours"]);
    has_the_form(&result, "fresh", &[]);
    let result = bench(&["live", "--clients", "20"], &["ours"]);
    has_the_form(&result, "live", &[]);
}

#[test]
fn a_bench_of_the_whole_log_tells_what_importing_exporting_and_checking_it_take() {
    let result = bench(
        &["events", "--events", "2500", "--aggregates", "300"],
        &["floor raw_batches", "ratio raw_batches"],
    );
    has_the_form(&result, "events", &["raw_batches"]);
    for rate in ["exported_per_second", "checked_per_second"] {
        assert!(result["settings"][rate].as_f64() > Some(0.0), "{result}");
    }
}

#[test]
fn a_bench_of_commands_beside_views_tells_what_each_view_costs() {
    let few = ["--aggregates", "60", "--connections", "4", "--rate", "100"];
    let result = bench(&[&["mixed"], &few[..]].concat(), &["keeps_up", "tries"]);
    has_the_form(&result, "mixed", &[]);
    let settings = &result["settings"];
    let views = settings["views"].as_object().unwrap();
    let names: Vec<_> = views.keys().map(String::as_str).collect();
    assert_eq!(names, ["order", "product", "sales", "storefront"]);
    for (name, view) in views {
        let figures = [
            "commits_in_a_batch",
            "commits_per_second",
            "cpu_us_per_event",
            "most_behind_ms",
        ];
        assert_eq!(keys(view), figures.into(), "{name}");
    }
    assert!(
        views["storefront"]["commits_per_second"].as_f64() > Some(0.0),
        "{result}"
    );
    assert!(
        settings["cpu_us_per_command"]["replica"].as_f64() > Some(0.0),
        "{result}"
    );
}

#[test]
fn a_bench_of_the_query_side_measures_a_mart_that_is_there_and_leaves_it_running() {
    let service = Service::dev(&["--no-seed"]);
    let (nats, http) = (service.nats_url(), service.http_url());
    let http = http.trim_start_matches("http://");
    let there = ["--nats", &nats, "--http-addr", http];
    for (name, arguments) in [
        ("get", &["--connections", "4", "--documents", "20"][..]),
        ("fresh", &["--rate", "20", "--connections", "4"]),
        ("live", &["--clients", "20"]),
    ] {
        // Twice: a run is not disturbed by what one before it has left.
        for _ in 0..2 {
            let result = bench(&[&[name], &there[..], arguments].concat(), &["ours"]);
            assert_eq!(result["bench"], name);
            assert!(result["ours"]["p50_ms"].as_f64().unwrap() > 0.0, "{result}");
        }
    }
    assert_eq!(service.nats_url(), nats);
    let alone = run(headwater(["bench", "get", "--nats", &nats]).env_remove("HEADWATER_HTTP_ADDR"));
    let told = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(
        !alone.status.success() && told.contains("--http-addr"),
        "{told}"
    );
}

#[test]
fn processes_are_measured_against_commands_with_their_deadlines() {
    let arguments = [
        "processes",
        "--orders",
        "40",
        "--armed",
        "200",
        "--concurrency",
        "16",
    ];
    let words = [
        "floor commands",
        "with_one_poisoned",
        "deadline_late_p99_ms",
    ];
    let result = bench(&arguments, &words);
    has_the_form(&result, "processes", &["commands"]);
    let settings = &result["settings"];
    assert_eq!(
        (&settings["orders"], &settings["armed"]),
        (&40.into(), &200.into())
    );
    assert!(settings["placed_to_confirmed_p50_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(settings["deadlines_measured"], 300);
}
