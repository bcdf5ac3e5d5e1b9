//! The sizes of the command side.

use std::time::Duration;

/// The sizes of the command side of one replica.
#[derive(Debug, Clone, Copy)]
pub struct CommandOptions {
    /// Threads that run aggregate actors.
    pub threads: usize,
    /// The most commands under way or waiting on this replica; the next is answered `overloaded`.
    pub max_commands: u32,
    /// The most live actors of this replica; past it the least recently used idle ones go first.
    pub max_actors: usize,
    /// An actor that was not used for so long is passivated.
    pub idle: Duration,
}

impl Default for CommandOptions {
    /// One thread for each two cores up to four, since what a thread decides keeps as much of a core
    /// busy in NATS; 16,384 commands, which at 64 KiB each is a bounded 1 GiB;
    /// 100,000 actors, some 400 MB at the usual size of a state; a minute, long enough that a
    /// shopper's next click finds the actor warm.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            threads: (cores / 2).clamp(1, 4),
            max_commands: 16_384,
            max_actors: 100_000,
            idle: Duration::from_secs(60),
        }
    }
}
