//! Everything on one machine in one process: what `headwater dev` and the examples run on.
//!
//! A data folder that one process holds at a time, a nats-server child that ends with its parent, and
//! a platform with every role over both. Nothing here is used in production, where NATS runs on its
//! own.

pub mod nats_server;
mod secured;

pub use secured::Secured;

use crate::{
    access::Access,
    command::client::CommandOptions,
    config::Role,
    data_dir::{DataDir, DataDirError},
    event_log::{AppendChoice, secret::Secret, topology::Durability},
    http,
    platform::{self, Domain, NatsAddress, Platform, PlatformOptions, StartError},
    projection::VerifyOptions,
    read_model::{DEFAULT_CACHE, DEFAULT_LIST_CACHE, DEFAULT_LIST_INDEX, DEFAULT_SEARCH_MEMORY},
    request_reply::Inboxes,
};
use nats_server::{NatsServer, NatsServerError, NatsServerOptions, ServerUsers};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The settings of everything on one machine.
#[derive(Debug, Clone)]
pub struct DevOptions {
    /// The folder that holds everything.
    pub data_dir: PathBuf,
    /// The address and settings of HTTP; port 0 takes a free one.
    pub http: http::Options,
    /// The port of the nats-server; a free one when `None`.
    pub nats_port: Option<u16>,
    /// The nats-server to run; found by [`nats_server::find`] when `None`.
    pub nats_server: Option<PathBuf>,
    /// The keys of a system where nobody may more than they have to; everybody may everything in NATS when `None`.
    pub secured: Option<Arc<Secured>>,
    /// True if what is in the folder is deleted first.
    pub reset: bool,
    /// The number of bytes of documents that are kept in memory as they are served; 0 for none.
    pub cache: usize,
    /// The number of bytes of pages of lists that are kept in memory as they are served; 0 for none.
    pub list_cache: usize,
    /// The number of bytes of memory each index of texts is written with; 0 for no such index.
    pub search_memory: usize,
    /// The number of bytes that the sorted lists of all views take at most; 0 for none.
    pub list_index: usize,
    /// About how many documents a minute are compared with the log unasked; 0 for none.
    pub verify_per_minute: u32,
    /// True if those that differ are set right.
    pub repair: bool,
    /// The sizes of the command side.
    pub command: CommandOptions,
    /// The way appends reach the log.
    pub append: AppendChoice,
    /// Under what unique keys are hidden in the log; a secret that is made up and kept in the folder
    /// when `None`.
    pub secret: Option<Secret>,
    /// The place where answers over NATS may go.
    pub inboxes: Inboxes,
    /// Finds out who asks, and what they may.
    pub access: Access,
    /// True if the processes of the domain are run.
    pub processes: bool,
    /// True if they wait for [`Dev::begin_processes`].
    pub processes_later: bool,
}

impl DevOptions {
    /// Free ports, and whatever is in the folder.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            http: http::Options {
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                ..http::Options::default()
            },
            nats_port: None,
            nats_server: None,
            secured: None,
            reset: false,
            cache: DEFAULT_CACHE,
            list_cache: DEFAULT_LIST_CACHE,
            search_memory: DEFAULT_SEARCH_MEMORY,
            list_index: DEFAULT_LIST_INDEX,
            verify_per_minute: VerifyOptions::PER_MINUTE,
            repair: false,
            command: CommandOptions::default(),
            append: AppendChoice::Auto,
            secret: None,
            inboxes: Inboxes::default(),
            access: Access::open(),
            processes: true,
            processes_later: false,
        }
    }
}

/// A running system: NATS and one replica with every role.
pub struct Dev {
    platform: Platform,
    nats: NatsServer,
    data: DataDir,
    temporary: bool,
}

impl Dev {
    /// Takes the folder, starts nats-server, and starts every role.
    ///
    /// # Errors
    ///
    /// Returns [`DevError`]; nothing is left running then.
    pub async fn start(domain: Domain, options: DevOptions) -> Result<Self, DevError> {
        let data = DataDir::open(&options.data_dir)?;
        if options.reset {
            data.reset()?;
        }
        let mut server = NatsServerOptions::new(data.nats());
        server.binary = options.nats_server;
        server.port = options.nats_port;
        server.users = options.secured.as_ref().map(|secured| ServerUsers {
            config: secured.server_config(),
            seed: secured.operator(),
        });
        let nats = NatsServer::start(server).await?;
        let address = match &options.secured {
            None => nats.client_url().into(),
            Some(secured) => {
                // A replica may not make what it needs.
                let operator = secured.operator_at(nats.client_url());
                if let Err(error) = set_up(&domain, &operator).await {
                    nats.stop().await;
                    return Err(error.into());
                }
                secured.replica_at(nats.client_url())
            }
        };

        // Views can be folded from the log again, so a write that a machine's crash loses costs
        // nothing but time.
        let store = format!("surrealkv://{}?sync=1s", data.views().display());
        let mut platform = PlatformOptions::new(address, store, "dev");
        platform.http = options.http;
        platform.cache = options.cache;
        platform.list_cache = options.list_cache;
        platform.search_memory = options.search_memory;
        platform.list_index = options.list_index;
        platform.verify =
            VerifyOptions::new(data.refold()).unasked(options.verify_per_minute, options.repair);
        platform.command = options.command;
        platform.append = options.append;
        platform.secret = Some(match options.secret {
            Some(secret) => secret,
            None => data.secret()?,
        });
        platform.inboxes = options.inboxes;
        platform.access = options.access;
        if options.processes {
            platform.roles.insert(Role::Process);
        }
        platform.processes_later = options.processes_later;
        platform.server.durability = Some(nats.durability());
        match Platform::start(domain, platform).await {
            Ok(platform) => Ok(Self {
                platform,
                nats,
                data,
                temporary: false,
            }),
            Err(error) => {
                nats.stop().await;
                Err(error.into())
            }
        }
    }

    /// Starts in a new folder that is deleted again by [`Dev::stop`].
    ///
    /// # Errors
    ///
    /// As [`Dev::start`].
    pub async fn start_temporary(domain: Domain) -> Result<Self, DevError> {
        let name = format!("headwater-{}", uuid::Uuid::now_v7().simple());
        let options = DevOptions::new(std::env::temp_dir().join(name));
        let dev = Self::start(domain, options).await?;
        Ok(Self {
            temporary: true,
            ..dev
        })
    }

    /// Begins the processes, where that was left for later.
    ///
    /// # Errors
    ///
    /// As [`Platform::begin_processes`].
    pub async fn begin_processes(&mut self) -> Result<(), StartError> {
        self.platform.begin_processes().await
    }

    /// The replica.
    #[must_use]
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Returns where NATS clients connect.
    #[must_use]
    pub fn nats_url(&self) -> String {
        self.nats.client_url()
    }

    /// Returns what an acknowledged append is worth.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.nats.durability()
    }

    /// The folder that holds everything.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.data.path()
    }

    /// Returns where it is noted that the log has had its sample data: beside the log, so that both go
    /// together.
    #[must_use]
    pub fn seeded_marker(&self) -> PathBuf {
        self.data.nats().join("seeded")
    }

    /// Stops the roles, then nats-server.
    pub async fn stop(self) {
        self.platform.stop().await;
        self.nats.stop().await;
        if self.temporary
            && let Err(error) = std::fs::remove_dir_all(self.data.path())
        {
            tracing::warn!(%error, "the temporary folder stays");
        }
    }
}

/// Makes the streams, as an operator.
async fn set_up(domain: &Domain, operator: &NatsAddress) -> Result<(), StartError> {
    let nats = platform::connect(operator, "dev").await?;
    domain.topology().apply(&nats).await?;
    Ok(())
}

/// The system cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The folder cannot be used.
    #[error(transparent)]
    Data(#[from] DataDirError),
    /// No nats-server can be run.
    #[error(transparent)]
    Nats(#[from] NatsServerError),
    /// The roles cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
}
