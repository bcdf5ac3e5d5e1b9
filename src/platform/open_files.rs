//! The number of files that the process may have open, and what is left of them for the connections of clients.
//!
//! A connection takes one, and so does each of the store's tables, of the log's, and what is spoken to
//! NATS over. Where connections take the last one, the store cannot write any more.

use rlimit::Resource;

/// The least that is kept for everything but connections of clients, and the most.
const KEPT: std::ops::RangeInclusive<u64> = 96..=2_048;
/// The fewest connections, however few files there may be.
const FEWEST: usize = 16;

/// Raises the limit of open files as far as the process may, and returns how many connections of the
/// asked for fit into it.
pub(super) fn connections_within(asked: usize) -> usize {
    let limit = raise();
    // The store measures its process by a library that keeps a file open for each process and thread of
    // the machine, up to half of the limit: what 1,024 open files were used up by.
    sysinfo::set_open_files_limit(0);
    let fit = fitting(limit);
    if fit < asked {
        tracing::warn!(
            connections.asked = asked,
            connections.limit = fit,
            open_files.limit = limit,
            "fewer connections are served than asked for: raise the limit of open files (ulimit -n)"
        );
    }
    asked.min(fit)
}

/// Returns the limit as it then is. It is not an error where it cannot be raised.
fn raise() -> u64 {
    let Ok((soft, hard)) = Resource::NOFILE.get() else {
        return 1_024;
    };
    match Resource::NOFILE.set(hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays as it is");
            soft
        }
    }
}

fn fitting(limit: u64) -> usize {
    let kept = (limit / 4).clamp(*KEPT.start(), *KEPT.end());
    let fit = usize::try_from(limit.saturating_sub(kept)).unwrap_or(usize::MAX);
    fit.max(FEWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_files_is_kept_for_everything_else() {
        for (limit, fit) in [
            (64, 16),
            (256, 160),
            (1_024, 768),
            (16_384, 14_336),
            (1_048_576, 1_046_528),
        ] {
            assert_eq!(fitting(limit), fit, "{limit}");
        }
        assert!(fitting(u64::MAX) > 1 << 30);
    }
}
