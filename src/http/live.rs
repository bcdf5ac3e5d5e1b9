//! `GET /views/<view>/<id>/live` and `GET /views/<view>/live?…`: server-sent events.
//!
//! Each client holds its connection, one of a bounded number. Where nothing changes it hears a comment
//! now and then, so that proxies leave it alone and a client that went without a word is noticed.

use super::{Site, input, views};
use crate::{
    problem::Problem,
    read_model::{LiveEvent, LiveKind, Subscription},
};
use actix_web::{
    HttpRequest, HttpResponse,
    dev::Extensions,
    http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName},
    rt::net::TcpStream,
    web::{Bytes, BytesMut, Data},
};
use futures::{Stream, StreamExt};
use std::{
    any::Any,
    convert::Infallible,
    io::Write,
    net::Shutdown,
    os::fd::AsFd,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// The header by which a client that comes again says how far it was.
pub(super) const LAST_EVENT_ID: &str = "Last-Event-ID";
/// What a stream begins with: how soon to come again, in milliseconds, when it ends.
const HELLO: &[u8] = b"retry: 1000\n\n";
const HEARTBEAT: &[u8] = b":\n\n";
/// How much is written at once.
const CHUNK: usize = 32 * 1024;
/// How long to stay away when there are too many, in seconds.
const TOO_MANY_RETRY: u32 = 5;
/// Proxies that collect a response before they pass it on are told not to.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Follows one document.
pub(super) async fn document(
    request: HttpRequest,
    site: Data<Site>,
) -> Result<HttpResponse, Problem> {
    let view = views::known_view(&request, &site)?;
    let id = input::document_id(&request, 2)?;
    let freshness = views::freshness(&request)?;
    let last = last_event(&request)?;
    let slot = Slot::take(&site.live, site.max_live)?;
    let following = site
        .backends
        .views
        .follow_document(view.name, &id, last, &freshness);
    Ok(respond(&request, &site, slot, following.await?))
}

/// Follows a list.
pub(super) async fn list(request: HttpRequest, site: Data<Site>) -> Result<HttpResponse, Problem> {
    let view = views::known_view(&request, &site)?;
    let filters = input::parameters(request.uri().query().unwrap_or_default())?;
    let freshness = views::freshness(&request)?;
    let last = last_event(&request)?;
    let slot = Slot::take(&site.live, site.max_live)?;
    let following = site
        .backends
        .views
        .follow_list(view.name, &filters, last, &freshness);
    Ok(respond(&request, &site, slot, following.await?))
}

fn last_event(request: &HttpRequest) -> Result<Option<u64>, Problem> {
    // A browser sends it empty when no event has had an id yet.
    let value = input::header(request, LAST_EVENT_ID)?.filter(|value| !value.is_empty());
    let position = value.map(|value| {
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        let position = digits.then(|| value.parse().ok()).flatten();
        position.ok_or_else(|| {
            Problem::malformed(
                LAST_EVENT_ID.to_owned(),
                "it is the id of an event of this stream: a whole number",
            )
        })
    });
    position.transpose()
}

fn respond(
    request: &HttpRequest,
    site: &Site,
    slot: Slot,
    subscription: Subscription,
) -> HttpResponse {
    if let Some(connection) = request.conn_data::<Connection>() {
        let connection = connection.clone();
        subscription.on_cut(move || connection.cut());
    }
    let mut heartbeat =
        tokio::time::interval_at(Instant::now() + site.live_heartbeat, site.live_heartbeat);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((UNBUFFERED, "no"))
        .streaming(Frames {
            subscription,
            heartbeat,
            begun: false,
            _slot: slot,
        })
}

/// What is written to one client.
struct Frames {
    subscription: Subscription,
    heartbeat: Interval,
    begun: bool,
    _slot: Slot,
}

impl Frames {
    /// Everything that is there to be written, up to a bound; `None` at the end.
    fn poll_events(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(first) = ready!(self.subscription.poll_next_unpin(context)) else {
            return Poll::Ready(None);
        };
        let first = first.rendered(frame);
        let mut more = BytesMut::new();
        while first.len() + more.len() < CHUNK
            && let Poll::Ready(Some(event)) = self.subscription.poll_next_unpin(context)
        {
            if more.is_empty() {
                more.extend_from_slice(&first);
            }
            more.extend_from_slice(&event.rendered(frame));
        }
        // Usually there is one, and its bytes are shared by all clients.
        Poll::Ready(Some(if more.is_empty() {
            first
        } else {
            more.freeze()
        }))
    }
}

impl Stream for Frames {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.begun {
            self.begun = true;
            return Poll::Ready(Some(Ok(Bytes::from_static(HELLO))));
        }
        if let Poll::Ready(events) = self.poll_events(context) {
            self.heartbeat.reset();
            return Poll::Ready(events.map(Ok));
        }
        ready!(self.heartbeat.poll_tick(context));
        Poll::Ready(Some(Ok(Bytes::from_static(HEARTBEAT))))
    }
}

/// An event as it is written. JSON has no line breaks unless it is made for people.
fn frame(event: &LiveEvent) -> Bytes {
    let kind = match event.kind {
        LiveKind::Put => "put",
        LiveKind::Delete => "delete",
        LiveKind::Leave => "leave",
        LiveKind::Reset => "reset",
    };
    let mut bytes = Vec::with_capacity(event.body.len() + 48);
    let head = write!(bytes, "id: {}\nevent: {kind}\ndata: ", event.position);
    debug_assert!(head.is_ok());
    bytes.extend_from_slice(&event.body);
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

/// A hold on a connection that can end it while the server waits for it to take what is written:
/// a client that reads nothing would keep it, and its slot, for as long as it likes.
#[derive(Clone)]
struct Connection(Arc<std::net::TcpStream>);

impl Connection {
    fn cut(&self) {
        // An error means that it is gone already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Keeps a hold on each connection.
pub(super) fn hold(connection: &dyn Any, data: &mut Extensions) {
    let held = connection
        .downcast_ref::<TcpStream>()
        .and_then(|stream| stream.as_fd().try_clone_to_owned().ok());
    if let Some(held) = held {
        data.insert(Connection(Arc::new(held.into())));
    }
}
