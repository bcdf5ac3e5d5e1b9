//! Back ends that answer as told, so that the surface is tested alone.

use super::{Backends, Commands, Processes, Readiness, ReadinessCheck, Views, backend::Reading};
use crate::{
    aggregate::{Aggregate, Context, Decision, Rejection},
    command::{
        describe::AggregateDescription,
        request::{CommandRequest, Outcome, OutcomeEvent},
        waits::ProcessWaits,
    },
    event_log::subject::Id,
    pages::{PageFile, Pages},
    problem::{Age, Problem},
    processes::{ListAsk, ShowAsk},
    read_model::{
        Answer, EventId, Feed, Freshness, LiveEvent, LiveKind, Page, ServedDocument, ServedPage,
        StoredDocument, Subscription, ViewDescription,
    },
    view::{Compare, Filter, Kind, Query, Sort},
};
use bytes::Bytes;
use futures::future::{BoxFuture, Either, ready};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use utoipa::{PartialSchema, ToSchema};

/// Pages of the domain's own.
pub(super) const PAGES: Pages = Pages {
    path: "post",
    title: "Post office",
    files: &[
        PageFile::new(
            "index.html",
            b"<script type=module src=post/main.js></script>",
        ),
        PageFile::new("main.js", b"export {}"),
    ],
};

#[derive(Default, Clone, Serialize, Deserialize)]
struct Parcel;

#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ParcelCommand {
    /// Sends the parcel.
    ///
    /// It can be sent once.
    Send {
        to: ParcelAddress,
        #[schema(minimum = 1, maximum = 30_000)]
        grams: u32,
    },
    /// Calls the parcel back.
    Recall {},
}

#[derive(Clone, Serialize, Deserialize, ToSchema)]
struct ParcelAddress {
    street: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum ParcelEvent {
    #[serde(rename = "parcel.sent.v1")]
    Sent {},
}

#[derive(Debug, thiserror::Error)]
#[error("refused")]
struct ParcelRejection;

impl Rejection for ParcelRejection {
    fn code(&self) -> &'static str {
        "already_sent"
    }

    fn codes(command: &str) -> &'static [&'static str] {
        match command {
            "send" => &["already_sent"],
            _ => &["not_found", "delivered"],
        }
    }
}

impl Aggregate for Parcel {
    const NAME: &'static str = "parcel";
    type Command = ParcelCommand;
    type Event = ParcelEvent;
    type Rejection = ParcelRejection;

    fn decide(
        &self,
        _: ParcelCommand,
        _: &Context,
    ) -> Result<Decision<ParcelEvent>, ParcelRejection> {
        Ok(Decision::event(ParcelEvent::Sent {}))
    }

    fn evolve(&mut self, _: &ParcelEvent) {}
}

/// One aggregate, `parcel`, with the commands `send` and `recall`.
pub(super) fn aggregates() -> Vec<AggregateDescription> {
    vec![AggregateDescription::of::<Parcel>()]
}

#[derive(Serialize, Deserialize, ToSchema)]
struct ParcelDocument {
    to: ParcelAddress,
    grams: u32,
}

/// One view, `parcels`, that can be filtered, sorted and searched.
pub(super) fn views() -> Vec<ViewDescription> {
    let filter = |name, field, compare, kind| Filter {
        name,
        field,
        compare,
        kind,
    };
    let mut schemas = Vec::new();
    ParcelDocument::schemas(&mut schemas);
    vec![ViewDescription {
        name: "parcels",
        version: 3,
        aggregates: &["parcel"],
        query: Query {
            filters: vec![
                filter("street", "to.street", Compare::Equal, Kind::Text),
                filter("grams_min", "grams", Compare::AtLeast, Kind::Integer),
                filter("fragile", "fragile", Compare::Equal, Kind::Boolean),
            ],
            sorts: vec![Sort {
                field: "grams",
                kind: Kind::Integer,
            }],
            search: vec!["to.street"],
            routes: Vec::new(),
            combined: Vec::new(),
            counted: Vec::new(),
        },
        document: ParcelDocument::schema(),
        schemas,
        visible: |_| crate::view::Rows::All,
    }]
}

type Executed = Box<dyn Fn(&CommandRequest) -> Result<Outcome, Problem> + Send + Sync>;

pub(super) struct FakeCommands {
    aggregates: Vec<AggregateDescription>,
    answer: Executed,
    waits: ProcessWaits,
    /// The requests that reached the command side.
    pub(super) seen: Mutex<Vec<CommandRequest>>,
}

impl Commands for FakeCommands {
    fn aggregates(&self) -> &[AggregateDescription] {
        &self.aggregates
    }

    fn execute(&self, request: CommandRequest) -> BoxFuture<'_, Result<Outcome, Problem>> {
        let answer = (self.answer)(&request);
        self.seen.lock().unwrap().push(request);
        Box::pin(ready(answer))
    }

    fn execute_many(
        &self,
        requests: Vec<Result<CommandRequest, Problem>>,
    ) -> BoxFuture<'_, Vec<Result<Outcome, Problem>>> {
        let answer = |request: CommandRequest| {
            let answer = (self.answer)(&request);
            self.seen.lock().unwrap().push(request);
            answer
        };
        let answers = requests.into_iter().map(|one| one.and_then(answer));
        Box::pin(ready(answers.collect()))
    }

    fn waits(&self) -> &ProcessWaits {
        &self.waits
    }
}

/// One process, `delivery`, with the instance `p-1`.
pub(super) struct FakeProcesses;

impl Processes for FakeProcesses {
    fn names(&self) -> &[&'static str] {
        &["delivery"]
    }

    fn list<'a>(
        &'a self,
        _: &'a str,
        ask: &'a ListAsk,
        _: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Bytes, Problem>> {
        let page = serde_json::json!({ "items": [], "next": null, "asked": ask });
        Box::pin(ready(Ok(page.to_string().into())))
    }

    fn show<'a>(
        &'a self,
        process: &'a str,
        id: &'a Id,
        ask: &'a ShowAsk,
        _: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Bytes, Problem>> {
        let shown = serde_json::json!({ "process": process, "id": id.as_str(), "asked": ask });
        Box::pin(ready(match id.as_str() {
            "p-1" => Ok(shown.to_string().into()),
            _ => Err(Problem::not_found("not_found", "there is no such instance")),
        }))
    }
}

pub(super) struct FakeViews {
    views: Vec<ViewDescription>,
    refusal: Option<Problem>,
    /// The place where the changes of lists come from, unless it is always the same ones.
    feed: Option<Arc<Feed>>,
    /// The parameters and the freshness of each read that reached the query side.
    pub(super) seen: Mutex<Vec<(BTreeMap<String, String>, Freshness)>>,
}

impl FakeViews {
    fn answer<T>(&self, value: T) -> Result<Answer<T>, Problem> {
        match &self.refusal {
            Some(problem) => Err(problem.clone()),
            None => Ok(Answer {
                value,
                applied: 90,
                lag_ms: 7,
                parked: false,
            }),
        }
    }
}

fn from(position: u64) -> EventId {
    EventId::new("v3".into(), position)
}

const DOCUMENT: &str = r#"{"to":{"street":"종로"},"grams":12}"#;

fn document(id: &str) -> StoredDocument {
    StoredDocument {
        id: id.to_owned(),
        version: 71,
        document: RawValue::from_string(DOCUMENT.to_owned()).unwrap().into(),
    }
}

impl Views for FakeViews {
    fn views(&self) -> &[ViewDescription] {
        &self.views
    }

    fn age(&self, _: &str) -> Option<Age> {
        Some(Age {
            applied: 90,
            lag_ms: 7,
            parked: false,
        })
    }

    fn get<'a>(&'a self, _: &'a str, id: &'a Id, freshness: &'a Freshness) -> Reading<'a> {
        let seen = (BTreeMap::new(), freshness.clone());
        self.seen.lock().unwrap().push(seen);
        let answer = match id.as_str() {
            "missing" => Err(Problem::not_found("not_found", "there is no such document")),
            id => self.answer(ServedDocument::new("parcels", id, 71, DOCUMENT)),
        };
        Either::Left(ready(answer))
    }

    fn list<'a>(
        &'a self,
        _: &'a str,
        parameters: &'a BTreeMap<String, String>,
        freshness: &'a Freshness,
    ) -> BoxFuture<'a, Result<Answer<ServedPage>, Problem>> {
        let seen = (parameters.clone(), freshness.clone());
        self.seen.lock().unwrap().push(seen);
        let limit = parameters.get("limit").and_then(|limit| limit.parse().ok());
        let ids = (1..=limit.unwrap_or(2)).map(|number: usize| format!("p-{number}"));
        let page = Page {
            items: ids.map(|id| document(&id)).collect(),
            next: Some("further".to_owned()),
            count: None,
            count_capped: false,
            facets: BTreeMap::new(),
        };
        Box::pin(ready(self.answer(ServedPage::new(&page))))
    }

    fn follow_document<'a>(
        &'a self,
        _: &'a str,
        id: &'a Id,
        last: Option<&'a EventId>,
        freshness: &'a Freshness,
    ) -> BoxFuture<'a, Result<Subscription, Problem>> {
        let seen = (BTreeMap::new(), freshness.clone());
        self.seen.lock().unwrap().push(seen);
        let event = LiveEvent::put(id.as_str(), from(71), 71, DOCUMENT.into());
        let events = Vec::from_iter(last.is_none_or(|last| last.position < 71).then_some(event));
        let subscription = self.answer(()).map(|_| Subscription::of(events));
        Box::pin(ready(subscription))
    }

    fn follow_list<'a>(
        &'a self,
        _: &'a str,
        filters: &'a BTreeMap<String, String>,
        _: Option<&'a EventId>,
        freshness: &'a Freshness,
    ) -> BoxFuture<'a, Result<Subscription, Problem>> {
        let seen = (filters.clone(), freshness.clone());
        self.seen.lock().unwrap().push(seen);
        let events = vec![
            LiveEvent::put("p-1", from(71), 71, DOCUMENT.into()),
            LiveEvent::gone(LiveKind::Leave, "p-1", from(80), 80),
        ];
        let subscription = self.answer(()).map(|_| match &self.feed {
            Some(feed) => feed.follow(),
            None => Subscription::of(events),
        });
        Box::pin(ready(subscription))
    }
}

/// The fakes, to look into after a request.
#[derive(Clone)]
pub(super) struct Fakes {
    pub(super) commands: Arc<FakeCommands>,
    pub(super) views: Arc<FakeViews>,
    pub(super) ready: bool,
    pub(super) pages: Vec<Pages>,
}

impl Fakes {
    /// Every command is accepted, every document is there, the replica is ready.
    pub(super) fn content() -> Self {
        Self::with(|request| Ok(outcome(request)), None)
    }

    /// Every command and every query is refused with this.
    pub(super) fn refusing(problem: &Problem) -> Self {
        let answer = problem.clone();
        Self::with(move |_| Err(answer.clone()), Some(problem.clone()))
    }

    /// As [`Fakes::content`], the changes of lists coming from a feed.
    pub(super) fn fed(feed: Arc<Feed>) -> Self {
        let mut fakes = Self::content();
        let views = Arc::get_mut(&mut fakes.views).expect("nobody has it yet");
        views.feed = Some(feed);
        fakes
    }

    fn with(
        answer: impl Fn(&CommandRequest) -> Result<Outcome, Problem> + Send + Sync + 'static,
        refusal: Option<Problem>,
    ) -> Self {
        Self {
            commands: Arc::new(FakeCommands {
                aggregates: aggregates(),
                answer: Box::new(answer),
                waits: ProcessWaits::none(),
                seen: Mutex::default(),
            }),
            views: Arc::new(FakeViews {
                views: views(),
                refusal,
                feed: None,
                seen: Mutex::default(),
            }),
            ready: true,
            pages: vec![PAGES],
        }
    }

    pub(super) fn backends(&self) -> Backends {
        let ready = self.ready;
        Backends {
            commands: self.commands.clone(),
            views: self.views.clone(),
            processes: Arc::new(FakeProcesses),
            readiness: Arc::new(move || {
                Readiness::of(vec![
                    ReadinessCheck::new("process", true, "running"),
                    ReadinessCheck::new("nats", ready, "as told"),
                ])
            }),
            pages: self.pages.clone(),
            operations: None,
        }
    }
}

fn outcome(request: &CommandRequest) -> Outcome {
    Outcome {
        aggregate: request.aggregate.clone(),
        id: request.id.shared(),
        version: 4,
        position: 90,
        events: vec![OutcomeEvent {
            r#type: "parcel.sent.v1".into(),
            version: 4,
        }],
        replayed: false,
    }
}
