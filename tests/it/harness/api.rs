//! One way to talk to a service over both surfaces: the same calls, the same kind of answer.

use async_nats::{Client, HeaderMap, RequestErrorKind};
use bytes::Bytes;
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

/// An answer of either surface.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status; on NATS the one in `Nats-Service-Error-Code`, or 200.
    pub status: u16,
    /// By names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!(
                "{error}: {} {:?}",
                self.status,
                String::from_utf8_lossy(&self.body)
            )
        })
    }

    /// A header; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(&name.to_ascii_lowercase())
            .map_or("", String::as_str)
    }

    /// Asserts the status, and shows the body if it is another one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self
    }

    /// Asserts a problem's status and code, and answers with the problem.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let problem = self.json();
        assert_eq!(
            (self.status, problem["code"].as_str()),
            (status, Some(code)),
            "{problem}"
        );
        assert_eq!(problem["status"], status, "{problem}");
        problem
    }
}

/// A service's address on one of its surfaces.
#[derive(Debug, Clone)]
pub enum Api {
    Http(Http),
    Nats(NatsApi),
}

impl Api {
    /// Sends a command and expects an answer of some kind.
    pub async fn command(&self, aggregate: &str, id: &str, command: &str, body: Value) -> Reply {
        self.command_with(aggregate, id, command, body, &[]).await
    }

    /// As [`Api::command`], with headers.
    pub async fn command_with(
        &self,
        aggregate: &str,
        id: &str,
        command: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> Reply {
        let body = serde_json::to_vec(&body).unwrap();
        match self {
            Self::Http(http) => {
                let path = format!("/commands/{aggregate}/{id}/{command}");
                http.post(&path, body, headers).await
            }
            Self::Nats(nats) => {
                let subject = format!("cmd.{aggregate}.{id}.{command}");
                nats.expect(subject, body, headers).await
            }
        }
    }

    /// Reads one document.
    pub async fn document(&self, view: &str, id: &str, headers: &[(&str, &str)]) -> Reply {
        match self {
            Self::Http(http) => http.get(&format!("/views/{view}/{id}"), headers).await,
            Self::Nats(nats) => {
                nats.expect(format!("qry.{view}.{id}"), Vec::new(), headers)
                    .await
            }
        }
    }

    /// Reads a list. `parameters` is an object of strings, numbers and booleans.
    pub async fn list(&self, view: &str, parameters: Value, headers: &[(&str, &str)]) -> Reply {
        match self {
            Self::Http(http) => {
                let mut url = url::Url::parse(&http.base).unwrap();
                url.set_path(&format!("/views/{view}"));
                for (name, value) in parameters.as_object().unwrap() {
                    let text = value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned);
                    url.query_pairs_mut().append_pair(name, &text);
                }
                http.get(&url[url::Position::BeforePath..], headers).await
            }
            Self::Nats(nats) => {
                let body = serde_json::to_vec(&parameters).unwrap();
                nats.expect(format!("qry.{view}"), body, headers).await
            }
        }
    }
}

/// HTTP, for the runtime that made it.
#[derive(Debug, Clone)]
pub struct Http {
    /// `http://127.0.0.1:<port>`.
    pub base: String,
    pub client: reqwest::Client,
}

impl Http {
    pub fn new(base: impl Into<String>) -> Self {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        Self {
            base: base.into(),
            client,
        }
    }

    /// `path` begins with a slash and is sent as it is.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send(reqwest::Method::GET, path, None, headers).await
    }

    /// Posts JSON, unless `headers` say another `Content-Type`.
    pub async fn post(
        &self,
        path: &str,
        body: impl Into<reqwest::Body>,
        headers: &[(&str, &str)],
    ) -> Reply {
        self.send(reqwest::Method::POST, path, Some(body.into()), headers)
            .await
    }

    pub async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<reqwest::Body>,
        headers: &[(&str, &str)],
    ) -> Reply {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        let has_type = headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if body.is_some() && !has_type {
            request = request.header("Content-Type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request
            .send()
            .await
            .unwrap_or_else(|error| panic!("{path}: {error:?}"));
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.as_str().to_owned(), value)
            })
            .collect();
        Reply {
            status: response.status().as_u16(),
            headers,
            body: response.bytes().await.unwrap(),
        }
    }
}

/// NATS request-reply.
#[derive(Debug, Clone)]
pub struct NatsApi {
    pub client: Client,
}

impl NatsApi {
    pub async fn connect(url: &str) -> Self {
        let client = async_nats::connect(url)
            .await
            .unwrap_or_else(|error| panic!("{url}: {error}"));
        Self { client }
    }

    /// Over a connection that is there.
    pub fn over(client: async_nats::Client) -> Self {
        Self { client }
    }

    /// A request on any subject; `Err` when nobody answers, or the client refuses the subject. A header
    /// may stand there more than once.
    pub async fn request(
        &self,
        subject: String,
        body: Vec<u8>,
        headers: &[(&str, &str)],
    ) -> Result<Reply, RequestErrorKind> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, *value);
        }
        let request = async_nats::Request::new()
            .payload(body.into())
            .headers(map)
            .timeout(Some(Duration::from_secs(60)));
        let message = self
            .client
            .send_request(subject, request)
            .await
            .map_err(|error| error.kind())?;
        let headers: BTreeMap<String, String> = message
            .headers
            .iter()
            .flat_map(HeaderMap::iter)
            .filter_map(|(name, values)| {
                let value = values.first()?.to_string();
                Some((name.to_string().to_ascii_lowercase(), value))
            })
            .collect();
        let status = headers
            .get("nats-service-error-code")
            .map_or(200, |code| code.parse().expect("the status is a number"));
        Ok(Reply {
            status,
            headers,
            body: message.payload,
        })
    }

    /// As [`NatsApi::request`]; panics when there is no answer.
    pub async fn expect(&self, subject: String, body: Vec<u8>, headers: &[(&str, &str)]) -> Reply {
        match self.request(subject.clone(), body, headers).await {
            Ok(reply) => reply,
            Err(error) => panic!("{subject}: {error}"),
        }
    }
}
