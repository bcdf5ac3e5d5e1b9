//! The overview and the log as they move, as server-sent events, to a bounded number of operators.

use super::{allowed, authorization, parameters, read::tail_filter};
use crate::{
    access::Access,
    caller::Action,
    http::{
        connections::{Connection, Occupied},
        input, live,
        refusal::Refusal,
    },
    ops::{Operations, TailFilter},
    problem::Problem,
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Bytes, Data},
};
use futures::{Stream, StreamExt, stream};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

/// The pause between two overviews.
const OFTEN: Duration = Duration::from_secs(1);

/// Sends the overview, again and again.
pub(super) async fn overview(
    request: HttpRequest,
    operations: Data<Operations>,
    access: Data<Access>,
) -> Result<HttpResponse, Refusal> {
    let who = allowed(&request, &access, Action::Inspect).await?;
    parameters(&request, &[])?;
    let place = operations.follow()?;
    let authorization = authorization(&request).map(str::to_owned);
    let mut often = tokio::time::interval(OFTEN);
    often.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let moving = (operations.clone(), authorization, often);
    let frames = stream::unfold(
        moving,
        |(operations, authorization, mut often)| async move {
            often.tick().await;
            let overview = operations.overview(authorization.as_deref()).await;
            let frame = match serde_json::to_string(&*overview) {
                Ok(json) => format!("event: overview\ndata: {json}\n\n").into(),
                // A figure that is no number, for example: the next one may be.
                Err(_) => Bytes::from_static(live::HEARTBEAT),
            };
            Some((frame, (operations, authorization, often)))
        },
    );
    let ending = Ending::new(operations.stopping(), who.remaining());
    Ok(respond(&request, frames, ending, place))
}

/// The pause between two looks at the log for those who follow it.
const LOOK: Duration = Duration::from_millis(500);
/// The looks without a commit after which those who follow the log hear that the stream stands.
const STANDS: u32 = 30;
/// After so many looks at which nothing had come, every second one is left out.
const LIVELY: u32 = 20;

/// Sends what comes in the log.
pub(super) async fn events(
    request: HttpRequest,
    operations: Data<Operations>,
    access: Data<Access>,
) -> Result<HttpResponse, Refusal> {
    let who = allowed(&request, &access, Action::Inspect).await?;
    let given = parameters(&request, &["aggregate", "id", "type"])?;
    let filter = tail_filter(&given)?;
    let last = input::header(&request, live::LAST_EVENT_ID)?.filter(|id| !id.is_empty());
    let last = last.map(|id| id.parse::<u64>().ok().filter(|at| *at <= i64::MAX as u64));
    let after = match last {
        Some(Some(after)) => after,
        Some(None) => {
            let detail = "it is the id of an event of this stream";
            return Err(Problem::malformed(live::LAST_EVENT_ID.to_owned(), detail).into());
        }
        None => operations.log_end().await?,
    };
    let place = operations.follow()?;
    let ending = Ending::new(operations.stopping(), who.remaining());
    let following = Following {
        operations,
        filter,
        after,
        quiet: 0,
        idle: 0,
    };
    let frames = stream::unfold(following, |following| async move {
        let (frame, following) = following.next().await;
        Some((frame, following))
    });
    Ok(respond(&request, frames, ending, place))
}

/// Somebody who follows the log.
struct Following {
    operations: Data<Operations>,
    filter: TailFilter,
    after: u64,
    /// The number of looks since something was sent.
    quiet: u32,
    /// The number of looks since something had come.
    idle: u32,
}

impl Following {
    /// Waits for what comes next.
    async fn next(mut self) -> (Bytes, Self) {
        loop {
            let come = self.operations.come(&self.filter, self.after).await;
            let (items, at) = come.unwrap_or_else(|error| {
                tracing::debug!(%error, "the log cannot be followed now");
                (Vec::new(), self.after)
            });
            let moved = at != self.after;
            self.after = at;
            let frames = items.iter().filter_map(|commit| {
                let json = serde_json::to_string(commit).ok()?;
                let position = commit.position;
                Some(format!("id: {position}\nevent: commit\ndata: {json}\n\n"))
            });
            let frames: String = frames.collect();
            if !frames.is_empty() {
                (self.quiet, self.idle) = (0, 0);
                return (frames.into(), self);
            }
            if moved {
                continue;
            }
            let looks = if self.idle < LIVELY { 1 } else { 2 };
            self.idle = self.idle.saturating_add(looks);
            self.quiet += looks;
            if self.quiet >= STANDS {
                self.quiet = 0;
                return (Bytes::from_static(live::HEARTBEAT), self);
            }
            tokio::time::sleep(LOOK * looks).await;
        }
    }
}

/// The end of a stream: the replica stops, or the token of who follows ends.
pub(super) struct Ending {
    stopping: CancellationToken,
    token: Option<Instant>,
}

impl Ending {
    pub(super) fn new(stopping: CancellationToken, remaining: Option<Duration>) -> Self {
        Self {
            stopping,
            token: remaining.map(|left| Instant::now() + left),
        }
    }

    /// Waits for it; returns the last frame.
    async fn wait(self) -> Bytes {
        let token = async {
            match self.token {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        let problem = tokio::select! {
            () = self.stopping.cancelled() => Problem::unavailable("the replica is stopping"),
            () = token => Problem::invalid_token("it has ended"),
        };
        live::problem_frame(&problem.to_json())
    }
}

/// Answers with a stream of frames, which goes on until it is ended.
pub(super) fn respond(
    request: &HttpRequest,
    frames: impl Stream<Item = Bytes> + 'static,
    ending: Ending,
    place: OwnedSemaphorePermit,
) -> HttpResponse {
    let hello = Bytes::from(format!("retry: {}\n\n", live::retry(None)));
    let occupied = request
        .conn_data::<Arc<Connection>>()
        .map(Connection::occupy);
    let ended = stream::once(ending.wait()).map(|last| (last, true));
    let frames = stream::iter([hello])
        .chain(frames)
        .map(|frame| (frame, false));
    let frames = stream::select(Box::pin(frames), Box::pin(ended));
    let held: (OwnedSemaphorePermit, Option<Occupied>) = (place, occupied);
    let frames = stream::unfold((Box::pin(frames), held, false), |state| async move {
        let (mut frames, held, ended) = state;
        if ended {
            return None;
        }
        let (frame, ended) = frames.next().await?;
        Some((Ok::<_, Infallible>(frame), (frames, held, ended)))
    });
    let mut response = live::stream(None).streaming(frames);
    live::without_chunks(request, &mut response);
    response
}
