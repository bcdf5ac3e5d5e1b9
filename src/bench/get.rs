//! `bench get`: one document by id over HTTP.
//!
//! From memory it is measured against a bare handler that answers with the same bytes; from the store,
//! against the store's own select by id, within this process.

use super::{
    Bench, BenchError, LoadThreads, Rounds, closed_loop,
    http::{self, Connection},
    load::Operation,
    processes::Process,
    queries::{Mart, QueriesOptions},
    report::common_settings,
};
use crate::{mart::view::ProductView, projection::RegisteredView, read_model::floor::Floor};
use actix_web::{App, HttpResponse, HttpServer, http::header::CONTENT_TYPE, web};
use bytes::Bytes;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// Measures reads of one document.
///
/// # Errors
///
/// Returns [`BenchError`] when the servers cannot be started or a read fails.
pub async fn run(options: QueriesOptions) -> Result<Bench, BenchError> {
    let scratch = options.scratch().await?;
    let threads = LoadThreads::start()?;
    let measured = async {
        let mart = Mart::start(&scratch, &options, threads.handle()).await?;
        let headers: Vec<_> = mart.authorization().into_iter().collect();
        let paths: Vec<_> = (0..mart.documents())
            .map(|number| http::get(&mart.path(number), &headers))
            .collect();
        let paths: Arc<[_]> = paths.into();
        let mut one = Connection::open(mart.address).await?;
        let body = one.ask(&paths[0]).await?.to_vec();
        let text = String::from_utf8(body).map_err(BenchError::new)?;

        let ours = over(mart.address, &paths, options.clients).await?;
        let mut bare = None;
        let (name, floor) = if options.cached {
            let arguments = ["bench", "bare", "--body", &text];
            let (process, line) = Process::start(arguments, "http://").await?;
            bare = Some(process);
            let floor = over(http::address_in(&line)?, &paths, options.clients).await?;
            ("bare", floor)
        } else {
            let url = format!(
                "surrealkv://{}?sync=1s",
                scratch.folder().join("floor").display()
            );
            let floor = select(&url, &text, options.documents).await?;
            ("select", floor)
        };
        let length = options.length / options.rounds.max(1);
        let measure = async |operation: &Operation, length: Duration| {
            let operation = Arc::clone(operation);
            let operation = move |worker, done| operation(worker, done);
            closed_loop(threads.handle(), options.clients, length, operation).await
        };
        for operation in [&floor, &ours] {
            measure(operation, length.min(Duration::from_secs(1))).await?;
        }
        let mut rounds = Rounds::default();
        for _ in 0..options.rounds.max(1) {
            rounds.floor(name, &measure(&floor, length).await?);
            rounds.ours(&measure(&ours, length).await?);
        }
        let mut settings = common_settings();
        settings.extend([
            ("documents".to_owned(), options.documents.into()),
            ("connections".to_owned(), options.clients.into()),
            ("cached".to_owned(), options.cached.into()),
            ("seconds".to_owned(), options.length.as_secs_f64().into()),
            ("rounds".to_owned(), options.rounds.into()),
            ("body_bytes".to_owned(), text.len().into()),
        ]);
        if let Some(bare) = bare {
            bare.kill().await;
        }
        mart.stop().await;
        let bench = if options.cached {
            "get"
        } else {
            "get_uncached"
        };
        Ok(rounds.into_bench(bench, settings))
    }
    .await;
    scratch.stop().await;
    measured
}

/// Reads over HTTP, each worker by a connection of its own.
async fn over(
    address: SocketAddr,
    paths: &Arc<[Vec<u8>]>,
    workers: usize,
) -> Result<Operation, BenchError> {
    let mut connections = Vec::new();
    for _ in 0..workers {
        connections.push(Arc::new(Mutex::new(Connection::open(address).await?)));
    }
    let paths = Arc::clone(paths);
    Ok(Arc::new(move |worker: usize, done: u64| {
        let (connection, paths) = (Arc::clone(&connections[worker]), Arc::clone(&paths));
        Box::pin(async move {
            // Other workers are elsewhere in the list.
            let number = (worker * 7_919 + done as usize) % paths.len();
            connection.lock().await.ask(&paths[number]).await?;
            Ok(())
        })
    }))
}

fn id(number: usize) -> String {
    format!("bench-{number}")
}

/// Reads from a store of this process that has as many documents like this one.
async fn select(url: &str, body: &str, documents: usize) -> Result<Operation, BenchError> {
    let served: serde_json::Value = serde_json::from_str(body).map_err(BenchError::new)?;
    let view = RegisteredView::of::<ProductView>();
    let floor = Floor::open(url, view.description())
        .await
        .map_err(BenchError::new)?;
    let ids = (0..documents).map(id);
    let rows: Vec<_> = ids.map(|id| (id, served["document"].clone())).collect();
    floor.bulk_insert(rows).await.map_err(BenchError::new)?;
    let floor = Arc::new(floor);
    Ok(Arc::new(move |worker: usize, done: u64| {
        let floor = Arc::clone(&floor);
        Box::pin(async move {
            let number = (worker * 7_919 + done as usize) % documents;
            let found = floor.select(&id(number)).await;
            match found.map_err(BenchError::new)? {
                true => Ok(()),
                false => Err(BenchError::new("the store lost a document")),
            }
        })
    }))
}

/// The floor of an HTTP read: a server that answers with this body and does nothing else. It prints
/// where it listens and runs until it is killed.
///
/// # Errors
///
/// Returns [`BenchError`] when no port can be had.
pub async fn serve_bare(body: String) -> Result<(), BenchError> {
    let body = Bytes::from(body);
    let server = HttpServer::new(move || {
        let answer = |body: &Bytes| {
            let mut response = HttpResponse::Ok();
            response
                .insert_header((CONTENT_TYPE, "application/json"))
                .body(body.clone())
        };
        let (read, given) = (body.clone(), body.clone());
        // What is given has a body, and a connection is closed on which it is not read.
        App::new()
            .service(web::resource("/commands/{command:.*}").to(move |_: Bytes| {
                let response = answer(&given);
                async move { response }
            }))
            .default_service(web::to(move || {
                let response = answer(&read);
                async move { response }
            }))
    })
    .workers(crate::http::Options::default().workers)
    .bind(("127.0.0.1", 0))?;
    for address in server.addrs() {
        println!("http://{address}");
    }
    server.run().await?;
    Ok(())
}
