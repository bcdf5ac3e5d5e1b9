//! A SurrealDB server, for documents that replicas share.

use super::{backup::copy_folder, nats::signal, poll::eventually_blocking};
use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

const START: Duration = Duration::from_secs(60);

/// A server on a free port, with the user root/root. It is killed when dropped.
pub struct Surreal {
    child: Child,
    binary: PathBuf,
    port: u16,
    folder: tempfile::TempDir,
}

/// The server's binary: `HEADWATER_TEST_SURREALDB`, or where `make surrealdb-server` leaves it.
fn binary() -> PathBuf {
    let named = std::env::var_os("HEADWATER_TEST_SURREALDB").map(PathBuf::from);
    let binary = named.unwrap_or_else(|| {
        let profile = Path::new(env!("CARGO_BIN_EXE_headwater")).parent();
        let target = profile.and_then(Path::parent).unwrap();
        target.join("server/surrealdb-server")
    });
    assert!(
        binary.exists(),
        "{} is not there: make surrealdb-server",
        binary.display()
    );
    binary
}

impl Surreal {
    /// Starts a server with its data on disk.
    pub fn start() -> Self {
        let binary = binary();
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let child = spawn(&binary, port, folder.path());
        let server = Self {
            child,
            binary,
            port,
            folder,
        };
        server.await_start();
        server
    }

    fn await_start(&self) {
        eventually_blocking(START, "the SurrealDB server listens", || {
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
    }

    /// `ws://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn pause(&self) {
        signal(self.child.id(), "STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        signal(self.child.id(), "CONT");
    }

    /// SIGKILL; its data stays.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on its data.
    pub fn restart(&mut self) {
        self.child = spawn(&self.binary, self.port, self.folder.path());
        self.await_start();
    }

    /// Copies its data. It must not run.
    pub fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(&self.folder.path().join("data"), copy.path());
        copy
    }

    /// Puts a copy in the place of its data. It must not run.
    pub fn put_back(&self, copy: &tempfile::TempDir) {
        self.wipe();
        copy_folder(copy.path(), &self.folder.path().join("data"));
    }

    /// Removes its data. It must not run.
    pub fn wipe(&self) {
        fs::remove_dir_all(self.folder.path().join("data")).unwrap();
    }

    /// Runs statements as root; panics when they fail.
    pub async fn run(&self, sql: &str) {
        let response = reqwest::Client::new()
            .post(format!("http://127.0.0.1:{}/sql", self.port))
            .basic_auth("root", Some("root"))
            .header("Accept", "application/json")
            .body(sql.to_owned())
            .send()
            .await
            .unwrap();
        let status = response.status();
        let body = response.text().await.unwrap();
        assert!(status.is_success() && !body.contains("\"ERR\""), "{body}");
    }
}

fn spawn(binary: &Path, port: u16, folder: &Path) -> Child {
    Command::new(binary)
        .args([
            "start",
            "--user",
            "root",
            "--pass",
            "root",
            "--no-banner",
            "--log",
            "warn",
        ])
        .arg("--bind")
        .arg(format!("127.0.0.1:{port}"))
        .arg(format!("surrealkv://{}", folder.join("data").display()))
        .env("SURREAL_ONLINE_VERSION_CHECK", "false")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Surreal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
