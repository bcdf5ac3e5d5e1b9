//! Measures of requests. `docs/metrics.md` is the table of it.

use actix_web::http::{Method, StatusCode};
use metrics::{Counter, Histogram, counter, histogram};
use std::{cell::RefCell, collections::HashMap, time::Duration};

/// The template of all pages' files: which there are is the domain's.
pub(super) const PAGE_ROUTE: &str = "/{pages}/{file}";

/// The template of the path, said by who answers, where the path alone does not tell.
pub(super) struct Route(pub(super) &'static str);

type Key = (&'static str, &'static str, u16);

thread_local! {
    // Looking a metric up by its labels costs more than all else that is measured.
    static METERS: RefCell<HashMap<Key, (Counter, Histogram)>> = RefCell::default();
}

/// A request was answered.
pub(super) fn answered(
    route: &'static str,
    method: &Method,
    status: StatusCode,
    elapsed: Duration,
) {
    let method = match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        // A client may make up any.
        _ => "other",
    };
    METERS.with_borrow_mut(|meters| {
        let key = (route, method, status.as_u16());
        let (requests, seconds) = meters.entry(key).or_insert_with(|| {
            let status = status.as_u16().to_string();
            (
                counter!("headwater_http_requests_total", "route" => route, "method" => method, "status" => status),
                histogram!("headwater_http_request_seconds", "route" => route),
            )
        });
        requests.increment(1);
        seconds.record(elapsed.as_secs_f64());
    });
}

/// The template of a path: what is measured of it must not depend on ids.
pub(super) fn route_of(path: &str) -> &'static str {
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/');
    let mut next = || segments.next();
    match (next(), next(), next(), next(), next()) {
        (Some("views"), Some(_), None, ..) => "/views/{view}",
        (Some("views"), Some(_), Some("live"), None, _) => "/views/{view}/live",
        (Some("views"), Some(_), Some(_), None, _) => "/views/{view}/{id}",
        (Some("views"), Some(_), Some(_), Some("live"), None) => "/views/{view}/{id}/live",
        (Some("commands"), Some(_), Some(_), Some(_), None) => {
            "/commands/{aggregate}/{id}/{command}"
        }
        (Some("commands"), None, ..) => "/commands",
        (Some("processes"), Some(_), None, ..) => "/processes/{process}",
        (Some("processes"), Some(_), Some(_), None, _) => "/processes/{process}/{id}",
        (Some("ops"), ..) => route_of_operations(path),
        (Some("docs"), ..) => "/docs/{file}",
        (Some("openapi.json"), None, ..) => "/openapi.json",
        (Some("asyncapi.json"), None, ..) => "/asyncapi.json",
        (Some("healthz"), None, ..) => "/healthz",
        (Some("readyz"), None, ..) => "/readyz",
        (Some("metrics"), None, ..) => "/metrics",
        (Some(""), None, ..) => "/",
        _ => "unmatched",
    }
}

/// The same for what operators ask.
fn route_of_operations(path: &str) -> &'static str {
    let mut segments = path.strip_prefix("/ops/").unwrap_or_default().split('/');
    let mut next = || segments.next();
    match (next(), next(), next(), next()) {
        (Some("overview"), None, ..) => "/ops/overview",
        (Some("stream"), None, ..) => "/ops/stream",
        (Some("views"), None, ..) => "/ops/views",
        (Some("views"), Some(_), None, _) => "/ops/views/{view}",
        (Some("views"), Some(_), Some(_), None) => "/ops/views/{view}/{verb}",
        (Some("homes"), Some(_), Some(_), None) => "/ops/homes/{aggregate}/{id}",
        (Some("aggregates"), Some(_), Some(_), None) => "/ops/aggregates/{aggregate}/{id}",
        (Some("commands"), Some(_), None, _) => "/ops/commands/{id}",
        (Some("refusals"), None, ..) => "/ops/refusals",
        (Some("explain"), Some(_), Some(_), None) => "/ops/explain/{view}/{id}",
        (Some("events"), None, ..) => "/ops/events",
        (Some("events"), Some("stream"), None, _) => "/ops/events/stream",
        (Some("parked"), None, ..) => "/ops/parked",
        (Some("parked"), Some("retry"), None, _) => "/ops/parked/retry",
        (Some("parked"), Some("skip"), None, _) => "/ops/parked/skip",
        (Some("jobs"), None, ..) => "/ops/jobs",
        (Some("jobs"), Some(_), None, _) => "/ops/jobs/{id}",
        _ => "unmatched",
    }
}

/// Returns whether it is asked how the replica is.
pub(super) fn is_operation(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/metrics")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_measured_by_its_template() {
        for (path, route) in [
            ("/", "/"),
            ("/views/product", "/views/{view}"),
            ("/views/product/live", "/views/{view}/live"),
            ("/views/product/p-1", "/views/{view}/{id}"),
            ("/views/product/p-1/live", "/views/{view}/{id}/live"),
            ("/views/product/p-1/live/x", "unmatched"),
            (
                "/commands/product/p-1/rename",
                "/commands/{aggregate}/{id}/{command}",
            ),
            ("/commands", "/commands"),
            ("/commands/", "unmatched"),
            ("/commands/product/p-1", "unmatched"),
            ("/processes/fulfilment", "/processes/{process}"),
            ("/processes/fulfilment/o-1", "/processes/{process}/{id}"),
            ("/processes/fulfilment/o-1/steps", "unmatched"),
            ("/docs/", "/docs/{file}"),
            ("/elsewhere", "unmatched"),
            ("/healthz", "/healthz"),
            ("/ops", "unmatched"),
            ("/ops/overview", "/ops/overview"),
            ("/ops/views/order", "/ops/views/{view}"),
            ("/ops/homes/order/o-1", "/ops/homes/{aggregate}/{id}"),
            ("/ops/homes/order/o-1/x", "unmatched"),
        ] {
            assert_eq!(route_of(path), route, "{path}");
        }
    }
}
