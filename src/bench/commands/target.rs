//! The aggregates that a bench gives commands to: of a replica, or within this process.

use super::{BODY, CommandsOptions, IDEMPOTENCY_KEY, Operation, by_nats_with, keys};
use crate::{
    bench::{
        BenchError,
        processes::{self, Process, Scratch},
        report::cores,
    },
    command::{
        client::CommandClient,
        request::{CommandHeaders, CommandRequest},
    },
    config::Role,
    event_log::subject::Id,
    platform::{Domain, NatsAddress, Platform, PlatformOptions},
};
use async_nats::{Client, HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use clap::{ValueEnum, builder::PossibleValue};
use std::{sync::Arc, time::Duration};

const AUTHORIZATION: HeaderName = HeaderName::from_static("Authorization");
/// A header with as long a name that nobody reads.
const UNREAD: HeaderName = HeaderName::from_static("Bench-Padding");

/// The aggregates that commands are given to.
pub(super) enum Target {
    /// A replica that answers on NATS, ours to stop if we started it.
    /// Commands are given with the token, where there is one.
    Nats(Option<Box<Process>>, Arc<[Client]>, Option<HeaderValue>),
    /// A replica within this process.
    InProcess(Box<Platform>),
}

impl Target {
    pub(super) async fn start(
        options: &CommandsOptions,
        nats: &NatsAddress,
        scratch: Option<&Scratch>,
        clients: &Arc<[Client]>,
    ) -> Result<Self, BenchError> {
        if options.in_process {
            let mut platform = PlatformOptions::new(nats.clone(), "mem://", "bench");
            platform.roles = [Role::Command].into();
            platform.append = options.append();
            platform.command.max_actors = options.max_actors();
            platform.command.idle = Duration::from_secs(3600);
            // As for a program whose commands come from within: none crosses the connection first,
            // so that every core has a thread to decide on.
            platform.command.threads = cores();
            let platform = Platform::start(Domain::mart(), platform).await;
            return Ok(Self::InProcess(Box::new(
                platform.map_err(BenchError::new)?,
            )));
        }
        let process = match scratch {
            None => None,
            Some(scratch) => {
                let folder = scratch.folder().join("replica");
                let max_actors = options.max_actors().to_string();
                let append = options.append().to_possible_value();
                let append = append.as_ref().map_or("auto", PossibleValue::get_name);
                let more = [
                    ["--max-actors", &max_actors],
                    ["--idle-seconds", "3600"],
                    ["--append", append],
                ];
                let more = more.as_flattened();
                let replica = processes::replica("command", nats, &folder, more);
                Some(Box::new(replica.await?))
            }
        };
        let token = options.token.as_ref().map(|token| {
            let shown = format!("Bearer {token}").parse::<HeaderValue>();
            shown.map_err(BenchError::new)
        });
        Ok(Self::Nats(process, clients.clone(), token.transpose()?))
    }

    /// The headers of a command, with a key as long as those that are used.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(IDEMPOTENCY_KEY, keys()().as_str());
        headers
    }

    /// Gives a command to the aggregate of this number; the second argument is not looked at.
    pub(super) fn operation(&self) -> Operation {
        match self {
            Self::Nats(_, clients, token) => {
                let more = token.clone().map(|token| (AUTHORIZATION, token));
                over_nats(clients.clone(), more)
            }
            Self::InProcess(platform) => {
                let key = keys();
                let commands = platform.commands().clone();
                Arc::new(move |number, _| Box::pin(within(commands.clone(), number, key())))
            }
        }
    }

    /// The targets beside one that is given commands with a token: the same without one, and with as many bytes that nobody reads.
    pub(super) fn with_other_headers(&self) -> Vec<(&'static str, Operation)> {
        let Self::Nats(_, clients, Some(token)) = self else {
            return Vec::new();
        };
        let unread = Some((UNREAD, token.clone()));
        vec![
            ("without_token", over_nats(clients.clone(), None)),
            ("unread_header", over_nats(clients.clone(), unread)),
        ]
    }

    pub(super) fn cpu_time(&self) -> Option<Duration> {
        match self {
            Self::Nats(process, ..) => process.as_ref()?.cpu_time(),
            Self::InProcess(_) => None,
        }
    }

    pub(super) fn resident_bytes(&self) -> Option<u64> {
        match self {
            Self::Nats(process, ..) => process.as_ref()?.resident_bytes(),
            Self::InProcess(_) => None,
        }
    }

    pub(super) async fn stop(self) {
        match self {
            Self::Nats(Some(process), ..) => process.kill().await,
            Self::Nats(None, ..) => {}
            Self::InProcess(platform) => platform.stop().await,
        }
    }
}

/// Commands over NATS, with one more header.
fn over_nats(clients: Arc<[Client]>, more: Option<(HeaderName, HeaderValue)>) -> Operation {
    let key = keys();
    Arc::new(move |number, _| {
        let client = clients[number % clients.len()].clone();
        let subject = format!("cmd.stock.b_{number}.receive");
        let (body, more) = (Bytes::from_static(BODY), more.clone());
        Box::pin(by_nats_with(client, subject, body, key(), more))
    })
}

async fn within(commands: CommandClient, number: usize, key: String) -> Result<(), BenchError> {
    let request = CommandRequest {
        aggregate: "stock".into(),
        id: Id::new(format!("b_{number}")).map_err(BenchError::new)?,
        command: "receive".into(),
        body: Bytes::from_static(BODY),
        headers: CommandHeaders {
            idempotency_key: Some(key.into()),
            ..CommandHeaders::default()
        },
    };
    commands.execute(request).await.map_err(BenchError::new)?;
    Ok(())
}
