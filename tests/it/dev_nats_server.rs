//! The nats-server child: it comes, it comes back, and it never outlives its parent.

use crate::harness::{
    nats::{Nats, await_end, is_running, signal},
    poll::{DEADLINE, eventually_blocking},
};
use headwater::{
    dev::nats_server::{NatsServer, NatsServerError, NatsServerOptions},
    event_log::topology::Durability,
};
use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

fn options(folder: &Path) -> NatsServerOptions {
    NatsServerOptions {
        binary: Some(crate::harness::nats::binary().to_owned()),
        ..NatsServerOptions::new(folder)
    }
}

fn pid(server: &NatsServer) -> u32 {
    server.state().borrow().pid.expect("the server runs")
}

#[tokio::test]
async fn a_started_server_answers_and_a_stopped_one_is_gone() {
    let temp = tempfile::tempdir().unwrap();
    let server = NatsServer::start(options(temp.path())).await.unwrap();
    let client = async_nats::connect(server.client_url()).await.unwrap();
    client.request("$JS.API.INFO", "".into()).await.unwrap();
    assert_eq!(server.durability(), Durability::Dev);
    let pid = pid(&server);
    assert!(is_running(pid));
    server.stop().await;
    assert!(!is_running(pid));
    let log = fs::read_to_string(temp.path().join("server.log")).unwrap();
    assert!(log.contains("Server Exiting"), "not a clean end:\n{log}");
}

#[tokio::test]
async fn a_killed_server_comes_back_on_the_same_port_with_its_streams() {
    let temp = tempfile::tempdir().unwrap();
    let server = NatsServer::start(options(temp.path())).await.unwrap();
    let client = async_nats::connect(server.client_url()).await.unwrap();
    let topology = headwater::event_log::topology::Topology::embedded();
    topology.apply(&client).await.unwrap();
    let (url, first) = (server.client_url(), pid(&server));

    let mut state = server.state();
    signal(first, "KILL");
    let back = state.wait_for(|state| state.restarts == 1);
    let second = tokio::time::timeout(DEADLINE, back)
        .await
        .expect("the server is restarted")
        .unwrap()
        .pid
        .unwrap();
    assert_ne!(first, second);
    assert_eq!(server.client_url(), url);
    let client = async_nats::connect(url).await.unwrap();
    assert_eq!(topology.verify(&client).await.unwrap(), []);
    server.stop().await;
    assert!(!is_running(second));
}

#[tokio::test]
async fn a_killed_guardian_leaves_no_second_server_on_the_store() {
    let temp = tempfile::tempdir().unwrap();
    let server = NatsServer::start(options(temp.path())).await.unwrap();
    let first = pid(&server);
    let guardian = guardian_of(first);
    let mut state = server.state();
    signal(guardian, "KILL");
    let back = state.wait_for(|state| state.restarts == 1);
    tokio::time::timeout(DEADLINE, back)
        .await
        .expect("the server is restarted")
        .unwrap();
    assert!(!is_running(first));
    server.stop().await;
}

fn guardian_of(pid: u32) -> u32 {
    let parent = Command::new("/bin/sh")
        .args([
            "-c",
            "ps -o ppid= -p $1 || cut -d' ' -f4 /proc/$1/stat",
            "ppid",
        ])
        .arg(pid.to_string())
        .output()
        .unwrap();
    let parent = String::from_utf8_lossy(&parent.stdout);
    parent.trim().parse().expect("the server has a parent")
}

#[tokio::test]
async fn dropping_a_server_stops_it() {
    let temp = tempfile::tempdir().unwrap();
    let server = NatsServer::start(options(temp.path())).await.unwrap();
    let pid = pid(&server);
    drop(server);
    // The runtime goes on, as in a program that fails between start and stop.
    tokio::task::spawn_blocking(move || await_end(pid, DEADLINE))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_given_port_is_used_and_a_taken_one_is_an_error_that_shows_the_log() {
    let other = Nats::start();
    let temp = tempfile::tempdir().unwrap();
    let taken = NatsServerOptions {
        port: Some(other.port()),
        ..options(temp.path())
    };
    let error = NatsServer::start(taken).await.unwrap_err();
    assert!(matches!(error, NatsServerError::Ended { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("address already in use"), "{message}");

    let port = other.port();
    drop(other);
    let free = NatsServerOptions {
        port: Some(port),
        ..options(temp.path())
    };
    let server = NatsServer::start(free).await.unwrap();
    assert_eq!(server.port(), port);
    server.stop().await;
}

#[tokio::test]
async fn single_durable_syncs_always() {
    let temp = tempfile::tempdir().unwrap();
    let durable = NatsServerOptions {
        durability: Durability::SingleDurable,
        ..options(temp.path())
    };
    let server = NatsServer::start(durable).await.unwrap();
    let config = fs::read_to_string(temp.path().join("server.conf")).unwrap();
    assert!(config.contains("sync_interval: always"), "{config}");
    assert!(
        server
            .durability()
            .to_string()
            .starts_with("single durable")
    );
    server.stop().await;
}

const HOLD_IN: &str = "TEST_HOLD_A_SERVER_IN";

/// Not a test by itself: the child process of the next one.
#[tokio::test]
#[ignore = "started by another test as a process of its own"]
async fn hold_a_server() {
    let Some(folder) = std::env::var_os(HOLD_IN) else {
        return;
    };
    let server = NatsServer::start(options(Path::new(&folder)))
        .await
        .unwrap();
    println!("\nserver-pid {}", pid(&server));
    std::future::pending::<()>().await;
}

#[test]
fn the_server_ends_when_its_parent_is_killed_and_the_next_one_waits_for_that() {
    let temp = tempfile::tempdir().unwrap();
    let hold = || {
        let mut parent = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture"])
            .arg("dev_nats_server::hold_a_server")
            .env(HOLD_IN, temp.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid: u32 = BufReader::new(parent.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("server-pid ")?.parse().ok())
            .expect("the child says the server's process id");
        (parent, pid)
    };
    let (mut parent, first) = hold();
    assert!(is_running(first));
    // Processes that stand still are woken when nobody of their session is there any more for their group:
    // this one is.
    let mut company = Command::new("/bin/sh")
        .args(["-c", "read -r _"])
        .stdin(Stdio::piped())
        .process_group(guardian_of(first).cast_signed())
        .spawn()
        .unwrap();
    // A server that does not listen to SIGTERM just now, so that its end takes a while.
    signal(first, "STOP");
    // A signal that comes before the server stands still would be heard first.
    eventually_blocking(DEADLINE, "the server stands still", || {
        stands_still(first).then_some(())
    });
    parent.kill().unwrap();
    parent.wait().unwrap();
    assert!(is_running(first));
    let resume = std::thread::spawn(move || {
        eventually_blocking(
            DEADLINE,
            "the guardian has asked the server to stop",
            || pending_sigterm(first).then_some(()),
        );
        signal(first, "CONT");
    });
    let (mut parent, second) = hold();
    resume.join().unwrap();
    assert!(!is_running(first), "two servers on one store");
    drop(company.stdin.take());
    company.wait().unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    await_end(second, Duration::from_secs(20));
}

/// Whether a process was stopped, where that is known: on Linux.
fn stands_still(pid: u32) -> bool {
    status(pid).is_none_or(|status| {
        let mut lines = status.lines();
        lines.any(|line| line.starts_with("State:\tT"))
    })
}

/// Whether a stopped process has a SIGTERM waiting, where that is known: on Linux.
fn pending_sigterm(pid: u32) -> bool {
    const SIGTERM: u64 = 1 << 14;
    status(pid).is_none_or(|status| {
        let mut masks = status
            .lines()
            .filter_map(|line| line.strip_prefix("ShdPnd:"));
        masks.any(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & SIGTERM != 0))
    })
}

fn status(pid: u32) -> Option<String> {
    let is_known = Path::new("/proc/self").exists();
    is_known.then(|| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default())
}
