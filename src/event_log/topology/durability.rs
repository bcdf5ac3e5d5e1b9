//! The worth of an acknowledged append.

use std::fmt;

/// The promise of the server's settings about an acknowledged append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// One server, acknowledged before fsync: survives the crash of any process, not of the machine.
    Dev,
    /// One server, acknowledged after fsync: survives the machine's crash, not its loss.
    SingleDurable,
    /// Three replicas, each after fsync: survives the loss of a machine.
    Cluster,
}

impl Durability {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::SingleDurable => "single durable",
            Self::Cluster => "cluster",
        }
    }

    /// Its promise, in words for a person.
    #[must_use]
    pub fn promise(self) -> &'static str {
        match self {
            Self::Dev => "fsync every 2 minutes: a machine's crash may lose the last ones",
            Self::SingleDurable => "fsync before every acknowledgement",
            Self::Cluster => "3 replicas, fsync before every acknowledgement",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.promise())
    }
}
