//! The spans of a command: passed on, decided at its home, and there queued, loaded, decided and
//! appended.
//!
//! A command carries its place in the trace in its headers, from process to process and from thread to
//! thread. Without an exporter none of this does anything, and the headers stay as they came.

use super::request::{CommandHeaders, CommandRequest, Outcome};
use crate::{
    event_log::AppendError,
    problem::Problem,
    telemetry::trace::{self, Kind, Span, TraceContext},
};
use std::{borrow::Cow, time::Instant};

/// By which way a command came to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// From within it.
    Within,
    /// From within it, by a process.
    OfProcess,
    /// By NATS, to any replica.
    ToAny,
    /// By NATS, from another replica, to this one as its home.
    PassedOn,
}

/// Begins the span of a command that is decided in this process, and has what follows be a part of it.
pub(super) fn command(request: &mut CommandRequest, came: Came) -> Span {
    if !trace::is_on() {
        return Span::none();
    }
    let kind = match came {
        Came::Within | Came::OfProcess => Kind::Internal,
        Came::ToAny | Came::PassedOn => Kind::Server,
    };
    let span = begin(kind, request, "");
    hand_on(&span, &mut request.headers);
    span
}

/// Ends the span of a command with its outcome.
pub(super) fn answered(mut span: Span, outcome: &Result<Outcome, Problem>) {
    if !span.is_recording() {
        return;
    }
    match outcome {
        Ok(outcome) => {
            span.set("headwater.version", outcome.version);
            span.set("headwater.position", outcome.position);
            span.set("headwater.replayed", outcome.replayed);
        }
        Err(problem) => {
            span.set("headwater.problem", problem.code.to_string());
            // That a rule refuses is what rules are for.
            if problem.status >= 500 {
                span.fail(problem.code.to_string());
            }
        }
    }
}

/// Begins the span of passing a command on, to its home or to any replica, and tells the headers that
/// it is passed on with.
pub(super) fn passing_on<'a>(
    request: &'a CommandRequest,
    home: Option<&str>,
) -> (Span, Cow<'a, CommandHeaders>) {
    if !trace::is_on() {
        return (Span::none(), Cow::Borrowed(&request.headers));
    }
    let mut span = begin(Kind::Client, request, "pass on ");
    span.set("messaging.system", "nats");
    let template = match home {
        Some(_) => "own.{replica}.{aggregate}.{id}.{command}",
        None => "cmd.{aggregate}.{id}.{command}",
    };
    span.set("messaging.destination.template", template);
    if let (Some(home), true) = (home, span.is_recording()) {
        span.set("headwater.home", home.to_owned());
    }
    let mut headers = request.headers.clone();
    hand_on(&span, &mut headers);
    (span, Cow::Owned(headers))
}

fn begin(kind: Kind, request: &CommandRequest, doing: &str) -> Span {
    let CommandRequest {
        aggregate, command, ..
    } = request;
    let traceparent = request.headers.traceparent.as_deref();
    let mut span = Span::begin(kind, traceparent, || {
        format!("{doing}{aggregate}.{command}").into()
    });
    if span.is_recording() {
        // Not its id: that may say something of a person. The position leads to it.
        span.set("headwater.aggregate", aggregate.to_string());
        span.set("headwater.command", command.to_string());
    }
    span
}

/// Puts a span in the place of the one that a command came with.
fn hand_on(span: &Span, headers: &mut CommandHeaders) {
    let Some(context) = span.context() else {
        return;
    };
    let came_with = headers.traceparent.as_deref();
    let came_with = came_with.and_then(|header| header.parse::<TraceContext>().ok());
    // It says something of the trace that it came with (W3C Trace Context, 3.3).
    if came_with.is_none_or(|old| old.trace() != context.trace()) {
        headers.tracestate = None;
    }
    headers.traceparent = Some(context.to_string());
}

/// Tells of a part of commands' time that has just ended.
pub(super) fn took<'a>(
    what: &'static str,
    commands: impl Iterator<Item = &'a CommandHeaders>,
    begun: Instant,
) {
    if !trace::is_on() {
        return;
    }
    let now = Instant::now();
    for headers in commands {
        let part = Span::part(Kind::Internal, headers.traceparent.as_deref(), what);
        part.since(begun).end_at(now);
    }
}

/// The append of a commit, in the traces of all of its commands.
pub(super) struct Appending<'a> {
    spans: Vec<Span>,
    /// The place in a trace that the commit is stored with.
    pub traceparent: Option<Cow<'a, str>>,
    /// The rest that belongs to it.
    pub tracestate: Option<&'a str>,
}

impl<'a> Appending<'a> {
    /// Begins to append the events of these commands. What the commit causes goes on from the first of
    /// them that is recorded; the others are linked to it.
    pub(super) fn begin(mut commands: impl Iterator<Item = &'a CommandHeaders> + Clone) -> Self {
        let mut spans = Vec::new();
        let mut first: Option<(TraceContext, &CommandHeaders)> = None;
        if trace::is_on() {
            for headers in commands.clone() {
                let traceparent = headers.traceparent.as_deref();
                let mut span = Span::part(Kind::Producer, traceparent, "append");
                let Some(context) = span.context() else {
                    continue;
                };
                match first {
                    None => first = Some((context, headers)),
                    Some((first, _)) => span.link(first),
                }
                spans.push(span);
            }
        }
        let (traceparent, of) = match first {
            Some((context, headers)) => (Some(context.to_string().into()), Some(headers)),
            None => {
                let headers = commands.next();
                let traceparent = headers.and_then(|headers| headers.traceparent.as_deref());
                (traceparent.map(Cow::from), headers)
            }
        };
        Self {
            spans,
            traceparent,
            tracestate: of.and_then(|headers| headers.tracestate.as_deref()),
        }
    }

    /// Ends the spans with what became of the append.
    pub(super) fn end(self, commands: usize, appended: Result<u64, &AppendError>) {
        for mut span in self.spans {
            span.set("headwater.commit.commands", commands);
            match appended {
                Ok(position) => span.set("headwater.position", position),
                Err(AppendError::LostRace) => span.fail("lost race"),
                Err(AppendError::InDoubt(_)) => span.fail("in doubt"),
                Err(AppendError::Unavailable(_) | AppendError::NoStream) => {
                    span.fail("unavailable");
                }
                Err(AppendError::Refused(_)) => span.fail("refused"),
            }
        }
    }
}
