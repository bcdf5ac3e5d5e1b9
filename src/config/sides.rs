//! The flags of the two sides, wherever they run.

use super::{AuthConfig, TraceConfig};
use crate::{
    access::Access,
    command::client::CommandOptions,
    event_log::{AppendChoice, secret::Secret},
    http::{self, MAX_CONNECTIONS, Origin, Tls},
    projection::VerifyOptions,
    request_reply::{InboxPrefix, Inboxes},
};
use clap::Args;
use std::{
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};
use zeroize::Zeroizing;

/// The settings of a replica wherever it runs.
#[derive(Debug, Clone, Args)]
pub struct SidesConfig {
    /// The inbox prefixes of clients over NATS, besides _INBOX: those of their
    /// libraries, separated by commas. A request that wants its answer elsewhere is not carried out
    // An answer is published with the replica's rights, to wherever the caller says.
    #[arg(long, env = "HEADWATER_INBOX_PREFIX", value_delimiter = ',')]
    pub inbox_prefix: Vec<InboxPrefix>,
    /// Callers, and what they may do.
    #[command(flatten)]
    pub auth: AuthConfig,
    /// The settings of queries.
    #[command(flatten)]
    pub gateway: GatewayConfig,
    /// The sizes of the command side
    #[command(flatten)]
    pub command: CommandConfig,
    /// The comparison of the views with the log
    #[command(flatten)]
    pub verify: VerifyConfig,
    /// Which traces are recorded, and where they are exported to
    #[command(flatten)]
    pub trace: TraceConfig,
}

impl SidesConfig {
    /// Finds out who asks, for a replica that serves HTTP there.
    ///
    /// # Errors
    ///
    /// As [`AuthConfig::access`].
    pub fn access(&self, http: SocketAddr) -> Result<Access, String> {
        let admin = self.gateway.admin_addr.map(|admin| ("--admin-addr", admin));
        let served = std::iter::once(("--http-addr", http)).chain(admin);
        self.auth.access(served)
    }

    /// Returns where answers over NATS may go.
    #[must_use]
    pub fn inboxes(&self) -> Inboxes {
        Inboxes::with(self.inbox_prefix.iter().cloned())
    }
}

/// The sizes of the command side, and the way it appends.
#[derive(Debug, Clone, Args)]
pub struct CommandConfig {
    /// The way appends reach the log
    #[arg(long, env = "HEADWATER_APPEND", default_value = "auto")]
    pub append: AppendChoice,
    /// The file with the secret under which unique keys are hidden in the log: at least 16 bytes, the
    /// same for every replica and for as long as the log lives
    // A plain hash of an e-mail address is found by trying addresses.
    #[arg(long, env = "HEADWATER_SECRET_FILE")]
    pub secret_file: Option<PathBuf>,
    /// The most live aggregates of this replica; past it the least recently used go first
    // At some 4 KiB each, 400 MB.
    #[arg(long, env = "HEADWATER_MAX_ACTORS", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_actors: u32,
    /// The most commands under way on this replica; the next is answered 429
    // At the largest body, 64 KiB, 1 GiB.
    #[arg(long, env = "HEADWATER_MAX_COMMANDS", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_commands: u32,
    /// After how many seconds without a command an aggregate leaves memory
    // Long enough that a shopper's next click finds it there.
    #[arg(long, env = "HEADWATER_IDLE_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub idle_seconds: u64,
    /// The number of threads that decide commands, each by a connection to NATS of its own; by default one for
    /// each two cores, up to 4
    #[arg(long, env = "HEADWATER_COMMAND_THREADS", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub command_threads: Option<u8>,
}

impl CommandConfig {
    /// Reads the secret, where there is a file with one.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the file.
    pub fn secret(&self) -> Result<Option<Secret>, String> {
        read_secret(self.secret_file.as_deref())
    }

    /// The sizes, and the defaults of what cannot be set from outside.
    #[must_use]
    pub fn options(&self) -> CommandOptions {
        let default = CommandOptions::default();
        CommandOptions {
            threads: self.command_threads.map_or(default.threads, usize::from),
            max_actors: self.max_actors as usize,
            max_commands: self.max_commands,
            idle: Duration::from_secs(self.idle_seconds),
        }
    }
}

/// Reads the secret of `--secret-file`, where there is one.
pub(super) fn read_secret(file: Option<&Path>) -> Result<Option<Secret>, String> {
    let Some(file) = file else {
        return Ok(None);
    };
    let wrong = |reason: String| format!("--secret-file {}: {reason}", file.display());
    let content = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let content = Zeroizing::new(content);
    Secret::new(&content).map(Some).map_err(wrong)
}

/// The comparison of its views with the log that a replica makes by itself.
#[derive(Debug, Clone, Args)]
pub struct VerifyConfig {
    /// About how many documents a minute this replica compares with the log by itself; 0 for none
    // For each one, at most 500 commits are read: at 60, some 500 a second, a few percent of a core.
    #[arg(long, env = "HEADWATER_VERIFY_PER_MINUTE", default_value_t = VerifyOptions::PER_MINUTE, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub verify_per_minute: u32,
    /// Set documents right that are found not to be what the log says; what was there is kept for a week
    #[arg(long, env = "HEADWATER_REPAIR")]
    pub repair: bool,
}

impl VerifyConfig {
    /// Returns how the views are compared, with a folder for what that takes.
    #[must_use]
    pub fn options(&self, folder: PathBuf) -> VerifyOptions {
        VerifyOptions::new(folder).unasked(self.verify_per_minute, self.repair)
    }
}

/// The settings of a gateway's answers.
#[derive(Debug, Clone, Args)]
pub struct GatewayConfig {
    /// The address at which operators are served, apart from callers: /metrics, /processes, /ops and /console are
    /// there then, and not at --http-addr; port 0 takes a free one
    #[arg(long, env = "HEADWATER_ADMIN_ADDR")]
    pub admin_addr: Option<SocketAddr>,
    /// The memory for documents as they are served, in MiB; 0 for none
    #[arg(long, env = "HEADWATER_CACHE_MB", default_value_t = 64)]
    pub cache_mb: usize,
    /// The memory for pages of lists as they are served, in MiB, for as long as no document
    /// of the view changes; 0 for nothing
    #[arg(long, env = "HEADWATER_LIST_CACHE_MB", default_value_t = 32)]
    pub list_cache_mb: usize,
    /// The memory for sorted lists of what is served, in MiB, where documents are kept in this process; 0 for none. A view
    /// for which that does not suffice has its lists read from the store
    // 1,000,000 products take some four fifths of it.
    #[arg(long, env = "HEADWATER_LIST_INDEX_MB", default_value_t = 256)]
    pub list_index_mb: usize,
    /// The memory that each index of texts is written with, in MiB, where documents are kept in this process;
    /// 0 for none: searches then read all that match
    // What the library takes at least is 15 MiB. More makes larger steps of a first filling.
    #[arg(long, env = "HEADWATER_SEARCH_MEMORY_MB", default_value_t = 32, value_parser = clap::value_parser!(u16).range(0..=2_048))]
    pub search_memory_mb: u16,
    /// The number of clients that may be connected at once, as far as there are open files for them; where all
    /// connections are in use, further ones are answered 503
    // Beside as many live clients as there may be, room for those that come and go.
    #[arg(long, env = "HEADWATER_MAX_CONNECTIONS", default_value_t = MAX_CONNECTIONS as u32, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// The number of connections that one address may have open at once (of IPv6, one /64); further ones are answered
    /// 429. As many as there may be unless given: behind a proxy all come from one
    #[arg(long, env = "HEADWATER_MAX_CONNECTIONS_PER_ADDRESS")]
    pub max_connections_per_address: Option<NonZeroU32>,
    /// The certificate that clients over HTTP are shown, with those between it and its authority, in PEM. It is
    /// renewed as the file is, without a restart; HTTP is served over TLS alone then
    #[arg(long, env = "HEADWATER_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert, in PEM
    #[arg(long, env = "HEADWATER_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// The number of clients that may follow documents live at once; an eighth of all connections is left to others
    #[arg(long, env = "HEADWATER_MAX_LIVE", default_value_t = 10_000)]
    pub max_live: usize,
    /// The pause between two signs of life to a client that follows documents live, in seconds
    // Below the 60 s after which common proxies close what is silent.
    #[arg(long, env = "HEADWATER_LIVE_HEARTBEAT_SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub live_heartbeat_seconds: u64,
    /// The origins of the web pages that may use the gateway from a browser, such as
    /// https://shop.example, separated by commas; none unless given
    #[arg(long, env = "HEADWATER_ALLOW_ORIGIN", value_delimiter = ',', value_parser = Origin::read)]
    pub allow_origin: Vec<Origin>,
}

impl GatewayConfig {
    /// Returns how many bytes of documents are kept in memory.
    #[must_use]
    pub fn cache(&self) -> usize {
        self.cache_mb.saturating_mul(1 << 20)
    }

    /// Returns how many bytes of pages of lists are kept in memory.
    #[must_use]
    pub fn list_cache(&self) -> usize {
        self.list_cache_mb.saturating_mul(1 << 20)
    }

    /// Returns how many bytes of memory the sorted lists take at most.
    #[must_use]
    pub fn list_index(&self) -> usize {
        self.list_index_mb.saturating_mul(1 << 20)
    }

    /// Returns how many bytes of memory each index of texts is written with.
    #[must_use]
    pub fn search_memory(&self) -> usize {
        usize::from(self.search_memory_mb) << 20
    }

    /// Returns how HTTP is served at an address, with the defaults of what cannot be set from outside.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the certificate or its key.
    pub fn http(&self, address: SocketAddr) -> Result<http::Options, String> {
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(Tls::open(certificate, key)?),
            _ => None,
        };
        Ok(http::Options {
            tls,
            max_connections_per_address: self.max_connections_per_address,
            address,
            admin: self.admin_addr,
            max_connections: self.max_connections as usize,
            max_live: self.max_live,
            live_heartbeat: Duration::from_secs(self.live_heartbeat_seconds),
            allowed_origins: self.allow_origin.clone(),
            ..http::Options::default()
        })
    }
}
