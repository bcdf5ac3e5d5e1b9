//! The products that lists are measured over, and a replica that has filled its view of them.

use crate::bench::{
    BenchError, LoadThreads,
    http::{self, Connection},
    load::once_each,
    log::{Appends, MAKING},
};
use crate::{
    event_log::EventLog,
    mart::product::{Event, Product},
    stable_hash,
};
use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

/// The number of categories there are.
pub(super) const CATEGORIES: u64 = 20;
/// The longest that filling the view may take, for each document: ten times what it takes.
const FILLING: Duration = Duration::from_millis(5);

/// Appends the events of so many products, which differ in all that lists are about.
pub(super) async fn fill(
    log: &EventLog,
    threads: &LoadThreads,
    products: usize,
) -> Result<(), BenchError> {
    let log = log.clone();
    let making = MAKING.min(products);
    once_each(threads.handle(), making, products, move |product| {
        let log = log.clone();
        async move {
            let mut appends = Appends::<Product>::new(&log, &format!("bench-{product}"))?;
            appends.append(&events_of(product as u64)).await?;
            Ok(())
        }
    })
    .await
}

/// A product like others of a grocery's: Korean and English names of some words, prices that repeat, one
/// in ten discontinued.
fn events_of(product: u64) -> Vec<Event> {
    const KINDS: [(&str, &str); 8] = [
        ("사과", "apples"),
        ("배", "pears"),
        ("바나나", "bananas"),
        ("우유", "milk"),
        ("두부", "tofu"),
        ("김치", "kimchi"),
        ("고등어", "mackerel"),
        ("참기름", "sesame oil"),
    ];
    let random = stable_hash::mixed(product);
    let (name, name_en) = KINDS[(random % 8) as usize];
    let mut events = vec![Event::Registered {
        name: format!("제주 {name} {}", random >> 40),
        name_en: Some(format!("Jeju {name_en} {}", random >> 40)),
        price: 100 + (random >> 8) as i64 % 9_990 * 10,
        category: format!("c{}", product % CATEGORIES),
        unit: Some("bag".to_owned()),
        barcode: Some(format!("88{product:011}")),
        description: None,
    }];
    if product % 10 == 3 {
        events.push(Event::Discontinued {});
    }
    events
}

/// Waits until the replica has filled its views.
pub(super) async fn wait_until_ready(
    address: SocketAddr,
    documents: usize,
) -> Result<(), BenchError> {
    let until = Instant::now() + longest(documents);
    let request = http::get("/readyz", &[]);
    loop {
        let asked = async {
            Connection::open(address)
                .await?
                .ask(&request)
                .await
                .map(|_| ())
        };
        match asked.await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Asks for a list until the replica has its sorted lists, which it makes when one is asked for first, or says that it
/// has none; returns how many bytes they take.
pub(super) async fn until_sorted(address: SocketAddr, documents: usize) -> Result<u64, BenchError> {
    let until = Instant::now() + longest(documents);
    let mut connection = Connection::open(address).await?;
    loop {
        let list = http::get("/views/product?limit=1", &[]);
        connection.ask(&list).await?;
        let told = connection.ask(&http::get("/metrics", &[])).await?;
        let told = String::from_utf8_lossy(told);
        let told = |name: &str| {
            let line = told.lines().find(|line| line.starts_with(name))?;
            line.rsplit_once(' ')?.1.parse::<f64>().ok()
        };
        let ready = told("headwater_list_index_ready{view=\"product\"}");
        if ready == Some(1.0) || Instant::now() > until {
            return Ok(told("headwater_list_index_bytes").unwrap_or_default() as u64);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The bytes of all files in a folder.
pub(super) fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some(match metadata.is_dir() {
                true => size_of(&entry.path()),
                false => metadata.len(),
            })
        })
        .sum()
}

fn longest(documents: usize) -> Duration {
    (FILLING * documents as u32).max(Duration::from_secs(60))
}
