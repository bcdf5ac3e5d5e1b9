//! The common part of the benches of the query side: a replica with products in its views.

use super::{
    BenchError,
    http::{self, Connection},
    load::once_each,
    processes::{self, Process, Scratch},
};
use crate::{event_log::topology::Durability, platform::NatsAddress};
use async_nats::{Client, HeaderMap, Request};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::runtime::Handle;

/// The number of commands that are under way while the products are made.
const MAKING: usize = 128;
/// The time the view may take to have them.
const LIMIT: Duration = Duration::from_secs(900);

/// The settings of a measurement of the query side.
#[derive(Debug, Clone)]
pub struct QueriesOptions {
    /// The number of documents there are.
    pub documents: usize,
    /// The name of the product of a number.
    pub names: fn(usize) -> String,
    /// The number of connections or clients there are.
    pub clients: usize,
    /// The time that ours, and each floor, is measured altogether.
    pub length: Duration,
    /// In how many rounds.
    pub rounds: u32,
    /// True if documents are kept in the gateway's memory.
    pub cached: bool,
    /// The number of commands a second that are given, where commands are.
    pub rate: u64,
    /// True if the nats-server that is started syncs each append.
    pub durable: bool,
    /// The nats-server to start.
    pub nats_server: Option<PathBuf>,
    /// The token that products are made and documents read with.
    pub token: Option<String>,
    /// The server that is there and measured; without it, servers are started.
    pub there: Option<There>,
}

/// A mart that runs already.
#[derive(Debug, Clone)]
pub struct There {
    /// Its NATS.
    pub nats: NatsAddress,
    /// The place where its gateway serves HTTP.
    pub http: SocketAddr,
}

impl QueriesOptions {
    /// Starts a nats-server in a folder of its own, if there is none.
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] when it cannot be started.
    pub async fn scratch(&self) -> Result<Scratch, BenchError> {
        if let Some(there) = &self.there {
            return Scratch::beside(there.nats.clone());
        }
        let durability = if self.durable {
            Durability::SingleDurable
        } else {
            Durability::Dev
        };
        Scratch::start(durability, self.nats_server.clone()).await
    }
}

/// A replica of all roles, and products in it.
pub struct Mart {
    /// Unless it was there.
    process: Option<Process>,
    /// The address where it serves HTTP.
    pub address: SocketAddr,
    /// A connection to its NATS.
    pub nats: Client,
    products: Arc<Products>,
}

/// The products of one run, which has names of its own where others may have been before.
struct Products {
    count: usize,
    prefix: String,
    commands: AtomicU64,
    /// The token that commands are given and documents read with, as it is sent.
    token: Option<String>,
}

impl Products {
    fn sku(&self, number: usize) -> String {
        format!("{}-{number}", self.prefix)
    }
}

impl Mart {
    /// Starts the replica if there is none, makes products, and waits until the view has them.
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] when it does not start or a command is refused.
    pub async fn start(
        scratch: &Scratch,
        options: &QueriesOptions,
        threads: &Handle,
    ) -> Result<Self, BenchError> {
        let nats = scratch.nats();
        let (process, address) = match &options.there {
            Some(there) => (None, there.http),
            None => {
                // A list is never measured from memory here.
                let more: &[&str] = match options.cached {
                    true => &["--list-cache-mb", "0"],
                    false => &["--list-cache-mb", "0", "--cache-mb", "0"],
                };
                let folder = scratch.folder().join("replica");
                let roles = "command,projector,gateway";
                let mut process = processes::replica(roles, &nats, &folder, more).await?;
                let address = http::address_in(&process.line_with("http://").await?)?;
                (Some(process), address)
            }
        };
        let connecting =
            threads.spawn(async move { crate::platform::connect(&nats, "bench").await });
        let nats = connecting.await.map_err(BenchError::new)?;
        let run = uuid::Uuid::now_v7().simple();
        let mart = Self {
            process,
            address,
            nats: nats.map_err(BenchError::new)?,
            products: Arc::new(Products {
                count: options.documents,
                prefix: match options.there {
                    Some(_) => format!("bench-{run}"),
                    None => "bench".to_owned(),
                },
                commands: AtomicU64::new(0),
                token: (options.token.as_ref()).map(|token| format!("Bearer {token}")),
            }),
        };
        let making = MAKING.min(options.documents);
        let (nats, products) = (mart.nats.clone(), Arc::clone(&mart.products));
        let names = options.names;
        once_each(threads, making, options.documents, move |number| {
            let (nats, products) = (nats.clone(), Arc::clone(&products));
            async move {
                let name = names(number);
                let fields =
                    format!(r#"{{"name":"{name}","price":4900,"category":"fruit","unit":"bag"}}"#);
                command(&nats, &products, number, "register", fields).await?;
                Ok(())
            }
        })
        .await?;
        let position = mart.reprice(0, 5_000).await?;
        let mut connection = Connection::open(address).await?;
        let mut wait = vec![
            ("Headwater-Min-Position", &*position),
            ("Headwater-Max-Wait-Ms", "30000"),
        ];
        wait.extend(mart.authorization());
        let begun = Instant::now();
        let read = http::get(&mart.path(0), &wait);
        // A view of many documents takes longer than a reader may wait.
        while let Err(error) = connection.ask(&read).await {
            if !error.to_string().starts_with("answered 504") || begun.elapsed() > LIMIT {
                return Err(error);
            }
        }
        Ok(mart)
    }

    /// The path of a product's document.
    #[must_use]
    pub fn path(&self, number: usize) -> String {
        format!("/views/product/{}", self.products.sku(number))
    }

    /// The header that says who reads, where somebody has to.
    pub fn authorization(&self) -> Option<(&'static str, &str)> {
        let token = self.products.token.as_deref();
        token.map(|token| ("Authorization", token))
    }

    /// Returns how many products there are.
    #[must_use]
    pub fn documents(&self) -> usize {
        self.products.count
    }

    /// The memory that the replica has resident, in bytes, if it was started here.
    #[must_use]
    pub fn resident_bytes(&self) -> Option<u64> {
        self.process.as_ref()?.resident_bytes()
    }

    /// The processor time that the replica has used, if it was started here.
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        self.process.as_ref()?.cpu_time()
    }

    /// Gives a product a price; returns the position.
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] when the command is refused.
    pub async fn reprice(&self, number: usize, price: u64) -> Result<String, BenchError> {
        let fields = format!(r#"{{"price":{price}}}"#);
        command(&self.nats, &self.products, number, "reprice", fields).await
    }

    /// Ends the replica that was started.
    pub async fn stop(self) {
        if let Some(process) = self.process {
            process.kill().await;
        }
    }
}

async fn command(
    nats: &Client,
    products: &Products,
    number: usize,
    command: &str,
    fields: String,
) -> Result<String, BenchError> {
    let mut headers = HeaderMap::new();
    let key = products.commands.fetch_add(1, Ordering::Relaxed);
    headers.insert("Idempotency-Key", format!("{}-{key}", products.prefix));
    if let Some(token) = &products.token {
        headers.insert("Authorization", token.as_str());
    }
    let request = Request::new().headers(headers).payload(fields.into());
    let subject = format!("cmd.product.{}.{command}", products.sku(number));
    let reply = nats
        .send_request(subject, request)
        .await
        .map_err(BenchError::new)?;
    let headers = reply.headers.as_ref();
    let position = headers.and_then(|headers| headers.get("Headwater-Position"));
    position.map(ToString::to_string).ok_or_else(|| {
        let problem = String::from_utf8_lossy(&reply.payload);
        BenchError::new(format!("a command was refused: {problem}"))
    })
}
