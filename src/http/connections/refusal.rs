//! Telling a client that there is no room, without reading what it asks.

use crate::{
    http::{
        cors::{Origins, headers_for},
        refusal::PROBLEM_JSON,
    },
    problem::Problem,
};
use actix_web::rt::net::TcpStream;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// The time a client that is refused may take to hear it.
const HEARING: Duration = Duration::from_secs(1);
/// The longest request that is read before the connection is closed, in bytes.
const REQUEST: usize = 16 * 1024;

/// The time the head of a request is waited for that may name the page that asks, where there are pages that may
/// read the refusal.
const NAMING: Duration = Duration::from_millis(200);

/// Refuses a connection, and closes it.
pub(in crate::http) async fn refuse(mut stream: TcpStream, origins: &Origins, problem: &Problem) {
    let allowed = allowed(&stream, origins).await;
    // A client that is gone does not matter.
    let _ = timeout(HEARING, say(&mut stream, &allowed, problem)).await;
}

/// The headers that let the page read it that the request is of.
async fn allowed(stream: &TcpStream, origins: &Origins) -> String {
    if origins.is_empty() {
        return String::new();
    }
    // What has come of the request first is enough: browsers send its head at once.
    let mut bytes = [0; 4096];
    let peeked = timeout(NAMING, stream.peek(&mut bytes)).await;
    let length = peeked.map_or(0, Result::unwrap_or_default);
    let named = origins.named_in(&bytes[..length]);
    named.map_or_else(String::new, headers_for)
}

/// The problem of a connection that is beyond the limit.
pub(in crate::http) fn too_many() -> Problem {
    Problem::unavailable("too many clients are connected to this replica; nothing was done")
}

async fn say(stream: &mut TcpStream, allowed: &str, problem: &Problem) -> io::Result<()> {
    let body = problem.to_json();
    let head = format!(
        "HTTP/1.1 {} {}\r\ncontent-length: {}\r\ncontent-type: {PROBLEM_JSON}\r\n\
         cache-control: no-store\r\nretry-after: 1\r\n{allowed}connection: close\r\n\r\n",
        problem.status,
        problem.title,
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await?;
    // What is closed with something unread is reset, and the answer with it.
    let mut unread = [0; 1024];
    let mut read = 0;
    while read < REQUEST {
        match stream.read(&mut unread).await? {
            0 => break,
            count => read += count,
        }
    }
    Ok(())
}
