//! A span: one piece of work within a trace, with its begin and end.

use super::{TRACER, TraceContext};
use std::{borrow::Cow, time::Instant};

/// The role of a span among the spans around it, as OTLP numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work within a process.
    Internal = 1,
    /// The handling of a request that came to this process.
    Server = 2,
    /// A request to another process, until it is answered.
    Client = 3,
    /// Something left for others to take up later.
    Producer = 4,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
    /// A truth value.
    Truth(bool),
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Truth(truth)
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number.try_into().unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::from(number as u64)
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

/// The exported form of a span.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub context: TraceContext,
    /// The span that it is a child of; 0 for none.
    pub parent: u64,
    pub kind: Kind,
    pub name: Cow<'static, str>,
    pub begun: Instant,
    /// `None` until it has.
    pub ended: Option<Instant>,
    pub attributes: Vec<(&'static str, Value)>,
    pub links: Vec<TraceContext>,
    /// The reason why it failed.
    pub failed: Option<Cow<'static, str>>,
}

/// A span under way. It ends, and is exported, when it is dropped.
///
/// A span is nothing, and costs nothing, where no exporter is installed. Of a trace that is not sampled
/// it is only a place in it, to be handed on.
#[derive(Debug, Default)]
pub struct Span(State);

#[derive(Debug, Default)]
enum State {
    #[default]
    Off,
    // Boxed to be small where it is nothing: it is moved along with every command.
    NotSampled(Box<TraceContext>),
    Open(Box<Recorded>),
}

impl Span {
    /// No span.
    #[must_use]
    pub const fn none() -> Self {
        Self(State::Off)
    }

    /// Begins a span with the `traceparent` that came with the work. Without one, or with one of a
    /// wrong form, a new trace begins here, which is sampled or not by the configured ratio; otherwise
    /// whoever began the trace has decided that.
    #[must_use]
    pub fn begin(
        kind: Kind,
        traceparent: Option<&str>,
        name: impl FnOnce() -> Cow<'static, str>,
    ) -> Self {
        let Some(tracer) = TRACER.get() else {
            return Self::none();
        };
        match traceparent.and_then(|header| header.parse::<TraceContext>().ok()) {
            Some(parent) if parent.is_sampled() => {
                Self::open(kind, parent.child(), parent.span(), name())
            }
            // Nothing of it is exported, so what follows from it follows from its parent.
            Some(parent) => Self(State::NotSampled(Box::new(parent))),
            None => match TraceContext::root(tracer.samples()) {
                root if root.is_sampled() => Self::open(kind, root, 0, name()),
                root => Self(State::NotSampled(Box::new(root))),
            },
        }
    }

    /// Begins a part of what the span with this `traceparent` does: nothing unless that is sampled.
    #[must_use]
    pub fn part(kind: Kind, traceparent: Option<&str>, name: &'static str) -> Self {
        if !super::is_on() {
            return Self::none();
        }
        match traceparent.and_then(|header| header.parse::<TraceContext>().ok()) {
            Some(parent) if parent.is_sampled() => {
                Self::open(kind, parent.child(), parent.span(), name.into())
            }
            _ => Self::none(),
        }
    }

    fn open(kind: Kind, context: TraceContext, parent: u64, name: Cow<'static, str>) -> Self {
        Self(State::Open(Box::new(Recorded {
            context,
            parent,
            kind,
            name,
            begun: Instant::now(),
            ended: None,
            attributes: Vec::new(),
            links: Vec::new(),
            failed: None,
        })))
    }

    /// Says when it really began.
    #[must_use]
    pub fn since(mut self, begun: Instant) -> Self {
        if let State::Open(span) = &mut self.0 {
            span.begun = begun;
        }
        self
    }

    /// The place in the trace; `None` when there is no exporter.
    #[must_use]
    pub fn context(&self) -> Option<TraceContext> {
        match &self.0 {
            State::Off => None,
            State::NotSampled(context) => Some(**context),
            State::Open(span) => Some(span.context),
        }
    }

    /// Returns whether it will be exported, and what is said of it is heard.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        matches!(self.0, State::Open(_))
    }

    /// Says something of it, under the name that the semantic conventions have for it, if any.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let State::Open(span) = &mut self.0 {
            span.attributes.push((name, value.into()));
        }
    }

    /// Links it to a span that is not its parent.
    pub fn link(&mut self, to: TraceContext) {
        if let State::Open(span) = &mut self.0 {
            span.links.push(to);
        }
    }

    /// Marks it as failed, with the reason in a few words.
    pub fn fail(&mut self, reason: impl Into<Cow<'static, str>>) {
        if let State::Open(span) = &mut self.0 {
            span.failed = Some(reason.into());
        }
    }

    /// Ends it, at this moment rather than now.
    pub fn end_at(mut self, ended: Instant) {
        if let State::Open(span) = &mut self.0 {
            span.ended = Some(ended);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let State::Open(mut span) = std::mem::take(&mut self.0) else {
            return;
        };
        span.ended.get_or_insert_with(Instant::now);
        if let Some(tracer) = TRACER.get() {
            tracer.export(*span);
        }
    }
}
