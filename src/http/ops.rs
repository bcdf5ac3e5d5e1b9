//! `/ops/…`: what operators see and do, as JSON. [`crate::ops`] gathers it.
//!
//! All of it is mounted in one place, [`routes`]. Reading takes the scope `ops:read`, changing `ops:write`, and
//! that is asked before a name, an id or a parameter is looked at.

pub(super) mod change;
mod intervention;
mod parameters;
pub(super) mod processes;
mod read;
mod stream;

use super::{
    input,
    refusal::{self, Refusal},
    routes::{followable, readable},
};
use crate::{
    access::{AUTHORIZATION, Access, Identified},
    caller::Action,
    ops::Operations,
    problem::Problem,
};
use actix_web::{
    FromRequest, HttpRequest, HttpResponse, Resource,
    dev::Payload,
    http::header::{CACHE_CONTROL, HeaderValue},
    web::{self, Data, ServiceConfig},
};
use futures::future::LocalBoxFuture;
use intervention::Intervention;
use parameters::Parameters;
use serde::Serialize;

/// The word to caches: an answer is of the moment.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Mounts it.
pub(super) fn routes(config: &mut ServiceConfig, operations: &Operations) {
    config
        .app_data(Data::new(operations.clone()))
        .service(readable("/ops/overview").to(read::overview))
        .service(followable("/ops/stream").to(stream::overview))
        .service(readable("/ops/views").to(read::views))
        .service(readable("/ops/views/{view}").to(read::view))
        .service(readable("/ops/homes/{aggregate}/{id:[^/]*}").to(read::home))
        .service(readable("/ops/aggregates/{aggregate}/{id:[^/]*}").to(read::aggregate))
        .service(readable("/ops/commands/{id:[^/]*}").to(read::story))
        .service(readable("/ops/refusals").to(read::refusals))
        .service(readable("/ops/explain/{view}/{id:[^/]*}").to(read::explain))
        .service(readable("/ops/events").to(read::events))
        .service(followable("/ops/events/stream").to(stream::events))
        .service(readable("/ops/parked").to(read::parked))
        .service(changed("/ops/parked/retry").to(change::retry))
        .service(changed("/ops/parked/skip").to(change::skip))
        .service(readable("/ops/processes").to(processes::all))
        .service(readable("/ops/processes/{process}").to(processes::list))
        .service(readable("/ops/processes/{process}/{id:[^/]*}").to(processes::show))
        .service(
            changed("/ops/processes/{process}/{id:[^/]*}/{verb:retry|resume|skip|suspend|end}")
                .to(processes::change),
        )
        .service(
            changed("/ops/views/{view}/{verb:rebuild|take-over|rollback|drop|verify}")
                .to(change::view),
        )
        .service(readable("/ops/jobs").to(read::jobs))
        .service(
            web::resource("/ops/jobs/{id:[^/]*}")
                .route(web::get().to(read::job))
                .route(web::head().to(read::job))
                .route(web::delete().to(change::cancel))
                .default_service(web::to(|| refusal::method_not_allowed("GET, HEAD, DELETE"))),
        );
}

/// A resource that is posted to, and nothing else.
struct Changed(Resource);

fn changed(path: &str) -> Changed {
    let resource = web::resource(path);
    Changed(resource.default_service(web::to(|| refusal::method_not_allowed("POST"))))
}

impl Changed {
    fn to<F, Args>(self, handler: F) -> Resource
    where
        F: actix_web::Handler<Args>,
        Args: actix_web::FromRequest + 'static,
        F::Output: actix_web::Responder + 'static,
    {
        self.0.route(web::post().to(handler))
    }
}

/// A request to read, of somebody who may.
struct Inspection {
    request: HttpRequest,
    operations: Data<Operations>,
}

impl FromRequest for Inspection {
    type Error = Refusal;
    type Future = LocalBoxFuture<'static, Result<Self, Refusal>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let (operations, _) = admitted(&request, Action::Inspect).await?;
            Ok(Self {
                request,
                operations,
            })
        })
    }
}

/// Returns what operators ask, and who asks, if they may.
async fn admitted(
    request: &HttpRequest,
    action: Action<'_>,
) -> Result<(Data<Operations>, Identified), Problem> {
    let operations = request.app_data::<Data<Operations>>().cloned();
    let access = request.app_data::<Data<Access>>();
    let (operations, access) = operations.zip(access).ok_or_else(Problem::internal)?;
    let who = allowed(request, access, action).await?;
    Ok((operations, who))
}

/// Returns who asks, if they may.
async fn allowed(
    request: &HttpRequest,
    access: &Access,
    action: Action<'_>,
) -> Result<Identified, Problem> {
    let from = input::address(request);
    let who = access.identified(request.headers(), from).await?;
    who.may(action)
}

/// The value by which other replicas are told who asks.
fn authorization(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(AUTHORIZATION)?;
    value.to_str().ok()
}

/// The query parameters, all of which are among those that are known.
fn parameters(request: &HttpRequest, known: &[&str]) -> Result<Parameters, Problem> {
    let given = input::parameters(request.uri().query().unwrap_or_default())?;
    Parameters::of(given, known)
}

/// Answers with JSON, in the coding that the client takes.
async fn answer(request: &HttpRequest, told: &impl Serialize) -> Result<HttpResponse, Refusal> {
    let body = serde_json::to_vec(told).map_err(|error| {
        tracing::error!(%error, "what operators asked for cannot be written");
        Problem::internal()
    })?;
    let mut response = HttpResponse::Ok();
    response.insert_header((CACHE_CONTROL, NO_STORE));
    Ok(super::conditional::finish(request, response, "application/json", body).await)
}
