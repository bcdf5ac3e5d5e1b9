//! How much one caller may ask for, and which lines of the log say that somebody was refused.

use crate::{
    harness::{
        api::{Api, Http, NatsApi, Reply},
        nats::Nats,
        poll::eventually,
        service::Service,
        tokens::{self, Signer, bearer},
    },
    live::Live,
};
use serde_json::json;
use tempfile::TempDir;

/// A replica that takes tokens, with these flags more.
struct World {
    signer: Signer,
    nats: Nats,
    service: Service,
    _folder: TempDir,
}

impl World {
    fn start(more: &[&str]) -> Self {
        let (signer, nats) = (Signer::new("k-1"), Nats::start());
        let (service, folder) = tokens::serve(&nats, &signer, more);
        Self {
            signer,
            nats,
            service,
            _folder: folder,
        }
    }

    async fn both(&self) -> [Api; 2] {
        let nats = NatsApi::connect(&self.nats.url()).await;
        [Api::Http(self.service.http()), Api::Nats(nats)]
    }

    fn token(&self, subject: &str) -> String {
        bearer(&self.signer.token(subject, "qry:* cmd:* ops:read staff"))
    }
}

#[track_caller]
fn is_one_too_many(reply: &Reply) {
    reply.problem(429, "overloaded");
    let seconds: u32 = reply.header("Retry-After").parse().unwrap();
    assert!(seconds >= 1);
}

/// However slow this machine is: the second of two that come together is one too many.
#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_many_is_told_when_to_come_again_on_both_surfaces() {
    let world = World::start(&["--max-requests-per-second", "1"]);
    for (number, api) in world.both().await.into_iter().enumerate() {
        let (ann, bob) = (format!("ann-{number}"), format!("bob-{number}"));
        let ann = world.token(&ann);
        let headers = [("Authorization", ann.as_str())];
        let refused = eventually("one is too many", || async {
            let both = tokio::join!(
                api.document("product", "none", &headers),
                api.list("product", json!({}), &headers)
            );
            [both.0, both.1]
                .into_iter()
                .find(|reply| reply.status == 429)
        })
        .await;
        is_one_too_many(&refused);
        let refused = eventually("one command is too many", || async {
            let give = || {
                let body = json!({"name": "a", "price": 1, "category": "b"});
                api.command_with("product", "limited", "register", body, &headers)
            };
            let (first, second) = tokio::join!(give(), give());
            [first, second]
                .into_iter()
                .find(|reply| reply.status == 429)
        })
        .await;
        is_one_too_many(&refused);
        // Somebody else is not held to it.
        let bob = world.token(&bob);
        let reply = api
            .document("product", "none", &[("Authorization", &bob)])
            .await;
        reply.problem(404, "not_found");
    }
}

/// Who has no token is known by the address, and how it is can be asked all the same.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_tries_tokens_is_held_by_the_address() {
    let world = World::start(&["--max-requests-per-second", "1"]);
    let http = world.service.http();
    let headers = [("Authorization", "Bearer a.b.c")];
    let refused = eventually("it is too many", || async {
        let get = || http.get("/views/product/none", &headers);
        let (first, second) = tokio::join!(get(), get());
        [first, second]
            .into_iter()
            .find(|reply| reply.status == 429)
    })
    .await;
    is_one_too_many(&refused);
    http.get("/healthz", &[]).await.expect(200);
    let ann = world.token("ann");
    let reply = http
        .get("/views/product/none", &[("Authorization", &ann)])
        .await;
    reply.problem(404, "not_found");
}

/// A stream is under way for as long as it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn so_many_requests_of_a_caller_are_under_way() {
    let world = World::start(&["--max-requests-under-way", "2"]);
    let http = world.service.http();
    let (ann, bob) = (world.token("ann"), world.token("bob"));
    let (ann, bob) = (
        [("Authorization", ann.as_str())],
        [("Authorization", bob.as_str())],
    );
    let first = Live::open(&http, "/views/product/live", &ann).await;
    let second = Live::open(&http, "/views/sales/live", &ann).await;
    is_one_too_many(&http.get("/views/product/none", &ann).await);
    http.get("/views/product/none", &bob)
        .await
        .problem(404, "not_found");
    drop(first);
    eventually("its place is free", || async {
        let reply = http.get("/views/product/none", &ann).await;
        (reply.status == 404).then_some(())
    })
    .await;
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_connections_of_an_address_are_open() {
    let nats = Nats::start();
    let flags = ["--max-connections-per-address", "2"];
    let service = Service::serve(&nats.url(), &flags);
    let address = service.http_url().replace("http://", "");
    let connect = || tokio::net::TcpStream::connect(&address);
    let (first, second) = (connect().await.unwrap(), connect().await.unwrap());
    let base = service.http_url();
    // Both have been counted once the third is refused.
    let refused = eventually("the third is one too many", || async {
        let client = Http::new(base.clone());
        let request = client.client.get(format!("{base}/healthz")).send().await;
        request.ok().filter(|answer| answer.status() == 429)
    })
    .await;
    assert_eq!(refused.headers()["retry-after"], "1");
    drop((first, second));
    eventually("there is room again", || async {
        let client = Http::new(base.clone());
        let request = client.client.get(format!("{base}/healthz")).send().await;
        request.ok().filter(|answer| answer.status() == 200)
    })
    .await;
}

/// One line for each, which says who, what and why, and nothing of a token.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_refused_is_on_record() {
    let world = World::start(&["--log", "warn,headwater::audit=info"]);
    let scopeless = bearer(&world.signer.token("eve", "qry:sales"));
    let ended = bearer(&world.signer.sign(&json!({
        "iss": tokens::ISSUER, "aud": tokens::AUDIENCE, "sub": "old", "scope": "qry:*", "exp": 1,
    })));
    for api in world.both().await {
        for (token, words) in [
            (&scopeless, ["by=\"eve\"", "qry:product", "status=403"]),
            (&ended, ["nobody known", "it has ended", "status=401"]),
        ] {
            let before = matching(&world.service, &words);
            let headers = [("Authorization", token.as_str())];
            api.document("product", "none", &headers).await;
            eventually("it is on record", || async {
                (matching(&world.service, &words) == before + 1).then_some(())
            })
            .await;
        }
    }
    // What a rule of the domain refuses is on record, too.
    let http = Api::Http(world.service.http());
    let eve = bearer(&world.signer.token("eve", "cmd:*"));
    let body = json!({"name": "a", "price": 1, "category": "b"});
    let headers = [("Authorization", eve.as_str())];
    let reply = http
        .command_with("product", "eves", "register", body, &headers)
        .await;
    reply.problem(403, "forbidden");
    assert_eq!(
        matching(&world.service, &["eve", "cmd:product", "by a rule"]),
        1
    );
    let said = world.service.transcript();
    assert!(said.contains("127.0.0.1"), "{said}");
    for token in [&scopeless, &ended] {
        let secret = token.rsplit('.').next().unwrap();
        assert!(!said.contains(secret), "{said}");
    }
}

/// How many lines of the audit have all of these words.
fn matching(service: &Service, words: &[&str]) -> usize {
    let said = service.transcript();
    let lines = said
        .lines()
        .filter(|line| line.contains("headwater::audit"));
    lines
        .filter(|line| words.iter().all(|word| line.contains(word)))
        .count()
}
