use super::{Answered, ask, get};
use crate::{http::fakes::Fakes, problem::Problem, read_model::Freshness};
use actix_web::test::TestRequest;
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};

fn asking(uri: &str) -> TestRequest {
    TestRequest::get().uri(uri)
}

/// Asks what must not get through.
async fn refused(request: TestRequest) -> Answered {
    let fakes = Fakes::content();
    let answer = ask(&fakes, request).await;
    assert!(fakes.views.seen.lock().unwrap().is_empty());
    answer
}

#[actix_web::test]
async fn a_document_comes_with_its_version_its_tag_and_its_age() {
    let answer = get("/views/parcels/p-1").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({ "id": "p-1", "version": 71, "document": { "to": { "street": "종로" }, "grams": 12 } })
    );
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    let tag = answer.header("ETag").unwrap();
    assert!(tag.starts_with("\"parcels.71."), "{tag}");
    assert_eq!(answer.header("Headwater-Applied"), Some("90"));
    assert_eq!(answer.header("Headwater-Lag-Ms"), Some("7"));
    assert_eq!(answer.header("Cache-Control"), Some("no-cache"));
    assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
}

#[actix_web::test]
async fn a_list_comes_with_its_cursor_and_a_tag_of_its_content() {
    let answer = get("/views/parcels?grams_min=1").await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(body["next"], "further");
    assert_eq!(body["items"][1]["id"], "p-2");
    assert_eq!(answer.header("Headwater-Applied"), Some("90"));
    let same = get("/views/parcels?grams_min=2").await;
    assert_eq!(answer.header("ETag"), same.header("ETag"));
}

#[actix_web::test]
async fn what_the_client_has_already_is_not_sent_again() {
    for uri in ["/views/parcels/p-1", "/views/parcels"] {
        let tag = get(uri).await.header("ETag").unwrap().to_owned();
        for known in [tag.clone(), format!("\"x\", W/{tag}"), "*".to_owned()] {
            let request = asking(uri).insert_header(("If-None-Match", known));
            let answer = ask(&Fakes::content(), request).await;
            assert_eq!(answer.status, 304);
            assert!(answer.body.is_empty());
            assert_eq!(answer.header("ETag"), Some(tag.as_str()));
            assert_eq!(answer.header("Headwater-Applied"), Some("90"));
            assert_eq!(answer.header("Cache-Control"), Some("no-cache"));
            assert_eq!(answer.header("Content-Type"), None);
        }
        let request = asking(uri).insert_header(("If-None-Match", "\"other\""));
        assert_eq!(ask(&Fakes::content(), request).await.status, 200);
    }
}

#[actix_web::test]
async fn the_query_side_gets_the_decoded_parameters_and_the_position() {
    let fakes = Fakes::content();
    let request = asking("/views/parcels?q=%EC%82%AC%EA%B3%BC+a&sort=-grams")
        .insert_header(("Headwater-Min-Position", "parcel@90"))
        .insert_header(("Headwater-Max-Wait-Ms", "250"));
    ask(&fakes, request).await;
    let parameters = [("q", "사과 a"), ("sort", "-grams")];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let freshness = Freshness {
        min_positions: vec![("parcel".to_owned(), 90)],
        max_wait: Duration::from_millis(250),
        ..Freshness::default()
    };
    let seen = fakes.views.seen.lock().unwrap();
    assert_eq!(*seen, [(BTreeMap::from(parameters), freshness)]);
}

#[actix_web::test]
async fn a_parameter_given_twice_is_named() {
    let answer = refused(asking("/views/parcels?limit=1&limit=2")).await;
    answer.is_refused(400, "malformed", Some("limit"));
    let answer = refused(asking("/views/parcels?q=%FF")).await;
    answer.is_refused(400, "malformed", Some("q"));
}

#[actix_web::test]
async fn a_header_of_the_wrong_form_is_named() {
    for (name, value) in [
        ("Headwater-Min-Position", "parcel"),
        ("Headwater-Min-Position", "사과@1"),
        ("Headwater-Max-Wait-Ms", "soon"),
    ] {
        let request = asking("/views/parcels/p-1").insert_header((name, value));
        let answer = refused(request).await;
        answer.is_refused(400, "malformed", Some(name));
    }
    let twice = asking("/views/parcels")
        .append_header(("Headwater-Min-Position", "parcel@1"))
        .append_header(("Headwater-Min-Position", "parcel@2"));
    let answer = refused(twice).await;
    answer.is_refused(400, "malformed", Some("Headwater-Min-Position"));
}

#[actix_web::test]
async fn an_id_is_checked_and_may_join_two() {
    let joined = format!("{0}_{0}", "a".repeat(64));
    assert_eq!(get(&format!("/views/parcels/{joined}")).await.status, 200);
    let long = "a".repeat(130);
    for id in ["", "a.b", "%3E", "a%20b", "%EC%82%AC", "%FF", &long] {
        let answer = refused(asking(&format!("/views/parcels/{id}"))).await;
        answer.is_refused(400, "malformed", Some("id"));
    }
}

#[actix_web::test]
async fn what_is_not_there_is_not_found() {
    let cases = [
        ("/views/letters", 404, "unknown_view", None),
        ("/views/letters/p-1", 404, "unknown_view", None),
        ("/views/%FF", 400, "malformed", Some("view")),
        ("/views/", 404, "not_found", None),
        ("/views", 404, "not_found", None),
    ];
    for (uri, status, code, field) in cases {
        refused(asking(uri)).await.is_refused(status, code, field);
    }
    get("/views/parcels/missing")
        .await
        .is_refused(404, "not_found", None);
}

#[actix_web::test]
async fn a_refusal_of_the_query_side_is_passed_on_whole() {
    let problem = Problem::not_yet_applied("the view is at 80");
    for uri in ["/views/parcels", "/views/parcels/p-1"] {
        let answer = ask(&Fakes::refusing(&problem), asking(uri)).await;
        answer.is_refused(504, "not_yet_applied", None);
        assert_eq!(answer.header("Retry-After"), Some("1"));
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    }
}

#[actix_web::test]
async fn any_other_method_is_told_which_ones_there_are() {
    for uri in ["/views/parcels", "/views/parcels/p-1"] {
        let answer = refused(TestRequest::post().uri(uri)).await;
        answer.is_refused(405, "method_not_allowed", None);
        assert_eq!(answer.header("Allow"), Some("GET, HEAD"));
    }
}

#[actix_web::test]
async fn a_document_has_no_parameters_and_says_so() {
    for (uri, field) in [
        ("/views/parcels/p-1?typo=1", "typo"),
        ("/views/parcels/p-1?limit=20", "limit"),
        ("/views/parcels/p-1?%zz", "query"),
    ] {
        let answer = refused(asking(uri)).await;
        answer.is_refused(400, "malformed", Some(field));
    }
    for uri in ["/views/parcels/p-1?", "/views/parcels/p-1?&"] {
        assert_eq!(get(uri).await.status, 200, "{uri}");
    }
}
