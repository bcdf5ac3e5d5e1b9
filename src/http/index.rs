//! `/`: what this is, what can be commanded and read, and where to go from here.
//!
//! Made once, from what is registered. One file: its style is inside it, and its policy allows that
//! style by its hash and nothing else.

use super::{Site, conditional::Page, openapi::operation_id};
use crate::{command::describe::AggregateDescription, read_model::ViewDescription};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CONTENT_SECURITY_POLICY, HeaderValue},
    web::Data,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use std::fmt::Write;

const TEMPLATE: &str = include_str!("index/index.html");
const STYLE: &str = include_str!("index/style.css");

/// The page, and the policy it is served with.
pub(super) struct Index {
    page: Page,
    policy: HeaderValue,
}

impl Index {
    pub(super) fn new(aggregates: &[AggregateDescription], views: &[ViewDescription]) -> Self {
        let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'"
        );
        Self {
            page: Page::new("text/html; charset=utf-8", render(aggregates, views)),
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

fn render(aggregates: &[AggregateDescription], views: &[ViewDescription]) -> String {
    let mut page = String::with_capacity(TEMPLATE.len() + STYLE.len() + 8 * 1024);
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (slot, after) = after.split_once("}}").expect("every slot is closed");
        page.push_str(before);
        match slot {
            "style" => page.push_str(STYLE),
            "version" => page.push_str(env!("CARGO_PKG_VERSION")),
            "commands" => list_commands(&mut page, aggregates),
            "views" => list_views(&mut page, views),
            other => unreachable!("the page has no slot {other}"),
        }
        rest = after;
    }
    page.push_str(rest);
    page
}

fn list_commands(page: &mut String, aggregates: &[AggregateDescription]) {
    for aggregate in aggregates {
        let name = Escaped(aggregate.name);
        let _ = write!(page, "<section><h3>{name}</h3><ul class=\"chips\">");
        for command in &aggregate.commands {
            let operation = operation_id(aggregate.name, &command.name);
            let operation = Escaped(&operation);
            let summary = command.summary.as_deref().unwrap_or_default();
            let _ = write!(
                page,
                "<li><a href=\"/docs/#/{name}%20commands/{operation}\" title=\"{}\">{}</a></li>",
                Escaped(summary),
                Escaped(&command.name),
            );
        }
        page.push_str("</ul></section>");
    }
}

fn list_views(page: &mut String, views: &[ViewDescription]) {
    for view in views {
        let name = Escaped(view.name);
        let sources = view.aggregates.join(", ");
        let _ = write!(
            page,
            "<li><a href=\"/views/{name}\">{name}</a> <span>from {}</span></li>",
            Escaped(&sources)
        );
    }
}

/// Text that is safe between tags and in a quoted attribute.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fakes;

    #[test]
    fn what_is_registered_is_listed_and_escaped() {
        let mut aggregates = fakes::aggregates();
        aggregates[0].commands[0].summary = Some("<b>\"&'".to_owned());
        let page = render(&aggregates, &fakes::views());
        assert!(page.contains("title=\"&lt;b&gt;&quot;&amp;&#39;\""));
        assert!(page.contains("href=\"/docs/#/parcel%20commands/command.parcel.send\""));
        assert!(page.contains("href=\"/views/parcels\""));
        assert!(!page.contains("{{"));
    }

    #[test]
    fn the_page_refers_to_no_other_host() {
        let page = render(&fakes::aggregates(), &fakes::views());
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
