//! Traces: one request is one trace, over all the processes that it goes through.

use crate::{
    command_placement::metric,
    harness::{
        api::{Api, Reply},
        nats::{DURABLE, Nats},
        otlp::{Collector, Span},
        poll::{DEADLINE, eventually, eventually_blocking},
        service::{Service, headwater, run},
        unique,
    },
};
use headwater::{
    config::Role,
    membership::{Key, Member, Members},
};
use serde_json::json;
use std::{collections::BTreeSet, fs};

const CALLER: &str = "b7ad6b7169203331";

/// The id of a trace that no other test has.
fn trace() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

fn sampled(trace: &str) -> String {
    format!("00-{trace}-{CALLER}-01")
}

fn exporting(nats: &Nats, collector: &Collector) -> Service {
    Service::serve(&nats.url(), &["--otlp-endpoint", &collector.url()])
}

fn name_of(replica: &Service) -> String {
    let name = fs::read_to_string(replica.folder().join("replica")).unwrap();
    name.trim().to_owned()
}

/// Waits until each replica knows that there are so many.
async fn acquainted(replicas: &[&Service]) {
    for replica in replicas {
        eventually("the replicas know each other", || async {
            let members = metric(replica, "headwater_members", "").await;
            (members == replicas.len() as f64).then_some(())
        })
        .await;
    }
}

/// A sku whose home is the first of these replicas.
fn sku_at_home(home: &Service, other: &Service) -> String {
    let members = [home, other].map(|replica| {
        let roles = BTreeSet::from([Role::Command]);
        Member::new(&name_of(replica), roles)
    });
    let members = Members::of(members);
    let name = name_of(home);
    (0..1_000)
        .map(|_| unique("sku"))
        .find(|sku| {
            let found = members.home_of(Role::Command, Key::of(&["product", sku]));
            found.is_some_and(|found| found.replica() == name)
        })
        .expect("every replica is the home of some")
}

async fn register(api: &Api, sku: &str, headers: &[(&str, &str)]) -> Reply {
    let body = json!({"name": "traced", "price": 1, "category": "fruit"});
    let reply = api.command_with("product", sku, "register", body, headers);
    reply.await.expect(200)
}

/// A header of the commit that a command left.
async fn stored(nats: &Nats, reply: &Reply, header: &str) -> Option<String> {
    let log = nats.jetstream().await.get_stream("EVENTS").await.unwrap();
    let position = reply.json()["position"].as_u64().unwrap();
    let commit = log.get_raw_message(position).await.unwrap();
    let value = commit.headers.get(header)?;
    Some(value.as_str().to_owned())
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    match (found.next(), found.next()) {
        (Some(only), None) => only,
        _ => panic!("not one {name:?} in {spans:#?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_one_trace_from_the_gateway_over_nats_to_the_home_and_the_append() {
    let (nats, collector) = (Nats::start(), Collector::start());
    let [gateway, home] = [exporting(&nats, &collector), exporting(&nats, &collector)];
    acquainted(&[&gateway, &home]).await;
    let (sku, trace) = (sku_at_home(&home, &gateway), trace());
    let headers = [("traceparent", &*sampled(&trace)), ("tracestate", "shop=1")];
    let reply = register(&Api::Http(gateway.http()), &sku, &headers).await;

    let spans = collector.await_trace(&trace, 7).await;
    let request = named(&spans, "POST /commands/{aggregate}/{id}/{command}");
    let pass_on = named(&spans, "pass on product.register");
    let command = named(&spans, "product.register");
    let parts = ["queue", "load", "decide", "append"].map(|part| named(&spans, part));
    assert_eq!(spans.len(), 7, "{spans:#?}");
    assert_eq!(request.parent, CALLER);
    assert_eq!(pass_on.parent, request.id);
    assert_eq!(command.parent, pass_on.id);
    for part in parts {
        assert_eq!(part.parent, command.id, "{part:#?}");
    }
    let [.., append] = parts;
    assert_eq!(
        [request, pass_on, command, append].map(|span| span.kind),
        [2, 3, 2, 4]
    );

    let (at_gateway, at_home) = (name_of(&gateway), name_of(&home));
    for span in [request, pass_on] {
        assert_eq!(span.instance, at_gateway, "{span:#?}");
    }
    for span in parts.into_iter().chain([command]) {
        assert_eq!(span.instance, at_home, "{span:#?}");
    }
    for span in &spans {
        assert_eq!(span.service, "headwater");
        assert!(span.nanoseconds.start <= span.nanoseconds.end, "{span:#?}");
        assert!(!span.failed, "{span:#?}");
        let said: Vec<&String> = span.attributes.values().collect();
        assert!(!said.contains(&&sku), "ids are not told: {span:#?}");
    }
    assert_eq!(request.attributes["http.response.status_code"], "200");
    assert_eq!(pass_on.attributes["headwater.home"], at_home);
    let position = reply.json()["position"].to_string();
    assert_eq!(append.attributes["headwater.position"], position);

    // Whoever projects the event goes on from its append.
    let expected = format!("00-{trace}-{}-01", append.id);
    assert_eq!(stored(&nats, &reply, "traceparent").await, Some(expected));
    let state = stored(&nats, &reply, "tracestate").await;
    assert_eq!(state.as_deref(), Some("shop=1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_comes_by_nats_or_is_at_home_is_traced_as_well() {
    let (nats, collector) = (Nats::start(), Collector::start());
    let replica = exporting(&nats, &collector);
    let (by_http, by_nats) = (trace(), trace());
    for (api, trace) in [
        (Api::Http(replica.http()), &by_http),
        (Api::Nats(replica.nats().await), &by_nats),
    ] {
        register(&api, &unique("sku"), &[("traceparent", &sampled(trace))]).await;
    }
    let spans = collector.await_trace(&by_http, 6).await;
    let request = named(&spans, "POST /commands/{aggregate}/{id}/{command}");
    let command = named(&spans, "product.register");
    assert_eq!((command.kind, &command.parent), (1, &request.id));
    assert_eq!(named(&spans, "append").parent, command.id);

    let spans = collector.await_trace(&by_nats, 5).await;
    let command = named(&spans, "product.register");
    assert_eq!((command.kind, &*command.parent), (2, CALLER));
    assert_eq!(named(&spans, "append").parent, command.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traceparent_that_cannot_be_read_begins_a_new_trace_and_refuses_nothing() {
    let (nats, collector) = (Nats::start(), Collector::start());
    let replica = exporting(&nats, &collector);
    let zeros = format!("00-{}-{CALLER}-01", "0".repeat(32));
    for api in [Api::Http(replica.http()), Api::Nats(replica.nats().await)] {
        for wrong in ["", "hello", &zeros, &"a".repeat(300)] {
            let headers = [("traceparent", wrong), ("tracestate", "of=another")];
            let reply = register(&api, &unique("sku"), &headers).await;
            let traceparent = stored(&nats, &reply, "traceparent").await.unwrap();
            let parts: Vec<&str> = traceparent.split('-').collect();
            let [_, trace, append, "01"] = parts[..] else {
                panic!("{traceparent}");
            };
            let spans = collector.await_trace(trace, 5).await;
            assert!(
                spans.iter().any(|span| span.parent.is_empty()),
                "{spans:#?}"
            );
            assert_eq!(named(&spans, "append").id, append);
            assert_eq!(stored(&nats, &reply, "tracestate").await, None);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_is_not_sampled_is_carried_on_and_not_exported() {
    let (nats, collector) = (Nats::start(), Collector::start());
    let replica = exporting(&nats, &collector);
    let api = Api::Http(replica.http());
    let (quiet, after) = (trace(), trace());
    let unsampled = format!("00-{quiet}-{CALLER}-00");
    let reply = register(&api, &unique("sku"), &[("traceparent", &unsampled)]).await;
    assert_eq!(stored(&nats, &reply, "traceparent").await, Some(unsampled));
    // Spans are exported in the order in which they end.
    register(&api, &unique("sku"), &[("traceparent", &sampled(&after))]).await;
    collector.await_trace(&after, 6).await;
    assert_eq!(collector.trace(&quiet), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_traces_that_begin_here_a_share_is_exported() {
    let (nats, collector) = (Nats::start(), Collector::start());
    let url = collector.url();
    let more = ["--otlp-endpoint", &url, "--trace-ratio", "0"];
    let replica = Service::serve(&nats.url(), &more);
    let api = Api::Http(replica.http());
    let reply = register(&api, &unique("sku"), &[]).await;
    let traceparent = stored(&nats, &reply, "traceparent").await.unwrap();
    assert!(
        traceparent.ends_with("-00"),
        "all others are told: {traceparent}"
    );
    let elsewhere = trace();
    register(
        &api,
        &unique("sku"),
        &[("traceparent", &sampled(&elsewhere))],
    )
    .await;
    collector.await_trace(&elsewhere, 6).await;
    let begun_here = |span: &Span| span.trace != elsewhere;
    assert!(!collector.spans().iter().any(begun_here));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_share_a_commit_are_linked_to_the_append_that_is_stored() {
    let nats = Nats::start_with(DURABLE);
    let collector = Collector::start();
    let replica = exporting(&nats, &collector);
    let api = Api::Http(replica.http());
    let sku = unique("sku");
    register(&api, &sku, &[]).await;
    // They share one as soon as two wait at the same time.
    let (append, replies) = eventually("two commands share a commit", || async {
        let describe = |number: u32| {
            let body = json!({"description": format!("{number} {}", unique("text"))});
            api.command("product", &sku, "describe", body)
        };
        let replies = futures::future::join_all((0..32).map(describe)).await;
        let linked = |span: &Span| span.name == "append" && !span.links.is_empty();
        let spans = collector.spans();
        Some((spans.into_iter().find(linked)?, replies))
    })
    .await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    let commands: u32 = append.attributes["headwater.commit.commands"]
        .parse()
        .unwrap();
    assert!(commands > 1);
    let log = nats.jetstream().await.get_stream("EVENTS").await.unwrap();
    let position: u64 = append.attributes["headwater.position"].parse().unwrap();
    let commit = log.get_raw_message(position).await.unwrap();
    let traceparent = commit
        .headers
        .get("traceparent")
        .unwrap()
        .as_str()
        .to_owned();
    assert_eq!(append.links.len(), 1);
    assert!(
        traceparent.contains(&append.links[0]),
        "{traceparent} {append:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_exported_when_the_replica_stops() {
    let (nats, collector) = (Nats::start(), Collector::start());
    let url = collector.url();
    let more = [
        "--otlp-endpoint",
        &url,
        "--otlp-headers",
        "x-token=for%20tests",
        "--service-name",
        "shop",
    ];
    let mut replica = Service::serve(&nats.url(), &more);
    let trace = trace();
    let headers = [("traceparent", &*sampled(&trace))];
    register(&Api::Http(replica.http()), &unique("sku"), &headers).await;
    replica.signal("TERM");
    assert_eq!(replica.wait().code(), Some(0), "{}", replica.transcript());
    let spans = collector.trace(&trace);
    assert_eq!(spans.len(), 6, "{spans:#?}");
    assert!(
        spans.iter().all(|span| span.service == "shop"),
        "{spans:#?}"
    );
    assert_eq!(collector.token(), "for tests");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_cannot_now_is_asked_again() {
    let (nats, collector) = (Nats::start(), Collector::start());
    let replica = exporting(&nats, &collector);
    collector.be_unavailable(2);
    let trace = trace();
    let headers = [("traceparent", &*sampled(&trace))];
    register(&Api::Http(replica.http()), &unique("sku"), &headers).await;
    let spans = collector.await_trace(&trace, 6).await;
    assert_eq!((spans.len(), collector.refusals_left()), (6, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_delays_and_fails_nothing() {
    let nats = Nats::start();
    // Nobody listens on port 1.
    let mut replica = Service::serve(&nats.url(), &["--otlp-endpoint", "http://127.0.0.1:1"]);
    let api = Api::Http(replica.http());
    for _ in 0..20 {
        register(&api, &unique("sku"), &[]).await;
    }
    replica.signal("TERM");
    assert_eq!(replica.wait().code(), Some(0), "{}", replica.transcript());
    eventually_blocking(DEADLINE, "the failure is logged", || {
        let log = replica.transcript();
        log.contains("spans cannot be exported").then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_exporter_trace_headers_are_stored_as_they_came_wherever_the_home_is() {
    let nats = Nats::start();
    let [gateway, home] = [
        Service::serve(&nats.url(), &[]),
        Service::serve(&nats.url(), &[]),
    ];
    acquainted(&[&gateway, &home]).await;
    let traceparent = sampled(&trace());
    let headers = [("traceparent", &*traceparent), ("tracestate", "shop=1")];
    for sku in [sku_at_home(&home, &gateway), sku_at_home(&gateway, &home)] {
        let reply = register(&Api::Http(gateway.http()), &sku, &headers).await;
        let header = stored(&nats, &reply, "traceparent").await;
        assert_eq!(header.as_deref(), Some(&*traceparent));
        let state = stored(&nats, &reply, "tracestate").await;
        assert_eq!(state.as_deref(), Some("shop=1"));
    }
    let reply = register(&Api::Http(gateway.http()), &unique("sku"), &[]).await;
    assert_eq!(stored(&nats, &reply, "traceparent").await, None);
}

#[test]
fn a_ratio_or_an_address_that_cannot_be_exits_2() {
    for wrong in [
        ["--trace-ratio", "2"],
        ["--otlp-endpoint", "collector:4318"],
        ["--otlp-headers", "secret"],
    ] {
        let output = run(headwater(["serve"]).args(wrong));
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(wrong[0]), "{error}");
    }
}
