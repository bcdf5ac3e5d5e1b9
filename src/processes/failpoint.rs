//! Points at which the tests end a replica, and what else they have it do. In a build without debug assertions none
//! of this is there.

#[cfg(debug_assertions)]
mod tested {
    use std::{
        sync::{
            LazyLock,
            atomic::{AtomicU64, Ordering},
        },
        time::Duration,
    };

    /// The point, and after how many times of passing it the replica ends: `<point>:<count>`.
    static END_AT: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let said = std::env::var("HEADWATER_TEST_END_AT").ok()?;
        let (point, count) = said.split_once(':')?;
        Some((point.to_owned(), count.parse().ok()?))
    });
    static PASSED: AtomicU64 = AtomicU64::new(0);

    /// Ends the replica, as a crash does, if this is the point.
    pub(in crate::processes) fn pass(point: &str) {
        if let Some((end, count)) = &*END_AT
            && end == point
            && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *count
        {
            std::process::abort();
        }
    }

    /// After how long a step is taken over.
    pub(in crate::processes) fn take_over(otherwise: Duration) -> Duration {
        let said = std::env::var("HEADWATER_TEST_TAKE_OVER_MS").ok();
        let said = said.and_then(|said| said.parse().ok());
        said.map_or(otherwise, Duration::from_millis)
    }

    /// True if the replica takes itself for the home of every process.
    pub(in crate::processes) fn is_home_of_all() -> bool {
        static ALL: LazyLock<bool> =
            LazyLock::new(|| std::env::var_os("HEADWATER_TEST_HOME_OF_ALL").is_some());
        *ALL
    }
}

#[cfg(debug_assertions)]
pub(super) use tested::{is_home_of_all, pass, take_over};

#[cfg(not(debug_assertions))]
mod nothing {
    use std::time::Duration;

    #[inline]
    pub(in crate::processes) fn pass(_: &str) {}

    #[inline]
    pub(in crate::processes) fn take_over(otherwise: Duration) -> Duration {
        otherwise
    }

    #[inline]
    pub(in crate::processes) fn is_home_of_all() -> bool {
        false
    }
}

#[cfg(not(debug_assertions))]
pub(super) use nothing::{is_home_of_all, pass, take_over};
