//! What `/metrics` shows and what `docs/metrics.md` says are the same.

use crate::harness::{api::Api, metrics::Metrics, poll::eventually, service::Service, unique};
use serde_json::json;
use std::collections::BTreeMap;

const TABLE: &str = include_str!("../../docs/metrics.md");

/// What only happens when something goes wrong, or with settings that are not the usual ones.
const SELDOM: [&str; 17] = [
    "headwater_actors_unsaved_total",
    "headwater_append_group_appends",
    "headwater_append_groups_refused_total",
    "headwater_callers_refused_total",
    "headwater_command_panics_total",
    "headwater_http_connections_closed_total",
    "headwater_http_connections_refused_total",
    "headwater_live_cut_total",
    "headwater_passed_on_commands",
    "headwater_process_commands_total",
    "headwater_process_inputs_total",
    "headwater_snapshot_bytes",
    "headwater_snapshots_written_total",
    "headwater_tls_handshakes_failed_total",
    "headwater_tls_renewals_total",
    "headwater_trace_spans_total",
    "headwater_view_retries_total",
];

/// Each metric of the table with its kind.
fn documented() -> BTreeMap<&'static str, &'static str> {
    let rows = TABLE.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        (cells[1].trim_matches('`'), cells[2])
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_measured_is_in_the_table_and_the_other_way_round() {
    let service = Service::dev(&["--no-seed"]);
    let http = service.http();
    let api = Api::Http(http.clone());
    let sku = unique("measured");
    let body = json!({"name": sku, "price": 1, "category": "test"});
    let accepted = api.command("product", &sku, "register", body).await;
    let accepted = accepted.expect(200);
    let position = accepted.header("Headwater-Position");
    let path = format!("/views/product/{sku}");
    for _ in 0..3 {
        let fresh = [("Headwater-Min-Position", position)];
        http.get(&path, &fresh).await.expect(200);
    }
    // The second is answered from memory.
    for _ in 0..2 {
        let list = http.get("/views/product?sort=-price", &[]).await;
        list.expect(200);
    }
    let nats = async_nats::connect(service.nats_url()).await.unwrap();
    nats.publish(format!("evt.product.{sku}"), "not a commit".into())
        .await
        .unwrap();
    let client = reqwest::Client::new();
    let live = client.get(format!("{}{path}/live", http.base));
    let live = live.send().await.unwrap();
    let metrics = eventually("what has happened is measured", || async {
        let metrics = Metrics::of(&http).await;
        let product = |name: &str| metrics.sum(name, "view=\"product\"");
        let seen = product("headwater_view_parked_aggregates") == 1.0
            && product("headwater_view_following") == 1.0
            && product("headwater_view_position") > 0.0
            && product("headwater_view_applied_total") >= 2.0
            && product("headwater_view_batch_commits_sum") >= 2.0
            && product("headwater_view_rebuild_progress") == 1.0
            && product("headwater_view_lag_commits") == 0.0
            && product("headwater_view_lag_seconds") == 0.0
            && product("headwater_cache_hits_total") >= 1.0
            && product("headwater_cache_misses_total") >= 1.0
            && metrics.sum("headwater_lists_total", "by=\"index\"") == 1.0
            && metrics.sum("headwater_lists_total", "by=\"memory\"") == 1.0
            && product("headwater_list_rows_read_total") == 1.0
            && product("headwater_list_rows_answered_total") == 1.0
            && metrics.sum("headwater_list_cache_bytes", "") > 0.0
            && metrics.sum("headwater_cache_bytes", "") > 0.0
            && metrics.sum("headwater_live_clients", "") == 1.0
            && metrics.sum("headwater_http_requests_total", "/views/{view}/{id}") >= 3.0;
        seen.then_some(metrics)
    })
    .await;
    drop(live);
    let (documented, measured) = (documented(), metrics.kinds());
    for (name, kind) in &measured {
        assert_eq!(documented.get(name), Some(kind), "{name} in the table");
    }
    for (name, kind) in &documented {
        let seldom = SELDOM.contains(name);
        assert!(
            seldom || measured.get(name) == Some(kind),
            "{name} is shown"
        );
    }
}
