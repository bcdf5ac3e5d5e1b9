//! The servers of one of the two things that are compared, and the operations on them.

use crate::{
    bench::{
        BenchError, LoadThreads,
        commands::{BODY, CommandsOptions, Operation, WARMING, by_nats, connect, keys},
        floor::own,
        http::{self, Connection},
        load::once_each,
        processes::{self, Process, Scratch},
    },
    event_log::topology::Durability,
};
use async_nats::Client;
use bytes::Bytes;
use clap::ValueEnum;
use std::{fmt::Write, net::SocketAddr, sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// The place of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gateway {
    Nowhere,
    Beside,
    Apart,
}

/// Servers of one way's own.
pub(super) struct System {
    scratch: Scratch,
    processes: Vec<Process>,
    pub clients: Arc<[Client]>,
    address: Option<SocketAddr>,
}

impl System {
    pub(super) async fn start(
        options: &CommandsOptions,
        threads: &LoadThreads,
        replicas: usize,
        gateway: Gateway,
    ) -> Result<Self, BenchError> {
        let durability = match options.durable {
            true => Durability::SingleDurable,
            false => Durability::Dev,
        };
        let scratch = Scratch::start(durability, options.nats_server.clone()).await?;
        let nats = scratch.nats();
        let clients = connect(&nats, options.connections, threads).await?;
        let mut system = Self {
            scratch,
            processes: Vec::new(),
            clients,
            address: None,
        };
        let max_actors = options.max_actors().to_string();
        let append = options.append().to_possible_value();
        let append = append.as_ref().map_or("auto", |value| value.get_name());
        let more = [
            "--max-actors",
            &max_actors,
            "--idle-seconds",
            "3600",
            "--append",
            append,
        ];
        for number in 0..replicas {
            let folder = system.scratch.folder().join(format!("replica-{number}"));
            let (roles, store): (_, &[&str]) = match gateway {
                Gateway::Beside => ("command,gateway", &["--surreal", "mem://"]),
                Gateway::Nowhere | Gateway::Apart => ("command", &[]),
            };
            let more = [&more[..], store].concat();
            let mut process = processes::replica(roles, &nats, &folder, &more).await?;
            if gateway == Gateway::Beside {
                let line = process.line_with("http://").await?;
                system.address = Some(http::address_in(&line)?);
            }
            system.processes.push(process);
        }
        if gateway == Gateway::Apart {
            let folder = system.scratch.folder().join("gateway");
            let more = ["--surreal", "mem://"];
            let mut process = processes::replica("gateway", &nats, &folder, &more).await?;
            let line = process.line_with("http://").await?;
            system.address = Some(http::address_in(&line)?);
            system.processes.push(process);
        }
        let count = options.aggregates;
        let warm = system.singles(count, count);
        let warm = move |number| warm(number, 0);
        once_each(threads.handle(), WARMING.min(count), count, warm).await?;
        Ok(system)
    }

    pub(super) fn address(&self) -> Result<SocketAddr, BenchError> {
        let address = self.address;
        address.ok_or_else(|| BenchError::new("there is no gateway"))
    }

    pub(super) fn singles(&self, count: usize, workers: usize) -> Operation {
        let (key, clients) = (keys(), self.clients.clone());
        Arc::new(move |worker, done| {
            let number = own(worker, workers, count, done);
            let client = clients[number % clients.len()].clone();
            let subject = format!("cmd.stock.b_{number}.receive");
            Box::pin(by_nats(client, subject, Bytes::from_static(BODY), key()))
        })
    }

    /// Lists of so many commands, each to as many aggregates, as far as there are.
    pub(super) fn lists(&self, count: usize, workers: usize, size: usize) -> Operation {
        let (key, clients) = (keys(), self.clients.clone());
        let fields = String::from_utf8_lossy(BODY).into_owned();
        Arc::new(move |worker, done| {
            let client = clients[worker % clients.len()].clone();
            let first = worker * count / workers + done as usize * size;
            let mut list = String::with_capacity(size * 128);
            for number in first..first + size {
                let comma = if number == first { '[' } else { ',' };
                let (number, key) = (number % count, key());
                let _ = write!(
                    list,
                    r#"{comma}{{"id":"b_{number}","command":"receive","key":"{key}","fields":{fields}}}"#
                );
            }
            list.push(']');
            Box::pin(async move {
                let reply = client.request("cmds.stock", list.into()).await;
                let reply = reply.map_err(BenchError::new)?;
                let text = String::from_utf8_lossy(&reply.payload);
                match text.contains(r#""status":"#) {
                    true => Err(BenchError::new(format!("a command was refused: {text}"))),
                    false => Ok(()),
                }
            })
        })
    }

    /// Over HTTP, each worker by a connection of its own.
    pub(super) async fn posts(
        &self,
        address: SocketAddr,
        count: usize,
        workers: usize,
    ) -> Result<Operation, BenchError> {
        let mut connections = Vec::new();
        for _ in 0..workers {
            connections.push(Arc::new(Mutex::new(Connection::open(address).await?)));
        }
        let (key, body) = (keys(), String::from_utf8_lossy(BODY).into_owned());
        Ok(Arc::new(move |worker, done| {
            let connection = connections[worker].clone();
            let number = own(worker, workers, count, done);
            let (key, length) = (key(), body.len());
            let request = format!(
                "POST /commands/stock/b_{number}/receive HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
                 Idempotency-Key: {key}\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            Box::pin(async move {
                connection.lock().await.ask(request.as_bytes()).await?;
                Ok(())
            })
        }))
    }

    /// The processor time of the nats-server and of the replicas, where the system tells.
    pub(super) fn cpu(&self) -> Option<[Duration; 2]> {
        let nats = self.scratch.nats_cpu_time()?;
        let replicas = self.processes.iter().map(Process::cpu_time);
        Some([nats, replicas.sum::<Option<Duration>>()?])
    }

    pub(super) async fn stop(self) {
        for process in self.processes {
            process.kill().await;
        }
        self.scratch.stop().await;
    }
}
