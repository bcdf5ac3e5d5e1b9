//! Queries over NATS about documents that a projector makes.

use super::{
    WAIT, named,
    world::{Account, Owner, Statements, World, deposited, opened},
};
use crate::{
    projection::RegisteredView,
    read_model::{
        DEFAULT_CACHE, DEFAULT_LIST_CACHE, QueryEndpoint, ReadModel, ReadModelOptions, Watermarks,
    },
    request_reply::{Inboxes, ReplyGuard},
};
use async_nats::{HeaderMap, Message};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Queries {
    world: World,
    watermarks: Watermarks,
    stopping: CancellationToken,
    served: JoinHandle<()>,
}

impl Queries {
    async fn new() -> Self {
        let mut world = World::new().await;
        let view = RegisteredView::of::<Statements>().description().clone();
        let watermarks = Watermarks::new([view.name]);
        world.watermark = watermarks.view("statement").unwrap().clone();
        let model = ReadModel::open(ReadModelOptions {
            store: world.store.clone(),
            views: vec![view],
            aggregates: vec!["account", "owner", "elsewhere"],
            watermarks: watermarks.clone(),
            cache: DEFAULT_CACHE,
            list_cache: DEFAULT_LIST_CACHE,
            prepares: true,
        })
        .await
        .unwrap();
        let endpoint = QueryEndpoint::open(
            world.log.client(),
            model,
            ReplyGuard::new(Inboxes::default()),
            crate::access::Access::open(),
        )
        .await
        .unwrap();
        let stopping = CancellationToken::new();
        Self {
            served: tokio::spawn(endpoint.run(stopping.clone())),
            world,
            watermarks,
            stopping,
        }
    }

    async fn ask(&self, subject: &str, headers: &[(&str, &str)], body: &str) -> Message {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, *value);
        }
        let client = self.world.log.client();
        client
            .request_with_headers(subject.to_owned(), map, body.to_owned().into())
            .await
            .unwrap()
    }

    /// The answer to a question that is right.
    async fn answer(&self, subject: &str, body: Value) -> Value {
        let message = self.ask(subject, &[], &body.to_string()).await;
        assert_eq!(header(&message, "Nats-Service-Error"), "", "{message:?}");
        serde_json::from_slice(&message.payload).unwrap()
    }

    /// Status, code and field of a refusal.
    async fn refusal(
        &self,
        subject: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u64, String, String) {
        let message = self.ask(subject, headers, body).await;
        let problem: Value = serde_json::from_slice(&message.payload).unwrap();
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        let words = format!("{}: {}", text("code"), text("detail"));
        assert_eq!(header(&message, "Nats-Service-Error"), words);
        assert_eq!(
            header(&message, "Nats-Service-Error-Code"),
            problem["status"].to_string()
        );
        (
            problem["status"].as_u64().unwrap(),
            text("code"),
            text("field"),
        )
    }
}

fn header<'a>(message: &'a Message, name: &str) -> &'a str {
    let headers = message.headers.as_ref();
    headers
        .and_then(|headers| headers.get(name))
        .map_or("", |value| value.as_str())
}

#[tokio::test]
async fn a_document_and_a_list_are_answered_with_their_age() {
    let queries = Queries::new().await;
    let world = &queries.world;
    for (id, amount) in [("a", 30), ("b", 10), ("c", 20)] {
        world
            .commit::<Account>(id, &[opened("o"), deposited(amount)])
            .await;
    }
    let last = world.commit::<Owner>("o", &[named("홍길동")]).await;
    world.drain(&mut world.projector()).await;

    let message = queries.ask("qry.statement.b", &[], "").await;
    let tag = header(&message, "ETag");
    assert!(tag.starts_with(&format!("\"statement.{last}.")), "{tag}");
    assert_eq!(header(&message, "Headwater-Applied"), last.to_string());
    assert_eq!(header(&message, "Headwater-Lag-Ms"), "0");
    let document: Value = serde_json::from_slice(&message.payload).unwrap();
    let expected = json!({"owner": "o", "owner_name": "홍길동", "total": 10, "deposits": 1});
    assert_eq!(
        document,
        json!({"id": "b", "version": last, "document": expected})
    );

    let ids = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let page = queries
        .answer("qry.statement", json!({"sort": "-total", "limit": 2}))
        .await;
    assert_eq!(ids(&page), ["a", "c"]);
    let next = json!({"sort": "-total", "limit": 2, "cursor": page["next"]});
    let page = queries.answer("qry.statement", next).await;
    assert_eq!(
        (ids(&page), &page["next"]),
        (vec!["b".to_owned()], &Value::Null)
    );
    let page = queries
        .answer("qry.statement", json!({"q": "길동", "owner": "o"}))
        .await;
    assert_eq!(ids(&page).len(), 3);
    let message = queries.ask("qry.statement", &[], "").await;
    assert!(header(&message, "ETag").len() > 10);
}

#[tokio::test]
async fn a_reader_with_a_position_waits_for_it_and_no_longer_than_it_says() {
    let queries = Queries::new().await;
    let world = &queries.world;
    let position = world.commit::<Account>("a", &[deposited(1)]).await;
    let token = format!("account@{position}");
    let impatient = [
        ("Headwater-Min-Position", &*token),
        ("Headwater-Max-Wait-Ms", "50"),
    ];
    let (status, code, _) = queries.refusal("qry.statement.a", &impatient, "").await;
    assert_eq!((status, &*code), (504, "not_yet_applied"));

    let patient = [
        ("Headwater-Min-Position", &*token),
        ("Headwater-Max-Wait-Ms", "10000"),
    ];
    let mut projector = world.projector();
    let (message, _) = tokio::join!(
        queries.ask("qry.statement.a", &patient, ""),
        world.drain(&mut projector)
    );
    let document: Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(document["version"], position);

    // What this view does not read, it does not wait for.
    let elsewhere = [("Headwater-Min-Position", "elsewhere@99999")];
    let message = queries.ask("qry.statement.a", &elsewhere, "").await;
    assert_eq!(header(&message, "Nats-Service-Error"), "");
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_by_name() {
    let queries = Queries::new().await;
    let world = &queries.world;
    world.drain(&mut world.projector()).await;
    let long = "x".repeat(130);
    let too_long_id = format!("qry.statement.{long}");
    for (subject, headers, body, expected) in [
        ("qry.nothing", vec![], "", (404, "unknown_view", "")),
        ("qry.nothing.a", vec![], "", (404, "unknown_view", "")),
        ("qry.STATEMENT.a", vec![], "", (404, "unknown_view", "")),
        ("qry.statement.a", vec![], "", (404, "not_found", "")),
        ("qry.statement.a.b", vec![], "", (400, "malformed", "id")),
        (&*too_long_id, vec![], "", (400, "malformed", "id")),
        ("qry.statement.가", vec![], "", (400, "malformed", "id")),
        ("qry.statement", vec![], "[]", (400, "malformed", "")),
        ("qry.statement", vec![], "{", (400, "malformed", "")),
        (
            "qry.statement",
            vec![],
            r#"{"limit":null}"#,
            (400, "malformed", "limit"),
        ),
        (
            "qry.statement",
            vec![],
            r#"{"limit":1.5}"#,
            (400, "malformed", "limit"),
        ),
        (
            "qry.statement",
            vec![],
            r#"{"deposits":"1"}"#,
            (400, "malformed", "deposits"),
        ),
        (
            "qry.statement",
            vec![],
            r#"{"sort":"owner"}"#,
            (400, "malformed", "sort"),
        ),
        (
            "qry.statement",
            vec![],
            r#"{"cursor":"AAAA"}"#,
            (400, "malformed", "cursor"),
        ),
        (
            "qry.statement",
            vec![("Headwater-Min-Position", "nobody@1")],
            "",
            (400, "malformed", "Headwater-Min-Position"),
        ),
        (
            "qry.statement.a",
            vec![("Headwater-Max-Wait-Ms", "30001")],
            "",
            (400, "malformed", "Headwater-Max-Wait-Ms"),
        ),
    ] {
        let (status, code, field) = queries.refusal(subject, &headers, body).await;
        assert_eq!(
            (status, &*code, &*field),
            expected,
            "{subject} {headers:?} {body}"
        );
    }
    let (status, code, _) = queries
        .refusal("qry.statement", &[], &"x".repeat(20_000))
        .await;
    assert_eq!((status, &*code), (413, "too_large"));
}

#[tokio::test]
async fn announcements_about_this_store_move_the_watermark_and_others_do_not() {
    let queries = Queries::new().await;
    let world = &queries.world;
    let model = ReadModel::open(ReadModelOptions {
        store: world.store.clone(),
        views: vec![RegisteredView::of::<Statements>().description().clone()],
        aggregates: Vec::new(),
        watermarks: queries.watermarks.clone(),
        cache: DEFAULT_CACHE,
        list_cache: DEFAULT_LIST_CACHE,
        prepares: true,
    })
    .await
    .unwrap();
    let following = tokio::spawn(model.follow(world.log.client()).await.unwrap());
    let served = world.watermark.serving().edition();
    let announce = |store: &str, edition: &str, position: u64| {
        json!({"store": store, "view": "statement", "edition": edition, "previous": 0,
               "position": position, "ids": [], "generations": 1})
        .to_string()
    };
    let client = world.log.client();
    for body in [
        announce("another", served.as_str(), 900),
        announce(&world.store.id(), "00000000.0-v1-0", 800),
        "garbage".to_owned(),
        announce(&world.store.id(), served.as_str(), 7),
    ] {
        client
            .publish("applied.statement", body.into())
            .await
            .unwrap();
    }
    assert!(world.watermark.reached(7, WAIT).await);
    assert_eq!(world.progress().position, 7);
    following.abort();
}

#[tokio::test]
async fn a_query_that_was_taken_is_answered_before_the_endpoint_stops() {
    let queries = Queries::new().await;
    let world = &queries.world;
    let position = world.commit::<Account>("a", &[deposited(1)]).await;
    let token = format!("account@{position}");
    let headers = [
        ("Headwater-Min-Position", &*token),
        ("Headwater-Max-Wait-Ms", "10000"),
    ];
    let mut projector = world.projector();
    let started = Instant::now();
    let work = async {
        // The query waits for what only comes after the endpoint was told to stop.
        while queries.served_queries() == 0 {
            assert!(started.elapsed() < WAIT);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        queries.stopping.cancel();
        world.drain(&mut projector).await;
    };
    let (message, ()) = tokio::join!(queries.ask("qry.statement.a", &headers, ""), work);
    assert_eq!(header(&message, "Headwater-Applied"), position.to_string());
    tokio::time::timeout(WAIT, queries.served)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn an_answer_that_is_larger_than_a_message_can_be_is_refused_and_headers_count() {
    const DOCUMENTS: usize = 11;
    let queries = Queries::new().await;
    let world = &queries.world;
    let mut projector = world.projector();
    for number in 0..DOCUMENTS {
        let id = format!("a-{number}");
        world.commit::<Account>(&id, &[opened("o")]).await;
    }
    // Where the positions have as many digits as they will.
    world.commit::<Owner>("o", &[named("x")]).await;
    world.drain(&mut projector).await;
    let message = queries.ask("qry.statement", &[], "").await;
    let rest = message.payload.len() - DOCUMENTS;
    // The body alone fits.
    let most = world.log.client().max_payload();
    let each = (most - rest - 20) / DOCUMENTS;
    let name = "x".repeat(each);
    world.commit::<Owner>("o", &[named(&name)]).await;
    world.drain(&mut projector).await;
    let (status, code, field) = queries.refusal("qry.statement", &[], "").await;
    assert_eq!((status, &*code, &*field), (400, "malformed", "limit"));
    let message = queries.ask("qry.statement", &[], r#"{"limit":10}"#).await;
    assert_eq!(header(&message, "Nats-Service-Error"), "");
    assert!(message.payload.len() > each * 10);
}

impl Queries {
    /// Returns how many queries wait on the watermark.
    fn served_queries(&self) -> usize {
        self.world.watermark.waiting()
    }
}
