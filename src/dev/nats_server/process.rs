//! One life of the child: from the start of its guardian to the end of its process group.

use super::{NatsServerError, ServerUsers};
use crate::{
    event_log::topology,
    platform::{self, NatsAddress, SignIn},
};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    process::{Child, ChildStdin, Command},
    time::{Instant, sleep, timeout},
};

const GUARDIAN: &str = include_str!("guardian.sh");
/// Seconds from SIGTERM to SIGKILL.
const GRACE_SECONDS: u64 = 10;
const POLL: Duration = Duration::from_millis(20);
/// The time a start waits for the server of a killed process to end: its grace, and some.
const UNUSED_TIMEOUT: Duration = Duration::from_secs(GRACE_SECONDS + 5);
/// A log over this size, in bytes, starts anew with the next server.
const LONG_LOG: u64 = 4 << 20;
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 20;

const LOG: &str = "server.log";
const CONFIG: &str = "server.conf";
const PORTS: &str = "ports";

/// All that is needed to start the server, again and again.
#[derive(Debug)]
pub(super) struct Launch {
    binary: PathBuf,
    folder: PathBuf,
    /// A free port when `None`.
    pub(super) port: Option<u16>,
    /// The seed of the user that asks whether it is ready; who says nothing of themselves may when `None`.
    seed: Option<PathBuf>,
}

impl Launch {
    pub(super) fn prepare(
        binary: PathBuf,
        folder: &Path,
        config: &str,
        port: Option<u16>,
        users: Option<ServerUsers>,
    ) -> Result<Self, NatsServerError> {
        let prepare = || {
            fs::create_dir_all(folder.join(PORTS))?;
            let mut config = config.to_owned();
            if let Some(users) = &users {
                // Put in, since the server reads the path of an include from its own file's folder.
                config.push('\n');
                config.push_str(&fs::read_to_string(&users.config)?);
            }
            fs::write(folder.join(CONFIG), config)?;
            folder.canonicalize()
        };
        let folder = prepare().map_err(|source| NatsServerError::Io {
            folder: folder.to_owned(),
            source,
        })?;
        Ok(Self {
            binary,
            folder,
            port,
            seed: users.map(|users| users.seed),
        })
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join(LOG)
    }

    /// Starts the server and waits until its JetStream answers. Dropping the future stops it.
    pub(super) async fn start(&self, limit: Duration) -> Result<Running, NatsServerError> {
        let failed = |source| NatsServerError::Io {
            folder: self.folder.clone(),
            source,
        };
        let log = self.take_log().await.map_err(failed)?;
        let log_start = log.metadata().map_err(failed)?.len();
        self.clear_ports().map_err(failed)?;
        let mut guardian = self.spawn(log).map_err(failed)?;
        let pipe = guardian.stdin.take().expect("stdin is piped");
        let group = guardian.id().expect("the guardian has not been waited for");
        let deadline = Instant::now() + limit;
        let ready = self.ready(&mut guardian, deadline).await;
        let mut running = Running {
            guardian,
            group,
            pipe: Some(pipe),
            pid: 0,
            port: 0,
        };
        let tail = || tail(&self.log(), log_start);
        match ready {
            Ready::Yes { pid, port } => Ok(Running {
                pid,
                port,
                ..running
            }),
            Ready::Ended(status) => Err(NatsServerError::Ended {
                status,
                log: self.log(),
                tail: tail(),
            }),
            Ready::Late => {
                running.stop().await;
                Err(NatsServerError::NotReady {
                    after: limit,
                    log: self.log(),
                    tail: tail(),
                })
            }
        }
    }

    /// The log, locked. What inherits it, inherits the lock.
    async fn take_log(&self) -> io::Result<File> {
        let log = open_log(&self.folder)?;
        let deadline = Instant::now() + UNUSED_TIMEOUT;
        while !try_lock(&log)? {
            if Instant::now() > deadline {
                return Err(in_use());
            }
            sleep(POLL).await;
        }
        if log.metadata()?.len() > LONG_LOG {
            log.set_len(0)?;
        }
        Ok(log)
    }

    /// Removes what a killed server has left, so that whatever is found is this server's.
    fn clear_ports(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.folder.join(PORTS))? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    fn spawn(&self, log: File) -> io::Result<Child> {
        let port = self.port.map_or_else(|| "-1".to_owned(), |p| p.to_string());
        Command::new("/bin/sh")
            .arg("-c")
            .arg(GUARDIAN)
            .arg("nats-guardian")
            .arg(GRACE_SECONDS.to_string())
            .arg(&self.binary)
            .arg("-c")
            .arg(self.folder.join(CONFIG))
            .args(["-a", "127.0.0.1", "-p", &port])
            .arg("-sd")
            .arg(&self.folder)
            .arg("--ports_file_dir")
            .arg(self.folder.join(PORTS))
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
    }

    async fn ready(&self, guardian: &mut Child, deadline: Instant) -> Ready {
        let mut listening = None;
        loop {
            if let Some(status) = guardian.try_wait().ok().flatten() {
                return Ready::Ended(status.to_string());
            }
            if Instant::now() > deadline {
                return Ready::Late;
            }
            // The server writes its port down once it listens: a stranger on a port that was asked
            // for is never mistaken for it.
            listening = listening.or_else(|| self.read_ports());
            if let Some((pid, port)) = listening
                && self.jetstream_answers(port).await
            {
                return Ready::Yes { pid, port };
            }
            sleep(POLL).await;
        }
    }

    async fn jetstream_answers(&self, port: u16) -> bool {
        let servers = format!("nats://127.0.0.1:{port}");
        let ask = async {
            let client = match &self.seed {
                None => async_nats::connect(servers).await.ok()?,
                Some(seed) => {
                    let address = NatsAddress {
                        servers,
                        sign_in: SignIn::NKey(seed.clone()),
                        ..NatsAddress::default()
                    };
                    platform::connect(&address, "dev").await.ok()?
                }
            };
            Some(topology::is_ready(&client).await)
        };
        timeout(Duration::from_secs(2), ask).await == Ok(Some(true))
    }

    /// The server's process id, from the file's name, and its port, from the file.
    fn read_ports(&self) -> Option<(u32, u16)> {
        let entry = fs::read_dir(self.folder.join(PORTS)).ok()?.next()?.ok()?;
        let name = entry.file_name();
        let (_, pid) = name.to_str()?.strip_suffix(".ports")?.rsplit_once('_')?;
        let text = fs::read(entry.path()).ok()?;
        // Half written at worst: then it is not JSON yet.
        let ports: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let (_, port) = ports["nats"][0].as_str()?.rsplit_once(':')?;
        Some((pid.parse().ok()?, port.parse().ok()?))
    }
}

enum Ready {
    Yes { pid: u32, port: u16 },
    Ended(String),
    Late,
}

/// A server and its guardian. Dropping it stops the server, without waiting.
#[derive(Debug)]
pub(super) struct Running {
    guardian: Child,
    /// The process group's id: the guardian's own.
    group: u32,
    pipe: Option<ChildStdin>,
    pub(super) pid: u32,
    pub(super) port: u16,
}

impl Running {
    /// Waits for the end of the guardian, which is that of the server unless the guardian was killed.
    pub(super) async fn ended(&mut self) -> String {
        match self.guardian.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Stops the server and waits until it has ended.
    pub(super) async fn stop(&mut self) {
        drop(self.pipe.take());
        let limit = Duration::from_secs(GRACE_SECONDS + 5);
        if timeout(limit, self.guardian.wait()).await.is_err() {
            tracing::warn!(nats.pid = self.pid, "nats-server does not end; killing it");
            self.kill().await;
            let _ = self.guardian.wait().await;
        }
    }

    /// Kills whatever is left of the process group.
    pub(super) async fn kill(&mut self) {
        let killed = Command::new("/bin/sh")
            .args(["-c", "kill -s KILL -- \"-$1\" 2>/dev/null", "kill"])
            .arg(self.group.to_string())
            .stdin(Stdio::null())
            .status()
            .await;
        if let Err(error) = killed {
            tracing::error!(%error, "cannot kill the process group of nats-server");
        }
    }
}

/// Waits until no server runs on the folder.
///
/// # Errors
///
/// Returns the error of the file system, or [`io::ErrorKind::ResourceBusy`] after 15 s.
pub(crate) fn wait_until_unused(folder: &Path) -> io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let log = open_log(folder)?;
    let since = std::time::Instant::now();
    while !try_lock(&log)? {
        if since.elapsed() > UNUSED_TIMEOUT {
            return Err(in_use());
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

fn open_log(folder: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .open(folder.join(LOG))
}

fn try_lock(log: &File) -> io::Result<bool> {
    match log.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn in_use() -> io::Error {
    io::Error::new(
        io::ErrorKind::ResourceBusy,
        "another nats-server is still running on it",
    )
}

/// The last lines that were written at or after `start`, for an error message.
fn tail(log: &Path, start: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let from = start.max(file.metadata()?.len().saturating_sub(TAIL_BYTES));
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("(the log cannot be read: {error})"));
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
