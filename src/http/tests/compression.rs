//! What is coded as gzip, for whom, and under which entity tag.

use super::{Answered, ask, get};
use crate::http::fakes::Fakes;
use actix_web::test::TestRequest;
use flate2::read::GzDecoder;
use std::io::Read;

const LONG: &str = "/views/parcels?limit=60";

async fn accepting(uri: &str, accepted: &str) -> Answered {
    let request = TestRequest::get()
        .uri(uri)
        .insert_header(("Accept-Encoding", accepted));
    ask(&Fakes::content(), request).await
}

fn decoded(answer: &Answered) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut decoder = GzDecoder::new(&answer.body[..]);
    decoder.read_to_end(&mut decoded).unwrap();
    decoded
}

#[actix_web::test]
async fn who_takes_gzip_gets_a_long_answer_in_it_under_a_weak_tag() {
    for uri in [LONG, "/openapi.json", "/docs/swagger-ui.css"] {
        let plain = get(uri).await;
        assert_eq!(plain.header("Content-Encoding"), None, "{uri}");
        assert_eq!(plain.header("Vary"), Some("Accept-Encoding"), "{uri}");
        for accepted in ["gzip", "br, gzip;q=0.5", "gzip, deflate, br, zstd"] {
            let coded = accepting(uri, accepted).await;
            assert_eq!(coded.status, 200);
            assert_eq!(coded.header("Content-Encoding"), Some("gzip"), "{uri}");
            assert_eq!(coded.header("Vary"), Some("Accept-Encoding"));
            assert_eq!(coded.header("Content-Type"), plain.header("Content-Type"));
            assert!(coded.body.len() * 3 < plain.body.len(), "{uri}");
            assert_eq!(decoded(&coded), plain.body, "{uri}");
            let weak = format!("W/{}", plain.header("ETag").unwrap());
            assert_eq!(coded.header("ETag"), Some(&*weak));
        }
    }
}

#[actix_web::test]
async fn who_does_not_take_gzip_gets_it_as_it_is() {
    for accepted in [
        "identity",
        "br",
        "gzip;q=0",
        "gzip;q=0, *",
        "",
        "nonsense;;q",
    ] {
        let answer = accepting(LONG, accepted).await;
        assert_eq!(answer.header("Content-Encoding"), None, "{accepted}");
        assert_eq!(answer.header("Vary"), Some("Accept-Encoding"));
        assert!(answer.json()["items"].is_array());
    }
}

#[actix_web::test]
async fn either_tag_says_that_the_client_has_it_in_either_coding() {
    let tag = get(LONG).await.header("ETag").unwrap().to_owned();
    let weak = format!("W/{tag}");
    for (accepted, expected) in [("gzip", &weak), ("identity", &tag)] {
        for known in [&tag, &weak] {
            let request = TestRequest::get()
                .uri(LONG)
                .insert_header(("Accept-Encoding", accepted))
                .insert_header(("If-None-Match", known.as_str()));
            let answer = ask(&Fakes::content(), request).await;
            assert_eq!(answer.status, 304);
            assert_eq!(answer.header("ETag"), Some(expected.as_str()));
            assert_eq!(answer.header("Vary"), Some("Accept-Encoding"));
            assert_eq!(answer.header("Content-Encoding"), None);
            assert!(answer.body.is_empty());
        }
    }
}

#[actix_web::test]
async fn what_is_short_refused_or_goes_on_is_never_coded() {
    for uri in [
        "/views/parcels/p-1",
        "/views/parcels?limit=2",
        "/views/parcels/live",
        "/views/none",
        "/healthz",
    ] {
        let answer = accepting(uri, "gzip").await;
        assert_eq!(answer.header("Content-Encoding"), None, "{uri}");
        assert_eq!(answer.header("Vary"), None, "{uri}");
    }
}
