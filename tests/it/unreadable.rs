//! What cannot be read: a command that meets it is refused with its position, it is shown, and once an
//! operator has excluded it commands and views go on without it.

use crate::harness::{
    api::{Api, NatsApi, Reply},
    nats::Nats,
    poll::eventually,
    service::{Service, headwater, run},
    unique,
};
use async_nats::jetstream;
use serde_json::{Value, json};
use std::process::Output;

/// A service with every role, on a NATS of its own, and both its surfaces.
struct World {
    nats: Nats,
    service: Service,
    apis: [Api; 2],
    client: async_nats::Client,
}

impl World {
    async fn start() -> Self {
        Self::on(Nats::start()).await
    }

    async fn on(nats: Nats) -> Self {
        let service = Service::serve(&nats.url(), &[]);
        let client = nats.client().await;
        let over_nats = NatsApi {
            client: client.clone(),
        };
        Self {
            apis: [Api::Http(service.http()), Api::Nats(over_nats)],
            nats,
            service,
            client,
        }
    }

    /// Another replica in the place of this one, with documents of its own to be folded from the log.
    async fn restart_afresh(self) -> Self {
        drop(self.service);
        Self::on(self.nats).await
    }

    async fn receive(&self, id: &str, quantity: u64) -> Reply {
        let body = json!({ "quantity": quantity });
        self.apis[0].command("stock", id, "receive", body).await
    }

    async fn reprice(&self, sku: &str, price: u64, headers: &[(&str, &str)]) -> Value {
        let body = json!({ "price": price });
        let api = &self.apis[0];
        let repricing = api.command_with("product", sku, "reprice", body, headers);
        repricing.await.expect(200).json()
    }

    /// Puts a message on an aggregate's subject, as no replica does; returns its position.
    async fn put(&self, aggregate: &str, id: &str, body: String) -> u64 {
        let jetstream = jetstream::new(self.client.clone());
        let subject = format!("evt.{aggregate}.{id}");
        let published = jetstream.publish(subject, body.into()).await.unwrap();
        published.await.unwrap().sequence
    }

    /// The last commit of an aggregate.
    async fn last(&self, aggregate: &str, id: &str) -> String {
        let stream = jetstream::new(self.client.clone());
        let stream = stream.get_stream("EVENTS").await.unwrap();
        let subject = format!("evt.{aggregate}.{id}");
        let last = stream.get_last_raw_message_by_subject(&subject).await;
        String::from_utf8(last.unwrap().payload.to_vec()).unwrap()
    }

    fn events(&self, arguments: &[&str]) -> Output {
        let mut command = headwater(["events"]);
        command.args(arguments).args(["--nats", &self.nats.url()]);
        run(&mut command)
    }

    /// Does something with the views that must succeed.
    #[track_caller]
    fn operate(&self, arguments: &[&str]) -> String {
        let mut command = headwater(arguments);
        text(&run(command.args(["--nats", &self.nats.url()])), 0)
    }

    fn exclude(&self, aggregate: &str, id: &str, position: u64, more: &[&str]) -> Output {
        let position = position.to_string();
        let fixed = ["exclude", aggregate, id, &position, "--by", "ada"];
        self.events(&[&fixed[..], more].concat())
    }

    /// The commits that the history shows.
    fn shown(&self, aggregate: &str, id: &str) -> Vec<Value> {
        let shown = text(&self.events(&["show", aggregate, id, "--json"]), 0);
        let pages = shown.lines().map(serde_json::from_str::<Value>);
        let commits = pages.map(|page| page.unwrap()["commits"].take());
        commits
            .flat_map(|commits| commits.as_array().unwrap().clone())
            .collect()
    }

    /// Waits until the view shows a product under this name, with nothing of it parked.
    async fn named(&self, sku: &str, name: &str) {
        eventually("the view shows it", || async {
            let reply = self.apis[0].document("product", sku, &[]).await;
            let shown = reply.status == 200
                && reply.json()["document"]["name"] == name
                && reply.header("Headwater-Parked").is_empty();
            shown.then_some(())
        })
        .await;
    }
}

#[track_caller]
fn text(output: &Output, code: i32) -> String {
    let shown = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(code), "{shown}");
    shown
}

fn named(name: &str) -> Value {
    json!({ "name": name })
}

async fn register(world: &World, sku: &str) {
    let body = json!({"name": "before", "price": 1, "category": "test"});
    let registering = world.apis[0].command("product", sku, "register", body);
    registering.await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_is_refused_with_its_position_shown_and_excluded_for_good() {
    let world = World::start().await;
    let (sku, well) = (unique("junk"), unique("well"));
    register(&world, &sku).await;
    register(&world, &well).await;
    let position = world
        .put("product", &sku, "no \u{1b}[31m commit".to_owned())
        .await;
    for api in &world.apis {
        let renaming = api.command("product", &sku, "rename", named("after"));
        let problem = renaming.await.problem(503, "unreadable");
        assert_eq!(problem["position"], position, "{problem}");
        let renaming = api.command("product", &well, "rename", named("well"));
        renaming.await.expect(200);
    }
    eventually("the view has parked it", || async {
        let reply = world.apis[0].document("product", &sku, &[]).await;
        (reply.header("Headwater-Parked") == "true").then_some(())
    })
    .await;
    let shown = text(&world.events(&["show", "product", &sku]), 0);
    assert!(
        shown.contains("product.registered.v1") && shown.contains("cannot be read"),
        "{shown}"
    );
    assert!(!shown.contains('\u{1b}'), "{shown:?}");

    let excluded = world.exclude("product", &sku, position, &["--reason", "a stray reply"]);
    text(&excluded, 0);
    let shown = text(&world.events(&["show", "product", &sku]), 0);
    assert!(
        shown.contains("excluded by ada") && shown.contains("a stray reply"),
        "{shown}"
    );
    let outcome = eventually("the command side leaves it out", || async {
        let renaming = world.apis[1].command("product", &sku, "rename", named("after"));
        let reply = renaming.await;
        (reply.status == 200).then(|| reply.json())
    })
    .await;
    assert_eq!(outcome["version"], 2, "{outcome}");
    world.named(&sku, "after").await;
    let parked = world.operate(&["parked", "list"]);
    assert!(parked.contains("nothing is parked"), "{parked}");
    world.operate(&["views", "rebuild", "product"]);
    world.named(&sku, "after").await;
    world.operate(&["views", "verify"]);

    // By a replica that comes later, too.
    let world = world.restart_afresh().await;
    world.named(&sku, "after").await;
    let renaming = world.apis[0].command("product", &sku, "rename", named("later"));
    assert_eq!(renaming.await.expect(200).json()["version"], 3);
    world.named(&sku, "later").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_type_that_nobody_knows_is_excluded_with_its_version() {
    let world = World::start().await;
    let sku = unique("newer");
    register(&world, &sku).await;
    let newer = world.last("product", &sku).await;
    let newer = newer.replace("product.registered.v1", "product.tagged.v1");
    let newer = newer.replace(r#""id":"1""#, r#""id":"2""#);
    let position = world.put("product", &sku, newer).await;
    let renaming = world.apis[0].command("product", &sku, "rename", named("after"));
    let problem = renaming.await.problem(503, "unreadable");
    assert_eq!(problem["position"], position, "{problem}");
    let shown = world.shown("product", &sku);
    assert_eq!(shown[1]["events"][0]["type"], "product.tagged.v1");
    assert!(shown[1]["fault"].as_str().unwrap().contains("tagged"));

    text(
        &world.exclude("product", &sku, position, &["--reason", "rolled back"]),
        0,
    );
    let outcome = eventually("the command side leaves it out", || async {
        let renaming = world.apis[0].command("product", &sku, "rename", named("after"));
        let reply = renaming.await;
        (reply.status == 200).then(|| reply.json())
    })
    .await;
    // Whoever can read it must not find its version twice.
    assert_eq!(outcome["version"], 3, "{outcome}");
    world.named(&sku, "after").await;
    let shown = world.shown("product", &sku);
    assert_eq!(shown[1]["excluded"]["reason"], "rolled back");
    assert!(shown.last().unwrap()["fault"].is_null(), "{shown:?}");
    let world = world.restart_afresh().await;
    world.named(&sku, "after").await;
    let renaming = world.apis[0].command("product", &sku, "rename", named("later"));
    assert_eq!(renaming.await.expect(200).json()["version"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_in_the_versions_is_never_folded_over() {
    let world = World::start().await;
    let id = format!("gangnam_{}", unique("gap"));
    world.receive(&id, 10).await.expect(200);
    let commit = world.last("stock", &id).await;
    let gap = commit.replace(r#""id":"1""#, r#""id":"7""#);
    let position = world.put("stock", &id, gap).await;
    for _ in 0..2 {
        let problem = world.receive(&id, 1).await.problem(503, "unreadable");
        assert_eq!(problem["position"], position, "{problem}");
    }
    let shown = world.shown("stock", &id);
    let fault = shown[1]["fault"].as_str().unwrap();
    assert!(fault.contains("7 does not follow on 1"), "{fault}");
    text(
        &world.exclude("stock", &id, position, &["--reason", "not ours"]),
        0,
    );
    let outcome = eventually("the command side leaves it out", || async {
        let reply = world.receive(&id, 1).await;
        (reply.status == 200).then(|| reply.json())
    })
    .await;
    assert_eq!(outcome["version"], 8, "{outcome}");
    let last: Value = serde_json::from_str(&world.last("stock", &id).await).unwrap();
    assert_eq!(last[0]["data"]["available"], 11, "{last}");
}

/// Nobody goes on from what is excluded: neither an actor that has folded it, nor a snapshot that has it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_folded_before_it_was_excluded_is_folded_again_without_it() {
    let world = World::start().await;
    let [live, snapshot] = [unique("live"), unique("snapshot")];
    for sku in [&live, &snapshot] {
        register(&world, sku).await;
        let wrong = world.reprice(sku, 500, &[]).await;
        // An outcome that no event has is written as a snapshot.
        let nothing = world.reprice(sku, 500, &[("Idempotency-Key", "k")]).await;
        assert_eq!(nothing["events"], json!([]), "{nothing}");
        let position = wrong["position"].as_u64().unwrap();
        let reason = ["--reason", "a wrong price"];
        let refused = text(&world.exclude("product", sku, position, &reason), 1);
        assert!(refused.contains("can be read; --force"), "{refused}");
        let forced = [&reason[..], &["--force"]].concat();
        text(&world.exclude("product", sku, position, &forced), 0);
    }
    let again = world.reprice(&live, 500, &[]).await;
    assert_eq!(again["events"][0]["version"], 3, "{again}");
    let world = world.restart_afresh().await;
    let again = world.reprice(&snapshot, 500, &[]).await;
    assert_eq!(again["events"][0]["version"], 3, "{again}");
    let nothing = world.reprice(&live, 500, &[]).await;
    assert_eq!(nothing["version"], 3, "{nothing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_an_excluded_commit_took_is_free() {
    let world = World::start().await;
    let [first, second] = [unique("first"), unique("second")];
    let body = json!({"name": "one", "price": 1, "category": "test", "barcode": "8801234567893"});
    let register = async |sku: &str| {
        let api = &world.apis[0];
        api.command("product", sku, "register", body.clone()).await
    };
    let taken = register(&first).await.expect(200).json();
    register(&second).await.problem(409, "claim_taken");
    let position = taken["position"].as_u64().unwrap();
    let forced = ["--reason", "never happened", "--force"];
    text(&world.exclude("product", &first, position, &forced), 0);
    register(&second).await.expect(200);
    register(&first).await.problem(409, "claim_taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_uses_say_what_is_wrong() {
    let world = World::start().await;
    let (sku, other) = (unique("wrong"), unique("other"));
    register(&world, &sku).await;
    register(&world, &other).await;
    let position = world.put("product", &sku, "junk".to_owned()).await;
    let reason = ["--reason", "junk"];
    let wrong = |id: &str, position: u64, more: &[&str], code: i32, words: &str| {
        let said = text(&world.exclude("product", id, position, more), code);
        assert!(said.contains(words), "{said}");
    };
    wrong(&sku, position, &[], 2, "--reason");
    wrong(&sku, position, &["--reason", "  "], 2, "--reason");
    wrong(&sku, position, &["--reason", &"x".repeat(501)], 2, "500");
    wrong("a.b", position, &reason, 2, "an id is");
    wrong(&sku, 1_000_000, &reason, 1, "nothing at position");
    wrong(&other, position, &reason, 1, "is no commit of");
    wrong(&sku, position, &reason, 0, "is excluded");
    wrong(&sku, position, &reason, 1, "excluded already, by ada");
    let said = text(&world.events(&["show", "product", "nobody"]), 1);
    assert!(said.contains("no commits"), "{said}");
    let said = text(&world.events(&["show", "Product", &sku]), 2);
    assert!(said.contains("not the name"), "{said}");
    let said = text(&world.events(&["show", "product", &sku, "--limit", "1"]), 0);
    assert!(said.contains("there is more: --after"), "{said}");
    let after = (position - 1).to_string();
    let said = text(
        &world.events(&["show", "product", &sku, "--after", &after]),
        0,
    );
    assert!(said.starts_with(&format!("position {position}")), "{said}");
    // Nothing else has changed.
    assert_eq!(world.shown("product", &other).len(), 1);
}
