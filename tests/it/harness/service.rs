//! The `headwater` binary as a child process.

use super::{
    api::{Api, Http, NatsApi},
    nats,
    poll::eventually_blocking,
};
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};
use tempfile::TempDir;

/// A first start loads the sample catalogue, and the machine may be busy.
const START: Duration = Duration::from_secs(120);
const END: Duration = Duration::from_secs(60);

/// `headwater` with these arguments and none of the caller's variables that it reads.
pub fn headwater(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let read = ["HEADWATER_", "OTEL_"];
        let name_is = |start: &&str| name.to_string_lossy().starts_with(start);
        if read.iter().any(name_is) {
            command.env_remove(name);
        }
    }
    // Tests settle orders by hand, but for those that are about processes.
    command
        .env("HEADWATER_ROLES", "command,projector,gateway")
        .env("HEADWATER_NO_PROCESSES", "true");
    command
}

/// Runs to the end, for commands that end by themselves.
pub fn run(command: &mut Command) -> Output {
    command.output().expect("the binary runs")
}

/// A running service. It is killed when dropped, which fails the test if anything in it has panicked.
pub struct Service {
    child: Child,
    folder: PathBuf,
    output: Arc<Mutex<Vec<String>>>,
    // Kept until the service has ended: fields are dropped after `drop`.
    _temp: TempDir,
}

/// The service that all tests of this run may share when they use ids of their own: `dev`, with the
/// sample catalogue.
pub fn shared() -> &'static Service {
    static SHARED: OnceLock<Service> = OnceLock::new();
    SHARED.get_or_init(|| Service::lasting(&[]))
}

/// The shared service over both surfaces.
pub async fn both() -> [Api; 2] {
    let service = tokio::task::spawn_blocking(shared).await.unwrap();
    [Api::Http(service.http()), Api::Nats(service.nats().await)]
}

impl Service {
    /// `headwater dev` on a data folder of its own, on free ports.
    pub fn dev(arguments: &[&str]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("data");
        Self::start(dev_command(&folder, arguments), folder, temp)
    }

    /// As [`Service::dev`], with the processes of the domain.
    pub fn dev_with_processes(arguments: &[&str]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("data");
        let mut command = dev_command(&folder, arguments);
        command.env_remove("HEADWATER_NO_PROCESSES");
        Self::start(command, folder, temp)
    }

    /// As [`Service::dev`], for a static, which is never dropped: it ends with the test process, and
    /// the next run removes its folder. Its process id is its guardian's: no signals.
    pub fn lasting(arguments: &[&str]) -> Self {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lasting-services");
        fs::create_dir_all(&parent).expect("the target folder is writable");
        for old in fs::read_dir(&parent).unwrap().flatten() {
            let name = old.file_name().to_string_lossy().into_owned();
            let owner = name.split('.').next().and_then(|pid| pid.parse().ok());
            if !owner.is_some_and(nats::is_running) {
                let _ = fs::remove_dir_all(old.path());
            }
        }
        let prefix = format!("{}.", std::process::id());
        let temp = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent);
        let temp = temp.unwrap();
        let folder = temp.path().join("data");
        Self::start(guarded(&dev_command(&folder, arguments)), folder, temp)
    }

    /// `headwater dev` on an existing data folder, which is kept.
    pub fn dev_in(folder: &Path, arguments: &[&str]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        Self::start(dev_command(folder, arguments), folder.to_owned(), temp)
    }

    /// `headwater serve` with every role, on a data folder of its own and a free port.
    pub fn serve(nats_url: &str, arguments: &[&str]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("data");
        let fixed = ["serve", "--http-addr", "127.0.0.1:0", "--nats", nats_url];
        let mut command = headwater(fixed);
        command.arg("--data-dir").arg(&folder).args(arguments);
        Self::start(command, folder, temp)
    }

    /// Starts any command that prints its URLs, and waits for them. Panics with its output when it
    /// ends before.
    pub fn start(command: Command, folder: PathBuf, temp: TempDir) -> Self {
        Self::start_until(command, folder, temp, "http://127.0.0.1:")
    }

    /// As [`Service::start`], for commands that print another text once they are ready.
    pub fn start_until(command: Command, folder: PathBuf, temp: TempDir, ready: &str) -> Self {
        let mut service = Self::spawn(command, folder, temp);
        eventually_blocking(START, "the service is ready", || {
            if let Some(status) = service.child.try_wait().unwrap() {
                panic!("the service ended ({status}):\n{}", service.transcript());
            }
            let output = service.output.lock().unwrap();
            output.iter().any(|line| line.contains(ready)).then_some(())
        });
        service
    }

    /// Starts any command and waits for nothing.
    pub fn spawn(mut command: Command, folder: PathBuf, temp: TempDir) -> Self {
        let stderr = File::create(temp.path().join("stderr")).unwrap();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let stdout = child.stdout.take().unwrap();
        let lines = Arc::clone(&output);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Self {
            child,
            folder,
            output,
            _temp: temp,
        }
    }

    /// Where its data is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// The lines of standard output so far.
    pub fn output(&self) -> Vec<String> {
        self.output.lock().unwrap().clone()
    }

    /// Waits until the service has printed this, or logged it. It may be ready before.
    pub fn tells(&self, text: &str) {
        eventually_blocking(END, &format!("the service tells {text:?}"), || {
            self.transcript().contains(text).then_some(())
        });
    }

    /// Standard output and error, for a message.
    pub fn transcript(&self) -> String {
        let error = std::fs::read_to_string(self._temp.path().join("stderr")).unwrap_or_default();
        format!("{}\n--- stderr\n{error}", self.output().join("\n"))
    }

    /// `http://127.0.0.1:<port>`.
    pub fn http_url(&self) -> String {
        eventually_blocking(END, "the service prints its HTTP URL", || {
            self.find_url("http://127.0.0.1:")
        })
    }

    /// `nats://127.0.0.1:<port>`.
    pub fn nats_url(&self) -> String {
        eventually_blocking(END, "the service prints its NATS URL", || {
            self.find_url("nats://127.0.0.1:")
        })
    }

    /// The first URL with this prefix, up to and with the port.
    fn find_url(&self, prefix: &str) -> Option<String> {
        let output = self.output.lock().unwrap();
        output.iter().find_map(|line| {
            let (_, rest) = line.split_once(prefix)?;
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            (!port.is_empty()).then(|| format!("{prefix}{port}"))
        })
    }

    /// A client for the runtime of the caller.
    pub fn http(&self) -> Http {
        Http::new(self.http_url())
    }

    /// A client for the runtime of the caller.
    pub async fn nats(&self) -> NatsApi {
        NatsApi::connect(&self.nats_url()).await
    }

    /// Sends a signal by its short name (`INT`, `TERM`, `KILL`, `STOP`, `CONT`).
    pub fn signal(&self, name: &str) {
        nats::signal(self.pid(), name);
    }

    /// Waits for the end; panics after a minute.
    pub fn wait(&mut self) -> ExitStatus {
        eventually_blocking(END, "the service ends", || self.child.try_wait().unwrap())
    }

    /// The process ids of the nats-servers that run on the data folder.
    pub fn nats_pids(&self) -> Vec<u32> {
        nats::servers_in(&self.folder)
    }
}

fn dev_command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = headwater(["dev"]);
    command.arg("--data-dir").arg(folder);
    command.arg("--nats-server").arg(nats::binary());
    if !arguments.contains(&"--http-addr") {
        command.args(["--http-addr", "127.0.0.1:0"]);
    }
    command.args(arguments);
    command
}

/// The same command under the guardian that the program has for its own nats-server: it is ended when
/// the pipe to the guardian breaks.
fn guarded(command: &Command) -> Command {
    let mut guardian = Command::new("/bin/sh");
    guardian.args(["-c", nats::GUARDIAN, "service-guardian", "30"]);
    guardian.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => guardian.env(name, value),
            None => guardian.env_remove(name),
        };
    }
    guardian.stdin(Stdio::piped());
    guardian
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let transcript = self.transcript();
        if std::thread::panicking() {
            eprintln!("--- the service's output\n{transcript}");
        } else {
            // A client that retries would not notice.
            let panicked = transcript.contains("panicked at");
            assert!(!panicked, "a task of the service panicked:\n{transcript}");
        }
    }
}
