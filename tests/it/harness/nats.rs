//! Real nats-servers on free ports.
//!
//! They are started under the program's own guardian script, so none outlives the test process.

use super::poll::{DEADLINE, eventually_blocking};
use async_nats::{Client, jetstream};
use headwater::dev::nats_server;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};
use tempfile::TempDir;

/// The repository's own configurations.
pub const DEV: &str = include_str!("../../../nats/server/dev.conf");
pub const DURABLE: &str = include_str!("../../../nats/server/durable.conf");
pub const GUARDIAN: &str = include_str!("../../../src/dev/nats_server/guardian.sh");

/// One nats-server. It can be killed, paused and started again on its port and store.
pub struct Nats {
    folder: Folder,
    config: String,
    port: u16,
    pid: u32,
    guardian: Child,
}

enum Folder {
    Own(TempDir),
    /// Of the shared server, which is never dropped: the next run removes it.
    Left(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Own(folder) => folder.path(),
            Self::Left(folder) => folder,
        }
    }
}

/// The server that all tests of this run may share when they use ids of their own.
pub fn shared() -> &'static Nats {
    static SHARED: OnceLock<Nats> = OnceLock::new();
    SHARED.get_or_init(|| {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shared-nats");
        fs::create_dir_all(&parent).expect("the target folder is writable");
        for old in fs::read_dir(&parent).unwrap().flatten() {
            let in_use =
                File::open(old.path().join("server.log")).is_ok_and(|log| log.try_lock().is_err());
            if !in_use {
                let _ = fs::remove_dir_all(old.path());
            }
        }
        let folder = parent.join(std::process::id().to_string());
        fs::create_dir_all(&folder).unwrap();
        Nats::start_in(Folder::Left(folder), DEV)
    })
}

/// The file of a good nats-server: `HEADWATER_NATS_SERVER`, or where the program itself looks.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let named = std::env::var_os("HEADWATER_NATS_SERVER").map(PathBuf::from);
        // On a thread of its own: the caller may be inside a runtime.
        let find = move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(nats_server::find(named.as_deref()))
        };
        match std::thread::spawn(find).join().unwrap() {
            Ok(found) => found.path,
            Err(error) => panic!("{error}"),
        }
    })
}

impl Nats {
    /// A server of the caller's own, as `headwater dev` configures it.
    pub fn start() -> Self {
        Self::start_with(DEV)
    }

    /// A server of the caller's own, with this configuration. Address, port and store are set.
    pub fn start_with(config: &str) -> Self {
        Self::start_in(Folder::Own(tempfile::tempdir().unwrap()), config)
    }

    fn start_in(folder: Folder, config: &str) -> Self {
        let (guardian, pid, port) = launch(folder.path(), config, None);
        Self {
            folder,
            config: config.to_owned(),
            port,
            pid,
            guardian,
        }
    }

    /// `nats://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The monitoring endpoint, of a server whose configuration has one.
    pub fn monitor_url(&self) -> String {
        let folder = self.folder.path().join("ports");
        let file = fs::read_dir(folder).unwrap().next().unwrap().unwrap();
        let ports: serde_json::Value =
            serde_json::from_slice(&fs::read(file.path()).unwrap()).unwrap();
        ports["monitoring"][0].as_str().unwrap().to_owned()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it keeps its streams.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("jetstream")
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Where its files are.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A raw client, connected.
    pub async fn client(&self) -> Client {
        match async_nats::connect(self.url()).await {
            Ok(client) => client,
            Err(error) => panic!("{error}\n{}", self.log()),
        }
    }

    /// A raw JetStream context.
    pub async fn jetstream(&self) -> jetstream::Context {
        jetstream::new(self.client().await)
    }

    /// SIGKILL. [`Nats::start_again`] brings it back.
    pub fn kill(&mut self) {
        signal(self.pid, "KILL");
        self.guardian.wait().unwrap();
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        drop(self.guardian.stdin.take());
        self.guardian.wait().unwrap();
    }

    /// Starts a killed or stopped server on the same port and store.
    pub fn start_again(&mut self) {
        let (guardian, pid, port) = launch(self.folder.path(), &self.config, Some(self.port));
        self.guardian = guardian;
        self.pid = pid;
        assert_eq!(port, self.port);
    }

    /// As [`Nats::start_again`], with another configuration.
    pub fn start_again_with(&mut self, config: &str) {
        config.clone_into(&mut self.config);
        self.start_again();
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn pause(&self) {
        signal(self.pid, "STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        signal(self.pid, "CONT");
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        read_log(self.folder.path())
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        // No need of a clean end, and the folder can only go when nobody writes to it.
        signal(self.pid, "KILL");
        let _ = self.guardian.wait();
    }
}

fn launch(folder: &Path, config: &str, port: Option<u16>) -> (Child, u32, u16) {
    let ports = folder.join("ports");
    let _ = fs::remove_dir_all(&ports);
    fs::create_dir_all(&ports).unwrap();
    fs::write(folder.join("server.conf"), config).unwrap();
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("server.log"))
        .unwrap();
    // Inherited by the server: tells a later run that the folder is in use.
    let _ = log.try_lock();
    let port = port.map_or_else(|| "-1".to_owned(), |port| port.to_string());
    let mut guardian = Command::new("/bin/sh")
        .args(["-c", GUARDIAN, "nats-guardian", "5"])
        .arg(binary())
        .arg("-c")
        .arg(folder.join("server.conf"))
        .args(["-a", "127.0.0.1", "-p", &port])
        .arg("-sd")
        .arg(folder)
        .arg("--ports_file_dir")
        .arg(&ports)
        .stdin(Stdio::piped())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let (pid, port) = eventually_blocking(DEADLINE, "nats-server listens", || {
        if let Some(status) = guardian.try_wait().unwrap() {
            panic!("nats-server ended ({status}):\n{}", read_log(folder));
        }
        read_ports(&ports)
    });
    (guardian, pid, port)
}

fn read_ports(folder: &Path) -> Option<(u32, u16)> {
    let entry = fs::read_dir(folder).ok()?.next()?.ok()?;
    let name = entry.file_name();
    let (_, pid) = name.to_str()?.strip_suffix(".ports")?.rsplit_once('_')?;
    let ports: serde_json::Value = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
    let (_, port) = ports["nats"][0].as_str()?.rsplit_once(':')?;
    Some((pid.parse().ok()?, port.parse().ok()?))
}

fn read_log(folder: &Path) -> String {
    fs::read_to_string(folder.join("server.log")).unwrap_or_default()
}

/// Sends a signal by its short name (`KILL`, `STOP`, `INT`). A process that is gone is no error.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("/bin/sh")
        .args(["-c", "kill -s \"$1\" \"$2\" 2>/dev/null", "kill", name])
        .arg(pid.to_string())
        .status();
    assert!(status.is_ok(), "{status:?}");
}

/// Whether a process runs. A zombie does not.
pub fn is_running(pid: u32) -> bool {
    if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The name before the state is in brackets, and may itself have brackets.
        let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim());
        return !state.starts_with(['Z', 'X']);
    }
    // `ps` where there is no /proc; minimal Linux images have the latter only.
    !Path::new("/proc/self").exists() && {
        let output = Command::new("ps")
            .args(["-o", "stat=", "-p", &pid.to_string()])
            .output()
            .expect("ps is installed");
        let state = String::from_utf8_lossy(&output.stdout);
        !state.trim().is_empty() && !state.trim().starts_with('Z')
    }
}

/// The process ids of the nats-servers whose folder is under this one.
pub fn servers_in(folder: &Path) -> Vec<u32> {
    let folder = folder.canonicalize().unwrap();
    let folder = folder.to_str().unwrap();
    let is_server = |line: &str| {
        line.contains(folder) && line.contains("--ports_file_dir") && !line.contains("/bin/sh")
    };
    if Path::new("/proc/self").exists() {
        let pids = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| {
                let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
                let line = fs::read(entry.path().join("cmdline")).ok()?;
                is_server(&String::from_utf8_lossy(&line)).then_some(pid)
            });
        return pids.filter(|pid| is_running(*pid)).collect();
    }
    let output = Command::new("ps")
        .args(["-A", "-ww", "-o", "pid=,args="])
        .output()
        .expect("ps is installed");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| is_server(line))
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect()
}

/// Waits for the end of a process that is not the caller's child.
#[track_caller]
pub fn await_end(pid: u32, limit: Duration) {
    eventually_blocking(limit, &format!("process {pid} has ended"), || {
        (!is_running(pid)).then_some(())
    });
}
