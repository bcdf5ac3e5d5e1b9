//! A gateway's `/ops`, asked over HTTP.

use crate::{
    cli::Failure,
    ops::{Job, JobState},
    problem::Problem,
};
use http_client::{Client, Method, Response, Url, redirect};
use serde_json::Value;
use std::time::Duration;

/// The time until a connection is there.
const CONNECT: Duration = Duration::from_secs(5);
/// The time that an answer may take: what is explained or looked for takes up to half a minute.
const ANSWER: Duration = Duration::from_secs(60);
/// The most bytes of an answer.
const MOST_BYTES: usize = 64 << 20;
/// The pause between two looks at a job.
const LOOK: Duration = Duration::from_millis(300);
/// The number of looks in a row that may fail: a gateway is started again meanwhile.
const FAILED_LOOKS: u32 = 20;

/// A gateway.
pub(super) struct Gateway {
    client: Client,
    base: Url,
    token: Option<String>,
}

impl Gateway {
    pub(super) fn new(base: &Url, token: Option<&str>) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::configuration(format!("--ops {base}: {why}"));
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(wrong("an address begins with http:// or https://"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(Failure::configuration(
                "--ops takes no user and no password; give a token with --token",
            ));
        }
        let client = Client::builder()
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            // A token is not carried on to elsewhere.
            .redirect(redirect::Policy::none())
            .build();
        Ok(Self {
            client: client.map_err(Failure::configuration)?,
            base: base.clone(),
            token: token.map(str::to_owned),
        })
    }

    /// Asks for what stands at a path below `/ops`. A parameter without a value is left out.
    pub(super) async fn get(
        &self,
        path: &[&str],
        query: &[(&str, Option<String>)],
    ) -> Result<String, Failure> {
        self.send(Method::GET, self.address(path, query)?, None)
            .await
    }

    /// Changes something.
    pub(super) async fn post(&self, path: &[&str], body: &Value) -> Result<String, Failure> {
        self.send(Method::POST, self.address(path, &[])?, Some(body))
            .await
    }

    /// Waits until a job has ended.
    pub(super) async fn end_of(&self, mut job: Job) -> Result<Job, Failure> {
        let mut failed = 0;
        while job.state == JobState::Running {
            tokio::time::sleep(LOOK).await;
            match self.get(&["jobs", &job.id], &[]).await {
                Ok(text) => {
                    job = serde_json::from_str(&text).map_err(Failure::operation)?;
                    failed = 0;
                }
                Err(failure) if failed == FAILED_LOOKS => return Err(failure),
                Err(_) => failed += 1,
            }
        }
        Ok(job)
    }

    fn address(&self, path: &[&str], query: &[(&str, Option<String>)]) -> Result<Url, Failure> {
        let mut url = self.base.clone();
        url.set_query(None);
        url.set_fragment(None);
        match url.path_segments_mut() {
            Ok(mut segments) => {
                segments.pop_if_empty().push("ops").extend(path);
            }
            Err(()) => return Err(Failure::configuration("--ops is no address of a gateway")),
        }
        let given = query
            .iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)));
        for (name, value) in given {
            url.query_pairs_mut().append_pair(name, value);
        }
        Ok(url)
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        body: Option<&Value>,
    ) -> Result<String, Failure> {
        let mut request = self.client.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            let body = serde_json::to_vec(body).map_err(Failure::operation)?;
            request = request
                .header("Content-Type", "application/json")
                .body(body);
        }
        let failed = |error: http_client::Error| {
            let why = error.without_url();
            let base = &self.base;
            Failure::operation(format!("the gateway at {base} does not answer: {why}"))
        };
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let text = text_of(response).await.map_err(failed)?;
        if status.is_success() {
            return Ok(text);
        }
        Err(match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => Failure::operation(problem),
            Err(_) => Failure::operation(format!("{} answers {status}", self.base)),
        })
    }
}

/// The body, as far as it is bounded.
async fn text_of(mut response: Response) -> Result<String, http_client::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MOST_BYTES {
            body.clear();
            break;
        }
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}
