//! The requests that are made most, reading one document and giving a command, are told by their path alone and go
//! past the router: trying its patterns costs more than answering from memory does.
//!
//! Whatever else is asked of the same paths, another method for example, is left to the router.

use super::{Site, commands, refusal, views};
use crate::percent;
use actix_web::{
    Error, HttpResponse,
    body::BoxBody,
    dev::{Service, ServiceRequest, ServiceResponse},
    http::Method,
    web::Data,
};
use futures::future::Either;

/// Answers what goes past the router, and leaves everything else to `service`.
pub(super) fn first<S>(
    request: ServiceRequest,
    service: &S,
    site: Option<&Data<Site>>,
) -> impl Future<Output = Result<ServiceResponse<BoxBody>, Error>> + use<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<BoxBody>, Error = Error>,
{
    match site.and_then(|site| Some((Direct::of(&request)?, Data::clone(site)))) {
        Some((direct, site)) => Either::Left(async move { Ok(direct.serve(request, &site).await) }),
        None => Either::Right(service.call(request)),
    }
}

/// The requests that go past the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direct {
    /// `GET /views/<view>/<id>`.
    Document,
    /// `POST /commands/<aggregate>/<id>/<command>`.
    Command,
}

impl Direct {
    /// Returns what the request asks for, if it is one of these.
    pub(super) fn of(request: &ServiceRequest) -> Option<Self> {
        match *request.method() {
            Method::GET | Method::HEAD => {
                is_document(request.uri().path()).then_some(Self::Document)
            }
            Method::POST => is_command(request.uri().path()).then_some(Self::Command),
            _ => None,
        }
    }

    /// Answers it.
    pub(super) async fn serve(self, request: ServiceRequest, site: &Site) -> ServiceResponse {
        let (request, payload) = request.into_parts();
        let answer = match self {
            Self::Document => views::get(&request, site).await,
            // Apart, so that what a read passes through stays small.
            Self::Command => Box::pin(commands::execute(&request, payload, site)).await,
        };
        let response: HttpResponse = answer.unwrap_or_else(|problem| refusal::response(&problem));
        ServiceResponse::new(request, response)
    }
}

/// Returns where an id would stand, `live` is none, and an empty one is: the answer says what is wrong with it.
fn is_document(path: &str) -> bool {
    let Some((view, id)) = path
        .strip_prefix("/views/")
        .and_then(|rest| rest.split_once('/'))
    else {
        return false;
    };
    !view.is_empty() && !is_live(id) && !id.contains('/')
}

/// Returns whether a segment of a path is `live`, as it stands or percent-encoded: both are the same path
/// (RFC 3986, 6.2.2.2).
pub(super) fn is_live(segment: &str) -> bool {
    segment == "live" || (segment.contains('%') && percent::decoded(segment) == b"live")
}

fn is_command(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("/commands/") else {
        return false;
    };
    let mut segments = rest.split('/');
    let (aggregate, _id, command) = (segments.next(), segments.next(), segments.next());
    let named = |name: Option<&str>| name.is_some_and(|name| !name.is_empty());
    named(aggregate) && named(command) && segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_told_by_its_path() {
        for path in [
            "/views/product/p-1",
            "/views/product/",
            "/views/product/%FF",
            "/views/%FF/p-1",
            "/views/product/lives",
        ] {
            assert!(is_document(path), "{path}");
        }
        for path in [
            "/views",
            "/views/product/%6Cive",
            "/views/product/%6c%69%76%65",
            "/views/",
            "/views/product",
            "/views//p-1",
            "/views/product/live",
            "/views/product/p-1/",
            "/views/product/p-1/live",
            "//views/product/p-1",
            "/view/product/p-1",
        ] {
            assert!(!is_document(path), "{path}");
        }
    }

    #[test]
    fn a_command_is_told_by_its_path() {
        for path in ["/commands/product/p-1/rename", "/commands/product//rename"] {
            assert!(is_command(path), "{path}");
        }
        for path in [
            "/commands",
            "/commands/product/p-1",
            "/commands/product/p-1/",
            "/commands//p-1/rename",
            "/commands/product/p-1/rename/",
            "/commands/product/p-1/rename/x",
            "/views/product/p-1/rename",
        ] {
            assert!(!is_command(path), "{path}");
        }
    }
}
