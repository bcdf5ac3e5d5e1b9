//! `/docs`: a page to read the API description on and to try it from. Its assets are in the binary;
//! it asks no other host for anything.

use super::{conditional, refusal::Refusal};
use crate::problem::Problem;
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION},
    web::Path,
};
use std::sync::{Arc, LazyLock};
use utoipa_swagger_ui::Config;

/// The policy of what the page may load and do. Swagger UI sets styles on elements and draws its icons from
/// `data:` URLs; a defect of it can still not send anything elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    Arc::new(
        Config::new(["../openapi.json"])
            // Without the bar that offers to load other descriptions.
            .use_base_layout()
            // The default asks validator.swagger.io.
            .validator_url("none")
            .deep_linking(true)
            .doc_expansion("list")
            .default_models_expand_depth(0)
            .display_request_duration(true)
            .try_it_out_enabled(true),
    )
});

/// The page's own links are relative to the folder, as this one is: a proxy may serve all of it below a path.
pub(super) async fn redirect() -> HttpResponse {
    HttpResponse::PermanentRedirect()
        .insert_header((LOCATION, "docs/"))
        .finish()
}

/// Serves the page and its assets.
pub(super) async fn serve(
    request: HttpRequest,
    file: Path<String>,
) -> Result<HttpResponse, Refusal> {
    let file = utoipa_swagger_ui::serve(&file, CONFIG.clone())
        .map_err(|_| Problem {
            detail: "the page failed inside the service".to_owned(),
            ..Problem::internal()
        })?
        .ok_or_else(|| Problem::not_found("not_found", "there is no such file"))?;
    let body = file.bytes.into_owned();
    let response = conditional::begin(&request, conditional::tag_of(&body));
    let finishing = conditional::finish(&request, response, "application/octet-stream", body);
    let mut response = finishing.await;
    let content_type = HeaderValue::from_str(&file.content_type).ok();
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (
            CONTENT_SECURITY_POLICY,
            Some(HeaderValue::from_static(POLICY)),
        ),
    ] {
        if let Some(value) = value {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}
