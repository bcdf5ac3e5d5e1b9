//! Messages over NATS that nobody would send: whatever comes, it is answered with a refusal or not at all, and the
//! replica goes on.

use crate::harness::{
    api::{Api, NatsApi},
    chances::Chances,
    nats::{Nats, is_running},
    tokens::{self, Signer, bearer},
    unique,
};
use async_nats::{HeaderMap, HeaderName, HeaderValue, Subject};
use futures::StreamExt;
use serde_json::json;
use std::time::Duration;

/// The messages of one run.
const MESSAGES: usize = 100_000;
/// How many are sent before it is looked whether the replica lives.
const PORTION: usize = 2_000;
const SEED: u64 = 0xfa22;

/// Messages that are made up, the same in each run.
struct MadeUp(Chances);

impl MadeUp {
    fn below(&mut self, end: usize) -> usize {
        self.0.below(end)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        self.0.one(of)
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most))
            .map(|_| self.below(256) as u8)
            .collect()
    }

    fn subject(&mut self) -> String {
        let id = self
            .one(&[
                "a",
                "fuzz-1",
                "%",
                "é",
                "A_-9",
                "live",
                "all",
                "0123456789012345678901234567890123456789012345678901234567890123456789",
            ])
            .to_owned();
        let aggregate = self.one(&[
            "product",
            "stock",
            "order",
            "member",
            "display",
            "no",
            "$JS",
            "fulfilment",
        ]);
        let command = self.one(&[
            "register", "receive", "place", "cancel", "rename", "reserve", "no",
        ]);
        match self.below(6) {
            0..=2 => format!("cmd.{aggregate}.{id}.{command}"),
            3 => format!("qry.{aggregate}"),
            4 => format!("qry.{aggregate}.{id}"),
            _ => format!(
                "{}.projector.all.{aggregate}.{}",
                self.one(&["ctl"]),
                self.one(&["status", "parked", "no"])
            ),
        }
    }

    fn headers(&mut self, token: &str) -> HeaderMap {
        let names = [
            "Authorization",
            "Idempotency-Key",
            "If-Match",
            "traceparent",
            "tracestate",
            "Content-Type",
            "Headwater-Min-Position",
            "Headwater-Max-Wait-Ms",
            "Headwater-Caller",
            "If-None-Match",
            "X",
        ];
        let values = [
            "",
            "\"1\"",
            "*",
            "order@1",
            "product@99999999999999999999",
            "-1",
            "0",
            "application/json",
            "text/plain",
            "Bearer",
            "Bearer a.b.c",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "사과",
            "a b",
        ];
        let mut headers = HeaderMap::new();
        for _ in 0..self.below(4) {
            let value: HeaderValue = self.one(&values).parse().unwrap();
            headers.append(
                HeaderName::from_static(names[self.below(names.len())]),
                value,
            );
        }
        if self.below(2) == 0 {
            headers.append("Authorization", token);
        }
        headers
    }

    fn body(&mut self) -> Vec<u8> {
        let said = [
            "",
            "{}",
            "[]",
            "null",
            "0",
            "\"a\"",
            "{\"limit\":1e99}",
            "{\"quantity\":-9223372036854775808}",
            "{\"quantity\":1}",
            "{\"name\":\"\\u0000\",\"price\":1,\"category\":\"a\"}",
            "{\"lines\":[{}]}",
            "{\"a\":1,\"a\":2}",
            "{\"cursor\":\"AAAA\"}",
            "{\"sort\":\"--\"}",
            "{\"q\":\"'; DROP TABLE\"}",
            "{\"member\":{\"$ne\":1}}",
            "[[[[[[[[[[[[[[[[",
            "\u{feff}{}",
            "{\"q\":\"\\ud800\"}",
        ];
        match self.below(3) {
            0 => self.bytes(64),
            1 => {
                let mut body = self.one(&said).as_bytes().to_vec();
                if !body.is_empty() && self.below(2) == 0 {
                    let place = self.below(body.len());
                    body[place] = self.below(256) as u8;
                }
                body
            }
            _ => self.one(&said).as_bytes().to_vec(),
        }
    }
}

/// With a token that may everything, with one that may nothing, and without any.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_over_nats_is_refused_and_nothing_breaks() {
    let (signer, nats) = (Signer::new("k-1"), Nats::start());
    let (service, _folder) = tokens::serve(&nats, &signer, &[]);
    let all = bearer(&signer.token("s-1", "cmd:* qry:* ops:read staff"));
    let tokens = [
        all.clone(),
        bearer(&signer.token("m-1", "none")),
        String::new(),
    ];
    let client = nats.client().await;
    let api = Api::Nats(NatsApi {
        client: client.clone(),
    });
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(format!("{inbox}.>")).await.unwrap();
    let mut chances = MadeUp(Chances::new(SEED));
    let (mut answered, mut faults) = (0_usize, Vec::new());
    for number in 0..MESSAGES {
        let subject: Subject = chances.subject().into();
        let token = &tokens[chances.below(tokens.len())];
        let (headers, body) = (chances.headers(token), chances.body());
        let reply = format!("{inbox}.{number}");
        // The client refuses some by itself.
        let _ = client
            .publish_with_reply_and_headers(subject, reply, headers, body.into())
            .await;
        if number % PORTION == PORTION - 1 {
            // Only what comes before a right command is answered has been taken.
            let name = unique("alive");
            let body = json!({"name": "alive", "price": 1, "category": "a"});
            let headers = [("Authorization", all.as_str())];
            api.command_with("product", &name, "register", body, &headers)
                .await
                .expect(200);
            while let Ok(Some(answer)) =
                tokio::time::timeout(Duration::from_millis(20), answers.next()).await
            {
                answered += 1;
                let code = answer
                    .headers
                    .as_ref()
                    .and_then(|all| all.get("Nats-Service-Error-Code"));
                if code.is_some_and(|code| code.as_str().starts_with('5')) {
                    faults.push(String::from_utf8_lossy(&answer.payload).into_owned());
                }
            }
        }
    }
    assert!(is_running(service.pid()), "{}", service.transcript());
    assert!(answered > MESSAGES / 2, "{answered}");
    // That something is not there yet, or too much at once, is no fault of ours.
    faults.retain(|fault| !fault.contains("\"not_yet_applied\""));
    assert!(
        faults.is_empty(),
        "{} of {answered}: {:?}",
        faults.len(),
        &faults[..faults.len().min(5)]
    );
}
