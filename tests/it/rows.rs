//! Whose rows: over every way in, nobody sees what is somebody else's, and nothing tells that it is there.

use crate::{
    harness::{
        api::{Api, NatsApi, Reply},
        nats::Nats,
        poll::eventually,
        service::{Service, headwater, run},
        tokens::{self, Signer, bearer},
        unique,
    },
    live::Live,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tempfile::TempDir;

const ALL: &str = "cmd:* qry:*";

/// A replica that asks who asks, and orders of two members.
struct World {
    signer: Signer,
    nats: Nats,
    service: Service,
    _folder: TempDir,
    /// The orders of each member.
    orders: BTreeMap<&'static str, Vec<String>>,
    position: String,
}

impl World {
    async fn start(more: &[&str]) -> Self {
        let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new("k-1"));
        let nats = Nats::start();
        let mut flags = tokens::flags(&tokens::written(folder.path(), &signer));
        // Without what fulfils orders: they stay as they are placed.
        flags.extend(["--roles", "command,projector,gateway"].map(str::to_owned));
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let service = Service::serve(&nats.url(), &flags);
        let mut world = Self {
            signer,
            nats,
            service,
            _folder: folder,
            orders: BTreeMap::new(),
            position: String::new(),
        };
        for member in ["ann", "bob"] {
            for _ in 0..4 {
                world.order(member).await;
            }
        }
        world
    }

    async fn order(&mut self, member: &'static str) -> String {
        let id = unique(member);
        let api = Api::Http(self.service.http());
        let reply = place(&api, &id, member, &self.token(member, ALL))
            .await
            .expect(200);
        reply
            .header("Headwater-Position")
            .clone_into(&mut self.position);
        self.orders.entry(member).or_default().push(id.clone());
        id
    }

    async fn apis(&self) -> [Api; 2] {
        let nats = NatsApi::connect(&self.nats.url()).await;
        [Api::Http(self.service.http()), Api::Nats(nats)]
    }

    fn token(&self, subject: &str, scopes: &str) -> String {
        bearer(&self.signer.token(subject, scopes))
    }

    /// The headers of a request that sees all that was placed.
    fn headers<'a>(&'a self, token: &'a str) -> [(&'a str, &'a str); 2] {
        [
            ("Authorization", token),
            ("Headwater-Min-Position", &self.position),
        ]
    }
}

async fn place(api: &Api, id: &str, member: &str, token: &str) -> Reply {
    let lines = json!([{"sku": "apple", "quantity": 1, "unit_price": 100}]);
    let body = json!({"member": member, "branch": "gangnam", "lines": lines});
    api.command_with("order", id, "place", body, &[("Authorization", token)])
        .await
}

fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap().iter();
    let mut ids: Vec<String> = items
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

fn sorted(ids: &[String]) -> Vec<String> {
    let mut ids = ids.to_vec();
    ids.sort();
    ids
}

/// What a refusal tells, but for the id that was asked for and the moment.
fn told(reply: &Reply, id: &str) -> (u16, Vec<String>, String) {
    let volatile = ["date", "headwater-lag-ms", "headwater-applied"];
    let names = reply
        .headers
        .keys()
        .filter(|name| !volatile.contains(&name.as_str()));
    let body = String::from_utf8_lossy(&reply.body).replace(id, "<id>");
    (reply.status, names.cloned().collect(), body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_somebody_else_is_answered_as_one_that_is_not_there() {
    let world = World::start(&[]).await;
    let (ann, staff) = (world.token("ann", ALL), world.token("s-1", "qry:* staff"));
    for api in world.apis().await {
        for (own, other) in world.orders["ann"].iter().zip(&world.orders["bob"]) {
            // Cold, and warm from the reading of who may.
            for round in 0..2 {
                let headers = world.headers(&ann);
                let missing = unique("bob");
                let none = told(&api.document("order", &missing, &headers).await, &missing);
                let reply = api.document("order", other, &headers).await;
                assert_eq!(told(&reply, other), none, "{round}");
                let mine = api.document("order", own, &headers).await.expect(200);
                let seen = api
                    .document("order", other, &world.headers(&staff))
                    .await
                    .expect(200);
                // What tells whether it has changed tells that it is there.
                for tag in [seen.header("ETag"), "*"] {
                    let asked = [headers[0], headers[1], ("If-None-Match", tag)];
                    let reply = api.document("order", other, &asked).await;
                    assert_eq!(told(&reply, other), none, "{tag}");
                }
                if let Api::Http(_) = &api {
                    let asked = [
                        headers[0],
                        headers[1],
                        ("If-None-Match", mine.header("ETag")),
                    ];
                    assert_eq!(api.document("order", own, &asked).await.status, 304);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_its_count_its_facets_and_its_cursors_have_ones_own_alone() {
    for caches in [&[][..], &["--list-cache-mb", "0", "--cache-mb", "0"]] {
        let world = World::start(caches).await;
        let staff = world.token("s-1", "qry:* staff");
        let nobody = world.token("eve", "qry:*");
        for api in world.apis().await {
            // Whoever asks first, what is in memory is of nobody else.
            let all = api
                .list("order", json!({"count": true}), &world.headers(&staff))
                .await;
            assert_eq!(all.expect(200).json()["count"], 8);
            for member in ["ann", "bob"] {
                let token = world.token(member, ALL);
                let headers = world.headers(&token);
                let own = sorted(&world.orders[member]);
                for asked in [
                    json!({"count": true, "facets": "member,branch,status"}),
                    json!({"count": true, "facets": "member", "branch": "gangnam"}),
                    json!({"count": true, "facets": "member", "status": "placed"}),
                    json!({"count": true, "facets": "member", "member": member}),
                    json!({"count": true, "facets": "member", "sort": "-placed_at"}),
                ] {
                    let page = api
                        .list("order", asked.clone(), &headers)
                        .await
                        .expect(200)
                        .json();
                    assert_eq!(ids(&page), own, "{member} {asked}");
                    assert_eq!(page["count"], 4, "{member} {asked}");
                    let facet = page["facets"]["member"]["values"].clone();
                    assert_eq!(facet, json!([{"value": member, "count": 4}]), "{asked}");
                    if asked["facets"] != "member" {
                        let branch = &page["facets"]["branch"]["values"];
                        assert_eq!(*branch, json!([{"value": "gangnam", "count": 4}]));
                    }
                }
                // Somebody else's list is one without anything in it.
                let other = if member == "ann" { "bob" } else { "ann" };
                let asked =
                    |member: &str| json!({"member": member, "count": true, "facets": "status"});
                let page = api
                    .list("order", asked(other), &headers)
                    .await
                    .expect(200)
                    .json();
                let none = api
                    .list("order", asked("nobody"), &headers)
                    .await
                    .expect(200)
                    .json();
                assert_eq!(page, none);
                assert_eq!((ids(&page).len(), &page["count"]), (0, &json!(0)));

                let first = api
                    .list("order", json!({"limit": 1}), &headers)
                    .await
                    .expect(200)
                    .json();
                let cursor = first["next"].as_str().unwrap();
                let mut seen = ids(&first);
                let mut next = Some(cursor.to_owned());
                while let Some(cursor) = next {
                    let asked = json!({"limit": 1, "cursor": cursor});
                    let page = api.list("order", asked, &headers).await.expect(200).json();
                    seen.extend(ids(&page));
                    next = page["next"].as_str().map(str::to_owned);
                }
                assert_eq!(sorted(&seen), own);
                // Where somebody else's page ended is of no use.
                let token = world.token(other, ALL);
                let asked = json!({"limit": 1, "cursor": cursor});
                let reply = api.list("order", asked, &world.headers(&token)).await;
                assert_eq!(reply.problem(400, "malformed")["field"], "cursor");
            }
            for view in ["order", "sales"] {
                let headers = world.headers(&nobody);
                let reply = api.list(view, json!({"count": true}), &headers).await;
                let page = reply.expect(200).json();
                assert_eq!((ids(&page).len(), &page["count"]), (0, &json!(0)), "{view}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_followed_is_ones_own_at_the_start_later_and_for_who_comes_again() {
    let mut world = World::start(&[]).await;
    let http = world.service.http();
    let (ann, nobody) = (world.token("ann", ALL), world.token("eve", "qry:*"));
    let headers = [("Authorization", ann.as_str())];
    let mut live = Live::open(&http, "/views/order/live", &headers).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let event = live.next().await;
        assert_eq!(event.kind, "put");
        seen.push(event.id().to_owned());
    }
    assert_eq!(sorted(&seen), sorted(&world.orders["ann"]));
    // One of somebody else first: what is told next is of who follows.
    let other = world.order("bob").await;
    let own = world.order("ann").await;
    assert_eq!(live.next().await.id(), own);
    let last = live.last.clone();
    drop(live);

    // What has changed meanwhile is somebody else's, too.
    world.order("bob").await;
    let own = world.order("ann").await;
    let again = [
        headers[0],
        ("Last-Event-ID", last.as_str()),
        ("Headwater-Min-Position", &world.position),
    ];
    let mut live = Live::open(&http, "/views/order/live", &again).await;
    let mut seen = Vec::new();
    while !seen.contains(&own) {
        let event = live.next().await;
        assert!(["reset", "put"].contains(&event.kind.as_str()), "{event:?}");
        seen.push(event.id().to_owned());
    }
    assert!(seen.iter().all(|id| !id.starts_with("bob")), "{seen:?}");

    for (member, id) in [("ann", &other), ("ann", &world.orders["bob"][0])] {
        let token = world.token(member, ALL);
        for last in ["", &last] {
            let headers = [("Authorization", token.as_str()), ("Last-Event-ID", last)];
            let reply = http.get(&format!("/views/order/{id}/live"), &headers).await;
            reply.problem(404, "not_found");
        }
    }
    let followed = format!("/views/order/{own}/live");
    let mut live = Live::open(&http, &followed, &headers).await;
    assert_eq!(live.next().await.id(), own);
    // Who sees nothing follows nothing, and hears of nothing.
    let headers = [("Authorization", nobody.as_str())];
    let mut empty = Live::open(&http, "/views/order/live", &headers).await;
    let cancel = Api::Http(http.clone());
    let headers = [("Authorization", ann.as_str())];
    let reason = json!({"reason": "why"});
    cancel
        .command_with("order", &own, "cancel", reason, &headers)
        .await
        .expect(200);
    let event = live.next().await;
    assert_eq!(
        (event.id(), &event.data["document"]["status"]),
        (own.as_str(), &json!("cancelled"))
    );
    let waited =
        tokio::time::timeout(std::time::Duration::from_millis(300), empty.try_next()).await;
    assert!(waited.is_err(), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_placed_and_cancelled_by_its_member_and_its_events_say_by_whom() {
    let world = World::start(&[]).await;
    let (ann, bob) = (world.token("ann", ALL), world.token("bob", ALL));
    let staff = world.token("s-1", "cmd:* staff");
    for api in world.apis().await {
        let id = unique("placed");
        let refused = place(&api, &id, "bob", &ann).await;
        assert_eq!(refused.problem(403, "forbidden")["scope"], "staff");
        place(&api, &id, "bob", &bob).await.expect(200);
        let reason = json!({"reason": "why"});
        let missing = unique("placed");
        for versions in [&[][..], &[("If-Match", "\"9\"")], &[("If-Match", "\"1\"")]] {
            let headers = [&[("Authorization", ann.as_str())], versions].concat();
            let cancel = |id: String| {
                let (api, headers, reason) = (api.clone(), headers.clone(), reason.clone());
                async move {
                    api.command_with("order", &id, "cancel", reason, &headers)
                        .await
                }
            };
            let (other, none) = (cancel(id.clone()).await, cancel(missing.clone()).await);
            assert_eq!(
                other.problem(404, "not_found"),
                none.problem(404, "not_found")
            );
        }
        let confirm = |token: String| {
            let (api, id) = (api.clone(), id.clone());
            async move {
                let headers = [("Authorization", token.as_str())];
                api.command_with("order", &id, "confirm", json!({}), &headers)
                    .await
            }
        };
        confirm(bob.clone()).await.problem(403, "forbidden");
        confirm(staff.clone()).await.expect(200);
        let headers = [("Authorization", bob.as_str())];
        api.command_with("order", &id, "cancel", reason, &headers)
            .await
            .expect(200);

        let mut command = headwater(["events", "show", "order", &id, "--json"]);
        let shown = run(command.args(["--nats", &world.nats.url()]));
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let page: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let commits = page["commits"].as_array().unwrap().iter();
        let callers = commits.map(|commit| commit["events"][0]["caller_id"].as_str());
        let callers: Vec<_> = callers.collect();
        assert_eq!(callers, [Some("bob"), Some("s-1"), Some("bob")], "{shown}");
    }
}

/// Where nobody is asked, all is as it was.
#[tokio::test(flavor = "multi_thread")]
async fn where_everything_is_open_everybody_sees_everything() {
    let service = tokio::task::spawn_blocking(crate::harness::service::shared)
        .await
        .unwrap();
    let api = Api::Http(service.http());
    let id = unique("open");
    let reply = place(&api, &id, "m-haneul", "nonsense").await.expect(200);
    let position = reply.header("Headwater-Position").to_owned();
    let headers = [
        ("Headwater-Min-Position", position.as_str()),
        ("Authorization", "nonsense"),
    ];
    api.document("order", &id, &headers).await.expect(200);
    let page = api
        .list("order", json!({"member": "m-haneul"}), &headers)
        .await
        .expect(200)
        .json();
    assert!(ids(&page).contains(&id));
    eventually("it is followed", || async {
        let mut live = Live::open(&service.http(), &format!("/views/order/{id}/live"), &[]).await;
        (live.next().await.id() == id).then_some(())
    })
    .await;
}
