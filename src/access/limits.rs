//! The bounds on what a caller may ask for.
//!
//! Each caller is known by the subject of the token, or else by the network that the request comes from. So many
//! requests a second are taken of each, as many at once, and so many under way; who sends more is told when to
//! come again. What is kept of callers is bounded: who has not come for a long time is forgotten first, and
//! begins anew.

use crate::{caller::Caller, problem::Problem};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock};
use quick_cache::sync::Cache;
use std::{
    convert::Infallible,
    fmt,
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

/// The number of callers that are told apart, at some 200 bytes each.
const MOST: usize = 65_536;

/// The bounds on what each caller may ask for. Cheap to clone.
#[derive(Clone, Default)]
pub struct Limits(Option<Arc<Inner>>);

struct Inner {
    per_second: Option<NonZeroU32>,
    under_way: Option<NonZeroU32>,
    callers: Cache<Key, Arc<Asked>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Subject(Arc<str>),
    Network(u64),
}

/// Everything that one caller has asked for.
struct Asked {
    rate: Option<DefaultDirectRateLimiter>,
    under_way: AtomicU32,
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Limits(none)"),
            Some(inner) => f
                .debug_struct("Limits")
                .field("per_second", &inner.per_second)
                .field("under_way", &inner.under_way)
                .finish_non_exhaustive(),
        }
    }
}

impl Limits {
    /// So many requests a second and so many under way for each caller; as many as they like with `None`.
    #[must_use]
    pub fn new(per_second: Option<NonZeroU32>, under_way: Option<NonZeroU32>) -> Self {
        if per_second.is_none() && under_way.is_none() {
            return Self(None);
        }
        Self(Some(Arc::new(Inner {
            per_second,
            under_way,
            callers: Cache::new(MOST),
        })))
    }

    /// Takes a request of this caller, from this address: it is under way until what is returned is dropped. Who
    /// is known by neither is not held to anything.
    ///
    /// # Errors
    ///
    /// Returns `overloaded` (429) where it is one too many, with when to come again.
    pub fn admit(
        &self,
        caller: &Caller,
        from: Option<IpAddr>,
    ) -> Result<Option<UnderWay>, Problem> {
        let Some(inner) = &self.0 else {
            return Ok(None);
        };
        let key = match (caller.shared_subject(), from) {
            (Some(subject), _) => Key::Subject(Arc::clone(subject)),
            (None, Some(address)) => Key::Network(network(address)),
            (None, None) => return Ok(None),
        };
        inner.admit(&key).map(Some).inspect_err(|_| {
            metrics::counter!("headwater_callers_refused_total").increment(1);
        })
    }
}

impl Inner {
    fn admit(&self, key: &Key) -> Result<UnderWay, Problem> {
        let asked = self.asked(key);
        // Those under way come first: who is refused for them has not used up a request.
        let under_way = UnderWay(Arc::clone(&asked));
        let before = asked.under_way.fetch_add(1, Relaxed);
        if self.under_way.is_some_and(|most| before >= most.get()) {
            return Err(Problem::too_many_requests(
                1,
                "too many requests of this caller are under way",
            ));
        }
        if let Some(rate) = &asked.rate
            && let Err(too_soon) = rate.check()
        {
            let wait = too_soon.wait_time_from(rate.clock().now());
            let seconds = wait.as_secs_f64().ceil().max(1.0);
            return Err(Problem::too_many_requests(
                seconds as u32,
                "this caller sends more requests a second than one may",
            ));
        }
        Ok(under_way)
    }

    fn asked(&self, key: &Key) -> Arc<Asked> {
        if let Some(asked) = self.callers.get(key) {
            return asked;
        }
        let made = || {
            let rate = self.per_second.map(Quota::per_second);
            Ok::<_, Infallible>(Arc::new(Asked {
                rate: rate.map(RateLimiter::direct),
                under_way: AtomicU32::new(0),
            }))
        };
        match self.callers.get_or_insert_with(key, made) {
            Ok(asked) => asked,
        }
    }
}

/// A request that is under way until this is dropped.
pub struct UnderWay(Arc<Asked>);

impl fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnderWay")
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

/// The network of an address: whoever has one of IPv6 usually has all of its /64.
#[must_use]
pub fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(per_second: u32, under_way: u32) -> Limits {
        Limits::new(NonZeroU32::new(per_second), NonZeroU32::new(under_way))
    }

    fn from(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    fn nobody() -> Caller {
        Caller::new(None, [""; 0])
    }

    #[test]
    fn so_many_come_at_once_and_then_one_is_told_when_to_come_again() {
        // None comes back within this test.
        let limits = Limits(Some(Arc::new(Inner {
            per_second: NonZeroU32::new(1),
            under_way: None,
            callers: Cache::new(MOST),
        })));
        let (ann, bob) = (
            Caller::new(Some("ann"), [""; 0]),
            Caller::new(Some("bob"), [""; 0]),
        );
        assert!(limits.admit(&ann, None).is_ok());
        let problem = limits.admit(&ann, None).unwrap_err();
        assert_eq!((problem.status, &*problem.code), (429, "overloaded"));
        assert_eq!(problem.retry_after, Some(1));
        assert!(limits.admit(&bob, None).is_ok(), "somebody else");
    }

    #[test]
    fn so_many_are_under_way_at_once() {
        let limits = limits(0, 2);
        let ann = Caller::new(Some("ann"), [""; 0]);
        let first = limits.admit(&ann, None).unwrap();
        let _second = limits.admit(&ann, None).unwrap();
        assert_eq!(limits.admit(&ann, None).unwrap_err().status, 429);
        drop(first);
        let third = limits.admit(&ann, None);
        assert!(third.is_ok(), "one has ended");
        assert!(limits.admit(&ann, None).is_err());
    }

    #[test]
    fn a_caller_is_known_by_the_token_or_else_by_the_network() {
        let limits = limits(1, 0);
        let ann = Caller::new(Some("ann"), [""; 0]);
        assert!(limits.admit(&ann, from("192.0.2.1")).is_ok());
        assert!(limits.admit(&ann, from("192.0.2.2")).is_err());
        assert!(limits.admit(&nobody(), from("192.0.2.1")).is_ok());
        assert!(limits.admit(&nobody(), from("::ffff:192.0.2.1")).is_err());
        assert!(limits.admit(&nobody(), from("2001:db8::1")).is_ok());
        assert!(limits.admit(&nobody(), from("2001:db8::2")).is_err());
        assert!(limits.admit(&nobody(), from("2001:db8:0:1::1")).is_ok());
        for _ in 0..2 {
            assert!(limits.admit(&nobody(), None).is_ok());
            assert!(Limits::default().admit(&ann, None).is_ok());
        }
    }

    #[test]
    fn what_is_kept_of_callers_is_bounded() {
        let limits = limits(1, 1);
        let inner = limits.0.unwrap();
        for number in 0..2 * MOST as u64 {
            let _ = inner.admit(&Key::Network(number));
        }
        assert!(inner.callers.len() <= MOST);
    }
}
