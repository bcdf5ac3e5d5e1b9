//! The place of a span: what the header `traceparent` carries (W3C Trace Context).

use std::{fmt, num::NonZero, str::FromStr};

/// The length of the header in version 00.
const LENGTH: usize = 55;
const SAMPLED: u8 = 0x01;
/// The flags that are handed on: sampled, and random trace id (level 2 of the recommendation).
const KNOWN_FLAGS: u8 = 0x03;

/// The trace and the span that something is done within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace: NonZero<u128>,
    span: NonZero<u64>,
    flags: u8,
}

impl TraceContext {
    /// The first span of a new trace.
    pub(super) fn root(sampled: bool) -> Self {
        Self {
            trace: NonZero::new(rand::random()).unwrap_or(NonZero::<u128>::MIN),
            span: random_span(),
            flags: u8::from(sampled),
        }
    }

    /// A new span of the same trace.
    pub(super) fn child(&self) -> Self {
        Self {
            span: random_span(),
            ..*self
        }
    }

    /// The id of the trace.
    #[must_use]
    pub fn trace(&self) -> u128 {
        self.trace.get()
    }

    /// The id of the span.
    #[must_use]
    pub fn span(&self) -> u64 {
        self.span.get()
    }

    /// Returns whether the trace is recorded, as whoever began it decided.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    pub(super) fn flags(&self) -> u8 {
        self.flags
    }
}

/// Zero is no id.
fn random_span() -> NonZero<u64> {
    NonZero::new(rand::random()).unwrap_or(NonZero::<u64>::MIN)
}

/// The header is not of the form, and is as good as none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent")]
pub struct NoTraceContext;

impl FromStr for TraceContext {
    type Err = NoTraceContext;

    /// Reads `<version>-<trace>-<span>-<flags>`, in lower-case hexadecimal. Of a version after 00 the
    /// part that 00 has is read.
    fn from_str(header: &str) -> Result<Self, NoTraceContext> {
        let (known, rest) = header.split_at_checked(LENGTH).ok_or(NoTraceContext)?;
        let mut parts = known.split('-');
        let mut part = |length| {
            let part = parts.next().filter(|part| part.len() == length);
            let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            part.filter(|part| part.bytes().all(lower))
                .ok_or(NoTraceContext)
        };
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let fits = match version {
            "ff" => false,
            "00" => rest.is_empty(),
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        if !fits {
            return Err(NoTraceContext);
        }
        // Each is of as many hexadecimal digits as fit; zero is what is left to refuse.
        let trace = u128::from_str_radix(trace, 16).unwrap_or_default();
        let span = u64::from_str_radix(span, 16).unwrap_or_default();
        let flags = u8::from_str_radix(flags, 16).unwrap_or_default();
        Ok(Self {
            trace: NonZero::new(trace).ok_or(NoTraceContext)?,
            span: NonZero::new(span).ok_or(NoTraceContext)?,
            flags: flags & KNOWN_FLAGS,
        })
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, span, flags } = self;
        write!(f, "00-{trace:032x}-{span:016x}-{flags:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_header_is_read_and_written_as_it_was() {
        let context: TraceContext = HEADER.parse().unwrap();
        assert_eq!(context.trace(), 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(context.span(), 0xb7ad_6b71_6920_3331);
        assert!(context.is_sampled());
        assert_eq!(context.to_string(), HEADER);
        let unsampled = HEADER.replace("-01", "-00");
        assert!(!unsampled.parse::<TraceContext>().unwrap().is_sampled());
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let of = |version: &str, rest: &str| {
            format!("{version}{}{rest}", &HEADER[2..]).parse::<TraceContext>()
        };
        let known: Result<TraceContext, _> = HEADER.parse();
        assert_eq!(of("01", ""), known);
        assert_eq!(of("cc", "-what-comes"), known);
        assert_eq!(of("cc", "what-comes"), Err(NoTraceContext));
        assert_eq!(of("ff", ""), Err(NoTraceContext));
        assert_eq!(of("00", "-what-comes"), Err(NoTraceContext));
    }

    #[test]
    fn flags_that_are_not_known_are_not_handed_on() {
        let context: TraceContext = HEADER.replace("-01", "-ff").parse().unwrap();
        assert_eq!(context.to_string(), HEADER.replace("-01", "-03"));
    }

    #[test]
    fn what_is_not_of_the_form_is_none() {
        let zeros = |digits: usize| "0".repeat(digits);
        for wrong in [
            String::new(),
            "사과".repeat(20),
            HEADER[1..].to_owned(),
            HEADER.to_uppercase(),
            HEADER.replace('-', "_"),
            HEADER.replace("0af765", "0xf765"),
            HEADER.replace("0af7651916cd43dd8448eb211c80319c", &zeros(32)),
            HEADER.replace("b7ad6b7169203331", &zeros(16)),
            HEADER.replace(
                "0af7651916cd43dd8448eb211c80319c-b",
                "0af7651916cd43dd8448eb211c80319-cb",
            ),
        ] {
            assert_eq!(
                wrong.parse::<TraceContext>(),
                Err(NoTraceContext),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_child_is_another_span_of_the_same_trace() {
        let root = TraceContext::root(true);
        let child = root.child();
        assert_eq!(child.trace(), root.trace());
        assert_ne!(child.span(), root.span());
        assert!(child.is_sampled() && !TraceContext::root(false).is_sampled());
        assert_ne!(TraceContext::root(true).trace(), root.trace());
    }
}
