//! `headwater bench`: what it starts, tells and leaves behind.

use crate::harness::service::{headwater, run};
use serde_json::Value;
use std::collections::BTreeSet;

fn bench(arguments: &[&str]) -> Value {
    let temp = tempfile::tempdir().unwrap();
    let json = temp.path().join("bench.json");
    let output = run(headwater(["bench"])
        .args(arguments)
        .args(["--seconds", "1", "--rounds", "1", "--concurrency", "8"])
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
    for word in [
        "ours",
        "floor publish",
        "floor request_reply",
        "ratio publish",
    ] {
        assert!(told.contains(word), "{told}");
    }
    let result = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    std::fs::remove_file(&json).unwrap();
    let left: Vec<_> = std::fs::read_dir(temp.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    result
}

fn keys(value: &Value) -> BTreeSet<&str> {
    let keys = value.as_object().unwrap().keys();
    keys.map(String::as_str).collect()
}

#[test]
fn a_bench_tells_ours_and_the_floors_of_the_same_run_in_one_form() {
    for arguments in [
        &["commands", "--aggregates", "20"][..],
        &["commands", "--aggregates", "20", "--in-process"],
        &["hot", "--durable"],
    ] {
        let result = bench(arguments);
        assert_eq!(result["bench"], arguments[0]);
        let all = ["bench", "ours", "floors", "ratios", "settings"];
        assert_eq!(keys(&result), all.into());
        assert_eq!(
            keys(&result["floors"]),
            ["publish", "request_reply"].into(),
            "{arguments:?}"
        );
        let floors = result["floors"].as_object().unwrap();
        for figures in floors.values().chain([&result["ours"]]) {
            let all = ["per_second", "p50_ms", "p95_ms", "p99_ms", "p999_ms"];
            assert_eq!(keys(figures), all.into());
            for figure in figures.as_object().unwrap().values() {
                assert!(figure.as_f64().unwrap() > 0.0, "{arguments:?}: {result}");
            }
        }
        let ratio = result["ours"]["per_second"].as_f64().unwrap()
            / result["floors"]["publish"]["per_second"].as_f64().unwrap();
        let told = result["ratios"]["publish"].as_f64().unwrap();
        assert!((ratio - told).abs() < 1e-9, "{ratio} is told as {told}");
    }
}
