use super::{ask, get};
use crate::{
    http::{Options, Site, Surface, fakes::Fakes, routes},
    platform::Domain,
};
use actix_web::{
    App,
    test::{TestRequest, call_service, init_service},
};
use flate2::read::GzDecoder;
use std::io::Read;

#[actix_web::test]
async fn a_page_stands_at_its_path_and_its_files_below() {
    let page = get("/post").await;
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    let script = get("/post/main.js").await;
    assert_eq!(script.status, 200);
    assert_eq!(
        script.header("Content-Type"),
        Some("text/javascript; charset=utf-8")
    );
    get("/post/other.js")
        .await
        .is_refused(404, "not_found", None);
    get("/post/../post/main.js")
        .await
        .is_refused(404, "not_found", None);
}

#[actix_web::test]
async fn a_slash_behind_a_page_leads_to_it_below_any_path() {
    let answer = get("/post/").await;
    assert_eq!(answer.status, 308);
    assert_eq!(answer.header("Location"), Some("../post"));
}

#[actix_web::test]
async fn a_page_may_load_its_own_files_alone() {
    for uri in ["/post", "/post/main.js", "/assets/api.js"] {
        let answer = get(uri).await;
        let policy = answer.header("Content-Security-Policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
        assert!(!policy.contains("unsafe"));
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(answer.header("Referrer-Policy"), Some("no-referrer"));
    }
}

#[actix_web::test]
async fn what_pages_share_is_coded_once_and_known_by_its_tag() {
    let coded = TestRequest::get()
        .uri("/assets/vendor/preact.js")
        .insert_header(("Accept-Encoding", "gzip"));
    let coded = ask(&Fakes::content(), coded).await;
    assert_eq!(coded.header("Content-Encoding"), Some("gzip"));
    let mut plain = Vec::new();
    GzDecoder::new(&coded.body[..])
        .read_to_end(&mut plain)
        .unwrap();
    assert_eq!(plain, get("/assets/vendor/preact.js").await.body);

    let again = TestRequest::get()
        .uri("/assets/vendor/preact.js")
        .insert_header(("If-None-Match", coded.header("ETag").unwrap()));
    assert_eq!(ask(&Fakes::content(), again).await.status, 304);
}

#[actix_web::test]
async fn a_page_is_read_and_nothing_else() {
    let answer = ask(&Fakes::content(), TestRequest::post().uri("/post")).await;
    answer.is_refused(405, "method_not_allowed", None);
    let answer = ask(
        &Fakes::content(),
        TestRequest::delete().uri("/assets/api.js"),
    )
    .await;
    answer.is_refused(405, "method_not_allowed", None);
}

#[actix_web::test]
async fn the_console_is_served_to_operators_alone() {
    assert_eq!(get("/console").await.status, 200);
    assert_eq!(get("/console/main.js").await.status, 200);
    for (surface, status) in [(Surface::Callers, 404), (Surface::Operators, 200)] {
        let options = Options {
            surface,
            ..Options::default()
        };
        let ask = |uri: &'static str| ask_of(&options, uri);
        assert_eq!(ask("/console").await, status);
        // What pages share goes with whichever pages there are.
        assert_eq!(ask("/assets/api.js").await, 200);
        assert_eq!(ask("/post").await, 604 - status);
    }
}

/// Returns the status that a surface answers with.
async fn ask_of(options: &Options, uri: &str) -> u16 {
    let site = Site::new(Fakes::content().backends(), options);
    let app = App::new().configure(|config| routes::all(config, &site));
    let request = TestRequest::get().uri(uri).to_request();
    let response = call_service(&init_service(app).await, request).await;
    response.status().as_u16()
}

#[actix_web::test]
async fn the_shop_is_the_marts_alone() {
    get("/shop").await.is_refused(404, "not_found", None);
    let mut fakes = Fakes::content();
    fakes.pages = Domain::mart().own_pages().to_vec();
    assert_eq!(
        ask(&fakes, TestRequest::get().uri("/shop")).await.status,
        200
    );
}

#[test]
#[should_panic(expected = "there can be no pages at /views")]
fn pages_take_no_path_of_the_api() {
    let taken = crate::pages::Pages {
        path: "views",
        title: "Views",
        files: &[],
    };
    let _ = Domain::new().pages(taken);
}
