//! `GET /views/<view>/<id>/live` and `GET /views/<view>/live?…`: server-sent events.
//!
//! Each client holds its connection, one of a bounded number. Where nothing changes it hears a comment
//! now and then, so that proxies leave it alone and a client that went without a word is noticed; and
//! where to go on from, so that it does not fall behind what is remembered.
//!
//! A browser's `EventSource` comes again by itself when a stream ends, and never again when it is
//! refused. So a client that comes again is told in a stream, by an event `problem`, why it cannot
//! follow now, and by `retry` when to come next.

use super::{
    Site,
    connections::{Connection, Occupied},
    input,
    refusal::{Refusal, say_age},
    views,
};
use crate::{
    access::{Identified, UnderWay},
    problem::{Age, Problem},
    read_model::{
        Delivery, EventId, Freshness, LiveEvent, LiveKind, Subscription, ViewDescription,
    },
};
use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{
        ConnectionType, Version,
        header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderName},
    },
    web::{Bytes, BytesMut, Data},
};
use futures::{Stream, StreamExt};
use std::{
    convert::Infallible,
    io::Write,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};

/// The header by which a client that comes again says how far it was.
pub(super) const LAST_EVENT_ID: &str = "Last-Event-ID";
/// The headers of a stream, for caches and proxies: kept by none, and passed on as it is.
const UNCHANGED: &str = "no-store, no-transform";
const EVENT_STREAM: &str = "text/event-stream";
/// The pause before a client comes again when a stream ends, in milliseconds, and how much longer at most, so that not
/// all of those whose stream has ended come at the same moment.
const RETRY: (u32, u32) = (1_000, 2_000);
pub(super) const HEARTBEAT: &[u8] = b":\n\n";
/// The most that is written at once.
const CHUNK: usize = 32 * 1024;
/// The time to stay away when there are too many, in seconds.
const TOO_MANY_RETRY: u32 = 5;
/// Proxies that collect a response before they pass it on are told not to.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Follows one document.
pub(super) async fn document(
    request: HttpRequest,
    site: Data<Site>,
) -> Result<HttpResponse, Refusal> {
    let (view, who) = views::allowed_view(&request, &site).await?;
    let following = async {
        let id = input::document_id(&request, 2)?;
        let freshness = Freshness::read(request.headers(), who.caller.clone())?;
        let last = last_event(&request)?;
        let slot = Slot::take(&site.live, site.max_live)?;
        let views = &site.backends.views;
        let following = views.follow_document(view.name, &id, last.as_ref(), &freshness);
        Ok((slot, following.await?))
    };
    let following = following.await;
    respond(&request, &site, (view, who), following)
}

/// Follows a list.
pub(super) async fn list(request: HttpRequest, site: Data<Site>) -> Result<HttpResponse, Refusal> {
    let (view, who) = views::allowed_view(&request, &site).await?;
    let following = async {
        let filters = input::parameters(request.uri().query().unwrap_or_default())?;
        let freshness = Freshness::read(request.headers(), who.caller.clone())?;
        let last = last_event(&request)?;
        let slot = Slot::take(&site.live, site.max_live)?;
        let views = &site.backends.views;
        let following = views.follow_list(view.name, &filters, last.as_ref(), &freshness);
        Ok((slot, following.await?))
    };
    let following = following.await;
    respond(&request, &site, (view, who), following)
}

fn last_event(request: &HttpRequest) -> Result<Option<EventId>, Problem> {
    // A browser sends it empty when no event has had an id yet.
    let value = input::header(request, LAST_EVENT_ID)?.filter(|value| !value.is_empty());
    let id = value.map(|value| {
        value.parse().map_err(|_| {
            Problem::malformed(
                LAST_EVENT_ID.to_owned(),
                "it is the id of an event of this stream",
            )
        })
    });
    id.transpose()
}

/// Answers with the stream, or with why there is none.
fn respond(
    request: &HttpRequest,
    site: &Site,
    (view, mut who): (&ViewDescription, Identified),
    following: Result<(Slot, Subscription), Problem>,
) -> Result<HttpResponse, Refusal> {
    let (slot, subscription) = match following {
        Ok(following) => following,
        Err(problem) => {
            let problem = views::aged(problem, site, view);
            return match comes_again(request) {
                true => Ok(refuse(&problem)),
                false => Err(problem.into()),
            };
        }
    };
    let age = site.backends.views.age(view.name);
    let connection = request.conn_data::<Arc<Connection>>();
    if let Some(connection) = connection.map(Arc::clone) {
        subscription.on_cut(move || connection.cut());
    }
    let mut heartbeat =
        tokio::time::interval_at(Instant::now() + site.live_heartbeat, site.live_heartbeat);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut response = stream(age).streaming(Frames {
        subscription,
        heartbeat,
        begun: false,
        marked: false,
        told: None,
        ended: false,
        end: who
            .remaining()
            .map(|left| Box::pin(tokio::time::sleep(left))),
        _slot: slot,
        _under_way: who.under_way(),
        _occupied: connection.map(Connection::occupy),
    });
    without_chunks(request, &mut response);
    Ok(response)
}

/// A client of HTTP/1.0 knows no chunks: it takes the bytes as they are, until the connection ends.
pub(super) fn without_chunks(request: &HttpRequest, response: &mut HttpResponse) {
    if request.version() < Version::HTTP_11 {
        let head = response.head_mut();
        head.no_chunking(true);
        head.set_connection_type(ConnectionType::Close);
    }
}

/// A stream of one event, which says why nothing follows and when to come again.
fn refuse(problem: &Problem) -> HttpResponse {
    stream(problem.age).body(problem_frame(&problem.to_json()))
}

/// The head of a stream of events.
pub(super) fn stream(age: Option<Age>) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, EVENT_STREAM))
        .insert_header((CACHE_CONTROL, UNCHANGED))
        .insert_header((UNBUFFERED, "no"));
    if let Some(age) = age {
        say_age(&mut response, age);
    }
    response
}

/// Returns whether the client comes again, and says that it reads events, as a browser's `EventSource` does.
fn comes_again(request: &HttpRequest) -> bool {
    let again = request.headers().get(LAST_EVENT_ID);
    if again.is_none_or(|id| id.is_empty()) {
        return false;
    }
    let accepted = request.headers().get_all(ACCEPT);
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.contains(EVENT_STREAM))
}

/// The pause before coming again, in milliseconds: not before so many seconds, and not all at once.
pub(super) fn retry(seconds: Option<u32>) -> u32 {
    let least = seconds.map_or(RETRY.0, |seconds| seconds.saturating_mul(1_000));
    least.saturating_add(rand::random_range(0..RETRY.1))
}

/// The bytes that are written to one client.
struct Frames {
    subscription: Subscription,
    heartbeat: Interval,
    begun: bool,
    /// True if the client has been told how far it all was at the start: the last event that was there
    /// only says how far that one was.
    marked: bool,
    /// The place where the client was last told to go on from.
    told: Option<EventId>,
    /// The end of the client's token; nothing comes after it.
    end: Option<Pin<Box<Sleep>>>,
    /// True if the client has been told so.
    ended: bool,
    _slot: Slot,
    /// It is under way for as long as it goes on.
    _under_way: Option<Arc<UnderWay>>,
    /// It is never idle, however long nothing changes.
    _occupied: Option<Occupied>,
}

impl Frames {
    /// Everything that is there to be written, up to a bound; `None` at the end.
    fn poll_events(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(first) = ready!(self.poll_event(context)) else {
            return Poll::Ready(None);
        };
        let mut more = BytesMut::new();
        let mut ended = false;
        while first.len() + more.len() < CHUNK
            && let Poll::Ready(event) = self.poll_event(context)
        {
            let Some(event) = event else {
                ended = true;
                break;
            };
            if more.is_empty() {
                more.extend_from_slice(&first);
            }
            more.extend_from_slice(&event);
        }
        // Usually there is one, and its bytes are shared by all clients.
        let mut written = match more.is_empty() {
            true => first,
            false => more.freeze(),
        };
        if !ended
            && !self.marked
            && let Some(mark) = self.mark()
        {
            written = [written, mark].concat().into();
        }
        Poll::Ready(Some(written))
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let delivery = ready!(self.subscription.poll_next_unpin(context));
        Poll::Ready(delivery.map(|delivery| self.write(&delivery)))
    }

    fn write(&mut self, Delivery { event, resumes }: &Delivery) -> Bytes {
        if event.kind == LiveKind::Problem {
            return problem_frame(&event.body);
        }
        let rendered = event.rendered(frame);
        if *resumes && !event.from.edition.is_empty() {
            self.told = Some(event.from.clone());
            return rendered;
        }
        // Without its first line, which says where to go on from.
        let line = rendered.iter().position(|byte| *byte == b'\n');
        rendered.slice(line.map_or(0, |line| line + 1)..)
    }

    /// Returns where to go on from now, if that is news.
    fn mark(&mut self) -> Option<Bytes> {
        let reached = self.subscription.reached()?;
        self.marked = true;
        if reached.edition.is_empty() || self.told.as_ref() == Some(&reached) {
            return None;
        }
        let mark = format!("id: {reached}\n\n");
        self.told = Some(reached);
        Some(mark.into())
    }

    /// Returns what is written where nothing changes.
    fn heartbeat(&mut self) -> Bytes {
        let mark = self.mark().unwrap_or_default();
        match mark.is_empty() {
            true => Bytes::from_static(HEARTBEAT),
            false => [&mark, HEARTBEAT].concat().into(),
        }
    }
}

impl Stream for Frames {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.begun {
            self.begun = true;
            let mut hello = format!("retry: {}\n\n", retry(None)).into_bytes();
            hello.extend_from_slice(&self.mark().unwrap_or_default());
            return Poll::Ready(Some(Ok(hello.into())));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let end = self.end.as_mut();
        if end.is_some_and(|end| end.as_mut().poll(context).is_ready()) {
            self.ended = true;
            let problem = Problem::invalid_token("it has ended");
            return Poll::Ready(Some(Ok(problem_frame(&problem.to_json()))));
        }
        if let Poll::Ready(events) = self.poll_events(context) {
            self.heartbeat.reset();
            return Poll::Ready(events.map(Ok));
        }
        ready!(self.heartbeat.poll_tick(context));
        Poll::Ready(Some(Ok(self.heartbeat())))
    }
}

/// An event as it is written. JSON has no line breaks unless it is made for people.
fn frame(event: &LiveEvent) -> Bytes {
    let kind = match event.kind {
        LiveKind::Put => "put",
        LiveKind::Delete => "delete",
        LiveKind::Leave => "leave",
        LiveKind::Reset => "reset",
        LiveKind::Problem => "problem",
    };
    let mut bytes = Vec::with_capacity(event.body.len() + 64);
    let head = write!(bytes, "id: {}\nevent: {kind}\ndata: ", event.from);
    debug_assert!(head.is_ok());
    bytes.extend_from_slice(&event.body);
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}

/// The reason why nothing follows, and when to come again. It leaves where to go on from as it is.
pub(super) fn problem_frame(problem: &[u8]) -> Bytes {
    let seconds = serde_json::from_slice(problem).map(|problem: Problem| problem.retry_after);
    let mut bytes = format!("retry: {}\n", retry(seconds.ok().flatten())).into_bytes();
    bytes.extend_from_slice(b"event: problem\ndata: ");
    bytes.extend_from_slice(problem);
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}

/// One of the live clients that there may be.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(taken: &Arc<AtomicUsize>, limit: usize) -> Result<Self, Problem> {
        let more = |taken: usize| (taken < limit).then_some(taken + 1);
        let ordering = Ordering::Relaxed;
        match taken.fetch_update(ordering, ordering, more) {
            Ok(_) => {
                metrics::gauge!("headwater_live_clients").increment(1);
                Ok(Self(Arc::clone(taken)))
            }
            Err(_) => Err(Problem {
                retry_after: Some(TOO_MANY_RETRY),
                ..Problem::unavailable("too many clients follow documents live")
            }),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("headwater_live_clients").decrement(1);
    }
}
