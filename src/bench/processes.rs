//! The servers that are measured, as processes of their own: nothing is measured in the process
//! that makes the load, unless a bench says so.

use super::BenchError;
use crate::{
    config::nats_variables,
    dev::nats_server::{NatsServer, NatsServerOptions},
    event_log::topology::Durability,
    platform::NatsAddress,
};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// A cold start on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A temporary folder, and a nats-server: one in the folder, or one that is there.
pub struct Scratch {
    nats: Nats,
    folder: PathBuf,
}

enum Nats {
    Started(NatsServer),
    There(NatsAddress),
}

impl Scratch {
    /// Starts a nats-server in a new folder under the system's temporary one.
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] when it cannot be started.
    pub async fn start(
        durability: Durability,
        nats_server: Option<PathBuf>,
    ) -> Result<Self, BenchError> {
        let folder = new_folder();
        let mut options = NatsServerOptions::new(folder.join("nats"));
        options.durability = durability;
        options.binary = nats_server;
        let nats = NatsServer::start(options).await.map_err(BenchError::new)?;
        Ok(Self {
            nats: Nats::Started(nats),
            folder,
        })
    }

    /// A new folder beside a nats-server that is there, which is left as it is.
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] when the folder cannot be made.
    pub fn beside(nats: NatsAddress) -> Result<Self, BenchError> {
        let folder = new_folder();
        std::fs::create_dir_all(&folder)?;
        Ok(Self {
            nats: Nats::There(nats),
            folder,
        })
    }

    /// The processor time that the nats-server has used, where the system tells.
    #[must_use]
    pub fn nats_cpu_time(&self) -> Option<Duration> {
        match &self.nats {
            Nats::Started(nats) => cpu_time(nats.state().borrow().pid?),
            Nats::There(_) => None,
        }
    }

    /// The memory that the nats-server has resident, in bytes, where the system tells.
    #[must_use]
    pub fn nats_resident_bytes(&self) -> Option<u64> {
        match &self.nats {
            Nats::Started(nats) => resident_bytes(nats.state().borrow().pid?),
            Nats::There(_) => None,
        }
    }

    /// Returns where clients connect.
    #[must_use]
    pub fn nats(&self) -> NatsAddress {
        match &self.nats {
            Nats::Started(nats) => nats.client_url().into(),
            Nats::There(nats) => nats.clone(),
        }
    }

    /// The folder, for whatever else the bench starts.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stops the server that was started, and deletes the folder.
    pub async fn stop(self) {
        if let Nats::Started(nats) = self.nats {
            nats.stop().await;
        }
        let mut looks = LOOKS;
        loop {
            match std::fs::remove_dir_all(&self.folder) {
                Ok(()) => break,
                // A store that was in it still tidies up after its last owner is gone.
                Err(_) if looks > 0 => looks -= 1,
                Err(error) => {
                    tracing::warn!(%error, "the temporary folder stays");
                    break;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The number of tries to remove the folder, and the pause between two of them.
const LOOKS: u32 = 100;
const LOOK: Duration = Duration::from_millis(50);

fn new_folder() -> PathBuf {
    let name = format!("headwater-bench-{}", uuid::Uuid::now_v7().simple());
    std::env::temp_dir().join(name)
}

/// This very program as a child process. It is killed when dropped.
pub struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts the program with these arguments, and waits for a line of its output with `ready` in
    /// it. Its log goes where this process's goes.
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] when it ends before, or says nothing for a minute.
    pub async fn start(
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        ready: &str,
    ) -> Result<(Self, String), BenchError> {
        Self::spawn(Command::new(std::env::current_exe()?), arguments, ready).await
    }

    /// As [`Process::start`], connected to this NATS. How is said where other users do not see it.
    ///
    /// # Errors
    ///
    /// As [`Process::start`].
    pub async fn start_at(
        nats: &NatsAddress,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        ready: &str,
    ) -> Result<(Self, String), BenchError> {
        let mut command = Command::new(std::env::current_exe()?);
        for (name, value) in nats_variables(nats) {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Self::spawn(command, arguments, ready).await
    }

    async fn spawn(
        mut command: Command,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        ready: &str,
    ) -> Result<(Self, String), BenchError> {
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdout = child.stdout.take();
        let stdout = stdout.ok_or_else(|| BenchError::new("the child has no output"))?;
        let mut process = Self {
            child,
            lines: BufReader::new(stdout).lines(),
        };
        let line = tokio::time::timeout(START, process.line_with(ready)).await;
        let line =
            line.map_err(|_| BenchError::new("the child process is not ready in time"))??;
        Ok((process, line))
    }

    /// Reads on to the next line with this text in it.
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] when the output ends before.
    pub async fn line_with(&mut self, text: &str) -> Result<String, BenchError> {
        while let Some(line) = self.lines.next_line().await? {
            if line.contains(text) {
                return Ok(line);
            }
        }
        Err(BenchError::new("the child process has ended"))
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The processor time that it has used, where the system tells.
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        cpu_time(self.pid()?)
    }

    /// The memory that it has resident, in bytes, where the system tells.
    #[must_use]
    pub fn resident_bytes(&self) -> Option<u64> {
        resident_bytes(self.pid()?)
    }

    /// Ends it at once.
    pub async fn kill(mut self) {
        // It may have ended by itself.
        let _ = self.child.kill().await;
    }
}

fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// The processor time that a process has used, where the system tells: in steps of 10 ms on Linux.
#[must_use]
pub fn cpu_time(pid: u32) -> Option<Duration> {
    time_in(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The processor time in the line that the system tells of a process or a thread.
fn time_in(stat: &str) -> Option<Duration> {
    /// The length of a tick, on every Linux there is.
    const TICK: Duration = Duration::from_millis(10);
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK * (ticks()? + ticks()?))
}

/// The processor time of a process's threads, where the system tells.
#[derive(Debug, Clone, Default)]
pub struct ThreadTimes {
    /// By their ids.
    threads: BTreeMap<u32, (String, Duration)>,
}

impl ThreadTimes {
    /// Looks at the threads of a process.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let entries = std::fs::read_dir(format!("/proc/{pid}/task"));
        let entries = entries.into_iter().flatten().flatten();
        let threads = entries.filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let (name, _) = stat.split_once('(')?.1.rsplit_once(')')?;
            Some((id, (name.to_owned(), time_in(&stat)?)))
        });
        Self {
            threads: threads.collect(),
        }
    }

    /// The time since an earlier look. Of a thread that has ended between nothing is known.
    #[must_use]
    pub fn since(mut self, before: &Self) -> Self {
        for (id, (_, used)) in &mut self.threads {
            if let Some((_, earlier)) = before.threads.get(id) {
                *used = used.saturating_sub(*earlier);
            }
        }
        self
    }

    /// The time of the threads of each name, without the numbers that names end with.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<String, Duration> {
        let mut names = BTreeMap::new();
        for (name, used) in self.threads.values() {
            let name = name.trim_end_matches(|end: char| !end.is_alphabetic());
            *names.entry(name.to_owned()).or_default() += *used;
        }
        names
    }
}

/// A replica with these roles, on a folder of its own, and the line that says that it runs.
///
/// # Errors
///
/// Returns [`BenchError`] when it does not start.
pub async fn replica(
    roles: &str,
    nats: &NatsAddress,
    data_dir: &Path,
    more: &[&str],
) -> Result<Process, BenchError> {
    let mut arguments: Vec<OsString> = vec!["serve".into(), "--data-dir".into(), data_dir.into()];
    let fixed = ["--roles", roles, "--http-addr", "127.0.0.1:0"];
    arguments.extend(fixed.iter().chain(more).map(OsString::from));
    let (process, _) = Process::start_at(nats, arguments, " runs").await?;
    Ok(process)
}
