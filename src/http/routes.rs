//! The paths, and who is served which of them.

use super::{
    Site, asyncapi, commands, direct, docs, health, index, live, metrics, openapi, ops, processes,
    refusal, views,
};
use actix_web::{
    Resource, guard,
    http::Method,
    web::{self, Data, ServiceConfig},
};
use serde_json::Value;

/// The people who are served at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// Callers and operators.
    Everyone,
    /// Callers alone.
    Callers,
    /// Operators alone.
    Operators,
}

impl Surface {
    /// Returns whether commands and queries are served.
    pub(super) fn has_callers(self) -> bool {
        self != Self::Operators
    }

    /// Returns whether what is for operators is served.
    pub(super) fn has_operators(self) -> bool {
        self != Self::Callers
    }

    /// Returns whether a path is served.
    pub(super) fn has(self, path: &str) -> bool {
        match path {
            "/healthz" | "/readyz" => true,
            _ if is_for_operators(path) => self.has_operators(),
            _ => self.has_callers(),
        }
    }

    /// Leaves out of a description what is not served.
    pub(super) fn leave_out(self, document: &mut Value) {
        if let Some(paths) = document["paths"].as_object_mut() {
            paths.retain(|path, _| self.has(path));
        }
    }
}

/// Returns whether a path is for operators: with an address of their own, it is served there alone.
pub(super) fn is_for_operators(path: &str) -> bool {
    let first = path.split('/').nth(1);
    first.is_some_and(|first| ["metrics", "ops", "console", "processes"].contains(&first))
}

/// The paths. An id is matched even when it is empty, so that the answer can say what is wrong
/// with it; it is read from the undecoded path (see [`super::input`]). Reading a document and giving a command
/// is not among what gets here: see [`direct`].
pub(super) fn all(config: &mut ServiceConfig, site: &Data<Site>) {
    config.app_data(site.clone());
    // The router tries one after the other: what is asked most stands first.
    if site.surface.has_callers() {
        callers(config);
    }
    if site.surface.has_operators() {
        operators(config, site);
    }
    config
        .service(readable("/openapi.json").to(openapi::serve))
        .service(readable("/docs").to(docs::redirect))
        .service(readable("/docs/{file:.*}").to(docs::serve))
        .configure(|config| site.pages.routes(config, site.surface))
        .app_data(Data::new(site.backends.readiness.clone()))
        .app_data(Data::new(site.access.clone()));
    operations(config, site.surface);
}

/// The routes of callers: commands and queries.
fn callers(config: &mut ServiceConfig) {
    config
        .service(readable("/views/{view}").to(views::list))
        .service(document_or_live())
        .service(
            web::resource("/commands/{aggregate}/{id:[^/]*}/{command}")
                .default_service(web::to(|| refusal::method_not_allowed("POST"))),
        )
        .service(
            web::resource("/commands")
                .route(web::post().to(commands::execute_many))
                .default_service(web::to(|| refusal::method_not_allowed("POST"))),
        )
        .service(followable("/views/{view}/{id:[^/]*}/live").to(live::document))
        .service(readable("/asyncapi.json").to(asyncapi::serve))
        .service(readable("/").to(index::serve));
}

/// The routes of operators of a replica with back ends, beside [`operations`]. Whatever else is for them is put here,
/// and its paths into [`is_for_operators`].
fn operators(config: &mut ServiceConfig, site: &Site) {
    config
        .service(readable("/processes/{process}").to(processes::list))
        .service(readable("/processes/{process}/{id:[^/]*}").to(processes::show));
    if let Some(operations) = &site.backends.operations {
        ops::routes(config, operations);
    }
}

/// Returns what is asked of a document beside reading it, or where its id would stand, of `live`: one pattern
/// instead of two to try.
fn document_or_live() -> Resource {
    let live = || {
        guard::fn_guard(|context| {
            let last = context.head().uri.path().rsplit('/').next();
            last.is_some_and(direct::is_live)
        })
    };
    web::resource("/views/{view}/{id:[^/]*}")
        .route(web::get().guard(live()).to(live::list))
        .route(
            web::route()
                .guard(live())
                .to(|| refusal::method_not_allowed("GET")),
        )
        .default_service(web::to(|| refusal::method_not_allowed("GET, HEAD")))
}

/// The state of the replica, and for operators its measures.
pub(super) fn operations(config: &mut ServiceConfig, surface: Surface) {
    standing(config, surface);
    config.default_service(web::to(refusal::no_such_path));
}

/// The same while everything else is unavailable yet.
pub(super) fn early(config: &mut ServiceConfig, surface: Surface) {
    standing(config, surface);
    config.default_service(web::to(refusal::starting));
}

fn standing(config: &mut ServiceConfig, surface: Surface) {
    config
        .service(readable("/healthz").to(health::alive))
        .service(readable("/readyz").to(health::ready));
    if surface.has_operators() {
        config.service(readable("/metrics").to(metrics::serve));
    }
}

/// A resource that is read: `GET` and `HEAD`, and nothing else.
pub(super) struct Readable(Resource, bool);

pub(super) fn readable(path: &str) -> Readable {
    let resource = web::resource(path);
    Readable(
        resource.default_service(web::to(|| refusal::method_not_allowed("GET, HEAD"))),
        true,
    )
}

/// A resource that goes on and on: `GET`, and nothing else.
pub(super) fn followable(path: &str) -> Readable {
    let resource = web::resource(path);
    Readable(
        resource.default_service(web::to(|| refusal::method_not_allowed("GET"))),
        false,
    )
}

impl Readable {
    pub(super) fn to<F, Args>(self, handler: F) -> Resource
    where
        F: actix_web::Handler<Args>,
        Args: actix_web::FromRequest + 'static,
        F::Output: actix_web::Responder + 'static,
    {
        let Self(resource, head) = self;
        let read = guard::fn_guard(move |context| match context.head().method {
            Method::GET => true,
            Method::HEAD => head,
            _ => false,
        });
        resource.route(web::route().guard(read).to(handler))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_is_served_to_whom_it_is_for() {
        use Surface::{Callers, Everyone, Operators};
        for (path, served) in [
            ("/", [Everyone, Callers].as_slice()),
            ("/views/{view}", &[Everyone, Callers]),
            ("/commands/order/{id}/place", &[Everyone, Callers]),
            ("/metrics", &[Everyone, Operators]),
            ("/ops/overview", &[Everyone, Operators]),
            ("/console", &[Everyone, Operators]),
            ("/processes/{process}/{id}", &[Everyone, Operators]),
            ("/consoles", &[Everyone, Callers]),
            ("/healthz", &[Everyone, Callers, Operators]),
            ("/readyz", &[Everyone, Callers, Operators]),
        ] {
            for surface in [Everyone, Callers, Operators] {
                let expected = served.contains(&surface);
                assert_eq!(surface.has(path), expected, "{path} {surface:?}");
            }
        }
    }
}
