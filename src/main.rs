//! The command line of Headwater.

use std::process::ExitCode;

/// Commands live for a millisecond and take some fifty small allocations on the way: see
/// docs/performance.md for what this makes of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    headwater::cli::run()
}
