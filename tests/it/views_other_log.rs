//! Views whose log another one takes the place of, or whose documents are lost, damaged or of an older
//! backup: what is shown is what a fold of the log makes, or nothing.

mod at_once;

use crate::harness::{
    api::{Api, Http, Reply},
    backup::{Backup, Kept, delete, last_position},
    metrics::Metrics,
    nats::Nats,
    poll::{eventually, eventually_within},
    replica::Replica,
    service::{headwater, run},
    surreal::Surreal,
};
use async_nats::{Client, jetstream};
use serde_json::{Value, json};
use std::{
    process::Output,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// So many products are only in the log that is lost.
const LOST: u64 = 10;
/// How long noticing and filling anew may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// How the log becomes another one.
#[derive(Debug, Clone, Copy)]
enum Becomes {
    /// The machine has lost power: what the server finds is older than what it had acknowledged.
    Cut,
    /// An operator has deleted the stream and restored an older backup, while the server runs.
    Restored,
    /// An operator has deleted the stream, and it was made anew.
    Anew,
}

/// How long the other log is beside the lost one.
#[derive(Debug, Clone, Copy)]
enum Length {
    Shorter,
    AsLong,
    Longer,
}

/// Replicas over one log, with documents of their own or in one store.
struct World {
    nats: Nats,
    client: Client,
    surreal: Option<Surreal>,
    replicas: Vec<Replica>,
}

impl World {
    async fn start(is_shared: bool) -> Self {
        let nats = Nats::start();
        let surreal = is_shared.then(Surreal::start);
        let replicas = (0..if is_shared { 2 } else { 1 })
            .map(|_| start_replica(&nats, surreal.as_ref()))
            .collect();
        Self {
            client: nats.client().await,
            nats,
            surreal,
            replicas,
        }
    }

    fn surfaces(&mut self) -> Vec<Http> {
        let replicas = self.replicas.iter_mut();
        replicas.map(|replica| replica.service().http()).collect()
    }

    /// Gives a command about a product to the first replica; returns its position.
    async fn product(&mut self, id: &str, command: &str, body: Value) -> String {
        let api = Api::Http(self.replicas[0].service().http());
        let given = api.command("product", id, command, body).await;
        given.expect(200).header("Headwater-Position").to_owned()
    }

    async fn register(&mut self, id: &str) -> String {
        self.product(id, "register", registered(id)).await
    }

    async fn append(&self, subject: &str, body: Vec<u8>) {
        let jetstream = jetstream::new(self.client.clone());
        let sent = jetstream.publish(subject.to_owned(), body.into()).await;
        sent.unwrap().await.unwrap();
    }

    /// Writes a commit as another replica, at another time, would have.
    async fn other(&self, id: &str) {
        let commit = json!([{
            "specversion": "1.0", "source": format!("/product/{id}"), "id": "1",
            "type": "product.registered.v1", "time": "2026-11-27T09:00:00.123456Z",
            "commandid": format!("{id}.raw"), "data": registered(id),
        }]);
        let subject = format!("evt.product.{id}");
        self.append(&subject, commit.to_string().into_bytes()).await;
    }

    /// Has the other log take this one's place, with others' products up to this position.
    async fn replace(&mut self, kept: Kept, to: u64) {
        kept.put_back(&mut self.nats, &self.client).await;
        if matches!(kept, Kept::Nothing) {
            self.append("log.filler", b"".to_vec()).await;
            self.other("kept").await;
        }
        let mut number = 0;
        while last_position(&self.client, "EVENTS").await < to {
            number += 1;
            self.other(&format!("other-{number}")).await;
        }
    }
}

fn start_replica(nats: &Nats, surreal: Option<&Surreal>) -> Replica {
    match surreal {
        Some(surreal) => {
            let url = surreal.url();
            let user = ["--surreal-user", "root", "--surreal-password", "root"];
            Replica::of(&nats.url(), &[&["--surreal", &url], &user[..]].concat())
        }
        None => Replica::of(&nats.url(), &[]),
    }
}

fn registered(name: &str) -> Value {
    json!({"name": name, "category": "fruit", "price": 5})
}

async fn document(http: &Http, id: &str, headers: &[(&str, &str)]) -> Reply {
    http.get(&format!("/views/product/{id}"), headers).await
}

/// What a document says now; `None` while the view is not answered from.
async fn price(http: &Http, id: &str) -> Option<Option<i64>> {
    let reply = document(http, id, &[]).await;
    match reply.status {
        200 => Some(reply.json()["document"]["price"].as_i64()),
        404 => Some(None),
        503 => None,
        other => panic!("{other}: {reply:?}"),
    }
}

async fn operate(nats: &Nats, arguments: &[&str]) -> Output {
    let mut command = headwater(arguments);
    command.args(["--nats", &nats.url()]);
    let output = tokio::task::spawn_blocking(move || run(&mut command));
    output.await.unwrap()
}

/// Each view is what a fold of the log makes.
pub(crate) async fn verified(nats: &Nats) {
    let verified = eventually_within(LONG, "every view can be verified", || async {
        let verified = operate(nats, &["views", "verify"]).await;
        (verified.status.code() != Some(1) || !verified.stdout.is_empty()).then_some(verified)
    })
    .await;
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
}

/// A copy of a document and a page, of before.
struct Before {
    position: String,
    tag: String,
    cursor: String,
}

impl Before {
    async fn of(http: &Http, position: String) -> Self {
        let kept = document(http, "kept", &[]).await.expect(200);
        let list = http.get("/views/product?limit=2", &[]).await.expect(200);
        Self {
            position,
            tag: kept.header("ETag").to_owned(),
            cursor: list.json()["next"].as_str().unwrap().to_owned(),
        }
    }
}

async fn becomes_another(becomes: Becomes, length: Length, is_shared: bool, goes_down: bool) {
    println!("{becomes:?}, {length:?}, shared: {is_shared}, down: {goes_down}");
    let mut world = World::start(is_shared).await;
    world.register("kept").await;
    let kept = match becomes {
        Becomes::Cut => Kept::Files(world.nats.copy_stream("EVENTS")),
        Becomes::Restored => Kept::Backup(Backup::take(&world.client, "EVENTS").await),
        Becomes::Anew => Kept::Nothing,
    };
    for number in 0..LOST {
        world.register(&format!("lost-{number}")).await;
    }
    let position = world.product("kept", "reprice", json!({"price": 99})).await;
    let surfaces = world.surfaces();
    for http in &surfaces {
        let at = [
            ("Headwater-Min-Position", &*position),
            ("Headwater-Max-Wait-Ms", "30000"),
        ];
        let shown = document(http, "kept", &at).await.expect(200);
        assert_eq!(shown.json()["document"]["price"], 99);
        assert_eq!(price(http, "lost-1").await, Some(Some(5)));
    }
    let before = Before::of(&surfaces[0], position).await;
    let end = last_position(&world.client, "EVENTS").await;
    if goes_down {
        world.replicas.iter_mut().for_each(Replica::kill);
    }
    let to = match length {
        Length::Shorter => end - 5,
        Length::AsLong => end,
        Length::Longer => end + 5,
    };
    world.replace(kept, to).await;
    if goes_down {
        world.replicas.iter_mut().for_each(Replica::start_again);
    }
    for http in &world.surfaces() {
        is_of_the_other_log(http, &before, goes_down).await;
        if let Length::Shorter = length {
            let soon = [
                ("Headwater-Min-Position", &*before.position),
                ("Headwater-Max-Wait-Ms", "100"),
            ];
            let reply = document(http, "kept", &soon).await;
            reply.problem(504, "not_yet_applied");
        }
    }
    verified(&world.nats).await;
    let back = operate(&world.nats, &["views", "rollback", "product"]).await;
    assert_eq!(back.status.code(), Some(1), "{back:?}");
    let mut begun = 0.0;
    for http in &world.surfaces() {
        let metrics = Metrics::of(http).await;
        begun += metrics.sum("headwater_view_other_log_total", "view=\"product\"");
    }
    assert_eq!(begun, 1.0);
    // It goes on, for everybody.
    let position = world.register("new").await;
    for http in &world.surfaces() {
        let at = [
            ("Headwater-Min-Position", &*position),
            ("Headwater-Max-Wait-Ms", "30000"),
        ];
        document(http, "new", &at).await.expect(200);
    }
}

/// Sooner or later all is of the other log, and once anything is, nothing is of the lost one any more.
async fn is_of_the_other_log(http: &Http, before: &Before, at_once: bool) {
    let is_other = AtomicBool::new(at_once);
    eventually_within(LONG, "all is of the other log", || async {
        let was_other = is_other.load(Ordering::Relaxed);
        let kept = price(http, "kept").await;
        let lost = price(http, "lost-1").await;
        let other = price(http, "other-1").await;
        let of_the_lost = kept == Some(Some(99)) || lost == Some(Some(5));
        assert!(!(was_other && of_the_lost), "{kept:?}, {lost:?}");
        if kept == Some(Some(5)) || lost == Some(None) || other == Some(Some(5)) {
            is_other.store(true, Ordering::Relaxed);
        }
        ((kept, lost, other) == (Some(Some(5)), Some(None), Some(Some(5)))).then_some(())
    })
    .await;
    let known = [("If-None-Match", before.tag.as_str())];
    document(http, "kept", &known).await.expect(200);
    let next = format!("/views/product?limit=2&cursor={}", before.cursor);
    let next = http.get(&next, &[]).await;
    assert_eq!(next.problem(400, "malformed")["field"], "cursor");
}

/// One test for each of these.
macro_rules! other_logs {
    ($($name:ident: $becomes:ident, $length:ident, $shared:literal, $down:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            becomes_another(Becomes::$becomes, Length::$length, $shared, $down).await;
        }
    )*};
}

other_logs! {
    a_log_that_is_cut_shorter: Cut, Shorter, false, false;
    a_log_that_is_cut_and_as_long_again: Cut, AsLong, false, true;
    a_log_that_is_cut_and_longer_again: Cut, Longer, false, true;
    a_log_that_is_restored_shorter: Restored, Shorter, false, true;
    a_log_that_is_restored_and_longer_again: Restored, Longer, false, false;
    a_log_that_is_made_anew_and_as_long: Anew, AsLong, false, false;
    a_log_that_is_cut_under_a_shared_store: Cut, Longer, true, false;
    a_log_that_is_restored_under_a_shared_store: Restored, AsLong, true, false;
    a_log_that_is_made_anew_under_a_shared_store: Anew, Longer, true, true;
    a_log_that_is_cut_shorter_under_a_shared_store: Cut, Shorter, true, true;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_away_for_a_while_is_no_other_log() {
    let mut world = World::start(true).await;
    let position = world.register("kept").await;
    let at = [
        ("Headwater-Min-Position", &*position),
        ("Headwater-Max-Wait-Ms", "30000"),
    ];
    for http in &world.surfaces() {
        document(http, "kept", &at).await.expect(200);
    }
    world.nats.kill();
    world.nats.start_again();
    let backup = eventually("the log is back", || async {
        let jetstream = jetstream::new(world.client.clone());
        jetstream.get_stream("EVENTS").await.ok()?;
        Some(Backup::take(&world.client, "EVENTS").await)
    })
    .await;
    delete(&world.client, "EVENTS").await;
    for http in &world.surfaces() {
        eventually("it is said to be away", || async {
            let ready = http.get("/readyz", &[]).await;
            (ready.status == 503).then_some(())
        })
        .await;
        document(http, "kept", &[]).await.expect(200);
    }
    backup.restore(&world.client).await;
    let api = Api::Http(world.replicas[0].service().http());
    let position = eventually("commands are accepted", || async {
        let given = api.command("product", "more", "register", registered("more"));
        let given = given.await;
        (given.status == 200).then(|| given.header("Headwater-Position").to_owned())
    })
    .await;
    let at = [
        ("Headwater-Min-Position", &*position),
        ("Headwater-Max-Wait-Ms", "30000"),
    ];
    for http in &world.surfaces() {
        eventually_within(LONG, "the view goes on", || async {
            (document(http, "more", &at).await.status == 200).then_some(())
        })
        .await;
    }
    let status = operate(&world.nats, &["views", "status", "product"]).await;
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("product  v1 live"), "{status}");
}

/// A product is shown by every replica that has this position.
async fn shown(surfaces: &[Http], id: &str, position: &str) {
    let at = [
        ("Headwater-Min-Position", position),
        ("Headwater-Max-Wait-Ms", "5000"),
    ];
    for http in surfaces {
        eventually_within(LONG, "the product is shown", || async {
            (document(http, id, &at).await.status == 200).then_some(())
        })
        .await;
    }
}

/// Each replica answers what the position made, at once or when it has noticed that the store is another.
async fn are_up_to_date(surfaces: &[Http], position: &str, ids: &[&str], at_once: bool) {
    for http in surfaces {
        for id in ids {
            eventually_within(LONG, "all is there again", || async {
                let at = [
                    ("Headwater-Min-Position", position),
                    ("Headwater-Max-Wait-Ms", "5000"),
                ];
                let reply = document(http, id, &at).await;
                assert!(!at_once || reply.status != 404, "{id}: {reply:?}");
                (reply.status == 200).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_store_that_comes_back_empty_is_filled_anew_without_a_restart() {
    let mut world = World::start(true).await;
    let surfaces = world.surfaces();
    for action in ["rebuild", "rebuild"] {
        let done = operate(&world.nats, &["views", action, "product"]).await;
        assert!(done.status.success(), "{done:?}");
    }
    world.register("a").await;
    let position = world.register("b").await;
    shown(&surfaces, "b", &position).await;
    let server = world.surreal.as_mut().unwrap();
    server.kill();
    server.wipe();
    server.restart();
    are_up_to_date(&surfaces, &position, &["a", "b"], true).await;
    let position = world.register("c").await;
    are_up_to_date(&surfaces, &position, &["a", "b", "c"], true).await;
    verified(&world.nats).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_store_that_is_restored_from_a_backup_comes_after_without_a_restart() {
    let mut world = World::start(true).await;
    let surfaces = world.surfaces();
    let position = world.register("a").await;
    shown(&surfaces, "a", &position).await;
    let server = world.surreal.as_mut().unwrap();
    server.kill();
    let copy = server.copy();
    server.restart();
    for number in 0..LOST {
        let position = world.register(&format!("later-{number}")).await;
        shown(&surfaces, &format!("later-{number}"), &position).await;
    }
    let position = world.product("a", "reprice", json!({"price": 7})).await;
    shown(&surfaces, "a", &position).await;
    let server = world.surreal.as_mut().unwrap();
    server.kill();
    server.put_back(&copy);
    server.restart();
    let later = ["later-0", "later-1", "later-2"];
    are_up_to_date(&surfaces, &position, &later, true).await;
    are_up_to_date(&surfaces, &position, &["a"], true).await;
    for http in &surfaces {
        eventually_within(LONG, "the price is that of the log", || async {
            (price(http, "a").await == Some(Some(7))).then_some(())
        })
        .await;
    }
    verified(&world.nats).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_ones_own_that_cannot_be_opened_are_set_aside_and_folded_again() {
    let mut world = World::start(false).await;
    world.register("a").await;
    let position = world.register("b").await;
    let surfaces = world.surfaces();
    shown(&surfaces, "b", &position).await;
    let replica = &mut world.replicas[0];
    replica.kill();
    let views = replica.data().join("views");
    let damaged = damage(&views);
    assert!(damaged > 0);
    replica.start_again();
    let surfaces = world.surfaces();
    are_up_to_date(&surfaces, &position, &["a", "b"], true).await;
    let aside = world.replicas[0].data().join("views.set-aside");
    assert!(aside.exists());
    let printed = world.replicas[0].service().transcript();
    assert!(printed.contains("set aside"), "{printed}");
    verified(&world.nats).await;
}

/// Writes over every file; returns how many there are.
fn damage(folder: &std::path::Path) -> usize {
    let mut damaged = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damaged += damage(&path);
        } else {
            std::fs::write(&path, "damaged ".repeat(2_000)).unwrap();
            damaged += 1;
        }
    }
    damaged
}

/// What `docs/restoring-a-backup.md` says, done.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_log_and_store_is_restored_and_everything_is_of_it() {
    let mut world = World::start(true).await;
    world.register("kept").await;
    // The store first, the log after it: the log then has all that the store is of.
    let copy = {
        let surfaces = world.surfaces();
        let position = world.register("both").await;
        shown(&surfaces, "both", &position).await;
        let server = world.surreal.as_mut().unwrap();
        server.kill();
        let copy = server.copy();
        server.restart();
        copy
    };
    let position = world.register("log-only").await;
    let surfaces = world.surfaces();
    shown(&surfaces, "log-only", &position).await;
    let backup = Backup::take(&world.client, "EVENTS").await;
    for number in 0..LOST {
        world.register(&format!("lost-{number}")).await;
    }
    let position = world.product("kept", "reprice", json!({"price": 99})).await;
    shown(&surfaces, "kept", &position).await;
    let before = Before::of(&surfaces[0], position).await;
    // A disaster; everything is stopped.
    world.replicas.iter_mut().for_each(Replica::kill);
    let server = world.surreal.as_mut().unwrap();
    server.kill();
    server.put_back(&copy);
    server.restart();
    delete(&world.client, "EVENTS").await;
    backup.restore(&world.client).await;
    world.replicas.iter_mut().for_each(Replica::start_again);
    let end = last_position(&world.client, "EVENTS").await;
    let surfaces = world.surfaces();
    are_up_to_date(
        &surfaces,
        &format!("product@{end}"),
        &["kept", "both", "log-only"],
        true,
    )
    .await;
    for http in &surfaces {
        assert_eq!(price(http, "lost-1").await, Some(None));
        assert_eq!(price(http, "kept").await, Some(Some(5)));
        let known = [("If-None-Match", before.tag.as_str())];
        document(http, "kept", &known).await.expect(200);
    }
    verified(&world.nats).await;
    // Decided on the log that there is, and not on snapshots of the lost one.
    let position = world.register("lost-1").await;
    shown(&surfaces, "lost-1", &position).await;
}
