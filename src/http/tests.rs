//! The surface over fakes: what goes in, what comes out, and what never gets through.

mod asyncapi;
mod commands;
mod compression;
mod connections;
mod cors;
mod description;
mod live;
mod pages;
mod site;
mod views;
mod wire;

use super::{
    Options, Site,
    boundary::{self, Refuses},
    fakes::Fakes,
    routes,
};
use actix_web::{
    App,
    body::to_bytes,
    http::{StatusCode, header::HeaderMap},
    test::{TestRequest, call_service, init_service},
};
use serde_json::Value;

/// What came back.
struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answered {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Asserts that this is a refusal as the whole system writes them, with this status, code and
    /// field.
    #[track_caller]
    fn is_refused(&self, status: u16, code: &str, field: Option<&str>) {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{body}");
        assert_eq!(
            self.header("Content-Type"),
            Some("application/problem+json")
        );
        let problem = self.json();
        assert_eq!(problem["status"], status, "{body}");
        assert_eq!(problem["code"], code, "{body}");
        assert_eq!(problem["field"].as_str(), field, "{body}");
    }
}

async fn ask(fakes: &Fakes, request: TestRequest) -> Answered {
    let site = Site::new(fakes.backends(), &Options::default());
    let direct = site.clone();
    let app = App::new()
        .wrap_fn(move |request, service| {
            boundary::guard(request, service, Some(&direct), Refuses::Here)
        })
        .configure(|config| routes::all(config, &site));
    let response = call_service(&init_service(app).await, request.to_request()).await;
    Answered {
        status: response.status(),
        headers: response.headers().clone(),
        body: to_bytes(response.into_body()).await.unwrap().to_vec(),
    }
}

async fn get(uri: &str) -> Answered {
    ask(&Fakes::content(), TestRequest::get().uri(uri)).await
}
