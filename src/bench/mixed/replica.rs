//! The replica that is measured: how far its views are behind, and whose time it takes.

use super::super::{
    BenchError, Sample,
    http::{self, Connection},
    processes::{self, Process, Scratch, ThreadTimes, cpu_time},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::pin,
    time::{Duration, Instant},
};

/// The pause between two looks at the views. What is looked at changes once a second.
const LOOK: Duration = Duration::from_millis(250);
/// The longest that views are waited for between two rates.
const CATCHING_UP: Duration = Duration::from_secs(300);

/// One replica of the roles that give, keep and show.
pub(super) struct Replica {
    process: Process,
    pub(super) address: SocketAddr,
}

/// The views as a replica tells of them.
type Told = BTreeMap<String, View>;

/// One view.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct View {
    behind: f64,
    commits: f64,
    batches: f64,
}

/// The events of a stretch of load.
pub(super) struct Observed {
    /// For how long each view was behind at most, and what it applied.
    views: Told,
    length: Duration,
    nats: Option<Duration>,
    replica: Option<Duration>,
    load: Option<Duration>,
    threads: ThreadTimes,
}

impl Replica {
    pub(super) async fn start(scratch: &Scratch, aggregates: usize) -> Result<Self, BenchError> {
        let folder = scratch.folder().join("replica");
        // Room for the orders, too.
        let max_actors = (aggregates * 4).max(10_000).to_string();
        let more = ["--max-actors", &max_actors, "--idle-seconds", "3600"];
        let roles = "command,projector,gateway";
        let mut process = processes::replica(roles, &scratch.nats(), &folder, &more).await?;
        let address = http::address_in(&process.line_with("http://").await?)?;
        Ok(Self { process, address })
    }

    pub(super) async fn stop(self) {
        self.process.kill().await;
    }

    /// Waits until no view is behind.
    pub(super) async fn caught_up(&self) -> Result<(), BenchError> {
        let begun = Instant::now();
        let mut connection = Connection::open(self.address).await?;
        let mut before = Told::new();
        loop {
            let views = look(&mut connection).await?;
            // Once more, since it is told once a second.
            if before == views && views.values().all(|view| view.behind == 0.0) {
                return Ok(());
            }
            if begun.elapsed() > CATCHING_UP {
                return Err(BenchError::new("the views do not catch up"));
            }
            before = views;
            tokio::time::sleep(LOOK * 5).await;
        }
    }

    /// Gives load and looks at the views meanwhile.
    pub(super) async fn observe(
        &self,
        scratch: &Scratch,
        give: impl Future<Output = Result<Sample, BenchError>>,
    ) -> Result<(Sample, Observed), BenchError> {
        let mut connection = Connection::open(self.address).await?;
        let load = || cpu_time(std::process::id());
        let cpu = || [scratch.nats_cpu_time(), self.process.cpu_time(), load()];
        let (views, times, threads) = (look(&mut connection).await?, cpu(), self.threads());
        let begun = Instant::now();
        let (mut give, mut most) = (pin!(give), Told::new());
        let sample = loop {
            tokio::select! {
                sample = &mut give => break sample?,
                () = tokio::time::sleep(LOOK) => {}
            }
            for (name, view) in look(&mut connection).await? {
                let most = most.entry(name).or_default();
                most.behind = view.behind.max(most.behind);
            }
        };
        let length = begun.elapsed();
        let used = cpu().into_iter().zip(times);
        let mut used = used.map(|(to, from)| Some(to?.saturating_sub(from?)));
        let threads = self.threads().since(&threads);
        for (name, view) in look(&mut connection).await? {
            let before = views.get(&name).copied().unwrap_or_default();
            let most = most.entry(name).or_default();
            most.commits = view.commits - before.commits;
            most.batches = view.batches - before.batches;
        }
        Ok((
            sample,
            Observed {
                views: most,
                length,
                nats: used.next().flatten(),
                replica: used.next().flatten(),
                load: used.next().flatten(),
                threads,
            },
        ))
    }

    fn threads(&self) -> ThreadTimes {
        self.process.pid().map(ThreadTimes::of).unwrap_or_default()
    }
}

impl Observed {
    /// For how long the view that was behind longest was.
    pub(super) fn most_behind(&self) -> Duration {
        let behind = self.views.values().map(|view| view.behind);
        Duration::from_secs_f64(behind.fold(0.0, f64::max))
    }

    /// The number of commits that the view applied in one batch, in the mean.
    pub(super) fn batch(&self, view: &str) -> usize {
        let view = self.views.get(view).copied().unwrap_or_default();
        (view.commits / view.batches.max(1.0)).round().max(1.0) as usize
    }

    /// The figures of one view.
    pub(super) fn told(&self, view: &str) -> Value {
        let of = self.views.get(view).copied().unwrap_or_default();
        json!({
            "most_behind_ms": (of.behind * 1e3).round(),
            "commits_per_second": (of.commits / self.length.as_secs_f64()).round(),
            "commits_in_a_batch": self.batch(view),
        })
    }

    /// The processor time of one command.
    pub(super) fn cpu_each(&self, commands: usize) -> Value {
        let each = |used: Option<Duration>| used.map(|used| each(used, commands));
        json!({
            "nats_server": each(self.nats),
            "replica": each(self.replica),
            "load": each(self.load),
        })
    }

    /// The same of the replica's threads, by their names.
    pub(super) fn threads_each(&self, commands: usize) -> Value {
        let threads = self.threads.by_name();
        let threads = threads.iter();
        threads
            .map(|(name, used)| (name.clone(), each(*used, commands)))
            .filter(|(_, each)| *each >= 0.1)
            .map(|(name, each)| (name, each.into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

fn each(used: Duration, of: usize) -> f64 {
    let micros = used.as_secs_f64() * 1e6 / of.max(1) as f64;
    (micros * 10.0).round() / 10.0
}

async fn look(connection: &mut Connection) -> Result<Told, BenchError> {
    let metrics = connection.ask(&http::get("/metrics", &[])).await?;
    Ok(parse(&String::from_utf8_lossy(metrics)))
}

fn parse(metrics: &str) -> Told {
    let mut told = Told::new();
    for line in metrics.lines() {
        let Some((name, rest)) = line.split_once("{view=\"") else {
            continue;
        };
        let Some((view, value)) = rest.split_once("\"} ") else {
            continue;
        };
        let Ok(value) = value.trim().parse::<f64>() else {
            continue;
        };
        let view = told.entry(view.to_owned()).or_default();
        match name {
            "headwater_view_lag_seconds" => view.behind = value,
            "headwater_view_applied_total" => view.commits = value,
            "headwater_view_batch_commits_count" => view.batches = value,
            _ => {}
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_read_from_what_a_replica_has_measured() {
        let told = parse(
            "# TYPE headwater_view_lag_seconds gauge\n\
             headwater_view_lag_seconds{view=\"order\"} 0.25\n\
             headwater_view_lag_seconds{view=\"sales\"} 0\n\
             headwater_view_applied_total{view=\"order\"} 1200\n\
             headwater_view_batch_commits_bucket{view=\"order\",le=\"1\"} 3\n\
             headwater_view_batch_commits_count{view=\"order\"} 12\n\
             headwater_live_replicas 1\n",
        );
        let order = View {
            behind: 0.25,
            commits: 1_200.0,
            batches: 12.0,
        };
        assert_eq!(told["order"], order);
        assert_eq!(told["sales"], View::default());
        let observed = Observed {
            views: told,
            length: Duration::from_secs(2),
            nats: Some(Duration::from_millis(24)),
            replica: None,
            load: None,
            threads: ThreadTimes::default(),
        };
        assert_eq!(observed.most_behind(), Duration::from_millis(250));
        assert_eq!(observed.batch("order"), 100);
        assert_eq!(observed.told("order")["commits_per_second"], 600.0);
        assert_eq!(observed.cpu_each(1_200)["nats_server"], 20.0);
    }
}
