//! Pages for people: files in the binary, each with its entity tag and its gzip, under one strict policy.
//!
//! `/assets` is what pages share: the libraries that are vendored, the client of this API, the style. The
//! pages themselves are the domain's ([`Pages`]), and `/console`, which is for operators. A page is served at `/<path>`, without a slash behind it, and
//! names its files relatively, so that all of it may stand below another path. Nothing here is secret: what a
//! page shows it asks the API for, as whoever reads it.

mod console;
mod shared;

use super::{
    Site,
    conditional::Page,
    meters::{PAGE_ROUTE, Route},
    refusal::Refusal,
    routes::{Surface, readable},
};
use crate::{
    pages::{PageFile, Pages},
    problem::Problem,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{
        CONTENT_SECURITY_POLICY, CROSS_ORIGIN_RESOURCE_POLICY, HeaderName, HeaderValue, LOCATION,
        PERMISSIONS_POLICY, REFERRER_POLICY,
    },
    web::{Data, ServiceConfig},
};
use std::collections::HashMap;

const INDEX: &str = "index.html";
/// The folder that all pages share.
const SHARED: &str = "assets";
/// The pages of operators.
const CONSOLE: &str = "console";

/// Paths that are not for pages, now or later.
const TAKEN: [&str; 10] = [
    SHARED,
    "commands",
    CONSOLE,
    "docs",
    "healthz",
    "metrics",
    "ops",
    "processes",
    "readyz",
    "views",
];

/// The headers of every file, beside those of each page ([`super::boundary`]): a defect of a page can load
/// nothing from elsewhere, and send nothing there.
const HEADERS: [(HeaderName, &str); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (
        PERMISSIONS_POLICY,
        "camera=(), geolocation=(), microphone=(), payment=()",
    ),
    (REFERRER_POLICY, "no-referrer"),
    (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
];

/// Panics where these cannot be served.
pub(crate) fn check(pages: &Pages) {
    let mut letters = pages.path.bytes();
    let first = letters.next().is_some_and(|byte| byte.is_ascii_lowercase());
    let rest =
        letters.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    assert!(
        first && rest && !TAKEN.contains(&pages.path),
        "there can be no pages at /{}",
        pages.path
    );
    for file in pages.files {
        let known = content_type(file.name).is_some();
        assert!(known, "{} is of a kind that is not served", file.name);
    }
}

/// All pages of a gateway.
pub(super) struct Hosted(HashMap<&'static str, Folder>);

type Folder = HashMap<&'static str, Page>;

impl Hosted {
    pub(super) fn new(pages: &[Pages]) -> Self {
        let ours = [(SHARED, shared::FILES), (CONSOLE, console::FILES)].into_iter();
        let own = pages.iter().map(|pages| (pages.path, pages.files));
        Self(
            ours.chain(own)
                .map(|(path, files)| (path, folder(files)))
                .collect(),
        )
    }

    /// The paths of what is served there: of a folder with an index the path itself, and of each what is below.
    pub(super) fn routes(&self, config: &mut ServiceConfig, surface: Surface) {
        for (path, folder) in &self.0 {
            if *path != SHARED && !surface.has(&format!("/{path}")) {
                continue;
            }
            if folder.contains_key(INDEX) {
                config
                    .service(readable(&format!("/{path}")).to(serve))
                    .service(readable(&format!("/{path}/")).to(without_slash));
            }
            config.service(readable(&format!("/{path}/{{file:.*}}")).to(serve));
        }
    }

    fn find(&self, path: &str) -> Option<&Page> {
        let path = path.strip_prefix('/')?;
        let (folder, file) = path.split_once('/').unwrap_or((path, INDEX));
        self.0.get(folder)?.get(file)
    }
}

fn folder(files: &[PageFile]) -> Folder {
    let page = |file: &PageFile| {
        let kind = content_type(file.name).unwrap_or("application/octet-stream");
        (file.name, Page::new(kind, file.body))
    };
    files.iter().map(page).collect()
}

fn content_type(name: &str) -> Option<&'static str> {
    Some(match name.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "txt" => "text/plain; charset=utf-8",
        _ => return None,
    })
}

/// Serves a file.
async fn serve(request: HttpRequest, site: Data<Site>) -> Result<HttpResponse, Refusal> {
    let Some(page) = site.pages.find(request.path()) else {
        return Err(Problem::not_found("not_found", "there is no such file").into());
    };
    let mut response = page.respond(&request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response.extensions_mut().insert(Route(PAGE_ROUTE));
    Ok(response)
}

/// Points to where the page is, relatively.
async fn without_slash(request: HttpRequest) -> HttpResponse {
    let path = request.path().trim_matches('/');
    HttpResponse::PermanentRedirect()
        .insert_header((LOCATION, format!("../{path}")))
        .finish()
}
