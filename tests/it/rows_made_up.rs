//! Whose rows, by requests that are made up: one member asks in every way there is, while somebody else's orders are
//! read and changed beside it, and never sees any of them.

use crate::{
    harness::{
        api::{Api, Http, NatsApi, Reply},
        chances::Chances,
        nats::Nats,
        service::Service,
        tokens::{self, Signer, bearer},
        unique,
    },
    live::Live,
};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};
use tempfile::TempDir;

const ORDERS: usize = 24;
/// The requests of one run, over all who ask.
const REQUESTS: usize = 10_500;
const ASKING: usize = 8;
/// One request in so many is a stream.
const STREAMS: usize = 60;
const SEED: u64 = 0x5eed;

struct World {
    signer: Signer,
    nats: Nats,
    service: Service,
    _folder: TempDir,
    mine: BTreeSet<String>,
    theirs: Vec<String>,
    position: String,
    /// What somebody else was given: entity tags, and cursors of pages.
    tags: Vec<String>,
    cursors: Vec<String>,
}

impl World {
    async fn start(more: &[&str]) -> Self {
        let (signer, nats) = (Signer::new("k-1"), Nats::start());
        let (service, folder) = tokens::serve(&nats, &signer, more);
        let mut world = Self {
            signer,
            nats,
            service,
            _folder: folder,
            mine: BTreeSet::new(),
            theirs: Vec::new(),
            position: String::new(),
            tags: Vec::new(),
            cursors: Vec::new(),
        };
        let http = Api::Http(world.service.http());
        for _ in 0..ORDERS {
            for member in ["ann", "bob"] {
                let id = world.place(&http, member).await;
                match member {
                    "ann" => _ = world.mine.insert(id),
                    _ => world.theirs.push(id),
                }
            }
        }
        world.look_as_bob(&http).await;
        world
    }

    fn token(&self, subject: &str) -> String {
        bearer(&self.signer.token(subject, "cmd:* qry:*"))
    }

    async fn place(&mut self, api: &Api, member: &str) -> String {
        let id = unique(member);
        let lines = json!([{"sku": "apple", "quantity": 1, "unit_price": 100}]);
        let branch = ["gangnam", "mapo"][self.theirs.len() % 2];
        let body = json!({"member": member, "branch": branch, "lines": lines});
        let token = self.token(member);
        let headers = [("Authorization", token.as_str())];
        let reply = api
            .command_with("order", &id, "place", body, &headers)
            .await;
        let reply = reply.expect(200);
        reply
            .header("Headwater-Position")
            .clone_into(&mut self.position);
        id
    }

    /// Notes what Bob is given of his own: that is what might be of use to others.
    async fn look_as_bob(&mut self, api: &Api) {
        let bob = self.token("bob");
        let headers = [
            ("Authorization", bob.as_str()),
            ("Headwater-Min-Position", self.position.as_str()),
        ];
        for id in self.theirs.iter().take(5) {
            let reply = api.document("order", id, &headers).await.expect(200);
            self.tags.push(reply.header("ETag").to_owned());
        }
        for asked in [
            json!({"limit": 2}),
            json!({"limit": 3, "sort": "-placed_at"}),
        ] {
            let page = api.list("order", asked, &headers).await.expect(200).json();
            self.cursors.push(page["next"].as_str().unwrap().to_owned());
        }
    }

    /// Returns the parameters of a list that is made up.
    fn parameters(&self, chances: &mut Chances, own_cursor: Option<&str>) -> Value {
        let mut asked = Map::new();
        let mut put = |name: &str, value: Value| _ = asked.insert(name.to_owned(), value);
        if chances.below(3) == 0 {
            put(
                "branch",
                chances.one(&["gangnam", "mapo", "nowhere"]).into(),
            );
        }
        if chances.below(3) == 0 {
            put(
                "status",
                chances.one(&["placed", "cancelled", "confirmed"]).into(),
            );
        }
        match chances.below(6) {
            0 => put("member", "bob".into()),
            1 => put("member", "ann".into()),
            _ => {}
        }
        if chances.below(2) == 0 {
            put("sort", chances.one(&["placed_at", "-placed_at"]).into());
        }
        if chances.below(2) == 0 {
            put("limit", (1 + chances.below(200)).into());
        }
        if chances.below(3) == 0 {
            put("count", true.into());
        }
        if chances.below(3) == 0 {
            put(
                "facets",
                chances
                    .one(&["member", "member,status", "branch,status"])
                    .into(),
            );
        }
        match (chances.below(8), own_cursor) {
            (0, _) => put("cursor", chances.one(&as_refs(&self.cursors)).into()),
            (1 | 2, Some(cursor)) => put("cursor", cursor.into()),
            _ => {}
        }
        asked.into()
    }

    /// Asserts that an answer has nothing of somebody else's.
    fn is_mine(&self, reply: &Reply, asked: &Value) {
        if reply.status != 200 {
            assert!(
                [304, 400, 404].contains(&reply.status),
                "{} {asked}",
                reply.status
            );
            return;
        }
        let page = reply.json();
        for item in page["items"].as_array().into_iter().flatten() {
            let id = item["id"].as_str().unwrap();
            assert!(self.mine.contains(id), "{id}: {asked}");
        }
        if let Some(count) = page["count"].as_u64() {
            assert!(count <= self.mine.len() as u64, "{asked}: {page}");
        }
        let facets = page["facets"].as_object();
        for (name, facet) in facets.into_iter().flatten() {
            for one in facet["values"].as_array().unwrap() {
                assert!(
                    one["count"].as_u64() <= Some(self.mine.len() as u64),
                    "{asked}: {page}"
                );
                assert!(name != "member" || one["value"] == "ann", "{asked}: {page}");
            }
        }
        let text = String::from_utf8_lossy(&reply.body);
        assert!(
            !self.theirs.iter().any(|id| text.contains(id.as_str())),
            "{asked}: {text}"
        );
    }
}

fn as_refs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// What a refusal tells, but for the id.
fn told(reply: &Reply, id: &str) -> (u16, String) {
    (
        reply.status,
        String::from_utf8_lossy(&reply.body).replace(id, "<id>"),
    )
}

/// Asks for so many things, one after the other.
async fn ask(world: &World, api: &Api, http: &Http, seed: u64, requests: usize) {
    let mut chances = Chances::new(seed);
    let ann = world.token("ann");
    let mut cursor: Option<String> = None;
    for number in 0..requests {
        let mut headers = vec![("Authorization", ann.as_str())];
        if chances.below(4) == 0 {
            headers.push(("Headwater-Min-Position", world.position.as_str()));
        }
        if chances.below(4) == 0 {
            let mut tags = as_refs(&world.tags);
            tags.push("*");
            headers.push(("If-None-Match", chances.one(&tags)));
        }
        match number % STREAMS {
            0 => {
                follow(world, http, &mut chances).await;
            }
            _ if chances.below(3) == 0 => {
                let theirs = chances.one(&as_refs(&world.theirs));
                let missing = unique("bob");
                let other = api.document("order", theirs, &headers).await;
                let none = api.document("order", &missing, &headers).await;
                assert_eq!(told(&other, theirs), told(&none, &missing));
            }
            _ => {
                let asked = world.parameters(&mut chances, cursor.as_deref());
                let reply = api.list("order", asked.clone(), &headers).await;
                world.is_mine(&reply, &asked);
                if reply.status == 200 && !reply.body.is_empty() {
                    cursor = reply.json()["next"].as_str().map(str::to_owned);
                }
            }
        }
    }
}

/// Follows something, from the start or from where somebody was, and takes what comes at once.
async fn follow(world: &World, http: &Http, chances: &mut Chances) {
    let ann = world.token("ann");
    let path = match chances.below(3) {
        0 => format!("/views/order/{}/live", chances.one(&as_refs(&world.theirs))),
        1 => "/views/order/live".to_owned(),
        _ => format!(
            "/views/order/live?branch={}",
            chances.one(&["gangnam", "mapo"])
        ),
    };
    let bob = world.token("bob");
    let last = match Live::try_open(http, "/views/order/live", &[("Authorization", &bob)]).await {
        Ok(mut live) => {
            live.next().await;
            live.last
        }
        Err(_) => String::new(),
    };
    let mut headers = vec![("Authorization", ann.as_str())];
    if chances.below(2) == 0 {
        headers.push(("Last-Event-ID", last.as_str()));
    }
    let Ok(mut live) = Live::try_open(http, &path, &headers).await else {
        return;
    };
    for _ in 0..4 {
        let event = live.next().await;
        let id = event.data["id"].as_str().unwrap_or_default();
        assert!(
            id.is_empty() || world.mine.contains(id),
            "{path}: {event:?}"
        );
        let text = event.data.to_string();
        assert!(
            !world.theirs.iter().any(|id| text.contains(id.as_str())),
            "{path}: {text}"
        );
    }
}

/// Reads as Bob and as staff, so that what they may see is in memory, until it is told to stop.
async fn keep_warm(world: &World, api: &Api, stop: &AtomicBool, read: &AtomicUsize) {
    let mut chances = Chances::new(SEED ^ 1);
    let (bob, staff) = (
        world.token("bob"),
        bearer(&world.signer.token("s-1", "qry:* staff")),
    );
    while !stop.load(Relaxed) {
        let who = chances.one(&[bob.as_str(), staff.as_str()]);
        let headers = [("Authorization", who)];
        let id = chances.one(&as_refs(&world.theirs));
        api.document("order", id, &headers).await.expect(200);
        let asked = world.parameters(&mut chances, None);
        api.list("order", asked, &headers).await;
        read.fetch_add(1, Relaxed);
    }
}

async fn nothing_of_somebody_else(more: &[&str]) {
    let world = World::start(more).await;
    let http = world.service.http();
    let nats = Api::Nats(NatsApi::connect(&world.nats.url()).await);
    let over_http = Api::Http(http.clone());
    let (stop, read) = (AtomicBool::new(false), AtomicUsize::new(0));
    let asking = (0..ASKING).map(|number| {
        let api = if number % 2 == 0 { &over_http } else { &nats };
        ask(
            &world,
            api,
            &http,
            SEED + 1 + number as u64,
            REQUESTS / ASKING / 2 + 1,
        )
    });
    let asking = async {
        futures::future::join_all(asking).await;
        stop.store(true, Relaxed);
    };
    let warming = keep_warm(&world, &over_http, &stop, &read);
    futures::future::join(asking, warming).await;
    assert!(read.load(Relaxed) > 0);
}

/// Some five thousand requests, half of them over each surface.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_somebody_else_is_seen_where_answers_are_kept_in_memory() {
    nothing_of_somebody_else(&[]).await;
}

/// As many again.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_somebody_else_is_seen_where_none_is() {
    nothing_of_somebody_else(&["--list-cache-mb", "0", "--cache-mb", "0"]).await;
}
