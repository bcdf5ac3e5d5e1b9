//! `bench live`: one change reaches all who follow the document.

use super::{
    Bench, BenchError, LoadThreads, Sample,
    http::{self, Connection},
    queries::{Mart, QueriesOptions},
    report::{common_settings, lines},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// The longest that one change may take to reach everybody.
const LIMIT: Duration = Duration::from_secs(30);

/// Measures the time from giving a command until each client has its change.
///
/// # Errors
///
/// Returns [`BenchError`] when the servers cannot be started or a client does not hear of a change.
pub async fn run(options: QueriesOptions) -> Result<Bench, BenchError> {
    let scratch = options.scratch().await?;
    let measured = async {
        let threads = LoadThreads::start()?;
        let mart = Mart::start(&scratch, &options, threads.handle()).await?;
        let before = mart.resident_bytes();
        let (sender, mut heard) = mpsc::unbounded_channel();
        for _ in 0..options.clients {
            let mut connection = Connection::open(mart.address).await?;
            connection
                .begin(&http::get(&format!("{}/live", mart.path(0)), &[]))
                .await?;
            let sender = sender.clone();
            threads.handle().spawn(async move {
                while let Ok(buffer) = connection.more().await {
                    let now = Instant::now();
                    while let Some(position) = take_event(buffer) {
                        if sender.send((position, now)).is_err() {
                            return;
                        }
                    }
                }
            });
        }
        let mut all = async |position: u64| {
            let mut arrivals = Vec::with_capacity(options.clients);
            while arrivals.len() < options.clients {
                let next = tokio::time::timeout(LIMIT, heard.recv()).await;
                let next = next.map_err(|_| BenchError::new("not everybody heard of a change"))?;
                let (at, when) = next.ok_or_else(|| BenchError::new("all clients are gone"))?;
                if at >= position {
                    arrivals.push(when);
                }
            }
            Ok::<_, BenchError>(arrivals)
        };
        // What is there at the start.
        all(0).await?;
        let resident = mart.resident_bytes().zip(before);
        let (begun, mut latencies) = (Instant::now(), Vec::new());
        while begun.elapsed() < options.length {
            let given = Instant::now();
            let position = mart
                .reprice(0, 1 + latencies.len() as u64 % 1_000_000)
                .await?;
            let position = position.split_once('@').and_then(|(_, at)| at.parse().ok());
            let position = position.ok_or_else(|| BenchError::new("an unknown position"))?;
            let arrivals = all(position).await?;
            latencies.extend(arrivals.iter().map(|at| (*at - given).as_nanos() as u64));
        }
        let sample = Sample::new(latencies, begun.elapsed());
        let mut settings = common_settings();
        settings.extend([
            ("clients".to_owned(), options.clients.into()),
            ("seconds".to_owned(), options.length.as_secs_f64().into()),
            (
                "latency".to_owned(),
                "from giving the command to each client".into(),
            ),
        ]);
        if let Some((after, before)) = resident {
            let each = after.saturating_sub(before) / options.clients.max(1) as u64;
            settings.insert("bytes_per_client".into(), each.into());
        }
        mart.stop().await;
        Ok(Bench {
            bench: "live",
            ours: sample.figures(),
            rounds: lines(&[sample.figures()], std::iter::empty()),
            floors: BTreeMap::new(),
            ratios: BTreeMap::new(),
            settings,
        })
    }
    .await;
    scratch.stop().await;
    measured
}

/// Takes the next event out of what was read; its position. An event is whole when the empty line
/// after it is there.
fn take_event(buffer: &mut Vec<u8>) -> Option<u64> {
    const BEGIN: &[u8] = b"id: ";
    let begin = find(buffer, BEGIN)?;
    let rest = &buffer[begin + BEGIN.len()..];
    let end = find(rest, b"\n\n")?;
    // What it is a position of stands before it.
    let id = rest.split(|byte| *byte == b'\n').next()?;
    let digits = id.rsplit(|byte| *byte == b'-').next()?.iter();
    let digits = digits.take_while(|byte| byte.is_ascii_digit());
    let position = digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    buffer.drain(..begin + BEGIN.len() + end + 2);
    Some(position)
}

fn find(buffer: &[u8], what: &[u8]) -> Option<usize> {
    buffer.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_taken_when_it_is_whole() {
        let mut buffer = b"retry: 1000\n\nid: 0a1b2c3d.0-v1-0-12\nevent: put\ndata: {}\n".to_vec();
        assert_eq!(take_event(&mut buffer), None);
        buffer.extend_from_slice(b"\nid: 0a1b2c3d.0-v1-0-13\nevent: put\ndata: {}\n\n:\n\n");
        assert_eq!(take_event(&mut buffer), Some(12));
        assert_eq!(take_event(&mut buffer), Some(13));
        assert_eq!(take_event(&mut buffer), None);
    }
}
