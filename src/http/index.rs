//! `/`: what this is, what can be commanded and read, and where to go from here.
//!
//! Made once, from what is registered. One file: its style is inside it, and its policy allows that
//! style by its hash and nothing else.

use super::{Site, conditional::Page, openapi::operation_id};
use crate::{command::describe::AggregateDescription, pages::Pages, read_model::ViewDescription};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CONTENT_SECURITY_POLICY, HeaderValue},
    web::Data,
};
use askama::Template;
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("index/style.css");

/// The page, and the policy it is served with.
pub(super) struct Index {
    page: Page,
    policy: HeaderValue,
}

impl Index {
    pub(super) fn new(described: Described<'_>, pages: &[Pages], has_console: bool) -> Self {
        let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'"
        );
        Self {
            page: Page::new(
                "text/html; charset=utf-8",
                render(described, pages, has_console),
            ),
            policy: HeaderValue::from_str(&policy).expect("a hash in base64 is ASCII"),
        }
    }
}

/// Serves the page.
pub(super) async fn serve(request: HttpRequest, site: Data<Site>) -> HttpResponse {
    let mut response = site.index.page.respond(&request).await;
    response
        .headers_mut()
        .insert(CONTENT_SECURITY_POLICY, site.index.policy.clone());
    response
}

/// The contents of the page, escaped where they stand in it.
#[derive(Template)]
#[template(path = "index.html", config = "src/http/index/askama.toml")]
struct Shown<'a> {
    style: &'static str,
    version: &'static str,
    aggregates: &'a [AggregateDescription],
    views: &'a [ViewDescription],
    pages: Vec<&'a Pages>,
    has_console: bool,
}

/// The aggregates and the views there are.
type Described<'a> = (&'a [AggregateDescription], &'a [ViewDescription]);

fn render((aggregates, views): Described<'_>, pages: &[Pages], has_console: bool) -> String {
    let shown = Shown {
        style: STYLE,
        version: env!("CARGO_PKG_VERSION"),
        aggregates,
        views,
        pages: pages.iter().filter(|pages| pages.has_index()).collect(),
        has_console,
    };
    shown.render().expect("a string takes all that is written")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fakes;

    #[test]
    fn what_is_registered_is_listed_and_escaped() {
        let mut aggregates = fakes::aggregates();
        aggregates[0].commands[0].summary = Some("<b>\"&'".to_owned());
        let page = render((&aggregates, &fakes::views()), &[fakes::PAGES], true);
        assert!(page.contains("title=\"&#60;b&#62;&#34;&#38;&#39;\""));
        assert!(page.contains("href=\"docs/#/parcel%20commands/command.parcel.send\""));
        assert!(page.contains("href=\"views/parcels\""));
        assert!(page.contains("<a class=\"button\" href=\"post\">Post office</a>"));
        assert!(page.contains("href=\"console\""));
        assert!(!page.contains("{{"));
    }

    #[test]
    fn the_page_refers_to_no_other_host() {
        let page = render(
            (&fakes::aggregates(), &fakes::views()),
            &[fakes::PAGES],
            true,
        );
        for outside in [
            "http://",
            "https://",
            "href=\"//",
            "src=",
            "@import",
            "<script",
        ] {
            let page = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
