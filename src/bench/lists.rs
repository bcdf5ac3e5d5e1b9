//! `bench lists`: every kind of list that the `product` view offers, over HTTP, in both directions, its
//! first page and a later one; then some whose documents are not in memory; one that is asked for again and
//! again, from memory; and documents by id beside a flood of the dearest list that there is.
//!
//! The log is filled with products, and the replica fills its view from it, as it would anywhere. There is
//! no floor: what is compared is descending with ascending and a later page with the first, in one run.

mod filled;

use super::{
    BenchError, Figures, LoadThreads, Plot, Sample, closed_loop,
    http::{self, Connection},
    log,
    processes::{self, Process, Scratch},
    queries::QueriesOptions,
    report::{common_settings, write_json},
};
use filled::{CATEGORIES, fill, size_of, until_sorted, wait_until_ready};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Mutex, task::JoinSet};

/// The list that is asked for again and again.
const REPEATED: &str = "category={c}&sort=price";
/// The dearest list that the view offers: it walks through all documents, compares each, and finds none.
const FLOOD: &str = "price_min=99000000&sort=name";
/// The lists that are asked for where no documents are in memory.
const READ: [(&str, &str); 2] = [LISTS[0], LISTS[3]];
/// The number of documents that are read by id beside it.
const BY_ID: usize = 1_000;
/// Which page a later one is.
const LATER: usize = 50;
/// The time of load before anything is measured.
const WARMING: Duration = Duration::from_millis(100);

/// The lists, each with its name and its parameters; `{c}` is a category.
const LISTS: [(&str, &str); 13] = [
    ("category, ascending", "category={c}&sort=price"),
    ("category, descending", "category={c}&sort=-price"),
    ("all, ascending", "sort=price"),
    ("all, descending", "sort=-price"),
    ("by name, ascending", "sort=name"),
    ("by name, descending", "sort=-name"),
    ("from a price, ascending", "price_min=50000&sort=price"),
    ("up to a price, descending", "price_max=50000&sort=-price"),
    (
        "two equalities, ascending",
        "category={c}&status=listed&sort=price",
    ),
    (
        "two equalities, descending",
        "category={c}&status=listed&sort=-price",
    ),
    (
        "category, between prices",
        "category={c}&price_min=50000&price_max=60000&sort=-price",
    ),
    ("category, counted", "category={c}&count=true"),
    ("all, counted", "count=true"),
];

/// The figures of each list.
#[derive(Debug, Clone, Serialize)]
pub struct Lists {
    /// The bench's name.
    pub bench: &'static str,
    /// By the list's name.
    pub lists: BTreeMap<String, Figures>,
    /// Descending by ascending and later by first, by median latency: the worst of all lists.
    pub ratios: BTreeMap<&'static str, f64>,
    /// With what it was measured.
    pub settings: Map<String, Value>,
}

/// Measures all lists over as many products as there are documents.
///
/// # Errors
///
/// Returns [`BenchError`] when the servers cannot be started, the view is not filled, or a list is refused.
pub async fn run(options: QueriesOptions) -> Result<Lists, BenchError> {
    let scratch = options.scratch().await?;
    let measured = async {
        let threads = LoadThreads::start()?;
        let log = log::open(&scratch, &threads).await?;
        fill(&log, &threads, options.documents).await?;

        let begun = Instant::now();
        let folder = scratch.folder().join("replica");
        let uncached = ["--list-cache-mb", "0"];
        let (replica, address) = start(&scratch, &folder, &uncached, options.documents).await?;
        let filling = begun.elapsed();

        let mut load = Load::start(&options, &threads, address).await?;
        let sorting = Instant::now();
        let sorted_bytes = until_sorted(address, options.documents).await?;
        let sorting = sorting.elapsed();
        let mut lists = measure_all(&options, &load, &LISTS).await?;
        let resident = replica.resident_bytes();
        let (alone, beside) = measure_flood(&options, &load).await?;
        replica.kill().await;

        let unkept = ["--list-cache-mb", "0", "--cache-mb", "0"];
        let (replica, address) = start(&scratch, &folder, &unkept, options.documents).await?;
        load = Load::start(&options, &threads, address).await?;
        until_sorted(address, options.documents).await?;
        for (name, figures) in measure_all(&options, &load, &READ).await? {
            lists.insert(format!("{name}, read from the store"), figures);
        }
        replica.kill().await;

        let (replica, address) = start(&scratch, &folder, &[], options.documents).await?;
        load = Load::start(&options, &threads, address).await?;
        let requests = requests(address, REPEATED, 1).await?;
        load.measure(&requests, WARMING).await?;
        let repeated = load.measure(&requests, load.length).await?.figures();
        lists.insert("from memory".to_owned(), repeated);
        let mut ratios = ratios(&lists);
        ratios.insert(
            "documents_beside_flood",
            beside.per_second / alone.per_second,
        );
        lists.insert("documents by id".to_owned(), alone);
        lists.insert("documents by id, beside a flood".to_owned(), beside);
        let mut settings = common_settings();
        settings.extend([
            ("documents".to_owned(), options.documents.into()),
            ("connections".to_owned(), options.clients.into()),
            ("seconds".to_owned(), options.length.as_secs_f64().into()),
            ("rounds".to_owned(), options.rounds.into()),
            ("later_page".to_owned(), LATER.into()),
            ("filled_in_seconds".to_owned(), filling.as_secs_f64().into()),
            ("sorted_in_seconds".to_owned(), sorting.as_secs_f64().into()),
            ("sorted_lists_bytes".to_owned(), sorted_bytes.into()),
            ("disk_bytes".to_owned(), size_of(&folder).into()),
        ]);
        if let Some(bytes) = resident {
            settings.insert("resident_bytes".to_owned(), bytes.into());
        }
        replica.kill().await;
        Ok(Lists {
            bench: "lists",
            ratios,
            lists,
            settings,
        })
    }
    .await;
    scratch.stop().await;
    measured
}

/// Starts a replica over what is in the folder, and waits until its views are filled.
async fn start(
    scratch: &Scratch,
    folder: &Path,
    more: &[&str],
    documents: usize,
) -> Result<(Process, SocketAddr), BenchError> {
    let roles = "command,projector,gateway";
    let mut replica = processes::replica(roles, &scratch.nats(), folder, more).await?;
    let address = http::address_in(&replica.line_with("http://").await?)?;
    wait_until_ready(address, documents).await?;
    Ok((replica, address))
}

/// The load: so many connections to one replica, each with one request under way.
struct Load<'a> {
    threads: &'a LoadThreads,
    address: SocketAddr,
    connections: Vec<Arc<Mutex<Connection>>>,
    /// The time one measurement of a round takes.
    length: Duration,
}

impl<'a> Load<'a> {
    async fn start(
        options: &QueriesOptions,
        threads: &'a LoadThreads,
        address: SocketAddr,
    ) -> Result<Self, BenchError> {
        let mut connections = Vec::new();
        for _ in 0..options.clients {
            connections.push(Arc::new(Mutex::new(Connection::open(address).await?)));
        }
        Ok(Self {
            threads,
            address,
            connections,
            length: options.length / options.rounds.max(1),
        })
    }

    /// Asks for these in turn.
    async fn measure(
        &self,
        requests: &Arc<Vec<Vec<u8>>>,
        length: Duration,
    ) -> Result<Sample, BenchError> {
        let (connections, requests) = (self.connections.clone(), Arc::clone(requests));
        let operation = move |worker: usize, done: u64| {
            let connection = Arc::clone(&connections[worker]);
            let requests = Arc::clone(&requests);
            async move {
                let number = (worker + done as usize) % requests.len();
                connection.lock().await.ask(&requests[number]).await?;
                Ok(())
            }
        };
        let (handle, clients) = (self.threads.handle(), self.connections.len());
        closed_loop(handle, clients, length, operation).await
    }

    /// Asks for a list on as many connections more, whatever the answer is, for as long as it is not dropped.
    fn flood(&self, request: Vec<u8>) -> JoinSet<()> {
        let mut flood = JoinSet::new();
        for _ in 0..self.connections.len() {
            let (address, request) = (self.address, request.clone());
            let asking = async move {
                while let Ok(mut connection) = Connection::open(address).await {
                    // One that is refused is asked for again, too.
                    while connection.ask(&request).await.is_ok() {}
                }
            };
            flood.spawn_on(asking, self.threads.handle());
        }
        flood
    }
}

async fn measure_all(
    options: &QueriesOptions,
    load: &Load<'_>,
    lists: &[(&str, &str)],
) -> Result<BTreeMap<String, Figures>, BenchError> {
    let mut rounds: BTreeMap<String, Vec<Figures>> = BTreeMap::new();
    for round in 0..options.rounds.max(1) {
        for (name, parameters) in lists {
            let mut pages = vec![(String::new(), 1)];
            if !parameters.contains("count") {
                pages.push((", later".to_owned(), LATER));
            }
            for (suffix, page) in pages {
                let requests = requests(load.address, parameters, page).await?;
                if round == 0 {
                    load.measure(&requests, WARMING).await?;
                }
                let sample = load.measure(&requests, load.length).await?;
                let figures = rounds.entry(format!("{name}{suffix}")).or_default();
                figures.push(sample.figures());
            }
        }
    }
    let medians = rounds.into_iter();
    Ok(medians
        .map(|(name, figures)| (name, Figures::medians(&figures)))
        .collect())
}

/// Documents by id, alone and beside a flood of the dearest list.
async fn measure_flood(
    options: &QueriesOptions,
    load: &Load<'_>,
) -> Result<(Figures, Figures), BenchError> {
    let ids = 0..BY_ID.min(options.documents);
    let requests = ids.map(|number| http::get(&format!("/views/product/bench-{number}"), &[]));
    let requests = Arc::new(requests.collect());
    load.measure(&requests, WARMING).await?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.max(1) {
        alone.push(load.measure(&requests, load.length).await?.figures());
        let flood = load.flood(http::get(&format!("/views/product?{FLOOD}"), &[]));
        load.measure(&requests, WARMING).await?;
        beside.push(load.measure(&requests, load.length).await?.figures());
        drop(flood);
    }
    Ok((Figures::medians(&alone), Figures::medians(&beside)))
}

/// One request for each category that the list can be of, each for this page, or an earlier one if that
/// is the last.
async fn requests(
    address: SocketAddr,
    parameters: &str,
    page: usize,
) -> Result<Arc<Vec<Vec<u8>>>, BenchError> {
    let mut connection = Connection::open(address).await?;
    let several = if parameters.contains("{c}") {
        CATEGORIES
    } else {
        1
    };
    let mut requests = Vec::new();
    for category in 0..several {
        let parameters = parameters.replace("{c}", &format!("c{category}"));
        let path = format!("/views/product?{parameters}");
        let mut request = http::get(&path, &[]);
        for _ in 1..page {
            let body = connection.ask(&request).await?;
            let list: Value = serde_json::from_slice(body).map_err(BenchError::new)?;
            let Some(next) = list["next"].as_str() else {
                break;
            };
            request = http::get(&format!("{path}&cursor={next}"), &[]);
        }
        requests.push(request);
    }
    Ok(Arc::new(requests))
}

fn ratios(lists: &BTreeMap<String, Figures>) -> BTreeMap<&'static str, f64> {
    let worst = |from: &str, to: &str| {
        let pairs = lists
            .iter()
            .filter(|(name, _)| name.contains(to) && !name.contains("read from"));
        let pairs = pairs.filter_map(|(name, figures)| {
            Some(figures.p50_ms / lists.get(&name.replace(to, from))?.p50_ms)
        });
        pairs.fold(0.0, f64::max)
    };
    BTreeMap::from([
        ("descending_to_ascending", worst("ascending", "descending")),
        ("later_to_first", worst("", ", later")),
    ])
}

impl Lists {
    /// Prints the table and, if files are named, writes the JSON and draws the plot: list by list, in the order of the
    /// table.
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] when a file cannot be written.
    pub fn tell(&self, json: Option<&Path>, plot: Option<&Path>) -> Result<(), BenchError> {
        print!("{self}");
        json.map_or(Ok(()), |path| write_json(self, path))?;
        let along = "list, in the order of the table";
        let drawn = || Plot::of_each(self.bench, along, self.lists.values());
        plot.map_or(Ok(()), |path| drawn().write(path))
    }
}

impl fmt::Display for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<36}{:>12}{:>11}{:>11}",
            self.bench, "per second", "p50 ms", "p99 ms"
        )?;
        for (name, of) in &self.lists {
            writeln!(
                f,
                "  {name:<34}{:>12.0}{:>11.3}{:>11.3}",
                of.per_second, of.p50_ms, of.p99_ms
            )?;
        }
        for (name, ratio) in &self.ratios {
            writeln!(f, "  ratio {name:<28}{ratio:>12.2}")?;
        }
        for (name, value) in &self.settings {
            writeln!(f, "  {name}: {value}")?;
        }
        Ok(())
    }
}
