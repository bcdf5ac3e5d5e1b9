//! A log that another one takes the place of: cut, restored from a backup, or deleted and made anew,
//! shorter, as long or longer, under replicas that run and while they are down. Every decision is as if
//! what is remembered of the other log had never been, and no outcome of it is answered.

mod answers;
mod chaos;

use crate::harness::{
    api::{Api, NatsApi, Reply},
    backup::{Backup, Kept, delete, last_position},
    log::Log,
    metrics::Metrics,
    nats::Nats,
    poll::eventually,
    replica::Replica,
};
use async_nats::{Client, jetstream};
use serde_json::{Value, json};

/// How the log becomes another one.
#[derive(Debug, Clone, Copy)]
enum Becomes {
    /// The machine has lost power: what the server finds is older than what it had acknowledged.
    Cut,
    /// An operator has deleted the stream and restored an older backup, while the server runs.
    Restored,
    /// An operator has deleted the stream, and `headwater topology apply` has made it anew.
    Anew,
}

/// What the replica remembers meanwhile.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Remembers {
    /// Its actors live.
    InMemory,
    /// Its actors are passivated; it has snapshots.
    InSnapshots,
    /// It is down; there are snapshots.
    NothingButSnapshots,
}

/// How long the other log is beside the lost one.
#[derive(Debug, Clone, Copy)]
enum Length {
    Shorter,
    /// To the position and to the version of each aggregate.
    AsLong,
    Longer,
}

/// So many orders are reserved in the lost log.
const LOST: u64 = 25;

/// What a client asks first, each of a stock of its own: later it would be another matter, since
/// the log is looked at by then.
#[derive(Debug, Clone, Copy)]
enum Asks {
    ShipALostOrder,
    ForALostOutcome,
    ForALostOutcomeWithoutEvents,
    ReserveWhatIsReserved,
    ShipWhatIsReserved,
    AtTheVersion,
}

const ASKS: [Asks; 6] = [
    Asks::ShipALostOrder,
    Asks::ForALostOutcome,
    Asks::ForALostOutcomeWithoutEvents,
    Asks::ReserveWhatIsReserved,
    Asks::ShipWhatIsReserved,
    Asks::AtTheVersion,
];

impl Asks {
    fn stock(self) -> String {
        format!("b_{}", self as u8)
    }
}

struct World {
    nats: Nats,
    replica: Replica,
    api: NatsApi,
    client: Client,
}

impl World {
    async fn start(idle_seconds: &str) -> Self {
        let nats = Nats::start();
        let replica = Replica::start(&nats.url(), &["--idle-seconds", idle_seconds]);
        let api = crate::harness::writers::client(&[nats.url()]).await;
        let client = api.client.clone();
        Self {
            nats,
            replica,
            api,
            client,
        }
    }

    async fn give(&self, id: &str, command: &str, body: Value, headers: &[(&str, &str)]) -> Reply {
        let subject = format!("cmd.stock.{id}.{command}");
        let body = body.to_string().into_bytes();
        let asked = self.api.request(subject, body, headers).await;
        asked.expect("the replica answers")
    }

    async fn accept(&self, id: &str, command: &str, body: Value, key: &str) -> Value {
        let key = key_of(id, key);
        let headers = [("Idempotency-Key", key.as_str())];
        let reply = self.give(id, command, body, &headers).await;
        reply.expect(200).json()
    }

    /// Receives goods into every stock: this is not lost.
    async fn begin(&self) {
        for asks in ASKS {
            let receive = json!({"quantity": 100});
            self.accept(&asks.stock(), "receive", receive, "first")
                .await;
        }
    }

    /// What is lost: reservations, and a command that changes nothing.
    async fn lose(&self) {
        for number in 1..=LOST {
            let order = format!("lost-{number}");
            for asks in ASKS {
                let body = json!({"order": order, "quantity": 1});
                self.accept(&asks.stock(), "reserve", body, &order).await;
            }
        }
        for asks in ASKS {
            let body = json!({"order": "lost-1", "quantity": 1});
            let id = asks.stock();
            let answer = self.accept(&id, "reserve", body, "lost-nothing").await;
            assert_eq!(answer["events"], json!([]));
        }
    }

    async fn passivated(&mut self) {
        let http = self.replica.service().http();
        eventually("no actor lives", || async {
            let metrics = Metrics::of(&http).await;
            (metrics.sum("headwater_live_actors", "") == 0.0).then_some(())
        })
        .await;
        let jetstream = jetstream::new(self.client.clone());
        let bucket = jetstream.get_stream("KV_snapshots").await.unwrap();
        assert_eq!(bucket.cached_info().state.messages, ASKS.len() as u64);
    }

    /// Does what makes the log another one, with so many further messages at its end.
    async fn replace(&mut self, kept: Kept, to: u64) {
        kept.put_back(&mut self.nats, &self.client).await;
        if matches!(kept, Kept::Nothing) {
            // Where the other log had the salt of its unique keys.
            self.append("log.filler", b"".to_vec()).await;
            for asks in ASKS {
                let data = json!({"quantity": 100, "available": 100});
                self.event(&asks.stock(), 1, "received", data).await;
            }
        }
        let mut version = 1;
        while last_position(&self.client, "EVENTS").await < to {
            version += 1;
            for asks in ASKS {
                let order = format!("other-{}", version - 1);
                let data = json!({"order": order, "quantity": 1, "available": 101 - version});
                self.event(&asks.stock(), version, "reserved", data).await;
            }
        }
    }

    /// Writes a commit as another replica, at another time, would have.
    async fn event(&self, id: &str, version: u64, event: &str, data: Value) {
        let commit = json!([{
            "specversion": "1.0", "source": format!("/stock/{id}"), "id": version.to_string(),
            "type": format!("stock.{event}.v1"), "time": "2026-11-27T09:00:00.123456Z",
            "commandid": format!("{id}.raw-{version}"), "data": data,
        }]);
        let subject = format!("evt.stock.{id}");
        self.append(&subject, commit.to_string().into_bytes()).await;
    }

    async fn append(&self, subject: &str, body: Vec<u8>) {
        let jetstream = jetstream::new(self.client.clone());
        let sent = jetstream.publish(subject.to_owned(), body.into()).await;
        sent.unwrap().await.unwrap();
    }
}

/// A key that no other stock's commands have.
fn key_of(id: &str, key: &str) -> String {
    format!("{id}.{key}")
}

async fn becomes_another(becomes: Becomes, remembers: Remembers, length: Length) {
    println!("{becomes:?}, {remembers:?}, {length:?}");
    let idle = match remembers {
        Remembers::InMemory => "600",
        _ => "1",
    };
    let mut world = World::start(idle).await;
    world.begin().await;
    let kept = match becomes {
        Becomes::Cut => Kept::Files(world.nats.copy_stream("EVENTS")),
        Becomes::Restored => Kept::Backup(Backup::take(&world.client, "EVENTS").await),
        Becomes::Anew => Kept::Nothing,
    };
    world.lose().await;
    let end = last_position(&world.client, "EVENTS").await;
    if remembers != Remembers::InMemory {
        world.passivated().await;
    }
    if remembers == Remembers::NothingButSnapshots {
        world.replica.kill();
    }
    let to = match length {
        Length::Shorter => end - ASKS.len() as u64 * (LOST - 5),
        Length::AsLong => end,
        Length::Longer => end + ASKS.len() as u64 * 5,
    };
    world.replace(kept, to).await;
    assert_eq!(last_position(&world.client, "EVENTS").await, to);
    if remembers == Remembers::NothingButSnapshots {
        world.replica.start_again();
    }
    let log = Log::read(&world.client).await;
    let versions = ASKS.map(|asks| log.aggregates[&format!("stock.{}", asks.stock())].len());
    eventually("the replica is connected again", || async {
        let asked = world.api.request(
            "cmd.stock.b_none.ship".to_owned(),
            br#"{"order":"o"}"#.to_vec(),
            &[],
        );
        (asked.await.ok()?.status == 404).then_some(())
    })
    .await;
    for (asks, version) in ASKS.into_iter().zip(versions) {
        check(&world, asks, version as u64).await;
    }
    Log::read(&world.client).await.assert_stocks();
}

async fn check(world: &World, asks: Asks, version: u64) {
    let id = asks.stock();
    let reserve = |order: &str| json!({"order": order, "quantity": 1});
    let other = "other-3";
    match asks {
        Asks::ShipALostOrder => {
            let reply = world.give(&id, "ship", json!({"order": "lost-3"}), &[]);
            reply.await.problem(409, "not_reserved");
        }
        Asks::ForALostOutcome => {
            let answer = world.accept(&id, "reserve", reserve("lost-5"), "lost-5");
            let answer = answer.await;
            assert_eq!(answer["replayed"], false, "{answer}");
            assert_eq!(answer["version"], version + 1, "{answer}");
        }
        Asks::ForALostOutcomeWithoutEvents => {
            let answer = world.accept(&id, "reserve", reserve("lost-1"), "lost-nothing");
            let answer = answer.await;
            assert_eq!(answer["replayed"], false, "{answer}");
            assert_eq!(answer["version"], version + 1, "{answer}");
        }
        Asks::ReserveWhatIsReserved => {
            let reply = world.give(&id, "reserve", reserve(other), &[]).await;
            let answer = reply.expect(200).json();
            assert_eq!(answer["events"], json!([]), "{answer}");
            assert_eq!(answer["version"], version, "{answer}");
        }
        Asks::ShipWhatIsReserved => {
            let reply = world.give(&id, "ship", json!({"order": other}), &[]).await;
            let answer = reply.expect(200).json();
            assert_eq!(answer["version"], version + 1, "{answer}");
        }
        Asks::AtTheVersion => {
            let version = format!("\"{version}\"");
            let headers = [("If-Match", version.as_str())];
            let receive = world.give(&id, "receive", json!({"quantity": 1}), &headers);
            receive.await.expect(200);
        }
    }
}

/// One test for each way in which a log becomes another one, and for what is remembered meanwhile.
macro_rules! other_logs {
    ($($name:ident: $becomes:ident, $remembers:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            for length in [Length::Shorter, Length::AsLong, Length::Longer] {
                becomes_another(Becomes::$becomes, Remembers::$remembers, length).await;
            }
        }
    )*};
}

other_logs! {
    a_cut_log_is_not_decided_on_by_live_actors: Cut, InMemory;
    a_cut_log_is_not_mixed_with_snapshots: Cut, InSnapshots;
    a_log_cut_while_replicas_are_down_is_not_mixed_with_snapshots: Cut, NothingButSnapshots;
    a_restored_log_is_not_decided_on_by_live_actors: Restored, InMemory;
    a_restored_log_is_not_mixed_with_snapshots: Restored, InSnapshots;
    a_log_restored_while_replicas_are_down_is_not_mixed_with_snapshots: Restored, NothingButSnapshots;
    a_log_made_anew_is_not_decided_on_by_live_actors: Anew, InMemory;
    a_log_made_anew_is_not_mixed_with_snapshots: Anew, InSnapshots;
    a_log_made_anew_while_replicas_are_down_is_not_mixed_with_snapshots: Anew, NothingButSnapshots;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_has_vanished_is_unavailable_and_nothing_else() {
    let world = World::start("600").await;
    world.begin().await;
    world.lose().await;
    let backup = Backup::take(&world.client, "EVENTS").await;
    delete(&world.client, "EVENTS").await;
    // The actors of the first three live, the last stock was never heard of.
    let ship = json!({"order": "lost-3"});
    let lost = json!({"order": "lost-5", "quantity": 1});
    for (id, command, body, key) in [
        ("b_0", "ship", &ship, None),
        ("b_1", "reserve", &lost, Some("lost-5")),
        ("b_2", "reserve", &lost, None),
        ("b_none", "ship", &ship, None),
    ] {
        let key = key.map(|key| key_of(id, key));
        let header = key.as_deref().map(|key| ("Idempotency-Key", key));
        let headers: Vec<_> = header.into_iter().collect();
        let reply = world.give(id, command, body.clone(), &headers).await;
        reply.problem(503, "unavailable");
    }
    backup.restore(&world.client).await;
    let reply = world.give("b_0", "ship", ship, &[]).await.expect(200);
    assert_eq!(reply.json()["version"], LOST + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_remembered_beside_the_log_is_not_carried_into_another() {
    let world = World::start("600").await;
    world.begin().await;
    let backup = Backup::take(&world.client, "EVENTS").await;
    world.lose().await;
    delete(&world.client, "EVENTS").await;
    // The state is thrown away, and what the log does not have of it is kept for the next.
    let ship = json!({"order": "lost-3"});
    let reply = world.give("b_0", "ship", ship, &[]).await;
    reply.problem(503, "unavailable");
    backup.restore(&world.client).await;
    let lost = json!({"order": "lost-1", "quantity": 1});
    let answer = world.accept("b_0", "reserve", lost, "lost-nothing").await;
    assert_eq!(answer["replayed"], false, "{answer}");
    assert_eq!(answer["version"], 2, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_of_a_lost_log_is_never_said_to_be_reached() {
    let mut nats = Nats::start();
    let mut replica = Replica::of(&nats.url(), &[]);
    let http = replica.service().http();
    let api = Api::Http(http.clone());
    let register = json!({"name": "apple", "category": "fruit", "price": 5});
    let given = api.command("product", "kept", "register", register.clone());
    given.await.expect(200);
    let copy = nats.copy_stream("EVENTS");
    let given = api.command("product", "lost", "register", register).await;
    let position = given.expect(200).header("Headwater-Position").to_owned();
    let at = [("Headwater-Min-Position", position.as_str())];
    api.document("product", "lost", &at).await.expect(200);
    nats.kill();
    nats.put_back("EVENTS", &copy);
    nats.start_again();
    let soon = [at[0], ("Headwater-Max-Wait-Ms", "200")];
    // The view is told of it too, a little later than the command side.
    eventually("the view does not claim the position", || async {
        let reply = api.document("product", "lost", &soon).await;
        assert_ne!(reply.status, 404, "{reply:?}");
        (reply.status == 504).then_some(())
    })
    .await;
    replica.kill();
    replica.start_again();
    let api = Api::Http(replica.service().http());
    let reply = api.document("product", "lost", &soon).await;
    reply.problem(504, "not_yet_applied");
}
