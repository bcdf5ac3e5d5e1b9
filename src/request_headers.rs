//! The headers of a request, read in the same way on NATS and on HTTP.
//!
//! A name counts in any case. A header that may stand once and stands there twice, under one name or
//! under two that differ by their case, is refused by name: to take the first would be to guess.

use crate::problem::Problem;
use std::{borrow::Cow, time::Duration};

/// `Headwater-Max-Wait-Ms: <milliseconds>`.
pub const MAX_WAIT: &str = "Headwater-Max-Wait-Ms";
/// The time something is waited for when the request does not say.
pub const DEFAULT_WAIT: Duration = Duration::from_millis(2_000);
/// The longest wait that may be asked for: a request is no subscription.
pub const LONGEST_WAIT: Duration = Duration::from_millis(30_000);

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// The longest `traceparent` that is carried on, in bytes: that of version 00.
const LONGEST_PARENT: usize = 55;
/// The longest `tracestate` that is carried on, in bytes: what everybody has to be able to carry on
/// (W3C Trace Context, 3.3.1.5).
const LONGEST_STATE: usize = 512;

/// The headers of a request on some surface.
///
/// There are few of them, so that looking at each costs less than hashing a name.
pub trait RequestHeaders {
    /// Each value with its name; a name comes once for each of its values.
    fn each(&self) -> impl Iterator<Item = (&str, &[u8])>;

    /// The values of a header.
    fn all(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
        self.each()
            .filter(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The only value of a header, if it is there.
    ///
    /// # Errors
    ///
    /// Returns a `malformed` problem that names the header, when it is given more than once or is not
    /// visible ASCII.
    fn single(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        let mut values = self.all(name);
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let wrong = |what| Problem::malformed(name.to_owned(), format!("{name} {what}"));
        if values.next().is_some() {
            return Err(wrong("is given more than once"));
        }
        let text = text(value).ok_or_else(|| wrong("is not visible ASCII"))?;
        Ok(Some(text))
    }

    /// The same headers, looked through once.
    fn surveyed(&self) -> Surveyed<'_, Self>
    where
        Self: Sized,
    {
        let bits = self.each().map(|(name, _)| bit(name));
        Surveyed {
            headers: self,
            lengths: bits.fold(0, |all, one| all | one),
        }
    }

    /// The time that the request says something may be waited for at most; [`DEFAULT_WAIT`] when it does not.
    ///
    /// # Errors
    ///
    /// Returns a `malformed` problem that names the header.
    fn max_wait(&self) -> Result<Duration, Problem> {
        let Some(value) = self.single(MAX_WAIT)? else {
            return Ok(DEFAULT_WAIT);
        };
        let wait = parse_digits(value).map(Duration::from_millis);
        wait.filter(|wait| *wait <= LONGEST_WAIT).ok_or_else(|| {
            Problem::malformed(
                MAX_WAIT.to_owned(),
                "the wait is a whole number of milliseconds from 0 to 30000",
            )
        })
    }

    /// The place in a trace that a request comes with: `traceparent`, and the `tracestate` that belongs
    /// to it. Never refused: one of a wrong form is dropped (W3C Trace Context). Of two parents that
    /// differ neither is to be believed; a state may come in parts, and means nothing without a parent.
    fn trace(&self) -> (Option<&str>, Option<Cow<'_, str>>) {
        let parent = self.single(TRACEPARENT).unwrap_or_default();
        let Some(parent) = parent.filter(|parent| parent.len() <= LONGEST_PARENT) else {
            return (None, None);
        };
        let mut parts = self.all(TRACESTATE);
        let state = parts.next().and_then(|first| {
            let mut state = Cow::Borrowed(text(first)?);
            for part in parts {
                let state = state.to_mut();
                state.push(',');
                state.push_str(text(part)?);
            }
            Some(state)
        });
        let state = state.filter(|state| state.len() <= LONGEST_STATE);
        (Some(parent), state)
    }
}

/// Headers with a note of how long the names are that stand there. A dozen are looked for in each request and one or two
/// are there: a name of a length that none has is not looked for.
pub struct Surveyed<'a, Headers> {
    headers: &'a Headers,
    /// A bit for each length of a name.
    lengths: u64,
}

/// The bit of a name's length. Two lengths may share one.
fn bit(name: &str) -> u64 {
    1 << (name.len() % 64)
}

impl<Headers: RequestHeaders> RequestHeaders for Surveyed<'_, Headers> {
    fn each(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.each()
    }

    fn all(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
        let may_be_there = self.lengths & bit(name) != 0;
        let values = may_be_there.then(|| self.headers.all(name));
        values.into_iter().flatten()
    }
}

/// Reads digits only: `u64::from_str` would take a sign too.
pub(crate) fn parse_digits(value: &str) -> Option<u64> {
    let plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| value.parse().ok())?
}

/// A value as text, when it is visible ASCII and spaces alone.
fn text(value: &[u8]) -> Option<&str> {
    // To the end, without a branch: so many bytes at once, of which a token has some hundreds.
    let visible = |byte: u8| (b' '..=b'~').contains(&byte);
    let visible = value.iter().fold(true, |all, byte| all & visible(*byte));
    visible.then(|| std::str::from_utf8(value).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Given<'a>(&'a [(&'a str, &'a str)]);

    impl RequestHeaders for Given<'_> {
        fn each(&self) -> impl Iterator<Item = (&str, &[u8])> {
            self.0.iter().map(|(name, value)| (*name, value.as_bytes()))
        }
    }

    #[test]
    fn a_header_is_read_in_any_case_and_once() {
        let read = |given: &[(&str, &str)]| {
            let given = Given(given);
            let read = given.single("If-Match");
            assert_eq!(given.surveyed().single("If-Match"), read);
            read.map(|value| value.map(str::to_owned))
                .map_err(|problem| problem.field.unwrap_or_default())
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[("If-Matches", "a")]), Ok(None));
        for name in ["If-Match", "if-match", "IF-MATCH"] {
            assert_eq!(read(&[("a", "b"), (name, "c")]), Ok(Some("c".to_owned())));
            let twice = [(name, "c"), ("a", "b"), ("if-Match", "c")];
            assert_eq!(read(&twice), Err("If-Match".to_owned()));
        }
        for value in ["사과", "a\tb", "a\u{7f}"] {
            let wrong = read(&[("if-match", value)]);
            assert_eq!(wrong, Err("If-Match".to_owned()), "{value:?}");
        }
    }

    #[test]
    fn a_place_in_a_trace_is_carried_on_or_dropped() {
        let read = |given: &[(&str, &str)]| {
            let given = Given(given);
            let given = given.surveyed();
            let (parent, state) = given.trace();
            (parent.map(str::to_owned), state.map(Cow::into_owned))
        };
        let some = |text: &str| Some(text.to_owned());
        let parent = ("Traceparent", "00-a");
        assert_eq!(read(&[parent]), (some("00-a"), None));
        assert_eq!(
            read(&[parent, ("tracestate", "a=1"), ("TraceState", "b=2")]),
            (some("00-a"), some("a=1,b=2"))
        );
        assert_eq!(read(&[("tracestate", "a=1")]), (None, None));
        assert_eq!(read(&[parent, ("traceparent", "00-a")]), (None, None));
        let long = "a".repeat(513);
        for state in ["사과", &long] {
            assert_eq!(read(&[parent, ("tracestate", state)]), (some("00-a"), None));
        }
        assert_eq!(
            read(&[parent, ("tracestate", "a=1"), ("tracestate", "사과")]),
            (some("00-a"), None)
        );
        assert_eq!(read(&[("traceparent", &"0".repeat(56))]), (None, None));
    }
}
