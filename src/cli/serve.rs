//! `headwater serve`: one replica against a NATS that is there, until SIGTERM.

use super::{Failure, Program, signals};
use crate::{
    access::Access,
    config::{Role, ServeConfig},
    data_dir::DataDir,
    event_log::secret::{Secret, SecretError},
    http,
    platform::{NatsAddress, Patience, Platform, PlatformOptions, StartError},
    read_model::Credentials,
};
use std::{fs, io, path::Path, pin::pin, process::ExitCode, time::Duration};

pub(super) async fn run(program: &Program, config: ServeConfig) -> Result<ExitCode, Failure> {
    check_roles(&config)?;
    let named = Named::read(&config)?;
    // Held until the end: documents in the folder have one owner.
    let data = DataDir::open(&config.data_dir).map_err(Failure::configuration)?;
    let options = options(&config, named, &data)?;
    let exporter = super::export_traces(&config.sides.trace, &options.replica)?;
    let shown = (options.nats.shown(), options.http.scheme());
    let mut asked_to_stop = pin!(signals::asked_to_stop());
    let started = tokio::select! {
        started = Platform::start(program.domain.clone(), options) => Some(started.map_err(failure)?),
        asked = &mut asked_to_stop => {
            asked.map_err(Failure::operation)?;
            None
        }
    };
    let Some(platform) = started else {
        tracing::info!("asked to stop before it had started");
        if let Some(exporter) = exporter {
            exporter.stop().await;
        }
        return Ok(ExitCode::SUCCESS);
    };
    print_banner(program, &config, &data, &platform, shown);

    asked_to_stop.await.map_err(Failure::operation)?;
    drain(&platform, config.drain_delay()).await?;
    tracing::info!("draining");
    let stopped = tokio::time::timeout(config.grace(), platform.stop()).await;
    if let Some(exporter) = exporter {
        exporter.stop().await;
    }
    match stopped {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(_) => Err(Failure::operation(
            "what was in flight did not finish within the grace period",
        )),
    }
}

fn check_roles(config: &ServeConfig) -> Result<(), Failure> {
    let has = |role| config.roles.contains(&role);
    match has(Role::Gateway) && !has(Role::Projector) && config.surreal.is_none() {
        true => Err(Failure::configuration(
            "--roles: a gateway without the projector role reads documents that others keep; say where with --surreal",
        )),
        false => Ok(()),
    }
}

/// The keys, certificates and addresses that flags name, read before anything is begun.
struct Named {
    secret: Option<Secret>,
    access: Access,
    http: http::Options,
    nats: NatsAddress,
}

impl Named {
    fn read(config: &ServeConfig) -> Result<Self, Failure> {
        let sides = &config.sides;
        let secret = sides.command.secret().map_err(Failure::configuration)?;
        if config.roles.contains(&Role::Command) && secret.is_none() {
            tracing::warn!(
                "unique keys are hidden in the log under its own salt, which whoever reads the log can read: give every replica the same --secret-file"
            );
        }
        let access = sides.access(config.http_addr);
        let http = sides.gateway.http(config.http_addr);
        let nats = config.topology.log.nats.address();
        Ok(Self {
            secret,
            access: access.map_err(Failure::configuration)?,
            http: http.map_err(Failure::configuration)?,
            nats: nats.map_err(Failure::configuration)?,
        })
    }
}

/// The replica as the flags want it; its name is kept in the folder.
fn options(config: &ServeConfig, named: Named, data: &DataDir) -> Result<PlatformOptions, Failure> {
    let replica = replica_name(data.path()).map_err(|error| {
        Failure::configuration(format!("{}: {error}", config.data_dir.display()))
    })?;
    let store = config
        .surreal
        .clone()
        .unwrap_or_else(|| format!("surrealkv://{}?sync=1s", data.views().display()));
    let mut options = PlatformOptions::new(named.nats, store, replica);
    options.credentials = config
        .surreal_user
        .clone()
        .zip(config.surreal_password.clone())
        .map(|(username, password)| Credentials { username, password });
    options.access = named.access;
    options.roles = config.roles.iter().copied().collect();
    options.http = named.http;
    options.secret = named.secret;
    options.stream_replicas = config.topology.stream_replicas;
    options.inboxes = config.sides.inboxes();
    options.cache = config.sides.gateway.cache();
    options.list_cache = config.sides.gateway.list_cache();
    options.search_memory = config.sides.gateway.search_memory();
    options.list_index = config.sides.gateway.list_index();
    options.verify = config.sides.verify.options(data.refold());
    options.command = config.sides.command.options();
    options.server.api = config.topology.log.api();
    options.append = config.sides.command.append;
    options.server.monitor.clone_from(&config.nats_monitor);
    options.patience = Patience::Endless;
    Ok(options)
}

fn print_banner(
    program: &Program,
    config: &ServeConfig,
    data: &DataDir,
    platform: &Platform,
    (nats, scheme): (String, &str),
) {
    println!("{} {} runs", program.name, program.version);
    println!("  NATS   {nats}");
    if let Some(address) = platform.http_addr() {
        println!("  HTTP   {scheme}://{address}");
    }
    if let Some(address) = platform.admin_addr() {
        println!("  admin  {scheme}://{address}");
    }
    let keeps_documents = [Role::Projector, Role::Gateway];
    if keeps_documents.iter().any(|it| config.roles.contains(it)) {
        println!("  data   {}", data.path().display());
    }
    if let Some(append) = platform.append() {
        println!("  append {append}");
    }
    for difference in platform.topology_differences() {
        println!("  note   {difference}");
    }
}

/// Serves on while `/readyz` says that the replica leaves. A second signal ends that.
async fn drain(platform: &Platform, delay: Duration) -> Result<(), Failure> {
    if delay.is_zero() {
        return Ok(());
    }
    platform.drain();
    tracing::info!(
        delay_s = delay.as_secs(),
        "leaving; everything is still served"
    );
    match tokio::time::timeout(delay, signals::asked_to_stop()).await {
        Ok(asked) => asked.map_err(Failure::operation),
        Err(_) => Ok(()),
    }
}

fn failure(error: StartError) -> Failure {
    match error {
        StartError::Bind { .. } | StartError::Secret(SecretError::Another) => {
            Failure::configuration(error)
        }
        _ => Failure::connection(error),
    }
}

/// The replica's lasting name, made up on first use and kept in its folder.
fn replica_name(folder: &Path) -> io::Result<String> {
    let file = folder.join("replica");
    match fs::read_to_string(&file) {
        Ok(name) if !name.trim().is_empty() => Ok(name.trim().to_owned()),
        Ok(_) => fresh_name(&file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fresh_name(&file),
        Err(error) => Err(error),
    }
}

fn fresh_name(file: &Path) -> io::Result<String> {
    let random = uuid::Uuid::now_v7().simple().to_string();
    let name = format!("r{}", &random[20..]);
    fs::write(file, &name)?;
    Ok(name)
}
