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

    /// A point, and after how many times of passing it something happens: `<point>:<count>`.
    struct Point {
        said: Option<(String, u64)>,
        passed: AtomicU64,
    }

    impl Point {
        fn of(variable: &str) -> Self {
            let said = std::env::var(variable).ok();
            let said = said.as_deref().and_then(|said| said.split_once(':'));
            let said =
                said.and_then(|(point, count)| Some((point.to_owned(), count.parse().ok()?)));
            Self {
                said,
                passed: AtomicU64::new(0),
            }
        }

        fn is_reached(&self, point: &str) -> bool {
            self.said.as_ref().is_some_and(|(at, count)| {
                at == point && self.passed.fetch_add(1, Ordering::Relaxed) + 1 == *count
            })
        }
    }

    static END_AT: LazyLock<Point> = LazyLock::new(|| Point::of("HEADWATER_TEST_END_AT"));
    static STOP_AT: LazyLock<Point> = LazyLock::new(|| Point::of("HEADWATER_TEST_STOP_AT"));

    /// Ends the replica, as a crash does, or stops it until it is told to continue, if this is the point.
    pub(in crate::processes) fn pass(point: &str) {
        if END_AT.is_reached(point) {
            std::process::abort();
        }
        if STOP_AT.is_reached(point) {
            let own = std::process::id().to_string();
            let _ = std::process::Command::new("kill")
                .args(["-STOP", &own])
                .status();
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
