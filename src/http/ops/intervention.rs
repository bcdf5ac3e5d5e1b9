//! A request that changes something.

use super::admitted;
use crate::{
    access::Identified,
    caller::Action,
    command::request::{MAX_BODY, empty_body},
    http::{Site, input, refusal::Refusal},
    ops::Operations,
    problem::Problem,
};
use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Data};
use futures::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A request to change something, of somebody who may.
pub(super) struct Intervention {
    pub(super) request: HttpRequest,
    pub(super) operations: Data<Operations>,
    pub(super) who: Identified,
    payload: Payload,
    site: Data<Site>,
}

impl FromRequest for Intervention {
    type Error = Refusal;
    type Future = LocalBoxFuture<'static, Result<Self, Refusal>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let site = request.app_data::<Data<Site>>().cloned();
            let site = site.ok_or_else(Problem::internal)?;
            let (operations, who) = admitted(&request, Action::Operate).await?;
            Ok(Self {
                request,
                operations,
                who,
                payload,
                site,
            })
        })
    }
}

impl Intervention {
    /// Reads the body, to be parsed as what is asked for.
    pub(super) async fn body(&mut self) -> Result<Body, Problem> {
        let (payload, timeout) = (self.payload.take(), self.site.body_timeout);
        let body = input::json_body(&self.request, payload, timeout, MAX_BODY, empty_body).await?;
        Ok(Body(body))
    }
}

/// The body of a change: a JSON object.
pub(super) struct Body(actix_web::web::Bytes);

impl Body {
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        // A list is none of these, though serde would take it for one.
        let object: Map<String, Value> =
            serde_json::from_slice(&self.0).map_err(|error| wrong(&error))?;
        serde_json::from_value(object.into()).map_err(|error| wrong(&error))
    }
}

fn wrong(error: &serde_json::Error) -> Problem {
    Problem::malformed("body".to_owned(), error.to_string())
}
